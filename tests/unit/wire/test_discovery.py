"""Duplicate detection and router discovery: RFC 4861, 4862 §5.4, 7527, 5227. What we build is read back by scapy."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Padding

from roamroute.errors import MalformedInput
from roamroute.values import DadKind, DadMessage, Mac
from roamroute.wire import arp, bpf, discovery, icmpv6
from roamroute.wire.discovery import (
    RouterSolicitation,
    advertisement,
    handed_out,
    parse,
    solicitation,
)
from roamroute.wire.router_advertisements import HeardRouter

from . import discovery_frames as given_frames
from .discovery_frames import (
    ADVERTISEMENT,
    ALL_NODES,
    ALL_ROUTERS,
    AP,
    GROUP,
    HERE,
    HERE4,
    LINK_LOCAL,
    NA_FIXED,
    NOBODY,
    NONCE,
    NS_FIXED,
    OTHER,
    PROBE,
    RA_FIXED,
    ROUTER_ADVERTISEMENT,
    ROUTER_SOLICITATION,
    RS_FIXED,
    SLLAO,
    SOLICITATION,
    STATION,
    TLLAO,
    VALID,
    arp_frame,
    ipv4_unicast,
    ipv6,
    ipv6_unicast,
    macs,
    nonces,
    spoiled,
)
from .test_frames import run_filter

ZERO4 = IPv4Address(0)
MARK = arp.PROXY_MARK
UNKNOWN = bytes([77, 1, *bytes(6)])
"""An option of which nothing is known."""


def octets_of(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def checked(frame: bytes, source: Mac, to: str) -> Packet:
    """What scapy makes of it; lengths and checksum are as scapy would have them, and no octet is left over."""
    read = Ether(frame)
    assert (read.src, read.dst) == (source, to)
    assert Padding not in read
    again = Ether(frame)
    if IPv6 in again:
        packet = again[IPv6]
        assert (packet.version, packet.tc, packet.hlim, packet.nh) == (6, 0, 255, 58)
        del packet.plen
        del packet.payload.cksum
    assert Ether(again.build()).build() == frame
    return read


@given(macs, macs, ipv6_unicast, nonces, st.one_of(st.none(), macs))
def test_a_solicitation_as_scapy_reads_it(
    source: Mac, owner: Mac, target: IPv6Address, nonce: bytes, station: Mac | None
) -> None:
    frame = solicitation(source, DadMessage(DadKind.SOLICITATION, target, owner, nonce), station)
    low = target.packed[13:].hex()
    read = checked(frame, source, station or f"33:33:ff:{low[:2]}:{low[2:4]}:{low[4:]}")
    group = IPv6Address(bytes.fromhex("ff0200000000000000000001ff" + low))
    assert (IPv6Address(read[IPv6].src), IPv6Address(read[IPv6].dst)) == (NOBODY, group)
    assert read[IPv6].fl == icmpv6.PROXY_FLOW_LABEL
    message = read[ICMPv6ND_NS]
    assert (message.code, message.res, IPv6Address(message.tgt)) == (0, 0, target)
    if nonce:
        option = message[ICMPv6NDOptUnknown]
        assert (option.type, option.len, option.data) == (14, (len(nonce) + 2) // 8, nonce)
    else:
        assert not message.payload


@given(macs, macs, ipv6_unicast, st.one_of(st.none(), macs))
def test_an_advertisement_as_scapy_reads_it(source: Mac, owner: Mac, target: IPv6Address, station: Mac | None) -> None:
    frame = advertisement(source, DadMessage(DadKind.ADVERTISEMENT, target, owner), station)
    read = checked(frame, source, station or "33:33:00:00:00:01")
    assert (IPv6Address(read[IPv6].src), read[IPv6].dst) == (target, "ff02::1")
    assert read[IPv6].fl == icmpv6.PROXY_FLOW_LABEL
    message = read[ICMPv6ND_NA]
    assert (message.R, message.S, message.O, message.res, IPv6Address(message.tgt)) == (0, 0, 0, 0, target)
    assert (message[ICMPv6NDOptDstLLAddr].len, message[ICMPv6NDOptDstLLAddr].lladdr) == (1, owner)
    assert not message[ICMPv6NDOptDstLLAddr].payload


@given(macs, macs, ipv4_unicast, st.one_of(st.none(), macs), st.sampled_from(list(DadKind)))
def test_arp_as_scapy_reads_it(
    source: Mac, owner: Mac, target: IPv4Address, station: Mac | None, kind: DadKind
) -> None:
    build = solicitation if kind is DadKind.SOLICITATION else advertisement
    frame = build(source, DadMessage(kind, target, owner), station)
    assert len(frame) == 60
    read = Ether(frame)
    assert (read.src, read.dst, read.type) == (source, station or "ff:ff:ff:ff:ff:ff", 0x0806)
    assert read[Padding].load == MARK
    packet = read[ARP]
    assert (packet.hwtype, packet.ptype, packet.hwlen, packet.plen, packet.hwsrc) == (1, 0x0800, 6, 4, source)
    nowhere = "00:00:00:00:00:00"
    expected = {
        (DadKind.SOLICITATION, True): (1, "0.0.0.0", nowhere, str(target)),
        (DadKind.SOLICITATION, False): (1, "0.0.0.0", nowhere, str(target)),
        (DadKind.ADVERTISEMENT, True): (1, str(target), nowhere, str(target)),
        (DadKind.ADVERTISEMENT, False): (2, str(target), station, "0.0.0.0"),
    }[kind, station is None]
    assert (packet.op, packet.psrc, packet.hwdst, packet.pdst) == expected


@given(
    macs,
    macs,
    st.one_of(ipv4_unicast, ipv6_unicast),
    st.sampled_from(list(DadKind)),
    nonces,
    st.lists(st.one_of(st.none(), macs), max_size=5),
)
def test_copies_are_what_each_station_would_get_alone(
    source: Mac, owner: Mac, target: IPv4Address | IPv6Address, kind: DadKind, nonce: bytes, stations: list[Mac | None]
) -> None:
    message = DadMessage(kind, target, owner, nonce)
    build = solicitation if kind is DadKind.SOLICITATION else advertisement
    assert list(handed_out(source, message, stations)) == [build(source, message, station) for station in stations]


@pytest.mark.parametrize("size", [1, 5, 7, 8, 13, 31, 38])
def test_a_nonce_that_no_option_holds_is_refused(size: int) -> None:
    with pytest.raises(ValueError):
        solicitation(AP, DadMessage(DadKind.SOLICITATION, HERE, STATION, bytes(size)), None)


@given(macs, ipv6_unicast, nonces)
def test_what_a_host_sends_is_heard_as_it_says(sender: Mac, target: IPv6Address, nonce: bytes) -> None:
    group = IPv6Address(icmpv6.solicited_node(target.packed))
    option = icmpv6.option(14, nonce) if nonce else b""
    asked = ipv6(NOBODY, group, NS_FIXED[:8] + target.packed + option, sender=sender)
    assert parse(asked) == DadMessage(DadKind.SOLICITATION, target, sender, nonce)
    told = ipv6(target, ALL_NODES, NA_FIXED[:8] + target.packed, sender=sender)
    assert parse(told) == DadMessage(DadKind.ADVERTISEMENT, target, sender)


@given(
    st.sampled_from(list(DadKind)),
    macs,
    macs,
    st.one_of(ipv6_unicast, ipv4_unicast),
    nonces,
    st.one_of(st.none(), macs),
)
def test_what_we_hand_out_no_access_point_takes_for_a_hosts(
    kind: DadKind, source: Mac, owner: Mac, target: IPv4Address | IPv6Address, nonce: bytes, station: Mac | None
) -> None:
    build = solicitation if kind is DadKind.SOLICITATION else advertisement
    for mac in (owner, source):  # a defence names its sender
        frame = build(source, DadMessage(kind, target, mac, nonce), station)
        assert parse(frame) is None
        assert not run_filter(discovery.discovery_filter(), frame)


@pytest.mark.parametrize(
    ("frame", "value"),
    [
        (SOLICITATION, DadMessage(DadKind.SOLICITATION, HERE, STATION, b"nonce!")),
        (ipv6(NOBODY, GROUP, NS_FIXED), DadMessage(DadKind.SOLICITATION, HERE, STATION)),
        (ipv6(NOBODY, GROUP, NS_FIXED + NONCE) + bytes(6), DadMessage(DadKind.SOLICITATION, HERE, STATION, b"nonce!")),
        (ipv6(NOBODY, GROUP, NS_FIXED + UNKNOWN + NONCE), DadMessage(DadKind.SOLICITATION, HERE, STATION, b"nonce!")),
        (ADVERTISEMENT, DadMessage(DadKind.ADVERTISEMENT, HERE, STATION)),
        (ipv6(LINK_LOCAL, ALL_NODES, NA_FIXED), DadMessage(DadKind.ADVERTISEMENT, HERE, STATION)),
        (ROUTER_SOLICITATION, RouterSolicitation(STATION, LINK_LOCAL)),
        (ipv6(NOBODY, ALL_ROUTERS, RS_FIXED), RouterSolicitation(STATION, NOBODY)),
        (ROUTER_ADVERTISEMENT, HeardRouter(STATION, LINK_LOCAL, 1800, 64)),
        (PROBE, DadMessage(DadKind.SOLICITATION, HERE4, STATION)),
        (PROBE + bytes(18), DadMessage(DadKind.SOLICITATION, HERE4, STATION)),
        (arp_frame(1, HERE4, HERE4), DadMessage(DadKind.ADVERTISEMENT, HERE4, STATION)),
        (arp_frame(2, HERE4, HERE4), DadMessage(DadKind.ADVERTISEMENT, HERE4, STATION)),  # gratuitous, as a reply
        (arp_frame(2, HERE4, ZERO4), DadMessage(DadKind.ADVERTISEMENT, HERE4, STATION)),  # the answer to a probe
    ],
)  # fmt: skip
def test_what_hosts_and_routers_say(frame: bytes, value: object) -> None:
    assert parse(frame) == value
    assert run_filter(discovery.discovery_filter(), frame) == discovery.SNAP_BYTES


@pytest.mark.parametrize(
    "frame",
    [
        ipv6(HERE, GROUP, NS_FIXED + SLLAO),  # address resolution
        ipv6(HERE, LINK_LOCAL, NA_FIXED),  # its answer
        ipv6(HERE, ALL_ROUTERS, NA_FIXED),  # RFC 9131: for routers
        ipv6(NOBODY, GROUP, NS_FIXED, flow_label=icmpv6.PROXY_FLOW_LABEL),
        ipv6(HERE, ALL_NODES, NA_FIXED, flow_label=icmpv6.PROXY_FLOW_LABEL),
        arp_frame(1, HERE4, IPv4Address("10.44.0.1")),
        arp_frame(2, HERE4, IPv4Address("10.44.0.1")),
        arp_frame(1, ZERO4, HERE4, behind=MARK),
        ipv6(HERE, ALL_NODES, bytes([128, 0, 0, 0, 0, 0, 0, 0])),  # ping
        ipv6(HERE, ALL_NODES, bytes([137, 0, *bytes(38)])),  # redirect
        b"\xff" * 6 + bytes.fromhex("020000010007") + b"\x81\x00" + PROBE[12:],  # a tag that was left in
    ],
)
def test_what_says_nothing_to_us(frame: bytes) -> None:
    assert parse(frame) is None
    assert not run_filter(discovery.discovery_filter(), frame)


@pytest.mark.parametrize(
    "frame",
    [
        ipv6(HERE, ALL_NODES, NA_FIXED + TLLAO, sender=OTHER),  # a proxy's: another's link-layer address
        ipv6(NOBODY, IPv6Address("ff02::1:ff00:0"), NS_FIXED[:8] + bytes(16)),
        ipv6(NOBODY, IPv6Address("ff02::1:ff00:1"), NS_FIXED[:8] + IPv6Address("::1").packed),
        arp_frame(1, ZERO4, IPv4Address("224.0.0.1")),
        arp_frame(1, ZERO4, IPv4Address("255.255.255.255")),
        arp_frame(1, ZERO4, IPv4Address("127.0.0.1")),
        arp_frame(1, ZERO4, ZERO4),
        PROBE[:6] + octets_of(OTHER) + PROBE[12:],  # the sender in ARP is not the sender of the frame
        PROBE[:15] + b"\x06" + PROBE[16:],  # not Ethernet's ARP
        arp_frame(9, HERE4, HERE4),
    ],
)
def test_what_the_filter_cannot_tell_and_the_parser_can(frame: bytes) -> None:
    assert parse(frame) is None


def broken_sum(frame: bytes) -> bytes:
    return frame[:56] + bytes([frame[56] ^ 1]) + frame[57:]


MALFORMED = [
    ("RFC 4861 §6.1.1 hop limit", ipv6(LINK_LOCAL, ALL_ROUTERS, RS_FIXED, hop_limit=254)),
    ("RFC 4861 §6.1.1 checksum", broken_sum(ROUTER_SOLICITATION)),
    ("RFC 4861 §6.1.1 code", ipv6(LINK_LOCAL, ALL_ROUTERS, b"\x85\x01" + RS_FIXED[2:])),
    ("RFC 4861 §6.1.1 8 octets", ipv6(LINK_LOCAL, ALL_ROUTERS, RS_FIXED[:6])),
    ("RFC 4861 §6.1.1 option length 0", ipv6(LINK_LOCAL, ALL_ROUTERS, RS_FIXED + bytes([1, 0, *bytes(6)]))),
    ("RFC 4861 §6.1.1 :: with SLLAO", ipv6(NOBODY, ALL_ROUTERS, RS_FIXED + SLLAO)),
    ("RFC 4861 §6.1.2 not link-local", ipv6(HERE, ALL_NODES, RA_FIXED)),
    ("RFC 4861 §6.1.2 not link-local", ipv6(IPv6Address("fec0::1"), ALL_NODES, RA_FIXED)),
    ("RFC 4861 §6.1.2 from ::", ipv6(NOBODY, ALL_NODES, RA_FIXED)),
    ("RFC 4861 §6.1.2 hop limit", ipv6(LINK_LOCAL, ALL_NODES, RA_FIXED, hop_limit=1)),
    ("RFC 4861 §6.1.2 checksum", broken_sum(ROUTER_ADVERTISEMENT)),
    ("RFC 4861 §6.1.2 code", ipv6(LINK_LOCAL, ALL_NODES, b"\x86\xff" + RA_FIXED[2:])),
    ("RFC 4861 §6.1.2 16 octets", ipv6(LINK_LOCAL, ALL_NODES, RA_FIXED[:14])),
    ("RFC 4861 §6.1.2 option length 0", ipv6(LINK_LOCAL, ALL_NODES, RA_FIXED + bytes(8))),
    ("RFC 4861 §7.1.1 hop limit", ipv6(NOBODY, GROUP, NS_FIXED, hop_limit=64)),
    ("RFC 4861 §7.1.1 checksum", broken_sum(SOLICITATION)),
    ("RFC 4861 §7.1.1 code", ipv6(NOBODY, GROUP, b"\x87\x01" + NS_FIXED[2:])),
    ("RFC 4861 §7.1.1 24 octets", ipv6(NOBODY, GROUP, NS_FIXED[:22])),
    ("RFC 4861 §7.1.1 group as target", ipv6(NOBODY, GROUP, NS_FIXED[:8] + GROUP.packed)),
    ("RFC 4861 §7.1.1 option length 0", ipv6(NOBODY, GROUP, NS_FIXED + bytes([14, 0, *bytes(6)]))),
    ("RFC 4861 §7.1.1 :: not to solicited-node", ipv6(NOBODY, ALL_NODES, NS_FIXED)),
    ("RFC 4861 §7.1.1 :: to another's group", ipv6(NOBODY, IPv6Address("ff02::1:ff00:b07"), NS_FIXED)),
    ("RFC 4861 §7.1.1 :: to the target", ipv6(NOBODY, HERE, NS_FIXED)),
    ("RFC 4861 §7.1.1 :: with SLLAO", ipv6(NOBODY, GROUP, NS_FIXED + SLLAO)),
    ("RFC 4861 §7.1.2 hop limit", ipv6(HERE, ALL_NODES, NA_FIXED, hop_limit=0)),
    ("RFC 4861 §7.1.2 checksum", broken_sum(ADVERTISEMENT)),
    ("RFC 4861 §7.1.2 code", ipv6(HERE, ALL_NODES, b"\x88\x07" + NA_FIXED[2:])),
    ("RFC 4861 §7.1.2 24 octets", ipv6(HERE, ALL_NODES, NA_FIXED[:16])),
    ("RFC 4861 §7.1.2 group as target", ipv6(HERE, ALL_NODES, NA_FIXED[:8] + ALL_NODES.packed)),
    ("RFC 4861 §7.1.2 solicited to a group", ipv6(HERE, ALL_NODES, NA_FIXED[:4] + b"\x40" + NA_FIXED[5:])),
    ("RFC 4861 §7.1.2 option length 0", ipv6(HERE, ALL_NODES, NA_FIXED + bytes([2, 0, *bytes(6)]))),
    ("RFC 4861 §4.4 no source", ipv6(NOBODY, ALL_NODES, NA_FIXED)),
    ("RFC 4861 §4.6 option beyond the end", ipv6(NOBODY, GROUP, NS_FIXED + bytes([14, 2, *bytes(6)]))),
    ("RFC 4861 §4.6 option cut short", ipv6(NOBODY, GROUP, NS_FIXED + bytes([14, 1, 0, 0]))),
    ("RFC 4291 §2.7 source is a group", ipv6(ALL_NODES, ALL_NODES, NA_FIXED)),
    ("RFC 3971 §5.3.2 nonce longer than we carry", ipv6(NOBODY, GROUP, NS_FIXED + bytes([14, 5, *bytes(38)]))),
    ("RFC 8200 §3 version", SOLICITATION[:14] + b"\x50" + SOLICITATION[15:]),
    ("RFC 8200 §3 payload longer than the frame", SOLICITATION[:-1]),
    ("RFC 826 cut short", PROBE[:-1]),
    ("IEEE 802.3 cut short", PROBE[:13]),
    ("IEEE 802.3 sent by a group", PROBE[:6] + b"\x01" + PROBE[7:]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("why", "frame"), MALFORMED, ids=[f"{why}-{place}" for place, (why, _) in enumerate(MALFORMED)]
)
def test_what_is_malformed(why: str, frame: bytes) -> None:
    with pytest.raises(MalformedInput):
        parse(frame)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_value_or_one_error(frame: bytes) -> None:
    with contextlib.suppress(MalformedInput):
        parse(frame)


@given(spoiled(st.sampled_from(VALID)))
def test_a_spoiled_frame_gives_a_value_or_one_error(frame: bytes) -> None:
    with contextlib.suppress(MalformedInput):
        parse(frame)


@given(
    st.sampled_from([NS_FIXED, NA_FIXED, RS_FIXED, RA_FIXED]),
    st.binary(max_size=120),
    st.sampled_from([NOBODY, LINK_LOCAL]),
)
def test_any_options_behind_a_right_checksum_give_a_value_or_one_error(
    fixed: bytes, options: bytes, source: IPv6Address
) -> None:
    with contextlib.suppress(MalformedInput):
        parse(ipv6(source, GROUP if fixed is NS_FIXED else ALL_NODES, fixed + options))


@given(spoiled(st.sampled_from(VALID)))
def test_what_the_filter_drops_says_nothing(frame: bytes) -> None:
    """The other way round does not hold: the filter makes no checks."""
    if run_filter(discovery.discovery_filter(), frame):
        return
    with contextlib.suppress(MalformedInput):
        assert parse(frame) is None


def test_the_filter_drops_what_we_send_and_tagged_and_muted() -> None:
    program = discovery.discovery_filter([OTHER])
    for frame in VALID:
        assert run_filter(program, frame)
        assert not run_filter(program, frame, packet_type=4)
        assert not run_filter(program, frame, has_tag=True)
        assert not run_filter(program, frame[:6] + octets_of(OTHER) + frame[12:])
    assert len(discovery.discovery_filter([OTHER] * 64)) // 8 < bpf.MAX_INSTRUCTIONS


def test_the_frames_of_these_tests_have_right_checksums() -> None:
    for frame in given_frames.VALID[:4]:
        read = Ether(frame)
        wanted = read[IPv6].payload.cksum
        del read[IPv6].payload.cksum
        assert Ether(read.build())[IPv6].payload.cksum == wanted


def test_the_filter_can_be_for_some_only() -> None:
    for size in (1, 3, 500):
        chosen = [Mac(f"02:00:00:02:{number >> 8:02x}:{number & 255:02x}") for number in range(size)]
        program = discovery.discovery_filter([chosen[0]] if size > 1 else [], chosen)
        for frame in VALID:
            assert not run_filter(program, frame)
            assert bool(run_filter(program, frame[:6] + octets_of(chosen[0]) + frame[12:])) == (size == 1)
            assert run_filter(program, frame[:6] + octets_of(chosen[-1]) + frame[12:])
