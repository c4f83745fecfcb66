"""One piece of work at a time, and what was asked for meanwhile in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from roamroute.adapter.upkeep import Upkeep
from roamroute.errors import DaemonGone, DaemonRefused, MalformedInput
from roamroute.testing.loop import run_virtually


class Daemon:
    """Takes a second to read a file; `file` is what is wanted."""

    def __init__(self) -> None:
        self.file = ""
        self.read: list[str] = []
        self.error: Exception | None = None

    async def configure(self) -> None:
        wanted = self.file
        await asyncio.sleep(1)
        if self.error is not None:
            raise self.error
        self.read.append(wanted)


def play(scene: Callable[[Upkeep, Daemon], Awaitable[None]]) -> Daemon:
    daemon = Daemon()

    async def run() -> None:
        upkeep = Upkeep(daemon.configure)
        try:
            await scene(upkeep, daemon)
        finally:
            await upkeep.close()

    run_virtually(run())
    return daemon


def test_a_burst_is_two_pieces_of_work() -> None:
    async def scene(upkeep: Upkeep, daemon: Daemon) -> None:
        for name in "abcdefgh":
            daemon.file = name
            upkeep.again()
            await asyncio.sleep(0.05)
        assert upkeep.is_busy
        assert not upkeep.is_settled
        await upkeep.settled(10)
        assert not upkeep.is_busy
        assert upkeep.is_settled

    assert play(scene).read == ["a", "h"]


def test_settled_waits_for_what_was_asked_for_before_and_no_more() -> None:
    async def scene(upkeep: Upkeep, daemon: Daemon) -> None:
        upkeep.again()
        waiting = asyncio.create_task(upkeep.settled(10))
        await asyncio.sleep(0.5)
        upkeep.again()
        await waiting
        assert len(daemon.read) == 1
        await upkeep.settled(10)

    assert len(play(scene).read) == 2


def test_the_work_goes_on_when_nobody_waits_any_more() -> None:
    async def scene(upkeep: Upkeep, daemon: Daemon) -> None:
        upkeep.again()
        await upkeep.settled(0.1)
        assert not upkeep.is_settled
        waiting = asyncio.create_task(upkeep.settled(10))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.sleep(1)
        assert upkeep.is_settled

    assert len(play(scene).read) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DaemonRefused("no"), DaemonRefused),
        (DaemonGone("gone"), DaemonGone),
        (MalformedInput("what?"), DaemonGone),
    ],
)
def test_a_failure_is_told_and_ends_with_the_next_success(error: Exception, told: type[Exception]) -> None:
    async def scene(upkeep: Upkeep, daemon: Daemon) -> None:
        daemon.error = error
        upkeep.again()
        with pytest.raises(told, match=str(error).replace("?", ".")):
            await upkeep.settled(10)
        assert isinstance(upkeep.failure, told)
        with pytest.raises(told):
            await upkeep.settled(10)  # nothing is tried again by itself
        daemon.error = None
        upkeep.again()
        await upkeep.settled(10)
        assert upkeep.failure is None

    assert len(play(scene).read) == 1


def test_the_end_ends_the_work_where_it_stands() -> None:
    async def scene(upkeep: Upkeep, daemon: Daemon) -> None:
        upkeep.again()
        await asyncio.sleep(0.5)
        await upkeep.close()
        await upkeep.close()
        await asyncio.sleep(5)

    assert play(scene).read == []


def test_a_mistake_of_ours_is_loud() -> None:
    async def scene(upkeep: Upkeep, daemon: Daemon) -> None:
        daemon.error = KeyError("a bug")
        upkeep.again()
        with pytest.raises(KeyError):
            await upkeep.settled(10)
        with pytest.raises(KeyError):
            upkeep.again()

    play(scene)
