"""roamroute.lab with real hostapd and wpa_supplicant: the client roams as over the air, and the figures are right.

Routes are static here, and the client's are set by hand: what is under test is the lab.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from integration import third_party_lab

from roamroute.errors import DaemonGone
from roamroute.lab import addresses, laboratory, run_lab
from roamroute.lab.installed import InstalledRouting
from roamroute.lab.laboratory import PROGRAMS
from roamroute.lab.namespaces import CommandFailed, Namespace, Sandbox
from roamroute.lab.options import LabOptions
from roamroute.lab.radio import Air, Client, Host
from roamroute.lab.roaming import RoamrouteDaemon
from roamroute.lab.topology import Mesh
from roamroute.lab.traffic import Traffic
from roamroute.lab.waiting import wait_until
from roamroute.lab.wifi import AccessPointDaemon

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs(*PROGRAMS)]

GATEWAY_PING = ("ping", "-c1", "-W1", f"{addresses.CLIENT_GATEWAY}%{addresses.CLIENT_LINK}")


@attrs.frozen
class Bed:
    """Three access points with hostapd, a client with wpa_supplicant, no routing."""

    sandbox: Sandbox
    mesh: Mesh
    air: Air
    daemons: Mapping[str, AccessPointDaemon]
    client: Client


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Sandbox() as sandbox:
        mesh = Mesh(sandbox)
        air = Air(mesh)
        daemons = {router.name: AccessPointDaemon(router.namespace) for router in mesh.access_points}
        for daemon in daemons.values():
            daemon.start()
        for daemon in daemons.values():
            daemon.wait_ready()
        client = Client(air, sandbox.namespace("client"), 1, daemons)
        client.start()
        yield Bed(sandbox, mesh, air, daemons, client)


def reaches_gateway(namespace: Namespace) -> bool:
    """Once the link-local address has passed duplicate address detection, a second after the carrier came."""
    try:
        namespace.run(*GATEWAY_PING)
    except CommandFailed:
        return False
    return True


def kinds(daemon: AccessPointDaemon) -> list[str]:
    return [event.kind for event in daemon.events()]


def test_a_roam_keeps_the_clients_addresses_and_takes_little_more_than_the_time_without_layer_2(bed: Bed) -> None:
    first, second, _ = bed.mesh.access_points
    bed.client.roam(first)
    before = bed.client.namespace.run("ip", "-o", "-6", "addr", "show", "dev", "wlan0", "scope", "global").split()
    bed.client.roam(second)
    after = bed.client.namespace.run("ip", "-o", "-6", "addr", "show", "dev", "wlan0", "scope", "global").split()
    assert [word for word in before if "::" in word] == [word for word in after if "::" in word]
    assert 0.05 <= bed.client.connected_at - bed.client.left_at < 0.25


def test_the_old_access_point_is_not_told(bed: Bed) -> None:
    first, second, _ = bed.mesh.access_points
    bed.client.roam(first)
    bed.daemons["ap1"].events()
    bed.client.roam(second)
    assert kinds(bed.daemons["ap1"]) == []
    assert bed.daemons["ap1"].stations() == (bed.client.mac,)  # a ghost


def test_a_polite_client_tells_the_old_access_point(bed: Bed) -> None:
    first, second, _ = bed.mesh.access_points
    bed.client.roam(first)
    bed.daemons["ap1"].events()
    bed.client.roam(second, is_polite=True)
    assert kinds(bed.daemons["ap1"]) == ["AP-STA-DISCONNECTED"]


def test_a_returning_client_is_disconnected_as_a_ghost_and_connected_again(bed: Bed) -> None:
    for access_point in (0, 1):
        bed.client.roam(bed.mesh.access_points[access_point])
    watcher = bed.daemons["ap1"]
    watcher.events()
    seen: list[str] = []
    wait_connected = watcher.wait_connected

    def recording(mac: str, limit_s: float) -> float:
        original = watcher.events

        def events() -> list[Any]:
            found = original()
            seen.extend(event.kind for event in found)
            return found

        watcher.events = events  # type: ignore[method-assign]
        return wait_connected(mac, limit_s)

    watcher.wait_connected = recording  # type: ignore[method-assign]
    bed.client.roam(bed.mesh.access_points[0])
    assert seen == ["AP-STA-DISCONNECTED", "AP-STA-CONNECTED"]


def test_many_hosts_can_be_attached(bed: Bed) -> None:
    for number in range(12):
        host = Host(bed.air, bed.sandbox.namespace(f"host{number}"), 100 + number)
        host.attach(bed.mesh.access_points[number % 3])


@pytest.mark.parametrize("is_polite", [False, True])
def test_many_quick_roams_all_connect(bed: Bed, is_polite: bool) -> None:
    walk = itertools.cycle([0, 1, 0, 2, 1])
    took = []
    for _ in range(20):
        bed.client.roam(bed.mesh.access_points[next(walk)], is_polite=is_polite)
        took.append(bed.client.connected_at - bed.client.left_at)
    assert sorted(took)[15] < 0.15


def test_nothing_but_eapol_passes_before_the_authentication(bed: Bed) -> None:
    bed.client.leave()
    bed.air.join(bed.client.port, bed.mesh.access_points[0])
    with pytest.raises(CommandFailed):
        bed.client.namespace.run(*GATEWAY_PING)
    bed.air.leave(bed.client.port, bed.mesh.access_points[0])
    bed.client.roam(bed.mesh.access_points[0])
    wait_until(lambda: reaches_gateway(bed.client.namespace), "the gateway answers", 5.0)


def test_the_access_points_carrier_stays_when_the_client_leaves(bed: Bed) -> None:
    bed.client.roam(bed.mesh.access_points[0])
    bed.client.leave()
    assert "LOWER_UP" in bed.mesh.access_points[0].namespace.run("ip", "link", "show", "wlan0")
    assert "NO-CARRIER" in bed.client.namespace.run("ip", "link", "show", "wlan0")


def test_clients_on_one_access_point_do_not_hear_each_other_but_both_hear_it(bed: Bed) -> None:
    host = Host(bed.air, bed.sandbox.namespace("host"), 99)
    host.attach(bed.mesh.access_points[0])
    bed.client.roam(bed.mesh.access_points[0])
    wait_until(lambda: reaches_gateway(host.namespace), "the gateway answers the host", 5.0)
    wait_until(lambda: reaches_gateway(bed.client.namespace), "the gateway answers the client", 5.0)
    link_local = bed.client.namespace.run("ip", "-o", "-6", "addr", "show", "dev", "wlan0", "scope", "link").split()
    address = next(word for word in link_local if word.startswith("fe80")).partition("/")[0]
    with pytest.raises(CommandFailed):
        host.namespace.run("ping", "-c1", "-W1", f"{address}%wlan0")


def test_hostapd_can_be_killed_and_started_again(bed: Bed) -> None:
    daemon = bed.daemons["ap2"]
    daemon.kill()
    daemon.start()
    daemon.wait_ready()
    bed.client.roam(bed.mesh.access_points[1])
    assert daemon.stations() == (bed.client.mac,)


def test_the_prober_keeps_its_rhythm_and_stamps_arrivals_with_the_kernels_clock(bed: Bed) -> None:
    traffic = Traffic(bed.sandbox)
    traffic.near.receive(bed.mesh.server)
    wait_until(lambda: ":4600 " in bed.mesh.server.run("ss", "-Hulna"), "the prober receives", 10.0)
    gateway = bed.mesh.gateway.namespace
    flow = traffic.start_flow(traffic.side, gateway, addresses.SERVER_GATEWAY, addresses.SERVER, 100)

    def hundred_have_arrived() -> bool:
        traffic.read()
        return len(traffic.flows[flow].arrived) >= 100

    wait_until(hundred_have_arrived, "100 packets have arrived", 10.0)
    sent = {sequence: moment for moment, sequence in traffic.flows[flow].sent}
    delays = sorted(moment - sent[sequence] for moment, sequence in traffic.flows[flow].arrived)
    moments = [moment for moment, _ in traffic.flows[flow].sent]
    intervals = sorted(after - before for before, after in itertools.pairwise(moments))
    assert delays[0] > -0.001  # the kernel stamps by another clock, whose offset is known to some microseconds
    assert delays[len(delays) // 2] < 0.002
    assert abs(intervals[len(intervals) // 2] - 0.01) < 0.002


INSTALLED = InstalledRouting("rumours", third_party_lab.SPEC, third_party_lab.SPEC.lab["rumours"])


def test_with_routes_by_hand_every_roam_comes_back_at_once_and_the_download_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(laboratory, "find_routing", lambda name: INSTALLED)
    lines: list[str] = []
    report = run_lab(LabOptions(modes=("hand",), roams=3, dwell_s=1.5, has_ipv4=True), lines.append)
    assert report.is_complete
    assert [roam.behaviour for roam in report.roams] == ["silent"] * 3 + ["talking"] * 3
    assert not report.failures()
    gaps = sorted(roam.downlink.gap_s for roam in report.roams)
    assert gaps[3] < 0.1
    assert [walk.download is not None and walk.download.is_verified for walk in report.walks] == [False, True]
    assert {roam.is_first_visit for roam in report.roams} == {True, False}
    assert all(roam.uplink is not None and roam.uplink.gap_s < 5 for roam in report.roams[3:])
    assert sum("roam" in line for line in lines) >= 6


def test_an_interrupted_run_reports_what_it_has_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laboratory, "find_routing", lambda name: INSTALLED)

    def interrupt(line: str) -> None:
        if "roam 2:" in line:
            raise KeyboardInterrupt

    report = run_lab(LabOptions(modes=("hand",), behaviours=("silent",), roams=9), interrupt)
    assert not report.is_complete
    assert [roam.number for roam in report.roams] == [1, 2]


def test_a_roamroute_that_has_ended_is_said_with_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    third_party_lab.install(tmp_path)
    folders = [str(tmp_path), str(Path(third_party_lab.__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    monkeypatch.setattr(laboratory, "find_routing", lambda name: INSTALLED)
    daemons: list[RoamrouteDaemon] = []

    class Recorded(RoamrouteDaemon):
        def start(self) -> None:
            daemons.append(self)
            super().start()

    monkeypatch.setattr(laboratory, "RoamrouteDaemon", Recorded)

    def kill_all(line: str) -> None:
        if "roam 1:" in line:
            for daemon in daemons:
                daemon.kill()

    options = LabOptions(behaviours=("silent",), roams=9, limit_s=1.0, log_directory=tmp_path / "logs")
    with pytest.raises(DaemonGone, match=r"roamroute on ap1 ended with exit code -9; its log ends:\n.* INFO "):
        run_lab(options, kill_all)
    assert (tmp_path / "logs/routes/roamroute-silent-2.txt").exists()
