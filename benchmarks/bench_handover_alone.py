"""A silent client roams as in handover_full, but the access points are alone: the gateway does not take part."""

from __future__ import annotations

from benchmarks.figure import Figure
from benchmarks.handover_rows import rows_of


def run() -> list[Figure]:
    """See `handover_scenarios`."""
    return rows_of("alone")
