"""roamroute's exporter contract, kept with a real bgpd; its neighbour is another one, in a namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import ClassVar

import pytest
from roamroute_openbgpd import SPEC

from roamroute.export import ExporterContext, ExporterSpec, KernelNumbers
from roamroute.testing.daemon_contract import (
    AbsenceContract,
    HearingContract,
    RefusalContract,
    RestartContract,
    SilenceContract,
)
from roamroute.testing.exporter_rig import PREFIXES, Bench, Rig, done
from roamroute.values import Address

CHROOT = Path("/run/openbgpd")
"""The home of Debian's user _openbgpd; systemd makes it when the service starts."""
MISSING = [name for name in ("bgpd", "bgpctl", "ip") if shutil.which(name) is None]


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def wait_for(is_so: Callable[[], bool], what: str, limit_s: float = 30.0) -> None:
    end = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end, f"not within {limit_s:g} s: {what}"
        time.sleep(0.05)


class Bgpd:
    """One bgpd in a namespace of its own: number 1 is the access point's, number 2 its neighbour."""

    def __init__(self, number: int, folder: Path) -> None:
        self.namespace = f"rrobgpd{os.getpid()}n{number}"
        self.folder = folder
        self.socket = f"{folder}/bgpd{number}.sock"
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        configuration = self.folder / f"bgpd{self.number}.conf"
        # Two that call each other hang up on each other, and wait for two minutes before they call again.
        passive = "\tpassive\n" if self.number == 2 else ""
        context = ExporterContext(("wlan0",), PREFIXES, KernelNumbers())
        assert SPEC.config is not None
        lines = (
            "AS 65000",
            f"router-id 10.255.0.{self.number}",
            f'socket "{self.socket}"',
            "fib-update no",
            f"listen on fd44:f::{self.number}",
            f"neighbor fd44:f::{3 - self.number} {{\n\tremote-as 65000\n{passive}}}",
            SPEC.config(SPEC.parse({}), context),
        )
        configuration.write_text("\n".join(lines), encoding="utf-8")
        configuration.chmod(0o600)
        run("bgpd", "-n", "-f", str(configuration))
        with (self.folder / f"bgpd{self.number}.log").open("ab") as log:
            command = ("ip", "netns", "exec", self.namespace, "bgpd", "-d", "-f", str(configuration))
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: bool(self.ask("show", "summary", check=False)), "bgpd answers")

    def ask(self, *words: str, check: bool = True) -> str:
        return run("bgpctl", "-s", self.socket, *words, check=check)

    def rib(self) -> str:
        return self.ask("show", "rib")

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def stop(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None
            Path(self.socket).unlink(missing_ok=True)

    def restart(self) -> None:
        self.stop()
        self.start()


class Mesh:
    """The access point's bgpd and its neighbour, connected."""

    def __init__(self, folder: Path) -> None:
        self.here, self.there = Bgpd(1, folder), Bgpd(2, folder)

    def build(self) -> None:
        CHROOT.mkdir(mode=0o711, exist_ok=True)
        for each in (self.here, self.there):
            run("ip", "netns", "add", each.namespace)
            run("ip", "-n", each.namespace, "link", "set", "lo", "up")
        first, second = self.here.namespace, self.there.namespace
        run("ip", "-n", first, "link", "add", "mesh0", "type", "veth", "peer", "name", "mesh0", "netns", second)
        for each in (self.here, self.there):
            address = f"fd44:f::{each.number}/64"
            run("ip", "-n", each.namespace, "addr", "add", address, "dev", "mesh0", "nodad")
            run("ip", "-n", each.namespace, "link", "set", "mesh0", "up")
        self.there.start()
        self.here.start()
        self.wait()

    def wait(self) -> None:
        wait_for(lambda: "Established" in self.here.ask("-j", "show", "summary"), "the session", 60.0)

    def remove(self) -> None:
        for each in (self.here, self.there):
            each.stop()
            run("ip", "netns", "del", each.namespace, check=False)


@pytest.fixture(scope="module")
def module_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    if MISSING or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(MISSING) or 'nothing else'} (apt-get install openbgpd iproute2)")
    mesh = Mesh(tmp_path_factory.mktemp("bgpd"))
    try:
        mesh.build()
        yield mesh
    finally:
        mesh.remove()


class TestWithRealBgpd(RestartContract, HearingContract, RefusalContract, SilenceContract):
    spec: ClassVar[ExporterSpec] = SPEC

    @pytest.fixture(autouse=True)
    def mesh_of_this_test(self, module_mesh: Mesh, tmp_path: Path) -> None:
        self.mesh = module_mesh
        self.folder = tmp_path

    mesh: Mesh
    folder: Path

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        here, there = self.mesh.here, self.mesh.there
        for each in (here, there):
            each.ask("network", "flush")
        refusing = self.folder / "refusing"
        command = self.folder / "bgpctl"
        command.write_text(
            f'#!/bin/sh\nif [ -e {refusing} ] && [ "$1" = network ]; then echo "not today" >&2; exit 1; fi\n'
            f'exec bgpctl -s {here.socket} "$@"\n'
        )
        command.chmod(0o755)

        def refuse() -> str:
            refusing.touch()
            return "not today"

        def announce_elsewhere(address: Address) -> None:
            self.mesh.wait()
            there.ask("network", "add", str(ip_network(address)))

        def withdraw_elsewhere(address: Address) -> None:
            there.ask("network", "delete", str(ip_network(address)))

        yield Rig(
            table={"command": [str(command)]},
            settle_s=5.0,
            publish_s=5.0,
            restart=here.restart,
            refuse=refuse,
            relent=refusing.unlink,
            stall=lambda: here.signal(signal.SIGSTOP),
            go_on=lambda: here.signal(signal.SIGCONT),
            announce_elsewhere=announce_elsewhere,
            withdraw_elsewhere=withdraw_elsewhere,
        )

    def test_the_neighbour_has_the_routes_while_they_are_wanted(self) -> None:
        async def scene(bench: Bench) -> None:
            self.mesh.wait()
            await bench.publish_all(bench.rig.routes)
            await bench.soon(lambda: self.learnt() == {"fd44:0:0:1::a/128", "fd44:0:0:1::b/128"}, self.mesh.there.rib)
            await bench.publish(withdrawn=bench.rig.routes[:1])
            await bench.soon(lambda: self.learnt() == {"fd44:0:0:1::b/128"}, self.mesh.there.rib)

        self.check(scene, is_running=True)

    def test_ours_wins_while_another_access_point_still_announces_the_host(self) -> None:
        async def scene(bench: Bench) -> None:
            await done(bench.rig.announce_elsewhere(bench.rig.routes[0].address))
            await bench.soon(lambda: len(bench.events) == 1, lambda: "the other's route is not heard")
            await bench.publish_all(bench.rig.routes[:1])
            await bench.soon(lambda: bool(bench.exporter.report().exported), self.mesh.here.rib)
            await bench.soon(lambda: self.learnt() == {"fd44:0:0:1::a/128"}, self.mesh.there.rib)

        self.check(scene, is_running=True)

    def learnt(self) -> set[str]:
        """What the neighbour has heard from us."""
        entries = json.loads(self.mesh.there.ask("-j", "show", "rib", "neighbor", "fd44:f::1")).get("rib", [])
        return {entry["prefix"] for entry in entries}


class TestWithoutBgpd(AbsenceContract):
    spec: ClassVar[ExporterSpec] = SPEC

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        yield Rig(table={"command": ["/nonexistent/bgpctl"]})
