"""Keys, replays and forgeries: what is not from a peer has no effect, and a change of the key costs nobody a packet."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from roamroute.lab import addresses
from roamroute.lab.namespaces import Namespace
from roamroute.lab.radio import Client, Host
from roamroute.lab.topology import Router
from roamroute.lab.waiting import wait_until

from .still_mesh import StillMesh, make_still_mesh, silence
from .wiretap import PORT, ipv6_packet, repeat_message, send_packet, tapped
from .world import LIMIT_S, MARKS, is_answered

SEALED = 2
"""The kind of a datagram that carries claims; hellos are answered whoever repeats them."""

pytestmark = MARKS


@pytest.fixture(scope="module")
def still() -> Iterator[StillMesh]:
    with make_still_mesh() as new:
        yield new


@pytest.fixture
def client(still: StillMesh) -> Iterator[Client]:
    still.repair()
    with still.client_at(still.access_points[0]) as new:
        yield new


# -- keys -------------------------------------------------------------------------------------------------------------


def test_an_access_point_with_another_key_does_without_the_others_and_they_say_so(
    still: StillMesh, client: Client
) -> None:
    first, second, third = still.access_points
    own = still.key_file.read_text().strip()
    with _own_key_files(still, [own, own, secrets.token_hex(32)]):
        wait_until(lambda: _peer(still, first, second)["is_up"], "those with the same key have a session", LIMIT_S)
        client.roam(second)
        still.wait_here(second, *client.addresses)
        client.roam(third)
        still.lead(third, *client.addresses)
        main = client.main_address
        wait_until(
            lambda: is_answered(client.namespace, addresses.SERVER, source=main), "the client is served", LIMIT_S
        )
        still.wait_alone(third, main)  # the others have found out by themselves that it is gone
        for router, other in ((first, third), (third, first)):
            told = f"nothing from {other.address} is authentic: is the key the same on both?"
            wait_until(lambda: told in still.log(router), f"{router.name} tells of the key", LIMIT_S)  # noqa: B023
            assert not _peer(still, router, other)["is_up"]
        assert _peer(still, first, second)["is_up"]


def test_a_key_is_changed_on_one_access_point_after_the_other_while_a_client_roams(
    still: StillMesh, client: Client
) -> None:
    old, new = still.key_file.read_text().strip(), secrets.token_hex(32)
    first = still.access_points[0]
    silence(client)
    with _own_key_files(still, [old] * 3), still.downlink(client.main_address) as downlink:
        for router in still.access_points:
            still.wait_peers(router)
        restarts = [_peer(still, first, other)["restarts"] for other in still.access_points[1:]]
        lost = [still.log(router).count("peer lost") for router in still.access_points]
        for keys in ([old, new], [new, old], [new]):
            for router in still.access_points:
                lines = len(still.log(router).splitlines())
                _write(still, router, *keys)
                still.daemons[router.name].process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
                wait_until(
                    lambda: any("keys were read" in line for line in still.log(router).splitlines()[lines:]),  # noqa: B023
                    f"{router.name} has read its keys",
                    LIMIT_S,
                )
                begun = time.monotonic()
                place = still.access_points[1 if client.access_point is still.access_points[2] else 2]
                client.roam(place)
                still.wait_here(place, *client.addresses)
                downlink.wait_arriving(client.connected_at)
                assert time.monotonic() - begun < 5.0
        assert [still.log(router).count("peer lost") for router in still.access_points] == lost
        assert [_peer(still, first, other)["restarts"] for other in still.access_points[1:]] == restarts
        assert old not in "".join(_key_file(still, router).read_text() for router in still.access_points)
        still.wait_peers(first)


# -- replays and forgeries --------------------------------------------------------------------------------------------


def test_claims_that_are_sent_again_have_no_effect(still: StillMesh, client: Client) -> None:
    first, second, third = still.access_points
    router = still.mesh.router_of(first).namespace
    with tapped((router, [first.name])) as (tap,):
        client.roam(second)
        still.wait_here(second, *client.addresses)
        recorded = [each for each in tap.messages(second.address, first.address) if each.payload[3] == SEALED]
    assert recorded
    client.roam(first)
    still.wait_alone(first, *client.addresses)
    before = _belief(still, first, client)
    replayed = _counters(still, first)["replayed"]
    for message in recorded:
        repeat_message(router, message)
    wait_until(lambda: _counters(still, first)["replayed"] >= replayed + len(recorded), "all are refused", LIMIT_S)
    assert _belief(still, first, client) == before
    # To one that has just started, and knows nothing but what its kernel knows, they say as little.
    still.restart(first)
    still.wait_here(first, *client.addresses)
    received = _counters(still, first)["datagrams_received"]
    for message in recorded:
        repeat_message(router, message)
    wait_until(
        lambda: _counters(still, first)["datagrams_received"] >= received + len(recorded), "they are there", LIMIT_S
    )
    assert still.announcers(client.main_address) == [first.name]
    client.roam(third)
    still.wait_here(third, *client.addresses)


def test_a_client_that_speaks_as_a_peer_is_not_believed(still: StillMesh, client: Client) -> None:
    """It has the peer's address, and everything that the peer has said on the wire until now."""
    first, second, _ = still.access_points
    with tapped((still.mesh.router_of(first).namespace, [first.name])) as (tap,):
        client.roam(second)
        still.wait_here(second, *client.addresses)
        recorded = [packet.payload for packet in tap.messages(second.address, first.address)]
    client.roam(first)
    still.wait_alone(first, *client.addresses)
    before = _belief(still, first, client)
    with contextlib.closing(_as_peer(still.new_host(first), second)) as voice:
        refused = _refused(still, first)
        forged = [bytes(payload[:-1]) + bytes([payload[-1] ^ 1]) for payload in recorded]
        for payload in (*recorded, *forged):
            voice.sendto(payload, (str(first.address), PORT))
        wait_until(lambda: _refused(still, first) >= refused + len(forged), "all are refused", LIMIT_S)
        assert _belief(still, first, client) == before
        assert still.announcers(client.main_address) == [first.name]
    assert _peer(still, first, second)["is_up"]


def test_an_address_that_a_neighbour_elsewhere_takes_is_not_diverted(still: StillMesh, client: Client) -> None:
    """The host that takes it is there, and answers for it; nobody has associated with that address."""
    first, second, _ = still.access_points
    taken = client.main_address
    thief = still.new_host(second)
    thief.namespace.ip(f"addr add {taken}/128 dev {addresses.CLIENT_LINK} nodad")
    with still.gateway_as_peer():
        still.join(client, first)
        with still.downlink(taken) as downlink:
            downlink.wait_arriving(time.monotonic())
            begun = time.monotonic()
            for _ in range(5):
                is_answered(thief.namespace, addresses.SERVER, source=taken)
                thief.namespace.ip(f"neigh flush dev {addresses.CLIENT_LINK}")  # it asks for its gateway again
            assert not downlink.lost(begun, time.monotonic())
            assert still.announcers(taken) == [first.name]
            routers = (*still.access_points, still.gateway)
            assert not any(str(still.segments(second).ipv6) in still.forwarded(router, taken) for router in routers)


@pytest.mark.parametrize("family", ["ipv6", "ipv4"])
def test_only_peers_put_packets_into_the_tunnel(still: StillMesh, family: str) -> None:
    """The same packet reaches the client when an access point has sent it, and else not."""
    first, second, _ = still.access_points
    still.repair()
    beside, elsewhere = still.new_host(second), still.new_host(first)
    with (
        still.client_at(second, has_ipv4=True) as victim,
        tapped((victim.namespace, [addresses.CLIENT_LINK])) as (tap,),
    ):
        address = victim.main_address if family == "ipv6" else victim.address_ipv4
        segment = still.segments(second).for_address(address)  # type: ignore[arg-type]
        routers = still.mesh.router_of(first).namespace
        forgers: list[tuple[Namespace, object]] = [
            (sender, source)
            for sender in (beside.namespace, elsewhere.namespace)
            for source in (first.address, beside.address, second.address)
        ]
        forgers += [(routers, still.gateway.address), (still.server, addresses.SERVER)]
        for number, (sender, source) in enumerate((*forgers, (routers, first.address))):
            protocol = socket.IPPROTO_IPV6 if family == "ipv6" else socket.IPPROTO_IPIP
            send_packet(sender, ipv6_packet(source, segment, protocol, _probe(address, number)))
        expected = (PROBE_FLOW, len(forgers))
        wait_until(lambda: expected in tap.probes(), "the packet that a peer has sent is there", LIMIT_S)
        assert [number for flow, number in tap.probes() if flow == PROBE_FLOW] == [len(forgers)]


PROBE_FLOW = 0xF00D


def _probe(destination: object, number: int) -> bytes:
    """A packet from the server as the lab's prober would send it."""
    payload = struct.pack("<IIq", PROBE_FLOW, number, 0)
    datagram = struct.pack("!HHHH", 4600, 4600, 8 + len(payload), 0) + payload
    there = ip_address(str(destination))
    if there.version == 6:
        return ipv6_packet(addresses.SERVER, there, socket.IPPROTO_UDP, datagram)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), number, 0, 64, socket.IPPROTO_UDP, 0)
    head = b"".join((head, addresses.SERVER_IPV4.packed, there.packed))
    words = int(sum(struct.unpack("!10H", head)))
    checksum = ~(words + (words >> 16)) & 0xFFFF
    return head[:10] + checksum.to_bytes(2, "big") + head[12:] + datagram


def _as_peer(host: Host, peer: Router) -> socket.socket:
    """A socket of the host's that has the address and the port of a peer."""
    host.namespace.ip(f"addr add {peer.address}/128 dev {addresses.CLIENT_LINK} nodad")
    voice = host.namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    voice.bind((str(peer.address), PORT))
    return voice


def _belief(still: StillMesh, router: Router, client: Client) -> tuple[Any, ...]:
    """What the router believes of the client, and who announces it."""
    host = next(host for host in still.status(router)["hosts"] if host["mac"] == client.mac)
    return host["sequence"], host["holder"], still.announcers(client.main_address)


def _counters(still: StillMesh, router: Router) -> dict[str, int]:
    counters: dict[str, int] = still.status(router)["peers"]["counters"]
    return counters


def _refused(still: StillMesh, router: Router) -> int:
    counters = _counters(still, router)
    return sum(counters[name] for name in ("replayed", "forged", "unknown_session", "malformed"))


def _peer(still: StillMesh, router: Router, other: Router) -> dict[str, Any]:
    """What the router's status says of another as a peer."""
    peers: list[dict[str, Any]] = still.status(router)["peers"]["peers"]
    return next(peer for peer in peers if peer["peer"] == str(other.address))


def _key_file(still: StillMesh, router: Router) -> Path:
    return still.sandbox.subdirectory(router.name) / "own.key"


def _write(still: StillMesh, router: Router, *keys: str) -> None:
    path = _key_file(still, router)
    path.touch(mode=0o600)
    path.write_text("".join(f"{key}\n" for key in keys))


@contextlib.contextmanager
def _own_key_files(still: StillMesh, keys: list[str]) -> Iterator[None]:
    """Let every access point read a file of its own, with this key, for the length of the block."""
    for router, key in zip(still.access_points, keys, strict=True):
        still.daemons[router.name].kill()
        _write(still, router, key)
        still.configure(router, {"peers": {"key_file": str(_key_file(still, router))}})
    for router in still.access_points:
        still.daemons[router.name].start()
    for router in still.access_points:
        still.daemons[router.name].wait_ready()
    try:
        yield
    finally:
        for router in still.access_points:
            still.daemons[router.name].kill()
            still.configure(router)
        still.repair()
