"""Every test of the contract fails for an exporter that breaks what it is about: one deliberate mistake for each."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
import pytest

from roamroute.delta import Delta
from roamroute.errors import ConfigError, DaemonRefused
from roamroute.events import ForeignRouteSeen
from roamroute.export import (
    ExporterContext,
    ExporterSpec,
    ExportReport,
    FibNeeds,
    Finding,
    LabDaemon,
    LabRouter,
    Problem,
)
from roamroute.testing.daemon_contract import (
    AbsenceContract,
    HearingContract,
    InjectionContract,
    RefusalContract,
    RestartContract,
    SilenceContract,
)
from roamroute.testing.exporter_contract import ExporterContract
from roamroute.testing.exporter_rig import Rig
from roamroute.testing.exporters import FAKE_SPEC, FakeDaemon, FakeExporter
from roamroute.values import HostRoute

from .test_fake_exporter import rig_with

# -- exporters that publish wrongly


class IgnoresAnnouncements(FakeExporter):
    async def publish(self, delta: Delta) -> None:
        await super().publish(Delta(withdrawn=delta.withdrawn))


class IgnoresWithdrawals(FakeExporter):
    async def publish(self, delta: Delta) -> None:
        await super().publish(Delta(announced=delta.announced))


class KeepsWhatWasThere(FakeExporter):
    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        await super().publish(Delta(announced=tuple(wanted)))


class WithdrawsOnlyWhatIsThere(FakeExporter):
    async def publish(self, delta: Delta) -> None:
        for route in delta.withdrawn:
            self.daemon.routes.pop(route.address)
        await super().publish(delta)


class TakesNothingForEverything(FakeExporter):
    async def publish(self, delta: Delta) -> None:
        await (super().publish(delta) if delta else super().publish_all(()))


class KeepsTheFirstLink(FakeExporter):
    async def publish(self, delta: Delta) -> None:
        known = self._ledger.wanted
        await super().publish(Delta(tuple(route for route in delta.announced if route.address not in known)))


class WithdrawsByAddress(FakeExporter):
    async def publish(self, delta: Delta) -> None:
        known = self._ledger.wanted
        await super().publish(Delta(delta.announced, tuple(known.get(each.address, each) for each in delta.withdrawn)))


class Flaps(FakeExporter):
    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        await super().publish_all(())
        await super().publish_all(wanted)


class WithdrawsAtTheEnd(FakeExporter):
    async def close(self) -> None:
        self.daemon.routes.clear()


class CannotBeCancelled(FakeExporter):
    async def publish(self, delta: Delta) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)
            await super().publish(delta)
            return
        await asyncio.sleep(60)

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        try:
            await super().publish_all(wanted)
        except asyncio.CancelledError:
            await asyncio.sleep(60)


class RefusesAllTheSame(FakeExporter):
    async def publish(self, delta: Delta) -> None:
        await super().publish(delta)
        raise DaemonRefused("done, but")


# -- exporters that run wrongly


class EndsByItself(FakeExporter):
    async def run(self) -> None:
        await asyncio.sleep(0.05)


class RunsOnce(FakeExporter):
    has_run = False

    async def run(self) -> None:
        assert not self.has_run
        self.has_run = True
        await super().run()


class Blocks(FakeExporter):
    async def publish(self, delta: Delta) -> None:
        time.sleep(0.6)  # noqa: ASYNC251 - the mistake that is to be found
        await super().publish(delta)


class LeavesOpen(FakeExporter):
    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        os.open("/dev/null", os.O_RDONLY)
        await super().publish_all(wanted)


# -- exporters that say wrong things


class LooksAround(FakeExporter):
    def report(self) -> ExportReport:
        time.sleep(0.01)
        return super().report()


class Boasts(FakeExporter):
    def report(self) -> ExportReport:
        known = {route.address for each in self.published if isinstance(each, tuple) for route in each}
        return attrs.evolve(super().report(), exported=frozenset(known))


class KnowsTheKernel(FakeExporter):
    def needs(self) -> FibNeeds:
        return FibNeeds()


class KnowsNoRemedy(FakeExporter):
    def report(self) -> ExportReport:
        return attrs.evolve(super().report(), problems=(Problem("it does not work", ""),))


class Shouts(FakeExporter):
    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        await super().publish_all(wanted)
        self._context.log("LOUD", "help")


class SpeaksFromAnotherThread(FakeExporter):
    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        await super().publish_all(wanted)
        await asyncio.to_thread(self._context.emit, ForeignRouteSeen(ip_address("fd44:0:0:1::a"), "a thread"))


# -- exporters that do not get on with their daemon


class ConfirmsNothing(FakeExporter):
    def report(self) -> ExportReport:
        return attrs.evolve(super().report(), exported=None)


class OnlyConfirms(FakeExporter):
    async def _follow(self) -> None:
        self._is_connected = True
        while True:
            if self._ledger.confirm_exactly(self.daemon.routes):
                self._context.changed()
            await self.daemon.stirred.wait()


class ForgetsWhatIsWanted(OnlyConfirms):
    async def _reconcile(self) -> None:
        last = self.published[-1]
        await self._change(last if isinstance(last, Delta) else Delta(tuple(last)))


class HearsOnlyNews(FakeExporter):
    async def run(self) -> None:
        before = self.daemon.elsewhere
        self.daemon.elsewhere = {}
        await super().run()
        self.daemon.elsewhere = before


class ReportsNothingInstalled(FakeExporter):
    def report(self) -> ExportReport:
        return attrs.evolve(super().report(), installed=frozenset())


class HasItsOwnWords(FakeExporter):
    async def _change(self, delta: Delta) -> None:
        try:
            await super()._change(delta)
        except DaemonRefused:
            self._refusal = ""
            raise DaemonRefused("something went wrong") from None


class WaitsForEver(FakeExporter):
    async def _change(self, delta: Delta) -> None:
        await self.daemon.change(delta)


class GivesUp(OnlyConfirms):
    async def _change(self, delta: Delta) -> None:
        if not self.daemon.is_silent:
            await super()._change(delta)


class KeepsQuiet(FakeExporter):
    def _problems(self) -> Iterable[Problem]:
        return ()


class RepeatsItself(FakeExporter):
    async def run(self) -> None:
        while True:
            self._context.log("warning", "the fake daemon is not there")
            await asyncio.sleep(0.5)


# -- specifications that are wrong


def _takes_anything(_table: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _tells_one_mistake(table: Mapping[str, Any]) -> dict[str, Any]:
    if table:
        raise ConfigError((f"exporters.fake.{next(iter(table))}: what is that?",))
    return {}


def _needs_a_socket(table: Mapping[str, Any]) -> dict[str, Any]:
    if "socket" not in table:
        raise ConfigError(("exporters.fake.socket: is missing",))
    return {}


async def _finds_no_remedy(_settings: Any, _context: ExporterContext) -> Iterable[Finding]:
    return [Finding("error", "fake", "it does not work")]


async def _finds_all_well(_settings: Any, _context: ExporterContext) -> Iterable[Finding]:
    return [Finding("ok", "fake", "it works")]


class Untidy:
    """A hook for the lab."""

    def version(self, options: Mapping[str, str]) -> str:
        return "fake 1.0"

    def prepare(self, router: LabRouter) -> LabDaemon:
        (router.directory.parent / "fake.conf").write_text("hello", encoding="utf-8")
        return LabDaemon((("fake",),))


@attrs.frozen
class Mistake:
    """An exporter or a specification that is wrong."""

    exporter: type[FakeExporter] = FakeExporter
    spec: ExporterSpec = FAKE_SPEC
    is_absent: bool = False


def spec(**changes: Any) -> Mistake:
    return Mistake(spec=attrs.evolve(FAKE_SPEC, **changes))


def absent(exporter: type[FakeExporter] = FakeExporter, **changes: Any) -> Mistake:
    return Mistake(exporter, attrs.evolve(FAKE_SPEC, **changes), is_absent=True)


NUMBERS = iter(range(1_000_000))
MISTAKES: dict[str, Mistake] = {
    "test_the_entry_point_leads_to_the_specification": spec(),
    "test_an_empty_table_is_enough": spec(parse=_needs_a_socket),
    "test_a_misspelt_key_is_a_mistake_with_its_dotted_path": spec(parse=_takes_anything),
    "test_every_mistake_is_told": spec(parse=_tells_one_mistake),
    "test_what_is_announced_is_there": Mistake(IgnoresAnnouncements),
    "test_what_is_withdrawn_is_gone_and_nothing_else": Mistake(IgnoresWithdrawals),
    "test_a_change_may_be_repeated": Mistake(WithdrawsOnlyWhatIsThere),
    "test_an_empty_change_changes_nothing": Mistake(TakesNothingForEverything),
    "test_an_announcement_on_another_link_replaces_the_route": Mistake(KeepsTheFirstLink),
    "test_a_withdrawal_of_what_has_moved_on_does_not_take_the_new_route": Mistake(WithdrawsByAddress),
    "test_the_whole_set_replaces_what_was_there": Mistake(KeepsWhatWasThere),
    "test_the_whole_set_again_is_no_change": Mistake(Flaps),
    "test_a_new_start_finds_what_is_there_and_does_not_flap": Mistake(Flaps),
    "test_closing_withdraws_nothing_and_may_be_repeated": Mistake(WithdrawsAtTheEnd),
    "test_a_cancelled_publication_ends_at_once_and_harms_nothing": Mistake(CannotBeCancelled),
    "test_run_ends_by_cancellation_only_and_promptly": Mistake(EndsByItself),
    "test_run_may_be_started_again": Mistake(RunsOnce),
    "test_the_loop_is_never_blocked": Mistake(Blocks),
    "test_nothing_stays_open_after_the_end": Mistake(LeavesOpen),
    "test_reports_and_needs_are_cheap_and_do_not_block": Mistake(LooksAround),
    "test_nothing_is_exported_that_is_not_wanted": Mistake(Boasts),
    "test_what_is_installed_is_told_by_whose_daemon_installs": Mistake(KnowsTheKernel),
    "test_a_problem_comes_with_its_remedy": Mistake(KnowsNoRemedy),
    "test_it_says_only_what_an_exporter_may_say": Mistake(Shouts),
    "test_config_prints_the_same_text_each_time": spec(config=lambda *_: f"line {next(NUMBERS)}"),
    "test_check_finds_something_and_says_what_to_do": spec(check=_finds_no_remedy),
    "test_the_lab_s_names_begin_with_the_exporter_s": spec(lab={"other-ospf": Untidy()}),
    "test_a_daemon_that_is_not_installed_makes_the_machine_unfit_for_the_lab": spec(lab={"fake": Untidy()}),
    "test_the_lab_s_daemon_is_prepared_in_the_router_s_own_folder": spec(lab={"fake": Untidy()}),
    "test_what_is_wanted_gets_confirmed": Mistake(ConfirmsNothing),
    "test_what_is_withdrawn_is_not_confirmed_any_more": Mistake(Boasts),
    "test_publishing_to_a_daemon_that_works_raises_nothing": Mistake(RefusesAllTheSame),
    "test_a_restart_of_the_daemon_brings_everything_back_without_help": Mistake(ForgetsWhatIsWanted),
    "test_what_changes_while_the_daemon_restarts_is_not_lost": Mistake(ForgetsWhatIsWanted),
    "test_a_foreign_route_is_told_and_so_is_its_end": Mistake(OnlyConfirms),
    "test_a_foreign_route_from_before_the_start_is_told": Mistake(HearsOnlyNews),
    "test_the_daemon_installs_and_nothing_of_ours_is_in_the_kernel": Mistake(KnowsTheKernel),
    "test_what_the_daemon_installed_is_reported": Mistake(ReportsNothingInstalled),
    "test_a_refusal_is_told_in_the_daemon_s_words_and_mended_later": Mistake(HasItsOwnWords),
    "test_a_silent_daemon_holds_nobody_up": Mistake(WaitsForEver),
    "test_the_end_does_not_wait_for_a_silent_daemon": Mistake(CannotBeCancelled),
    "test_what_was_wanted_in_the_silence_is_there_after_it": Mistake(GivesUp),
    "test_it_says_that_there_is_no_daemon_and_what_to_do": absent(KeepsQuiet),
    "test_it_does_not_repeat_itself_in_the_log": absent(RepeatsItself),
    "test_check_says_what_to_do": absent(check=_finds_all_well),
    "test_config_needs_no_daemon": absent(config=None),
}
FAILURES = (AssertionError, ConfigError, ExceptionGroup, KeyError, TimeoutError, pytest.fail.Exception)


def contract_with(mistake: Mistake) -> ExporterContract:
    """Everything that the contract asks, for an exporter that makes this mistake."""
    parts = (AbsenceContract,) if mistake.is_absent else WORKING
    daemon = FakeDaemon(is_there=not mistake.is_absent)

    class Contract(*parts):  # type: ignore[misc]
        spec = mistake.spec

        def rig(self) -> AbstractAsyncContextManager[Rig]:
            return _rig()

    @asynccontextmanager
    async def _rig() -> AsyncIterator[Rig]:
        yield attrs.evolve(rig_with(daemon, mistake.exporter), settle_s=0.4, table={"absent": mistake.is_absent})

    contract: ExporterContract = Contract()
    return contract


WORKING = (RestartContract, HearingContract, InjectionContract, RefusalContract, SilenceContract)


def play(name: str, contract: ExporterContract, folder: Path) -> None:
    test: Callable[..., None] = getattr(contract, name)
    test(**({"tmp_path": folder} if "tmp_path" in inspect.signature(test).parameters else {}))


@pytest.mark.parametrize("name", MISTAKES)
def test_it_finds_the_mistake(name: str, tmp_path: Path) -> None:
    with pytest.raises(FAILURES):
        play(name, contract_with(MISTAKES[name]), tmp_path)


def test_calls_from_other_threads_are_found_by_every_test() -> None:
    with pytest.raises(AssertionError, match="another thread"):
        play("test_what_is_announced_is_there", contract_with(Mistake(SpeaksFromAnotherThread)), Path())


def test_every_test_of_the_contract_has_its_mistake() -> None:
    tests = {name for part in (*WORKING, AbsenceContract) for name in dir(part) if name.startswith("test_")}
    assert tests == MISTAKES.keys()
