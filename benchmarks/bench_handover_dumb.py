"""Handover where plain bridges carry the Wi-Fi and nobody tells of associations, Debian 12's daemons; then without the
bridges' layer-2 update frames, where only what the client sends tells that it has come; then mixed with
hostapd, without and with trust in the update frames.
"""

from __future__ import annotations

import attrs

from benchmarks.figure import Figure
from benchmarks.handover_rows import rows_of

_SCENARIOS = {"dumb": "dumb", "dumb_quiet": "no update frames", "dumb_mixed": "mixed", "dumb_trusted": "mixed, trusted"}


def run() -> list[Figure]:
    """See `handover_scenarios`. To be compared with `handover_full`, where hostapd tells."""
    return [
        attrs.evolve(figure, name=f"{text}, {figure.name}")
        for name, text in _SCENARIOS.items()
        for figure in rows_of(name)
    ]
