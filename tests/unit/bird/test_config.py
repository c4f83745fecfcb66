"""`roamroute config bird` against golden files; the real BIRDs take them in tests/integration/test_bird_config.py."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import attrs
import pytest
from roamroute_bird.config import REFLECTOR, fragment
from roamroute_bird.settings import MODES, ROUTINGS, Settings

from roamroute.export import ExporterContext, KernelNumbers

DATA = Path(__file__).parents[2] / "data" / "bird"
CONTEXT = ExporterContext(
    interfaces=("wlan0",),
    prefixes=(IPv6Network("fd44:0:0:1::/64"), IPv4Network("10.44.0.0/24")),
    kernel=KernelNumbers(),
    emit=lambda event: None,
    log=lambda level, line: None,
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
