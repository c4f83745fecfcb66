"""A mesh that is upgraded AP by AP: one access point still runs the version before hints, forwarding and reports."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roamroute.lab.roaming import RoamrouteDaemon
from roamroute.lab.waiting import wait_until

from .still_mesh import StillMesh, make_still_mesh, silence
from .world import LIMIT_S, MARKS, is_answered

EARLIER = Path(__file__).with_name("earlier_version.py")

pytestmark = MARKS


@pytest.fixture
def still() -> Iterator[StillMesh]:
    """The second access point is the one that is not upgraded yet."""
    with make_still_mesh() as new:
        second = new.access_points[1]
        new.daemons[second.name].kill()
        tables = new.tables(second, {"handover": {"hints": False, "forwarding": False}})
        new.daemons[second.name] = RoamrouteDaemon(second, tables, (sys.executable, str(EARLIER), "run"))
        new.daemons[second.name].start()
        new.daemons[second.name].wait_ready()
        new.repair()
        yield new


def test_a_client_roams_to_from_and_past_an_access_point_that_is_not_upgraded(still: StillMesh) -> None:
    first, second, third = still.access_points
    ours = ["dad", "hints", "reports", "segments"]
    assert _capabilities(still, 0) == {str(second.address): [], str(third.address): ours}
    assert all(not capabilities for capabilities in _capabilities(still, 1).values())
    with still.client_at(first) as client:
        still.wait_hinted(third, client)
        silence(client)
        for there, forwards in ((second, False), (third, False), (first, True), (second, False), (first, False)):
            left = client.access_point
            assert left is not None
            client.roam(there)
            still.wait_here(there, *client.addresses)
            assert bool(still.forwarded(left, client.main_address)) == forwards
        still.wait_alone(first, *client.addresses)
    with still.client_at(first) as client:
        client.roam(second)
        still.lead(second, *client.addresses)
        wait_until(lambda: is_answered(still.server, client.main_address), "it is reached", LIMIT_S)
    counters = [still.status(router)["peers"]["counters"] for router in still.access_points]
    assert not any(each["malformed"] or each["forged"] or each["claims_unanswered"] for each in counters)


def _capabilities(still: StillMesh, number: int) -> dict[str, list[str]]:
    """What an access point knows of what its peers can do."""
    peers = still.status(still.access_points[number])["peers"]["peers"]
    return {peer["peer"]: sorted(peer["capabilities"]) for peer in peers}
