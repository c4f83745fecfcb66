"""Questions to BIRD, by whichever way it can be reached; opened by the first question, and again after any error."""

from __future__ import annotations

import asyncio
from typing import Protocol

from roamroute.values import Seconds
from roamroute_bird import answers
from roamroute_bird.answers import Status
from roamroute_bird.birdc import Birdc
from roamroute_bird.connection import connect
from roamroute_bird.protocol import ACCESS_DENIED, NO_PROTOCOLS_MATCH, NOT_FOUND, STOPPED, BirdRefused, Reply
from roamroute_bird.settings import Settings

ANSWER_LIMIT_S: Seconds = 5.0
"""A BIRD under load answers within 0.1 s; one that is stopped never."""
TRIES = 10
PAUSE_S: Seconds = 0.02
"""Before a question is asked again that a reconfiguration has stopped; one takes a few ms."""
RESTRICTED = "the access is read-only: without birdc -r, and on a socket that is not restricted"


class Connection(Protocol):
    """A way to BIRD that is open."""

    async def ask(self, command: str, limit_s: Seconds) -> Reply:
        """Raises: DaemonGone, MalformedInput; then it is of no more use."""

    async def close(self) -> None: ...


class Client:
    """One connection, kept open. Questions are asked one after the other."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    async def ask(self, command: str, limit_s: Seconds = ANSWER_LIMIT_S) -> Reply:
        """BIRD's reply; one that says that there is no such route is a reply.

        Raises: BirdRefused, DaemonGone, MalformedInput.
        """
        reply = await self._ask_once(command, limit_s)
        for _ in range(TRIES - 1):
            if reply.last.code != STOPPED:
                break
            await asyncio.sleep(PAUSE_S)
            reply = await self._ask_once(command, limit_s)
        refusal = reply.refusal
        if refusal is not None and refusal.code not in (NOT_FOUND, NO_PROTOCOLS_MATCH):
            raise BirdRefused(command, refusal, RESTRICTED if refusal.code == ACCESS_DENIED else "")
        return reply

    async def _ask_once(self, command: str, limit_s: Seconds) -> Reply:
        async with self._turn:
            try:
                if self._connection is None:
                    self._connection = await self._open()
                return await self._connection.ask(command, limit_s)
            except BaseException:
                await self._close()  # what comes later would be taken for the answer to the next question
                raise

    async def status(self) -> Status:
        """Raises as `ask`."""
        return answers.status_of(await self.ask(answers.STATUS))

    async def protocols(self, *, with_channels: bool = True) -> tuple[answers.Protocol, ...]:
        """All protocols. Raises as `ask`."""
        return answers.protocols_of(await self.ask(answers.PROTOCOLS_ALL if with_channels else answers.PROTOCOLS))

    async def close(self) -> None:
        """The next question opens a new connection."""
        async with self._turn:
            await self._close()

    async def _open(self) -> Connection:
        if self._settings.command:
            return Birdc(self._settings.command)
        return await connect(self._settings.socket)

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
