"""iBGP over a route reflector, which takes part in the handover as a peer without clients."""

from __future__ import annotations

from benchmarks.figure import Figure
from benchmarks.handover_rows import rows_of


def run() -> list[Figure]:
    """See `handover_scenarios`."""
    return rows_of("gateway")
