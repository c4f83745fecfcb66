"""The bench on which an exporter is put to the test: its world (`Rig`, made by the exporter's own tests) and its shell.

`Bench` does what roamroute's daemon does with an exporter, and notes what it says.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, NoReturn

import attrs

from roamroute.delta import Delta
from roamroute.errors import DaemonGone, DaemonRefused, KernelRefused, RoamrouteError
from roamroute.events import Event
from roamroute.export import (
    Exporter,
    ExporterContext,
    ExporterSpec,
    FibChange,
    KernelNumbers,
    follow_no_fib,
)
from roamroute.values import Address, HostRoute, Prefix, Seconds

PROMPT_S: Seconds = 1.0
"""What is not a publication may never take longer, whatever the daemon does: the loop serves everybody."""
PUBLISH_LIMIT_S: Seconds = 10.0
"""After this time roamroute gives a publication up, and tells everything again."""

ROUTES: tuple[HostRoute, ...] = (
    HostRoute(ip_address("fd44:0:0:1::a"), "wlan0"),
    HostRoute(ip_address("fd44:0:0:1::b"), "wlan0"),
    HostRoute(ip_address("10.44.0.12"), "wlan0"),
)
PREFIXES: tuple[Prefix, ...] = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
ELSEWHERE: Address = ip_address("fd44:0:0:1::e")

Deed = Callable[[], Awaitable[None] | None]


def _unable() -> NoReturn:
    raise NotImplementedError("this part of the contract needs a rig that can do this")


def _unable_for(_address: Address) -> NoReturn:
    _unable()


@attrs.frozen
class Rig:
    """An exporter's world for one test.

    What the outside world shows:
    `table`: the exporter's table of the configuration, from which it is made as roamroute would; `create` makes it in
    another way. `routes`: at least three, on links that exist; `moved` is the first of them on another link, None where
    there is one link only. `seen` gives the wanted routes as the outside world shows them, None where the exporter
    does not act on it. `foreign` gives what others put there, which must not change. `changes` counts what was changed
    outside since the start, for tests of "no flap". `settle_s`: how long the outside world may take to show a change;
    `publish_s`: how long a publication may take. A daemon that the rig plays itself, in the test's loop, closes what
    its client has closed.

    What is beside the exporter, where it needs it:
    `follow_fib` as in `ExporterContext`. `beside` makes the kernel exporter for an adapter whose daemon takes the
    routes from the kernel (`KernelFib(context, exporter.needs, exporter.may_delete)`).

    What the rig can do to the daemon (each may be a coroutine function), for those parts of the contract that need it:
    `restart`: end it and start it anew; `refuse`: let it refuse every change from now on, and return words of its
    refusal; `relent`: end that; `stall`: let it be silent from now on, taking connections; `go_on`: end that;
    `announce_elsewhere` and `withdraw_elsewhere`: another router's host route for an address. `ours` gives the
    kernel's routes with our protocol numbers.
    """

    table: Mapping[str, Any] = attrs.field(factory=dict)
    create: Callable[[ExporterContext], Exporter] | None = None
    routes: Sequence[HostRoute] = ROUTES
    interfaces: tuple[str, ...] = ("wlan0", "wlan1")
    moved: HostRoute | None = attrs.field()
    seen: Callable[[], Mapping[Address, HostRoute]] | None = None
    foreign: Callable[[], object] = lambda: None
    changes: Callable[[], int] | None = None
    settle_s: Seconds = 1.0
    publish_s: Seconds = attrs.field(default=PROMPT_S, validator=attrs.validators.le(PUBLISH_LIMIT_S))
    follow_fib: Callable[[Callable[[FibChange], None]], Coroutine[Any, Any, None]] = follow_no_fib
    beside: Callable[[Exporter, ExporterContext], Exporter] | None = None
    restart: Deed = _unable
    refuse: Callable[[], Awaitable[str] | str] = _unable
    relent: Deed = _unable
    stall: Deed = _unable
    go_on: Deed = _unable
    announce_elsewhere: Callable[[Address], Awaitable[None] | None] = _unable_for
    withdraw_elsewhere: Callable[[Address], Awaitable[None] | None] = _unable_for
    ours: Callable[[], Collection[object]] = _unable

    @moved.default
    def _on_the_second_link(self) -> HostRoute | None:
        first, links = self.routes[0], [name for name in self.interfaces if name != self.routes[0].link]
        return HostRoute(first.address, links[0]) if links else None


class Bench:
    """One exporter under test, and what it said."""

    def __init__(self, spec: ExporterSpec, rig: Rig) -> None:
        self.spec = spec
        self.rig = rig
        self.events: list[Event] = []
        self.log: list[tuple[str, str]] = []
        self.changed = 0
        """How often it said that its report would be another."""
        self.errors: list[RoamrouteError] = []
        """What publishing raised."""
        self.wrongs: list[str] = []
        """What no exporter may do, whenever it does it."""
        self._thread = threading.get_ident()
        self._kernels: list[Exporter] = []
        self.context = ExporterContext(
            rig.interfaces, PREFIXES, KernelNumbers(), self._emit, self._log, self._changed, rig.follow_fib
        )
        self.exporter = self.create()

    def create(self) -> Exporter:
        """Another exporter in the same world: a restart."""
        create = self.rig.create
        exporter = self.spec.create(self.settings, self.context) if create is None else create(self.context)
        if self.rig.beside is not None:
            self._kernels.append(self.rig.beside(exporter, self.context))
        return exporter

    @property
    def settings(self) -> Any:
        """The exporter's own, from the rig's table."""
        return self.spec.parse(self.rig.table)

    # what it says

    def _emit(self, event: Event) -> None:
        self._in_the_loop("emit")
        self.events.append(event)

    def _log(self, level: str, line: str) -> None:
        self._in_the_loop("log")
        self.log.append((level, line))

    def _changed(self) -> None:
        self._in_the_loop("changed")
        self.changed += 1

    def _in_the_loop(self, what: str) -> None:
        if threading.get_ident() != self._thread:
            self.wrongs.append(f"{what} was called from another thread than the loop's")

    # what roamroute does

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the exporter run, and the kernel exporter beside it."""
        async with AsyncExitStack() as stack:
            for exporter in (*self._kernels[-1:], self.exporter):
                await stack.enter_async_context(_running(exporter))
            yield

    async def publish(self, announced: Sequence[HostRoute] = (), withdrawn: Sequence[HostRoute] = ()) -> None:
        """Publish a change; a named error is allowed, slowness is not."""
        await self._publish(lambda exporter: exporter.publish(Delta(tuple(announced), tuple(withdrawn))))

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        """Publish everything; a named error is allowed, slowness is not."""
        await self._publish(lambda exporter: exporter.publish_all(tuple(wanted)))

    async def _publish(self, told: Callable[[Exporter], Coroutine[Any, Any, None]]) -> None:
        if self._kernels and self.exporter.needs().installs:
            await told(self._kernels[-1])
        try:
            await asyncio.wait_for(told(self.exporter), self.rig.publish_s)
        except (KernelRefused, DaemonRefused, DaemonGone) as error:
            if not str(error):
                self.wrongs.append(f"a {type(error).__name__} without words")
            self.errors.append(error)

    async def close(self) -> None:
        """The end."""
        await asyncio.wait_for(self.exporter.close(), PROMPT_S)
        for kernel in self._kernels:
            await kernel.close()

    # what the test requires

    async def shows(self, wanted: Sequence[HostRoute]) -> None:
        """Require that the outside world shows exactly these routes, soon."""
        if (seen := self.rig.seen) is None:
            return
        expected = {route.address: route for route in wanted}
        await self.soon(
            lambda: dict(seen()) == expected, lambda: f"wanted {_listed(expected)}, seen {_listed(dict(seen()))}"
        )

    async def soon(self, is_so: Callable[[], bool], otherwise: Callable[[], str]) -> None:
        """Require a condition, within the rig's time."""
        deadline = time.monotonic() + self.rig.settle_s
        while not is_so() and time.monotonic() < deadline:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        assert is_so(), otherwise()


async def done(deed: Any) -> Any:
    """The result of a rig's deed, whether it is a coroutine or not."""
    return await deed if inspect.isawaitable(deed) else deed


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
            await asyncio.wait_for(task, PROMPT_S)


@asynccontextmanager
async def lateness(late: list[Seconds]) -> AsyncIterator[None]:
    """Add to `late` how late each beat of 5 ms came: how long the loop was blocked."""

    async def beat() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            late.append(time.monotonic() - began - 0.005)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def open_things() -> dict[str, int]:
    """How many files, processes and tasks are there now, by kind; what /proc does not tell is left out."""
    counts = {"tasks": len(asyncio.all_tasks())}
    with suppress(OSError):
        counts["files"] = len(list(Path("/proc/self/fd").iterdir()))
    with suppress(OSError):
        children = [thread.joinpath("children").read_text() for thread in Path("/proc/self/task").iterdir()]
        counts["processes"] = sum(len(each.split()) for each in children)
    return counts


def _listed(routes: Mapping[Address, HostRoute]) -> str:
    return ", ".join(f"{route.address} on {route.link}" for route in routes.values()) or "nothing"
