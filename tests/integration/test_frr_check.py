"""Every mistake that `roamroute check` must find, in a real FRR of each generation."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Network

import pytest
from generations import FRR, Generation, parameters
from integration.frr_pair import CLIENT_LINK, FrrRouters, context
from roamroute_frr.check import BABELD, check
from roamroute_frr.settings import Settings, parse

from roamroute.export import ExporterContext, Finding, KernelNumbers
from roamroute.lab.namespaces import Sandbox
from roamroute.lab.waiting import wait_until

pytestmark = pytest.mark.requires_root


@pytest.fixture(scope="module", params=parameters(FRR))
def generation(request: pytest.FixtureRequest) -> Generation:
    found = request.param
    assert isinstance(found, Generation)
    return found


@pytest.fixture(scope="module")
def ospf(generation: Generation) -> Iterator[FrrRouters]:
    with Sandbox() as sandbox:
        routers = FrrRouters(sandbox, generation, "ospf")
        routers.start("ap")
        routers.start("far")
        yield routers


@pytest.fixture(scope="module")
def ibgp(generation: Generation) -> Iterator[FrrRouters]:
    with Sandbox() as sandbox:
        routers = FrrRouters(sandbox, generation, "ibgp")
        routers.start("ap")
        routers.start("far")
        yield routers


@pytest.fixture
def alone(generation: Generation) -> Iterator[FrrRouters]:
    """For tests that end its daemons: one router, and nobody on its link."""
    with Sandbox() as sandbox:
        routers = FrrRouters(sandbox, generation, "ospf")
        routers.start("ap")
        yield routers


def settings_of(routers: FrrRouters, **changes: object) -> Settings:
    return parse({**routers.settings["ap"], **changes})


def findings(routers: FrrRouters, around: ExporterContext | None = None, **changes: object) -> list[Finding]:
    return list(asyncio.run(check(settings_of(routers, **changes), around or context())))


def faults(found: Sequence[Finding]) -> list[str]:
    """Errors and warnings, each in one line."""
    return [f"{each.level} {each.subject}: {each.text}" for each in found if each.level != "ok"]


def wait_faultless(routers: FrrRouters) -> None:
    wait_until(lambda: not faults(findings(routers)), "check finds nothing wrong", 60.0, poll_s=0.5)


def assert_found(found: Sequence[Finding], level: str, pattern: str) -> None:
    fitting = [each for each in found if each.level == level and re.search(pattern, f"{each.subject}: {each.text}")]
    assert fitting, found
    assert all(each.remedy for each in fitting)


def test_nothing_is_wrong_with_what_config_prints_for_ospf(ospf: FrrRouters) -> None:
    wait_faultless(ospf)
    subjects = {each.subject for each in findings(ospf)}
    assert {"frr ospfd IPv4", "frr ospf6d IPv6"} <= subjects


def test_nothing_is_wrong_with_what_config_prints_for_ibgp(ibgp: FrrRouters) -> None:
    wait_faultless(ibgp)
    subjects = {each.subject for each in findings(ibgp)}
    assert {"frr bgpd IPv4", "frr bgpd IPv6"} <= subjects


def test_a_missing_redistribution_is_found(ospf: FrrRouters) -> None:
    undo = ("router ospf6", "redistribute kernel route-map roamroute6")
    with ospf.configured("ap", ("router ospf6", "no redistribute kernel"), undo):
        assert_found(findings(ospf), "error", r"ospf6d IPv6: `redistribute kernel` is missing")


def test_a_redistribution_of_the_other_mode_is_found(ospf: FrrRouters) -> None:
    found = findings(ospf, mode="inject")
    assert_found(found, "error", r"`redistribute static` is missing.*has `redistribute kernel`")
    assert_found(found, "error", r"staticd is not running")


def test_a_missing_redistribution_in_bgp_is_found(ibgp: FrrRouters) -> None:
    undo = ("router bgp 65000", "address-family ipv6 unicast", "redistribute kernel route-map roamroute6")
    lines = ("router bgp 65000", "address-family ipv6 unicast", "no redistribute kernel")
    with ibgp.configured("ap", lines, undo):
        assert_found(findings(ibgp), "error", r"bgpd IPv6: `redistribute kernel` is missing")


def test_a_prefix_list_that_denies_us_is_found(ospf: FrrRouters) -> None:
    line = "ipv6 prefix-list roamroute seq 1 deny fd44::/16 le 128"
    with ospf.configured("ap", (line,), (f"no {line}",)):
        assert_found(findings(ospf), "error", r"ospf6d IPv6: .*route-map roamroute6` denies our host routes")


def test_a_route_map_that_denies_us_is_found(ospf: FrrRouters) -> None:
    with ospf.configured("ap", ("route-map roamroute4 deny 5",), ("no route-map roamroute4 deny 5",)):
        assert_found(findings(ospf), "error", r"ospfd IPv4: .*route-map roamroute4` denies our.*roamroute4 deny 5")


def test_a_route_map_that_is_not_there_is_found(ospf: FrrRouters) -> None:
    undo = ("router ospf6", "no redistribute kernel", "redistribute kernel route-map roamroute6")
    lines = ("router ospf6", "no redistribute kernel", "redistribute kernel route-map nobody")
    with ospf.configured("ap", lines, undo):
        assert_found(findings(ospf), "error", r"ospf6d IPv6: .*route-map nobody`: this route-map does not exist")


def test_a_redistribution_that_lets_everything_out_is_found(ospf: FrrRouters) -> None:
    undo = ("router ospf6", "no redistribute kernel", "redistribute kernel route-map roamroute6")
    with ospf.configured("ap", ("router ospf6", "no redistribute kernel", "redistribute kernel"), undo):
        assert_found(findings(ospf), "warning", r"ospf6d IPv6: `redistribute kernel` lets everything out")


def test_a_timer_that_keeps_hosts_that_left_is_found(ospf: FrrRouters) -> None:
    undo = ("router ospf6", "timers lsa min-arrival 0")
    with ospf.configured("ap", ("router ospf6", "no timers lsa min-arrival"), undo):
        assert_found(findings(ospf), "warning", r"`timers lsa min-arrival` is not 0 in ospf6d")


def test_a_filter_towards_the_reflector_is_found(ibgp: FrrRouters) -> None:
    reflector = "neighbor fd44:0:0:a::2 route-map shut out"
    family = ("router bgp 65000", "address-family ipv6 unicast")
    lines = ("route-map shut deny 10", "exit", *family, reflector)
    with ibgp.configured("ap", lines, (*family, f"no {reflector}", "exit", "exit", "no route-map shut")):
        assert_found(findings(ibgp), "error", r"bgpd IPv6: `neighbor fd44:0:0:a::2 route-map shut out` denies our")


def test_a_session_that_is_down_is_found(ibgp: FrrRouters) -> None:
    wait_faultless(ibgp)
    line = "neighbor fd44:0:0:a::2 shutdown"
    with ibgp.configured("ap", ("router bgp 65000", line), ("router bgp 65000", f"no {line}")):
        assert_found(findings(ibgp), "warning", r"bgpd IPv6: bgpd has no session that is up")


def test_a_table_that_zebra_does_not_read_is_found(ospf: FrrRouters) -> None:
    found = findings(ospf, context(KernelNumbers(table=100)))
    assert_found(found, "error", r"kernel.table is 100, and zebra reads table 254 only")


def test_daemons_that_do_not_run_are_found(alone: FrrRouters) -> None:
    alone.stop("ap", "ospf6d")
    assert_found(findings(alone), "error", r"IPv6: ospf6d is not running")
    alone.stop("ap", "zebra")
    assert_found(findings(alone), "error", r"zebra is not running")
    alone.stop("ap", "ospfd")
    if alone.has_mgmtd:
        alone.stop("ap", "mgmtd")
    assert_found(findings(alone), "error", r"frr: ")


def test_a_daemon_that_hangs_is_an_error_and_not_a_wait_for_ever(alone: FrrRouters) -> None:
    process_id = alone.process_id("ap", "ospf6d")
    os.kill(process_id, signal.SIGSTOP)
    try:
        assert_found(findings(alone), "error", r"frr: ")
    finally:
        os.kill(process_id, signal.SIGCONT)


def test_the_babeld_of_frr_is_refused(ospf: FrrRouters) -> None:
    ospf.start_more("ap", "babeld")
    try:
        lines = ("router babel", "redistribute ipv6 kernel", "exit", "router ospf6", "no redistribute kernel")
        undo = ("no router babel", "router ospf6", "redistribute kernel route-map roamroute6")
        with ospf.configured("ap", lines, undo):
            assert_found(findings(ospf), "error", re.escape(BABELD))
    finally:
        ospf.stop("ap", "babeld")


def test_the_babeld_of_frr_keeps_a_host_that_left(alone: FrrRouters) -> None:
    """The reason for which it is refused: its neighbour is never told, though updates come every second."""
    host = "fd44:0:0:1::5"
    alone.start("far")
    for name, link in (("ap", "far"), ("far", "ap")):
        alone.start_more(name, "babeld")
        timers = (f"interface {link}", "babel hello-interval 200", "babel update-interval 1000", "exit")
        alone.vtysh(name, "configure terminal", "no router ospf6", "router babel", f"network {link}")
        alone.vtysh(name, "configure terminal", *timers)
    alone.vtysh("ap", "configure terminal", "router babel", "redistribute ipv6 kernel")
    alone.namespaces["ap"].ip(f"route add {host} dev {CLIENT_LINK} proto 144 metric 8")
    wait_until(lambda: "proto babel" in alone.route_at("far", host), "the neighbour has the host route", 60.0)
    alone.namespaces["ap"].ip(f"route del {host} dev {CLIENT_LINK} proto 144 metric 8")
    wait_until(lambda: host not in alone.vtysh("ap", "show babel route"), "babeld has forgotten the route", 10.0)
    network = IPv6Network("fd44:0:0:1::9/128")
    alone.namespaces["ap"].ip(f"route add {network} dev {CLIENT_LINK} proto 144 metric 8")
    wait_until(lambda: alone.route_at("far", "fd44:0:0:1::9") != "", "a later update has come", 60.0)
    time.sleep(2.0)  # two more updates of everything that is announced
    assert "proto babel" in alone.route_at("far", host)
