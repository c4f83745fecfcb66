"""The same with 20 % of what the access points tell each other lost."""

from __future__ import annotations

from benchmarks.figure import Figure
from benchmarks.handover_rows import rows_of


def run() -> list[Figure]:
    """See `handover_scenarios`."""
    return rows_of("loss")
