"""The policy rules that are wanted, and what is left alone."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_network

import pytest

from roamroute.linux.forward_rules import STAND_IN, wanted_rules
from roamroute.segments import segment_prefix, segments_of
from roamroute.values import Segments
from roamroute.wire import netlink, rules
from roamroute.wire.rules import Rule

PREFIXES = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
ME = IPv6Address("fd44:a::1")
SEGMENTS = segments_of(ME, PREFIXES)


def wanted(interfaces: tuple[str, ...], senders: list[IPv6Address] | None = None) -> list[Rule]:
    ours = SEGMENTS if interfaces else Segments()
    return wanted_rules(PREFIXES, interfaces, ME, ours, tables=4544, priority=100, protocol=144, senders=senders)


@pytest.mark.parametrize("interfaces", [(), ("wlan0",), ("wlan0", "wlan1")])
def test_all_rules_bear_our_number_and_lie_in_five_priorities(interfaces: tuple[str, ...]) -> None:
    found = wanted(interfaces)
    assert {rule.protocol for rule in found} == {144}
    assert {rule.priority for rule in found} <= set(range(100, 105))
    assert len(set(found)) == len(found)


def test_a_client_s_packet_to_any_segment_is_prohibited_on_each_client_link() -> None:
    prohibiting = [rule for rule in wanted(("wlan0", "wlan1")) if rule.action == rules.FR_ACT_PROHIBIT]
    assert [rule.incoming for rule in prohibiting] == ["wlan0", "wlan1"]
    assert {rule.to for rule in prohibiting} == {segment_prefix(PREFIXES)}
    assert {rule.source for rule in prohibiting} == {None}


def test_what_we_have_encapsulated_passes_that_and_goes_on_behind_it() -> None:
    (passing,) = [rule for rule in wanted(("wlan0",)) if rule.action == rules.FR_ACT_GOTO]
    assert (passing.source, passing.incoming, passing.target) == (ip_network(ME), "wlan0", 102)
    assert passing.priority < 101 < 102


def test_nothing_that_is_for_our_segments_gets_to_another_table() -> None:
    """Looked up in the table of segments; what is not there is unreachable."""
    for segment in (SEGMENTS.ipv6, SEGMENTS.ipv4):
        assert segment is not None
        looked_up, refused = [rule for rule in wanted(("wlan0",)) if rule.to == ip_network(segment)]
        assert (looked_up.action, looked_up.table) == (rules.FR_ACT_TO_TBL, 4546)
        assert refused.action == rules.FR_ACT_UNREACHABLE
        assert looked_up.priority < refused.priority


def test_decapsulated_ipv4_is_looked_up_in_the_delivery_table_only() -> None:
    looked_up, refused = [rule for rule in wanted(("wlan0",)) if rule.to == ip_network(STAND_IN)]
    assert (looked_up.family, looked_up.table) == (netlink.AF_INET, 4545)
    assert refused.action == rules.FR_ACT_UNREACHABLE


def test_a_router_without_client_links_only_looks_for_whom_it_sends_on() -> None:
    assert [(rule.to, rule.table) for rule in wanted(())] == [(prefix, 4544) for prefix in PREFIXES]


def test_without_routes_by_source_each_sender_has_a_rule() -> None:
    senders = [IPv6Address("fd44:a::2"), IPv6Address("fd44:a::3")]
    looked_up = [rule for rule in wanted(("wlan0",), senders) if rule.table == 4546]
    assert {rule.source for rule in looked_up} == {ip_network(sender) for sender in senders}
    assert len(looked_up) == 4
    assert not [rule for rule in wanted(("wlan0",), []) if rule.table == 4546]
