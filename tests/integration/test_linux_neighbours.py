"""The neighbour source against the real kernel: a veth pair stands for the air."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar

import pytest

from roamroute.effects import Forget, Probe
from roamroute.events import (
    Event,
    LinkLost,
    MacForgotten,
    MacLearned,
    NeighbourChanged,
    NeighbourRemoved,
    NeighboursResynced,
    OwnAddressesChanged,
)
from roamroute.linux.neighbours import NeighbourSource
from roamroute.linux.rtnetlink import Requests
from roamroute.values import Mac, Nud
from roamroute.wire import netlink

from .linux_namespaces import Bed, Logged, make_bed, neighbour_limits, sh

E = TypeVar("E", bound=Event)


@pytest.fixture
def bed() -> Iterator[Bed]:
    yield from make_bed()


class Heard:
    """What the source emitted."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.batches = 0
        self.log = Logged()

    def __call__(self, batch: list[Event]) -> None:
        assert batch
        self.events += batch
        self.batches += 1

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def states(self, address: str) -> list[Nud]:
        wanted = ip_address(address)
        return [each.neighbour.nud for each in self.of(NeighbourChanged) if each.neighbour.address == wanted]

    async def until(self, count: int, kind: type[Event], within_s: float = 5.0) -> None:
        end = time.monotonic() + within_s
        while len(self.of(kind)) < count:
            assert time.monotonic() < end, f"{kind.__name__} did not come {count} times: {self.events}"
            await asyncio.sleep(0.005)

    async def until_state(self, address: str, state: Nud, within_s: float = 5.0) -> None:
        end = time.monotonic() + within_s
        while state not in self.states(address):
            assert time.monotonic() < end, f"{address} did not become {state.name}: {self.states(address)}"
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(links: tuple[str, ...] = ("wlan0",), **options: int) -> AsyncIterator[tuple[NeighbourSource, Heard]]:
    heard = Heard()
    source = NeighbourSource(links, heard, heard.log, **options)  # type: ignore[arg-type]
    task = asyncio.create_task(source.run())
    try:
        await heard.until(1, NeighboursResynced)
        yield source, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def dumped(event: NeighboursResynced) -> dict[str, Nud]:
    return {str(each.address): each.nud for each in event.neighbours}


async def test_it_begins_with_our_addresses_and_the_whole_table(bed: Bed) -> None:
    bed.on_ap(f"ip neigh replace {bed.ADDRESS6} lladdr {bed.MAC} dev wlan0 nud stale")
    bed.on_ap(f"ip neigh replace {bed.ADDRESS4} lladdr {bed.MAC} dev wlan0 nud reachable")
    async with running() as (source, heard):
        ours, whole = heard.events[:2]
        assert isinstance(ours, OwnAddressesChanged)
        assert {IPv6Address("fe80::1"), IPv4Address("10.44.0.1")} <= ours.addresses
        assert len(ours.macs) == 1
        assert isinstance(whole, NeighboursResynced)
        assert whole.links == {"wlan0"} == source.up
        assert dumped(whole)[bed.ADDRESS6] == Nud.STALE
        assert dumped(whole)[bed.ADDRESS4] == Nud.REACHABLE


@pytest.mark.parametrize("address", [Bed.ADDRESS6, Bed.ADDRESS4])
async def test_a_probe_of_an_unknown_address_is_answered_by_the_client(bed: Bed, address: str) -> None:
    async with running() as (source, heard):
        if ip_address(address).version == 6:
            bed.on_ap(f"ip -6 route add {address} dev wlan0")
        source.probe([Probe("wlan0", ip_address(address), bed.MAC, "test")])
        await heard.until_state(address, Nud.REACHABLE, within_s=1.0)
        assert not heard.log.lines


async def test_a_probe_needs_no_route_to_the_address(bed: Bed) -> None:
    """The host route is installed after the answer, so the probe must go out without one."""
    async with running() as (source, heard):
        source.probe([Probe("wlan0", ip_address(bed.ADDRESS6), bed.MAC, "test")])
        await heard.until_state(bed.ADDRESS6, Nud.REACHABLE, within_s=1.0)


@pytest.mark.parametrize("address", ["fd44:0:0:1::dead", "10.44.0.99"])
async def test_a_probe_of_a_silent_address_fails(bed: Bed, address: str) -> None:
    for family in ("ipv4", "ipv6"):
        bed.on_ap(f"sysctl -qw net.{family}.neigh.wlan0.retrans_time_ms=50")
    async with running() as (source, heard):
        source.probe([Probe("wlan0", ip_address(address), bed.MAC, "test")])
        await heard.until_state(address, Nud.FAILED)


async def test_entries_that_the_operator_fixed_are_left_alone(bed: Bed) -> None:
    """A probe would make them ordinary, with whatever MAC a forged packet named."""
    bed.on_ap(f"ip neigh replace {bed.ADDRESS6} lladdr 02:00:00:00:00:77 dev wlan0 nud permanent")
    async with running() as (source, heard):
        bed.on_ap(f"ip neigh replace {bed.ADDRESS4} lladdr 02:00:00:00:00:77 dev wlan0 nud permanent")
        await heard.until_state(bed.ADDRESS4, Nud.PERMANENT)
        for address in map(ip_address, (bed.ADDRESS6, bed.ADDRESS4)):
            source.probe([Probe("wlan0", address, bed.MAC, "test")])
            source.forget([Forget("wlan0", address, "test")])
        assert bed.on_ap("ip neigh show dev wlan0").count("PERMANENT") == 2
        bed.on_ap(f"ip neigh del {bed.ADDRESS6} dev wlan0")
        await heard.until(1, NeighbourRemoved)
        source.probe([Probe("wlan0", ip_address(bed.ADDRESS6), bed.MAC, "test")])
        await heard.until_state(bed.ADDRESS6, Nud.REACHABLE, within_s=1.0)


async def test_forget_removes_the_entry_and_an_absent_one_is_no_error(bed: Bed) -> None:
    bed.on_ap(f"ip neigh replace {bed.ADDRESS6} lladdr {bed.MAC} dev wlan0 nud stale")
    async with running() as (source, heard):
        gone = ip_address("fd44:0:0:1::dead")
        source.forget([Forget("wlan0", gone, "test"), Forget("wlan0", ip_address(bed.ADDRESS6), "test")])
        await heard.until(1, NeighbourRemoved)
        assert heard.of(NeighbourRemoved) == [NeighbourRemoved("wlan0", ip_address(bed.ADDRESS6))]
        assert not heard.log.lines
        assert bed.ADDRESS6 not in bed.on_ap("ip neigh show dev wlan0")


async def test_a_removal_is_a_removal_whatever_state_it_carries(bed: Bed) -> None:
    bed.on_ap(f"ip neigh replace {bed.ADDRESS6} lladdr {bed.MAC} dev wlan0 nud stale")
    async with running() as (_, heard):
        bed.on_ap("ip link set wlan0 down")
        await heard.until(1, LinkLost)
        await heard.until(1, NeighbourRemoved)
        assert NeighbourRemoved("wlan0", ip_address(bed.ADDRESS6)) in heard.events


async def test_a_link_that_comes_back_is_dumped_again(bed: Bed) -> None:
    async with running() as (source, heard):
        bed.on_ap("ip link set wlan0 down")
        await heard.until(1, LinkLost)
        assert source.up == frozenset()
        bed.on_ap("ip link set wlan0 up")
        await heard.until(2, NeighboursResynced)
        assert heard.of(NeighboursResynced)[-1].links == {"wlan0"}


async def test_a_link_that_is_down_gets_no_entries(bed: Bed) -> None:
    """A bridge that goes down forgets its MACs first: whoever asks for these makes neighbours that are not there."""
    async with running() as (source, heard):
        bed.on_ap("ip link set wlan0 down")
        await heard.until(1, LinkLost)
        source.probe([Probe("wlan0", ip_address(bed.ADDRESS6), bed.MAC, "test")])
        assert bed.ADDRESS6 not in bed.on_ap("ip -6 neigh show dev wlan0")


async def test_a_carrier_that_goes_is_a_lost_link(bed: Bed) -> None:
    async with running() as (_, heard):
        bed.on_sta("ip link set eth0 down")
        await heard.until(1, LinkLost)
        bed.on_sta("ip link set eth0 up")
        await heard.until(2, NeighboursResynced)


async def test_an_interface_made_anew_is_followed_under_its_new_index(bed: Bed) -> None:
    async with running() as (source, heard):
        bed.unplug()
        await heard.until(1, LinkLost)
        bed.on_ap("ip link add filler type veth peer name filler2")  # so that the index is another
        bed.plug()
        await heard.until(2, NeighboursResynced)
        source.probe([Probe("wlan0", ip_address(bed.ADDRESS6), bed.MAC, "test")])
        await heard.until_state(bed.ADDRESS6, Nud.REACHABLE, within_s=1.0)


async def test_an_interface_that_does_not_exist_at_the_start_is_awaited(bed: Bed) -> None:
    bed.unplug()
    async with running() as (source, heard):
        assert heard.of(NeighboursResynced)[0].links == frozenset()
        source.probe([Probe("wlan0", ip_address(bed.ADDRESS6), bed.MAC, "test")])  # nothing to do it on: no error
        bed.plug()
        await heard.until(2, NeighboursResynced)
        assert heard.of(NeighboursResynced)[-1].links == {"wlan0"}


async def test_other_interfaces_are_not_followed(bed: Bed) -> None:
    bed.on_ap("ip link add mesh0 type veth peer name mesh1")
    bed.on_ap("ip link set mesh0 up")
    bed.on_ap("ip link set mesh1 up")
    async with running() as (_, heard):
        bed.on_ap("ip neigh replace fd44:0:0:1::77 lladdr 02:00:00:00:00:77 dev mesh0 nud reachable")
        bed.on_ap(f"ip neigh replace {bed.ADDRESS6} lladdr {bed.MAC} dev wlan0 nud reachable")
        await heard.until_state(bed.ADDRESS6, Nud.REACHABLE)
        assert heard.states("fd44:0:0:1::77") == []


async def test_entries_made_by_others_are_marked(bed: Bed) -> None:
    async with running() as (_, heard):
        bed.on_ap("ip neigh replace fd44:0:0:1::77 lladdr 02:00:00:00:00:77 dev wlan0 nud reachable extern_learn")
        await heard.until(1, NeighbourChanged)
        assert heard.of(NeighbourChanged)[0].neighbour.is_foreign_made


async def test_a_new_address_of_ours_is_told(bed: Bed) -> None:
    async with running() as (_, heard):
        before = len(heard.of(OwnAddressesChanged))
        bed.on_ap("ip addr add fd44:0:0:1::1/128 dev wlan0 nodad")
        await heard.until(before + 1, OwnAddressesChanged)
        assert IPv6Address("fd44:0:0:1::1") in heard.of(OwnAddressesChanged)[-1].addresses
        bed.on_ap("ip addr del fd44:0:0:1::1/128 dev wlan0")
        await heard.until(before + 2, OwnAddressesChanged)
        assert IPv6Address("fd44:0:0:1::1") not in heard.of(OwnAddressesChanged)[-1].addresses


@pytest.mark.alone
async def test_a_loss_is_said_and_followed_by_a_dump_that_holds_everything(bed: Bed) -> None:
    """1,000 changes into a buffer for a few: the kernel drops (ENOBUFS), and nothing may be missing afterwards."""
    index = int(bed.on_ap("cat /sys/class/net/wlan0/ifindex"))
    with neighbour_limits(4096):
        async with running(receive_buffer_bytes=4096) as (source, heard):
            requests = Requests()
            flags = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
            base = int(IPv6Address("fd44:0:0:1::1:0"))
            bodies = [
                netlink.neighbour_body(index, IPv6Address(base + number), Mac("02:00:00:00:00:07"), Nud.STALE)
                for number in range(1000)
            ]
            assert requests.transact([(netlink.RTM_NEWNEIGH, flags, body) for body in bodies]) == []
            requests.close()
            await heard.until(2, NeighboursResynced)
            assert source.lost_messages >= 1
            assert any("lost" in line for line in heard.log.lines)
            await asyncio.sleep(0.4)
            whole = {each.address for each in heard.of(NeighboursResynced)[-1].neighbours}
            assert whole >= {IPv6Address(base + number) for number in range(1000)}


@pytest.mark.alone
async def test_a_full_neighbour_table_is_told_with_its_remedy(bed: Bed) -> None:
    """The table and its limit are the whole host's, so it is full for a few milliseconds only."""
    index = int(bed.on_ap("cat /sys/class/net/wlan0/ifindex"))
    base = int(IPv6Address("fd44:0:0:1::1:0"))
    async with running() as (source, heard):
        requests = Requests()
        refused = 0
        for number in range(0, 20000, 500):
            flags = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
            bodies = [
                netlink.neighbour_body(index, IPv6Address(base + number + each), Mac("02:00:00:00:00:07"), Nud.STALE)
                for each in range(500)
            ]
            refused = len(requests.transact([(netlink.RTM_NEWNEIGH, flags, body) for body in bodies]))
            if refused:
                break
        source.probe([Probe("wlan0", ip_address(bed.ADDRESS6), bed.MAC, "test")])
        source.probe([Probe("wlan0", ip_address(bed.ADDRESS6), bed.MAC, "test")])
        bed.on_ap("ip link set wlan0 down")  # empties it
        requests.close()
        assert refused, "no limit below 20,000 neighbours"
        complaints = [line for line in heard.log.lines if "gc_thresh3" in line]
        assert len(complaints) == 1, heard.log.lines


async def test_a_bridge_tells_on_which_port_a_station_is(bed: Bed) -> None:
    """The forwarding table stands in for association events (stations.source = "none")."""
    bed.unplug()
    bed.on_ap("ip link add wlan0 type bridge")
    bed.on_ap("ip link set wlan0 up")
    for number in (1, 2):
        sh(f"ip -n {bed.ap} link add port{number} type veth peer name eth{number} netns {bed.sta}")
        bed.on_ap(f"ip link set port{number} master wlan0 up")
        bed.on_sta(f"ip link set eth{number} address {bed.MAC} up")
    async with running(is_following_bridge=True) as (_, heard):
        for number in (1, 2, 1, 2):  # it also moves by itself: both ends send MLD reports
            async with asyncio.timeout(5):
                while not (ports := [event.port for event in heard.of(MacLearned) if event.mac == bed.MAC]) or (
                    ports[-1] != f"port{number}"
                ):
                    bed.on_sta(f"ping -c1 -W0.05 ff02::1%eth{number}", check=False)
                    await asyncio.sleep(0.01)
        for number in (1, 2):
            bed.on_sta(f"ip link set eth{number} down")
        heard.events.clear()
        await heard.until(1, MacForgotten)  # the bridge forgets what it learned on a port that loses its carrier
        assert heard.of(MacForgotten)[-1] == MacForgotten(bed.MAC, "wlan0")
