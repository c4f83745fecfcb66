"""What every exporter must keep, as tests that an exporter's own suite inherits. Needs pytest, nothing else.

    class TestMine(ExporterContract):
        spec = SPEC

        @asynccontextmanager
        async def rig(self):
            yield Rig(create=lambda context: SPEC.create(settings, context), routes=..., seen=...)

What the suite cannot see (`seen` is None where the exporter leaves the FIB to `kernel`) it does not judge; that a
daemon is absent, mute or broken is no excuse for anything here: `rig` is also the place to provide such a daemon.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar, TypeVar

import attrs
import pytest

from roamroute.delta import Delta
from roamroute.errors import ConfigError, DaemonGone, DaemonRefused, KernelRefused
from roamroute.events import Event, ForeignRouteLost, ForeignRouteSeen
from roamroute.export import (
    Exporter,
    ExporterContext,
    ExporterSpec,
    ExportReport,
    FibNeeds,
    KernelNumbers,
    find_exporter,
)
from roamroute.values import Address, HostRoute, Prefix, Seconds

Result = TypeVar("Result")

PROMPT_S: Seconds = 1.0
"""No call may take longer, whatever the daemon does: the loop serves everybody."""

ROUTES: tuple[HostRoute, ...] = (
    HostRoute(ip_address("fd44:0:0:1::a"), "wlan0"),
    HostRoute(ip_address("fd44:0:0:1::b"), "wlan0"),
    HostRoute(ip_address("10.44.0.12"), "wlan0"),
)
PREFIXES: tuple[Prefix, ...] = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))


@attrs.frozen
class Rig:
    """An exporter's world for one test.

    `create` makes an exporter as roamroute would. `seen` gives the wanted routes as the outside world shows them, None
    where this exporter does not act on it. `foreign` gives what others put there, which must not change; `changes`
    counts what was changed outside since the start, for tests of "no flap". `routes`: at least three, on links that
    exist; `moved` is the first of them on another link, None where there is one link only. `settle_s`: how long the
    outside world may take to show a change.
    """

    create: Callable[[ExporterContext], Exporter]
    routes: Sequence[HostRoute] = ROUTES
    moved: HostRoute | None = None
    seen: Callable[[], Mapping[Address, HostRoute]] | None = None
    foreign: Callable[[], object] = lambda: None
    changes: Callable[[], int] | None = None
    interfaces: tuple[str, ...] = ("wlan0", "wlan1")
    settle_s: Seconds = 1.0


class Bench:
    """One exporter under test, and what it said."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.events: list[Event] = []
        self.log: list[tuple[str, str]] = []
        self.exporter = self.create()

    def create(self) -> Exporter:
        """Another exporter in the same world: a restart."""

        def log(level: str, line: str) -> None:
            self.log.append((level, line))

        context = ExporterContext(self.rig.interfaces, PREFIXES, KernelNumbers(), self.events.append, log)
        return self.rig.create(context)

    async def publish(self, announced: Sequence[HostRoute] = (), withdrawn: Sequence[HostRoute] = ()) -> None:
        """Publish a change; a named error is allowed, slowness is not."""
        await _promptly(self.exporter.publish(Delta(tuple(announced), tuple(withdrawn))))

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        """Publish everything; a named error is allowed, slowness is not."""
        await _promptly(self.exporter.publish_all(tuple(wanted)))

    async def shows(self, wanted: Sequence[HostRoute]) -> None:
        """Require that the outside world shows exactly these routes, soon."""
        if self.rig.seen is None:
            return
        expected = {route.address: route for route in wanted}
        deadline = time.monotonic() + self.rig.settle_s
        while dict(self.rig.seen()) != expected and time.monotonic() < deadline:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        assert dict(self.rig.seen()) == expected


async def _promptly(work: Coroutine[Any, Any, None]) -> None:
    with suppress(KernelRefused, DaemonRefused, DaemonGone):
        await asyncio.wait_for(work, PROMPT_S)


class ExporterContract:
    """Inherit, name it Test…, set `spec`, provide `rig`."""

    spec: ClassVar[ExporterSpec]

    def rig(self) -> AbstractAsyncContextManager[Rig]:
        """The world for one test; entered and left inside the loop of that test."""
        raise NotImplementedError("an exporter's tests provide its rig")

    def check(self, scene: Callable[[Bench], Coroutine[Any, Any, Result]], is_running: bool = False) -> Result:
        """Play one scene in a loop of its own, with `run()` beside it if asked for."""

        async def play() -> Result:
            async with self.rig() as rig:
                bench = Bench(rig)
                foreign = rig.foreign()
                try:
                    async with _running(bench.exporter) if is_running else _idle():
                        result = await scene(bench)
                    assert rig.foreign() == foreign, "what others put there was changed"
                    return result
                finally:
                    await bench.exporter.close()

        return asyncio.run(play())

    # -- the specification

    def test_the_entry_point_leads_to_the_specification(self) -> None:
        assert find_exporter(self.spec.name) is self.spec

    def test_an_empty_table_is_enough(self) -> None:
        self.spec.parse({})

    def test_a_misspelt_key_is_a_mistake_with_its_dotted_path(self) -> None:
        with pytest.raises(ConfigError) as caught:
            self.spec.parse({"sokcet": "/nowhere"})
        assert caught.value.mistakes[0].startswith(f"exporters.{self.spec.name}.sokcet")

    def test_every_mistake_is_told(self) -> None:
        with pytest.raises(ConfigError) as caught:
            self.spec.parse({"sokcet": 1, "tiemout": 2})
        assert len(caught.value.mistakes) == 2

    # -- publishing

    def test_what_is_announced_is_there(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.publish_all(())
            await bench.publish(bench.rig.routes)
            await bench.shows(bench.rig.routes)

        self.check(scene, is_running=True)

    def test_what_is_withdrawn_is_gone_and_nothing_else(self) -> None:
        async def scene(bench: Bench) -> None:
            first, *others = bench.rig.routes
            await bench.publish_all(bench.rig.routes)
            await bench.publish(withdrawn=[first])
            await bench.shows(others)

        self.check(scene, is_running=True)

    def test_a_change_may_be_repeated(self) -> None:
        async def scene(bench: Bench) -> None:
            first, *others = bench.rig.routes
            await bench.publish_all(())
            for _ in range(3):
                await bench.publish(announced=others, withdrawn=[first])
            await bench.shows(others)

        self.check(scene, is_running=True)

    def test_an_empty_change_changes_nothing(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.publish_all(bench.rig.routes)
            await bench.publish()
            await bench.shows(bench.rig.routes)

        self.check(scene, is_running=True)

    def test_an_announcement_on_another_link_replaces_the_route(self) -> None:
        async def scene(bench: Bench) -> None:
            if bench.rig.moved is None:
                pytest.skip("this rig has one link only")
            await bench.publish_all(bench.rig.routes)
            await bench.publish(announced=[bench.rig.moved])
            await bench.shows([*bench.rig.routes[1:], bench.rig.moved])

        self.check(scene, is_running=True)

    def test_a_withdrawal_of_what_has_moved_on_does_not_take_the_new_route(self) -> None:
        async def scene(bench: Bench) -> None:
            if bench.rig.moved is None:
                pytest.skip("this rig has one link only")
            await bench.publish_all([bench.rig.moved])
            await bench.publish(withdrawn=[bench.rig.routes[0]])
            await bench.shows([bench.rig.moved])

        self.check(scene, is_running=True)

    def test_the_whole_set_replaces_what_was_there(self) -> None:
        async def scene(bench: Bench) -> None:
            first, second, third, *_ = bench.rig.routes
            await bench.publish_all([first, second])
            await bench.publish_all([second, third])
            await bench.shows([second, third])
            await bench.publish_all(())
            await bench.shows(())

        self.check(scene, is_running=True)

    def test_the_whole_set_again_is_no_change(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.publish_all(bench.rig.routes)
            await bench.shows(bench.rig.routes)
            before = None if bench.rig.changes is None else bench.rig.changes()
            await bench.publish_all(bench.rig.routes)
            await bench.publish(announced=bench.rig.routes)
            assert bench.rig.changes is None or bench.rig.changes() == before

        self.check(scene, is_running=True)

    def test_a_new_start_finds_what_is_there_and_does_not_flap(self) -> None:
        async def scene(bench: Bench) -> None:
            first, second, third, *_ = bench.rig.routes
            await bench.publish_all([first, second])
            await bench.shows([first, second])
            await bench.exporter.close()
            bench.exporter = bench.create()
            before = None if bench.rig.changes is None else bench.rig.changes()
            await bench.publish_all([first, second])
            assert bench.rig.changes is None or bench.rig.changes() == before
            await bench.publish_all([second, third])
            await bench.shows([second, third])

        self.check(scene)

    def test_closing_withdraws_nothing(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.publish_all(bench.rig.routes)
            await bench.shows(bench.rig.routes)
            await bench.exporter.close()
            await bench.exporter.close()
            await bench.shows(bench.rig.routes)

        self.check(scene)

    # -- running

    def test_run_ends_by_cancellation_only_and_promptly(self) -> None:
        async def scene(bench: Bench) -> None:
            running = asyncio.create_task(bench.exporter.run())
            await asyncio.sleep(0.2)
            assert not running.done(), "run() ended by itself"
            running.cancel()
            began = time.monotonic()
            with suppress(asyncio.CancelledError):
                await running
            assert time.monotonic() - began < PROMPT_S

        self.check(scene)

    def test_run_may_be_started_again(self) -> None:
        async def scene(bench: Bench) -> None:
            for _ in range(2):
                async with _running(bench.exporter):
                    await bench.publish_all(bench.rig.routes)
                    await bench.shows(bench.rig.routes)

        self.check(scene)

    def test_the_loop_is_never_blocked(self) -> None:
        async def scene(bench: Bench) -> float:
            gaps: list[float] = []
            async with _gaps(gaps), _running(bench.exporter):
                await bench.publish_all(bench.rig.routes)
                for route in bench.rig.routes:
                    await bench.publish(withdrawn=[route])
                    await bench.publish(announced=[route])
                await asyncio.sleep(0.3)
            return max(gaps)

        assert self.check(scene) < 0.25

    # -- looking

    def test_reports_and_needs_are_cheap_and_do_not_block(self) -> None:
        async def scene(bench: Bench) -> float:
            began = time.monotonic()
            for _ in range(100):
                assert isinstance(bench.exporter.report(), ExportReport)
                assert isinstance(bench.exporter.needs(), FibNeeds)
                assert bench.exporter.may_delete(bench.rig.routes[0]) in (True, False)
            return time.monotonic() - began

        assert self.check(scene) < 0.2
        assert self.check(scene, is_running=True) < 0.2

    def test_nothing_is_exported_that_is_not_wanted(self) -> None:
        async def scene(bench: Bench) -> None:
            wanted = bench.rig.routes[:2]
            await bench.publish_all(bench.rig.routes)
            await bench.publish_all(wanted)
            exported = bench.exporter.report().exported
            assert exported is None or exported <= {route.address for route in wanted}

        self.check(scene, is_running=True)

    def test_a_problem_comes_with_its_remedy(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.publish_all(bench.rig.routes)
            await asyncio.sleep(0.1)
            for problem in bench.exporter.report().problems:
                assert problem.text
                assert problem.remedy
                assert 0 <= problem.routes <= len(bench.rig.routes)

        self.check(scene, is_running=True)

    def test_it_says_only_what_an_exporter_may_say(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.publish_all(bench.rig.routes)
            await bench.publish_all(())
            await asyncio.sleep(0.1)
            assert all(isinstance(event, ForeignRouteSeen | ForeignRouteLost) for event in bench.events)
            assert {level for level, _ in bench.log} <= {"debug", "info", "warning", "error"}
            assert all("\n" not in line for _, line in bench.log)

        self.check(scene, is_running=True)


@asynccontextmanager
async def _running(exporter: Exporter) -> AsyncIterator[None]:
    task = asyncio.create_task(exporter.run())
    try:
        await asyncio.sleep(0)
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def _idle() -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def _gaps(gaps: list[float]) -> AsyncIterator[None]:
    """Measure how late a beat of 5 ms comes."""

    async def beat() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - began - 0.005)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
