"""Other programs' host routes, as the real kernel tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network

import pytest

from roamroute.delta import Delta
from roamroute.events import Event, ForeignRouteLost, ForeignRouteSeen
from roamroute.export import ExporterContext, FibChange, KernelNumbers
from roamroute.linux.fib import SPEC
from roamroute.linux.foreign import ForeignRoutes
from roamroute.values import Address, HostRoute

from .linux_namespaces import Bed, Logged, eventually, make_bed

PREFIXES = (ip_network(Bed.PREFIX), ip_network("10.44.0.0/16"))
A, A4 = ip_address("fd44:0:0:1::a"), ip_address("10.44.0.10")


@pytest.fixture
def bed() -> Iterator[Bed]:
    for bed in make_bed():
        for link in ("mesh0", "mesh1"):
            bed.on_ap(f"ip link add {link} type veth peer name {link}peer")
            bed.on_ap(f"ip link set {link} up")
            bed.on_ap(f"ip link set {link}peer up")
        yield bed


class Told:
    """The sum of what was told, and how often."""

    def __init__(self) -> None:
        self.foreign: dict[Address, str] = {}
        self.installed: set[Address] = set()
        self.count = 0

    def __call__(self, change: FibChange) -> None:
        assert change != FibChange(), "nothing is no news"
        assert not self.foreign.keys() & change.foreign.keys(), "known already"
        assert change.lost <= self.foreign.keys()
        assert not self.installed & change.installed, "known already"
        assert change.removed <= self.installed
        self.foreign = {**{at: how for at, how in self.foreign.items() if at not in change.lost}, **change.foreign}
        self.installed = (self.installed - change.removed) | change.installed
        self.count += 1

    def is_now(self, foreign: set[Address], installed: set[Address]) -> Callable[[], bool]:
        return lambda: (set(self.foreign), self.installed) == (foreign, installed)


@asynccontextmanager
async def following(told: Told) -> AsyncIterator[None]:
    routes = ForeignRoutes(PREFIXES, KernelNumbers(), told, Logged(), interfaces=("wlan0",))
    task = asyncio.create_task(routes.run())
    try:
        await asyncio.sleep(0)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_route_over_a_roaming_interface_is_installed_and_any_other_foreign(bed: Bed) -> None:
    bed.on_ap("ip -6 route add fd44:0:0:1::a dev wlan0 proto bird metric 32")
    bed.on_ap("ip -4 route add 10.44.0.10 via inet6 fe80::9 dev mesh0 proto 196 metric 20")
    told = Told()
    async with following(told):
        await eventually(told.is_now({A4}, {A}))
        assert told.foreign[A4] == "kernel route of protocol 196 via fe80::9 metric 20"
        bed.on_ap("ip -6 route add fd44:0:0:1::b via fe80::9 dev mesh0 proto bird metric 32")
        bed.on_ap(
            "ip -6 route add fd44:0:0:1::c via fe80::9 dev wlan0 proto bird metric 32"
        )  # a router behind a client link
        others = {ip_address("fd44:0:0:1::b"), ip_address("fd44:0:0:1::c")}
        await eventually(told.is_now({A4, *others}, {A}))
        bed.on_ap("ip -6 route del fd44:0:0:1::a")
        bed.on_ap("ip -4 route del 10.44.0.10")
        await eventually(told.is_now(others, set()))


async def test_a_host_that_comes_here_is_installed_and_no_longer_foreign(bed: Bed) -> None:
    """What BIRD (deletes and adds, in IPv6) and zebra (replaces) do when their own static route wins."""
    told = Told()
    bed.on_ap("ip -6 route add fd44:0:0:1::a via fe80::9 dev mesh0 proto bird metric 32")
    bed.on_ap("ip -4 route add 10.44.0.10 via inet6 fe80::9 dev mesh0 proto 188 metric 20")
    async with following(told):
        await eventually(told.is_now({A, A4}, set()))
        bed.on_ap("ip -6 route del fd44:0:0:1::a via fe80::9 dev mesh0 proto bird metric 32")
        bed.on_ap("ip -6 route add fd44:0:0:1::a dev wlan0 proto bird metric 32")
        bed.on_ap("ip -4 route replace 10.44.0.10 dev wlan0 proto 196 metric 20")
        await eventually(told.is_now(set(), {A, A4}))


async def test_both_ways_at_once_are_both_told(bed: Bed) -> None:
    told = Told()
    bed.on_ap("ip -6 route add fd44:0:0:1::a via fe80::9 dev mesh0 proto bird metric 32")
    bed.on_ap("ip -6 route add fd44:0:0:1::a dev wlan0 proto 99 metric 33")
    async with following(told):
        await eventually(told.is_now({A}, {A}))
        bed.on_ap("ip -6 route del fd44:0:0:1::a via fe80::9 dev mesh0 proto bird metric 32")
        await eventually(told.is_now(set(), {A}))


async def test_a_route_goes_with_its_link_although_ipv4_is_silent_about_it(bed: Bed) -> None:
    told = Told()
    for way in ("fd44:0:0:1::a dev wlan0", "fd44:0:0:1::b dev mesh0", "10.44.0.10 dev wlan0", "10.44.0.11 dev mesh0"):
        bed.on_ap(f"ip route add {way} proto bird metric 32")
    async with following(told):
        await eventually(told.is_now({ip_address("fd44:0:0:1::b"), ip_address("10.44.0.11")}, {A, A4}))
        bed.on_ap("ip link set mesh0 down")
        await eventually(told.is_now(set(), {A, A4}))
        bed.unplug()
        await eventually(told.is_now(set(), set()))
        bed.plug()
        bed.on_ap("ip route add 10.44.0.10 dev wlan0 proto bird metric 32")
        await eventually(told.is_now(set(), {A4}))


@pytest.mark.parametrize("end", ["whole", "one by one", "by their links"])
@pytest.mark.parametrize("beginning", ["at once", "one by one"])
async def test_a_route_with_several_ways_is_foreign_until_the_last_has_gone(bed: Bed, beginning: str, end: str) -> None:
    told = Told()
    ways = ("via fe80::8 dev mesh0", "via fe80::9 dev mesh1")
    async with following(told):
        if beginning == "at once":
            bed.on_ap(
                "ip -6 route add fd44:0:0:1::a proto bird metric 32 " + " ".join(f"nexthop {way}" for way in ways)
            )
        else:
            bed.on_ap(f"ip -6 route add fd44:0:0:1::a {ways[0]} proto bird metric 32")
            bed.on_ap(f"ip -6 route append fd44:0:0:1::a {ways[1]} proto bird metric 32")
        await eventually(told.is_now({A}, set()))
        if end == "whole":
            bed.on_ap("ip -6 route del fd44:0:0:1::a")
        else:
            for number, way in enumerate(ways):
                assert told.foreign.keys() == {A}
                bed.on_ap(f"ip link set mesh{number} down" if end == "by their links" else f"ip -6 route del {A} {way}")
        await eventually(told.is_now(set(), set()))
    assert told.count == 2


async def test_what_is_unreachable_ours_outside_or_in_another_table_is_not_told(bed: Bed) -> None:
    told = Told()
    async with following(told):
        for route in (
            "unreachable fd44:0:0:1::1 proto 42 metric 4294967295",
            "fd44:0:0:1::2 dev wlan0 proto 144 metric 8",
            "fd44:0:0:2::1 dev mesh0 proto 42",
            "fd44:0:0:1::/64 dev mesh0 proto 42",
            "fd44:0:0:1::3 dev mesh0 proto 42 table 99",
        ):
            bed.on_ap(f"ip -6 route add {route}")
        bed.on_ap("ip addr add fd44:0:0:1::1/128 dev lo")
        bed.on_ap("ip -6 route add fd44:0:0:1::a dev mesh0 proto 42")
        await eventually(told.is_now({A}, set()))
        assert told.count == 1


async def test_the_plain_kernel_exporter_reports_foreign_host_routes(bed: Bed) -> None:
    events: list[Event] = []

    async def follow_fib(changed: Callable[[FibChange], None]) -> None:
        await ForeignRoutes(PREFIXES, KernelNumbers(), changed, Logged(), interfaces=("wlan0",)).run()

    context = ExporterContext(("wlan0",), PREFIXES, KernelNumbers(), events.append, Logged(), follow_fib=follow_fib)
    exporter = SPEC.create(SPEC.parse({}), context)
    task = asyncio.create_task(exporter.run())
    try:
        bed.on_ap("ip -6 route add fd44:0:0:1::77 dev mesh0 proto 42 metric 1024")
        await eventually(lambda: len(events) == 1)
        bed.on_ap("ip -6 route add fd44:0:0:1::78 dev mesh0 proto 42 metric 1024")
        await exporter.publish(Delta(announced=(HostRoute(A, "wlan0"),)))
        bed.on_ap("ip -6 route add fd44:0:0:1::79 dev mesh0 proto 42 metric 1024")
        await eventually(lambda: len(events) == 3)
        bed.on_ap("ip -6 route add fd44:0:0:1::79 dev mesh0 proto 42 metric 2048")  # a second way
        bed.on_ap("ip -6 route del fd44:0:0:1::79 dev mesh0 proto 42 metric 1024")
        bed.on_ap("ip -6 route del fd44:0:0:1::78 dev mesh0 proto 42 metric 1024")
        await eventually(lambda: ForeignRouteLost(ip_address("fd44:0:0:1::78")) in events)
        seen = {str(event.address) for event in events if isinstance(event, ForeignRouteSeen)}
        lost = {str(event.address) for event in events if isinstance(event, ForeignRouteLost)}
        assert seen == {"fd44:0:0:1::77", "fd44:0:0:1::78", "fd44:0:0:1::79"}
        assert lost == {"fd44:0:0:1::78"}
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await exporter.close()
