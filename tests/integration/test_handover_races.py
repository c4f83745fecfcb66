"""Two access points that claim one host at once, a host that is back at once, and two stations with one MAC."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from roamroute.lab.radio import Client
from roamroute.lab.topology import Router
from roamroute.lab.waiting import wait_until

from .still_mesh import StillMesh, make_still_mesh, silence
from .world import LIMIT_S, MARKS

HOLD_S = 2.0
PACE_S = 0.4
"""A walk of a change every 0.35 s is followed, says the policy."""

pytestmark = MARKS


@pytest.fixture(scope="module")
def still() -> Iterator[StillMesh]:
    with make_still_mesh(changes={"policy": {"oscillation_hold_s": HOLD_S}}) as new:
        yield new


@pytest.fixture
def client(still: StillMesh) -> Iterator[Client]:
    still.repair()
    with still.client_at(still.access_points[0]) as new:
        yield new


def test_a_client_that_is_back_at_once_is_where_it_is(still: StillMesh, client: Client) -> None:
    first, second, _ = still.access_points
    silence(client)
    with still.downlink(client.main_address) as downlink:
        for _ in range(5):
            client.leave()
            client.attach(second, layer_2_down_s=0.0)
            client.leave()
            client.attach(first, layer_2_down_s=0.0)
            downlink.wait_arriving(client.connected_at)
            still.wait_here(first, *client.addresses)
    still.wait_alone(first, *client.addresses)
    assert not still.forwarded(first, client.main_address)
    _agree(still, first, client)


@pytest.mark.parametrize("stays", [1, 2], ids=["at-the-lower-address", "at-the-higher-address"])
def test_of_two_that_claim_at_once_the_one_where_the_client_is_has_it(
    still: StillMesh, client: Client, stays: int
) -> None:
    """Neither hears the other, so both claim the same number; then they do, and the station of one has gone."""
    _, second, third = still.access_points
    there, elsewhere = (second, third) if stays == 1 else (third, second)
    silence(client)
    with still.twin_of(client) as twin:
        with still.losing(second, third):
            client.roam(there)
            twin.attach(elsewhere)
            for router in (there, elsewhere):
                wait_until(
                    lambda: still.is_announced(router, client.main_address),  # noqa: B023
                    f"{router.name} has claimed it",
                    LIMIT_S,
                )
            twin.leave()
        still.wait_here(there, *client.addresses)
        still.wait_alone(there, *client.addresses)
    _agree(still, there, client)


def test_a_client_that_walks_fast_is_followed(still: StillMesh, client: Client) -> None:
    silence(client)
    with still.downlink(client.main_address) as downlink:
        for number in range(1, 19):
            due = client.connected_at + PACE_S
            time.sleep(max(0.0, due - time.monotonic()))
            place = still.access_points[number % 3]
            client.roam(place)
            downlink.wait_arriving(client.connected_at)
            still.wait_here(place, client.main_address)
    assert not _held(still, client)


def test_two_stations_with_one_mac_are_held_and_told_and_then_followed_again(still: StillMesh, client: Client) -> None:
    first, second, third = still.access_points
    client.roam(second)
    still.wait_here(second, *client.addresses)
    with still.twin_of(client) as twin:
        twin.attach(third)
        turns = [(client, second), (twin, third)]
        wait_until(lambda: bool(_held(still, client)) or _turn(still, turns), "it is held", LIMIT_S, poll_s=0.0)
        holders = set()
        for _ in range(10):
            _turn(still, turns)
            holders.add(_holder(still, first, client))
        assert len(holders) == 1
    assert all(f"{client.mac} moves to and fro too fast" in still.log(router) for router in still.access_points)
    wait_until(lambda: not _held(still, client), "it is held no more", LIMIT_S)
    still.wait_here(second, *client.addresses)
    client.roam(first)
    still.wait_here(first, *client.addresses)
    still.wait_alone(first, *client.addresses)
    _agree(still, first, client)


def _turn(still: StillMesh, turns: list[tuple[Client, Router]]) -> bool:
    """Let the station whose turn it is associate again where it is; False, to go on waiting."""
    turns.append(turns.pop(0))
    station, access_point = turns[0]
    hostapd = still.hostapds[access_point.name]
    hostapd.events()
    station.air.close_gate(station.port)
    hostapd.associate(station.mac)
    hostapd.wait_connected(station.mac, LIMIT_S)
    return False


def _held(still: StillMesh, client: Client) -> list[str]:
    """The access points that hold the client where it is, because it oscillates."""
    return [
        router.name
        for router in still.access_points
        if any(each["mac"] == client.mac for each in still.status(router)["handover"]["oscillating"])
    ]


def _holder(still: StillMesh, router: Router, client: Client) -> str:
    return next(str(host["holder"]) for host in still.status(router)["hosts"] if host["mac"] == client.mac)


def _agree(still: StillMesh, there: Router, client: Client) -> None:
    """Wait until all access points know the same holder and number."""

    def is_agreed() -> bool:
        believed = {
            (host["sequence"], host["holder"])
            for router in still.access_points
            for host in still.status(router)["hosts"]
            if host["mac"] == client.mac
        }
        return len(believed) == 1 and {holder for _, holder in believed} == {str(there.address)}

    wait_until(is_agreed, f"all know that {there.name} has the client", LIMIT_S)
