"""Handovers when messages are lost and peers die, hang or cannot be reached: the client is announced where it is.

No routing daemon runs. What is asked is which access points announce the client; that its packets come too, where the
old access point can send them on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from roamroute.lab.radio import Client
from roamroute.lab.waiting import NotReached, wait_until

from .still_mesh import StillMesh, make_still_mesh, silence
from .world import LIMIT_S, MARKS, all_addresses, speak

AT_ONCE_S = 2.0
"""Milliseconds, on a machine that has time; without a hint a silent client is not found at all."""

pytestmark = MARKS


@pytest.fixture(scope="module")
def still() -> Iterator[StillMesh]:
    with make_still_mesh() as new:
        yield new


@pytest.fixture
def client(still: StillMesh) -> Iterator[Client]:
    still.repair()
    with still.client_at(still.access_points[0], has_ipv4=True) as new:
        yield new


@pytest.mark.parametrize("percent", [20, 50])
def test_every_roam_comes_back_although_messages_are_lost(still: StillMesh, client: Client, percent: int) -> None:
    way = itertools.islice(itertools.cycle([1, 2, 1, 0, 2, 0]), 12)
    silence(client)
    with still.losing(*still.access_points, percent=percent), still.downlink(client.main_address) as downlink:
        for place in way:
            client.roam(still.access_points[place])
            still.wait_here(still.access_points[place], *all_addresses(client))
            downlink.wait_arriving(client.connected_at)


def test_a_client_is_announced_by_a_hint_although_nobody_can_be_asked(still: StillMesh, client: Client) -> None:
    first, second, _ = still.access_points
    still.restart(second)  # what it knows of the client now has been told ahead, by the first
    still.wait_hinted(second, client)
    silence(client)
    with still.losing(second):
        client.roam(second)
        for address in client.addresses:
            wait_until(lambda: still.is_announced(second, address), f"{address} is announced", AT_ONCE_S)  # noqa: B023
        assert still.is_announced(first, client.main_address)
    still.wait_here(second, *client.addresses)


def test_without_a_hint_a_silent_client_is_not_known_until_a_peer_answers(still: StillMesh, client: Client) -> None:
    first, second, _ = still.access_points
    with still.changed(first, changes={"handover": {"hints": False}}):
        still.join(client, first)
        still.restart(second)
        silence(client)
        with still.losing(second):
            client.roam(second)
            wait_until(lambda: _is_associated(still, client), f"{second.name} has the client", LIMIT_S)
            with pytest.raises(NotReached):
                wait_until(lambda: still.is_announced(second, client.main_address), "it is announced", AT_ONCE_S)
        still.wait_here(second, *client.addresses)


def test_a_peer_killed_in_the_middle_of_a_handover_does_not_keep_the_client(still: StillMesh, client: Client) -> None:
    first, second, third = still.access_points
    silence(client)
    client.leave()
    still.daemons[first.name].kill()
    client.attach(second)
    wait_until(lambda: still.is_announced(second, client.main_address), "it is announced", LIMIT_S)
    still.daemons[first.name].start()
    still.daemons[first.name].wait_ready()
    still.wait_here(second, *client.addresses)
    still.wait_peers(first)
    client.roam(third)
    still.wait_here(third, *client.addresses)


def test_the_new_access_point_killed_in_the_middle_of_a_handover_finds_the_client(
    still: StillMesh, client: Client
) -> None:
    _, second, _ = still.access_points
    client.leave()
    client.attach(second)
    still.daemons[second.name].kill()
    still.daemons[second.name].start()
    still.daemons[second.name].wait_ready()
    speak(client)
    still.wait_here(second, *client.addresses)


def test_a_peer_that_hung_in_the_middle_of_a_handover_sends_on_when_it_wakes(still: StillMesh, client: Client) -> None:
    first, second, _ = still.access_points
    silence(client)
    with still.downlink(client.main_address) as downlink:
        with still.stopped(first):
            client.roam(second)
            wait_until(lambda: still.is_announced(second, client.main_address), "it is announced", LIMIT_S)
        still.wait_here(second, *client.addresses)
        downlink.wait_arriving(client.connected_at)


def test_a_new_access_point_that_hung_in_the_middle_of_a_handover_has_the_client_when_it_wakes(
    still: StillMesh, client: Client
) -> None:
    first, second, _ = still.access_points
    silence(client)
    with still.downlink(client.main_address) as downlink:
        with still.stopped(second):
            client.roam(second)
            assert still.announcers(client.main_address) == [first.name]
        still.wait_here(second, *client.addresses)
        downlink.wait_arriving(client.connected_at)


@pytest.mark.parametrize("way", [(1, 2), (1, 0), (2, 1, 0, 1)], ids=["onwards", "back", "about"])
def test_a_partition_that_heals_leaves_one_announcer(still: StillMesh, client: Client, way: tuple[int, ...]) -> None:
    """The first access point hears of nothing while the client moves; the others hear each other."""
    silence(client)
    with still.losing(still.access_points[0]):
        for place in way:
            client.roam(still.access_points[place])
            wait_until(
                lambda: still.is_announced(still.access_points[place], client.main_address),  # noqa: B023
                "it is announced where it is",
                LIMIT_S,
            )
    still.wait_here(still.access_points[way[-1]], *client.addresses)


def _is_associated(still: StillMesh, client: Client) -> bool:
    hosts = still.status(still.access_points[1])["hosts"]
    return any(host["mac"] == client.mac and host["station_link"] for host in hosts)
