"""IPv4: duplicates that `arping -D` of iputils finds at another access point, as RFC 5227 §2.1.1 asks."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from roamroute.lab import addresses
from roamroute.lab.namespaces import Sandbox
from roamroute.lab.waiting import wait_until

from .dad_clients import LIMIT_S, Client
from .dad_world import PROGRAMS, DadWorld, world_running

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs(*PROGRAMS, "arping")]

FREE = addresses.ROAMING_PREFIX_IPV4[253]


class Place:
    """Two access points, the first with two client links, each with a cell of its own."""

    def __init__(self, world: DadWorld) -> None:
        self.world = world
        self.here = world.add_cell("here", (0, "wlan0"))
        self.beside = world.add_cell("beside", (0, "wlan1"))
        self.there = world.add_cell("there", (1, "wlan0"))


@pytest.fixture(scope="module", params=["all", "targeted"])
def lasting(request: pytest.FixtureRequest) -> Iterator[Place]:
    with Sandbox(programs=PROGRAMS) as sandbox:
        new = Place(DadWorld(sandbox, changes={"dad": {"mode": request.param}}))
        with world_running(new.world):
            yield new


@pytest.fixture
def place(lasting: Place) -> Iterator[Place]:
    """The same for all tests, but for the clients."""
    with lasting.world.visited():
        yield lasting


def has_duplicate(client: Client, address: IPv4Address, *, probes: int = 1) -> bool:
    """What `arping -D` says: somebody else has it (iputils 20221126: exit code 1). Probes are a second apart."""
    command = f"arping -D -c {probes} -w {probes + 1} -I {client.link} {address} || test $? = 1"
    return "Received 1 response" in client.namespace.run("sh", "-c", command)


def configured(place: Place, client: Client, address: IPv4Address) -> Client:
    """The client has the address, and its access point knows."""
    client.namespace.ip(
        f"addr add {address}/32 dev {client.link}",
        f"route add default via {addresses.CLIENT_GATEWAY_IPV4} dev {client.link} onlink",
    )
    client.speak(address)
    place.world.wait_announced({client: f"{address}"})
    return client


@pytest.mark.parametrize("where", ["there", "here", "beside"])
def test_a_duplicate_is_found(place: Place, where: str) -> None:
    cell = {"there": place.there, "here": place.here, "beside": place.beside}[where]
    owner = place.world.client(cell)
    configured(place, owner, owner.address_ipv4)
    asker = place.world.client(place.here)
    assert has_duplicate(asker, owner.address_ipv4)
    # And again; a probe some milliseconds after the last is taken for the same one, heard twice.
    assert has_duplicate(asker, owner.address_ipv4, probes=2)


def test_a_free_address_is_free(place: Place) -> None:
    asker = place.world.client(place.here)
    assert not has_duplicate(asker, FREE)
    assert not has_duplicate(asker, asker.address_ipv4)


def test_nobody_finds_itself_after_a_roam(place: Place) -> None:
    client = place.world.client(place.here)
    own = client.address_ipv4
    assert not has_duplicate(client, own)
    configured(place, client, own)
    for cell in (place.there, place.here, place.beside, place.there):
        place.world.move([client], cell)
        assert not has_duplicate(client, own), cell.name
        client.speak(own)
        place.world.wait_announced({client: f"{own}"})
        assert not has_duplicate(client, own), cell.name
    assert has_duplicate(place.world.client(place.here), own)


def test_two_clients_that_probe_the_same_address_see_each_other(place: Place, request: pytest.FixtureRequest) -> None:
    """RFC 5227 §2.1.1: a probe from another for the same address is a conflict too. arping looks at replies only."""
    if "targeted" in request.node.name:
        pytest.skip("in this mode nobody is asked for an address that nobody has yet")
    first, second = place.world.client(place.here), place.world.client(place.there)
    with hearing(second) as heard:
        assert not has_duplicate(first, FREE)
        wait_until(lambda: any(_target(frame) == FREE for frame in heard()), "the probe arrives", LIMIT_S)


def test_an_announcement_reaches_the_owner_at_another_access_point(
    place: Place, request: pytest.FixtureRequest
) -> None:
    """RFC 5227 §2.4: so that it can defend its address."""
    if "targeted" in request.node.name:
        pytest.skip("in this mode an announcement goes to those who have asked")
    owner = place.world.client(place.there)
    configured(place, owner, owner.address_ipv4)
    other = place.world.client(place.here)
    other.namespace.ip(f"addr add {owner.address_ipv4}/32 dev {other.link}")
    with hearing(owner) as heard:
        other.namespace.run("arping", "-U", "-c", "1", "-I", other.link, str(owner.address_ipv4))
        wait_until(
            lambda: any(_sender(frame) == owner.address_ipv4 for frame in heard()), "the announcement arrives", LIMIT_S
        )


@contextlib.contextmanager
def hearing(client: Client) -> Iterator[Callable[[], list[bytes]]]:
    """All ARP that the client hears, in the length of the block."""
    found: list[bytes] = []
    with client.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as wire:
        wire.setblocking(False)

        def read() -> list[bytes]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame, sender = wire.recvfrom(2048)
                    if sender[2] != socket.PACKET_OUTGOING:
                        found.append(frame)
            return found

        yield read


def _sender(frame: bytes) -> IPv4Address:
    return IPv4Address(frame[28:32])


def _target(frame: bytes) -> IPv4Address:
    return IPv4Address(frame[38:42])
