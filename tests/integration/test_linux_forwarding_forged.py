"""Forged packets at the segments of access points: what nobody but a peer may send goes nowhere."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from roamroute.delta import Delta
from roamroute.effects import Forward
from roamroute.linux.forwarding import Forwarding
from roamroute.values import Address, HostRoute

from .linux_namespaces import sh
from .linux_tunnels import SERVER, SERVER4, STATION, STATION4, Mesh, make_mesh, mesh_address, segments

HOST = (HostRoute(STATION, "wlan0"), HostRoute(STATION4, "wlan0"))
MARK = b"forged by a test"
OUTGOING = 4
ICMPV6 = 58


class Ear:
    """What passes an interface in one direction: our forged packets, without the errors that quote them."""

    def __init__(self, mesh: Mesh, name: str, link: str, *, is_outgoing: bool = False) -> None:
        with mesh.inside(name):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self._socket.bind((link, 3))
        self._socket.setblocking(False)
        self._is_outgoing = is_outgoing

    def heard(self) -> list[bytes]:
        """The frames since the last call."""
        frames: list[bytes] = []
        while True:
            try:
                frame, came = self._socket.recvfrom(2048)
            except BlockingIOError:
                return frames
            is_error = frame[12:14] == b"\x86\xdd" and frame[20] == ICMPV6
            if MARK in frame and not is_error and (came[2] == OUTGOING) is self._is_outgoing:
                frames.append(frame)

    def close(self) -> None:
        self._socket.close()


class Scene:
    """All three access points forward and take; the station is on b."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.points = {name: mesh.forwarding(name) for name in ("a", "b", "c")}
        mesh.attach("b")
        with mesh.inside("b"):
            self.points["b"].deliver(Delta(announced=HOST))
        self.station = Ear(mesh, "sta", "wb")
        self.core = {name: Ear(mesh, "core", f"to_{name}") for name in ("a", "b", "c")}
        mesh.on("b", f"ping -c 1 -W 2 {STATION}")  # nobody waits for neighbour discovery from here on
        mesh.on("b", f"ping -c 1 -W 2 {STATION4}")

    def send(self, where: str, link: str, packet: Packet, *, to: tuple[str, str]) -> None:
        """A frame out of `link` of the namespace `where`, to the interface `to` (namespace, link)."""
        names = self.mesh.names
        macs = [
            sh(f"ip netns exec {names[name]} cat /sys/class/net/{at}/address").strip()
            for name, at in (to, (where, link))
        ]
        with self.mesh.inside(where), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
            opened.sendto(bytes(Ether(dst=macs[0], src=macs[1]) / packet), (link, 0))

    def heard_by_station(self, count: int) -> list[bytes]:
        """Wait for `count` packets, or, where none should come, for what surely comes after them."""
        frames: list[bytes] = []
        end = time.monotonic() + 2
        while len(frames) < count and time.monotonic() < end:
            frames += self.station.heard()
            time.sleep(0.01)
        return frames

    def close(self) -> None:
        for ear in (self.station, *self.core.values()):
            ear.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    for mesh in make_mesh():
        built = Scene(mesh)
        try:
            yield built
        finally:
            built.close()
            for opened in mesh.opened:
                asyncio.run(opened.close())


def inner6(to: Address = STATION) -> Packet:
    return IPv6(src=str(SERVER), dst=str(to)) / UDP(sport=7, dport=7) / Raw(MARK)


def inner4() -> Packet:
    return IP(src=str(SERVER4), dst=str(STATION4)) / UDP(sport=7, dport=7) / Raw(MARK)


def outer(source: Address, segment: Address | None) -> Packet:
    return IPv6(src=str(source), dst=str(segment), hlim=64)


TO_B = ("b", "up0")


@pytest.mark.parametrize("inner", [inner6, inner4])
def test_a_peer_s_packet_reaches_the_station_and_others_do_not(scene: Scene, inner: Callable[[], Packet]) -> None:
    segment = segments("b").ipv6 if inner is inner6 else segments("b").ipv4
    for source in (SERVER, STATION, mesh_address("b"), IPv6Address("fd44:a::9"), segment):
        assert source is not None
        scene.send("core", "to_b", outer(source, segment) / inner(), to=TO_B)
    scene.send("core", "to_b", outer(mesh_address("a"), segment) / inner(), to=TO_B)
    assert len(scene.heard_by_station(1)) == 1
    assert not scene.station.heard()
    assert scene.points["b"].status().taken[mesh_address("a")] == 1


def test_a_packet_with_a_routing_header_is_taken_from_peers_only_too(scene: Scene) -> None:
    segment = segments("b").ipv6
    header = IPv6ExtHdrSegmentRouting(addresses=[str(segment)], segleft=0, lastentry=0)
    for source in (SERVER, mesh_address("a")):
        scene.send("core", "to_b", outer(source, segment) / header / inner6(), to=TO_B)
    assert len(scene.heard_by_station(1)) == 1
    assert not scene.station.heard()


@pytest.mark.parametrize("has_packet_filter", [True, False])
@pytest.mark.parametrize("target", ["a", "b", "c"])
def test_a_client_reaches_no_segment_whoever_it_says_it_is(scene: Scene, target: str, has_packet_filter: bool) -> None:
    """On access point b: its own segments and those of the others, from its own address, a peer's and the AP's.

    The policy rules alone let the last one pass.
    """
    sources = [STATION, mesh_address("a"), mesh_address("c"), SERVER]
    if has_packet_filter:
        sources.append(mesh_address("b"))
    else:
        scene.mesh.on("b", "nft flush ruleset")
    for segment, inner in ((segments(target).ipv6, inner6), (segments(target).ipv4, inner4)):
        for source in sources:
            scene.send("sta", "wb", outer(source, segment) / inner(), to=("b", "wlan0"))
    # What is sent afterwards and allowed comes out behind what is not.
    scene.send(
        "sta", "wb", IPv6(src=str(STATION), dst=str(SERVER)) / UDP(dport=7) / Raw(MARK + b" last"), to=("b", "wlan0")
    )
    end = time.monotonic() + 2
    heard: list[bytes] = []
    while not any(b"last" in frame for frame in heard):
        assert time.monotonic() < end
        heard += scene.core["b"].heard()
    assert len(heard) == 1
    assert not scene.station.heard()


def test_a_peer_s_packet_to_a_host_that_is_not_here_goes_nowhere(scene: Scene) -> None:
    """Not even where we forward that host ourselves, or where the main table knows a way."""
    segment = segments("b").ipv6
    there = segments("c").ipv6
    assert there is not None
    gone = STATION + 1
    scene.mesh.on("b", f"ip route add {gone} via fe80::c dev up0")
    scene.points["b"].forward([Forward(gone, there, mesh_address("c"), "test")])
    for target in (gone, STATION + 2, SERVER, mesh_address("b")):
        scene.send("core", "to_b", outer(mesh_address("a"), segment) / inner6(target), to=TO_B)
    scene.send("core", "to_b", outer(mesh_address("a"), segment) / inner6(), to=TO_B)
    assert len(scene.heard_by_station(1)) == 1
    assert not scene.core["b"].heard()


def test_a_peer_s_ipv4_packet_leaves_by_the_client_link_or_not_at_all(scene: Scene) -> None:
    """Even where we forward that address ourselves: it is not encapsulated again."""
    segment, there = segments("b").ipv4, segments("c").ipv4
    assert there is not None
    scene.points["b"].forward([Forward(STATION4, there, mesh_address("c"), "test")])
    scene.send("core", "to_b", outer(mesh_address("a"), segment) / inner4(), to=TO_B)
    assert len(scene.heard_by_station(1)) == 1
    assert not [frame for frame in scene.core["b"].heard() if Ether(frame).type == 0x86DD]


def test_a_tunnel_in_a_tunnel_goes_nowhere(scene: Scene) -> None:
    ours = segments("b").ipv6
    for nested in (outer(mesh_address("a"), ours), outer(mesh_address("a"), segments("c").ipv6)):
        scene.send("core", "to_b", outer(mesh_address("a"), ours) / nested / inner6(), to=TO_B)
    scene.send("core", "to_b", outer(mesh_address("a"), ours) / inner6(), to=TO_B)
    assert len(scene.heard_by_station(1)) == 1
    assert not scene.core["b"].heard()
    assert not scene.core["c"].heard()


def ring(points: dict[str, Forwarding]) -> None:
    """Three access points that each believe the next one has the station."""
    for name, following in zip("abc", "bca", strict=True):
        there = segments(following)
        assert there.ipv6 is not None
        assert there.ipv4 is not None
        peer = mesh_address(following)
        points[name].forward([Forward(STATION, there.ipv6, peer, "ring"), Forward(STATION4, there.ipv4, peer, "ring")])


@pytest.mark.parametrize("inner", [inner6, inner4])
def test_three_access_points_that_send_on_in_a_ring_make_no_loop(scene: Scene, inner: Callable[[], Packet]) -> None:
    """Nobody has the station: a packet goes through one tunnel and ends; counted on the wire."""
    with scene.mesh.inside("b"):
        scene.points["b"].deliver(Delta(withdrawn=HOST))
    ring(scene.points)
    for _ in range(5):
        scene.send("core", "to_a", inner(), to=("a", "up0"))
    deadline = time.monotonic() + 0.5
    tunnelled = 0
    while time.monotonic() < deadline:
        for ear in scene.core.values():
            frames = [Ether(frame) for frame in ear.heard()]
            tunnelled += sum(frame.type == 0x86DD and frame[IPv6].nh in (4, 41) for frame in frames)
        time.sleep(0.01)
    assert tunnelled == 5
