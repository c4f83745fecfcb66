"""`roamroute config bird` against golden files; the real BIRDs take them in tests/integration/test_bird_config.py."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import attrs
import pytest
from roamroute_bird.config import REFLECTOR, fragment
from roamroute_bird.settings import MODES, ROUTINGS, Settings

from roamroute.export import ExporterContext, KernelNumbers
from roamroute.values import AdvertisedPrefix, AdvertisedRouter

DATA = Path(__file__).parents[2] / "data" / "bird"
CONTEXT = ExporterContext(
    interfaces=("wlan0",),
    prefixes=(IPv6Network("fd44:0:0:1::/64"), IPv4Network("10.44.0.0/24")),
    kernel=KernelNumbers(),
    emit=lambda event: None,
    log=lambda level, line: None,
)
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
IN_A_TABLE_OF_ITS_OWN = attrs.evolve(CONTEXT, kernel=KernelNumbers(table=1000))
IPV6_ONLY = attrs.evolve(CONTEXT, prefixes=CONTEXT.prefixes[:1], interfaces=("wlan0", "wlan1"))
PRINTED: dict[str, tuple[Settings, ExporterContext]] = {
    f"{routing}-{mode}": (Settings(routing=routing, mode=mode), CONTEXT) for routing in ROUTINGS for mode in MODES
} | {
    "all-kernel": (Settings(), CONTEXT),
    "all-inject": (Settings(mode="inject"), CONTEXT),
    "babel-kernel-table": (Settings(routing="babel"), IN_A_TABLE_OF_ITS_OWN),
    "ospf-kernel-ipv6": (Settings(routing="ospf"), IPV6_ONLY),
    "babel-kernel-ra": (Settings(routing="babel"), attrs.evolve(IPV6_ONLY, router=ROUTER)),
}
"""Every printed configuration, by the name of its golden file: config-NAME.conf."""


@pytest.mark.parametrize("name", PRINTED)
def test_the_configuration_is_the_golden_one(name: str) -> None:
    golden = DATA / f"config-{name}.conf"
    text = fragment(*PRINTED[name])
    assert text == golden.read_text(encoding="utf-8"), f"if this is meant: write it to {golden}"


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in DATA.glob("config-*")} == {f"config-{name}.conf" for name in PRINTED}


@pytest.mark.parametrize("name", PRINTED)
def test_lines_are_short_enough_for_a_terminal(name: str) -> None:
    assert max(len(line) for line in fragment(*PRINTED[name]).splitlines()) <= 120


def test_host_routes_are_taken_inside_the_prefixes_only() -> None:
    text = fragment(Settings(routing="babel"), CONTEXT)
    assert "[ fd44:0:0:1::/64{128,128} ]" in text
    assert "[ 10.44.0.0/24{32,32} ]" in text


def test_in_mode_inject_nothing_is_learnt_from_the_kernel() -> None:
    assert "learn" not in fragment(Settings(routing="babel", mode="inject"), CONTEXT)


def test_the_client_links_carry_no_routing_protocol() -> None:
    for routing in ROUTINGS:
        assert 'interface -"wlan0", "*"' in fragment(Settings(routing=routing), CONTEXT)


def test_without_a_routing_protocol_all_are_there_and_none_is_on() -> None:
    lines = fragment(Settings(), CONTEXT).splitlines()
    assert [line for line in lines if line.startswith(("protocol babel", "protocol ospf", "protocol bgp"))] == []
    for routing in ("babel", "ospf v3", "ospf v2", "bgp"):
        assert any(line.startswith(f"# protocol {routing}") for line in lines), routing


@pytest.mark.parametrize("mode", MODES)
def test_the_kernel_is_scanned_every_second(mode: str) -> None:
    assert "scan time 1;" in fragment(Settings(routing="ospf", mode=mode), CONTEXT)


def test_the_operator_is_told_which_address_to_replace() -> None:
    text = fragment(Settings(routing="ibgp"), CONTEXT)
    assert f"REPLACE {REFLECTOR}" in text


def test_router_advertisements_are_there_only_where_bird_sends_them() -> None:
    assert "radv" not in fragment(Settings(routing="babel"), IPV6_ONLY)


def test_what_the_advertisements_need_not_say_is_left_to_bird() -> None:
    plain = attrs.evolve(ROUTER, mtu_bytes=None, rdnss=(), dnssl=(), pref64=None)
    text = fragment(Settings(routing="babel"), attrs.evolve(CONTEXT, router=plain))
    assert not [word for word in ("link mtu", "rdnss", "dnssl", "custom option") if word in text]


@pytest.mark.parametrize(
    ("prefix", "value"),
    [
        ("64:ff9b::/96", "15:18:00:64:ff:9b:00:00:00:00:00:00:00:00"),
        ("2001:db8:64::/64", "15:19:20:01:0d:b8:00:64:00:00:00:00:00:00"),
        ("2001:db8::/32", "15:1d:20:01:0d:b8:00:00:00:00:00:00:00:00"),
    ],
)
def test_pref64_is_written_as_rfc_8781_has_it(prefix: str, value: str) -> None:
    router = attrs.evolve(ROUTER, pref64=IPv6Network(prefix))
    assert f"hex:{value};" in fragment(Settings(routing="babel"), attrs.evolve(CONTEXT, router=router))
