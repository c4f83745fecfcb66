"""The exporter called `bird`: confirms what BIRD exports, reports foreign routes, and in mode "inject" brings ours.

In mode "kernel" the routes are in the kernel whether BIRD runs or not; a BIRD that starts finds them there. In mode
"inject" they are in a file that BIRD includes, with the same effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from roamroute.adapter.asking import CONFIRMATION_S, AskingExporter
from roamroute.delta import Delta
from roamroute.export import ExporterContext, Problem, follow_no_fib
from roamroute.values import Address, HostRoute
from roamroute_bird.confirmation import Confirmation, Standing
from roamroute_bird.inject import Injector
from roamroute_bird.installation import Installation
from roamroute_bird.poke import Poke, is_needed
from roamroute_bird.remedies import FRAGMENT, problem_of
from roamroute_bird.settings import Settings
from roamroute_bird.version import OLDEST, Version


class Bird(Confirmation):
    """One BIRD, as `roamroute.adapter.asking` asks it."""

    @property
    def program(self) -> str:
        return self.status.program if self.status.version else "BIRD"

    def forget(self, address: Address) -> None:
        """Nothing is remembered of an address."""

    def trouble(self) -> Problem | None:
        if self.status.version and not Version(self.status.version).is_supported:
            return Problem(f"{self.program} is too old", f"install BIRD {OLDEST.text} or newer")
        return None

    def problem(self, address: Address, standing: Standing) -> Problem:
        return problem_of(address, standing, self, self._settings)


class BirdExporter(AskingExporter[Standing]):
    """See `roamroute.export.Exporter` for the contract of the methods."""

    def __init__(self, settings: Settings, context: ExporterContext) -> None:
        self._injector = injector = Injector(settings, context) if settings.injects else None
        self._bird = Bird(settings, context, lambda: injector.configured if injector is not None else None)
        self._poke = Poke(settings)
        remedy = f"systemctl status bird; `{settings.birdc} show status` must answer"
        super().__init__("bird", context, self._bird, injector, remedy=remedy)
        self._is_installing = settings.injects and context.follow_fib is not follow_no_fib
        self._installation = Installation(self._bird, self._ledger.is_uninstalled)

    async def run(self) -> None:
        mending = asyncio.create_task(self._installation.run())
        try:
            await super().run()
        finally:
            mending.cancel()

    async def publish(self, delta: Delta) -> None:
        self._hurry()
        await super().publish(delta)

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        self._hurry()
        await super().publish_all(wanted)

    async def close(self) -> None:
        await self._poke.close()
        await super().close()

    async def _look(self) -> None:
        if self._injector is None:
            await super()._look()
            return
        self._injector.is_sparing = True
        try:
            await super()._look()
        finally:
            self._injector.is_sparing = False

    async def _ask(self, address: Address) -> None:
        await super()._ask(address)
        if self._is_installing:
            self._installation.look(address)

    def _problems(self) -> Iterable[Problem]:
        yield from super()._problems()
        lacking = self._installation.lacking(CONFIRMATION_S) if self._is_connected else ()
        if lacking:
            text = f"BIRD announces {min(lacking, key=str)} and has not put it into the kernel"
            yield Problem(text, f"BIRD's protocol kernel must export it: {FRAGMENT}", len(lacking))

    def _hurry(self) -> None:
        if is_needed(self._bird.status, self._bird.protocols):
            self._poke.go_on()
