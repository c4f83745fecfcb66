"""Client links that are bridges, with multicast snooping and without it, with a querier and without one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from roamroute.lab.namespaces import Sandbox
from roamroute.lab.topology import Router
from roamroute.lab.waiting import wait_until

from .dad_clients import LIMIT_S, Cell, Client, ask, bounce, own_addresses
from .dad_world import PROGRAMS, DadWorld, world_running

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs(*PROGRAMS)]

KINDS = {
    "plain": "mcast_snooping 0",
    "snooping": "mcast_snooping 1",
    # A bridge forwards by what it has learnt once the answers to its first query are due: after 1 s here.
    "querier": "mcast_snooping 1 mcast_querier 1 mcast_query_response_interval 100 mcast_startup_query_interval 200",
}
NOBODYS = IPv6Address("ff02::1:ffba:dbad")
"""A group that nobody has joined."""


class Bridges:
    """Two access points whose client links are bridges, and whose clients are ports of these."""

    def __init__(self, world: DadWorld, kind: str) -> None:
        self.world = world
        self.here, self.there = (world.add_bridge(number, "wlan0", options=KINDS[kind]) for number in range(2))


@pytest.fixture(scope="module", params=KINDS)
def bridges(request: pytest.FixtureRequest) -> Iterator[Bridges]:
    with Sandbox(programs=PROGRAMS) as sandbox:
        made = Bridges(DadWorld(sandbox), request.param)
        with world_running(made.world):
            for cell in (made.here, made.there):
                client = made.world.client(cell)
                wanted = request.param != "querier"
                what = f"the bridge {'floods' if wanted else 'forwards by what it has learnt'}"
                wait_until(lambda: _passes(cell, client) is wanted, what, LIMIT_S)  # noqa: B023
            yield made


@pytest.mark.parametrize("where", ["other access point", "same access point"])
def test_a_duplicate_is_found(bridges: Bridges, where: str) -> None:
    world = bridges.world
    owner = world.owner(bridges.here if where == "same access point" else bridges.there)
    asker = world.client(bridges.here)
    assert asker.ask(owner.address) == "duplicate"
    assert asker.ask(asker.address) == "usable"


def test_ten_duplicates_are_found_at_once(bridges: Bridges) -> None:
    owners, askers = bridges.world.owners(bridges.there, 10), bridges.world.crowd(bridges.here, 10)
    found = ask({asker: owner.address for asker, owner in zip(askers, owners, strict=True)})
    assert set(found.values()) == {"duplicate"}, found


def test_nobody_finds_itself(bridges: Bridges) -> None:
    """Clients without RFC 7527, which ask again after their interface was down."""
    clients = [*bridges.world.crowd(bridges.here, 10, settings={"enhanced_dad": 0})]
    for _ in range(2):
        found = ask(own_addresses(clients))
        assert set(found.values()) == {"usable"}, found
        bounce(clients)


def _passes(cell: Cell, client: Client) -> bool | None:
    """Whether the bridge gives a frame to a group that nobody has joined to the client; None: it is not up yet."""
    with client.namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD)) as wire:
        wire.settimeout(0.1)
        try:
            _send(cell.access_point, cell.name)
        except OSError:
            return None
        try:
            while True:
                if wire.recv(2048)[24:40] == NOBODYS.packed:
                    return True
        except TimeoutError:
            return False


def _send(access_point: Router, link: str) -> None:
    with access_point.namespace.entered(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as wire:
        wire.sendto(b"", (str(NOBODYS), 9, 0, socket.if_nametoindex(link)))
