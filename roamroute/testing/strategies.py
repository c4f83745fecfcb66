"""Hypothesis strategies for everything that may come to an engine, nonsense included. Needs hypothesis.

The values come from small pools, so that events meet: few hosts, few addresses, few peers, and numbers at the ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from roamroute import events
from roamroute.segments import segments_of
from roamroute.values import (
    Address,
    Answer,
    Basis,
    Claim,
    HandoverReport,
    Hint,
    Mac,
    Neighbour,
    Nud,
    PeerId,
    Prefix,
    Seconds,
    Segments,
    Station,
    Verdict,
)

LINKS: tuple[str, ...] = ("wlan0", "wlan1")
OTHER_LINKS: tuple[str, ...] = ("eth0", "")
PREFIXES: tuple[Prefix, ...] = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
MACS: tuple[Mac, ...] = tuple(Mac(f"02:00:5e:44:00:{number:02x}") for number in range(1, 8))
ODD_MACS: tuple[Mac, ...] = (Mac("ff:ff:ff:ff:ff:ff"), Mac("33:33:00:00:00:01"), Mac("00:00:00:00:00:00"))
ADDRESSES: tuple[Address, ...] = (
    *(PREFIXES[0][number] for number in range(0x101, 0x10A)),
    ip_address("10.44.0.7"),
    ip_address("10.44.0.8"),
)
ODD_ADDRESSES: tuple[Address, ...] = tuple(
    map(
        ip_address,
        (
            "fe80::1",
            "ff02::1",
            "::",
            "::1",
            "fd44:0:0:1::",
            "fd44:0:0:2::1",
            "2001:db8::1",
            "10.44.0.0",
            "10.44.255.255",
            "224.0.0.1",
            "0.0.0.0",
            "127.0.0.1",
            "::ffff:10.44.0.7",
        ),
    )
)
PEERS: tuple[PeerId, ...] = tuple(IPv6Address(0xFD4400000000000A << 64 | number) for number in range(1, 5))
SEQUENCES: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 100, 2**31, 2**32 - 2, 2**32 - 1, 2**32, -1)
DELAYS: tuple[Seconds, ...] = (0.0, 0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 3.1, 5.0, 10.0, 40.0, 400.0)


def links() -> SearchStrategy[str]:
    """Mostly a roaming interface."""
    return st.sampled_from((*LINKS, *LINKS, *LINKS, *OTHER_LINKS))


def macs() -> SearchStrategy[Mac]:
    """Mostly a host's."""
    return st.sampled_from((*MACS, *MACS, *ODD_MACS))


def addresses() -> SearchStrategy[Address]:
    """Mostly one that may be announced."""
    return st.sampled_from((*ADDRESSES, *ADDRESSES, *ODD_ADDRESSES))


def peers() -> SearchStrategy[PeerId]:
    """One of four access points."""
    return st.sampled_from(PEERS)


def delays() -> SearchStrategy[Seconds]:
    """From nothing to longer than every timer."""
    return st.sampled_from(DELAYS)


def sequences(extra: Sequence[int] = ()) -> SearchStrategy[int]:
    """Mobility sequence numbers, also those that cannot be."""
    return st.sampled_from((*SEQUENCES, *extra))


def neighbours() -> SearchStrategy[Neighbour]:
    """Any neighbour entry; the MAC may be absent in any state."""
    return st.builds(
        Neighbour,
        link=links(),
        address=addresses(),
        nud=st.sampled_from(Nud),
        mac=st.one_of(macs(), macs(), macs(), st.none()),
        is_foreign_made=st.sampled_from((False, False, False, False, True)),
    )


def stations() -> SearchStrategy[Station]:
    """Any station."""
    return st.builds(Station, mac=macs(), link=links())


def segments() -> SearchStrategy[Segments]:
    """Mostly those of a peer; none, and addresses that are no segments, as well."""
    odd = IPv6Address("2001:db8::1")
    of_peers = tuple(segments_of(peer, PREFIXES) for peer in PEERS)
    return st.sampled_from((*of_peers, *of_peers, Segments(), Segments(of_peers[0].ipv6), Segments(odd, odd)))


def ages() -> SearchStrategy[Seconds | None]:
    """From nothing to longer than an association lasts, impossible ones included."""
    return st.sampled_from((None, None, 0.0, 0.001, 0.1, 3.0, 1e6, -1.0))


def claims() -> SearchStrategy[Claim]:
    """Any claim, of a liar as well."""
    some = st.lists(addresses(), max_size=4).map(tuple)
    many = st.just(tuple(PREFIXES[0][number] for number in range(1, 1001)))
    return st.builds(
        Claim,
        mac=macs(),
        sequence=sequences(),
        peer=peers(),
        basis=st.sampled_from(Basis),
        addresses=st.one_of(some, some, some, many),
        segments=segments(),
        age_s=ages(),
    )


def answers() -> SearchStrategy[Answer]:
    """Any answer, asked for or not."""
    some = st.lists(addresses(), max_size=4).map(tuple)
    return st.builds(
        Answer,
        mac=macs(),
        claimed=sequences(),
        verdict=st.sampled_from(Verdict),
        sequence=sequences(),
        holder=st.one_of(peers(), st.none()),
        addresses=some,
        denied=some,
        age_s=ages(),
    )


def hints() -> SearchStrategy[Hint]:
    """Any hint, of a liar as well."""
    some = st.lists(addresses(), max_size=4).map(tuple)
    many = st.just(tuple(PREFIXES[0][number] for number in range(1, 1001)))
    named = st.one_of(some, some, some, many)
    return st.builds(Hint, mac=macs(), sequence=sequences(), peer=peers(), addresses=named)


def link_sets() -> SearchStrategy[frozenset[str]]:
    """Some of the links."""
    return st.frozensets(links())


def any_event() -> SearchStrategy[events.Event]:
    """Anything that the engine can be told."""
    kinds: list[SearchStrategy[events.Event]] = [
        st.builds(events.NeighbourChanged, neighbours()),
        st.builds(events.NeighbourChanged, neighbours()),
        st.builds(events.NeighbourRemoved, links(), addresses()),
        st.builds(events.NeighboursResynced, link_sets(), st.lists(neighbours(), max_size=6).map(tuple)),
        st.builds(events.ProbesRefused, st.lists(addresses(), max_size=3).map(tuple)),
        st.builds(
            events.CollectionChanged,
            st.lists(st.tuples(links(), st.sampled_from((4, 6)), st.floats(0.0, 90.0)), max_size=3).map(tuple),
        ),
        st.builds(events.LinkLost, links()),
        st.builds(events.StationsResynced, link_sets(), st.lists(stations(), max_size=4).map(tuple)),
        st.builds(events.StationConnected, stations()),
        st.builds(events.StationConnected, stations()),
        st.builds(events.StationLeft, stations(), st.booleans()),
        st.builds(events.MacLearned, macs(), links(), st.just("port")),
        st.builds(events.StationAnnounced, macs(), links()),
        st.builds(events.MacForgotten, macs(), links()),
        st.builds(events.AddressSeen, links(), macs(), addresses()),
        st.builds(events.ForeignRouteSeen, addresses(), st.just("router")),
        st.builds(events.ForeignRouteLost, addresses()),
        st.builds(
            events.OwnAddressesChanged, st.frozensets(addresses(), max_size=2), st.frozensets(macs(), max_size=1)
        ),
        st.builds(events.PeerJoined, peers()),
        st.builds(events.PeerLost, peers()),
        st.builds(events.HostClaimed, claims()),
        st.builds(events.HostClaimed, claims()),
        st.builds(events.HostHinted, hints()),
        st.builds(events.HostHinted, hints()),
        st.builds(events.ForwardUsed, addresses()),
        st.builds(events.HandoverReported, peers(), st.builds(HandoverReport, mac=macs(), sequence=sequences())),
        st.builds(events.ClaimAnswered, peers(), answers()),
        st.builds(events.ClaimUnanswered, peers(), macs(), sequences()),
        st.builds(events.Drained),
        st.builds(events.Resumed),
    ]
    return st.one_of(kinds)


def histories(max_size: int = 60) -> SearchStrategy[list[tuple[Seconds, events.Event]]]:
    """Events, each with the time that passes before it."""
    return st.lists(st.tuples(delays(), any_event()), max_size=max_size)
