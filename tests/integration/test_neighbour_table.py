"""The neighbour table of a busy access point, with the real kernel: sleepers, the collector, and a table that is full.

Times are a tenth of life's (tests/sleeping_stations.py). The limits of the table are the whole machine's: these tests
run alone and restore them.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sleeping_stations import SleepingWorld, table_limits

from roamroute.lab.namespaces import CommandFailed, Sandbox
from roamroute.lab.waiting import wait_until
from roamroute.values import Address

pytestmark = pytest.mark.alone
SCALE = 10.0
PERIOD = Path("/proc/sys/net/ipv6/neigh/default/base_reachable_time_ms")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    if not PERIOD.exists():
        pytest.skip("not in the initial network namespace: the limits of the neighbour table cannot be set")
    with Sandbox() as made:
        yield made


@pytest.fixture
def collector() -> Iterator[None]:
    """Let the kernel look for what it may collect every second, not every 15 s."""
    before = PERIOD.read_text()
    PERIOD.write_text("2000")
    try:
        yield
    finally:
        PERIOD.write_text(before)


def living(world: SleepingWorld) -> set[Address]:
    return {address for address in world.addresses if world.stations.is_living(address)}


def lost(world: SleepingWorld) -> list[str]:
    """The living that were withdrawn, if only for a moment."""
    alive = set(map(str, living(world)))
    return [address for address in world.withdrawn() if address in alive]


def neighbours(world: SleepingWorld) -> set[str]:
    """What the kernel's table of the access point has inside the roaming prefix, in any state but FAILED."""
    lines = world.access_point.run("ip", "-6", "neigh", "show", "dev", "wlan0").splitlines()
    return {line.split()[0] for line in lines if line.startswith("fd44:") and "FAILED" not in line}


def counter(world: SleepingWorld, name: str) -> int:
    counters = world.status()["counters"]
    assert isinstance(counters, dict)
    return int(counters.get(name, 0))


def test_of_two_thousand_addresses_that_sleep_none_of_the_living_is_lost_and_the_dead_go(sandbox: Sandbox) -> None:
    """1,000 of each IP version. The budget is what limits: each is asked every 10 s, which are 100 s."""
    budget = 20.0 * SCALE
    with table_limits(4000, 8000, 16000):
        world = SleepingWorld(
            sandbox, count=200, each=5, awake=20, scale=SCALE, versions=(6, 4), policy={"probes_per_second": budget}
        )
        world.fill()
        world.start()
        began = time.monotonic()
        time.sleep(5)  # so that the dead have lived
        for number in (7, 77, 150, 199):
            world.stations.kill(number)
        wait_until(lambda: world.routes() == living(world), "the dead have gone, and nobody else", limit_s=40)
        assert len(world.routes()) == 196 * 10
        wait_until(lambda: len(world.stations.rounds) > 2.5 * len(world.addresses), "everybody is asked", limit_s=60)
        assert lost(world) == []
        rounds = world.stations.per_second(began)
        # Beside the budget: a burst of 50, and the second and third rounds of those that miss the first, or are dead.
        assert max(rounds) <= 1.3 * budget + 50, rounds
        assert sum(rounds) <= len(rounds) * 1.1 * budget + 50, rounds
        assert not world.lines("overflow")


def test_where_the_kernel_collects_neighbours_are_asked_before_it_takes_them(sandbox: Sandbox, collector: None) -> None:
    """A stale time of 6 s counts from the last answer, of which up to 4.5 s pass in REACHABLE."""
    with table_limits(500, 8000, 16000):
        world = SleepingWorld(sandbox, count=200, each=5, awake=20, scale=SCALE)
        world.access_point.sysctl({"net.ipv6.neigh.wlan0.gc_stale_time": 6})
        others = [f"fd44:9::{number:x}" for number in range(1, 21)]
        world.access_point.ip(
            *(f"neigh replace {each} lladdr 02:00:00:00:99:99 dev wlan0 nud stale" for each in others)
        )
        world.fill()
        world.start()
        wait_until(lambda: not neighbours(world) & set(others), "what is not probed is collected", limit_s=40)
        rounds, removed = len(world.stations.rounds), counter(world, "NeighbourRemoved")
        wait_until(lambda: len(world.stations.rounds) > rounds + 3000, "everybody was asked three times", limit_s=60)
        # Only of those that miss whole rounds, one in fifty, is the answer too late for the collector.
        assert counter(world, "NeighbourRemoved") - removed <= 0.03 * 3000
        assert lost(world) == []
        assert len(world.routes()) == len(world.addresses)
        table = world.status()["neighbour_table"]
        assert isinstance(table, dict)
        assert table["is_collecting"]


def test_a_table_that_overflows_loses_nobody_and_is_told_once(sandbox: Sandbox) -> None:
    """Somebody else fills the table of the whole machine: the kernel throws out what is STALE and refuses the rest."""
    with table_limits(4000, 8000, 16000):
        world = SleepingWorld(sandbox, count=200, each=5, awake=20, scale=SCALE)
        world.fill()
        world.start()
        flood = sandbox.namespace("flood")
        flood.ip("link add f0 type veth peer name f1", "link set f0 up", "link set f1 up")
        entries = [
            f"neigh replace fd44:9::{each:x} lladdr 02:00:00:00:99:99 dev f0 nud reachable" for each in range(1200)
        ]
        with table_limits(128, 500, 1000):

            def is_refused() -> bool:
                with contextlib.suppress(CommandFailed):  # there is no room for them either
                    flood.ip(*entries)
                return counter(world, "ProbesRefused") >= 3

            wait_until(is_refused, "the kernel refuses probes", limit_s=60)
            soaked = time.monotonic() + 8  # three rounds without a word from the kernel are 3.2 s
            while time.monotonic() < soaked:
                is_refused()
            wait_until(lambda: bool(world.lines("neighbour table overflow")), "the overflow is told", limit_s=20)
            assert len(neighbours(world)) < len(world.addresses), "the kernel has thrown out some of ours"
        sandbox.remove_namespace(flood)
        everybody = set(map(str, world.addresses))
        wait_until(lambda: neighbours(world) >= everybody, "all are in the table again", limit_s=60)
        assert lost(world) == []
        assert len(world.routes()) == len(world.addresses)
        (line,) = world.lines("neighbour table overflow")
        assert "config sysctl" in line
        table = world.status()["neighbour_table"]
        assert isinstance(table, dict)
        assert (table["overflows"], table["ipv6"]["is_overflowing"]) == (1, True)
