"""Rules, routes with encapsulation, and the packet filter: what others read in our messages, and any bytes at all."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from roamroute.errors import MalformedInput
from roamroute.wire import generic, netlink, packet_rules, rules, segment_routes
from roamroute.wire.rules import Rule
from roamroute.wire.segment_routes import Counters, Mode

HOST, HOST4 = ip_address("fd44:0:0:1::77"), ip_address("10.44.0.77")
SEGMENT = IPv6Address("fd44:0:0:1:726f:616d:1234:2")
PEER = IPv6Address("fd44:a::1")
ROAMING, ROAMING4 = ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16")


def whole(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def message(body: bytes) -> netlink.Message:
    (found,) = netlink.split(netlink.encode(24, 0, 1, body))
    return found


@pytest.mark.parametrize("address", [HOST, HOST4])
@pytest.mark.parametrize("mode", list(Mode))
def test_pyroute2_reads_our_forward(address: IPv4Address | IPv6Address, mode: Mode) -> None:
    body = segment_routes.forward_body(
        address, SEGMENT, 7, table=4544, protocol=144, metric=8, mode=mode, expires_s=360
    )
    read = rtmsg(whole(netlink.RTM_NEWROUTE, body))
    read.decode()
    assert ip_address(read.get_attr("RTA_DST")) == address
    assert read["dst_len"] == address.max_prefixlen
    assert (read.get_attr("RTA_TABLE"), read["proto"], read.get_attr("RTA_OIF")) == (4544, 144, 7)
    assert read.get_attr("RTA_ENCAP_TYPE") == 5  # LWTUNNEL_ENCAP_SEG6
    # linux/seg6_iptunnel.h: the mode, then the header of RFC 8754 §2
    (header,) = [value for name, value in read.get_attr("RTA_ENCAP")["attrs"] if name == "SEG6_IPTUNNEL_SRH"]
    assert header["encapmode"] == mode
    assert header["segs"] == [str(SEGMENT)]
    assert (header["hdrlen"], header["segments_left"], header["first_segment"]) == (2, 0, 0)
    expires = [value for name, value in read["attrs"] if name == "RTA_EXPIRES"]
    assert bool(expires) is (address.version == 6)


def test_pyroute2_reads_our_segments() -> None:
    for action, name in (
        (segment_routes.decapsulate6_action(4545), "End.DT6"),
        (segment_routes.decapsulate4_action(IPv4Address("192.0.0.8")), "End.DX4"),
    ):
        body = segment_routes.segment_body(SEGMENT, PEER, 7, action, table=4546, protocol=144, metric=8)
        read = rtmsg(whole(netlink.RTM_NEWROUTE, body))
        read.decode()
        assert ip_address(read.get_attr("RTA_DST")) == SEGMENT
        assert (ip_address(read.get_attr("RTA_SRC")), read["src_len"]) == (PEER, 128)
        assert read.get_attr("RTA_ENCAP_TYPE") == 7  # LWTUNNEL_ENCAP_SEG6_LOCAL
        attributes = dict(read.get_attr("RTA_ENCAP")["attrs"])
        assert attributes["SEG6_LOCAL_ACTION"] == {"End.DT6": 7, "End.DX4": 6}[name]
        assert attributes.get("SEG6_LOCAL_TABLE", 4545) == 4545
        assert attributes.get("SEG6_LOCAL_NH4", "192.0.0.8") == "192.0.0.8"


def test_what_we_write_of_routes_we_read() -> None:
    body = segment_routes.forward_body(HOST, SEGMENT, 7, table=4544, protocol=144, metric=8)
    entry = segment_routes.decode_segment_route(message(body))
    assert (entry.destination, entry.prefix_length, entry.segment, entry.ifindex) == (HOST, 128, SEGMENT, 7)
    assert (entry.table, entry.protocol, entry.metric, entry.counters) == (4544, 144, 8, None)
    action = segment_routes.decapsulate6_action(4545)
    body = segment_routes.segment_body(SEGMENT, PEER, 7, action, table=100, protocol=144, metric=8)
    entry = segment_routes.decode_segment_route(message(body))
    assert (entry.destination, entry.source, entry.source_length, entry.table) == (SEGMENT, PEER, 128, 100)
    assert (entry.segment, entry.counters) == (None, Counters(0, 0, 0))


def test_counters_are_read() -> None:
    def counter(kind: int, number: int) -> bytes:
        return netlink.attribute(kind, struct.pack("=Q", number))

    counters = netlink.attribute(10, counter(2, 3) + counter(3, 432) + counter(4, 1))
    body = segment_routes.segment_body(SEGMENT, None, 7, counters, table=4546, protocol=144, metric=8)
    assert segment_routes.decode_segment_route(message(body)).counters == Counters(3, 432, 1)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(netlink.AF_INET6, 4548, rules.FR_ACT_TO_TBL, 4544, ROAMING, None, None, None, 144),
        Rule(netlink.AF_INET, 4548, rules.FR_ACT_TO_TBL, 100, ROAMING4, None, None, None, 144),
        Rule(netlink.AF_INET6, 4545, rules.FR_ACT_PROHIBIT, 0, ROAMING, None, "wlan0", None, 144),
        Rule(netlink.AF_INET6, 4544, rules.FR_ACT_GOTO, 0, ROAMING, ip_network(PEER), "wlan0", 4546, 144),
    ],
)
def test_pyroute2_and_we_read_our_rules_alike(rule: Rule) -> None:
    body = rules.rule_body(rule)
    assert rules.decode_rule(message(body)) == rule
    read = fibmsg(whole(rules.RTM_NEWRULE, body))
    read.decode()
    assert (read["family"], read["action"], read.get_attr("FRA_PRIORITY")) == (rule.family, rule.action, rule.priority)
    assert rule.to is not None
    assert (ip_address(read.get_attr("FRA_DST")), read["dst_len"]) == (rule.to.network_address, rule.to.prefixlen)
    assert read.get_attr("FRA_TABLE") == (rule.table or None)
    assert read.get_attr("FRA_GOTO") == rule.target
    assert read.get_attr("FRA_IIFNAME") == rule.incoming
    assert read.get_attr("FRA_PROTOCOL") == 144
    assert read["src_len"] == (128 if rule.source is not None else 0)


def test_the_answer_about_the_source_is_read() -> None:
    body = segment_routes.source_change(PEER)
    assert segment_routes.decode_source(message(body)) == PEER
    with pytest.raises(MalformedInput):
        segment_routes.decode_source(message(segment_routes.source_request()))


def test_a_batch_for_the_packet_filter_begins_and_ends() -> None:
    bodies = packet_rules.batch(
        packet_rules.replace_filter(("wlan0", "wlan1"), IPv6Network("fd44:0:0:1:726f:616d::/96"))
    )
    kinds = [kind for kind, _, _ in bodies]
    assert (kinds[0], kinds[-1]) == (packet_rules.BATCH_BEGIN, packet_rules.BATCH_END)
    assert kinds.count(0x0A06) == 2  # a rule for each interface
    assert sum(SEGMENT.packed[:12] in body for _, _, body in bodies) == 2


@given(st.binary(max_size=200))
def test_any_bytes_give_values_or_malformed_input(payload: bytes) -> None:
    for decode in (
        *(rules.decode_rule, segment_routes.decode_segment_route, segment_routes.decode_source),
        *(packet_rules.decode_rule_count, generic.decode_family),
    ):
        with contextlib.suppress(MalformedInput):
            decode(message(payload))


@given(st.binary(max_size=120), st.sampled_from([netlink.AF_INET, netlink.AF_INET6]), st.integers(0, 255))
def test_any_encapsulation_gives_values_or_malformed_input(payload: bytes, family: int, length: int) -> None:
    header = struct.pack("=BBBBBBBBI", family, length, 0, 0, 252, 144, 0, 1, 0)
    for kind in (5, 7):
        body = header + netlink.attribute(22, payload) + netlink.attribute(21, struct.pack("=H", kind))
        with contextlib.suppress(MalformedInput):
            segment_routes.decode_segment_route(message(body))
