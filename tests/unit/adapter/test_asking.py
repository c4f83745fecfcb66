"""The exporter for a daemon that must be asked, in virtual time: how soon it knows, and how much it asks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from ipaddress import IPv6Address, ip_address, ip_network

import attrs
import pytest

from roamroute.adapter import asking
from roamroute.adapter.asking import AskingExporter
from roamroute.delta import Delta
from roamroute.errors import DaemonGone, DaemonRefused
from roamroute.events import Event, ForeignRouteLost, ForeignRouteSeen
from roamroute.export import ExporterContext, FibChange, KernelNumbers, Problem
from roamroute.testing.loop import run_virtually
from roamroute.values import Address, HostRoute, Seconds

A, B = ip_address("fd44:0:0:1::a"), ip_address("fd44:0:0:1::b")


def routes(*addresses: Address) -> tuple[HostRoute, ...]:
    return tuple(HostRoute(address, "wlan0") for address in addresses)


def many(count: int) -> tuple[HostRoute, ...]:
    first = int(IPv6Address("fd44:0:0:1::1:0"))
    return routes(*(IPv6Address(first + number) for number in range(count)))


@attrs.frozen
class Standing:
    is_exported: bool
    is_absent: bool
    foreign: str | None


class Daemon:
    """Knows some routes, exports those that it may, and counts what it is asked."""

    program = "fake 1.0"

    def __init__(self) -> None:
        self.known: set[Address] = set()
        self.denied: set[Address] = set()
        self.elsewhere: dict[Address, str] = {}
        self.is_there = True
        self.has_news = False
        self.general: Problem | None = None
        self.asked: Counter[str] = Counter()
        self.forgotten: set[Address] = set()

    def _ask(self, what: str) -> None:
        self.asked[what] += 1
        if not self.is_there:
            raise DaemonGone("nobody is there")

    async def learn(self) -> None:
        self._ask("learn")

    async def look(self) -> bool:
        self._ask("look")
        has_news, self.has_news = self.has_news, False
        return has_news

    async def standing(self, address: Address) -> Standing:
        self._ask("standing")
        await asyncio.sleep(0.001)
        is_exported = address in self.known - self.denied
        return Standing(is_exported, address not in self.known, self.elsewhere.get(address))

    async def all_exported(self, addresses: Collection[Address]) -> Collection[Address]:
        self._ask("all")
        await asyncio.sleep(0.05)
        return (self.known - self.denied) & set(addresses)

    async def remind(self) -> None:
        self._ask("remind")

    def forget(self, address: Address) -> None:
        self.forgotten.add(address)

    def trouble(self) -> Problem | None:
        return self.general

    def problem(self, address: Address, standing: Standing) -> Problem:
        return Problem("lacks it" if standing.is_absent else "denies it", "mend it")

    async def close(self) -> None:
        self.asked["close"] += 1


class Injection:
    """Takes note."""

    has_failed = False
    is_busy = False

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.error: Exception | None = None

    def change(self, delta: Delta) -> None:
        self.calls.append(delta)

    def replace(self, routes: Iterable[HostRoute]) -> None:
        self.calls.append(tuple(routes))

    def again(self, *, is_forgetful: bool = False) -> None:
        self.calls.append("forgetful" if is_forgetful else "again")

    async def settled(self, limit_s: Seconds) -> None:
        if self.error is not None:
            raise self.error

    def problems(self, routes: int) -> Iterable[Problem]:
        if self.error is not None:
            yield Problem(str(self.error), "mend it", routes)

    async def close(self) -> None:
        self.calls.append("close")


class Scene:
    """One exporter that runs, and its daemon."""

    def __init__(self, injection: Injection | None = None, *, is_lingering: bool = True) -> None:
        self.daemon = Daemon()
        self.injection = injection
        self.events: list[Event] = []
        self.log: list[str] = []
        self.fib: Callable[[FibChange], None]
        context = ExporterContext(
            ("wlan0",),
            (ip_network("fd44:0:0:1::/64"),),
            KernelNumbers(),
            self.events.append,
            lambda level, line: self.log.append(f"{level} {line}"),
            follow_fib=self._follow_fib,
        )
        loop = asyncio.get_running_loop()
        self.exporter = AskingExporter(
            "fake",
            context,
            self.daemon,
            injection,
            remedy="start it",
            lingering_metric=99,
            is_lingering=is_lingering,
            clock=loop.time,
        )
        self.begun = loop.time()

    async def _follow_fib(self, changed: Callable[[FibChange], None]) -> None:
        self.fib = changed
        await asyncio.get_running_loop().create_future()

    @property
    def exported(self) -> set[Address] | None:
        exported = self.exporter.report().exported
        return None if exported is None else set(exported)

    async def until(self, is_so: Callable[[], bool], limit_s: Seconds = 100.0) -> Seconds:
        """How long it takes until something is so."""
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(limit_s):
            while not is_so():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.001)
        return asyncio.get_running_loop().time() - begun


def play(
    act: Callable[[Scene], Awaitable[None]], injection: Injection | None = None, *, is_lingering: bool = True
) -> None:
    async def run() -> None:
        scene = Scene(injection, is_lingering=is_lingering)
        task = asyncio.create_task(scene.exporter.run())
        await asyncio.sleep(0.01)
        try:
            await act(scene)
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await scene.exporter.close()
            assert scene.daemon.asked["close"] == 1

    run_virtually(run())


def test_a_route_that_the_daemon_takes_soon_is_confirmed_soon_after() -> None:
    async def act(scene: Scene) -> None:
        await scene.exporter.publish(Delta(announced=routes(A)))
        asyncio.get_running_loop().call_later(0.1, scene.daemon.known.add, A)
        assert await scene.until(lambda: scene.exported == {A}) < 0.2
        assert scene.daemon.asked["standing"] < 10

    play(act)


def test_what_is_withdrawn_is_forgotten() -> None:
    async def act(scene: Scene) -> None:
        scene.daemon.known |= {A, B}
        await scene.exporter.publish_all(routes(A, B))
        await scene.until(lambda: scene.exported == {A, B})
        await scene.exporter.publish(Delta(withdrawn=routes(A)))
        assert scene.exported == {B}
        assert scene.daemon.forgotten == {A}
        await scene.exporter.publish_all(())
        assert scene.exported == set()

    play(act)


def test_many_routes_are_asked_for_all_at_once_and_a_quiet_daemon_is_asked_little() -> None:
    async def act(scene: Scene) -> None:
        wanted = many(1000)
        scene.daemon.known = {route.address for route in wanted}
        await scene.exporter.publish_all(wanted)
        await scene.until(lambda: scene.exported == scene.daemon.known)
        assert scene.daemon.asked["standing"] <= asking.TURNS
        assert scene.daemon.asked["all"] == 1
        scene.daemon.asked.clear()
        await asyncio.sleep(100)
        assert scene.daemon.asked["standing"] <= 101 * asking.TURNS
        assert scene.daemon.asked["all"] <= 4

    play(act)


def test_one_more_route_costs_the_same_beside_many() -> None:
    async def act(scene: Scene) -> None:
        wanted = many(1000)
        scene.daemon.known = {A, *(route.address for route in wanted)}
        await scene.exporter.publish_all(wanted)
        await scene.until(lambda: len(scene.exported or ()) == 1000)
        scene.daemon.asked.clear()
        await scene.exporter.publish(Delta(announced=routes(A)))
        assert await scene.until(lambda: A in (scene.exported or ())) < 0.05
        assert scene.daemon.asked["all"] == 0
        assert scene.daemon.asked["standing"] <= 1 + asking.TURNS

    play(act)


def test_a_denial_is_a_problem_after_a_while_and_no_longer_when_it_is_lifted() -> None:
    async def act(scene: Scene) -> None:
        scene.daemon.known = scene.daemon.denied = {A}
        await scene.exporter.publish_all(routes(A))
        assert scene.exporter.report().problems == ()
        assert await scene.until(lambda: scene.exporter.report().problems != ()) < asking.CONFIRMATION_S + 0.1
        assert scene.exporter.report().problems == (Problem("denies it", "mend it", 1),)
        scene.daemon.denied = set()
        scene.daemon.has_news = True
        assert await scene.until(lambda: scene.exported == {A}) < 1.1
        assert scene.exporter.report().problems == ()
        assert scene.daemon.asked["remind"] == 0

    play(act)


def test_a_daemon_that_lacks_a_route_is_reminded_now_and_then() -> None:
    async def act(scene: Scene) -> None:
        await scene.exporter.publish_all(routes(A))
        await asyncio.sleep(100)
        assert 3 <= scene.daemon.asked["remind"] <= 8
        assert scene.exporter.report().problems == (Problem("lacks it", "mend it", 1),)

    play(act)


def test_after_a_restart_all_is_asked_for_again() -> None:
    async def act(scene: Scene) -> None:
        scene.daemon.known = {A}
        await scene.exporter.publish_all(routes(A))
        await scene.until(lambda: scene.exported == {A})
        scene.daemon.is_there = False
        await scene.until(lambda: not scene.exporter.report().is_connected, 2)
        assert scene.exported is None
        assert scene.exporter.report().problems == (Problem("nobody is there", "start it", 1),)
        scene.daemon.known = set()
        scene.daemon.is_there = True
        await scene.until(lambda: scene.exporter.report().is_connected, 6)
        assert scene.exported == set()
        scene.daemon.known = {A}
        await scene.until(lambda: scene.exported == {A}, 1)

    play(act)


def test_a_foreign_route_is_told_from_the_daemon_and_from_the_fib() -> None:
    async def act(scene: Scene) -> None:
        scene.daemon.known = {A}
        await scene.exporter.publish_all(routes(A))
        await scene.until(lambda: scene.exported == {A})
        scene.daemon.elsewhere = {A: "router 1"}
        await scene.until(lambda: ForeignRouteSeen(A, "router 1") in scene.events, 2)
        scene.fib(FibChange(foreign={B: "kernel route"}))
        assert ForeignRouteSeen(B, "kernel route") in scene.events
        scene.daemon.elsewhere = {}
        await scene.until(lambda: ForeignRouteLost(A) in scene.events, 2)

    play(act)


def test_an_answer_that_comes_after_the_withdrawal_does_not_count() -> None:
    async def act(scene: Scene) -> None:
        scene.daemon.known = {A}
        scene.daemon.elsewhere = {A: "router 1"}
        await scene.exporter.publish(Delta(announced=routes(A)))
        await asyncio.sleep(0.0005)  # the daemon is thinking
        await scene.exporter.publish(Delta(withdrawn=routes(A)))
        await asyncio.sleep(5)
        assert scene.exported == set()
        assert scene.events == []

    play(act)


def test_an_injection_is_told_and_its_failure_is_the_publication_s() -> None:
    injection = Injection()

    async def act(scene: Scene) -> None:
        assert not scene.exporter.needs().installs
        await scene.exporter.publish_all(routes(A))
        delta = Delta(announced=routes(B))
        await scene.exporter.publish(delta)
        scene.fib(FibChange(installed=frozenset({A, B})))
        assert scene.exporter.report().installed == frozenset({A, B})
        injection.error = DaemonRefused("syntax error")
        with pytest.raises(DaemonRefused):
            await scene.exporter.publish(Delta(withdrawn=routes(B)))
        assert scene.exporter.report().problems[0].text == "syntax error"
        assert [call for call in injection.calls if not isinstance(call, str)] == [
            routes(A),
            delta,
            Delta(withdrawn=routes(B)),
        ]

    play(act, injection)
    assert injection.calls[-1] == "close"


@pytest.mark.parametrize("is_lingering", [True, False])
def test_a_route_that_begins_to_linger_is_withdrawn_where_it_must_not(is_lingering: bool) -> None:
    injection = Injection()
    plain, lingering = HostRoute(A, "wlan0"), HostRoute(A, "wlan0", is_lingering=True)

    async def act(scene: Scene) -> None:
        assert scene.exporter.needs().lingering_metric == 99
        scene.daemon.known |= {A, B}
        await scene.exporter.publish_all((plain,))
        await scene.exporter.publish(Delta(announced=(lingering, *routes(B))))
        await scene.until(lambda: scene.exported == ({A, B} if is_lingering else {B}))
        await scene.exporter.publish_all((lingering, *routes(B)))
        await scene.exporter.publish(Delta(withdrawn=(lingering,)))
        assert scene.exported == {B}
        assert scene.exporter.report().problems == ()

    play(act, injection, is_lingering=is_lingering)
    told = [call for call in injection.calls if not isinstance(call, str)]
    if is_lingering:
        assert told[1] == Delta(announced=(lingering, *routes(B)))
        assert told[2] == (lingering, *routes(B))
    else:
        assert told[1] == Delta(announced=routes(B), withdrawn=(plain,))
        assert told[2] == routes(B)


def test_a_daemon_that_was_restarted_gets_everything_injected_again() -> None:
    injection = Injection()

    async def act(scene: Scene) -> None:
        await scene.exporter.publish_all(routes(A))
        injection.calls.clear()
        scene.daemon.has_news = True
        await asyncio.sleep(1.5)
        assert injection.calls[0] == "forgetful"

    play(act, injection)


def test_an_injection_that_is_on_its_way_is_given_its_time() -> None:
    injection = Injection()

    async def act(scene: Scene) -> None:
        injection.is_busy = True
        await scene.exporter.publish_all(routes(A))
        injection.calls.clear()
        await asyncio.sleep(20)
        assert injection.calls == []
        assert scene.exporter.report().problems == ()
        injection.is_busy = False
        assert await scene.until(lambda: scene.exporter.report().problems != ()) > asking.CONFIRMATION_S - 1.1
        assert "forgetful" in injection.calls

    play(act, injection)


def test_the_short_work_that_reminders_cause_does_not_hide_what_is_wrong() -> None:
    class Quick(Injection):
        def again(self, *, is_forgetful: bool = False) -> None:
            super().again(is_forgetful=is_forgetful)
            self.is_busy = True
            asyncio.get_running_loop().call_later(0.005, setattr, self, "is_busy", False)

    injection = Quick()

    async def act(scene: Scene) -> None:
        await scene.exporter.publish_all(routes(A))
        await asyncio.sleep(60)
        assert [problem.text for problem in scene.exporter.report().problems] == ["lacks it"]
        assert injection.calls.count("forgetful") <= 7, "reminders come less and less often"

    play(act, injection)


def test_what_is_wrong_in_general_is_told_with_the_count() -> None:
    async def act(scene: Scene) -> None:
        scene.daemon.known = {A}
        scene.daemon.general = Problem("a part of it is not running", "start that")
        await scene.exporter.publish_all(routes(A))
        await asyncio.sleep(5)
        assert scene.exporter.report().problems == (Problem("a part of it is not running", "start that", 1),)
        assert len([line for line in scene.log if line.startswith("warning")]) == 1

    play(act)
