"""What an exporter must keep when its routing daemon works, restarts, refuses, falls silent, or is not there.

Each class is `ExporterContract` and more, and asks more of the rig: inherit those that your rig can serve.

    class TestWithTheRealDaemon(RestartContract, RefusalContract):
        spec = SPEC
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from ipaddress import ip_address

from roamroute.events import ForeignRouteLost, ForeignRouteSeen
from roamroute.testing.exporter_contract import BLOCKED_S, CHECK_LIMIT_S, ExporterContract, check_findings
from roamroute.testing.exporter_rig import ELSEWHERE, PROMPT_S, Bench, done, lateness
from roamroute.values import HostRoute, Seconds

OUTSIDE = ip_address("fd44:0:0:2::e")
"""Not in a roaming prefix."""


async def _exports(bench: Bench, wanted: Sequence[HostRoute]) -> None:
    addresses = frozenset(route.address for route in wanted)
    await bench.soon(
        lambda: bench.exporter.report().exported == addresses,
        lambda: f"wanted {sorted(map(str, addresses))}, but {bench.exporter.report()}",
    )


class WorkingContract(ExporterContract):
    """The daemon is there and takes the routes."""

    def test_what_is_wanted_gets_confirmed(self) -> None:
        async def scene(bench: Bench) -> None:
            assert not bench.exporter.report().exported
            await bench.publish_all(bench.rig.routes[:1])
            await _exports(bench, bench.rig.routes[:1])
            await bench.publish(announced=bench.rig.routes[1:])
            await _exports(bench, bench.rig.routes)
            report = bench.exporter.report()
            assert report.is_connected
            assert report.daemon, "which daemon is it?"
            assert not report.problems, report.problems
            assert bench.changed, "nobody was told that the report has changed"

        self.check(scene, is_running=True)

    def test_what_is_withdrawn_is_not_confirmed_any_more(self) -> None:
        async def scene(bench: Bench) -> None:
            first, *others = bench.rig.routes
            await bench.publish_all(bench.rig.routes)
            await _exports(bench, bench.rig.routes)
            await bench.publish(withdrawn=[first])
            await _exports(bench, others)
            await bench.publish(announced=[first])
            await _exports(bench, bench.rig.routes)

        self.check(scene, is_running=True)

    def test_publishing_to_a_daemon_that_works_raises_nothing(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.publish_all(bench.rig.routes)
            await _exports(bench, bench.rig.routes)
            await bench.publish(withdrawn=bench.rig.routes)
            await bench.publish_all(())
            assert bench.errors == []

        self.check(scene, is_running=True)


class RestartContract(WorkingContract):
    """The rig can `restart` the daemon."""

    def test_a_restart_of_the_daemon_brings_everything_back_without_help(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.publish_all(bench.rig.routes)
            await _exports(bench, bench.rig.routes)
            await done(bench.rig.restart())
            await bench.shows(bench.rig.routes)
            await _exports(bench, bench.rig.routes)

        self.check(scene, is_running=True)

    def test_what_changes_while_the_daemon_restarts_is_not_lost(self) -> None:
        async def scene(bench: Bench) -> None:
            first, second, third, *_ = bench.rig.routes
            await bench.publish_all([first, second])
            await _exports(bench, [first, second])
            restarting = asyncio.ensure_future(done(bench.rig.restart()))
            await bench.publish(announced=[third], withdrawn=[first])
            await restarting
            if bench.errors:
                await bench.publish_all([second, third])
            await bench.shows([second, third])
            await _exports(bench, [second, third])

        self.check(scene, is_running=True)


class HearingContract(WorkingContract):
    """The rig can `announce_elsewhere` and `withdraw_elsewhere`: other routers' host routes for hosts that we hold."""

    def test_a_foreign_route_is_told_and_so_is_its_end(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.publish_all(bench.rig.routes)
            await _exports(bench, bench.rig.routes)
            await done(bench.rig.announce_elsewhere(OUTSIDE))
            await done(bench.rig.announce_elsewhere(ELSEWHERE))
            await bench.soon(lambda: bool(_told(bench, ForeignRouteSeen)), lambda: f"not told: {bench.events}")
            await done(bench.rig.withdraw_elsewhere(ELSEWHERE))
            await bench.soon(lambda: bool(_told(bench, ForeignRouteLost)), lambda: f"not told: {bench.events}")
            assert {event.address for event in bench.events if isinstance(event, ForeignRouteSeen)} == {ELSEWHERE}
            assert all(event.origin for event in bench.events if isinstance(event, ForeignRouteSeen))
            await _exports(bench, bench.rig.routes)

        self.check(scene, is_running=True)

    def test_a_foreign_route_from_before_the_start_is_told(self) -> None:
        async def scene(bench: Bench) -> None:
            await done(bench.rig.announce_elsewhere(ELSEWHERE))
            async with bench.running():
                await bench.soon(lambda: bool(_told(bench, ForeignRouteSeen)), lambda: f"not told: {bench.events}")
            await done(bench.rig.withdraw_elsewhere(ELSEWHERE))

        self.check(scene)


class InjectionContract(WorkingContract):
    """The daemon installs the routes itself. The rig has `seen`, of what the daemon installed, and `ours`."""

    def test_the_daemon_installs_and_nothing_of_ours_is_in_the_kernel(self) -> None:
        async def scene(bench: Bench) -> None:
            assert bench.rig.seen is not None
            assert not bench.exporter.needs().installs
            assert not bench.exporter.needs().parks, "parking is for routes of ours"
            await bench.publish_all(bench.rig.routes)
            await bench.shows(bench.rig.routes)
            assert not bench.rig.ours()
            await bench.publish_all(())
            await bench.shows(())
            assert not bench.rig.ours()

        self.check(scene, is_running=True)

    def test_what_the_daemon_installed_is_reported(self) -> None:
        async def scene(bench: Bench) -> None:
            for wanted in (bench.rig.routes, bench.rig.routes[1:], ()):
                await bench.publish_all(wanted)
                addresses = {route.address for route in wanted}
                await bench.soon(
                    lambda addresses=addresses: bench.exporter.report().installed == addresses,  # type: ignore[misc]
                    lambda: f"reported as installed: {bench.exporter.report().installed}",
                )

        self.check(scene, is_running=True)


class RefusalContract(WorkingContract):
    """The rig can let the daemon `refuse` every change, and `relent`."""

    def test_a_refusal_is_told_in_the_daemon_s_words_and_mended_later(self) -> None:
        async def scene(bench: Bench) -> None:
            first, *others = bench.rig.routes
            await bench.publish_all([first])
            await _exports(bench, [first])
            words = await done(bench.rig.refuse())
            await bench.publish(announced=others)

            def told() -> str:
                problems = [f"{problem.text} {problem.remedy}" for problem in bench.exporter.report().problems]
                return "\n".join([*map(str, bench.errors), *problems])

            await bench.soon(lambda: words in told(), lambda: f"{words!r} is not in {told()!r}")
            await bench.shows([first])
            await done(bench.rig.relent())
            await bench.publish_all(bench.rig.routes)
            await bench.shows(bench.rig.routes)
            await _exports(bench, bench.rig.routes)
            await bench.soon(
                lambda: not bench.exporter.report().problems, lambda: f"still there: {bench.exporter.report().problems}"
            )

        self.check(scene, is_running=True)


class SilenceContract(WorkingContract):
    """The rig can let the daemon `stall`, taking connections and answering nothing, and `go_on`."""

    def test_a_silent_daemon_holds_nobody_up(self) -> None:
        async def scene(bench: Bench) -> Seconds:
            late: list[Seconds] = []
            async with lateness(late):
                await bench.publish_all(bench.rig.routes[:1])
                await _exports(bench, bench.rig.routes[:1])
                await done(bench.rig.stall())
                await bench.publish(announced=bench.rig.routes[1:])
                began = time.monotonic()
                bench.exporter.report()
                bench.exporter.needs()
                assert time.monotonic() - began < BLOCKED_S
            await done(bench.rig.go_on())
            return max(late)

        assert self.check(scene, is_running=True) < BLOCKED_S, "the loop was blocked"

    def test_the_end_does_not_wait_for_a_silent_daemon(self) -> None:
        async def scene(bench: Bench) -> None:
            async with bench.running():
                await bench.publish_all(bench.rig.routes)
                await _exports(bench, bench.rig.routes)
                await done(bench.rig.stall())
                publishing = asyncio.ensure_future(bench.exporter.publish_all(()))
                await asyncio.sleep(0.05)
                publishing.cancel()
                _, pending = await asyncio.wait([publishing], timeout=PROMPT_S)
                assert not pending, "a cancelled publication goes on"
            await asyncio.wait_for(bench.exporter.close(), PROMPT_S)
            await done(bench.rig.go_on())

        self.check(scene)

    def test_what_was_wanted_in_the_silence_is_there_after_it(self) -> None:
        async def scene(bench: Bench) -> None:
            first, *others = bench.rig.routes
            await bench.publish_all([first])
            await _exports(bench, [first])
            await done(bench.rig.stall())
            await bench.publish(announced=others, withdrawn=[first])
            await done(bench.rig.go_on())
            if bench.errors:
                await bench.publish_all(others)
            await bench.shows(others)
            await _exports(bench, others)

        self.check(scene, is_running=True)


class AbsenceContract(ExporterContract):
    """There is no daemon where the rig's table says."""

    def test_it_says_that_there_is_no_daemon_and_what_to_do(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.publish_all(bench.rig.routes)
            await bench.soon(lambda: bool(bench.exporter.report().problems), lambda: "no problem is reported")
            report = bench.exporter.report()
            assert not report.is_connected
            assert not report.exported
            assert report.problems[0].routes == len(bench.rig.routes)

        self.check(scene, is_running=True)

    def test_it_does_not_repeat_itself_in_the_log(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.publish_all(bench.rig.routes)
            await asyncio.sleep(1.5)  # three attempts
            lines = [line for level, line in bench.log if level != "debug"]
            assert len(lines) == len(set(lines)), lines

        self.check(scene, is_running=True)

    def test_check_says_what_to_do(self) -> None:
        async def scene(bench: Bench) -> None:
            assert self.spec.check is not None, "operators need to be told"
            findings = list(await asyncio.wait_for(self.spec.check(bench.settings, bench.context), CHECK_LIMIT_S))
            check_findings(findings)
            assert any(finding.level in ("error", "unknown") for finding in findings), findings

        self.check(scene)

    def test_config_needs_no_daemon(self) -> None:
        async def scene(bench: Bench) -> None:
            assert self.spec.config is not None, "operators need a configuration to begin with"
            assert self.spec.config(bench.settings, bench.context).strip()

        self.check(scene)


def _told(bench: Bench, kind: type[ForeignRouteSeen] | type[ForeignRouteLost]) -> list[object]:
    return [event for event in bench.events if isinstance(event, kind) and event.address == ELSEWHERE]
