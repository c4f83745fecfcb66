"""What a Linux client makes of that which an access point hands out: the facts that the DAD proxy is built on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Address, IPv6Network

import pytest

from roamroute.linux.discovery import DiscoveryTap, Heard
from roamroute.linux.frame_sender import FrameSender
from roamroute.values import AdvertisedPrefix, AdvertisedRouter, DadKind, DadMessage, Mac
from roamroute.wire import discovery
from roamroute.wire.router_advertisements import router_advertisement

from .linux_namespaces import Bed, Logged, eventually, make_bed

pytestmark = pytest.mark.requires_root
NEW = IPv6Address("fd44:0:0:1::99")
OTHER = Mac("02:00:00:00:00:77")


@pytest.fixture
def bed() -> Iterator[Bed]:
    for built in make_bed():
        built.on_sta("sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.eth0.accept_dad=1")
        built.on_sta("sysctl -qw net.ipv6.conf.eth0.dad_transmits=1 net.ipv6.conf.eth0.router_solicitation_delay=0")
        yield built


class AccessPoint:
    """Hears the client and hands out to it."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.sender = FrameSender(Logged())
        mac = self.sender.mac_of("wlan0")
        assert mac is not None
        self.mac = mac

    async def asked(self, target: IPv6Address = NEW) -> DadMessage:
        """The next duplicate detection for the address."""
        self.heard.clear()
        found: list[DadMessage] = []

        def is_heard() -> bool:
            found[:] = [each for each in self.heard if isinstance(each, DadMessage) and each.target == target]
            return bool(found)

        await eventually(is_heard)
        return found[0]


@asynccontextmanager
async def access_point() -> AsyncIterator[AccessPoint]:
    made = AccessPoint()
    tap = DiscoveryTap(("wlan0",), lambda link, message: made.heard.append(message), Logged())
    task = asyncio.create_task(tap.run())
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        made.sender.close()


def state_of(bed: Bed, address: IPv6Address = NEW) -> str:
    """ "tentative", "duplicate", "usable" or ""."""
    shown = bed.on_sta(f"ip -6 -o addr show dev eth0 to {address}")
    if not shown:
        return ""
    return "duplicate" if "dadfailed" in shown else "tentative" if "tentative" in shown else "usable"


@pytest.mark.parametrize(("everywhere", "here", "outcome"), [(0, 0, "duplicate"), (1, 0, "usable"), (0, 1, "usable")])
async def test_its_own_solicitation_coming_back_is_a_duplicate_without_nonces(
    bed: Bed, everywhere: int, here: int, outcome: str
) -> None:
    """enhanced_dad counts when it is set for all interfaces or for this one."""
    bed.on_sta(f"sysctl -qw net.ipv6.conf.all.enhanced_dad={everywhere} net.ipv6.conf.eth0.enhanced_dad={here}")
    async with access_point() as ap:
        bed.on_sta(f"ip addr add {NEW}/64 dev eth0")
        asked = await ap.asked()
        assert bool(asked.nonce) == bool(everywhere or here)
        ap.sender.send("wlan0", discovery.solicitation(ap.mac, asked, Bed.MAC))
        await eventually(lambda: state_of(bed) == outcome)


@pytest.mark.parametrize("is_unicast", [True, False])
@pytest.mark.parametrize("kind", list(DadKind))
async def test_anothers_solicitation_or_advertisement_makes_a_duplicate(
    bed: Bed, kind: DadKind, is_unicast: bool
) -> None:
    async with access_point() as ap:
        bed.on_sta(f"ip addr add {NEW}/64 dev eth0")
        await ap.asked()
        message = DadMessage(kind, NEW, OTHER, b"others")
        build = discovery.solicitation if kind is DadKind.SOLICITATION else discovery.advertisement
        ap.sender.send("wlan0", build(ap.mac, message, Bed.MAC if is_unicast else None))
        await eventually(lambda: state_of(bed) == "duplicate")


async def test_with_drop_unsolicited_na_only_a_solicitation_makes_a_duplicate(bed: Bed) -> None:
    bed.on_sta("sysctl -qw net.ipv6.conf.eth0.drop_unsolicited_na=1")
    async with access_point() as ap:
        bed.on_sta(f"ip addr add {NEW}/64 dev eth0")
        await ap.asked()
        told = DadMessage(DadKind.ADVERTISEMENT, NEW, OTHER)
        ap.sender.send("wlan0", discovery.advertisement(ap.mac, told, Bed.MAC))
        await eventually(lambda: state_of(bed) == "usable")
        bed.on_sta(f"ip addr del {NEW}/64 dev eth0")
        bed.on_sta(f"ip addr add {NEW}/64 dev eth0")
        await ap.asked()
        told = DadMessage(DadKind.SOLICITATION, NEW, OTHER, b"others")
        ap.sender.send("wlan0", discovery.solicitation(ap.mac, told, Bed.MAC))
        await eventually(lambda: state_of(bed) == "duplicate")


async def test_a_client_that_has_the_address_defends_it_once_for_each_question_and_keeps_it(bed: Bed) -> None:
    held = IPv6Address(Bed.ADDRESS6)
    async with access_point() as ap:
        told = DadMessage(DadKind.ADVERTISEMENT, held, OTHER)
        ap.sender.send("wlan0", discovery.advertisement(ap.mac, told, Bed.MAC))
        for number in range(5):
            asked = DadMessage(DadKind.SOLICITATION, held, OTHER, bytes([number] * 6))
            ap.sender.send("wlan0", discovery.solicitation(ap.mac, asked, Bed.MAC))
        await eventually(lambda: len(ap.heard) == 5)
        await asyncio.sleep(0.1)
        assert ap.heard == [DadMessage(DadKind.ADVERTISEMENT, held, Bed.MAC)] * 5
        assert state_of(bed, held) == "usable"


async def test_an_advertised_retrans_timer_is_how_long_it_waits_for_an_answer(bed: Bed) -> None:
    bed.on_sta("sysctl -qw net.ipv6.conf.eth0.accept_ra=2")
    prefix = AdvertisedPrefix(IPv6Network("fd44:7:7:7::/64"), 3600, 3600)
    router = AdvertisedRouter(IPv6Address("fe80::1"), 1800, (prefix,), retrans_timer_ms=2500)
    async with access_point() as ap:
        assert ap.sender.send("wlan0", router_advertisement(ap.mac, Bed.MAC, router))
        retrans = "sysctl -n net.ipv6.neigh.eth0.retrans_time_ms"
        await eventually(lambda: bed.on_sta(retrans).strip() == "2500")
        bed.on_sta(f"ip addr add {NEW}/64 dev eth0")
        await ap.asked()
        began = time.monotonic()
        await eventually(lambda: state_of(bed) == "usable")
        assert 2.3 < time.monotonic() - began < 4.5


async def test_an_advertisement_to_one_station_gives_it_address_and_gateway(bed: Bed) -> None:
    bed.on_sta("sysctl -qw net.ipv6.conf.eth0.accept_ra=2")
    prefix = AdvertisedPrefix(IPv6Network("fd44:7:7:7::/64"), 3600, 1800)
    router = AdvertisedRouter(IPv6Address("fe80::1"), 1800, (prefix,), mtu_bytes=1400)
    async with access_point() as ap:
        assert ap.sender.send("wlan0", router_advertisement(ap.mac, Bed.MAC, router))
        await eventually(lambda: "via fe80::1" in bed.on_sta("ip -6 route show default"))
        await eventually(lambda: "fd44:7:7:7:" in bed.on_sta("ip -6 addr show dev eth0 dynamic"))
        assert "fd44:7:7:7::/64" not in bed.on_sta("ip -6 route show")  # L=0: nobody is on-link
        assert bed.on_sta("sysctl -n net.ipv6.conf.eth0.mtu").strip() == "1400"
        assert state_of(bed, IPv6Address(Bed.ADDRESS6)) == "usable"
