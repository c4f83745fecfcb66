"""A client that stays until the old access point has withdrawn its route: is anything lost then?"""

from __future__ import annotations

from benchmarks.figure import Figure
from benchmarks.handover_rows import rows_of


def run() -> list[Figure]:
    """See `handover_scenarios`."""
    return rows_of("stay")
