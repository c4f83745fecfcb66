"""Daemons at a UNIX socket that do not behave, played in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Takes the connection, and says nothing: stopped, or busy with others."""
    await reader.read()


async def hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Is going down."""


async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Is another program."""
    writer.write(b"\xff\xfe HTTP/1.1 400\r\n\r\n" + b"x" * 100_000)
    await writer.drain()
    await reader.read()


@asynccontextmanager
async def serving(socket: str | Path, behaviour: Behaviour) -> AsyncIterator[None]:
    """Let a daemon behave so towards everybody who connects."""
    served: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        try:
            with contextlib.suppress(OSError):
                await behaviour(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_unix_server(serve, socket)
    try:
        yield
    finally:
        await asyncio.sleep(0.01)  # what has been accepted is to be served before it is ended
        server.close()
        tasks = [task for task in served if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
