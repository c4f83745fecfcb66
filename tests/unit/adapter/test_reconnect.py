"""Coming back to a daemon: how soon, and for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from roamroute.adapter.reconnect import reconnect
from roamroute.errors import DaemonGone, DaemonRefused, MalformedInput
from roamroute.testing.loop import run_virtually


def instants_of(converse: Callable[[], Awaitable[None]], for_s: float) -> tuple[list[float], list[str]]:
    """When the conversations began, and why they ended."""
    begun: list[float] = []
    ends: list[str] = []

    async def scene() -> None:
        start = asyncio.get_running_loop().time()

        async def noted() -> None:
            begun.append(round(asyncio.get_running_loop().time() - start, 2))
            await converse()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(for_s):
                await reconnect(noted, ends.append)

    run_virtually(scene())
    return begun, ends


@pytest.mark.parametrize("error", [DaemonGone("gone"), DaemonRefused("no"), MalformedInput("what?")])
def test_pauses_double_up_to_five_seconds(error: Exception) -> None:
    async def converse() -> None:
        raise error

    begun, ends = instants_of(converse, 20)
    assert begun == [0.0, 0.2, 0.6, 1.4, 3.0, 6.2, 11.2, 16.2]
    assert ends == [str(error)] * 8


def test_after_a_long_conversation_it_is_back_at_once() -> None:
    lengths = iter([0.0, 0.0, 0.0, 60.0, 0.0])

    async def converse() -> None:
        await asyncio.sleep(next(lengths))
        raise DaemonGone("gone")

    begun, _ = instants_of(converse, 62)
    assert begun[:5] == [0.0, 0.2, 0.6, 1.4, 61.6]


def test_a_conversation_that_just_ends_is_begun_again() -> None:
    async def converse() -> None:
        return

    begun, ends = instants_of(converse, 0.5)
    assert begun == [0.0, 0.2]
    assert all(ends)


def test_a_mistake_of_ours_is_not_taken_for_a_lost_daemon() -> None:
    async def converse() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        run_virtually(_once(converse))


async def _once(converse: Callable[[], Awaitable[None]]) -> None:
    await reconnect(converse, lambda _why: None)
