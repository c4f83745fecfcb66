"""Handover between access points, 100 roams with every routing: downlink, uplink, losses, TCP."""

from __future__ import annotations

from benchmarks.figure import Figure
from benchmarks.handover_rows import rows_of


def run() -> list[Figure]:
    """See `handover_scenarios`."""
    return rows_of("full")
