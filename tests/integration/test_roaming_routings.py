"""A roaming client over every routing protocol of BIRD and FRR, on every generation, in both modes.

The clients, hostapd and roamroute are as in test_roaming.py, which goes into the details with babeld.
"""

from __future__ import annotations

from roamroute.lab.waiting import wait_until

from .world import LIMIT_S, MARKS, World, all_addresses, is_answered

pytestmark = MARKS


def test_a_client_is_reached_at_all_its_addresses_wherever_it_goes(routed_world: World) -> None:
    world = routed_world
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


def test_status_and_check_tell_that_all_is_exported(routed_world: World) -> None:
    world = routed_world
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
        answer = world.command(first, "check")
        assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_killed_roamroute_comes_back_without_a_flap(routed_world: World) -> None:
    world = routed_world
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


def test_routing_daemons_killed_in_the_middle_of_a_roam_have_every_route_again(routed_world: World) -> None:
    world = routed_world
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
