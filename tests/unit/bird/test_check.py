"""What check says of recorded BIRDs; tests/integration/test_bird_check.py has the real ones."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import attrs
import pytest
from bird_transcripts import VERSIONS, said
from roamroute_bird.answers import Protocol, Status, protocols_of, status_of
from roamroute_bird.check import (
    check,
    fib_findings,
    include_findings,
    kernel_findings,
    routing_findings,
    scan_findings,
    version_findings,
)
from roamroute_bird.hostroutes import KernelRoute, host_routes, is_ours
from roamroute_bird.protocol import ReplyReader
from roamroute_bird.settings import Settings
from roamroute_bird.statements import KernelStatement, Statements

from roamroute.export import ExporterContext, Finding, KernelNumbers

CONTEXT = ExporterContext(("wlan0",), (IPv6Network("fd44:0:0:1::/64"), IPv4Network("10.44.0.0/16")), KernelNumbers())
LEARNING = Statements(
    "/etc/bird/bird.conf",
    (KernelStatement("kernel6", 6, learns=True), KernelStatement("kernel4", 4, learns=True)),
)
every_version = pytest.mark.parametrize("version", VERSIONS)


def protocols(version: str) -> list[Protocol]:
    [reply] = ReplyReader().feed(said("socket", version, "show protocols all"))
    return list(protocols_of(reply))


def status(version: str) -> Status:
    [reply] = ReplyReader().feed(said("socket", version, "show status"))
    return status_of(reply)


def errors(findings: object) -> list[str]:
    assert hasattr(findings, "__iter__")
    found: list[Finding] = list(findings)
    assert all(finding.remedy for finding in found if finding.level == "error")
    return [finding.text for finding in found if finding.level in ("error", "warning")]


def without(found: list[Protocol], kind: str) -> list[Protocol]:
    return [protocol for protocol in found if protocol.kind != kind]


def downed(found: list[Protocol], kind: str) -> list[Protocol]:
    return [attrs.evolve(each, state="down", info="") if each.kind == kind else each for each in found]


@every_version
def test_a_bird_that_was_well_is_found_well(version: str) -> None:
    found = protocols(version)
    assert errors(version_findings(status(version))) == []
    assert errors(kernel_findings(Settings(), CONTEXT, found, LEARNING)) == []
    assert errors(routing_findings(Settings(), CONTEXT, found)) == []


@pytest.mark.parametrize(("version", "words"), [("1.6.8", "too old"), ("2.0.7", "too old"), ("3.4.0", "newer than")])
def test_a_version_that_was_not_tried_is_named(version: str, words: str) -> None:
    [text] = errors(version_findings(Status(version, "", "", "", "")))
    assert version in text
    assert words in text


@every_version
def test_no_kernel_protocol_and_no_routing_protocol_are_errors_for_each_family(version: str) -> None:
    found = protocols(version)
    assert len(errors(kernel_findings(Settings(), CONTEXT, without(found, "Kernel"), LEARNING))) == 2
    bare = without(without(without(found, "Babel"), "OSPF"), "BGP")
    assert errors(routing_findings(Settings(), CONTEXT, bare)) == ["BIRD has no routing protocol for it"] * 2


@every_version
def test_a_protocol_that_is_down_is_named(version: str) -> None:
    found = downed(protocols(version), "Babel")
    texts = errors(routing_findings(Settings(routing="babel"), CONTEXT, found))
    assert texts == ["babel1 (Babel) is down"] * 2


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (KernelStatement("kernel6", 6, learns=False), "does not learn"),
        (KernelStatement("kernel6", 6, learns=True, table=1000), "reads kernel table 1000"),
        (KernelStatement("kernel6", 6, learns=True, metric=8), "with metric 8"),
    ],
)
def test_what_the_configuration_file_says_is_judged(statement: KernelStatement, words: str) -> None:
    statements = Statements("/etc/bird/bird.conf", (statement, LEARNING.kernels[1]))
    [text] = errors(kernel_findings(Settings(), CONTEXT, protocols("2.0.12"), statements))
    assert words in text


def test_a_configuration_that_cannot_be_seen_is_no_fault() -> None:
    assert errors(kernel_findings(Settings(), CONTEXT, protocols("2.0.12"), None)) == []


@pytest.mark.parametrize(("version", "count"), [("2.0.12", 0), ("2.17", 0), ("3.1", 2)])
def test_only_bird_3_is_warned_of_rare_scans(version: str, count: int) -> None:
    assert len(errors(scan_findings(status(version), LEARNING))) == count


def test_bird_3_that_scans_every_second_is_well() -> None:
    often = tuple(attrs.evolve(statement, scan_time_s=1) for statement in LEARNING.kernels)
    assert errors(scan_findings(status("3.1"), attrs.evolve(LEARNING, kernels=often))) == []


def test_an_include_that_bird_does_not_read_is_an_error(tmp_path: Path) -> None:
    settings = Settings(mode="inject", include=str(tmp_path / "hosts.conf"))
    texts = errors(include_findings(settings, CONTEXT, protocols("2.0.12"), LEARNING))
    assert texts[0].startswith(f"BIRD does not read {tmp_path}/hosts.conf")


def test_a_better_route_in_the_kernel_is_an_error() -> None:
    host = ip_address("fd44:0:0:1::7")
    ours, other = KernelRoute(host, "wlan0", 8, False), KernelRoute(host, "mesh0", 4, True)
    assert errors(fib_findings([ours, other], CONTEXT)) == [
        f"the kernel sends {host} over mesh0 (metric 4), not over wlan0"
    ]
    assert errors(fib_findings([ours, attrs.evolve(other, metric=32)], CONTEXT)) == []


def test_a_socket_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    settings = Settings(socket=str(tmp_path / "bird.ctl"))
    assert len(errors(asyncio.run(_findings(settings)))) == 1


async def _findings(settings: Settings) -> list[Finding]:
    return list(await check(settings, CONTEXT))


def test_host_routes_are_read_from_proc(tmp_path: Path) -> None:
    zero = "0" * 32
    (tmp_path / "ipv6_route").write_text(
        f"fd440000000000010000000000000007 80 {zero} 00 {zero} 00000008 1 0 00000001    wlan0\n"
        f"fd440000000000010000000000000008 80 {zero} 00 fe80{zero[5:]}a 00000020 1 0 00000003    mesh0\n"
        f"fd440000000000010000000000000009 80 {zero} 00 {zero} 00000008 00000001 00000000 00200200       lo\n"
        f"fd440000000000010000000000000007 80 {zero} 00 {zero} 00000008 1 0 00000001    mesh0\n"  # into a tunnel
        f"fd440000000000020000000000000007 80 {zero} 00 {zero} 00000008 1 0 00000001    wlan0\n"
    )
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "wlan0\t07002C0A\t00000000\t0005\t0\t0\t8\tFFFFFFFF\t0\t0\t0\n"
        "wlan0\t00002C0A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    found = host_routes(CONTEXT, tmp_path)
    assert found == (
        KernelRoute(ip_address("fd44:0:0:1::7"), "wlan0", 8, False),
        KernelRoute(ip_address("fd44:0:0:1::8"), "mesh0", 32, True),
        KernelRoute(ip_address("10.44.0.7"), "wlan0", 8, False),
    )
    assert [is_ours(route, CONTEXT) for route in found] == [True, False, True]
