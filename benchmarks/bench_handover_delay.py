"""The same with 30 ms on every link between routers, in each direction: what it costs; no bars."""

from __future__ import annotations

from benchmarks.figure import Figure
from benchmarks.handover_rows import rows_of


def run() -> list[Figure]:
    """See `handover_scenarios`."""
    return rows_of("delay")
