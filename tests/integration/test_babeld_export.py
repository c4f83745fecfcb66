"""Host routes over the real babeld of both Debian generations: judged by the kernels of the far routers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from roamroute_babeld import needs as babeld_needs
from roamroute_babeld.exporter import BabeldExporter
from roamroute_babeld.settings import Settings

from roamroute.events import ForeignRouteLost, ForeignRouteSeen
from roamroute.export import ExporterContext, KernelNumbers

from .babeld_mesh import (
    AS_INSTALLED,
    DEBIAN_12,
    DEBIAN_13,
    GENERATIONS,
    LIMIT_S,
    PREFIXES,
    Mesh,
    RouteWatch,
    mesh_of,
    sh,
    wait_for,
)

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("ip", "nsenter")]

HOST, HOST4, OTHER = ip_address("fd44:0:0:1::77"), ip_address("10.44.0.77"), ip_address("fd44:0:0:1::78")
OWN = {
    "nothing shorter": (),
    "a prefix of its own": ("fd44:0:0:9::/64",),
    "the covering prefix": ("fd44:0:0:1::/64",),
    "default routes": ("::/0", "0.0.0.0/0"),
    "an IPv4 default route": ("0.0.0.0/0",),
}


@pytest.fixture(params=AS_INSTALLED)
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mesh]:
    """ap1 - r - far, not started."""
    with mesh_of(request.param, tmp_path, ("ap1", "r"), ("r", "far")) as mesh:
        yield mesh


@pytest.fixture(params=GENERATIONS)
def fork(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mesh]:
    """far - r1 - {ap1, ap2} and far - r2 - ap3, not started."""
    pairs = (("far", "r1"), ("r1", "ap1"), ("r1", "ap2"), ("far", "r2"), ("r2", "ap3"))
    with mesh_of(request.param, tmp_path, *pairs) as mesh:
        yield mesh


@pytest.mark.parametrize("own", OWN.values(), ids=list(OWN))
def test_a_withdrawn_host_is_lost_by_the_far_router_and_nothing_else_is(
    line: Mesh, own: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(babeld_needs, "LONG_PARKING_S", 1.0)
    ap, far = line.access_point("ap1"), line["far"]
    for prefix in own:
        sh(f"ip {'-4' if '.' in prefix else '-6'} -n {ap.namespace} route add {prefix} dev wlan0 proto static")
    line.start()
    names = ["default" if prefix.endswith("/0") else prefix for prefix in own]
    families = ["default4" if prefix == "0.0.0.0/0" else name for prefix, name in zip(own, names, strict=True)]
    for family in families:
        far.wait_way(family)
    ap.announce(HOST, HOST4, OTHER)
    for host in (HOST, HOST4, OTHER):
        far.wait_way(host)
    ap.wait_exported(HOST, HOST4, OTHER)
    watch = RouteWatch(line["r"])
    try:
        ap.withdraw(HOST, HOST4)
        for host in (HOST, HOST4):
            far.wait_loss(host)
        time.sleep(4.5)  # parking ends, where it may, after 1 to 2 s; a wrong retraction takes 0.1 s and is repeated
        assert far.reaches(HOST) is None
        assert far.reaches(HOST4) is None
        assert far.reaches(OTHER)
        for name, family in zip(names, families, strict=True):
            assert not watch.lost(name), name
            assert far.reaches(family), family
        parked = set(ap.fib.parked)
        is_harmful6 = "1.13" in line.command and bool({"fd44:0:0:1::/64", "::/0"} & set(own))
        is_harmful4 = "1.13" in line.command and own == ("0.0.0.0/0",)
        assert (HOST in parked, HOST4 in parked) == (is_harmful6, is_harmful4)
    finally:
        watch.close()


def test_a_host_that_leaves_and_returns_is_followed_by_all(fork: Mesh) -> None:
    fork.start()
    aps = {name: fork.access_point(name) for name in ("ap1", "ap2", "ap3")}
    aps["ap1"].announce(HOST, HOST4)
    here = "ap1"
    for host in (HOST, HOST4):
        fork["far"].wait_way(host, "r1")
    slowest = 0.0
    for there in ("ap2", "ap3", "ap1", "ap3", "ap2", "ap1", "ap2", "ap1", "ap3", "ap1"):
        begun = time.monotonic()
        aps[here].withdraw(HOST, HOST4)  # as a claim does it: the old one first
        aps[there].announce(HOST, HOST4)
        ways = {"far": "r2" if there == "ap3" else "r1", "r1": "far" if there == "ap3" else there}
        ways |= {"r2": "ap3" if there == "ap3" else "far", there: "wlan0"}
        ways |= {name: "r2" if name == "ap3" else "r1" for name in aps if name != there}  # the others' clients reach it
        for host in (HOST, HOST4):
            for name, way in ways.items():
                fork[name].wait_way(host, way)
        slowest = max(slowest, time.monotonic() - begun)
        here = there
        time.sleep(0.4)
    assert slowest < 5, "one of the moves was not kicked"


def test_an_ap_between_others_passes_on_what_moved_away(tmp_path: Path) -> None:
    with mesh_of(DEBIAN_13 if Path(DEBIAN_13).exists() else DEBIAN_12 + " -A 65534", tmp_path, *CHAIN) as mesh:
        mesh.start()
        middle, end = mesh.access_point("ap2"), mesh.access_point("ap3")
        middle.announce(HOST)
        mesh["ap1"].wait_way(HOST, "ap2")
        middle.withdraw(HOST)
        end.announce(HOST)
        mesh["ap2"].wait_way(HOST, "ap3")
        mesh["ap1"].wait_way(HOST, "ap2")
        assert HOST in middle.fib.parked
        time.sleep(3)
        assert mesh["ap1"].reaches(HOST) == "ap2"


CHAIN = (("ap1", "ap2"), ("ap2", "ap3"))


def test_a_restarted_babeld_exports_everything_again(line: Mesh) -> None:
    line.start()
    ap = line.access_point("ap1")
    ap.announce(HOST, HOST4)
    line["far"].wait_way(HOST)
    ap.kill()
    wait_for(lambda: not ap.report().is_connected, "the end is noticed")
    assert "babeld" in ap.report().problems[0].text
    ap.announce(OTHER)
    ap.start()
    ap.wait_exported(HOST, HOST4, OTHER)
    for host in (HOST, HOST4, OTHER):
        line["far"].wait_way(host, limit_s=2 * LIMIT_S)
    assert not ap.report().problems


def test_a_foreign_route_is_told_and_its_end(fork: Mesh) -> None:
    fork.start()
    fork.access_point("ap1").announce(HOST)
    ap = fork.access_point("ap3")
    wait_for(lambda: any(isinstance(event, ForeignRouteSeen) for event in ap.events), "it is told")
    fork.access_point("ap1").withdraw(HOST)
    wait_for(lambda: isinstance(ap.events[-1], ForeignRouteLost), "its end is told")
    assert {event.address for event in ap.events if isinstance(event, ForeignRouteSeen | ForeignRouteLost)} == {HOST}


@pytest.mark.parametrize(
    ("configuration", "text"),
    [
        (["redistribute local allow\n"], "no redistribute rule matches proto 144"),
        (["redistribute ip fd44::/16 deny\n", None], '"redistribute ip fd44::/16 deny"'),
    ],
    ids=["no rule of ours", "a rule in front of ours"],
)
def test_what_babeld_does_not_export_is_a_problem_with_its_reason(
    line: Mesh, configuration: list[str | None], text: str
) -> None:
    ap = line.access_point("ap1")
    path = f"local-path {ap.socket}\n"
    ap.configuration = [path, *(ap.fragment if each is None else each for each in configuration)]
    line.start()
    ap.announce(HOST)
    # before babeld listens there is another problem: that it cannot be reached
    wait_for(lambda: any(text in problem.text for problem in ap.report().problems), f"a problem says {text}")
    (problem,) = ap.report().problems
    assert "roamroute config babeld" in problem.remedy
    assert problem.routes == 1
    errors = [finding for finding in ap.findings() if finding.level == "error"]
    assert any(text in finding.text for finding in errors)
    assert all(finding.remedy for finding in errors)


def test_check_is_content_with_our_fragment_in_front(line: Mesh) -> None:
    line.start()
    findings = line.access_point("ap1").findings()
    assert not [finding for finding in findings if finding.level == "error"]
    warned = {finding.subject for finding in findings if finding.level == "warning"}
    assert warned == {"babeld"} | ({"babeld allow-duplicates"} if line.command == DEBIAN_12 else set())


def test_a_tcp_port_serves_as_well(line: Mesh) -> None:
    ap = line.access_point("ap1")
    ap.listen_on(33123)
    line.start()
    ap.announce(HOST)
    ap.wait_exported(HOST)
    unknown = {finding.subject for finding in ap.findings() if finding.level == "unknown"}
    assert not unknown, "an exported host route shows that the rules are right"


def test_another_default_route_that_wins_is_told(line: Mesh) -> None:
    ap = line.access_point("ap1")
    for family in ("-6", "-4"):
        sh(f"ip {family} -n {line['far'].namespace} route add default dev lo proto static")
        sh(f"ip {family} -n {ap.namespace} route add default dev wlan0 metric 100")
    line.start()
    ap.wait_way("default4")
    wait_for(lambda: len(ap.routes("default")) == len(ap.routes("default4")) == 2, "babeld's default routes are there")
    warned = [finding.subject for finding in ap.findings() if "wins over" in finding.text]
    assert warned == ["IPv6 default route", "IPv4 default route"]


def test_the_fifth_client_is_told_that_there_are_four(line: Mesh) -> None:
    ap = line.access_point("ap1")
    for router in line.routers.values():
        router.start()
    wait_for(ap.socket.exists, "babeld listens")
    clients = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    try:
        for client in clients:
            client.connect(str(ap.socket))
            client.recv(10)
        ap.follow()
        wait_for(lambda: any("four" in problem.text for problem in ap.report().problems), "four clients are reported")
        assert any("four" in finding.text for finding in ap.findings() if finding.level == "error")
        clients.pop().close()
        wait_for(lambda: ap.report().is_connected, "it gets its place when one goes")
    finally:
        for client in clients:
            client.close()


def test_a_socket_that_never_answers_blocks_nothing(tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen(8)
        accepted: list[socket.socket] = []
        threading.Thread(target=lambda: accepted.append(silent.accept()[0]), daemon=True).start()
        asyncio.run(_stays_silent(path))
        assert accepted


async def _stays_silent(path: Path) -> None:
    context = ExporterContext(("wlan0",), PREFIXES, KernelNumbers())
    exporter = BabeldExporter(Settings(socket=str(path)), context)
    task = asyncio.create_task(exporter.run())
    worst, before = 0.0, time.monotonic()
    while not any("says nothing" in problem.text for problem in exporter.report().problems):
        await asyncio.sleep(0.01)
        worst, before = max(worst, time.monotonic() - before), time.monotonic()
    assert worst < 1
    assert not exporter.report().is_connected
    task.cancel()
