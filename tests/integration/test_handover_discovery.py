"""Fifty access points that find each other by the routes to their addresses, and a client that roams between two."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roamroute.lab import addresses
from roamroute.lab.laboratory import PROGRAMS
from roamroute.lab.namespaces import Sandbox
from roamroute.lab.topology import Router
from roamroute.lab.waiting import wait_until

from .still_mesh import StillMesh
from .world import LIMIT_S, MARKS

ACCESS_POINTS = 50
START_LIMIT_S = 60.0
"""For 50 starts of Python, of 0.4 s each, on one processor, and as much again."""
MEMORY_LIMIT_BYTES = 48 << 20
"""For one of them, alone."""

pytestmark = [*MARKS, pytest.mark.alone]


@pytest.fixture
def large() -> Iterator[StillMesh]:
    """Fifty that know no way to each other yet. The first two have hostapd."""
    changes = {"peers": {"addresses": [], "discover": str(addresses.MESH_PREFIX)}}
    with Sandbox(programs=PROGRAMS) as sandbox:
        yield StillMesh(sandbox, ACCESS_POINTS, changes, hostapd_count=2)


def test_fifty_access_points_find_each_other_and_a_client_roams_between_two(large: StillMesh) -> None:
    begun = time.monotonic()
    large.start()
    assert time.monotonic() - begun < START_LIMIT_S
    assert not any(large.status(router)["peers"]["peers"] for router in large.access_points)
    large.give_ways()
    for router in large.access_points:
        wait_until(
            lambda: _sessions(large, router) == ACCESS_POINTS - 1,  # noqa: B023
            f"{router.name} has sessions with all others",
            LIMIT_S,
        )
    first, second, *_ = large.access_points
    with large.client_at(first) as client, large.downlink(client.main_address) as downlink:
        client.roam(second)
        downlink.wait_arriving(client.connected_at)  # sent on: no router knows another way
        large.wait_here(second, *client.addresses)
        for router in large.access_points:
            wait_until(
                lambda: _holder(large, router, client.mac) == str(second.address),  # noqa: B023
                f"{router.name} knows who has the client",
                LIMIT_S,
            )
    used = {router.name: _memory_bytes(large, router) for router in large.access_points}
    assert max(used.values()) < MEMORY_LIMIT_BYTES, used


def _sessions(large: StillMesh, router: Router) -> int:
    return sum(peer["is_up"] for peer in large.status(router)["peers"]["peers"])


def _holder(large: StillMesh, router: Router, mac: str) -> str | None:
    return next((host["holder"] for host in large.status(router)["hosts"] if host["mac"] == mac), None)


def _memory_bytes(large: StillMesh, router: Router) -> int:
    """What roamroute holds for itself on a router; shared libraries are there once for all fifty."""
    process = large.daemons[router.name].process
    assert process is not None
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))
