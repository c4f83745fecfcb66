"""The routing daemon on every router of the mesh, started the way its adapter says (`ExporterSpec.lab`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Protocol

import attrs

from roamroute.errors import DaemonGone
from roamroute.export import KernelNumbers, LabDaemon, LabPeer, LabRouter
from roamroute.lab import addresses
from roamroute.lab.installed import InstalledRouting
from roamroute.lab.namespaces import Process, Sandbox, stop_processes
from roamroute.lab.topology import Router
from roamroute.lab.waiting import NotReached, wait_until

START_LIMIT_S = 20.0
CONVERGENCE_LIMIT_S = 60.0
LOG_LINES = 12
DEFAULT_ROUTES = (IPv6Network("::/0"), IPv4Network("0.0.0.0/0"))


class RoutedMesh(Protocol):
    """What of a mesh the routing daemons need."""

    sandbox: Sandbox

    @property
    def all_routers(self) -> Sequence[Router]: ...


@attrs.frozen
class _Running:
    """One of a router's commands and its process."""

    command: tuple[str, ...]
    process: Process
    ready_file: Path | None

    def is_ready(self) -> bool:
        return self.ready_file is None or self.ready_file.exists()

    def has_failed(self) -> bool:
        """Ended, and not well. A command may end well at once: it was one step of the start."""
        return self.process.poll() not in (None, 0)


class MeshRouting:
    """The routing daemons of one mesh. `options` are passed to the adapter as they are."""

    def __init__(self, mesh: RoutedMesh, routing: InstalledRouting, options: Mapping[str, str]) -> None:
        self.mesh = mesh
        self.name = routing.name
        self.exporter = routing.exporter
        self.options = dict(options)
        self._lab = routing.lab
        self._running: dict[str, list[_Running]] = {}
        self._settings: dict[str, Mapping[str, Any]] = {}
        mesh.sandbox.on_close(self.stop)

    def start(self) -> None:
        """Start the daemon on every router; `wait_converged` then says when all of them know the way.

        Raises: DaemonGone when one ends at once, NotReached when one does not get ready; with the end of its log.
        """
        self._start(self.mesh.all_routers)

    def start_on(self, router: Router) -> None:
        """Start, or start again, the daemon of one router. Raises as `start`."""
        self._start([router])

    def stop(self) -> None:
        """Stop every daemon with SIGTERM, what was started last first. Idempotent."""
        for stage in reversed(range(max(map(len, self._running.values()), default=0))):
            stop_processes([each[stage].process for each in self._running.values() if stage < len(each)])
        self._running.clear()

    def kill(self, router: Router) -> None:
        """End everything that was started for one router with SIGKILL, as a crash would."""
        for running in self._running.pop(router.name, ()):
            running.process.kill()
            running.process.wait()

    def raise_if_ended(self) -> None:
        """Raises: DaemonGone, with the end of its log, when a daemon has ended by itself and not well."""
        for name, each in self._running.items():
            for running in each:
                if running.has_failed():
                    code = running.process.returncode
                    ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
                    command = " ".join(running.command)
                    raise DaemonGone(f"the routing daemon of {name} {ended}: {command}; {self._log_ends(name)}")

    def processes(self, router: Router) -> tuple[Process, ...]:
        """What runs for one router, in the order in which it was started."""
        return tuple(running.process for running in self._running.get(router.name, ()))

    def exporter_settings(self, router: Router) -> Mapping[str, Any]:
        """The `[exporters.NAME]` table for a roamroute on this router; known after its daemon was started."""
        return self._settings[router.name]

    def wait_converged(self) -> float:
        """Wait until every router has a way to every other's address, and a default route; returns the seconds.

        Raises: NotReached, DaemonGone; with the end of a log.
        """
        waiting = list(self.mesh.all_routers)

        def is_converged() -> bool:
            self.raise_if_ended()
            while waiting and not self._missing(waiting[0]):
                waiting.pop(0)
            return not waiting

        try:
            return wait_until(is_converged, "every router has a route to every other", CONVERGENCE_LIMIT_S, poll_s=0.1)
        except NotReached as error:
            router = waiting[0]
            missing = ", ".join(sorted(self._missing(router)))
            raise NotReached(f"{error}; {router.name} lacks {missing}; {self._log_ends(router.name)}") from None

    def _start(self, routers: Sequence[Router]) -> None:
        """Stage by stage: the first command of every router, then, when all are ready, the second of every one."""
        daemons = {router.name: self._prepared(router) for router in routers}
        for router in routers:
            self._settings[router.name] = daemons[router.name].exporter_settings
            self._running[router.name] = []
        for stage in range(max(len(daemon.commands) for daemon in daemons.values())):
            started = [
                self._start_command(router, daemons[router.name], stage)
                for router in routers
                if stage < len(daemons[router.name].commands)
            ]
            self._wait_ready(started)

    def _start_command(self, router: Router, daemon: LabDaemon, stage: int) -> _Running:
        command = daemon.commands[stage]
        ready_file = daemon.ready_files[stage] if stage < len(daemon.ready_files) else None
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
        running = _Running(
            command, router.namespace.start(*command, log=self._directory(router.name) / "daemon.log"), ready_file
        )
        self._running[router.name].append(running)
        return running

    def _wait_ready(self, started: Sequence[_Running]) -> None:
        def are_ready() -> bool:
            self.raise_if_ended()
            return all(running.is_ready() for running in started)

        try:
            wait_until(are_ready, "the routing daemons are ready", START_LIMIT_S)
        except NotReached as error:
            late = next(running for running in started if not running.is_ready())
            name = next(name for name, each in self._running.items() if late in each)
            raise NotReached(
                f"{error}; on {name} {late.command[0]} has not made {late.ready_file}; {self._log_ends(name)}"
            ) from None

    def _log_ends(self, name: str) -> str:
        """The last lines of every log of one router, for an error."""
        ends = []
        for path in sorted(self._directory(name).glob("*.log")):
            if lines := path.read_text(errors="replace").splitlines()[-LOG_LINES:]:
                ends += [f"{path.name} ends:", *lines]
        return "\n".join(ends) or "its log is empty"

    def _directory(self, name: str) -> Path:
        return self.mesh.sandbox.subdirectory(f"{name}/routing")

    def _prepared(self, router: Router) -> LabDaemon:
        return self._lab.prepare(
            LabRouter(
                name=router.name,
                role=router.role,
                number=router.number,
                directory=self._directory(router.name),
                mesh_links=tuple(neighbour.name for neighbour in router.neighbours),
                router_address=router.address,
                announces=DEFAULT_ROUTES if router.role == "gateway" else (),
                client_links=(addresses.CLIENT_LINK,) if router.is_access_point else (),
                roaming_prefixes=(addresses.ROAMING_PREFIX, addresses.ROAMING_PREFIX_IPV4),
                kernel=KernelNumbers(),
                options=self.options,
                others=tuple(_peers(self.mesh.all_routers, router)),
                router_address_ipv4=addresses.router_address_ipv4(router.number),
                link_local=addresses.link_local(router.number),
            )
        )

    def _missing(self, router: Router) -> set[str]:
        """What this router has no usable route to."""
        wanted = {str(other.address) for other in self.mesh.all_routers if other is not router}
        missing = (wanted | {"default"}) - _usable(router, "-6")
        return missing if "default" in _usable(router, "-4") else missing | {"default (IPv4)"}


def _peers(routers: Sequence[Router], router: Router) -> Iterator[LabPeer]:
    for other in routers:
        if other is router:
            continue
        is_neighbour = other in router.neighbours
        yield LabPeer(
            name=other.name,
            role=other.role,
            number=other.number,
            router_address=other.address,
            router_address_ipv4=addresses.router_address_ipv4(other.number),
            link=other.name if is_neighbour else None,
            link_local=addresses.link_local(other.number) if is_neighbour else None,
        )


def _usable(router: Router, family: str) -> set[str]:
    """Destinations of unicast routes, whichever protocol they are of; an "unreachable" route is no way."""
    routes = json.loads(router.namespace.run("ip", family, "-j", "route", "show", "table", "main") or "[]")
    return {route["dst"] for route in routes if route.get("type", "unicast") == "unicast"}
