"""What happened, in past participles: everything the engine can be told.

A source begins with one `…Resynced` event that holds everything it knows, and repeats it after any loss; in between
it sends changes. The order within one source is that of the kernel or daemon behind it; between sources there is none.
"""

from __future__ import annotations

import attrs

from roamroute.values import Address, Answer, Claim, HandoverReport, Hint, Mac, Neighbour, PeerId, Seconds, Station


@attrs.frozen
class NeighboursResynced:
    """The whole neighbour table of `links` (the roaming interfaces that exist and are up) as the kernel dumps it."""

    links: frozenset[str]
    neighbours: tuple[Neighbour, ...]


@attrs.frozen
class NeighbourChanged:
    """RTM_NEWNEIGH."""

    neighbour: Neighbour


@attrs.frozen
class NeighbourRemoved:
    """RTM_DELNEIGH, whatever state the message carries (Linux sends the old one)."""

    link: str
    address: Address


@attrs.frozen
class ProbesRefused:
    """The neighbour table is full: the kernel could not make entries for these addresses, and has asked nobody."""

    addresses: tuple[Address, ...]


@attrs.frozen
class CollectionChanged:
    """On which links the kernel collects what is STALE (the table is above gc_thresh1), and on no others.

    `after_s`: for each of them and an IP version, how long after its last confirmation or use a neighbour may be taken:
    gc_stale_time.
    """

    after_s: tuple[tuple[str, int, Seconds], ...]


@attrs.frozen
class LinkLost:
    """A roaming interface went down or vanished."""

    link: str


@attrs.frozen
class StationsResynced:
    """All stations that are authorised on `links`; says nothing about other links."""

    links: frozenset[str]
    stations: tuple[Station, ...]


@attrs.frozen
class StationConnected:
    """hostapd's AP-STA-CONNECTED: the station is associated and authorised, layer 2 works."""

    station: Station


@attrs.frozen
class StationLeft:
    """The station is not associated any more.

    `is_reauthenticating`: hostapd dropped an old entry because the same station is just authenticating anew; it is
    expected back at once and is not to be read as gone.
    """

    station: Station
    is_reauthenticating: bool = False


@attrs.frozen
class MacLearned:
    """A bridge learned a MAC on a port, or it moved between ports (RTM_NEWNEIGH of family AF_BRIDGE)."""

    mac: Mac
    link: str
    port: str


@attrs.frozen
class MacForgotten:
    """A bridge forgot a MAC (ageing, port down)."""

    mac: Mac
    link: str


@attrs.frozen
class StationAnnounced:
    """A bridge behind us carries the Wi-Fi, and sent a layer-2 update frame: the station has associated with it."""

    mac: Mac
    link: str


@attrs.frozen
class AddressSeen:
    """A packet from a station named `address` as its own (ND, ARP or the source of data): a candidate, not a fact."""

    link: str
    mac: Mac
    address: Address


@attrs.frozen
class ForeignRouteSeen:
    """Some other router announces a host route for `address`; `origin` is for people to read."""

    address: Address
    origin: str


@attrs.frozen
class ForeignRouteLost:
    """The route of a `ForeignRouteSeen` is gone."""

    address: Address


@attrs.frozen
class OwnAddressesChanged:
    """What must never be taken for a client: our addresses and MACs on every link, and the peers' addresses."""

    addresses: frozenset[Address]
    macs: frozenset[Mac]


@attrs.frozen
class PeerJoined:
    """A session with `peer` stands; claims reach it."""

    peer: PeerId


@attrs.frozen
class PeerLost:
    """`peer` has not been heard for too long; nobody waits for it."""

    peer: PeerId


@attrs.frozen
class HostClaimed:
    """A peer sent a claim (authenticated, not a replay; may be a repetition)."""

    claim: Claim


@attrs.frozen
class ClaimAnswered:
    """`peer` answered one of our claims."""

    peer: PeerId
    answer: Answer


@attrs.frozen
class ClaimUnanswered:
    """`peer` did not answer within the time for which a claim is repeated."""

    peer: PeerId
    mac: Mac
    sequence: int


@attrs.frozen
class HostHinted:
    """A peer shared the binding of a host that it holds (authenticated; may be a repetition, or older than a claim)."""

    hint: Hint


@attrs.frozen
class HandoverReported:
    """The former holder of a host that we have claimed told how its side of the handover went."""

    peer: PeerId
    report: HandoverReport


@attrs.frozen
class ForwardUsed:
    """A packet for `address` was sent on to where it is forwarded. Told for the first one at once, then while packets
    go on about once a second."""

    address: Address


@attrs.frozen
class Drained:
    """The operator asked to withdraw everything and hold."""


@attrs.frozen
class Resumed:
    """The operator ended the drain."""


Event = (
    NeighboursResynced
    | NeighbourChanged
    | NeighbourRemoved
    | ProbesRefused
    | CollectionChanged
    | LinkLost
    | StationsResynced
    | StationConnected
    | StationLeft
    | MacLearned
    | MacForgotten
    | StationAnnounced
    | AddressSeen
    | ForeignRouteSeen
    | ForeignRouteLost
    | OwnAddressesChanged
    | PeerJoined
    | PeerLost
    | HostClaimed
    | ClaimAnswered
    | ClaimUnanswered
    | HostHinted
    | HandoverReported
    | ForwardUsed
    | Drained
    | Resumed
)
