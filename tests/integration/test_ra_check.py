"""`roamroute check` sees who advertises on a client link: a real radvd, on the other side or on this machine."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from roamroute_bird.config import fragment as bird_fragment
from roamroute_bird.settings import Settings as BirdSettings

from roamroute import control
from roamroute.check_ra import check_heard, check_ra
from roamroute.config import parse_config, read_config
from roamroute.export import Finding
from roamroute.linux.router_survey import LISTEN_S, survey
from roamroute.radvd import radvd_fragment
from roamroute.values import Seconds

from .linux_namespaces import inside, sh
from .ra_world import AP_OWN, CLIENT_MAC, CLIENT_OWN, LIMIT_S, Cell, cell, wait_for

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("ip", "radvd")]
HEAD = """
[roaming]
interfaces = ["wlan0"]
prefixes = ["fd44:0:0:1::/64"]
"""
INTRUDER = """
interface eth0 {
  AdvSendAdvert on;
  AdvRASolicitedUnicast %(unicast)s;
  AdvDefaultLifetime %(lifetime)d;
  MinRtrAdvInterval 3;
  MaxRtrAdvInterval 4;
  %(more)s
  prefix %(prefix)s { AdvOnLink %(on_link)s; };
};
"""
WHO = f"{CLIENT_MAC} ({CLIENT_OWN})"
OUR_VALUES = {"unicast": "on", "lifetime": 9000, "prefix": "fd44:0:0:1::/64", "on_link": "off", "more": ""}


@pytest.fixture
def made() -> Iterator[Cell]:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    with cell() as built:
        sh(f"ip netns exec {built.sta} sysctl -qw net.ipv6.conf.all.forwarding=1")
        yield built


async def found(made: Cell, section: str, listen_s: Seconds = 1.0) -> list[Finding]:
    config = parse_config(HEAD + section)
    with inside(made.ap):
        return list(await check_ra(config, listen_s))


async def found_in_the_end(made: Cell, section: str, text: str, listen_s: Seconds = 1.0) -> list[Finding]:
    """The first findings of which one says this: a radvd that has just started may miss a question."""
    end = time.monotonic() + LIMIT_S
    findings = await found(made, section, listen_s)
    while not any(text in finding.text for finding in findings):
        assert time.monotonic() < end, f"{text!r} is not in {findings}"
        findings = await found(made, section, listen_s)
    return findings


def texts(findings: list[Finding], level: str) -> str:
    return "\n".join(finding.text for finding in findings if finding.level == level)


def intrude(made: Cell, tmp_path: Path, **values: object) -> None:
    """Start a radvd on the client's side and wait until it is heard."""
    file = tmp_path / "intruder.conf"
    file.write_text(INTRUDER % (OUR_VALUES | values))
    log = tmp_path / "radvd.log"
    made.start("radvd", "-n", "-d", "1", "-C", str(file), "-p", str(tmp_path / "pid"), "-m", "stderr",
               namespace=made.sta, log=log)  # fmt: skip
    wait_until_it_polls(log)


def wait_until_it_polls(log: Path) -> None:
    wait_for(lambda: "polling for" in log.read_text(), "radvd runs")


async def test_where_nobody_advertises_that_is_said(made: Cell) -> None:
    (finding,) = await found(made, "")
    assert (finding.level, finding.subject) == ("warning", "router advertisements on wlan0")
    assert "nobody advertises" in finding.text
    assert "[ra]" in finding.remedy


async def test_where_we_advertise_and_nobody_else_does_nothing_is_found(made: Cell) -> None:
    assert await found(made, "[ra]") == []


async def test_another_router_is_an_error(made: Cell, tmp_path: Path) -> None:
    intrude(made, tmp_path)
    text = f"{WHO} advertises itself as a default router, too"
    assert text in texts(await found_in_the_end(made, "[ra]", text), "error")


async def test_one_that_answers_all_and_late_is_heard_as_well(made: Cell, tmp_path: Path) -> None:
    intrude(made, tmp_path, unicast="off")
    text = "as a default router, too"
    assert text in texts(await found_in_the_end(made, "[ra]", text, LISTEN_S), "error")


async def test_one_that_is_no_default_router_is_a_warning(made: Cell, tmp_path: Path) -> None:
    intrude(made, tmp_path, lifetime=0)
    text = "without being a default router"
    findings = await found_in_the_end(made, "[ra]", text)
    assert not texts(findings, "error")
    assert text in texts(findings, "warning")


async def test_an_on_link_roaming_prefix_is_an_error_whoever_says_it(made: Cell, tmp_path: Path) -> None:
    intrude(made, tmp_path, on_link="on", lifetime=0)
    text = f"{WHO} says that fd44:0:0:1::/64 is on-link (L=1)"
    assert text in texts(await found_in_the_end(made, "[ra]", text), "error")


async def test_a_prefix_that_does_not_roam_and_dhcpv6_are_warned_of(made: Cell, tmp_path: Path) -> None:
    intrude(made, tmp_path, prefix="2001:db8:9::/64", more="AdvManagedFlag on;")
    text = "gives clients addresses in 2001:db8:9::/64, which does not roam"
    warnings = texts(await found_in_the_end(made, "[ra]", text), "warning")
    assert text in warnings
    assert "tells clients to ask DHCPv6 (M=1)" in warnings


async def test_another_access_point_on_the_link_that_says_the_same_is_well(made: Cell, tmp_path: Path) -> None:
    sh(f"ip -n {made.sta} address add fe80::1/64 dev eth0 nodad")
    intrude(made, tmp_path, more="AdvRASrcAddress { fe80::1; };")
    with inside(made.ap):
        while not await survey("wlan0", IPv6Address(AP_OWN), 1.0):
            pass
    assert await found(made, "[ra]") == []


async def test_another_access_point_with_a_differing_lifetime_is_an_error(made: Cell, tmp_path: Path) -> None:
    sh(f"ip -n {made.sta} address add fe80::1/64 dev eth0 nodad")
    intrude(made, tmp_path, more="AdvRASrcAddress { fe80::1; };", lifetime=1800)
    text = f"{CLIENT_MAC}, which has the gateway's address fe80::1 as well, says a router lifetime of 1800 s"
    assert text in texts(await found_in_the_end(made, "[ra]", text), "error")


async def test_what_the_daemon_has_heard_is_told_later(made: Cell, tmp_path: Path) -> None:
    """The intruder has gone, but not its word: clients may still believe it."""
    file, path = tmp_path / "roamroute.toml", tmp_path / "control.sock"
    file.write_text(f'{HEAD}[stations]\nsource = "none"\n[control]\nsocket = "{path}"\n[ra]\n')
    made.start(sys.executable, "-m", "roamroute", "run", "-c", str(file))
    wait_for(path.exists, "roamroute runs")
    intrude(made, tmp_path, on_link="on")
    wait_for(lambda: control.ask(path, "status")["routers"], "the daemon has heard it")
    (on_link, stranger) = check_heard(read_config(file), control.ask(path, "status"))
    assert "is on-link (L=1)" in on_link.text
    assert f"{WHO} advertises itself as a default router, too" in stranger.text
    assert {on_link.level, stranger.level} == {"error"}


async def test_a_machine_that_believes_its_clients_is_told(made: Cell) -> None:
    sh(f"ip netns exec {made.ap} sysctl -qw net.ipv6.conf.wlan0.accept_ra=2")
    (finding,) = await found(made, "[ra]")
    assert (finding.level, finding.remedy) == ("error", "sysctl -w net.ipv6.conf.wlan0.accept_ra=0")


# -- programs of this machine ---------------------------------------------------------------------------------------


def run_radvd(made: Cell, tmp_path: Path, section: str) -> None:
    file, log = tmp_path / "radvd.conf", tmp_path / "radvd.log"
    file.write_text(radvd_fragment(parse_config(HEAD + section)))
    made.start("radvd", "-n", "-d", "1", "-C", str(file), "-p", str(tmp_path / "pid"), "-m", "stderr", log=log)
    wait_until_it_polls(log)


RADVD = '[ra]\nsender = "radvd"\n'


async def test_a_radvd_of_ours_that_says_what_is_printed_is_well(made: Cell, tmp_path: Path) -> None:
    run_radvd(made, tmp_path, RADVD)
    (finding,) = await found_in_the_end(made, RADVD, "radvd says what is needed")
    assert finding.level == "ok"


async def test_a_radvd_of_ours_that_says_something_else_is_told_how(made: Cell, tmp_path: Path) -> None:
    run_radvd(made, tmp_path, f'{RADVD}router_lifetime_s = 5000\nrdnss = ["fd44::53"]\nvalid_lifetime_s = 90000')
    text = "router lifetime 5000 s, not 9000 s"
    findings = await found_in_the_end(made, RADVD, text)
    assert text in texts(findings, "error")
    warnings = texts(findings, "warning")
    assert "RDNSS fd44::53, not none" in warnings
    assert "valid for 90000 s" in warnings
    assert all("roamroute config radvd" in finding.remedy for finding in findings)


async def test_one_that_comes_from_another_address_is_an_error(made: Cell, tmp_path: Path) -> None:
    sh(f"ip -n {made.ap} address add fe80::44/64 dev wlan0 nodad")
    run_radvd(made, tmp_path, f'{RADVD}source = "fe80::44"')
    text = "source fe80::44, not fe80::1"
    assert text in texts(await found_in_the_end(made, RADVD, text), "error")


async def test_a_radvd_that_does_not_run_is_missed(made: Cell) -> None:
    assert "radvd does not answer" in texts(await found(made, RADVD), "error")


async def test_a_radvd_besides_ours_is_an_error(made: Cell, tmp_path: Path) -> None:
    run_radvd(made, tmp_path, RADVD)
    text = "another program of this machine advertises as well as roamroute, from fe80::1"
    assert text in texts(await found_in_the_end(made, "[ra]", text), "error")


@pytest.mark.requires_programs("bird")
async def test_bird_is_heard_as_well(made: Cell, tmp_path: Path) -> None:
    section = '[ra]\nsender = "bird"\n'
    config = parse_config(HEAD + section)
    file = tmp_path / "bird.conf"
    file.write_text(bird_fragment(BirdSettings(routing="babel"), config.printing_context("bird")))
    sh(f"ip -n {made.ap} -6 address add fd44:0:0:1::1/64 dev wlan0 nodad noprefixroute")
    sh(f"ip -n {made.ap} address add 10.99.9.1/32 dev lo")
    made.start("bird", "-f", "-c", str(file), "-s", str(tmp_path / "bird.ctl"))
    made.advertised()
    (finding,) = await found_in_the_end(made, section, "bird says what is needed")
    assert finding.level == "ok"


async def test_a_link_that_is_down_cannot_be_told_of(made: Cell) -> None:
    sh(f"ip -n {made.ap} link set wlan0 down")
    (finding,) = await found(made, "[ra]")
    assert (finding.level, finding.subject) == ("unknown", "router advertisements on wlan0")
