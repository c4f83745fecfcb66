"""The stream to BIRD's control socket. The only module that opens one."""

from __future__ import annotations

import asyncio
import os
import time

from roamroute.errors import DaemonGone, MalformedInput
from roamroute.values import Seconds
from roamroute_bird.protocol import WELCOME, Reply, ReplyReader

CONNECT_LIMIT_S: Seconds = 3.0
"""BIRD greets at once; one that hangs leaves us in its listen queue."""
_READ_BYTES = 65536


class SocketConnection:
    """An open stream, greeted by BIRD. One question at a time. After an error only `close` is left."""

    def __init__(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        self._replies = ReplyReader()

    async def ask(self, command: str, limit_s: Seconds) -> Reply:
        """Send a command and collect its reply.

        Raises: DaemonGone, MalformedInput.
        """
        self._writer.write(command.encode() + b"\n")
        return await self.reply(f'to "{command}"', limit_s)

    async def reply(self, what: str, limit_s: Seconds) -> Reply:
        """The next reply. `what` it is, for people. Raises as `ask`."""
        until = time.monotonic() + limit_s
        while True:
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    data = await self._reader.read(_READ_BYTES)
            except TimeoutError:
                raise DaemonGone(f"BIRD at {self._path} did not answer {what} within {limit_s:g} s") from None
            except OSError as error:
                raise DaemonGone(f"BIRD at {self._path} went away: {error.strerror or error}") from None
            if not data:
                raise DaemonGone(f"BIRD at {self._path} closed the connection")
            replies = self._replies.feed(data)
            if len(replies) > 1:
                raise MalformedInput(f"BIRD at {self._path} answered {len(replies)} times {what}")
            if replies:
                return replies[0]
            await asyncio.sleep(0)  # a long reply comes in many pieces that are all there: others have their turn too

    async def close(self) -> None:
        """Whatever has not been sent yet is not sent any more."""
        self._writer.transport.abort()
        await asyncio.sleep(0)


async def connect(path: str) -> SocketConnection:
    """Open the stream and wait for BIRD's greeting.

    Raises: DaemonGone with the reason and what to do; MalformedInput when something else listens there.
    """
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S):
            reader, writer = await asyncio.open_unix_connection(path)
    except TimeoutError:
        raise DaemonGone(f"cannot reach BIRD at {path}: no connection within {CONNECT_LIMIT_S:g} s") from None
    except OSError as error:
        raise DaemonGone(f"cannot reach BIRD at {path}: {_reason(error)}") from None
    connection = SocketConnection(path, reader, writer)
    try:
        greeting = await connection.reply("the connection", CONNECT_LIMIT_S)
        if greeting.last.code != WELCOME:
            raise MalformedInput(f"not BIRD at {path}: it greets with {greeting.last.text[:80]!r}")
    except BaseException:
        await connection.close()
        raise
    return connection


def _reason(error: OSError) -> str:
    text = os.strerror(error.errno) if error.errno else str(error)
    match error:
        case FileNotFoundError():
            return f"{text} (is BIRD running? exporters.bird.socket must be the path that birdc -s takes)"
        case ConnectionRefusedError():
            return f"{text} (nothing listens there any more: start BIRD)"
        case PermissionError():
            return f"{text} (its owner and group may: run roamroute as root or in the group of the socket)"
        case _:
            return text
