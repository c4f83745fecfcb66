"""roamroute.lab with dumb access points: what a router behind one hears, and what it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roamroute.lab import addresses, dumb
from roamroute.lab.dumb import Stations
from roamroute.lab.laboratory import PROGRAMS
from roamroute.lab.namespaces import Sandbox
from roamroute.lab.radio import Air, Client
from roamroute.lab.topology import Mesh, Router
from roamroute.lab.waiting import wait_until
from roamroute.lab.wifi import AccessPointDaemon

from .world import is_answered

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs(*PROGRAMS)]

LIMIT_S = 10.0
SILENT = """\
table inet silent {
    chain output {
        type filter hook output priority filter; policy drop;
    }
}
"""


@pytest.fixture
def bed() -> Iterator[tuple[Mesh, Air, Client]]:
    """ap1 and ap3 have hostapd, ap2 is a router behind a dumb access point that has it."""
    with Sandbox() as sandbox:
        mesh = Mesh(sandbox, stations=Stations.MIXED)
        air = Air(mesh)
        daemons = {router.name: AccessPointDaemon(router.wifi) for router in mesh.access_points}
        for daemon in daemons.values():
            daemon.start()
        for daemon in daemons.values():
            daemon.wait_ready()
        client = Client(air, sandbox.namespace("client"), 1, daemons)
        client.start()
        yield mesh, air, client


def learned(access_point: Router, mac: str) -> list[str]:
    """The ports on which the router's bridge has learnt the MAC."""
    entries = json.loads(access_point.namespace.run("bridge", "-j", "fdb", "show", "br", addresses.CLIENT_LINK))
    return [entry["ifname"] for entry in entries if entry["mac"] == mac]


def reach_gateway(client: Client) -> None:
    """Once its link-local address has passed duplicate address detection."""
    target = f"{addresses.CLIENT_GATEWAY}%{addresses.CLIENT_LINK}"
    wait_until(lambda: is_answered(client.namespace, target), "the gateway answers", LIMIT_S)


def test_only_every_second_access_point_is_dumb_and_its_router_reaches_the_client(
    bed: tuple[Mesh, Air, Client],
) -> None:
    mesh, _, client = bed
    assert [router.dumb is not None for router in mesh.access_points] == [False, True, False]
    for access_point in mesh.access_points:
        client.roam(access_point)
        reach_gateway(client)


@pytest.mark.parametrize("has_update_frames", [True, False])
def test_the_routers_bridge_learns_a_silent_client_by_the_update_frame_alone(
    bed: tuple[Mesh, Air, Client], has_update_frames: bool
) -> None:
    mesh, air, client = bed
    first, second, _ = mesh.access_points
    client.roam(first)
    client.namespace.run("nft", "-f", "-", stdin=SILENT)
    air.has_update_frames = has_update_frames
    client.roam(second)
    if has_update_frames:
        wait_until(lambda: learned(second, client.mac) == [dumb.PORT], "the MAC is learnt", LIMIT_S)
    else:
        assert not learned(second, client.mac)
        client.namespace.run("nft", "flush", "ruleset")
        reach_gateway(client)
        assert learned(second, client.mac) == [dumb.PORT]


@pytest.mark.requires_programs("babeld")
def test_the_command_roams_behind_dumb_access_points(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "roamroute.lab", "--routing", "babeld", "--stations", "none"]
    command += ["--roams", "4", "--silent", "--hello-interval", "0.5", "--seed", "2", "--json", str(report)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["options"]["stations"] == "none"
    assert len(found["roams"]) == 4
    assert any(not roam["is_first_visit"] for roam in found["roams"]), "a return: the bridge knows the MAC still"
    assert sorted(roam["downlink"]["gap_s"] for roam in found["roams"])[2] < 1.0
