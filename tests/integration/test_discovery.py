"""Neighbour discovery of the whole: the daemon, hostapd, and clients that their own kernels configure.

What the DAD proxy does in all its cases is in test_dad_*.py, what advertisements say in test_ra_*.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from roamroute.lab import addresses
from roamroute.lab.addresses import CLIENT_GATEWAY, CLIENT_LINK
from roamroute.lab.namespaces import Namespace
from roamroute.lab.radio import Client
from roamroute.lab.topology import Router
from roamroute.lab.waiting import wait_until
from roamroute.wire.discovery import parse
from roamroute.wire.router_advertisements import HeardRouter

from .still_mesh import Changes, StillMesh, make_still_mesh
from .world import LIMIT_S, MARKS, is_answered

pytestmark = MARKS

ETH_P_IPV6 = 0x86DD


@pytest.fixture(scope="module")
def mesh() -> Iterator[StillMesh]:
    with make_still_mesh(2, changes={"ra": {}}) as made:
        yield made


@pytest.fixture(autouse=True)
def _repaired(mesh: StillMesh) -> Iterator[None]:
    yield
    mesh.repair()


class Silent(Client):
    """A client that never asks for a router, and whose kernel takes what advertisements say."""

    @property
    def own(self) -> IPv6Address | None:
        """The address that it has made itself in the roaming prefix, once it may be used."""
        shown = json.loads(self.namespace.run("ip", "-j", "-6", "address", "show", "dev", CLIENT_LINK))
        found = [
            IPv6Address(entry["local"])
            for entry in shown[0]["addr_info"]
            if entry.get("dynamic") and not entry.get("tentative")
        ]
        return found[0] if found else None

    @property
    def routers(self) -> list[str]:
        """The default routers that advertisements have told of."""
        shown = json.loads(self.namespace.run("ip", "-j", "-6", "route", "show", "default"))
        return [route["gateway"] for route in shown if route["protocol"] == "ra"]

    def wait_configured(self) -> IPv6Address:
        wait_until(lambda: self.own is not None, "the client has an address", LIMIT_S)
        wait_until(lambda: self.routers == [str(CLIENT_GATEWAY)], "the client has a default router", LIMIT_S)
        assert self.own is not None
        return self.own

    def wait_without_router(self) -> None:
        wait_until(lambda: self.routers == [], "the client has no default router", LIMIT_S)


@contextlib.contextmanager
def silent_client(mesh: StillMesh) -> Iterator[Silent]:
    """A client in no cell yet; it leaves at the end."""
    number = next(mesh.identities)
    namespace = mesh.sandbox.namespace(f"client{number}")
    client = Silent(mesh.air, namespace, number, mesh.hostapds, address_count=0, is_configured=True)
    namespace.sysctl({f"net.ipv6.conf.{CLIENT_LINK}.router_solicitations": 0})
    client.start()
    try:
        yield client
    finally:
        client.leave(is_polite=True)


@contextlib.contextmanager
def listening(namespace: Namespace) -> Iterator[socket.socket]:
    """A socket that sees what comes to the client link of a namespace."""
    wire = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IPV6))
    with namespace.entered():
        wire.bind((CLIENT_LINK, ETH_P_IPV6))
    with wire:
        yield wire


def wait_advertised(wire: socket.socket, mac: str) -> HeardRouter:
    """The next router advertisement to this station alone."""
    give_up_at = time.monotonic() + LIMIT_S
    while select.select([wire], [], [], max(0.0, give_up_at - time.monotonic()))[0]:
        frame = wire.recv(2048)
        heard = parse(frame)
        if isinstance(heard, HeardRouter) and frame[:6].hex(":") == mac:
            return heard
    raise AssertionError("no advertisement came")


def is_duplicate(client: Client, address: IPv6Address) -> bool:
    """Let the client's kernel ask for the address; whether somebody has it. The client does not keep it."""
    client.namespace.ip(f"addr add {address}/128 dev {CLIENT_LINK}")
    try:
        found: list[bool] = []

        def is_known() -> bool:
            shown = json.loads(client.namespace.run("ip", "-j", "-6", "address", "show", "dev", CLIENT_LINK))
            (entry,) = (each for each in shown[0]["addr_info"] if each["local"] == str(address))
            found[:] = [bool(entry.get("dadfailed"))]
            return not entry.get("tentative") or found[0]

        wait_until(is_known, f"the kernel knows whether {address} is a duplicate", LIMIT_S)
        return found[0]
    finally:
        client.namespace.ip(f"addr del {address}/128 dev {CLIENT_LINK}")


def test_a_client_that_never_asks_is_configured_when_it_connects_and_keeps_all_of_it_when_it_roams(
    mesh: StillMesh,
) -> None:
    first, second = mesh.access_points
    with silent_client(mesh) as client, listening(client.namespace) as wire:
        client.attach(first)
        heard = wait_advertised(wire, client.mac)
        assert (heard.source, heard.lifetime_s) == (CLIENT_GATEWAY, 9000)
        own = client.wait_configured()
        mesh.lead(first, own)
        wait_until(lambda: is_answered(client.namespace, addresses.SERVER), "the client reaches the server", LIMIT_S)
        mesh.wait_here(first, own)
        client.roam(second)
        assert wait_advertised(wire, client.mac) == heard
        mesh.lead(second, own)
        mesh.wait_here(second, own)
        wait_until(lambda: is_answered(client.namespace, addresses.SERVER), "the client reaches the server", LIMIT_S)
        assert (client.own, client.routers) == (own, [str(CLIENT_GATEWAY)])


def test_an_address_that_a_client_of_another_access_point_has_is_a_duplicate(mesh: StillMesh) -> None:
    first, second = mesh.access_points
    with silent_client(mesh) as owner, silent_client(mesh) as asker:
        owner.attach(first)
        asker.attach(second)
        theirs, own = owner.wait_configured(), asker.wait_configured()
        assert theirs != own
        assert is_duplicate(asker, theirs)
        assert not is_duplicate(asker, IPv6Address(int(own) ^ 0xFFFF))
        assert owner.own == theirs
        assert mesh.status(second)["dad"]["counters"]["relayed"] > 0


def test_a_drained_access_point_is_no_router_and_still_keeps_addresses_unique(mesh: StillMesh) -> None:
    first, second = mesh.access_points
    with silent_client(mesh) as owner, silent_client(mesh) as asker:
        owner.attach(first)
        theirs = owner.wait_configured()
        assert mesh.command(first, "drain").returncode == 0
        owner.wait_without_router()
        asker.attach(second)
        asker.wait_configured()
        assert is_duplicate(asker, theirs)
        assert "NO default router, drained" in mesh.command(first, "status").stdout
        assert mesh.command(first, "drain", "--resume").returncode == 0
        owner.wait_configured()


def test_the_router_is_withdrawn_when_it_stops_and_stays_when_its_routes_do(mesh: StillMesh) -> None:
    first, _ = mesh.access_points
    with silent_client(mesh) as client:
        client.attach(first)
        client.wait_configured()
        mesh.daemons[first.name].stop()
        client.wait_without_router()
        with mesh.changed(first, changes={"kernel": {"keep_on_stop": True}}):
            client.roam(first)
            client.wait_configured()
            mesh.daemons[first.name].stop()
            assert client.routers == [str(CLIENT_GATEWAY)]
            mesh.repair()


def test_the_router_is_withdrawn_while_it_has_no_default_route(mesh: StillMesh) -> None:
    first, _ = mesh.access_points
    with mesh.changed(first, changes={"ra": {"needs_route": ["::/0"]}}), silent_client(mesh) as client:
        client.attach(first)
        client.wait_configured()
        (way,) = first.namespace.run("ip", "-6", "route", "show", "default").splitlines()
        first.namespace.run("ip", "-6", "route", "del", *way.split())
        try:
            client.wait_without_router()
            assert mesh.status(first)["ra"]["reason"] == "no route"
        finally:
            first.namespace.run("ip", "-6", "route", "add", *way.split())
        client.wait_configured()


def test_one_access_point_alone_keeps_the_addresses_of_its_isolated_stations_unique(mesh: StillMesh) -> None:
    first, _ = mesh.access_points
    with mesh.alone(first), silent_client(mesh) as owner, silent_client(mesh) as asker:
        owner.attach(first)
        asker.attach(first)
        theirs = owner.wait_configured()
        asker.wait_configured()
        assert is_duplicate(asker, theirs)


def test_what_is_off_opens_no_packet_socket(mesh: StillMesh) -> None:
    first, _ = mesh.access_points
    assert packet_sockets(mesh, first)
    off: Changes = {"dad": {"enabled": False}, "ra": {"sender": "radvd"}, "packets": {"enabled": False}}
    with mesh.changed(first, changes=off):
        assert not packet_sockets(mesh, first)


def packet_sockets(mesh: StillMesh, router: Router) -> set[str]:
    """The inodes of the packet sockets that roamroute on this router has."""
    process = mesh.daemons[router.name].process
    assert process is not None
    own = {os.readlink(each) for each in Path(f"/proc/{process.pid}/fd").iterdir()}
    lines = Path(f"/proc/{process.pid}/net/packet").read_text().splitlines()[1:]
    return {inode for inode in (line.split()[-1] for line in lines) if f"socket:[{inode}]" in own}
