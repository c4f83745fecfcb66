"""One control socket of hostapd: requests, replies and events, on asyncio.

Our end has an abstract address that the kernel chooses (autobind), so there is no file that a crash leaves behind and
that hostapd, should it have dropped its privileges, may not write to. It has to be in hostapd's network namespace.

hostapd 2.10 sends events with a blocking sendmsg: whoever attaches and does not read stops hostapd. Therefore the
reader here only sorts, and does so at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from roamroute.errors import DaemonGone, MalformedInput
from roamroute.hostapd.protocol import DATAGRAM_BYTES_MAXIMUM, HostapdEvent, Reply, read_datagram
from roamroute.values import Seconds

REPLY_LIMIT_S: Seconds = 2.0
"""hostapd answers in 0.1 ms; with SAE or 802.1X under way on a small machine it may compute for some 100 ms."""
DATAGRAMS_PER_WAKEUP = 64


class ControlConnection:
    """Talks to one BSS. `take` gets every event as it comes, in order, from the loop's thread, and None at the end.

    `reason` says why it ended.
    """

    def __init__(
        self, path: Path, take: Callable[[HostapdEvent | None], None], refuse: Callable[[str], None] = lambda _: None
    ) -> None:
        """Connect. `refuse` is told of datagrams that do not parse. Raises: DaemonGone when nobody listens there."""
        self.reason = ""
        self._path, self._take, self._refuse = path, take, refuse
        self._reply: asyncio.Future[str] | None = None
        self._turn = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind("")
            self._identity = _identity(path)
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise DaemonGone(f"connecting to hostapd at {path}: {error.strerror or error}") from error
        self._loop.add_reader(self._socket.fileno(), self._read)

    async def request(self, command: str) -> str:
        """Send a request and wait for its reply. Requests queue; one is out at a time.

        Raises: DaemonGone when hostapd is not there or does not answer in time. The connection is closed then, because
        a late reply would be taken for the next one.
        """
        async with self._turn:
            self._reply = self._loop.create_future()
            try:
                self._socket.send(command.encode("ascii"))
                async with asyncio.timeout(REPLY_LIMIT_S):
                    return await self._reply
            except TimeoutError:
                self.close(f"hostapd at {self._path} does not answer {command!r}")
                raise DaemonGone(self.reason) from None
            except OSError as error:
                self.close(f"sending {command!r} to {self._path}: {error.strerror or error}")
                raise DaemonGone(self.reason) from error
            finally:
                self._reply = None

    def is_alive(self) -> bool:
        """Is the socket that we are connected to still the one at the path, with somebody who holds it? 10 µs."""
        if self._socket.fileno() < 0 or _identity(self._path) != self._identity:
            return False
        try:
            self._socket.connect(str(self._path))
        except OSError:
            return False
        return True

    def close(self, reason: str = "closed") -> None:
        """Let go of the socket; idempotent. Whoever waits for a reply gets DaemonGone."""
        if self._socket.fileno() < 0:
            return
        self.reason = reason
        self._loop.remove_reader(self._socket.fileno())
        with contextlib.suppress(OSError):
            self._socket.send(b"DETACH")
        self._socket.close()
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(OSError(reason))
        self._take(None)

    def _read(self) -> None:
        for _ in range(DATAGRAMS_PER_WAKEUP):
            try:
                datagram = self._socket.recv(DATAGRAM_BYTES_MAXIMUM + 1)
            except OSError:  # nothing more (EAGAIN), or hostapd went away, which `is_alive` finds out
                return
            try:
                message = read_datagram(datagram)
            except MalformedInput as error:
                self._refuse(str(error))
                continue
            if not isinstance(message, Reply):
                self._take(message)
            elif self._reply is not None and not self._reply.done():
                self._reply.set_result(message.text)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Tells the socket at the path from its successor; the time too, because inode numbers are used again."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns
