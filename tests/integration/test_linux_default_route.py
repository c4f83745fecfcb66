"""The way to the Internet comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv6Network

import pytest

from roamroute.linux.default_route import RouteWatch

from .linux_namespaces import Bed, Logged, eventually, make_bed

pytestmark = pytest.mark.requires_root
DEFAULT = IPv6Network("::/0")
VIA = "via fe80::9 dev wlan0"


@pytest.fixture
def bed() -> Iterator[Bed]:
    yield from make_bed()


class Told:
    def __init__(self) -> None:
        self.changes: list[bool] = []

    def __call__(self, has_route: bool) -> None:
        self.changes.append(has_route)

    async def until(self, *changes: bool) -> None:
        await eventually(lambda: self.changes == list(changes))


@asynccontextmanager
async def following(*prefixes: IPv6Network) -> AsyncIterator[Told]:
    told, log = Told(), Logged()
    task = asyncio.create_task(RouteWatch(prefixes or (DEFAULT,), told, log).run())
    try:
        await eventually(lambda: bool(told.changes))
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert not log.lines


@pytest.mark.parametrize(
    "route",
    [
        f"default {VIA}",
        f"default {VIA} proto 42 metric 1024",
        f"default from fd44:1::/48 {VIA}",
        "default nexthop via fe80::9 dev wlan0 nexthop via fe80::8 dev wlan0",
    ],
)
async def test_a_default_route_comes_and_goes(bed: Bed, route: str) -> None:
    async with following() as told:
        await told.until(False)
        bed.on_ap(f"ip -6 route add {route}")
        await told.until(False, True)
        bed.on_ap(f"ip -6 route del {route}")
        await told.until(False, True, False)


async def test_a_default_route_that_was_there_before_is_told_at_once(bed: Bed) -> None:
    bed.on_ap(f"ip -6 route add default {VIA}")
    async with following() as told:
        await told.until(True)


@pytest.mark.parametrize(
    "route",
    [
        "blackhole default",
        "unreachable default",
        "prohibit default",
        f"2000::/3 {VIA}",
        f"default {VIA} table 77",
    ],
)
async def test_what_leads_nowhere_or_not_everywhere_does_not_count(bed: Bed, route: str) -> None:
    bed.on_ap(f"ip -6 route add {route}")
    async with following() as told:
        bed.on_ap(f"ip -6 route add default {VIA} metric 7")
        await told.until(False, True)
        bed.on_ap(f"ip -6 route del default {VIA} metric 7")
        await told.until(False, True, False)


async def test_one_of_two_default_routes_is_enough(bed: Bed) -> None:
    bed.on_ap(f"ip -6 route add default {VIA} metric 5")
    bed.on_ap(f"ip -6 route add default from fd44:1::/48 {VIA}")
    async with following() as told:
        bed.on_ap(f"ip -6 route del default {VIA} metric 5")
        await asyncio.sleep(0.7)
        assert told.changes == [True]
        bed.on_ap(f"ip -6 route del default from fd44:1::/48 {VIA}")
        await told.until(True, False)


@pytest.mark.parametrize("event", ["carrier", "down", "gone"])
async def test_a_default_route_goes_with_its_interface(bed: Bed, event: str) -> None:
    bed.on_ap(f"ip -6 route add default {VIA}")
    async with following() as told:
        await told.until(True)
        if event == "carrier":
            bed.on_sta("ip link set eth0 down")
        elif event == "down":
            bed.on_ap("ip link set wlan0 down")
        else:
            bed.unplug()
        await told.until(True, False)
        if event == "carrier":
            bed.on_sta("ip link set eth0 up")
            await told.until(True, False, True)


@pytest.mark.parametrize(
    ("sequence", "route", "counts"),
    [
        (("2000::/3",), "2000::/3", True),
        (("2000::/3",), "default", True),
        (("2000::/3", "fd44:9::/48"), "fd44:9::/48", True),
        (("2000::/3",), "2000::/4", False),
        (("2000::/3",), "fc00::/7", False),
    ],
)
async def test_the_prefixes_that_are_needed(bed: Bed, sequence: Sequence[str], route: str, counts: bool) -> None:
    bed.on_ap(f"ip -6 route add {route} {VIA}")
    async with following(*map(IPv6Network, sequence)) as told:
        assert told.changes == [counts]


async def test_host_routes_do_not_make_it_look(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    async with following() as told:
        looks: list[None] = []
        monkeypatch.setattr(RouteWatch, "_look_soon", lambda watch: looks.append(None))
        for number in range(20):
            bed.on_ap(f"ip -6 route add fd44:0:0:1::{number + 10:x} dev wlan0")
        await asyncio.sleep(0.05)
        assert looks == []
        bed.on_ap(f"ip -6 route add default {VIA}")
        await eventually(lambda: bool(looks))
    assert told.changes == [False]
