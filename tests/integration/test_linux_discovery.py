"""Duplicate detection and router discovery of a real client's kernel, as the tap on its access point hears it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest

from roamroute.linux.discovery import DiscoveryTap, Heard
from roamroute.linux.frame_sender import FrameSender
from roamroute.values import DadKind, DadMessage, Mac
from roamroute.wire import arp, discovery, ethernet
from roamroute.wire.arp import ArpPacket
from roamroute.wire.discovery import RouterSolicitation

from .linux_namespaces import Bed, Logged, eventually, inside, make_bed

pytestmark = pytest.mark.requires_root
NEW = "fd44:0:0:1::99"


@pytest.fixture
def bed() -> Iterator[Bed]:
    for built in make_bed():
        built.on_sta("sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.eth0.accept_dad=1")
        built.on_sta("sysctl -qw net.ipv6.conf.eth0.dad_transmits=1")
        yield built


class Ears:
    def __init__(self) -> None:
        self.messages: list[Heard] = []
        self.log = Logged()

    def __call__(self, link: str, message: Heard) -> None:
        assert link == "wlan0"
        self.messages.append(message)

    def of(self, target: str, kind: DadKind = DadKind.SOLICITATION) -> list[DadMessage]:
        return [
            each
            for each in self.messages
            if isinstance(each, DadMessage) and each.kind is kind and each.target == ip_address(target)
        ]

    async def until(self, target: str, kind: DadKind = DadKind.SOLICITATION) -> DadMessage:
        await eventually(lambda: bool(self.of(target, kind)))
        return self.of(target, kind)[0]


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[DiscoveryTap, Ears]]:
    ears = Ears()
    tap = DiscoveryTap(("wlan0",), ears, ears.log)
    task = asyncio.create_task(tap.run())
    await asyncio.sleep(0)
    try:
        yield tap, ears
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def injector(bed: Bed) -> socket.socket:
    with inside(bed.sta):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        opened.bind(("eth0", 0))
    return opened


def probe_of(target: str, mac: Mac = Bed.MAC) -> bytes:
    packet = ArpPacket(arp.REQUEST, ethernet.octets(mac), arp.UNSPECIFIED, bytes(6), ip_address(target).packed)
    return arp.compose(ethernet.BROADCAST, packet)


def sockets() -> set[str]:
    """Every socket of this process, by its inode."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists
            found.add(str(descriptor.readlink()))
    return {name for name in found if name.startswith("socket:")}


async def test_the_duplicate_detection_of_a_client_is_heard_with_its_nonce(bed: Bed) -> None:
    async with listening() as (tap, ears):
        bed.on_sta(f"ip addr add {NEW}/64 dev eth0")
        message = await ears.until(NEW)
        assert message.mac == Bed.MAC
        assert len(message.nonce) == 6
        assert tap.malformed_frames == 0


async def test_a_client_without_nonces_is_heard(bed: Bed) -> None:
    bed.on_sta("sysctl -qw net.ipv6.conf.all.enhanced_dad=0 net.ipv6.conf.eth0.enhanced_dad=0")
    async with listening() as (_, ears):
        bed.on_sta(f"ip addr add {NEW}/64 dev eth0")
        assert await ears.until(NEW) == DadMessage(DadKind.SOLICITATION, IPv6Address(NEW), Bed.MAC)


async def test_the_router_solicitation_of_a_client_is_heard(bed: Bed) -> None:
    async with listening() as (tap, ears):
        bed.on_sta("ip link set eth0 down")
        bed.on_sta("ip link set eth0 up")
        await eventually(lambda: any(isinstance(each, RouterSolicitation) for each in ears.messages))
        assert {each.mac for each in ears.messages if isinstance(each, RouterSolicitation)} == {Bed.MAC}
        assert tap.malformed_frames == 0


async def test_a_client_defends_its_address_and_is_heard(bed: Bed) -> None:
    sender = FrameSender(Logged())
    mac = sender.mac_of("wlan0")
    assert mac is not None
    async with listening() as (_, ears):
        asked = DadMessage(DadKind.SOLICITATION, IPv6Address(Bed.ADDRESS6), Mac("02:00:00:00:00:77"), bytes(6))
        assert sender.send("wlan0", discovery.solicitation(mac, asked, None))
        answer = await ears.until(Bed.ADDRESS6, DadKind.ADVERTISEMENT)
        assert answer.mac == Bed.MAC
        probe = DadMessage(DadKind.SOLICITATION, ip_address(Bed.ADDRESS4), Mac("02:00:00:00:00:77"))
        assert sender.send("wlan0", discovery.solicitation(mac, probe, None))
        answer = await ears.until(Bed.ADDRESS4, DadKind.ADVERTISEMENT)
        assert answer.mac == Bed.MAC
    sender.close()


async def test_a_client_takes_what_is_advertised_to_it_for_a_duplicate(bed: Bed) -> None:
    sender = FrameSender(Logged())
    mac = sender.mac_of("wlan0")
    assert mac is not None
    async with listening() as (_, ears):
        bed.on_sta(f"ip addr add {NEW}/64 dev eth0")
        await ears.until(NEW)
        owner = DadMessage(DadKind.ADVERTISEMENT, IPv6Address(NEW), Mac("02:00:00:00:00:77"))
        assert sender.send("wlan0", discovery.advertisement(mac, owner, Bed.MAC))
        await eventually(lambda: "dadfailed" in bed.on_sta("ip -6 addr show dev eth0"))
    sender.close()


async def test_a_client_hears_another_solicit_what_it_means_to_take(bed: Bed) -> None:
    sender = FrameSender(Logged())
    mac = sender.mac_of("wlan0")
    assert mac is not None
    async with listening() as (_, ears):
        bed.on_sta(f"ip addr add {NEW}/64 dev eth0")
        message = await ears.until(NEW)
        sender.send("wlan0", discovery.solicitation(mac, message, Bed.MAC))  # its own nonce: a reflection
        await asyncio.sleep(0.05)
        assert "dadfailed" not in bed.on_sta("ip -6 addr show dev eth0")
        other = DadMessage(DadKind.SOLICITATION, IPv6Address(NEW), Mac("02:00:00:00:00:77"), b"others")
        sender.send("wlan0", discovery.solicitation(mac, other, Bed.MAC))
        await eventually(lambda: "dadfailed" in bed.on_sta("ip -6 addr show dev eth0"))
    sender.close()


async def test_one_station_that_floods_is_muted_and_all_others_are_heard(bed: Bed) -> None:
    wire = injector(bed)
    async with listening() as (tap, ears):
        flood = [probe_of(f"10.44.{1 + number // 256}.{number % 256}") for number in range(5000)]
        for place in range(0, 5000, 50):
            for frame in flood[place : place + 50]:
                wire.send(frame)
            wire.send(probe_of(f"10.44.0.{10 + place // 50}", Mac(f"02:00:00:00:01:{place // 50:02x}")))
            await asyncio.sleep(0)
        for number in range(100):
            await ears.until(f"10.44.0.{10 + number}")
        assert len([each for each in ears.messages if isinstance(each, DadMessage) and each.mac == Bed.MAC]) <= 100
        assert (tap.muted_stations, tap.dropped_frames) == (1, 0)
        assert len([line for line in ears.log.lines if f"mac={Bed.MAC}" in line]) == 1
    wire.close()


async def test_malformed_frames_are_counted_and_mute_their_sender(bed: Bed) -> None:
    wire = injector(bed)
    solicited = discovery.solicitation(Bed.MAC, DadMessage(DadKind.SOLICITATION, IPv6Address(NEW), Bed.MAC), None)
    broken = solicited[:14] + b"\x60\0\0\0" + solicited[18:-1] + bytes([solicited[-1] ^ 1])
    async with listening() as (tap, ears):
        for _ in range(150):
            wire.send(broken)
        wire.send(probe_of("10.44.0.7", Mac("02:00:00:00:00:66")))
        await ears.until("10.44.0.7")
        assert len(ears.messages) == 1
        assert 90 <= tap.malformed_frames <= 100
        assert tap.muted_stations == 1
    wire.close()


async def test_our_own_frames_and_a_proxys_are_not_heard(bed: Bed) -> None:
    wire = injector(bed)
    async with listening() as (tap, ears):
        message = DadMessage(DadKind.SOLICITATION, IPv6Address(NEW), Mac("02:00:00:00:00:77"), bytes(6))
        wire.send(discovery.solicitation(Bed.MAC, message, None))
        wire.send(discovery.advertisement(Bed.MAC, message, None))
        tap.own_macs(frozenset({Mac("02:00:00:00:00:55")}))
        wire.send(probe_of("10.44.0.8", Mac("02:00:00:00:00:55")))
        wire.send(probe_of("10.44.0.9"))
        await ears.until("10.44.0.9")
        assert len(ears.messages) == 1
    wire.close()


async def test_an_interface_that_goes_and_comes_back_is_heard_again_without_closing_a_socket(bed: Bed) -> None:
    async with listening() as (tap, ears):
        opened = sockets()
        for number in range(3):
            bed.unplug()
            tap.link_changed()
            bed.plug()
            tap.link_changed()
            wire = injector(bed)
            wire.send(probe_of(f"10.44.0.{20 + number}"))
            await ears.until(f"10.44.0.{20 + number}")
            wire.close()
        assert opened <= sockets()
        assert not ears.log.lines


async def test_those_that_are_known_are_heard_through_a_flood_of_ever_new_senders(bed: Bed) -> None:
    wire = injector(bed)
    known = [Mac(f"02:00:00:00:02:{number:02x}") for number in range(60)]
    ears = Ears()
    tap = DiscoveryTap(("wlan0",), ears, ears.log, frames_per_second=300, stations=lambda link: known)
    task = asyncio.create_task(tap.run())
    await asyncio.sleep(0)
    try:
        end = time.monotonic() + 2.2
        asked, sent = 0, 0
        while time.monotonic() < end:
            for _ in range(40):
                sent += 1
                wire.send(probe_of("10.44.9.9", Mac((0x02_11_00_00_00_00 + sent).to_bytes(6, "big").hex(":"))))
            if asked < len(known):
                wire.send(probe_of(f"10.44.0.{100 + asked}", known[asked]))
                asked += 1
            await asyncio.sleep(0.01)
        for number in range(asked):
            await ears.until(f"10.44.0.{100 + number}")
        assert asked == len(known)
        assert sent > 2000
        assert len(ears.messages) < 3 * 450
        assert len([line for line in ears.log.lines if "too many frames" in line]) == 1
        await asyncio.sleep(1.0)
        wire.send(probe_of("10.44.0.99"))
        await ears.until("10.44.0.99")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        wire.close()
