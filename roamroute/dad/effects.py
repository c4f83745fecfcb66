"""What the DAD proxy asks for, in imperatives; to be performed in the order given, without waiting."""

from __future__ import annotations

import attrs

from roamroute.values import Address, DadMessage, Mac, PeerId


@attrs.frozen
class HandOut:
    """Say on `link` what the host `message.mac` says elsewhere.

    `stations` None: one frame to the group (an NS to the solicited-node group, an NA to all-nodes, an ARP broadcast).
    Else the same packet to each of these by layer-2 unicast (RFC 6085); the sender is never among them.
    """

    link: str
    message: DadMessage
    stations: tuple[Mac, ...] | None = None


@attrs.frozen
class Relay:
    """Tell the peers; None: all that take part in the proxy. They never pass it on to others."""

    message: DadMessage
    peers: tuple[PeerId, ...] | None = None


@attrs.frozen
class Defend:
    """Answer `station` on `link`, by layer-2 unicast and with the link's own MAC, that `target` is taken: it is ours,
    or a segment, which no host may have. An NA to all-nodes, or an ARP reply."""

    link: str
    target: Address
    station: Mac


DadEffect = HandOut | Relay | Defend
