"""A client roams through the emulated mesh with FRR: OSPFv3 and iBGP with a route reflector, two versions."""

from __future__ import annotations

from benchmarks.figure import Figure
from benchmarks.handover import CACHE, rows

COMMANDS = (None, str(CACHE / "bin" / "frr-10.3"))
BARS_MS = {"frr-ospf": 100.0, "frr-ibgp": 300.0}


def run() -> list[Figure]:
    """Downlink gap after layer-2 connection; bars are those of the issue that asked for this."""
    return rows(COMMANDS, BARS_MS)
