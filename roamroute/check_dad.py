"""`roamroute check` for duplicate address detection: does it reach everybody, and is anybody in its way?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from roamroute.export import Finding

_SUBJECT = "duplicate addresses"


def check_dad(status: Mapping[str, Any]) -> Iterator[Finding]:
    """What the running daemon knows; `status` is its answer to `status`."""
    if status["dad"] is None:
        return
    peers = [] if status["peers"] is None else status["peers"]["peers"]
    access_points = [peer for peer in peers if peer["is_up"] and "router" not in peer["capabilities"]]
    without = [peer["peer"] for peer in access_points if "dad" not in peer["capabilities"]]
    if without:
        text = f"no DAD proxy runs at {', '.join(without[:4])}: who takes an address that a host there has is not told"
        yield Finding("warning", _SUBJECT, text, "upgrade roamroute there; [dad] enabled = true")
    else:
        yield Finding("ok", _SUBJECT, f"are looked for at {len(access_points)} peers and here")
    tap = status["tap"]
    if tap["dropped_frames"] or tap["muted_stations"]:
        text = (
            f"somebody floods a client link: {tap['dropped_frames']} frames were not read, "
            f"and {tap['muted_stations']} times a station was not listened to"
        )
        yield Finding("warning", _SUBJECT, text, "roamroute watch shows who asks; the log names who was muted")
