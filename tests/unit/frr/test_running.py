"""What the running configuration decides over host routes: recorded from both generations, and lines by hand."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from roamroute_frr.running import Redistribution, Running, host_routes, read_running

DATA = Path(__file__).parents[2] / "data" / "frr"
every_version = pytest.mark.parametrize("version", ["8.4.4", "10.3"])
HOST6, HOST4 = ip_network("fd44:0:0:1::2/128"), ip_network("10.44.0.2/32")


def recorded(name: str, version: str) -> Running:
    return read_running((DATA / f"running-{name}-{version}.txt").read_text(encoding="utf-8"))


def decided(text: str, *, link: str = "wlan0", tag: int = 0) -> bool | None:
    """What a configuration's route-map "m" says of an IPv6 host route."""
    return read_running(text).decide("m", HOST6, link, tag).passes


@every_version
def test_the_redistributions_of_ospf_are_read(version: str) -> None:
    running = recorded("ospf", version)
    assert running.routers == {"ospf", "ospf6", "babel"}
    assert running.redistribution("ospf6", 6, "kernel") == Redistribution("ospf6", 6, "kernel", "roamroute6")
    assert running.redistribution("ospf", 4, "kernel") == Redistribution("ospf", 4, "kernel", "roamroute4")
    assert running.redistribution("ospf", 4, "static") is None
    assert running.redistribution("babel", 6, "kernel") == Redistribution("babel", 6, "kernel", "")


@every_version
def test_the_redistributions_of_bgp_are_read_by_address_family(version: str) -> None:
    running = recorded("ibgp", version)
    assert running.redistribution("bgp", 6, "kernel") == Redistribution("bgp", 6, "kernel", "roamroute6")
    assert running.redistribution("bgp", 4, "kernel") == Redistribution("bgp", 4, "kernel", "roamroute4")
    assert running.redistribution("ospf6", 6, "kernel") is None


@every_version
def test_what_config_prints_lets_hosts_through_and_nothing_else(version: str) -> None:
    running = recorded("ospf", version)
    assert running.decide("roamroute6", HOST6, "wlan0").passes is True
    assert running.decide("roamroute4", HOST4, "wlan0").passes is True
    for stranger in ("::/0", "fd44:0:0:1::/64", "fd44:0:0:2::2/128"):
        assert running.decide("roamroute6", ip_network(stranger), "wlan0").passes is False
    assert running.decide("roamroute4", HOST6, "wlan0").passes is False


@every_version
def test_a_clause_that_says_more_than_is_known_makes_it_unknown(version: str) -> None:
    running = recorded("ospf", version)
    assert running.decide("odd", ip_network("fd44::/16"), "wlan0").passes is None
    assert running.decide("odd", HOST6, "wlan0").passes is False  # the access list has exact-match, then deny any
    assert running.decide("odd", HOST6, "wlan0", 7).because == "route-map odd deny 5"


def test_a_route_map_that_does_not_exist_denies() -> None:
    assert decided("") is False


def test_the_first_clause_that_matches_decides() -> None:
    assert decided("route-map m permit 20\nexit\nroute-map m deny 10\n match interface wlan0\nexit\n") is False
    assert decided("route-map m permit 20\nexit\nroute-map m deny 10\n match interface eth0\nexit\n") is True


def test_all_matches_of_a_clause_must_hold() -> None:
    text = "route-map m permit 10\n match interface wlan0\n match tag 5\nexit\n"
    assert decided(text, tag=5) is True
    assert decided(text, tag=6) is False


def test_a_match_that_is_not_known_decides_nothing_where_another_fails() -> None:
    assert decided("route-map m permit 10\n match probability 5\n match interface eth0\nexit\n") is False
    assert decided("route-map m permit 10\n match probability 5\nexit\n") is None


def test_a_list_that_does_not_exist_matches_nothing() -> None:
    assert decided("route-map m permit 10\n match ipv6 address prefix-list gone\nexit\n") is False


@pytest.mark.parametrize(
    ("bounds", "passes"), [("ge 128", True), ("le 128", True), ("", False), ("ge 65 le 127", False), ("le 64", False)]
)
def test_a_prefix_list_has_bounds_for_the_length(bounds: str, passes: bool) -> None:
    running = read_running(f"ipv6 prefix-list p seq 5 permit fd44:0:0:1::/64 {bounds}\n")
    assert running.decide_prefix_list("p", HOST6).passes is passes


def test_the_prefix_lists_of_ip_and_ipv6_are_different_ones() -> None:
    running = read_running("ip prefix-list p seq 5 permit any\n")
    assert running.decide_prefix_list("p", HOST4).passes is True
    assert running.decide_prefix_list("p", HOST6).because == "prefix-list p does not exist"


def test_a_line_of_an_access_list_that_is_not_understood_makes_it_unknown() -> None:
    text = "access-list 1 seq 5 permit 10.0.0.0 0.255.255.255\nroute-map m permit 10\n match ip address 1\nexit\n"
    assert read_running(text).decide("m", HOST4, "wlan0").passes is None


def test_the_routers_of_a_vrf_are_not_ours() -> None:
    running = read_running("router ospf6 vrf red\n redistribute kernel\nexit\n")
    assert running.redistributions == []


def test_a_host_route_is_asked_about_for_each_roaming_prefix() -> None:
    prefixes = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/24"), ip_network("192.0.2.1/32"))
    assert list(host_routes(prefixes)) == [HOST6, HOST4, ip_network("192.0.2.1/32")]
