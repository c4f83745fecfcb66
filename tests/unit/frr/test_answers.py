"""What FRR's outputs mean, from recorded conversations with both generations."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from frr_transcripts import INJECT, KERNEL, VERSIONS, answered
from roamroute_frr import answers
from roamroute_frr.answers import BgpWays, RibEntry, Static
from roamroute_frr.confirmation import TAG

from roamroute.errors import MalformedInput

every_version = pytest.mark.parametrize("version", VERSIONS)
HOST6, HOST4 = "fd44:0:0:1::a", "10.44.0.12"
WLAN = frozenset({"wlan0"})


def said(version: str, scene: str, line: str, *, nth: int = 0) -> Any:
    return json.loads(answered(version, scene, line, nth=nth))


@every_version
def test_a_kernel_route_stands_beside_another_router_s_route(version: str) -> None:
    ours, foreign = answers.rib_entries(said(version, KERNEL, f"show ipv6 route {HOST6}/128 json"))
    assert ours == RibEntry("kernel", is_selected=True, is_installed=True, links=WLAN)
    assert foreign.protocol == "ospf6"
    assert not foreign.is_selected
    assert foreign.via.startswith("fe80::")
    assert foreign.links == frozenset()


@every_version
def test_what_is_left_when_ours_is_gone_is_the_other_router_s(version: str) -> None:
    (entry,) = answers.rib_entries(said(version, KERNEL, f"show ipv6 route {HOST6}/128 json", nth=1))
    assert entry.protocol == "ospf6"


@every_version
def test_an_ipv4_host_is_read_as_well(version: str) -> None:
    (entry,) = answers.rib_entries(said(version, KERNEL, f"show ip route {HOST4}/32 json"))
    assert entry == RibEntry("kernel", is_selected=True, is_installed=True, links=WLAN)


@every_version
def test_an_unknown_host_has_no_ways(version: str) -> None:
    assert answers.rib_entries(said(version, KERNEL, "show ipv6 route fd44:0:0:1::b/128 json")) == ()


@every_version
def test_a_whole_table_is_read_prefix_by_prefix(version: str) -> None:
    table = dict(answers.rib(said(version, INJECT, "show ipv6 route static json")))
    assert table[ip_network("fd44:0:0:1::c")].tag == 7
    assert table[ip_network(HOST6)] == RibEntry("static", is_selected=True, is_installed=True, links=WLAN, tag=TAG)


@every_version
def test_an_external_lsa_of_ospfv3_names_its_prefix(version: str) -> None:
    line = "show ipv6 ospf6 database as-external 0.0.0.1 self-originated json"
    assert answers.external6(said(version, KERNEL, line)) == ip_network(HOST6)


@every_version
def test_an_lsa_that_is_being_withdrawn_announces_nothing(version: str) -> None:
    line = "show ipv6 ospf6 database as-external 0.0.0.1 self-originated json"
    assert answers.external6(said(version, KERNEL, line, nth=1)) is None


@every_version
def test_an_identifier_without_an_lsa_announces_nothing(version: str) -> None:
    line = "show ipv6 ospf6 database as-external 0.0.0.9 self-originated json"
    assert answers.external6(said(version, KERNEL, line)) is None


@every_version
def test_what_ospf6d_redistributes_comes_with_its_numbers(version: str) -> None:
    assert answers.redistributed6(said(version, KERNEL, "show ipv6 ospf6 redistribute json")) == {ip_network(HOST6): 1}


@every_version
@pytest.mark.parametrize("which", [f"{HOST4} ", ""])
def test_an_external_lsa_of_ospfv2_names_its_prefix(version: str, which: str) -> None:
    line = f"show ip ospf database external {which}self-originate json"
    assert answers.external4(said(version, KERNEL, line)) == {ip_network(HOST4)}


@every_version
def test_ospfd_announces_nothing_for_an_unknown_host(version: str) -> None:
    assert (
        answers.external4(said(version, KERNEL, "show ip ospf database external 10.44.0.99 self-originate json"))
        == set()
    )


@every_version
def test_bgp_tells_to_how_many_it_announces_a_route_of_ours(version: str) -> None:
    ways = answers.bgp_ways(said(version, INJECT, f"show bgp ipv4 unicast {HOST4}/32 json"))
    assert ways == BgpWays(is_ours=True, announced_to=1, others=())


@every_version
def test_bgp_tells_who_else_announces_it(version: str) -> None:
    ways = answers.bgp_ways(said(version, INJECT, f"show bgp ipv6 unicast {HOST6}/128 json"))
    assert ways == BgpWays(is_ours=True, announced_to=1, others=("fd44:0:0:a::2",))


@every_version
def test_bgp_without_a_session_announces_to_nobody(version: str) -> None:
    ways = answers.bgp_ways(said(version, INJECT, f"show bgp ipv6 unicast {HOST6}/128 json", nth=1))
    assert ways == BgpWays(is_ours=True, announced_to=0, others=())


@every_version
@pytest.mark.parametrize("scene", [KERNEL, INJECT])
def test_bgp_knows_nothing_of_an_unknown_host_or_without_configuration(version: str, scene: str) -> None:
    host = HOST6 if scene == KERNEL else "fd44:0:0:1::b"
    assert answers.bgp_ways(said(version, scene, f"show bgp ipv6 unicast {host}/128 json")) == BgpWays()


@every_version
def test_bgp_s_whole_table_gives_what_we_originate(version: str) -> None:
    originated = answers.bgp_originated(said(version, INJECT, "show bgp ipv6 unicast json"))
    assert originated == {ip_network(HOST6), ip_network("fd44:0:0:1::c")}


@every_version
def test_bgp_s_sessions_are_counted(version: str) -> None:
    assert answers.bgp_established(said(version, INJECT, "show bgp ipv6 unicast summary json")) == 1


@every_version
def test_static_host_routes_with_their_links_and_tags(version: str) -> None:
    assert set(answers.statics(answered(version, INJECT, "show running-config"))) == {
        Static(ip_network(HOST6), "wlan0", TAG),
        Static(ip_network(HOST4), "wlan0", TAG),
        Static(ip_network("fd44:0:0:1::c"), "wlan0", 7),
    }


@every_version
@pytest.mark.parametrize(
    ("scene", "daemon", "found"),
    [
        (KERNEL, "ospf6d", {("ospf6", 6, "kernel")}),
        (KERNEL, "ospfd", {("ospf", 4, "kernel")}),
        (KERNEL, "bgpd", set()),
        (INJECT, "bgpd", {("bgp", 6, "static"), ("bgp", 4, "static")}),
    ],
)
def test_who_announces_what_is_read_from_the_configuration(
    version: str, scene: str, daemon: str, found: set[tuple[str, int, str]]
) -> None:
    assert answers.redistributions(answered(version, scene, f"show running-config {daemon}")) == found


def test_other_vrfs_announce_nothing_for_us() -> None:
    text = "router ospf6 vrf blue\n redistribute kernel\nexit\nrouter bgp 1 vrf blue\n redistribute kernel\n"
    assert answers.redistributions(text) == frozenset()


def test_bgp_without_an_address_family_announces_nothing_that_could_be_told() -> None:
    text = "router bgp 1\n redistribute kernel\n address-family ipv6 multicast\n  redistribute kernel\n"
    assert answers.redistributions(text) == frozenset()


@every_version
def test_version_and_daemons(version: str) -> None:
    assert answers.version(answered(version, KERNEL, "show version")) == version
    assert answers.daemons(answered(version, KERNEL, "show daemons")) >= {"zebra", "ospfd", "ospf6d", "bgpd", "staticd"}


def test_something_else_has_no_version() -> None:
    assert answers.version("Quagga 1.2") == ""


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"fd44::1/128": {}},
        {"fd44::1/129": [{}]},
        {"fd44::1/128": [{"tag": -1}]},
        {"fd44::1/128": [{"nexthops": 7}]},
        {"fd44::1/128": [{"protocol": None}]},
    ],
)
def test_a_table_of_another_shape_is_malformed(answer: Any) -> None:
    with pytest.raises(MalformedInput):
        answers.rib_entries(answer)


def test_only_host_routes_have_a_host() -> None:
    assert answers.host_of(ip_network(HOST6)) == ip_address(HOST6)
    assert answers.host_of(ip_network("fd44::/64")) is None
