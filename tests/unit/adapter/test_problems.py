"""Problems are told when they come, once, and the shell hears of every change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from roamroute.adapter.problems import watch
from roamroute.export import ExporterContext, KernelNumbers, Problem
from roamroute.testing.loop import run_virtually


def told(*found: tuple[Problem, ...]) -> tuple[list[str], int]:
    """What the log and the shell hear when these are the problems, second after second."""
    lines: list[str] = []
    changes: list[None] = []
    context = ExporterContext(
        ("wlan0",),
        (),
        KernelNumbers(),
        lambda _event: None,
        lambda level, line: lines.append(f"{level} {line}"),
        lambda: changes.append(None),
    )
    every_second: Iterator[tuple[Problem, ...]] = iter(found)

    async def scene() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(len(found) + 0.5):
                await watch("mine", context, lambda: next(every_second))

    run_virtually(scene())
    return lines, len(changes)


def test_nothing_is_nothing_to_tell() -> None:
    assert told((), (), ()) == ([], 0)


def test_a_problem_is_told_once_with_its_remedy() -> None:
    denied = Problem("denied", "allow it", 1)
    assert told((), (denied,), (denied,)) == (['warning exporter mine: denied remedy="allow it"'], 1)


def test_a_count_that_changes_is_told_to_the_shell_only() -> None:
    lines, changes = told((Problem("denied", "allow it", 1),), (Problem("denied", "allow it", 2),), ())
    assert (len(lines), changes) == (1, 3)


def test_a_problem_that_comes_back_is_told_again() -> None:
    denied = Problem("denied", "allow it")
    assert len(told((denied,), (), (denied,))[0]) == 2
