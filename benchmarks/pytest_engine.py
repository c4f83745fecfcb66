"""The engine by pytest-benchmark: `pytest benchmarks/pytest_engine.py`. The bars are those of bench_engine."""

from __future__ import annotations

from typing import Any

from benchmarks.bench_engine import LINK, addresses, daily_life, full_engine, neighbour
from roamroute.values import Nud


def test_a_day_of_events(benchmark: Any) -> None:
    """200 mixed events with 3,000 addresses; divide by 200."""
    engine, life = full_engine(), daily_life(10_000_000)
    now = 100.0

    def handle_some() -> None:
        nonlocal now
        for _ in range(200):
            now += 0.002
            engine.handle(next(life), now)

    benchmark(handle_some)


def test_a_neighbour_that_is_confirmed(benchmark: Any) -> None:
    """REACHABLE for an address that is announced."""
    engine = full_engine()
    event = neighbour(0, addresses(0)[0], Nud.REACHABLE)
    assert event.neighbour.link == LINK
    benchmark(engine.handle, event, 100.0)
