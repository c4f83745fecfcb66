"""Whatever FRR shows as its configuration, reading it ends with an answer."""

from __future__ import annotations

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from roamroute_frr.running import read_running

VOCABULARY = """
router ospf6 ospf bgp 65000 babel vrf redistribute kernel static ipv6 ip route-map m permit deny 10 20 x exit match
address prefix-list access-list p seq 5 any ge le 64 128 999 fd44::/16 fd44::1/16 10.0.0.0/8 10.0.0.0 interface wlan0
tag metric on-match call neighbor out address-family unicast exit-address-family exact-match ! %
"""
WORDS = st.sampled_from(VOCABULARY.split())
LINES = st.lists(st.builds(lambda words, indent: indent + " ".join(words), st.lists(WORDS), st.sampled_from(["", " "])))


@given(lines=LINES)
def test_every_configuration_is_read_and_decides(lines: list[str]) -> None:
    running = read_running("\n".join(lines))
    for name in (*running.route_maps, "m"):
        for route in (ip_network("fd44:0:0:1::2/128"), ip_network("10.44.0.2/32")):
            assert running.decide(name, route, "wlan0").passes in (True, False, None)


@given(text=st.text())
def test_every_text_is_read(text: str) -> None:
    read_running(text)
