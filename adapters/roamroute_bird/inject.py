"""Mode "inject": the file of static routes follows what is wanted, and BIRD reads it again.

One piece of work at a time: write the file, `configure`; what is wanted meanwhile goes into the next one, together.
`configure soft` is the gentlest form: BIRD compares the protocols, changes our static ones by the difference and leaves
all others as they are, also when the operator's filters have been edited. When BIRD refuses, the configuration in force
stays, and the file goes back to what BIRD has last read, so that BIRD can start with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from roamroute.delta import Delta
from roamroute.errors import DaemonGone, DaemonRefused, KernelRefused, MalformedInput, RoamrouteError
from roamroute.export import ExporterContext, Problem
from roamroute.values import Address, HostRoute, Seconds
from roamroute_bird import hostsfile
from roamroute_bird.client import Client
from roamroute_bird.protocol import ACCESS_DENIED, BirdRefused
from roamroute_bird.settings import Settings

CONFIGURE = "configure soft"
CONFIGURE_LIMIT_S: Seconds = 30.0
"""BIRD reads 5,000 host routes in 4 ms (2.17) to 7 ms (3.1); a large configuration on a small router takes seconds."""
_SHUTTING_DOWN = 6


class Injector:
    """Keeps the file and BIRD in step with what is wanted; works in a task of its own, also when nobody runs."""

    def __init__(self, settings: Settings, context: ExporterContext) -> None:
        self._path = settings.include
        self._versions = hostsfile.versions_of(context.prefixes)
        self._client = Client(settings)
        self._log = context.log
        self._lines: dict[Address, str] | None = None
        """What is wanted, None before anything was said of it."""
        self._in_force: str | None = None
        """The file as BIRD has last read it; None: not known."""
        self.configured: str | None = None
        """The time of our last reconfiguration, as BIRD writes it."""
        self._asked = 0
        self._done = 0
        """Numbers of changes: all up to `_done` have been worked on."""
        self._outcome: RoamrouteError | None = None
        """Why the last piece of work failed."""
        self._work: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()

    # what is wanted

    def change(self, delta: Delta) -> None:
        """Take a change. Raises: DaemonRefused for an interface whose name BIRD cannot read."""
        lines = dict(self._lines or {})
        for route in delta.withdrawn:
            if lines.get(route.address) == _line_of(route):
                del lines[route.address]
        for route in delta.announced:
            lines[route.address] = _line_of(route)
        self._want(lines)

    def replace(self, routes: Iterable[HostRoute]) -> None:
        """Take the whole set. Raises as `change`."""
        self._want({route.address: _line_of(route) for route in routes})

    def _want(self, lines: dict[Address, str]) -> None:
        if lines != self._lines or self._outcome is not None:
            self._lines = lines
            self.again()

    def again(self, *, is_forgetful: bool = False) -> None:
        """Let BIRD read the file once more; `is_forgetful`: it may be another BIRD, which has read what is there."""
        if self._lines is None:
            return
        if is_forgetful:
            self._in_force = None
        self._asked += 1
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._keep_up())

    async def settled(self, limit_s: Seconds) -> None:
        """Wait until BIRD has what is wanted at this moment; returns when the limit is over, the work goes on.

        Raises: KernelRefused, DaemonRefused, DaemonGone when it failed.
        """
        asked = self._asked
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._done < asked:
                    self._progress.clear()
                    await self._progress.wait()
                if self._outcome is not None:
                    raise self._outcome

    @property
    def has_failed(self) -> bool:
        return self._outcome is not None

    # the work

    async def _keep_up(self) -> None:
        while self._done < self._asked:
            asked = self._asked
            try:
                await self._work_once()
                self._outcome = None
            except (KernelRefused, DaemonRefused, DaemonGone) as error:
                self._outcome = error
            except MalformedInput as error:
                self._outcome = DaemonGone(str(error))
            self._done = asked
            self._progress.set()

    async def _work_once(self) -> None:
        text = hostsfile.render(self._versions, self._lines or {})
        there = await asyncio.to_thread(hostsfile.read, self._path)
        if self._in_force is None:
            self._in_force = there or ""
        if there != text:
            await asyncio.to_thread(hostsfile.write, self._path, text)
        try:
            reply = await self._client.ask(CONFIGURE, CONFIGURE_LIMIT_S)
        except BirdRefused as error:
            if error.refusal.code != ACCESS_DENIED and self._in_force != text:
                await asyncio.to_thread(hostsfile.write, self._path, self._in_force)
            raise
        if reply.last.code == _SHUTTING_DOWN:
            raise DaemonGone(f'BIRD answered "{CONFIGURE}": {reply.last.text}')
        self._in_force = text
        self.configured = (await self._client.status()).configured

    # what is told

    def problems(self, routes: int) -> Iterable[Problem]:
        """What keeps BIRD from taking the routes."""
        match self._outcome:
            case BirdRefused() as refused if refused.refusal.code == ACCESS_DENIED:
                yield Problem(str(refused), 'let roamroute configure BIRD, or use mode = "kernel"', routes)
            case BirdRefused() as refused:
                position = refused.position
                where = position.path if position is not None else "the configuration"
                remedy = f"mend {where}; bird -p shows what is wrong"
                yield Problem(f"{refused}; what BIRD read last stays in force", remedy, routes)
            case KernelRefused() as refused:
                yield Problem(str(refused), f"make {self._path} writable for roamroute, readable for BIRD", routes)
            case DaemonGone() as gone:
                yield Problem(str(gone), "systemctl status bird: is it busy, stopped, or restarting?", routes)
            case _:
                pass

    async def close(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
        await self._client.close()


def _line_of(route: HostRoute) -> str:
    try:
        return hostsfile.line_of(route)
    except ValueError as error:
        raise DaemonRefused(str(error)) from None
