"""What `roamroute config frr` prints, against files that tests/integration/test_frr_config.py shows to real FRRs."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import attrs
import pytest
from roamroute_frr.config import fragment
from roamroute_frr.settings import parse

from roamroute.export import ExporterContext, KernelNumbers
from roamroute.values import AdvertisedPrefix, AdvertisedRouter

DATA = Path(__file__).parents[2] / "data" / "frr"
BOTH = (IPv6Network("fd44:0:0:1::/64"), IPv4Network("10.44.0.0/24"))
CONTEXT = ExporterContext(("wlan0",), BOTH, KernelNumbers(), lambda event: None, lambda *line: None)
SITE = {"mesh": ["mesh0", "mesh1"], "reflectors": ["fd44:0:0:a::200", "10.44.200.200"], "as_number": 64512}
ROUTER = AdvertisedRouter(
    source=IPv6Address("fe80::1"),
    lifetime_s=9000,
    prefixes=(AdvertisedPrefix(IPv6Network("fd44:0:0:1::/64"), 86400, 14400),),
    retrans_timer_ms=1000,
    mtu_bytes=1460,
    rdnss=(IPv6Address("fd44:0:0:a::53"), IPv6Address("fd44:0:0:a::54")),
    dnssl=("mesh.example.org", "example.org"),
    rdnss_lifetime_s=9000,
    pref64=IPv6Network("64:ff9b::/96"),
    pref64_lifetime_s=5400,
)
CASES: dict[str, tuple[Mapping[str, Any], ExporterContext]] = {
    "nothing-said": ({}, CONTEXT),
    "ospf-kernel": ({"routing": "ospf", **SITE}, CONTEXT),
    "ospf-inject": ({"routing": "ospf", "mode": "inject", **SITE}, CONTEXT),
    "ospf-kernel-ipv6": ({"routing": "ospf", **SITE}, attrs.evolve(CONTEXT, prefixes=BOTH[:1])),
    "ospf-kernel-ra": (
        {"routing": "ospf", **SITE},
        attrs.evolve(CONTEXT, interfaces=("wlan0", "wlan1"), router=ROUTER),
    ),
    "ibgp-kernel": ({"routing": "ibgp", **SITE}, CONTEXT),
    "ibgp-inject": ({"routing": "ibgp", "mode": "inject", **SITE}, CONTEXT),
    "ibgp-kernel-examples": ({"routing": "ibgp"}, CONTEXT),
    "ibgp-kernel-ipv4": ({"routing": "ibgp", **SITE}, attrs.evolve(CONTEXT, prefixes=BOTH[1:])),
}


def printed(case: str) -> str:
    table, context = CASES[case]
    return fragment(parse(table), context)


@pytest.mark.parametrize("case", CASES)
def test_the_printed_configuration_is_the_golden_one(case: str) -> None:
    assert printed(case) == (DATA / f"config-{case}.conf").read_text(encoding="utf-8")


def test_every_golden_file_has_its_case() -> None:
    assert {path.name for path in DATA.glob("config-*.conf")} == {f"config-{case}.conf" for case in CASES}


def test_a_reflector_of_a_family_that_does_not_roam_is_not_configured() -> None:
    assert "fd44:0:0:a::200" not in printed("ibgp-kernel-ipv4")


def test_a_table_that_frr_does_not_read_is_said() -> None:
    numbers = attrs.evolve(CONTEXT, kernel=KernelNumbers(table=100))
    assert "This cannot work: FRR reads table 254 only" in fragment(parse({}), numbers)


def test_router_advertisements_are_there_only_where_frr_sends_them() -> None:
    assert "ipv6 nd" not in printed("ospf-kernel")


def test_what_the_advertisements_need_not_say_is_left_to_frr() -> None:
    plain = attrs.evolve(ROUTER, mtu_bytes=None, rdnss=(), dnssl=(), pref64=None)
    text = fragment(parse({}), attrs.evolve(CONTEXT, router=plain))
    assert not [word for word in ("nd mtu", "rdnss", "dnssl", "PREF64", "reachable-time") if word in text]
