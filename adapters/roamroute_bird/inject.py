"""Mode "inject": the file of static routes follows what is wanted, and BIRD reads it again.

One piece of work at a time: write the file, `configure`; what is wanted meanwhile goes into the next one, together.
`configure soft` is the gentlest form: BIRD compares the protocols, changes our static ones by the difference and leaves
all others as they are, also when the operator's filters have been edited. When BIRD refuses, the configuration in force
stays, and the file goes back to what BIRD has last read, so that BIRD can start with it.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Iterable

from roamroute.adapter.upkeep import Upkeep
from roamroute.delta import Delta
from roamroute.errors import DaemonGone, DaemonRefused, KernelRefused
from roamroute.export import ExporterContext, Problem
from roamroute.values import Address, HostRoute, Instant, Seconds
from roamroute_bird import hostsfile
from roamroute_bird.answers import Status
from roamroute_bird.client import Client
from roamroute_bird.protocol import ACCESS_DENIED, BirdRefused, Reply
from roamroute_bird.settings import Settings

CONFIGURE = "configure soft"
CONFIGURE_LIMIT_S: Seconds = 30.0
"""BIRD reads 5,000 host routes in 4 ms (2.17) to 7 ms (3.1); a large configuration on a small router takes seconds."""
PATIENCE_S: Seconds = 2.0
"""After that a question is given up, if BIRD answers other questions."""
PAUSE_S: Seconds = 0.02
"""Between two looks whether a reconfiguration is over."""
_SHUTTING_DOWN = 6


class Injector:
    """Keeps the file and BIRD in step with what is wanted; works in a task of its own, also when nobody runs."""

    def __init__(self, settings: Settings, context: ExporterContext) -> None:
        self._path = settings.include
        self._client = Client(settings)
        self._lines: dict[int, dict[Address, str]] = {
            version: {} for version in hostsfile.versions_of(context.prefixes)
        }
        """What is wanted: for each version of IP the lines of its addresses."""
        self._is_told = False
        """Has anything been said of what is wanted?"""
        self._in_force: str | None = None
        """The file as BIRD has last read it; None: not known."""
        self.configured: str | None = None
        """The time of our last reconfiguration, as BIRD writes it."""
        self._asking: asyncio.Task[Reply] | None = None
        self._asked_at: Instant = 0.0
        self._is_given_up = False
        self.is_sparing = False
        """Somebody else has reconfigured BIRD: it has read our file, and one more would cancel an undo of theirs."""
        self._upkeep = Upkeep(self._bring)

    # what is wanted

    def change(self, delta: Delta) -> None:
        """Take a change. Raises: DaemonRefused for an interface whose name BIRD cannot read."""
        announced = {route.address: _line_of(route) for route in delta.announced}
        is_news = self.has_failed
        for route in delta.withdrawn:
            if self._of(route.address).get(route.address) == _line_of(route):
                del self._of(route.address)[route.address]
                is_news = True
        for address, line in announced.items():
            is_news = is_news or self._of(address).get(address) != line
            self._of(address)[address] = line
        self._told(is_news)

    def replace(self, routes: Iterable[HostRoute]) -> None:
        """Take the whole set. Raises as `change`."""
        before = {version: dict(lines) for version, lines in self._lines.items()}
        lines = {route.address: _line_of(route) for route in routes}
        for version in self._lines:
            self._lines[version] = {address: line for address, line in lines.items() if address.version == version}
        self._told(self.has_failed or before != self._lines)

    def _of(self, address: Address) -> dict[Address, str]:
        return self._lines.setdefault(address.version, {})

    def _told(self, is_news: bool) -> None:
        is_first, self._is_told = not self._is_told, True
        if is_first or is_news:
            self.again()

    def again(self, *, is_forgetful: bool = False) -> None:
        """Let BIRD read the file once more; `is_forgetful`: it may be another BIRD, which has read what is there."""
        if not self._is_told:
            return
        if is_forgetful:
            self._in_force = None
            self._give_up()
            if self.is_sparing and not self.has_failed:
                return
        self._upkeep.again()

    def _give_up(self) -> None:
        """BIRD answers others: what it has not answered here for long it never will (a birdc that hangs)."""
        if self._asking is not None and time.monotonic() > self._asked_at + PATIENCE_S:
            self._asking.cancel()
            self._is_given_up = True

    async def settled(self, limit_s: Seconds) -> None:
        """Wait until BIRD has what is wanted at this moment; returns when the limit is over, the work goes on.

        Raises: KernelRefused, DaemonRefused, DaemonGone when it failed.
        """
        await self._upkeep.settled(limit_s)

    @property
    def has_failed(self) -> bool:
        return self._upkeep.failure is not None

    @property
    def is_busy(self) -> bool:
        return self._upkeep.is_busy

    # the work

    async def _bring(self) -> None:
        text = hostsfile.render(self._lines)
        there = await asyncio.to_thread(hostsfile.read, self._path)
        if there and not there.startswith(hostsfile.HEAD):
            raise KernelRefused(f"{self._path} is somebody else's: it does not begin with our first line", errno.EEXIST)
        in_force = there or "" if self._in_force is None else self._in_force
        if there != text:
            await asyncio.to_thread(hostsfile.write, self._path, text)
        try:
            reply = await self._configure()
        except BirdRefused as error:
            if error.refusal.code != ACCESS_DENIED and in_force != text:
                await asyncio.to_thread(hostsfile.write, self._path, in_force)
            self._in_force = in_force
            raise
        if reply.last.code == _SHUTTING_DOWN:
            raise DaemonGone(f'BIRD answered "{CONFIGURE}": {reply.last.text}')
        self._in_force = text
        self.configured = (await self._configured()).configured

    async def _configure(self) -> Reply:
        """Ask; what `_give_up` ends is a BIRD that is gone."""
        self._asked_at, self._is_given_up = time.monotonic(), False
        self._asking = asyncio.create_task(self._configure_when_quiet())
        try:
            return await self._asking
        except asyncio.CancelledError:
            if self._is_given_up:
                raise DaemonGone(f'"{CONFIGURE}" was not answered, but BIRD answers again') from None
            raise
        finally:
            self._asking = None

    async def _configure_when_quiet(self) -> Reply:
        await self._configured()
        return await self._client.ask(CONFIGURE, CONFIGURE_LIMIT_S)

    async def _configured(self) -> Status:
        """Wait until no reconfiguration is going on.

        BIRD queues one behind another, and BIRD 3.1.7 dies when a third comes (conf.c, assertion in config_free).
        """
        until = time.monotonic() + CONFIGURE_LIMIT_S
        while (status := await self._client.status()).is_configuring:
            if time.monotonic() > until:
                raise DaemonGone(f"BIRD has been reconfiguring itself for {CONFIGURE_LIMIT_S:g} s")
            await asyncio.sleep(PAUSE_S)
        return status

    # what is told

    def problems(self, routes: int) -> Iterable[Problem]:
        """What keeps BIRD from taking the routes."""
        match self._upkeep.failure:
            case BirdRefused() as refused if refused.refusal.code == ACCESS_DENIED:
                yield Problem(str(refused), 'let roamroute configure BIRD, or use mode = "kernel"', routes)
            case BirdRefused() as refused:
                position = refused.position
                where = position.path if position is not None else "the configuration"
                remedy = f"mend {where}; bird -p shows what is wrong"
                yield Problem(f"{refused}; what BIRD read last stays in force", remedy, routes)
            case KernelRefused(errno=errno.EEXIST) as refused:
                yield Problem(str(refused), "move it away, or set exporters.bird.include to another path", routes)
            case KernelRefused() as refused:
                yield Problem(str(refused), f"make {self._path} writable for roamroute, readable for BIRD", routes)
            case DaemonGone() as gone:
                yield Problem(str(gone), "systemctl status bird: is it busy, stopped, or restarting?", routes)
            case _:
                pass

    async def close(self) -> None:
        await self._upkeep.close()
        await self._client.close()


def _line_of(route: HostRoute) -> str:
    try:
        return hostsfile.line_of(route)
    except ValueError as error:
        raise DaemonRefused(str(error)) from None
