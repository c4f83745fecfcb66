"""A roaming client over every routing protocol of BIRD and FRR, on every generation, in both modes.

The clients, hostapd and roamroute are as in test_roaming.py, which goes into the details with babeld. One world for
each serves all tests of this file.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest

from roamroute.lab.topology import Router
from roamroute.lab.waiting import wait_until

from .world import (
    INJECT_FLAVOURS,
    KERNEL_FLAVOURS,
    LIMIT_S,
    MARKS,
    World,
    all_addresses,
    is_answered,
    link_towards,
    make_world,
    parameters,
    roam_between_routers_without_a_hole,
    roam_while_the_routers_stand_still,
    speak,
)

pytestmark = MARKS


@pytest.fixture(scope="module", params=parameters((*KERNEL_FLAVOURS, *INJECT_FLAVOURS)))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with make_world(request.param) as new:
        yield new


def test_a_client_is_reached_at_all_its_addresses_wherever_it_goes(world: World) -> None:
    first, second, third = world.access_points
    others = [str(host.address) for host in world.laboratory.correspondents.values()]
    with world.new_client() as client, world.watched_gateway("roams") as deleted:
        own = all_addresses(client)
        world.join(client, first)
        world.wait_reached(*own)
        download = world.download(client)
        for access_point in (second, third, first):
            client.roam(access_point)
            world.wait_at(access_point, *own)
            world.wait_reached(*own)
            world.wait_exported(access_point, *own)
        for name, host in world.laboratory.correspondents.items():
            wait_until(lambda: is_answered(host.namespace, client.main_address), f"{name}'s host is answered", LIMIT_S)  # noqa: B023
        result = download.finish()
        assert result.is_verified, result.error
        client.leave(is_polite=True)
        world.wait_gone(*own)
        assert not [line for line in deleted() if any(f"{other} " in line for other in others)]


def test_status_and_check_tell_that_all_is_exported(world: World) -> None:
    first, second, _ = world.access_points
    with world.new_client() as client:
        own = all_addresses(client)
        world.join(client, first)
        world.wait_exported(first, *own)
        status = world.status(first)
        assert status["routes"]["exported"] == status["routes"]["wanted"] == status["routes"]["installed"] > len(own)
        assert status["exporter"]["is_connected"]
        assert world.flavour.generation.version in status["exporter"]["daemon"]
        assert not status["exporter"]["problems"]
        elsewhere = len(own) + 2  # the correspondents of the other access points
        wait_until(lambda: world.status(second)["routes"]["foreign"] >= elsewhere, "foreign routes are seen", LIMIT_S)
        assert world.errors(first) == []


def test_a_killed_roamroute_comes_back_without_a_flap(world: World) -> None:
    first, second, _ = world.access_points
    with world.new_client() as client:
        own = all_addresses(client)
        world.join(client, first)
        with world.watched_gateway("killed") as deleted:
            world.daemons[first.name].kill()
            world.daemons[first.name].start()
            world.daemons[first.name].wait_ready()
            world.wait_exported(first, *own)
            assert not [line for line in deleted() if any(f"{address} " in line for address in own)]
        client.roam(second)
        world.wait_at(second, *own)
        world.wait_reached(*own)


def test_the_new_access_point_wins_and_exports_while_the_old_one_still_announces(world: World) -> None:
    """The old one is kept from hearing of the move, and its routing daemon announces a route that leads nowhere."""
    new, _, old = world.access_points
    router = world.laboratory.mesh.router_of(new)
    with world.new_client() as client:
        own = all_addresses(client)
        world.join(client, old)

        def is_found() -> bool:
            speak(client)  # nobody can tell the new one which addresses it has
            return all(link_towards(new.namespace, address) == "wlan0" for address in own)

        with _kept_from_hearing(world, old):
            client.roam(new)
            wait_until(is_found, f"{new.name} has found all addresses", LIMIT_S)
            world.wait_exported(new, *own)
            for address in own:
                # Its neighbour is nearer to the new one, for every protocol, and has heard of it.
                wait_until(
                    lambda: link_towards(router.namespace, address) == new.name,  # noqa: B023
                    f"{router.name} sends {address} to {new.name}",
                    LIMIT_S,
                )
            beside = world.laboratory.correspondents[new.name].namespace
            wait_until(lambda: is_answered(beside, client.main_address), "a host beside it is answered", LIMIT_S)
            assert all(world.live(old, address) for address in own), "the old access point has withdrawn"
        world.wait_at(new, *own)
        world.wait_reached(*own)
        behind = world.laboratory.correspondents[old.name].namespace
        wait_until(lambda: is_answered(behind, client.main_address), "a host at the old place is answered", LIMIT_S)


def test_the_old_access_point_sends_on_what_routers_still_send_it_and_none_sees_how(world: World) -> None:
    roam_while_the_routers_stand_still(world)


def test_a_roam_between_routers_costs_no_more_than_a_moment(world: World) -> None:
    roam_between_routers_without_a_hole(world)


@contextlib.contextmanager
def _kept_from_hearing(world: World, access_point: Router) -> Iterator[None]:
    process = world.daemons[access_point.name].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_routing_daemons_killed_in_the_middle_of_a_roam_have_every_route_again(world: World) -> None:
    """The last one: ospf6d 8.4.4 keeps LSAs at MaxAge of its former life, and may take its new ones for older."""
    first, _, third = world.access_points
    killed = (first, third, world.laboratory.mesh.router_of(third))
    with world.new_client() as client:
        own = all_addresses(client)
        world.join(client, first)
        client.leave()
        for router in killed:
            world.laboratory.routing.kill(router)
        client.attach(third)
        for router in killed:
            world.laboratory.routing.start_on(router)
        world.wait_exported(third, *own)
        world.wait_at(third, *own)
        world.wait_reached(*own)
