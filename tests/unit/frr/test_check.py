"""What `check` says of an FRR that answered; tests/integration/test_frr_check.py makes real FRRs answer so."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
import pytest
from roamroute_frr.check import BABELD, Seen, check, findings
from roamroute_frr.running import read_running
from roamroute_frr.settings import parse

from roamroute.export import ExporterContext, KernelNumbers

DATA = Path(__file__).parents[2] / "data" / "frr"
PREFIXES = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/24"))
CONTEXT = ExporterContext(("wlan0", "wlan1"), PREFIXES, KernelNumbers(), lambda event: None, lambda *line: None)
UP = {("ospf", 4): 1, ("ospf6", 6): 2, ("bgp", 4): 1, ("bgp", 6): 1}
every_version = pytest.mark.parametrize("version", ["8.4.4", "10.3"])


def seen(name: str = "ospf", version: str = "10.3") -> Seen:
    """An FRR without a fault, from recorded outputs."""
    running = read_running((DATA / f"running-{name}-{version}.txt").read_text(encoding="utf-8"))
    running.redistributions = [each for each in running.redistributions if each.protocol != "babel"]
    daemons = frozenset({"zebra", "mgmtd", "staticd", "ospfd", "ospf6d", "bgpd", "babeld"})
    return Seen(version, daemons, running, UP)


def faults(looked: Seen, context: ExporterContext = CONTEXT, **settings: Any) -> list[tuple[str, str]]:
    found = [each for each in findings(looked, parse(settings), context) if each.level != "ok"]
    assert all(each.remedy for each in found if each.level == "error")
    return [(each.level, f"{each.subject}: {each.text}") for each in found]


@every_version
@pytest.mark.parametrize(("name", "routing"), [("ospf", "ospf"), ("ospf", ""), ("ibgp", "ibgp"), ("ibgp", "")])
def test_nothing_is_wrong_where_nothing_is(version: str, name: str, routing: str) -> None:
    settings = parse({"routing": routing} if routing else {})
    assert {each.level for each in findings(seen(name, version), settings, CONTEXT)} == {"ok"}


def test_a_routing_that_does_not_carry_the_hosts_is_found() -> None:
    found = faults(seen("ospf"), routing="ibgp")
    assert [level for level, _ in found] == ["error", "error"]
    assert all("`redistribute kernel` is missing: bgpd" in text for _, text in found)


def test_a_protocol_without_a_neighbour_is_a_warning() -> None:
    found = faults(attrs.evolve(seen(), neighbours={**UP, ("ospf6", 6): 0}))
    assert found == [("warning", "frr ospf6d IPv6: ospf6d has no neighbour in state Full: nobody hears our routes")]


@pytest.mark.parametrize("pauses", [{}, {"ospf6": 1000, "ospf": 0}])
def test_a_router_that_drops_quick_withdrawals_is_a_warning(pauses: dict[str, int]) -> None:
    looked = seen()
    looked.running.least_pauses_ms = pauses
    found = faults(looked)
    assert {level for level, _ in found} == {"warning"}
    assert "`timers lsa min-arrival` is not 0 in ospf6d" in found[-1][1]
    assert len(found) == 2 - len(pauses) // 2


@pytest.mark.parametrize("version", ["7.5.1", "6.0"])
def test_a_version_that_is_too_old_is_refused_with_the_reason(version: str) -> None:
    ((level, text),) = faults(attrs.evolve(seen(), version=version))
    assert level == "error"
    assert f"FRR {version} is not supported: before 8.0 ospf6d has neither" in text


@pytest.mark.parametrize("version", ["8.0", "8.5.4", "9.1", "10.3.4"])
def test_a_version_in_between_is_taken(version: str) -> None:
    assert faults(attrs.evolve(seen(), version=version)) == []


def test_a_version_that_is_newer_than_what_was_tried_is_a_warning() -> None:
    assert [level for level, _ in faults(attrs.evolve(seen(), version="10.4"))] == ["warning"]
    assert [level for level, _ in faults(attrs.evolve(seen(), version=""))] == ["warning"]


def test_without_mgmtd_frr_10_cannot_be_given_static_routes() -> None:
    without = attrs.evolve(seen(), daemons=seen().daemons - {"mgmtd"})
    assert faults(without) == []
    assert ("error", "mgmtd") in [
        (level, text.split()[1].rstrip(":")) for level, text in faults(without, mode="inject")
    ]


def test_without_mgmtd_nothing_is_wrong_with_frr_8() -> None:
    old = seen("ospf", "8.4.4")
    without = attrs.evolve(old, daemons=old.daemons - {"mgmtd"})
    assert not any("mgmtd" in text for _, text in faults(without, mode="inject"))


def test_another_table_is_well_where_frr_installs_the_routes_itself() -> None:
    around = attrs.evolve(CONTEXT, kernel=KernelNumbers(table=100))
    assert any("reads table 254 only" in text for _, text in faults(seen(), around))
    assert not any("table" in text for _, text in faults(seen(), around, mode="inject"))


@pytest.mark.parametrize("version", ["8.4.4", "10.3"])
def test_the_babeld_of_frr_is_refused_where_it_alone_carries_the_hosts(version: str) -> None:
    running = read_running((DATA / f"running-ospf-{version}.txt").read_text(encoding="utf-8"))
    beside = faults(attrs.evolve(seen("ospf", version), running=running))
    assert [(level, BABELD in text) for level, text in beside] == [("warning", True)]
    running.redistributions = [each for each in running.redistributions if each.protocol != "ospf6"]
    alone = faults(attrs.evolve(seen("ospf", version), running=running))
    assert ("error", True) in [(level, BABELD in text) for level, text in alone]


def test_an_interface_that_a_route_map_leaves_out_is_found() -> None:
    looked = seen()
    looked.running.route_maps["roamroute6"][0].matches.append(("interface", "wlan0"))
    ((level, text),) = faults(looked)
    assert level == "error"
    assert "fd44:0:0:1::2/128 over wlan1" in text


async def test_no_frr_at_all_is_one_error_with_the_command_to_try() -> None:
    (finding,) = await check(parse({"command": ["/nonexistent/vtysh"]}), CONTEXT)
    assert finding.level == "error"
    assert "/nonexistent/vtysh" in finding.text
    assert "systemctl start frr" in finding.remedy
