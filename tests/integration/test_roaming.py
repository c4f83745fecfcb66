"""roamroute on three access points with the real babeld, hostapd and wpa_supplicant.

What is asserted is what others see: the gateway's FIB two hops away, packets that arrive at the client. One mesh for
each generation of babeld serves all tests; every test brings clients of its own. test_roaming_routings.py does the
essential part of it over the other routing daemons.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from roamroute.lab import addresses
from roamroute.lab.namespaces import CommandFailed
from roamroute.lab.radio import Client
from roamroute.lab.topology import Router
from roamroute.lab.waiting import wait_until

from .world import (
    BABELD_FLAVOURS,
    LIMIT_S,
    MARKS,
    World,
    is_answered,
    make_world,
    parameters,
    roam_between_routers_without_a_hole,
    roam_while_the_routers_stand_still,
)

pytestmark = MARKS


@pytest.fixture(scope="module", params=parameters(BABELD_FLAVOURS))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with make_world(request.param, client_addresses=4) as new:
        yield new


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    new = world.laboratory.new_client()
    yield new
    new.leave()
    new.supplicant.log_off()


def test_a_client_that_joins_is_reached_at_all_its_addresses(world: World, client: Client) -> None:
    first = world.access_points[0]
    client.roam(first)
    # IPv4 has no duplicate address detection here: the address is known when its first packet has been seen.
    wait_until(lambda: is_answered(client.namespace, addresses.SERVER_IPV4), "the client reaches the server", LIMIT_S)
    world.wait_at(first, *client.addresses, client.address_ipv4)
    world.wait_reached(*client.addresses, client.address_ipv4)


@pytest.mark.parametrize("is_polite", [False, True], ids=["silent-departure", "good-bye"])
def test_a_client_that_roams_takes_all_its_addresses_along(world: World, client: Client, is_polite: bool) -> None:
    for access_point in (*world.access_points, world.access_points[0]):
        client.roam(access_point, is_polite=is_polite)
        world.wait_at(access_point, *client.addresses)
        world.wait_reached(client.main_address)


def test_the_host_on_the_old_access_point_reaches_the_client_that_has_left(world: World, client: Client) -> None:
    first, _, third = world.access_points
    client.roam(first)
    world.wait_at(first, client.main_address)
    client.roam(third)
    correspondent = world.laboratory.correspondents[first.name].namespace
    wait_until(
        lambda: is_answered(correspondent, client.main_address),
        "the correspondent on the old access point is answered",
        LIMIT_S,
    )


def test_a_roam_takes_away_nobody_else_s_routes(world: World, client: Client) -> None:
    others = {name: host.address for name, host in world.laboratory.correspondents.items()}
    client.roam(world.access_points[0])
    world.wait_at(world.access_points[0], client.main_address)
    before = _routes_of_others(world, client)
    client.roam(world.access_points[2])
    world.wait_at(world.access_points[2], client.main_address)
    assert _routes_of_others(world, client) == before
    for access_point in world.access_points:
        world.wait_at(access_point, others[access_point.name])


def _routes_of_others(world: World, client: Client) -> set[str]:
    """What the gateway can reach, but for the client and for what earlier tests' clients have left to be forgotten."""
    lines = world.gateway.run("ip", "-6", "-o", "route", "show").splitlines()
    lines += world.gateway.run("ip", "-4", "-o", "route", "show").splitlines()
    prefixes = {line.split()[0] for line in lines if line.split()[0] != "unreachable"}
    correspondents = {str(host.address) for host in world.laboratory.correspondents.values()}
    return {prefix for prefix in prefixes if prefix in correspondents or not _is_roaming(prefix)}


def _is_roaming(prefix: str) -> bool:
    if prefix == "default":
        return False
    network = ip_network(prefix)
    roaming = addresses.ROAMING_PREFIX if network.version == 6 else addresses.ROAMING_PREFIX_IPV4
    return network.prefixlen == network.max_prefixlen and network.network_address in roaming


def test_a_client_that_goes_back_at_once_is_where_it_is(world: World, client: Client) -> None:
    first, second, _ = world.access_points
    client.roam(first)
    # An address whose duplicate address detection the move cuts short says nothing again, if the client is silent.
    world.wait_at(first, *client.addresses)
    client.leave()
    client.attach(second, layer_2_down_s=0.0)
    client.leave()
    client.attach(first, layer_2_down_s=0.0)
    world.wait_at(first, *client.addresses)
    world.wait_reached(client.main_address)


def test_the_old_access_point_sends_on_what_routers_still_send_it_and_none_sees_how(world: World) -> None:
    roam_while_the_routers_stand_still(world)


def test_a_roam_between_routers_costs_no_more_than_a_moment(world: World) -> None:
    roam_between_routers_without_a_hole(world)


def test_a_privacy_address_that_appears_later_is_announced(world: World, client: Client) -> None:
    first, second, _ = world.access_points
    client.roam(first)
    world.wait_at(first, client.main_address)
    temporary = addresses.ROAMING_PREFIX[0xABCD_0000 + hash(client.mac) % 0xFFFF]
    client.namespace.ip(f"addr add {temporary}/128 dev wlan0")
    world.wait_at(first, temporary)
    client.roam(second)
    world.wait_at(second, temporary)


def test_an_address_outside_the_roaming_prefix_is_never_announced(world: World, client: Client) -> None:
    first = world.access_points[0]
    client.roam(first)
    client.namespace.ip("addr add fd99::5/128 dev wlan0 nodad", "addr add 192.0.2.77/32 dev wlan0")
    world.wait_at(first, client.main_address)
    for source in ("fd99::5", "192.0.2.77"):
        target = str(addresses.CLIENT_GATEWAY_IPV4) if "." in source else f"{addresses.CLIENT_GATEWAY}%wlan0"
        with pytest.raises(CommandFailed):
            client.namespace.run("ping", "-c1", "-W1", "-I", source, target)
    routes = first.namespace.run("ip", "-6", "route", "show", "proto", "144")
    routes += first.namespace.run("ip", "-4", "route", "show", "proto", "144")
    assert "fd99::" not in routes
    assert "192.0.2." not in routes
    assert "fe80" not in routes


def test_a_client_that_vanishes_is_withdrawn(world: World, client: Client) -> None:
    first = world.access_points[0]
    client.roam(first)
    world.wait_at(first, *client.addresses)
    client.leave()
    world.wait_gone(*client.addresses)


def test_a_killed_daemon_adopts_the_living_without_a_flap_and_drops_the_gone(world: World, client: Client) -> None:
    first = world.access_points[0]
    gone = world.laboratory.new_client()
    client.roam(first)
    gone.roam(first)
    world.wait_at(first, *client.addresses, *gone.addresses)
    daemon = world.daemons[first.name]
    daemon.kill()
    gone.leave()
    first.namespace.ip(*(f"neigh del {address} dev wlan0" for address in gone.addresses))
    watched = daemon.directory / "monitor"
    monitor = first.namespace.start("ip", "-o", "-6", "monitor", "route", log=watched)
    daemon.start()
    daemon.wait_ready()
    world.wait_gone(*gone.addresses)
    world.wait_at(first, *client.addresses)
    world.laboratory.sandbox.stop(monitor)
    deleted = [line for line in watched.read_text().splitlines() if line.startswith("Deleted")]
    assert not [line for line in deleted if any(f"{address} " in line for address in client.addresses)]


def test_a_client_that_comes_before_the_peers_are_heard_of_stays(world: World, client: Client) -> None:
    first, second, _ = world.access_points
    client.roam(first)
    world.wait_at(first, *client.addresses)
    daemon = world.daemons[second.name]
    daemon.kill()
    daemon.start()
    daemon.wait_ready()
    client.roam(second)  # its sessions with the peers need another 0.1 s
    world.wait_at(second, *client.addresses)
    world.wait_reached(client.main_address)


def test_babeld_killed_and_started_again_has_every_route_again(world: World, client: Client) -> None:
    third = world.access_points[2]
    client.roam(third)
    world.wait_at(third, *client.addresses)
    world.laboratory.routing.kill(third)
    world.laboratory.routing.start_on(third)
    wait_until(lambda: _exported(world, third) >= len(client.addresses), "babeld has our routes again", LIMIT_S)
    world.wait_at(third, *client.addresses)


def _exported(world: World, access_point: Router) -> int:
    status = json.loads(world.command(access_point, "status", "--json").stdout)
    return int(status["routes"]["exported"] or 0)


def test_hostapd_killed_and_started_again_is_followed_again(world: World, client: Client) -> None:
    second = world.access_points[1]
    client.roam(second)
    world.wait_at(second, *client.addresses)
    hostapd = world.laboratory.daemons[second.name]
    hostapd.kill()
    hostapd.start()
    hostapd.wait_ready()
    client.roam(world.access_points[0])
    world.wait_at(world.access_points[0], client.main_address)
    client.roam(second)
    world.wait_at(second, *client.addresses)


def test_an_interface_that_goes_down_takes_its_routes_along_and_brings_them_back(world: World, client: Client) -> None:
    second = world.access_points[1]
    client.roam(second)
    world.wait_at(second, *client.addresses)
    second.namespace.ip("link set wlan0 down")
    world.wait_gone(*client.addresses)
    second.namespace.ip("link set wlan0 up", "addr replace fe80::1/64 dev wlan0 nodad")
    client.roam(world.access_points[0])
    client.roam(second)
    world.wait_at(second, *client.addresses)


def test_a_flood_of_forged_addresses_stays_within_the_limit_of_a_host(world: World, client: Client) -> None:
    first = world.access_points[0]
    client.roam(first)
    world.wait_at(first, client.main_address)
    forged = [addresses.ROAMING_PREFIX[0xDEAD_0000_0000 + number] for number in range(64)]
    client.namespace.ip(*(f"addr add {address}/128 dev wlan0 nodad" for address in forged))
    for address in forged:
        client.namespace.ip("neigh flush dev wlan0")  # so that it solicits its gateway with the forged address
        with contextlib.suppress(CommandFailed):  # those beyond the limit are not answered: no route leads back
            client.namespace.run("ping", "-c1", "-W0.1", "-I", str(address), str(addresses.SERVER))
    status = json.loads(world.command(first, "status", "--json").stdout)
    host = next(host for host in status["hosts"] if host["mac"] == client.mac)
    assert 0 < len(host["addresses"]) <= 16
    assert "has more than 16 addresses" in world.daemons[first.name].log.read_text()


def test_a_drain_withdraws_and_holds_until_it_is_resumed(world: World, client: Client) -> None:
    third = world.access_points[2]
    client.roam(third)
    world.wait_at(third, *client.addresses)
    assert world.command(third, "drain").returncode == 0
    world.wait_gone(*client.addresses)
    assert world.command(third, "drain", "--resume").returncode == 0
    world.wait_at(third, *client.addresses)


def test_a_clean_stop_withdraws_everything_and_a_start_brings_it_back(world: World, client: Client) -> None:
    third = world.access_points[2]
    client.roam(third)
    world.wait_at(third, *client.addresses)
    daemon = world.daemons[third.name]
    daemon.stop()
    ours = "".join(
        third.namespace.run("ip", "-6", "route", "show", "proto", number)
        for number in ("144", "145", "146", "147", "148")
    )
    assert not ours
    world.wait_gone(*client.addresses)
    daemon.start()
    daemon.wait_ready()
    client.roam(world.access_points[0])
    client.roam(third)
    world.wait_at(third, *client.addresses)


def test_check_finds_what_is_wrong_and_names_the_remedy(world: World, client: Client) -> None:
    first = world.access_points[0]
    assert world.errors(first) == []
    breakages: list[tuple[str, str, str]] = [
        ("addr del fe80::1/64 dev wlan0", "addr add fe80::1/64 dev wlan0 nodad", "fe80::1 is missing"),
        ("-6 route add fd44:0:0:1::/64 dev wlan0", "-6 route del fd44:0:0:1::/64 dev wlan0", "on-link"),
    ]
    for breakage, repair, words in breakages:
        _ip(first, breakage)
        answer = world.command(first, "check")
        _ip(first, repair)
        assert answer.returncode == 1
        assert words in answer.stdout
        assert "->" in answer.stdout


def _ip(access_point: Router, line: str) -> None:
    access_point.namespace.run("ip", *line.split())


def test_watch_shows_every_effect_with_its_cause(world: World, client: Client) -> None:
    first, second, _ = world.access_points
    client.roam(first)
    world.wait_at(first, client.main_address)
    daemon = world.daemons[second.name]
    seen = daemon.directory / "watched"
    watcher = second.namespace.start(
        sys.executable, "-m", "roamroute", "watch", "--json", "-c", str(daemon.configuration), log=seen
    )
    wait_until(lambda: '"start"' in seen.read_text(), "watch has begun", LIMIT_S)
    client.roam(second)
    world.wait_at(second, client.main_address)

    def announced() -> list[dict[str, str]]:
        lines = [json.loads(line) for line in seen.read_text().splitlines() if line.endswith("}")]
        return [line for line in lines if line.get("name") == "announce"]

    wait_until(lambda: bool(announced()), "watch shows the announcement", LIMIT_S)
    world.laboratory.sandbox.stop(watcher)
    lines = [json.loads(line) for line in seen.read_text().splitlines() if line.endswith("}")]
    names = [line.get("name") for line in lines]
    assert {"station-connected", "send-claim", "claim-answered", "announce", "probe"} <= set(names)
    assert all(line["because"] for line in lines if line["kind"] == "effect")
