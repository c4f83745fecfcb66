"""What every exporter must keep, as tests that an exporter's own suite inherits. Needs pytest, nothing else.

    class TestMine(ExporterContract):
        spec = SPEC

        @asynccontextmanager
        async def rig(self):
            yield Rig(table={"socket": "/run/mine.sock"}, seen=...)

What the suite cannot see (`seen` is None where the exporter leaves the FIB to `kernel`) it does not judge; that a
daemon is absent, mute or broken is no excuse for anything here: `rig` is also the place to provide such a daemon.
`daemon_contract` has what an exporter must keep when its daemon works, restarts, refuses, falls silent or is absent.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from roamroute.delta import Delta
from roamroute.errors import ConfigError, DaemonGone, DaemonRefused, KernelRefused, MachineUnfit
from roamroute.events import ForeignRouteLost, ForeignRouteSeen
from roamroute.export import (
    ExporterSpec,
    ExportReport,
    FibNeeds,
    Finding,
    LabDaemon,
    LabPeer,
    LabRouter,
    LabRouting,
    find_exporter,
)
from roamroute.testing.exporter_rig import PREFIXES, PROMPT_S, ROUTES, Bench, Rig, lateness, open_things
from roamroute.values import Seconds

__all__ = ["PREFIXES", "PROMPT_S", "ROUTES", "Bench", "ExporterContract", "Rig"]

Result = TypeVar("Result")

CHECK_LIMIT_S: Seconds = 10.0
"""`roamroute check` waits 15 s for an exporter's findings."""
BLOCKED_S: Seconds = 0.4
"""More than any busy machine takes from a test, less than a question to a daemon that does not answer."""


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
                bench = Bench(self.spec, rig)
                foreign = rig.foreign()
                try:
                    if is_running:
                        async with bench.running():
                            result = await scene(bench)
                    else:
                        result = await scene(bench)
                    assert rig.foreign() == foreign, "what others put there was changed"
                    assert not bench.wrongs, bench.wrongs
                    return result
                finally:
                    await bench.close()

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
            async with bench.running():
                await bench.publish_all([first, second])
                await bench.shows([first, second])
            await bench.exporter.close()
            bench.exporter = bench.create()
            before = None if bench.rig.changes is None else bench.rig.changes()
            async with bench.running():
                await bench.publish_all([first, second])
                assert bench.rig.changes is None or bench.rig.changes() == before
                await bench.publish_all([second, third])
                await bench.shows([second, third])

        self.check(scene)

    def test_closing_withdraws_nothing_and_may_be_repeated(self) -> None:
        async def scene(bench: Bench) -> None:
            async with bench.running():
                await bench.publish_all(bench.rig.routes)
                await bench.shows(bench.rig.routes)
            for _ in range(2):
                await asyncio.wait_for(bench.exporter.close(), PROMPT_S)
            await bench.shows(bench.rig.routes)

        self.check(scene)

    def test_a_cancelled_publication_ends_at_once_and_harms_nothing(self) -> None:
        """roamroute gives up a publication that takes too long, and tells everything again."""

        async def scene(bench: Bench) -> None:
            await bench.publish_all(())
            for delay_s in (0.0, 0.001, 0.02):
                publishing = asyncio.create_task(bench.exporter.publish(Delta(tuple(bench.rig.routes))))
                await asyncio.sleep(delay_s)
                publishing.cancel()
                _, pending = await asyncio.wait([publishing], timeout=PROMPT_S)
                assert not pending, "a cancelled publication goes on"
                with suppress(asyncio.CancelledError, KernelRefused, DaemonRefused, DaemonGone):
                    publishing.result()
            await bench.publish_all(bench.rig.routes[1:])
            await bench.shows(bench.rig.routes[1:])

        self.check(scene, is_running=True)

    # -- running

    def test_run_ends_by_cancellation_only_and_promptly(self) -> None:
        async def scene(bench: Bench) -> None:
            running = asyncio.create_task(bench.exporter.run())
            await asyncio.sleep(0.2)
            assert not running.done(), "run() ended by itself"
            running.cancel()
            _, pending = await asyncio.wait([running], timeout=PROMPT_S)
            assert not pending, "run() goes on after it was cancelled"
            assert running.cancelled(), "run() took its cancellation for something else"

        self.check(scene)

    def test_run_may_be_started_again(self) -> None:
        async def scene(bench: Bench) -> None:
            for _ in range(2):
                async with bench.running():
                    await bench.publish_all(bench.rig.routes)
                    await bench.shows(bench.rig.routes)

        self.check(scene)

    def test_the_loop_is_never_blocked(self) -> None:
        async def scene(bench: Bench) -> Seconds:
            late: list[Seconds] = []
            async with lateness(late), bench.running():
                await bench.publish_all(bench.rig.routes)
                for route in bench.rig.routes:
                    await bench.publish(withdrawn=[route])
                    await bench.publish(announced=[route])
                await asyncio.sleep(0.3)
            return max(late)

        assert self.check(scene) < BLOCKED_S, "the loop was blocked"

    def test_nothing_stays_open_after_the_end(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.close()
            before = open_things()
            bench.exporter = bench.create()
            async with bench.running():
                await bench.publish_all(bench.rig.routes)
                await asyncio.sleep(0.05)
            await bench.close()

            def is_left() -> dict[str, int]:
                return {what: count - before[what] for what, count in open_things().items() if count > before[what]}

            await bench.soon(lambda: not is_left(), lambda: f"left open: {is_left()}")

        self.check(scene)

    # -- looking

    def test_reports_and_needs_are_cheap_and_do_not_block(self) -> None:
        async def scene(bench: Bench) -> Seconds:
            began = time.monotonic()
            for _ in range(100):
                assert isinstance(bench.exporter.report(), ExportReport)
                assert isinstance(bench.exporter.needs(), FibNeeds)
                assert bench.exporter.may_delete(bench.rig.routes[0]) in (True, False)
            return time.monotonic() - began

        assert self.check(scene) < BLOCKED_S
        assert self.check(scene, is_running=True) < BLOCKED_S

    def test_nothing_is_exported_that_is_not_wanted(self) -> None:
        async def scene(bench: Bench) -> None:
            wanted = bench.rig.routes[:2]
            await bench.publish_all(bench.rig.routes)
            await bench.publish_all(wanted)
            exported = bench.exporter.report().exported
            assert exported is None or exported <= {route.address for route in wanted}

        self.check(scene, is_running=True)

    def test_what_is_installed_is_told_by_whose_daemon_installs(self) -> None:
        async def scene(bench: Bench) -> None:
            await bench.publish_all(bench.rig.routes)
            await bench.shows(bench.rig.routes)
            if bench.exporter.needs().installs:
                assert bench.exporter.report().installed is None, "the kernel exporter knows that, not this one"

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

    # -- the hooks of the commands

    def test_config_prints_the_same_text_each_time(self) -> None:
        async def scene(bench: Bench) -> None:
            if self.spec.config is not None:
                text = self.spec.config(bench.settings, bench.context)
                assert text.strip(), "there is nothing in it"
                assert self.spec.config(bench.settings, bench.context) == text

        self.check(scene)

    def test_check_finds_something_and_says_what_to_do(self) -> None:
        async def scene(bench: Bench) -> Seconds:
            late: list[Seconds] = [0.0]
            if self.spec.check is not None:
                async with lateness(late):
                    work = self.spec.check(bench.settings, bench.context)
                    check_findings(list(await asyncio.wait_for(work, CHECK_LIMIT_S)))
            return max(late)

        assert self.check(scene) < 2.0, "the loop was blocked: roamroute check could not end it after its time"

    # -- the lab

    def test_the_lab_s_names_begin_with_the_exporter_s(self) -> None:
        for name, routing in self.spec.lab.items():
            assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name), f"{name!r} is not lower case with hyphens"
            assert name.split("-")[0] == self.spec.name
            assert callable(routing.version)
            assert callable(routing.prepare)

    def test_a_daemon_that_is_not_installed_makes_the_machine_unfit_for_the_lab(self) -> None:
        for routing in self.spec.lab.values():
            with pytest.raises(MachineUnfit) as caught:
                routing.version({"command": "/nonexistent/daemon"})
            assert str(caught.value)

    def test_the_lab_s_daemon_is_prepared_in_the_router_s_own_folder(self, tmp_path: Path) -> None:
        for name, routing in self.spec.lab.items():
            for role in ("gateway", "router", "access-point"):
                self._check_prepared(routing, tmp_path / f"{name}-{role}", role)

    def _check_prepared(self, routing: LabRouting, directory: Path, role: str) -> None:
        directory.mkdir()
        before = _files(directory.parent)
        try:
            prepared = routing.prepare(_lab_router(directory, role))
        except MachineUnfit as unfit:
            pytest.skip(str(unfit))
        assert isinstance(prepared, LabDaemon)
        assert prepared.commands, "nothing is started"
        assert all(command and all(isinstance(word, str) for word in command) for command in prepared.commands)
        assert len(prepared.ready_files) <= len(prepared.commands)
        self.spec.parse(prepared.exporter_settings)
        made = _files(directory.parent) - before
        assert all(path.is_relative_to(directory) for path in made), "files beside the router's own"


def check_findings(findings: list[Finding]) -> None:
    """Require that an operator can use them."""
    assert findings, "a check that finds nothing good nor bad has not looked"
    for finding in findings:
        assert isinstance(finding, Finding)
        assert finding.level in ("ok", "warning", "error", "unknown"), finding
        assert finding.subject, finding
        assert finding.text, finding
        assert finding.level == "ok" or finding.remedy, f"no remedy: {finding}"


def _files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if not path.is_dir()}


def _lab_router(directory: Path, role: str) -> LabRouter:
    """A router in the middle of gw - r1 - ap1, or one of the other two."""
    number = {"gateway": 200, "router": 101, "access-point": 1}[role]
    peers = {
        "gateway": LabPeer("gw", "gateway", 200, ip_address("fd44:f::c8"), ip_address("10.255.0.200")),
        "router": LabPeer("r1", "router", 101, ip_address("fd44:f::65"), ip_address("10.255.0.101")),
        "access-point": LabPeer("ap1", "access-point", 1, ip_address("fd44:f::1"), ip_address("10.255.0.1")),
    }
    me = peers.pop(role)
    is_access_point = role == "access-point"
    return LabRouter(
        name=me.name,
        role=role,
        number=number,
        directory=directory,
        mesh_links=("mesh0", "mesh1") if role == "router" else ("mesh0",),
        router_address=me.router_address,
        router_address_ipv4=me.router_address_ipv4,
        announces=(ip_network("::/0"), ip_network("0.0.0.0/0")) if role == "gateway" else (),
        client_links=("wlan0",) if is_access_point else (),
        roaming_prefixes=PREFIXES if is_access_point else (),
        others=tuple(
            LabPeer(
                peer.name,
                peer.role,
                peer.number,
                peer.router_address,
                peer.router_address_ipv4,
                link=f"mesh{place}" if role == "router" else "mesh0" if peer.role == "router" else None,
                link_local=ip_address(f"fe80::{peer.number:x}") if "router" in (role, peer.role) else None,
            )
            for place, peer in enumerate(peers.values())
        ),
        link_local=ip_address(f"fe80::{number:x}"),
    )
