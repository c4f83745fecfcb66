"""The exporter `kernel` against the real FIB."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Address, ip_address, ip_network

import attrs
import pytest

from roamroute.delta import Delta
from roamroute.export import ExporterContext, FibNeeds, KernelNumbers, Kick
from roamroute.linux.fib import SPEC, KernelFib
from roamroute.linux.rtnetlink import GROUP_IPV4_ROUTE, GROUP_IPV6_ROUTE, Notifications
from roamroute.values import HostRoute
from roamroute.wire import netlink

from .linux_namespaces import Bed, Logged, eventually, make_bed

A = HostRoute(ip_address("fd44:0:0:1::a"), "wlan0")
B = HostRoute(ip_address("fd44:0:0:1::b"), "wlan0")
C4 = HostRoute(ip_address("10.44.0.12"), "wlan0")
PREFIXES = (ip_network(Bed.PREFIX), ip_network("10.44.0.0/16"))
PARKING = FibNeeds(parks=True, parked_limit=100, parked_for_s=60.0)
RESERVED = IPv6Address("100::44")


_OPENED: list[KernelFib | Monitor] = []


@pytest.fixture
def bed() -> Iterator[Bed]:
    yield from make_bed()
    while _OPENED:
        opened = _OPENED.pop()
        if isinstance(opened, KernelFib):
            asyncio.run(opened.close())
        else:
            opened.close()


class Fib(KernelFib):
    """A KernelFib with a log, events and a clock that a test can read and turn."""

    def __init__(
        self,
        needs: FibNeeds | None = None,
        may_delete: Callable[[HostRoute], bool] = lambda _route: True,
        links: tuple[str, ...] = ("wlan0", "wlan1"),
        numbers: KernelNumbers = KernelNumbers(),
    ) -> None:
        self.log = Logged()
        self.now = 1000.0
        context = ExporterContext(links, PREFIXES, numbers, lambda _event: None, self.log)
        super().__init__(context, lambda: needs or FibNeeds(), may_delete, clock=lambda: self.now)
        _OPENED.append(self)


@asynccontextmanager
async def running(fib: KernelFib) -> AsyncIterator[None]:
    task = asyncio.create_task(fib.run())
    try:
        await asyncio.sleep(0.02)
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Monitor:
    """What everybody else on this machine hears of host routes: (new, address, protocol, metric), in order."""

    def __init__(self) -> None:
        self._socket = Notifications((GROUP_IPV4_ROUTE, GROUP_IPV6_ROUTE), 1 << 22)
        self.close = self._socket.close
        _OPENED.append(self)

    def heard(self) -> list[tuple[str, str, int, int]]:
        messages, is_lossy = self._socket.read(1 << 20)
        assert not is_lossy
        lines = []
        for message in messages:
            entry = netlink.decode_route(message)
            if entry.destination is not None and entry.table == 254:
                what = "new" if message.kind == netlink.RTM_NEWROUTE else "del"
                what = "replace" if message.flags & netlink.NLM_F_REPLACE and what == "new" else what
                lines.append((what, str(entry.destination), entry.protocol, entry.metric))
        return lines


def host_routes(bed: Bed, *, table: int = 254) -> list[str]:
    # check=False: a table without routes of the family does not exist
    shown = "".join(bed.on_ap(f"ip {family} -d route show table {table}", check=False) for family in ("-6", "-4"))
    lines = [" ".join(line.split()).removeprefix("unicast ") for line in shown.splitlines()]
    return sorted(line for line in lines if not line.startswith(("fe80", "10.44.0.0", "ff00")))


def test_announced_routes_bear_our_protocol_metric_and_link(bed: Bed) -> None:
    fib = Fib()
    fib.apply(Delta(announced=(A, C4)))
    assert host_routes(bed) == [
        "10.44.0.12 dev wlan0 proto 144 scope link metric 8",
        "fd44:0:0:1::a dev wlan0 proto 144 scope global metric 8 pref medium",
    ]
    assert set(fib.installed.values()) == {A, C4}
    fib.apply(Delta(withdrawn=(A, C4)))
    assert host_routes(bed) == []
    assert not fib.log.lines


def test_publishing_twice_changes_nothing(bed: Bed) -> None:
    fib = Fib()
    fib.apply(Delta(announced=(A, C4)))
    monitor = Monitor()
    fib.apply(Delta(announced=(A, C4)))
    fib.apply_all((A, C4))
    fib.apply(Delta(withdrawn=(B,)))
    assert monitor.heard() == []


def test_a_route_of_the_routing_daemon_stays_beside_ours(bed: Bed) -> None:
    """At the new access point babeld has usually installed the old one's route already (metric 1024)."""
    bed.on_ap("ip link add mesh0 type veth peer name mesh1")
    bed.on_ap("ip link set mesh0 up")
    bed.on_ap("ip link set mesh1 up")
    bed.on_ap("ip -6 route add fd44:0:0:1::a via fe80::9 dev mesh0 proto 42 metric 1024")
    bed.on_ap("ip -4 route add 10.44.0.12 dev mesh0 proto 42 metric 1024")
    foreign = host_routes(bed)
    assert len(foreign) == 2
    fib = Fib()
    fib.apply(Delta(announced=(A, C4)))
    assert len(host_routes(bed)) == 4
    assert "dev wlan0" in bed.on_ap("ip -6 route get fd44:0:0:1::a")
    fib.apply(Delta(withdrawn=(A, C4)))
    assert host_routes(bed) == foreign


def test_a_foreign_route_with_our_metric_is_left_alone_and_told(bed: Bed) -> None:
    bed.on_ap("ip -6 route add fd44:0:0:1::a dev lo proto 99 metric 8")
    bed.on_ap("ip -4 route add 10.44.0.12 dev lo proto 99 metric 8")
    before = host_routes(bed)
    fib = Fib()
    fib.apply(Delta(announced=(A, B, C4)))
    assert set(fib.installed.values()) == {B}
    assert set(fib.refused) == {A.address, C4.address}
    assert sum(problem.routes for problem in fib.report().problems) == 2
    assert "EEXIST" in fib.log.lines[0]
    fib.apply(Delta(withdrawn=(A, B, C4)))
    assert host_routes(bed) == before


async def test_a_refused_route_comes_when_the_obstacle_goes(bed: Bed) -> None:
    bed.on_ap("ip -6 route add fd44:0:0:1::a dev lo proto 99 metric 8")
    fib = Fib()
    async with running(fib):
        fib.apply(Delta(announced=(A,)))
        assert fib.refused
        bed.on_ap("ip -6 route del fd44:0:0:1::a dev lo proto 99 metric 8")
        await eventually(lambda: not fib.refused and A.address in fib.installed, within_s=0.5)
        assert "proto 144" in host_routes(bed)[0]


def test_a_move_to_another_link_leaves_no_gap(bed: Bed) -> None:
    bed.on_ap("ip link add wlan1 type veth peer name other")
    bed.on_ap("ip link set wlan1 up")
    bed.on_ap("ip link set other up")
    fib = Fib()
    fib.apply(Delta(announced=(A, C4)))
    monitor = Monitor()
    fib.apply(Delta(announced=(attrs.evolve(A, link="wlan1"), attrs.evolve(C4, link="wlan1"))))
    assert [each[0] for each in monitor.heard()] == ["replace", "replace"]
    assert all("dev wlan1" in line for line in host_routes(bed))
    assert len(host_routes(bed)) == 2


def test_a_new_start_adopts_what_is_true_without_a_flap_and_removes_the_rest(bed: Bed) -> None:
    """kill -9: nothing is said good-bye to; the next one finds the routes."""
    killed = Fib()
    killed.apply(Delta(announced=(A, B, C4)))
    monitor = Monitor()
    fib = Fib()
    fib.apply_all((A, C4))
    assert monitor.heard() == [("del", "fd44:0:0:1::b", 144, 8)]
    assert set(fib.installed.values()) == {A, C4}


@pytest.mark.parametrize("needs", [FibNeeds(), FibNeeds(demotes=True), FibNeeds(lingering_metric=9)])
async def test_the_routes_of_an_earlier_run_are_known_before_anything_is_wanted(bed: Bed, needs: FibNeeds) -> None:
    fib, monitor = Fib(needs), Monitor()
    assert fib.left_by_an_earlier_run() == frozenset()
    killed = Fib(needs)
    is_told_apart = needs != FibNeeds()
    killed.apply_all((A, C4, attrs.evolve(B, is_lingering=True)))
    monitor.heard()
    assert fib.left_by_an_earlier_run() - {B.address} == {A.address, C4.address}
    assert not is_told_apart or B.address not in fib.left_by_an_earlier_run()
    assert monitor.heard() == []
    fib.apply_all((A, C4))
    assert [what for what, *_ in monitor.heard()] == ["del"]


async def test_routes_of_an_earlier_run_stay_until_all_that_is_wanted_is_known(bed: Bed) -> None:
    Fib().apply(Delta(announced=(A, B)))
    monitor = Monitor()
    fib = Fib()
    async with running(fib):
        bed.on_ap("ip link set wlan0 mtu 1400")
        fib.apply(Delta(announced=(A,)))  # finds it there: EEXIST, and looks
        await eventually(lambda: not fib.refused)
        assert monitor.heard() == []
        fib.apply_all((A,))
        assert monitor.heard() == [("del", "fd44:0:0:1::b", 144, 8)]


def test_what_is_not_ours_is_never_touched(bed: Bed) -> None:
    bed.on_ap("ip link add mesh0 type veth peer name mesh1")
    bed.on_ap("ip link set mesh0 up")
    bed.on_ap("ip link set mesh1 up")
    for others in (
        "-6 route add fd44:0:0:1::c dev mesh0 proto 144 metric 8",  # our number, another link
        "-6 route add fd44:0:0:1::d dev wlan0 proto 42 metric 1024",  # another protocol
        "-6 route add fd44:0:0:1::e dev wlan0 proto 144 metric 8 table 100",  # another table
        "-6 route add fd44:0:0:2::/64 dev wlan0 proto 144 metric 8",  # no host route
        "-4 route add 10.44.0.77 dev wlan0 proto 42 metric 100",
    ):
        bed.on_ap(f"ip {others}")
    before = (host_routes(bed), host_routes(bed, table=100))
    fib = Fib()
    fib.apply_all((A,))
    fib.apply_all(())
    fib.clear()
    assert (host_routes(bed), host_routes(bed, table=100)) == before


def test_another_table_can_be_used_and_need_not_exist_before(bed: Bed) -> None:
    fib = Fib(numbers=KernelNumbers(table=1000))
    fib.apply_all((A, C4))
    assert len(host_routes(bed, table=1000)) == 2
    assert host_routes(bed) == []
    again = Fib(numbers=KernelNumbers(table=1000))
    again.apply_all((C4,))
    assert len(host_routes(bed, table=1000)) == 1


def test_routes_with_a_metric_that_was_configured_otherwise_are_replaced_without_a_gap(bed: Bed) -> None:
    Fib(numbers=KernelNumbers(metric=9)).apply(Delta(announced=(A,)))
    monitor = Monitor()
    Fib().apply_all((A,))
    assert monitor.heard() == [("new", "fd44:0:0:1::a", 144, 8), ("del", "fd44:0:0:1::a", 144, 9)]


def test_five_thousand_routes_come_and_go(bed: Bed) -> None:
    base = int(IPv6Address("fd44:0:0:1::1:0"))
    wanted = tuple(HostRoute(IPv6Address(base + number), "wlan0") for number in range(5000))
    fib = Fib()
    fib.apply_all(wanted)
    assert not fib.refused
    assert len(bed.on_ap("ip -6 route show proto 144").splitlines()) == 5000
    Fib().apply_all(())
    assert host_routes(bed) == []


def test_a_withdrawn_route_is_parked_before_the_live_one_goes_and_the_deletion_is_hidden(bed: Bed) -> None:
    fib = Fib(PARKING)
    fib.apply(Delta(announced=(A, C4)))
    monitor = Monitor()
    fib.apply(Delta(withdrawn=(A, C4)))
    parked = 0x7FFFFFFF
    assert monitor.heard() == [
        (what, address, protocol, metric)
        for address in ("fd44:0:0:1::a", "10.44.0.12")
        for what, protocol, metric in (("new", 145, parked), ("replace", 146, 8), ("del", 146, 8))
    ]
    assert len(host_routes(bed)) == 2
    for line in host_routes(bed):
        assert line.startswith("unreachable")
        assert "proto 145" in line
        assert f"metric {parked}" in line
    assert set(fib.parked.values()) == {A, C4}
    assert not fib.installed


def test_a_route_that_returns_is_live_before_the_parked_one_goes(bed: Bed) -> None:
    fib = Fib(PARKING)
    fib.apply(Delta(announced=(A, C4)))
    fib.apply(Delta(withdrawn=(A, C4)))
    monitor = Monitor()
    fib.apply(Delta(announced=(A, C4)))
    parked = 0x7FFFFFFF
    assert monitor.heard() == [
        (what, address, protocol, metric)
        for address in ("fd44:0:0:1::a", "10.44.0.12")
        for what, protocol, metric in (("new", 144, 8), ("replace", 146, parked), ("del", 146, parked))
    ]
    assert not fib.parked
    assert len(host_routes(bed)) == 2


async def test_a_parked_route_becomes_dormant_in_time_and_a_new_start_knows_it(bed: Bed) -> None:
    """The withdrawal is known everywhere by then; what others say about the address may pass again."""
    settling = attrs.evolve(PARKING, dormant_after_s=0.6)
    context = ExporterContext(("wlan0",), PREFIXES, KernelNumbers(), lambda _event: None, Logged())
    fib = KernelFib(context, lambda: settling, lambda _route: True)
    _OPENED.append(fib)
    async with running(fib):
        fib.apply(Delta(announced=(A, C4)))
        monitor = Monitor()
        begun = time.monotonic()
        fib.apply(Delta(withdrawn=(A, C4)))
        assert "proto 145" in host_routes(bed)[0]
        await eventually(lambda: all("proto 147" in line for line in host_routes(bed)))
        assert time.monotonic() - begun >= 0.6
        assert [each[0] for each in monitor.heard()][-2:] == ["replace", "replace"]
    again = Fib(settling)
    again.apply_all((A,))
    assert set(again.parked) == {C4.address}
    assert set(again.installed.values()) == {A}
    again.clear()
    assert host_routes(bed) == []


def test_parking_ends_after_its_time_and_only_when_the_daemon_agrees(bed: Bed) -> None:
    agreed: set[HostRoute] = {A}
    fib = Fib(PARKING, agreed.__contains__)
    fib.apply(Delta(announced=(A, B)))
    fib.apply(Delta(withdrawn=(A, B)))
    fib.now += 59
    fib.tick()
    assert len(fib.parked) == 2
    fib.now += 1
    fib.tick()
    assert set(fib.parked.values()) == {B}
    assert len(host_routes(bed)) == 1
    agreed.add(B)
    fib.tick()
    assert not fib.parked
    assert host_routes(bed) == []


def test_parked_routes_are_bounded_and_the_oldest_goes_first(bed: Bed) -> None:
    fib = Fib(attrs.evolve(PARKING, parked_limit=3), lambda _route: False)
    routes = [HostRoute(IPv6Address(f"fd44:0:0:1::{number}"), "wlan0") for number in range(1, 6)]
    for route in routes:
        fib.apply(Delta(announced=(route,)))
        fib.apply(Delta(withdrawn=(route,)))
    fib.tick()
    assert list(fib.parked.values()) == routes[2:]
    assert len(host_routes(bed)) == 3
    assert "too many parked" in fib.log.lines[0]


def test_parked_routes_are_adopted_by_the_next_start(bed: Bed) -> None:
    killed = Fib(PARKING)
    killed.apply(Delta(announced=(A, B)))
    killed.apply(Delta(withdrawn=(A, B)))
    monitor = Monitor()
    fib = Fib(PARKING)
    fib.apply_all((B,))
    assert set(fib.parked) == {A.address}
    assert set(fib.installed.values()) == {B}
    assert [each for each in monitor.heard() if each[1] == "fd44:0:0:1::a"] == []


def test_what_a_crash_left_half_done_is_finished(bed: Bed) -> None:
    bed.on_ap("ip -6 route add fd44:0:0:1::a dev wlan0 proto 146 metric 8")  # hidden, not yet deleted
    bed.on_ap("ip -6 route add fd44:0:0:1::b dev wlan0 proto 144 metric 8")  # live and parked at once
    bed.on_ap("ip -6 route add unreachable fd44:0:0:1::b proto 145 metric 2147483647")
    fib = Fib(PARKING)
    fib.apply_all((A, B))
    assert set(fib.installed.values()) == {A, B}
    assert [line.split(" metric")[0] for line in host_routes(bed)] == [
        "fd44:0:0:1::a dev wlan0 proto 144 scope global",
        "fd44:0:0:1::b dev wlan0 proto 144 scope global",
    ]


def test_a_kick_follows_each_change_in_the_same_batch(bed: Bed) -> None:
    fib = Fib(FibNeeds(kick=Kick((RESERVED,), rounds=2)))
    monitor = Monitor()
    fib.apply(Delta(announced=(A, B)))
    assert [each[:3] for each in monitor.heard()] == [
        ("new", "fd44:0:0:1::a", 144),
        ("new", "fd44:0:0:1::b", 144),
        ("new", str(RESERVED), 145),
        ("replace", str(RESERVED), 144),
        ("replace", str(RESERVED), 145),
    ]
    fib.apply(Delta(announced=(A, B)))
    assert monitor.heard() == []
    fib.apply(Delta(withdrawn=(B,)))
    assert [each[:3] for each in monitor.heard()] == [
        ("del", "fd44:0:0:1::b", 144),
        ("replace", str(RESERVED), 144),
        ("replace", str(RESERVED), 145),
    ]
    again = Fib(FibNeeds(kick=Kick((RESERVED,), rounds=2)))
    again.apply_all((A,))
    assert set(again.installed.values()) == {A}
    assert monitor.heard() == []


async def test_one_kick_serves_a_burst_of_changes(bed: Bed) -> None:
    fib = Fib(FibNeeds(kick=Kick((RESERVED,), rounds=2)))
    async with running(fib):
        monitor = Monitor()
        for route in (A, B, C4):
            fib.apply(Delta(announced=(route,)))
        fib.now += 1
        await asyncio.sleep(0.1)
        heard = [each[:3] for each in monitor.heard()]
        assert [each for each in heard if each[1] != str(RESERVED)] == [
            ("new", "fd44:0:0:1::a", 144),
            ("new", "fd44:0:0:1::b", 144),
            ("new", "10.44.0.12", 144),
        ]
        assert heard[-2:] == [("replace", str(RESERVED), 144), ("replace", str(RESERVED), 145)]
        assert len(heard) == 3 + 1 + 2 * 2  # one at once, one for the rest


async def test_a_kick_with_pauses_comes_in_rounds_after_the_change(bed: Bed) -> None:
    fib = Fib(FibNeeds(kick=Kick((RESERVED,), rounds=2, pause_s=0.03)))
    async with running(fib):
        monitor = Monitor()
        fib.apply(Delta(announced=(A,)))
        assert [each[1] for each in monitor.heard()] == ["fd44:0:0:1::a", str(RESERVED)]
        await asyncio.sleep(0.045)
        assert [each[:3] for each in monitor.heard()] == [("replace", str(RESERVED), 144)]
        await asyncio.sleep(0.03)
        assert [each[:3] for each in monitor.heard()] == [("replace", str(RESERVED), 145)]
        await asyncio.sleep(0.1)
        assert monitor.heard() == []


async def test_a_kick_may_add_and_delete_instead(bed: Bed) -> None:
    fib = Fib(FibNeeds(kick=Kick((RESERVED,), pause_s=0.03, deletes=True)))
    async with running(fib):
        monitor = Monitor()
        fib.apply(Delta(announced=(A,)))
        assert [each[:3] for each in monitor.heard()] == [("new", "fd44:0:0:1::a", 144), ("new", str(RESERVED), 145)]
        await asyncio.sleep(0.05)
        assert [each[:3] for each in monitor.heard()] == [("del", str(RESERVED), 145)]


async def test_a_start_with_many_routes_leaves_the_routing_daemon_time_to_listen(bed: Bed) -> None:
    """babeld to 1.14 has room for some 270 messages and does not look again for 300 s when one is lost."""
    base = int(IPv6Address("fd44:0:0:1::1:0"))
    wanted = tuple(HostRoute(IPv6Address(base + number), "wlan0") for number in range(1000))
    fib = KernelFib(
        ExporterContext(("wlan0",), PREFIXES, KernelNumbers(), lambda _event: None, Logged()),
        lambda: PARKING,
        lambda _route: True,
    )
    _OPENED.append(fib)
    async with running(fib):
        monitor = Monitor()
        fib.apply_all(wanted)
        assert 100 <= len(monitor.heard()) <= 200
        fib.apply(Delta(withdrawn=wanted[900:]))  # behind those that wait
        await eventually(lambda: len(bed.on_ap("ip -6 route show proto 144").splitlines()) == 900)
        await asyncio.sleep(0.1)
        assert len(bed.on_ap("ip -6 route show proto 145").splitlines()) == 100
        assert len(bed.on_ap("ip -6 route show proto 144").splitlines()) == 900


def test_a_route_whose_link_has_gone_is_parked_all_the_same(bed: Bed) -> None:
    fib = Fib(PARKING)
    fib.apply(Delta(announced=(A, C4)))
    bed.unplug()
    fib.apply(Delta(withdrawn=(A, C4)))
    assert set(fib.parked) == {A.address, C4.address}
    assert sum(line.startswith("unreachable") for line in host_routes(bed)) == 2


async def test_a_route_that_vanished_with_its_link_is_parked_all_the_same(bed: Bed) -> None:
    fib = Fib(PARKING)
    async with running(fib):
        fib.apply(Delta(announced=(A, C4)))
        bed.on_ap("ip link set wlan0 down")
        await eventually(lambda: not fib.installed)
        fib.apply(Delta(withdrawn=(A, C4)))
        assert sum(line.startswith("unreachable") for line in host_routes(bed)) == 2


def test_the_very_end_leaves_nothing(bed: Bed) -> None:
    fib = Fib(attrs.evolve(PARKING, kick=Kick((RESERVED,), rounds=2)))
    fib.apply(Delta(announced=(A, B, C4)))
    fib.apply(Delta(withdrawn=(A,)))
    fib.clear()
    assert host_routes(bed) == []


async def test_our_own_routes_do_not_fill_the_buffers_that_listen_for_others(bed: Bed) -> None:
    base = int(IPv6Address("fd44:0:0:1::1:0"))
    wanted = tuple(HostRoute(IPv6Address(base + number), "wlan0") for number in range(10000))
    log = Logged()
    context = ExporterContext(("wlan0",), PREFIXES, KernelNumbers(), lambda _event: None, log)
    exporter = SPEC.create(None, context)
    assert isinstance(exporter, KernelFib)
    _OPENED.append(exporter)
    async with running(exporter):
        exporter.apply_all(wanted)
        await asyncio.sleep(0.1)
        bed.on_ap("ip -6 route del fd44:0:0:1::1:5 proto 144")
        await eventually(lambda: len(bed.on_ap("ip -6 route show proto 144").splitlines()) == 10000)
        assert log.lines == []
        exporter.apply_all(())


async def test_what_others_delete_is_put_back(bed: Bed) -> None:
    fib = Fib()
    async with running(fib):
        fib.apply(Delta(announced=(A, C4)))
        bed.on_ap("ip -6 route flush proto 144")
        bed.on_ap("ip -4 route flush proto 144")
        await eventually(lambda: len(host_routes(bed)) == 2)


async def test_what_others_replace_is_told_and_put_back_when_they_leave(bed: Bed) -> None:
    fib = Fib()
    async with running(fib):
        fib.apply(Delta(announced=(A,)))
        bed.on_ap("ip -6 route replace fd44:0:0:1::a dev lo proto 99 metric 8")
        await eventually(lambda: A.address in fib.refused)
        bed.on_ap("ip -6 route del fd44:0:0:1::a dev lo proto 99 metric 8")
        await eventually(lambda: A.address in fib.installed)


async def test_routes_come_back_with_their_link(bed: Bed) -> None:
    """The kernel takes the routes along; nobody withdraws them in between."""
    fib = Fib()
    async with running(fib):
        fib.apply(Delta(announced=(A, C4)))
        bed.on_ap("ip link set wlan0 down")
        await eventually(lambda: not fib.installed)
        bed.on_ap("ip link set wlan0 up")
        await eventually(lambda: len(host_routes(bed)) == 2)
        assert set(fib.installed.values()) == {A, C4}


async def test_a_link_made_anew_gets_its_routes(bed: Bed) -> None:
    fib = Fib()
    async with running(fib):
        fib.apply(Delta(announced=(A, C4)))
        bed.unplug()
        await eventually(lambda: not fib.installed)
        fib.apply(Delta(withdrawn=(C4,)))
        bed.plug()
        await eventually(lambda: set(fib.installed.values()) == {A})
        assert len(host_routes(bed)) == 1


async def test_a_route_on_a_link_that_is_down_is_told_once_and_tried_again(bed: Bed) -> None:
    bed.on_ap("ip link set wlan0 down")
    fib = Fib()
    async with running(fib):
        for _ in range(3):
            fib.apply(Delta(announced=(A,)))
            fib.tick()
        assert len(fib.log.lines) == 1
        assert "ENETDOWN" in fib.log.lines[0]
        bed.on_ap("ip link set wlan0 up")
        await eventually(lambda: A.address in fib.installed and not fib.refused)


async def test_a_route_that_lingers_changes_its_protocol_in_place_and_a_restart_puts_it_right(bed: Bed) -> None:
    fib, monitor = Fib(FibNeeds(demotes=True)), Monitor()
    lingering = (attrs.evolve(A, is_lingering=True), attrs.evolve(C4, is_lingering=True))
    fib.apply_all((A, C4))
    monitor.heard()
    fib.apply(Delta(announced=lingering))
    assert sorted(monitor.heard()) == [("replace", str(C4.address), 148, 8), ("replace", str(A.address), 148, 8)]
    assert all("proto 148" in line for line in host_routes(bed))
    fib.apply(Delta(announced=lingering))
    assert monitor.heard() == []
    restarted = Fib(FibNeeds(demotes=True))
    restarted.apply_all((A, lingering[1]))
    assert monitor.heard() == [("replace", str(A.address), 144, 8)]
    restarted.apply_all(())
    assert host_routes(bed) == []


async def test_a_daemon_that_begins_to_demote_finds_what_lingers_demoted(bed: Bed) -> None:
    needs = FibNeeds()
    fib = Fib()
    fib._needs = lambda: needs
    lingering = attrs.evolve(A, is_lingering=True)
    fib.apply_all((lingering, B))
    assert sum("proto 148" in line for line in host_routes(bed)) == 0
    needs = FibNeeds(demotes=True)
    fib.look_again()
    assert [line.split()[0] for line in host_routes(bed) if "proto 148" in line] == [str(A.address)]
    needs = FibNeeds()
    fib.look_again()
    assert sum("proto 148" in line for line in host_routes(bed)) == 0


async def test_what_lingers_is_put_back_as_it_was(bed: Bed) -> None:
    fib = Fib(FibNeeds(demotes=True))
    async with running(fib):
        fib.apply_all((attrs.evolve(A, is_lingering=True),))
        bed.on_ap("ip -6 route flush proto 148")
        await eventually(lambda: any("proto 148" in line for line in host_routes(bed)))
        bed.on_ap("ip link set wlan0 down")
        bed.on_ap("ip link set wlan0 up")
        await eventually(lambda: any("proto 148" in line for line in host_routes(bed)))


@pytest.mark.parametrize("demotes", [False, True])
async def test_a_route_that_lingers_gets_another_metric_without_a_gap_and_a_restart_puts_it_right(
    bed: Bed, demotes: bool
) -> None:
    needs = FibNeeds(demotes=demotes, lingering_metric=9)
    protocol = 148 if demotes else 144
    fib, monitor = Fib(needs), Monitor()
    lingering = (attrs.evolve(A, is_lingering=True), attrs.evolve(C4, is_lingering=True))
    fib.apply_all((A, C4))
    monitor.heard()
    fib.apply(Delta(announced=lingering))
    heard = monitor.heard()
    for route in (A, C4):
        changes = [(what, number, metric) for what, address, number, metric in heard if address == str(route.address)]
        assert changes == [("new", protocol, 9), ("del", 144, 8)]
    restarted = Fib(needs)
    restarted.apply_all(lingering)
    assert monitor.heard() == []
    restarted.apply_all((A, lingering[1]))
    assert monitor.heard() == [("new", str(A.address), 144, 8), ("del", str(A.address), protocol, 9)]
    async with running(restarted):
        bed.on_ap(f"ip -4 route flush {C4.address}")
        await eventually(lambda: any("metric 9" in line for line in host_routes(bed)))
    restarted.apply_all(())
    assert host_routes(bed) == []


async def test_both_forms_of_a_route_that_a_crash_left_become_the_one_that_is_wanted(bed: Bed) -> None:
    for wanted in (A, attrs.evolve(A, is_lingering=True)):
        for metric in (8, 9):
            bed.on_ap(f"ip -6 route add {A.address} dev wlan0 proto 144 metric {metric}")
        fib = Fib(FibNeeds(lingering_metric=9))
        fib.apply_all((wanted,))
        (line,) = host_routes(bed)
        assert f"metric {9 if wanted.is_lingering else 8} " in line
        fib.apply_all(())
        assert host_routes(bed) == []
