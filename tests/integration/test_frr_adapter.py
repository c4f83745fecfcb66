"""The FRR adapter with a real FRR of both generations; what arrives is looked at on the far router.

Roams, and all routing protocols over a whole mesh, are in test_roaming_routings.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from frr_routers import Pair, pair_of
from generations import FRR, Generation
from integration.linux_namespaces import inside
from roamroute_frr import SPEC
from roamroute_frr.vtysh import PROMPT

from roamroute.adapter.terminal import Terminal
from roamroute.delta import Delta
from roamroute.errors import DaemonGone, DaemonRefused
from roamroute.events import Event, ForeignRouteLost, ForeignRouteSeen
from roamroute.export import Exporter, ExporterContext, FibChange, KernelNumbers
from roamroute.linux.fib import KernelFib
from roamroute.linux.foreign import ForeignRoutes
from roamroute.testing.exporter_rig import PREFIXES
from roamroute.values import HostRoute

pytestmark = pytest.mark.requires_root
LIMIT_S = 40.0
HOST6 = HostRoute(ip_address("fd44:0:0:1::a"), "wlan0")
HOST4 = HostRoute(ip_address("10.44.0.12"), "wlan0")
HOSTS = (HOST6, HOST4)
CROSSED = ((("ospf", "kernel"), ("ibgp", "inject")), (("ospf", "inject"), ("ibgp", "kernel")))
"""Each generation in both modes and with both routing protocols; the other four pairs differ in nothing else."""
WORLDS = [
    pytest.param((generation, routing, mode), id=f"frr-{generation.version}-{routing}-{mode}", marks=generation.mark)
    for generation, pairs in zip(FRR, CROSSED, strict=True)
    for routing, mode in pairs
]


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest) -> Iterator[tuple[Pair, str, str]]:
    generation, routing, mode = request.param
    assert isinstance(generation, Generation)
    with pair_of(generation, routing, mode) as pair:
        yield pair, routing, mode


@pytest.fixture
def pair(world: tuple[Pair, str, str]) -> Pair:
    world[0].flush()
    return world[0]


class AccessPoint:
    """roamroute's exporters, as its daemon runs them, in the namespace of `ap`."""

    def __init__(self, pair: Pair, mode: str, command: list[str]) -> None:
        self.pair = pair
        self.events: list[Event] = []
        self.log: list[str] = []
        self.context = ExporterContext(
            ("wlan0", "wlan1"), PREFIXES, KernelNumbers(), self.events.append, self._log, follow_fib=self._follow_fib
        )
        self.adapter: Exporter = SPEC.create(SPEC.parse({"command": command, "mode": mode}), self.context)
        self.fib = KernelFib(self.context, self.adapter.needs, self.adapter.may_delete)

    async def publish_all(self, *routes: HostRoute) -> None:
        if self.adapter.needs().installs:
            await self.fib.publish_all(routes)
        with suppress(DaemonRefused, DaemonGone):
            await self.adapter.publish_all(routes)

    async def publish(self, *announced: HostRoute, withdrawn: tuple[HostRoute, ...] = ()) -> None:
        delta = Delta(announced=announced, withdrawn=withdrawn)
        if self.adapter.needs().installs:
            await self.fib.publish(delta)
        with suppress(DaemonRefused, DaemonGone):
            await self.adapter.publish(delta)

    async def exports(self, *routes: HostRoute) -> None:
        addresses = frozenset(route.address for route in routes)
        await until(lambda: self.adapter.report().exported == addresses, lambda: f"{self.adapter.report()}")

    async def reaches_far(self, *routes: HostRoute) -> None:
        far = self.pair.far
        await until(
            lambda: all(far.reaches(route.address) == "mesh" for route in routes),
            lambda: f"far has {[far.routes(route.address) for route in routes]}, here {self.adapter.report()}",
        )

    async def is_gone_from_far(self, *routes: HostRoute) -> None:
        far = self.pair.far
        await until(
            lambda: not any(far.reaches(route.address) for route in routes),
            lambda: f"far has {[far.routes(route.address) for route in routes]}",
        )

    def _log(self, level: str, line: str) -> None:
        self.log.append(f"{level} {line}")

    def _follow_fib(self, changed: Callable[[FibChange], None]) -> Coroutine[Any, Any, None]:
        links = ("wlan0", "wlan1")
        return ForeignRoutes(PREFIXES, KernelNumbers(), changed, lambda *_line: None, interfaces=links).run()


@asynccontextmanager
async def access_point(pair: Pair, mode: str, command: list[str] | None = None) -> AsyncIterator[AccessPoint]:
    with inside(pair.ap.namespace):
        ap = AccessPoint(pair, mode, command or pair.ap.command)
        tasks = [asyncio.create_task(ap.adapter.run()), asyncio.create_task(ap.fib.run())]
        try:
            await asyncio.sleep(0.1)
            yield ap
        finally:
            await ap.publish_all()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await ap.adapter.close()
            await ap.fib.close()


async def until(is_true: Callable[[], object], otherwise: Callable[[], str], limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not await asyncio.to_thread(is_true):
        assert time.monotonic() < deadline, otherwise()
        await asyncio.sleep(0.02)


async def test_a_host_is_announced_confirmed_and_withdrawn(pair: Pair, world: tuple[Pair, str, str]) -> None:
    async with access_point(pair, world[2]) as ap:
        await ap.publish_all(HOST6)
        await ap.publish(HOST4)
        await ap.reaches_far(*HOSTS)
        await ap.exports(*HOSTS)
        assert not ap.adapter.report().problems
        await ap.publish(withdrawn=HOSTS)
        await ap.is_gone_from_far(*HOSTS)


async def test_a_foreign_route_for_a_host_that_we_hold_is_told_and_ours_wins(
    pair: Pair, world: tuple[Pair, str, str]
) -> None:
    async with access_point(pair, world[2]) as ap:
        await ap.publish_all(*HOSTS)
        await ap.exports(*HOSTS)
        pair.announce_elsewhere(HOST6.address)
        try:
            await until(lambda: any(isinstance(event, ForeignRouteSeen) for event in ap.events), lambda: f"{ap.events}")
            assert pair.ap.reaches(HOST6.address) == "wlan0"
            await ap.exports(*HOSTS)
        finally:
            pair.withdraw_elsewhere(HOST6.address)
        await until(lambda: any(isinstance(event, ForeignRouteLost) for event in ap.events), lambda: f"{ap.events}")


async def test_a_new_host_wins_here_while_another_router_still_announces_it(
    pair: Pair, world: tuple[Pair, str, str]
) -> None:
    async with access_point(pair, world[2]) as ap:
        pair.announce_elsewhere(HOST6.address)
        try:
            await until(lambda: pair.ap.reaches(HOST6.address) == "mesh", lambda: "the other router's route is here")
            await ap.publish_all(HOST6)
            await until(lambda: pair.ap.reaches(HOST6.address) == "wlan0", lambda: f"{pair.ap.routes(HOST6.address)}")
            await ap.exports(HOST6)
        finally:
            pair.withdraw_elsewhere(HOST6.address)
        await ap.reaches_far(HOST6)


@pytest.mark.parametrize("killed", ["zebra", "protocol", "staticd", "mgmtd"])
async def test_what_a_killed_daemon_had_is_there_again_without_help(
    pair: Pair, world: tuple[Pair, str, str], killed: str
) -> None:
    _, routing, mode = world
    if killed == "mgmtd" and "mgmtd" not in pair.ap.daemons:
        pytest.skip("FRR 8 has no mgmtd")
    if killed in ("staticd", "mgmtd") and mode == "kernel":
        pytest.skip("holds nothing of ours in mode kernel")
    # FRR's own watchfrr restarts everything when zebra has died, and else what has died.
    names = {"zebra": pair.ap.daemons, "protocol": ["ospf6d", "ospfd"] if routing == "ospf" else ["bgpd"]}
    async with access_point(pair, mode) as ap:
        await ap.publish_all(*HOSTS)
        await ap.exports(*HOSTS)
        await asyncio.to_thread(pair.ap.restart, *names.get(killed, [killed]))
        third = HostRoute(ip_address("fd44:0:0:1::c"), "wlan0")
        await ap.publish(third)
        await ap.reaches_far(*HOSTS, third)
        await ap.exports(*HOSTS, third)
        await ap.publish(withdrawn=(*HOSTS, third))
        await ap.is_gone_from_far(*HOSTS, third)


async def test_a_host_that_left_while_mgmtd_was_away_does_not_stay_announced(
    pair: Pair, world: tuple[Pair, str, str]
) -> None:
    if "mgmtd" not in pair.ap.daemons or world[2] == "kernel":
        pytest.skip("FRR 8 has no mgmtd, and in mode kernel it holds nothing of ours")
    async with access_point(pair, world[2]) as ap:
        await ap.publish_all(*HOSTS)
        await ap.exports(*HOSTS)
        pair.ap.kill("mgmtd")
        await ap.publish(withdrawn=(HOST6,))
        await asyncio.to_thread(pair.ap.revive)
        await ap.is_gone_from_far(HOST6)
        await ap.reaches_far(HOST4)
        await ap.exports(HOST4)


async def test_a_zebra_that_hangs_holds_nobody_up_and_is_told(pair: Pair, world: tuple[Pair, str, str]) -> None:
    async with access_point(pair, world[2]) as ap:
        await ap.publish_all(HOST6)
        await ap.exports(HOST6)
        pair.ap.signal("zebra", signal.SIGSTOP)
        try:
            began = time.monotonic()
            await ap.publish(HOST4)
            assert time.monotonic() - began < 2.0
            await until(lambda: ap.adapter.report().problems, lambda: f"{ap.adapter.report()}")
            (problem, *_) = ap.adapter.report().problems
            assert "vtysh" in problem.text
        finally:
            pair.ap.signal("zebra", signal.SIGCONT)
        await ap.reaches_far(*HOSTS)
        await ap.exports(*HOSTS)
        await until(lambda: not ap.adapter.report().problems, lambda: f"{ap.adapter.report()}")


async def test_a_vtysh_killed_in_the_middle_of_a_batch_leaves_nothing_undone(
    pair: Pair, world: tuple[Pair, str, str]
) -> None:
    if world[2] != "inject":
        pytest.skip("there are batches in mode inject only")
    hosts = [HostRoute(HOST6.address + number, "wlan0") for number in range(300)]
    async with access_point(pair, "inject") as ap:
        await ap.publish_all(HOST6)
        await ap.exports(HOST6)
        publishing = asyncio.create_task(ap.publish_all(*hosts))
        await asyncio.sleep(0.1)
        (process_id,) = vtyshes("-d")
        os.kill(process_id, signal.SIGKILL)
        await publishing
        await ap.reaches_far(hosts[0], hosts[150], hosts[-1])
        await ap.exports(*hosts)
        await ap.publish_all(hosts[7])
        await ap.is_gone_from_far(hosts[0], hosts[-1])
        await ap.exports(hosts[7])


def vtyshes(option: str) -> list[int]:
    """The processes that we have started with this option."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for child in task.joinpath("children").read_text().split():
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if option.encode() in words and any(b"vtysh" in word for word in words):
                found.append(int(child))
    return found


async def test_other_sessions_in_the_middle_of_a_batch_take_nothing_away(
    pair: Pair, world: tuple[Pair, str, str]
) -> None:
    if world[2] != "inject":
        pytest.skip("there are batches in mode inject only")
    hosts = [HostRoute(HOST6.address + number, "wlan0") for number in range(200)]

    async def look_on(work: asyncio.Task[None]) -> None:
        while not work.done():
            await asyncio.to_thread(pair.ap.vtysh, "show version")
            await asyncio.sleep(0.2)

    async with access_point(pair, "inject") as ap:
        for wanted in (hosts, hosts[:3]):
            work = asyncio.create_task(ap.publish_all(*wanted))
            await look_on(work)
            await ap.exports(*wanted)
            await ap.reaches_far(wanted[0], wanted[-1])
        await ap.is_gone_from_far(hosts[3], hosts[100], hosts[-1])
        await until(
            lambda: pair.ap.vtysh("show running-config").count("tag 144144") == 3,
            lambda: pair.ap.vtysh("show running-config"),
        )


async def test_a_burst_arrives_whole_and_an_operator_s_configuration_is_untouched(
    pair: Pair, world: tuple[Pair, str, str]
) -> None:
    pair.ap.vtysh("configure terminal", "ipv6 route fd44:0:0:1::ee/128 wlan0 tag 7", "end")
    before, saved = pair.ap.vtysh("show running-config"), (pair.ap.directory / "frr.conf").read_bytes()
    hosts = [HostRoute(HOST6.address + 4096 + number, "wlan0") for number in range(500)]
    async with access_point(pair, world[2]) as ap:
        await ap.publish_all(*hosts)
        await ap.reaches_far(hosts[0], hosts[250], hosts[-1])
        await ap.exports(*hosts)
        await ap.publish(HOST6)
        await ap.reaches_far(HOST6)
        await ap.publish_all()
        await ap.is_gone_from_far(hosts[0], hosts[250], hosts[-1], HOST6)
    await until(lambda: pair.ap.vtysh("show running-config") == before, lambda: pair.ap.vtysh("show running-config"))
    assert (pair.ap.directory / "frr.conf").read_bytes() == saved


async def test_without_a_terminal_it_works_as_well(pair: Pair, world: tuple[Pair, str, str], tmp_path: Path) -> None:
    wrapper = tmp_path / "vtysh-without-terminal"
    wrapper.write_text('#!/bin/sh\ntest ! -t 0 || exit 1\nexec "$@"\n')
    wrapper.chmod(0o755)
    async with access_point(pair, world[2], [str(wrapper), *pair.ap.command]) as ap:
        await ap.publish_all(*HOSTS)
        await ap.reaches_far(*HOSTS)
        await ap.exports(*HOSTS)
        await ap.publish(withdrawn=(HOST6,))
        await ap.is_gone_from_far(HOST6)


async def test_whoever_may_not_use_vtysh_is_told_so_in_its_words(pair: Pair, world: tuple[Pair, str, str]) -> None:
    if world[0].ap.generation != FRR[0]:
        pytest.skip("the unpacked FRR lies in a folder that others cannot read at all")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *pair.ap.command]
    async with access_point(pair, world[2], nobody) as ap:
        await ap.publish_all(*HOSTS)
        await until(lambda: "Permission denied" in str(ap.adapter.report().problems), lambda: f"{ap.adapter.report()}")
        (problem,) = ap.adapter.report().problems
        assert "group frrvty" in problem.remedy
        assert problem.routes == 2


async def test_an_operator_at_the_command_line_is_no_hindrance(pair: Pair, world: tuple[Pair, str, str]) -> None:
    operator = Terminal(pair.ap.command, prompt=PROMPT)
    try:
        await operator.ask("configure terminal")
        async with access_point(pair, world[2]) as ap:
            await ap.publish_all(*HOSTS)
            await ap.exports(*HOSTS)
    finally:
        await operator.close()
