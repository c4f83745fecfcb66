"""`roamroute config babeld` against golden files; the real daemons take them in tests/integration."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from roamroute_babeld import SPEC
from roamroute_babeld.fragment import render
from roamroute_babeld.rules import read_statements
from roamroute_babeld.settings import Settings, parse
from roamroute_babeld.tables import DORMANT, POISON
from roamroute_babeld.version import parse_version

from roamroute.errors import ConfigError
from roamroute.export import ExporterContext, KernelNumbers

DATA = Path(__file__).parents[2] / "data" / "babeld"
PREFIXES = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))


def context(numbers: KernelNumbers = KernelNumbers()) -> ExporterContext:
    return ExporterContext(("wlan0",), PREFIXES, numbers)


@pytest.mark.parametrize("version", ["1.12.1", "1.13.1", "unknown"])
def test_the_fragment_is_the_golden_one(version: str) -> None:
    golden = DATA / f"fragment-{version}.conf"
    text = render(Settings(), context(), parse_version(version))
    assert text == golden.read_text(encoding="utf-8"), f"if this is meant: write it to {golden}"


def test_version_1_12_is_spared_the_line_that_ends_it() -> None:
    lines = render(Settings(), context(), parse_version("1.12.1")).splitlines()
    assert not [line for line in lines if line.startswith("allow-duplicates")]
    assert "allow-duplicates 65534" in render(Settings(), context(), parse_version("1.13.1")).splitlines()


def test_the_fragment_wins_over_an_operator_who_denies(tmp_path: Path) -> None:
    (tmp_path / "ours").write_text(render(Settings(), context(), parse_version("1.13.1")))
    (tmp_path / "theirs").write_text("redistribute ip fd44::/16 deny\nredistribute deny\n")
    found = read_statements(["babeld", "-c", "ours", "-c", "theirs"], tmp_path)
    for host in (ip_address("fd44:0:0:1::7"), ip_address("10.44.0.7")):
        decided = [found.decide(host, protocol) for protocol in (144, 145, 147, 146)]
        assert [rule and rule.metric for rule in decided] == [0, POISON, DORMANT, 65535]


def test_another_table_and_a_tcp_port_are_named() -> None:
    lines = render(Settings(socket=33123), context(KernelNumbers(table=1000)), None).splitlines()
    assert {"local-port 33123", "import-table 254", "import-table 1000"} <= set(lines)


def test_settings_may_name_a_path_or_a_port() -> None:
    assert parse({}).socket == "/var/run/babeld.sock"
    assert parse({"socket": "33123"}).socket == 33123
    assert parse({"socket": 33123}).place == "[::1]:33123"
    assert parse({"version": "1.13.1"}).version == parse_version("1.13.1")


def test_every_mistake_is_told_with_its_path() -> None:
    table = {"socket": 0, "version": "new", "allow_duplicates": 1, "command": "", "sockte": "x"}
    with pytest.raises(ConfigError) as caught:
        SPEC.parse(table)
    assert {mistake.split(":")[0] for mistake in caught.value.mistakes} == {f"exporters.babeld.{key}" for key in table}
