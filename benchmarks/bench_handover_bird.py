"""A client roams through the emulated mesh with BIRD: Babel, OSPFv3 and iBGP with a route reflector, three versions."""

from __future__ import annotations

from benchmarks.figure import Figure
from benchmarks.handover import CACHE, rows

COMMANDS = (None, str(CACHE / "bin" / "bird-2.17"), str(CACHE / "bin" / "bird-3.1"))
BARS_MS = {"bird-babel": 1500.0, "bird-ospf": 1500.0, "bird-ibgp": 100.0}


def run() -> list[Figure]:
    """Downlink gap after layer-2 connection; bars are those of the issue that asked for this."""
    return rows(COMMANDS, BARS_MS)
