"""The modes of the lab: who publishes a client's routes, and what the access points do for each other meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen
class Mode:
    """One mode. `text` says for people what it is."""

    text: str
    runs_roamroute: bool = True
    has_peers: bool = True
    """The access points claim hosts from each other."""
    handover: Mapping[str, Any] = attrs.field(factory=dict)
    """The `[handover]` table of the configuration; empty: roamroute's own defaults."""
    has_packet_source: bool = True
    is_reference: bool = False
    """Here to be compared with only. Nobody tells the new access point what addresses the client has: it finds those
    that the client uses there, and that a roam does not come back says nothing against roamroute."""


MODES: Mapping[str, Mode] = {
    "roamroute": Mode("roamroute as it is"),
    "roamroute-claim": Mode(
        "roamroute with claims alone: no hints, no forwarding", handover={"hints": False, "forwarding": False}
    ),
    "roamroute-off": Mode("roamroute without peers: no claims", has_peers=False, is_reference=True),
    "plain": Mode(
        "roamroute without claims and packet source: the plain idea",
        has_peers=False,
        has_packet_source=False,
        is_reference=True,
    ),
    "hand": Mode(
        "no roamroute; the lab sets the host routes on every router at the layer-2 connection", runs_roamroute=False
    ),
}

HANDOVERS: Mapping[str, str] = {"off": "roamroute-off", "claim": "roamroute-claim", "full": "roamroute"}
"""What `--handover` calls the modes that differ in it alone."""
