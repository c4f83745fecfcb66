"""The packet source against a real client's frames."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Address, ip_address, ip_network

import pytest

from roamroute.events import AddressSeen, Event, StationAnnounced
from roamroute.lab.dumb import update_frame
from roamroute.linux.packets import PacketSource
from roamroute.values import Mac

from .linux_namespaces import Bed, Logged, inside, make_bed

PREFIXES = (ip_network(Bed.PREFIX), ip_network("10.44.0.0/16"))


@pytest.fixture
def bed() -> Iterator[Bed]:
    yield from make_bed()


class Heard:
    def __init__(self) -> None:
        self.seen: list[AddressSeen] = []
        self.announced: list[StationAnnounced] = []
        self.log = Logged()

    def __call__(self, batch: list[Event]) -> None:
        self.seen += [event for event in batch if isinstance(event, AddressSeen)]
        self.announced += [event for event in batch if isinstance(event, StationAnnounced)]

    def addresses(self) -> set[str]:
        return {str(event.address) for event in self.seen}

    async def until(self, address: str, within_s: float = 3.0) -> None:
        end = time.monotonic() + within_s
        while address not in self.addresses():
            assert time.monotonic() < end, f"{address} was not seen: {self.seen}"
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(
    frames_per_second: int = 500, *, is_hearing_update_frames: bool = False
) -> AsyncIterator[tuple[PacketSource, Heard]]:
    heard = Heard()
    source = PacketSource(
        ("wlan0",),
        PREFIXES,
        heard,
        heard.log,
        frames_per_second=frames_per_second,
        is_hearing_update_frames=is_hearing_update_frames,
    )
    task = asyncio.create_task(source.run())
    try:
        await asyncio.sleep(0.01)
        yield source, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def frame_of(source: str, mac: Mac = Bed.MAC, *, kind: int = 0x86DD) -> bytes:
    """A UDP packet without anything in it."""
    packed = ip_address(source).packed
    ethernet = b"\x02\x00\x00\x00\x00\x01" + bytes.fromhex(mac.replace(":", "")) + kind.to_bytes(2, "big")
    if len(packed) == 16:
        return ethernet + b"\x60\0\0\0\0\x08\x11\x40" + packed + IPv6Address("2001:db8::1").packed + bytes(8)
    return ethernet + b"\x45\0\0\x1c\0\0\0\0\x40\x11\0\0" + packed + bytes(4) + bytes(8)


def probe_of(target: str, mac: Mac = Bed.MAC) -> bytes:
    """An ARP probe (RFC 5227 §2.1)."""
    sender = bytes.fromhex(mac.replace(":", ""))
    body = b"\x00\x01\x08\x00\x06\x04\x00\x01" + sender + bytes(4) + bytes(6) + ip_address(target).packed
    return b"\xff" * 6 + sender + b"\x08\x06" + body


def injector(bed: Bed) -> socket.socket:
    with inside(bed.sta):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        opened.bind(("eth0", 0))
    return opened


async def test_duplicate_detection_names_the_target(bed: Bed) -> None:
    async with running() as (_, heard):
        bed.on_sta("sysctl -qw net.ipv6.conf.eth0.accept_dad=1 net.ipv6.conf.eth0.dad_transmits=1")
        bed.on_sta("ip addr add fd44:0:0:1::99/64 dev eth0")
        await heard.until("fd44:0:0:1::99")
        assert heard.seen[-1] == AddressSeen("wlan0", bed.MAC, ip_address("fd44:0:0:1::99"))


async def test_arp_and_solicitations_name_the_source(bed: Bed) -> None:
    bed.on_ap("ip addr add fd44:0:0:1::1/64 dev wlan0 nodad")
    async with running() as (_, heard):
        bed.on_sta("ping -c1 -W1 10.44.0.1")
        await heard.until("10.44.0.2")
        bed.on_sta("ping -c1 -W1 fd44:0:0:1::1")
        await heard.until("fd44:0:0:1::2")
        assert {event.mac for event in heard.seen} == {bed.MAC}


@pytest.mark.parametrize("is_hearing", [True, False])
async def test_an_access_point_that_announces_a_station_is_heard_where_it_matters(bed: Bed, is_hearing: bool) -> None:
    async with running(is_hearing_update_frames=is_hearing) as (_, heard):
        with injector(bed) as wire:
            wire.send(update_frame(Bed.MAC))
            wire.send(probe_of("10.44.0.77"))
            await heard.until("10.44.0.77")
    assert heard.announced == ([StationAnnounced(Bed.MAC, "wlan0")] if is_hearing else [])


async def test_data_counts_only_while_its_station_is_watched(bed: Bed) -> None:
    wire = injector(bed)
    async with running() as (source, heard):
        wire.send(frame_of("fd44:0:0:1::aa"))
        wire.send(frame_of("10.44.0.9", kind=0x0800))
        await asyncio.sleep(0.05)
        assert heard.seen == []
        source.watch("wlan0", bed.MAC)
        wire.send(frame_of("fd44:0:0:1::aa"))
        wire.send(frame_of("10.44.0.9", kind=0x0800))
        wire.send(frame_of("fd44:0:0:1::bb", Mac("02:00:00:00:00:66")))
        await heard.until("10.44.0.9")
        assert heard.addresses() == {"fd44:0:0:1::aa", "10.44.0.9"}
        source.unwatch("wlan0", bed.MAC)
        heard.seen.clear()
        wire.send(frame_of("fd44:0:0:1::cc"))
        await asyncio.sleep(0.05)
        assert heard.seen == []
    wire.close()


async def test_what_cannot_be_a_client_is_not_reported(bed: Bed) -> None:
    wire = injector(bed)
    async with running() as (source, heard):
        source.watch("wlan0", bed.MAC)
        source.watch("wlan0", Mac("02:00:00:00:00:01"))
        source.own_macs(frozenset({Mac("02:00:00:00:00:01")}))
        wire.send(frame_of("fe80::2"))
        wire.send(frame_of("2001:db8::9"))
        wire.send(frame_of("192.0.2.7", kind=0x0800))
        wire.send(frame_of("fd44:0:0:1::5", Mac("02:00:00:00:00:01")))
        wire.send(frame_of("fd44:0:0:1::7")[:30])  # cut short
        with inside(bed.ap):
            ours = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            ours.bind(("wlan0", 0))
        ours.send(frame_of("fd44:0:0:1::6"))  # going out
        wire.send(frame_of("fd44:0:0:1::ff"))
        await heard.until("fd44:0:0:1::ff")
        assert heard.addresses() == {"fd44:0:0:1::ff"}
        ours.close()
    wire.close()


async def test_the_same_address_is_reported_once_a_second_and_anew_after_watch(bed: Bed) -> None:
    wire = injector(bed)
    async with running() as (source, heard):
        source.watch("wlan0", bed.MAC)
        for _ in range(20):
            wire.send(frame_of("fd44:0:0:1::aa"))
        await asyncio.sleep(0.05)
        assert len(heard.seen) == 1
        source.watch("wlan0", bed.MAC)
        wire.send(frame_of("fd44:0:0:1::aa"))
        await asyncio.sleep(0.05)
        assert len(heard.seen) == 2
    wire.close()


async def test_a_flood_of_many_is_bounded_counted_and_over_when_it_is_over(bed: Bed) -> None:
    wire = injector(bed)
    async with running(frames_per_second=100) as (source, heard):
        macs = [Mac(f"02:00:00:00:01:{number:02x}") for number in range(50)]
        for mac in macs:
            source.watch("wlan0", mac)
        for number in range(3000):
            wire.send(frame_of(f"fd44:0:0:1::1:{number:x}", macs[number % 50]))
        await asyncio.sleep(0.3)
        assert len(heard.seen) == 100
        await asyncio.sleep(1.0)
        assert source.dropped_frames >= 2900
        assert any("too many frames" in line for line in heard.log.lines)
        wire.send(frame_of("fd44:0:0:1::aa", macs[0]))
        await heard.until("fd44:0:0:1::aa")
    wire.close()


async def test_much_data_of_one_station_hides_neither_others_nor_its_own_discovery(bed: Bed) -> None:
    wire = injector(bed)
    other = Mac("02:00:00:00:00:66")
    async with running() as (source, heard):
        source.watch("wlan0", bed.MAC)
        source.watch("wlan0", other)
        for number in range(150):
            wire.send(frame_of(f"fd44:0:0:1::1:{number:x}"))
        await asyncio.sleep(0.05)
        assert 100 <= len(heard.seen) <= 150
        for number in range(3000):
            wire.send(frame_of(f"fd44:0:0:1::2:{number:x}"))
        wire.send(frame_of("fd44:0:0:1::bb", other))
        wire.send(probe_of("10.44.0.2"))
        await heard.until("10.44.0.2", within_s=0.5)
        assert "fd44:0:0:1::bb" in heard.addresses()
        assert source.dropped_frames == 0
        assert heard.log.lines == []
        await asyncio.sleep(1.0)
        wire.send(frame_of("fd44:0:0:1::cc"))
        await heard.until("fd44:0:0:1::cc")
    wire.close()


async def test_one_station_that_sends_too_much_discovery_is_not_listened_to_for_a_while(bed: Bed) -> None:
    wire = injector(bed)
    other = Mac("02:00:00:00:00:66")
    async with running() as (source, heard):
        for number in range(150):
            wire.send(probe_of(f"10.44.1.{number}"))
        await asyncio.sleep(0.05)
        for number in range(3000):
            wire.send(probe_of(f"10.44.{2 + number // 256}.{number % 256}"))
        wire.send(probe_of("10.44.0.9", other))
        await heard.until("10.44.0.9", within_s=0.5)
        assert not any(address.startswith("10.44.2.") for address in heard.addresses())
        assert source.dropped_frames == 0
        assert any(f"mac={bed.MAC}" in line for line in heard.log.lines)
    wire.close()


async def test_an_interface_that_goes_and_comes_back_is_listened_to_again(bed: Bed) -> None:
    async with running() as (source, heard):
        bed.unplug()
        source.link_changed()
        bed.plug()
        bed.on_ap("ip link set wlan0 down")
        bed.on_ap("ip link set wlan0 up")
        source.link_changed()
        source.watch("wlan0", bed.MAC)
        wire = injector(bed)
        wire.send(frame_of("fd44:0:0:1::aa"))
        await heard.until("fd44:0:0:1::aa")
        wire.close()


async def test_more_stations_than_a_filter_takes_can_be_asked_for(bed: Bed) -> None:
    wire = injector(bed)
    async with running() as (source, heard):
        for number in range(600):
            source.watch("wlan0", Mac(f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"))
        wire.send(frame_of("fd44:0:0:1::aa", Mac("02:00:00:01:00:00")))  # given up
        wire.send(frame_of("fd44:0:0:1::bb", Mac("02:00:00:01:02:57")))  # the last
        await heard.until("fd44:0:0:1::bb")
        assert heard.addresses() == {"fd44:0:0:1::bb"}
        assert any("limit=500" in line for line in heard.log.lines)
    wire.close()
