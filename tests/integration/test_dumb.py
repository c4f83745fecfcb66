"""Plain bridges carry the Wi-Fi of some routers, and hostapd that of others: what the gateway two hops away sees.

Every second access point is a router behind a dumb one (`[stations] source = "none"`); the others have hostapd.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from roamroute.lab import addresses
from roamroute.lab.dumb import Stations
from roamroute.lab.waiting import wait_until

from .world import (
    KERNEL_FLAVOURS,
    LIMIT_S,
    MARKS,
    World,
    all_addresses,
    is_answered,
    make_world,
    parameters,
    speak,
)

pytestmark = MARKS
FLAVOURS = [flavour for flavour in KERNEL_FLAVOURS if flavour.routing == "frr-ibgp"][:1]


@pytest.fixture(scope="module", params=parameters(FLAVOURS))
def dumb(request: pytest.FixtureRequest) -> Iterator[World]:
    with make_world(request.param, stations=Stations.NONE) as world:
        yield world


def test_a_client_that_is_silent_is_followed_wherever_it_goes_and_back(dumb: World) -> None:
    """Back, too: the first bridge would know its MAC for 300 s, and tell nothing."""
    first, second, third = dumb.access_points
    with dumb.new_client() as client:
        own = all_addresses(client)
        dumb.join(client, first)
        for target in (second, first, third, first):
            client.roam(target)
            dumb.wait_at(target, *own)
            dumb.wait_reached(*own)


def test_without_update_frames_the_clients_own_packets_tell(dumb: World) -> None:
    """It knows its gateway, and solicits nobody: what it sends is data, and where it has been it is no news."""
    first, second, third = dumb.access_points
    air = dumb.laboratory.air
    air.has_update_frames = False
    try:
        with dumb.new_client() as client:
            own = all_addresses(client)
            dumb.join(client, first)
            for gateway in (addresses.CLIENT_GATEWAY, addresses.CLIENT_GATEWAY_IPV4):
                client.namespace.ip(f"neigh replace {gateway} lladdr {addresses.COMMON_MAC} dev wlan0 nud permanent")
            client.namespace.run("nft", "-f", "-", stdin=DATA_ONLY)
            for target in (third, first, second):
                client.roam(target)
                speak(client)
                dumb.wait_at(target, *own)
                dumb.wait_reached(*own)
    finally:
        air.has_update_frames = True


def test_a_client_that_says_nothing_at_all_is_found_when_its_old_router_has_missed_it(dumb: World) -> None:
    first, _, third = dumb.access_points
    air = dumb.laboratory.air
    air.has_update_frames = False
    try:
        with dumb.new_client() as client:
            dumb.join(client, first)
            dumb.wait_reached(client.main_address)
            # It only answers, and asks for its gateway when it has to.
            client.namespace.run("nft", "-f", "-", stdin=ANSWERS_ONLY)
            client.roam(third)
            dumb.wait_at(third, client.main_address)
            dumb.wait_reached(client.main_address)
    finally:
        air.has_update_frames = True


DATA_ONLY = """\
table inet data_only {
    chain output {
        type filter hook output priority filter; policy accept;
        icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report } drop
    }
}
"""
ANSWERS_ONLY = """\
table inet answers_only {
    chain output {
        type filter hook output priority filter; policy drop;
        icmpv6 type { nd-neighbor-advert, echo-reply } accept
        icmpv6 type nd-neighbor-solicit ip6 saddr != :: accept
    }
}
"""


def test_a_second_device_with_the_same_mac_and_address_does_not_take_what_answers_where_it_is(dumb: World) -> None:
    """Nobody is associated; still, what only neighbour discovery says takes no host that answers."""
    first, _, third = dumb.access_points
    with dumb.new_client() as client:
        dumb.join(client, first)
        address = client.main_address
        dumb.wait_reached(address)
        twin = dumb.laboratory.sandbox.namespace("twin")
        dumb.laboratory.air.add_port(twin, "twin", mac=client.mac, is_open=True)
        twin.ip("link set wlan0 up")
        dumb.laboratory.air.join("twin", third)
        twin.ip(f"addr add {address}/128 dev wlan0 nodad", "route add default via fe80::1 dev wlan0")
        try:
            for _ in range(5):
                is_answered(twin, "fd44:0:0:f::2", source=address)

            def has_asked() -> bool:
                log = dumb.daemons[third.name].log.read_text(errors="replace")
                return f"{client.mac} answers here and at {first.address}" in log

            wait_until(has_asked, f"{third.name} has claimed it, and was told that it is kept", LIMIT_S)
            dumb.wait_at(first, address)
            assert dumb.live(first, address)
        finally:
            dumb.laboratory.air.leave("twin", third)


@pytest.fixture(scope="module", params=parameters(FLAVOURS))
def mixed(request: pytest.FixtureRequest) -> Iterator[World]:
    with make_world(request.param, stations=Stations.MIXED) as world:
        yield world


def test_a_client_goes_from_hostapd_to_a_bridge_and_back(mixed: World) -> None:
    first, second, third = mixed.access_points
    assert (first.dumb is None, second.dumb is None) == (True, False)
    with mixed.new_client() as client:
        own = all_addresses(client)
        mixed.join(client, first)
        for target in (second, third, second, first):
            client.roam(target)
            mixed.wait_at(target, *own)
            mixed.wait_reached(*own)
