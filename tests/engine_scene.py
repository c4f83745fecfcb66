"""What the tests of the engine share: one access point, its peers, a phone and a laptop."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

import attrs

from roamroute import events
from roamroute.admission import Admission
from roamroute.effects import Announce, Withdraw
from roamroute.engine import Engine
from roamroute.policy import Handover, Policy
from roamroute.segments import segments_of
from roamroute.testing.playbook import ANY, Playbook
from roamroute.values import (
    Address,
    Answer,
    Basis,
    Claim,
    Hint,
    HostRoute,
    Mac,
    Neighbour,
    Nud,
    PeerId,
    Station,
    Verdict,
)

PREFIXES = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
WLAN, WLAN1 = "wlan0", "wlan1"
PHONE, LAPTOP = Mac("02:00:5e:44:00:01"), Mac("02:00:5e:44:00:02")
OWN_MAC = Mac("02:00:5e:00:00:aa")
PEER1: PeerId = IPv6Address("fd44:0:0:a::1")
ME: PeerId = IPv6Address("fd44:0:0:a::2")
PEER3: PeerId = IPv6Address("fd44:0:0:a::3")


CLAIMS_ONLY = Handover(is_sharing_hints=False, is_forwarding=False)


OUR_SEGMENTS = segments_of(ME, PREFIXES)
SEGMENTS1, SEGMENTS3 = segments_of(PEER1, PREFIXES), segments_of(PEER3, PREFIXES)


def address(number: int) -> Address:
    """The address of that number inside the first roaming prefix."""
    return PREFIXES[0][number]


A1, A2, A3 = address(0x101), address(0x102), address(0x103)
AN_IPV4 = ip_address("10.44.7.1")


def new_engine(
    policy: Policy | None = None,
    me: PeerId | None = ME,
    peers: tuple[PeerId, ...] = (),
    handover: Handover = CLAIMS_ONLY,
) -> Engine:
    """An engine that has had its first, empty `Resynced` events, and whose peers have joined.

    It advertises no gateway: that follows every association, and is tested by itself.
    """
    policy = attrs.evolve(policy or Policy(watch_after_association_s=0.0), is_advertising_gateway=False)
    engine = Engine(Admission((WLAN, WLAN1), PREFIXES), policy, me=me, handover=handover)
    engine.handle(events.OwnAddressesChanged(frozenset({ME, PEER1, PEER3}), frozenset({OWN_MAC})), 999.0)
    engine.handle(events.StationsResynced(frozenset({WLAN, WLAN1}), ()), 999.0)
    engine.handle(events.NeighboursResynced(frozenset({WLAN, WLAN1}), ()), 999.0)
    for peer in peers:
        engine.handle(events.PeerJoined(peer), 999.0)
    return engine


def new_handover_play(
    policy: Policy | None = None,
    peers: tuple[PeerId, ...] = (PEER1, PEER3),
    ignoring: tuple[type, ...] = (),
    **more: bool,
) -> Playbook:
    """A playbook for an access point that shares hints and sends on, as by default."""
    handover = Handover(segments=OUR_SEGMENTS, **more)
    return Playbook(new_engine(policy, ME, peers, handover), ignoring=ignoring)


def new_play(policy: Policy | None = None, me: PeerId | None = None, ignoring: tuple[type, ...] = ()) -> Playbook:
    """A playbook for an access point without peers."""
    return Playbook(new_engine(policy, me), ignoring=ignoring)


def new_peers_play(
    policy: Policy | None = None, peers: tuple[PeerId, ...] = (PEER1,), ignoring: tuple[type, ...] = ()
) -> Playbook:
    """A playbook for an access point with peers."""
    return Playbook(new_engine(policy, ME, peers), ignoring=ignoring)


def neighbour(
    which: Address = A1, nud: Nud = Nud.REACHABLE, mac: Mac | None = PHONE, link: str = WLAN, **more: Any
) -> events.NeighbourChanged:
    """RTM_NEWNEIGH; a failed neighbour has no MAC."""
    return events.NeighbourChanged(Neighbour(link, which, nud, None if nud is Nud.FAILED else mac, **more))


def connected(mac: Mac = PHONE, link: str = WLAN) -> events.StationConnected:
    """AP-STA-CONNECTED."""
    return events.StationConnected(Station(mac, link))


def left(mac: Mac = PHONE, link: str = WLAN, is_reauthenticating: bool = False) -> events.StationLeft:
    """AP-STA-DISCONNECTED."""
    return events.StationLeft(Station(mac, link), is_reauthenticating)


def answers(which: Address = A1, mac: Mac = PHONE, link: str = WLAN) -> tuple[events.NeighbourChanged, ...]:
    """What the kernel says when a probe is answered."""
    return (neighbour(which, Nud.PROBE, mac, link), neighbour(which, Nud.REACHABLE, mac, link))


def claim(
    sequence: int,
    peer: PeerId = PEER1,
    basis: Basis = Basis.ASSOCIATION,
    addresses: tuple[Address, ...] = (),
    mac: Mac = PHONE,
    **more: Any,
) -> events.HostClaimed:
    """A peer's claim."""
    return events.HostClaimed(Claim(mac, sequence, peer, basis, addresses, **more))


def hinted(sequence: int, *which: Address, peer: PeerId = PEER1, mac: Mac = PHONE) -> events.HostHinted:
    """A peer's hint."""
    return events.HostHinted(Hint(mac, sequence, peer, which))


def answered(
    claimed: int, verdict: Verdict = Verdict.ACCEPTED, peer: PeerId = PEER1, mac: Mac = PHONE, **more: Any
) -> events.ClaimAnswered:
    """A peer's answer; it agrees unless told otherwise."""
    more = {"sequence": claimed, "holder": ME, **more}
    return events.ClaimAnswered(peer, Answer(mac, claimed, verdict, **more))


def announce(which: Address = A1, link: str = WLAN, because: str = ANY) -> Announce:
    """The expected announcement."""
    return Announce(HostRoute(which, link), because)


def withdraw(which: Address = A1, link: str = WLAN, because: str = ANY) -> Withdraw:
    """The expected withdrawal."""
    return Withdraw(HostRoute(which, link), because)
