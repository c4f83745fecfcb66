"""Router Advertisements: RFC 4861 §4.2, 8106, 8781. What we build is read back by scapy, and by ourselves."""

from __future__ import annotations

import contextlib
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6NDOptDNSSL,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPREF64,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Padding

from roamroute.errors import MalformedInput
from roamroute.values import AdvertisedPrefix, AdvertisedRouter, Mac
from roamroute.wire import discovery, icmpv6
from roamroute.wire.router_advertisements import (
    MAX_LIFETIME_S,
    MAX_PREF64_LIFETIME_S,
    HeardPrefix,
    HeardRouter,
    router_advertisement,
)

from .discovery_frames import ALL_NODES, AP, LINK_LOCAL, RA_FIXED, STATION, ipv6, ipv6_unicast, macs, prefixes, spoiled
from .test_frames import run_filter

PREFIX = AdvertisedPrefix(IPv6Network("fd44:0:0:1::/64"), 86400, 14400)
ROUTER = AdvertisedRouter(IPv6Address("fe80::1"), 1800, (PREFIX,))
FULL = attrs.evolve(
    ROUTER,
    mtu_bytes=1400,
    retrans_timer_ms=1500,
    reachable_time_ms=30000,
    rdnss=(IPv6Address("fd44::53"), IPv6Address("fd44::54")),
    dnssl=("example.org", "mesh.example"),
    rdnss_lifetime_s=5400,
    pref64=IPv6Network("64:ff9b::/96"),
    pref64_lifetime_s=5400,
)

seconds = st.integers(0, 0xFFFFFFFF)
labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
names = st.lists(labels, min_size=1, max_size=3).map(".".join)
nat64_prefixes = st.builds(
    lambda number, length: IPv6Network((number, length), strict=False),
    st.integers(0, (1 << 128) - 1),
    st.sampled_from([32, 40, 48, 56, 64, 96]),
)
routers = st.builds(
    AdvertisedRouter,
    source=st.integers(0xFE80 << 112, (0xFE80 << 112) + (1 << 64) - 1).map(IPv6Address),
    lifetime_s=st.integers(0, MAX_LIFETIME_S),
    prefixes=st.lists(st.builds(AdvertisedPrefix, prefixes, seconds, seconds), max_size=4).map(tuple),
    hop_limit=st.integers(0, 255),
    reachable_time_ms=seconds,
    retrans_timer_ms=seconds,
    mtu_bytes=st.one_of(st.none(), st.integers(1280, 65535)),
    rdnss=st.lists(ipv6_unicast, max_size=3).map(tuple),
    dnssl=st.lists(names, max_size=3).map(tuple),
    rdnss_lifetime_s=seconds,
    pref64=st.one_of(st.none(), nat64_prefixes),
    pref64_lifetime_s=st.integers(0, MAX_PREF64_LIFETIME_S),
)


@given(macs, st.one_of(st.none(), macs), routers)
def test_an_advertisement_as_scapy_reads_it(source: Mac, station: Mac | None, router: AdvertisedRouter) -> None:
    frame = router_advertisement(source, station, router)
    read = Ether(frame)
    assert (read.src, read.dst) == (source, station or "33:33:00:00:00:01")
    assert Padding not in read
    packet = read[IPv6]
    assert (packet.version, packet.tc, packet.fl, packet.hlim) == (6, 0, 0, 255)
    assert (IPv6Address(packet.src), packet.dst, packet.plen) == (router.source, "ff02::1", len(frame) - 54)
    message = read[ICMPv6ND_RA]
    assert (message.code, message.chlim, message.M, message.O, message.H, message.P) == (
        0,
        router.hop_limit,
        0,
        0,
        0,
        0,
    )
    assert (message.prf, message.res, message.routerlifetime) == (0, 0, router.lifetime_s)
    assert (message.reachabletime, message.retranstimer) == (router.reachable_time_ms, router.retrans_timer_ms)
    option = message.payload
    assert isinstance(option, ICMPv6NDOptSrcLLAddr)
    assert (option.len, option.lladdr) == (1, source)
    for wanted in router.prefixes:
        option = option.payload
        assert isinstance(option, ICMPv6NDOptPrefixInfo)
        assert (option.len, option.L, option.A, option.R, option.res1, option.res2) == (4, 0, 1, 0, 0, 0)
        assert IPv6Network((option.prefix, option.prefixlen)) == wanted.prefix
        assert (option.validlifetime, option.preferredlifetime) == (
            wanted.valid_lifetime_s,
            wanted.preferred_lifetime_s,
        )
    if router.mtu_bytes is not None:
        option = option.payload
        assert isinstance(option, ICMPv6NDOptMTU)
        assert (option.len, option.res, option.mtu) == (1, 0, router.mtu_bytes)
    if router.rdnss:
        option = option.payload
        assert isinstance(option, ICMPv6NDOptRDNSS)
        assert (option.len, option.res, option.lifetime) == (1 + 2 * len(router.rdnss), 0, router.rdnss_lifetime_s)
        assert tuple(map(IPv6Address, option.dns)) == router.rdnss
    if router.dnssl:
        option = option.payload
        assert isinstance(option, ICMPv6NDOptDNSSL)
        assert (option.res, option.lifetime) == (0, router.rdnss_lifetime_s)
        assert [name.rstrip(".") for name in option.searchlist if name != "."] == list(router.dnssl)
    if router.pref64 is not None:
        option = option.payload
        assert isinstance(option, ICMPv6NDOptPREF64)
        assert (option.len, option.plc) == (2, (96, 64, 56, 48, 40, 32).index(router.pref64.prefixlen))
        assert option.scaledlifetime == -(-router.pref64_lifetime_s // 8)
        assert IPv6Address(option.prefix).packed[:12] == router.pref64.network_address.packed[:12]
    assert not option.payload
    sent = message.cksum
    del read[ICMPv6ND_RA].cksum
    assert Ether(read.build())[ICMPv6ND_RA].cksum == sent


@given(macs, routers)
def test_what_we_say_is_what_we_hear(source: Mac, router: AdvertisedRouter) -> None:
    heard = discovery.parse(router_advertisement(source, None, router))
    lifetime = router.pref64_lifetime_s
    assert heard == HeardRouter(
        mac=source,
        source=router.source,
        lifetime_s=router.lifetime_s,
        hop_limit=router.hop_limit,
        reachable_time_ms=router.reachable_time_ms,
        retrans_timer_ms=router.retrans_timer_ms,
        prefixes=tuple(
            HeardPrefix(each.prefix, False, True, each.valid_lifetime_s, each.preferred_lifetime_s)
            for each in router.prefixes
        ),
        mtu_bytes=router.mtu_bytes,
        rdnss=router.rdnss,
        rdnss_lifetime_s=router.rdnss_lifetime_s if router.rdnss else None,
        dnssl=router.dnssl,
        dnssl_lifetime_s=router.rdnss_lifetime_s if router.dnssl else None,
        pref64=router.pref64,
        pref64_lifetime_s=None if router.pref64 is None else lifetime + -lifetime % 8,
    )


def test_one_station_and_the_last_word() -> None:
    frame = router_advertisement(AP, STATION, attrs.evolve(FULL, lifetime_s=0), destination=LINK_LOCAL)
    read = Ether(frame)
    assert (read.dst, read[IPv6].dst, read[ICMPv6ND_RA].routerlifetime) == (STATION, "fe80::7", 0)


@given(routers)
def test_the_filter_lets_it_pass(router: AdvertisedRouter) -> None:
    assert run_filter(discovery.discovery_filter(), router_advertisement(AP, None, router))


@pytest.mark.parametrize(
    "change",
    [
        {"lifetime_s": MAX_LIFETIME_S + 1},
        {"lifetime_s": -1},
        {"hop_limit": 256},
        {"retrans_timer_ms": 1 << 32},
        {"reachable_time_ms": -1},
        {"mtu_bytes": 1 << 32},
        {"pref64": IPv6Network("64:ff9b::/80")},
        {"pref64_lifetime_s": MAX_PREF64_LIFETIME_S + 1},
        {"dnssl": ("a" * 64,)},
        {"dnssl": ("",)},
        {"dnssl": ("a..b",)},
        {"dnssl": ("bücher.example",)},
        {"prefixes": (attrs.evolve(PREFIX, valid_lifetime_s=1 << 32),)},
        {"prefixes": (PREFIX,) * 40},  # 1280 octets are a packet
        {"rdnss": (LINK_LOCAL,) * 127},
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object]) -> None:
    fields: dict[str, Any] = attrs.asdict(FULL, recurse=False) | change
    with pytest.raises(ValueError):
        router_advertisement(AP, None, AdvertisedRouter(**fields))


def options_of(*options: bytes) -> HeardRouter:
    heard = discovery.parse(ipv6(LINK_LOCAL, ALL_NODES, RA_FIXED + b"".join(options)))
    assert isinstance(heard, HeardRouter)
    return heard


@pytest.mark.parametrize(
    ("why", "option"),
    [
        ("RFC 4861 §4.6 not known", bytes([200, 1, *bytes(6)])),
        ("RFC 4861 §4.6.2 length", bytes([3, 3, 64, 0xC0, *bytes(20)])),
        ("RFC 4861 §4.6.2 prefix length", bytes([3, 4, 129, 0xC0, *bytes(28)])),
        ("RFC 4861 §4.6.4 length", bytes([5, 2, *bytes(14)])),
        ("RFC 8106 §5.3.1 length", bytes([25, 2, *bytes(14)])),
        ("RFC 8106 §5.3.1 length", bytes([25, 1, *bytes(6)])),
        ("RFC 8106 §5.3.1 length", bytes([31, 1, *bytes(6)])),
        ("RFC 8781 §4 length", bytes([38, 3, *bytes(22)])),
        ("RFC 8781 §4 length code", bytes([38, 2, 0, 6, *bytes(12)])),
        ("RFC 8781 §4 length code", bytes([38, 2, 0, 7, *bytes(12)])),
    ],
)
def test_an_option_that_is_to_be_ignored(why: str, option: bytes) -> None:
    assert options_of(option) == options_of()


def test_a_name_that_is_cut_short_spoils_its_option() -> None:
    assert options_of(bytes([31, 2, 0, 0, 0, 0, 0, 9]) + b"\x01a\x00\x07bcde").dnssl == ()
    assert options_of(bytes([31, 2, 0, 0, 0, 0, 0, 9]) + b"\x01a\x01b\x01c\x01d").dnssl == ()
    assert options_of(bytes([31, 2, 0, 0, 0, 0, 0, 9]) + b"\xc0\x01a\x00\x00\x00\x00\x00").dnssl == ()


def test_a_name_cannot_write_on_a_terminal() -> None:
    assert options_of(bytes([31, 2, 0, 0, 0, 0, 0, 9]) + b"\x03\x1b[A\x00\x00\x00\x00").dnssl == ("\\x1b[A",)


def test_flags_preference_and_the_bits_behind_a_prefix() -> None:
    flags = RA_FIXED[:5] + bytes([0x80 | 0x40 | 0b01 << 3]) + RA_FIXED[6:]
    prefix = bytes([3, 4, 64, 0xC0, *bytes(3), 9, *bytes(3), 8, *bytes(4)]) + IPv6Address("fd44::1").packed
    heard = discovery.parse(ipv6(LINK_LOCAL, ALL_NODES, flags + prefix))
    assert isinstance(heard, HeardRouter)
    assert (heard.is_managed, heard.is_other, heard.preference) == (True, True, "high")
    assert heard.prefixes == (HeardPrefix(IPv6Network("fd44::/64"), True, True, 9, 8),)


payloads = st.integers(0, 7).flatmap(lambda size: st.binary(min_size=8 * size + 6, max_size=8 * size + 6))


@given(st.lists(st.tuples(st.sampled_from([1, 3, 5, 25, 31, 38]), payloads), max_size=5))
def test_any_option_gives_a_value(options: list[tuple[int, bytes]]) -> None:
    options_of(*(icmpv6.option(kind, payload) for kind, payload in options))


@given(spoiled(routers.map(lambda router: router_advertisement(AP, None, router))))
def test_a_spoiled_advertisement_gives_a_value_or_one_error(frame: bytes) -> None:
    with contextlib.suppress(MalformedInput):
        discovery.parse(frame)


@given(spoiled(routers.map(lambda router: router_advertisement(AP, None, router)[70:])))
def test_spoiled_options_behind_a_right_checksum_give_a_value_or_one_error(options: bytes) -> None:
    with contextlib.suppress(MalformedInput):
        discovery.parse(ipv6(LINK_LOCAL, ALL_NODES, RA_FIXED + options))
