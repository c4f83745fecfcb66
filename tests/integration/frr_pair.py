"""Two routers with a real FRR on one link: `ap`, with a client link, and `far`, its neighbour."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from generations import Generation
from roamroute_frr.lab import FrrLab, daemon_command

from roamroute.export import ExporterContext, KernelNumbers, LabPeer, LabRouter
from roamroute.lab.namespaces import Process, Sandbox
from roamroute.lab.waiting import wait_until

CLIENT_LINK = "wlan0"
PREFIXES = (IPv6Network("fd44:0:0:1::/64"), IPv4Network("10.44.0.0/24"))
NAMES = ("ap", "far")


def context(kernel: KernelNumbers | None = None) -> ExporterContext:
    """What the exporter on `ap` knows of the rest."""
    return ExporterContext((CLIENT_LINK,), PREFIXES, kernel or KernelNumbers(), lambda event: None, lambda *line: None)


class FrrRouters:
    """The two routers. `ap` hangs below `far`, which is the gateway and the route reflector."""

    def __init__(self, sandbox: Sandbox, generation: Generation, routing: str, mode: str = "kernel") -> None:
        self.sandbox = sandbox
        self.namespaces = dict(zip(NAMES, sandbox.namespaces(NAMES), strict=True))
        self.routing = FrrLab(routing)
        self.options = {"command": generation.command, "mode": mode, "hello-interval": "1"}
        self.settings: dict[str, dict[str, object]] = {}
        self.processes: dict[str, list[Process]] = {}
        self._build()

    def _build(self) -> None:
        ap, far = self.namespaces["ap"], self.namespaces["far"]
        ap.ip(f"link add far index 1000 type veth peer name ap netns {far.name}")
        ap.ip(f"link add {CLIENT_LINK} index 1001 type veth peer name air")
        for number, (namespace, link) in enumerate(((ap, "far"), (far, "ap")), 1):
            namespace.sysctl({"net.ipv6.conf.all.forwarding": 1, "net.ipv4.ip_forward": 1})
            namespace.ip(
                f"addr add {_address(number)}/128 dev lo",
                f"addr add {_address_ipv4(number)}/32 dev lo",
                f"link set dev {link} addrgenmode none",
                f"addr add {_link_local(number)}/64 dev {link} nodad",
                f"addr add {_address_ipv4(number)}/32 dev {link}",
                f"link set dev {link} up",
            )
        ap.ip(f"link set dev {CLIENT_LINK} up", "link set dev air up")

    def start(self, name: str) -> None:
        """Start FRR on one router and load its configuration; it has not met its neighbour yet."""
        daemon = self.routing.prepare(self._lab_router(name))
        self.settings[name] = dict(daemon.exporter_settings)
        self.processes[name] = []
        for command, ready in zip(daemon.commands, daemon.ready_files, strict=True):
            self.processes[name].append(self.namespaces[name].start(*command, log=self.directory(name) / "daemon.log"))
            if ready is not None:
                wait_until(ready.exists, f"{ready} exists", 30.0, poll_s=0.01)

    def start_more(self, name: str, program: str) -> None:
        """Start one more daemon of FRR, by its name, beside those of a router that runs."""
        ready = self.directory(name) / f"{program}.vty"
        command = daemon_command(Path(self.options["command"]), program, self.directory(name))
        log = self.directory(name) / "daemon.log"
        self.processes[name].append(self.namespaces[name].start(*command, log=log))
        wait_until(ready.exists, f"{ready} exists", 30.0, poll_s=0.01)

    def stop(self, name: str, program: str) -> None:
        """End one daemon, by the process id that it has written."""
        process_id = self.process_id(name, program)
        os.kill(process_id, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{process_id}/fd/0").exists(), f"{program} has ended", 10.0, poll_s=0.01)

    def process_id(self, name: str, program: str) -> int:
        return int((self.directory(name) / f"{program}.pid").read_text())

    @property
    def has_mgmtd(self) -> bool:
        return (self.directory("ap") / "mgmtd.pid").exists()

    def directory(self, name: str) -> Path:
        return self.sandbox.subdirectory(f"{name}/routing")

    def vtysh(self, name: str, *lines: str) -> str:
        """What vtysh shows for these lines."""
        command = self.command(name)
        arguments = [word for line in lines for word in ("-c", line)]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=30, check=False)
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def configured(self, name: str, lines: Sequence[str], undo: Sequence[str]) -> Iterator[None]:
        """With `lines` configured for the length of the block; both must be accepted."""
        self.configure(name, lines)
        try:
            yield
        finally:
            self.configure(name, undo)

    def configure(self, name: str, lines: Sequence[str]) -> None:
        """Configure lines that FRR accepts; again where 10.3's mgmtd is still busy with the ones before."""
        answer = ""
        for _ in range(5):
            answer = self.vtysh(name, "configure terminal", *lines)
            if "could not lock" not in answer:
                break
        assert "%" not in answer, answer

    def route_at(self, name: str, prefix: str) -> str:
        """The kernel's route there, "" where there is none."""
        family = "-6" if ":" in prefix else "-4"
        return self.namespaces[name].run("ip", family, "route", "show", prefix).strip()

    def command(self, name: str) -> Sequence[str]:
        """How vtysh is started for a router."""
        command = self.settings[name]["command"]
        assert isinstance(command, list)
        return command

    def _lab_router(self, name: str) -> LabRouter:
        number, other = (1, 2) if name == "ap" else (2, 1)
        peer = NAMES[other - 1]
        return LabRouter(
            name=name,
            role="access-point" if name == "ap" else "gateway",
            number=number,
            directory=self.directory(name),
            mesh_links=(peer,),
            router_address=_address(number),
            client_links=(CLIENT_LINK,) if name == "ap" else (),
            roaming_prefixes=PREFIXES,
            options=self.options,
            others=(
                LabPeer(
                    peer,
                    "gateway" if name == "ap" else "access-point",
                    other,
                    _address(other),
                    _address_ipv4(other),
                    peer,
                    _link_local(other),
                ),
            ),
            router_address_ipv4=_address_ipv4(number),
            link_local=_link_local(number),
        )


def _address(number: int) -> IPv6Address:
    return IPv6Address(f"fd44:0:0:a::{number}")


def _address_ipv4(number: int) -> IPv4Address:
    return IPv4Address(f"10.44.200.{number}")


def _link_local(number: int) -> IPv6Address:
    return IPv6Address(f"fe80::a:{number}")
