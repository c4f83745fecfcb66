"""The contract, kept by the babeld adapter whatever babeld does: absent, mute, talking nonsense, hanging up.

That routes really are exported is for the tests with the real babeld.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from roamroute_babeld import SPEC

from roamroute.export import ExporterSpec
from roamroute.testing.daemon_contract import AbsenceContract
from roamroute.testing.exporter_contract import ExporterContract, Rig

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Like babeld towards its fifth client: accepted, and never spoken to."""
    await reader.read()


async def hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Like babeld that is going down."""


async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Like another program on that socket."""
    writer.write(b"\xff\xfe HTTP/1.1 400\r\n\r\n" + b"x" * 100_000)
    await writer.drain()
    await reader.read()


async def stop_in_the_dump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Greets, answers a little, and falls silent in the middle of a line."""
    writer.write(b"BABEL 1.0\nversion babeld-1.13.1\nhost ap\nmy-id 02:00:5e:ff:fe:44:00:01\nok\n")
    await reader.readline()
    writer.write(b"add interface e0 up true ipv6 fe80::1\nadd xroute fd44:0:0:1::a/12")
    await writer.drain()
    await reader.read()


class TestWithoutBabeld(AbsenceContract):
    spec: ClassVar[ExporterSpec] = SPEC

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        yield Rig(table={"socket": "/nonexistent/babeld.sock", "command": "/nonexistent/babeld"})


@pytest.mark.parametrize("behaviour", [mute, hang_up, talk_nonsense, stop_in_the_dump])
class TestWithABadBabeld(ExporterContract):
    spec: ClassVar[ExporterSpec] = SPEC

    @pytest.fixture(autouse=True)
    def scene(self, behaviour: Behaviour, tmp_path: Path) -> None:
        self.behaviour = behaviour
        self.socket = str(tmp_path / "babeld.sock")

    behaviour: Behaviour
    socket: str

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        served: set[asyncio.Task[None] | None] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.add(asyncio.current_task())
            try:
                with contextlib.suppress(OSError):
                    await self.behaviour(reader, writer)
            finally:
                writer.transport.abort()

        server = await asyncio.start_unix_server(serve, self.socket)
        try:
            yield Rig(table={"socket": self.socket})
        finally:
            await asyncio.sleep(0.01)  # what has been accepted is to be served before it is ended
            server.close()
            tasks = [task for task in served if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
