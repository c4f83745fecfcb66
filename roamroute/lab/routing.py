"""The routing daemon on every router of the mesh, started the way its adapter says (`ExporterSpec.lab`)."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from roamroute.errors import MachineUnfit
from roamroute.export import ExporterSpec, KernelNumbers, LabRouter, LabRouting
from roamroute.lab import addresses
from roamroute.lab.namespaces import Process
from roamroute.lab.topology import Mesh, Router
from roamroute.lab.waiting import wait_until

CONVERGENCE_LIMIT_S = 60.0
DEFAULT_ROUTES = (IPv6Network("::/0"), IPv4Network("0.0.0.0/0"))


class MeshRouting:
    """The routing daemons of one mesh. `options` are passed to the adapter as they are."""

    def __init__(self, mesh: Mesh, spec: ExporterSpec, options: Mapping[str, str]) -> None:
        self.mesh = mesh
        self.name = spec.name
        self.options = dict(options)
        self._routing = lab_routing(spec)
        self._processes: dict[str, list[Process]] = {}
        self._settings: dict[str, Mapping[str, Any]] = {}

    def version(self) -> str:
        return self._routing.version(self.options)

    def start(self) -> None:
        """Start the daemon on every router; `wait_converged` then says when all of them know the way."""
        for router in self.mesh.all_routers:
            self.start_on(router)

    def start_on(self, router: Router) -> None:
        """Start, or start again, the daemon of one router."""
        directory = self.mesh.sandbox.subdirectory(f"{router.name}/routing")
        daemon = self._routing.prepare(
            LabRouter(
                name=router.name,
                role=router.role,
                number=router.number,
                directory=directory,
                mesh_links=tuple(neighbour.name for neighbour in router.neighbours),
                router_address=router.address,
                announces=DEFAULT_ROUTES if router.role == "gateway" else (),
                client_links=(addresses.CLIENT_LINK,) if router.is_access_point else (),
                roaming_prefixes=(addresses.ROAMING_PREFIX, addresses.ROAMING_PREFIX_IPV4),
                kernel=KernelNumbers(),
                options=self.options,
            )
        )
        self._settings[router.name] = daemon.exporter_settings
        log = directory / "daemon.log"
        self._processes[router.name] = [router.namespace.start(*command, log=log) for command in daemon.commands]

    def kill(self, router: Router) -> None:
        """End the daemon of one router with SIGKILL, as a crash would."""
        for process in self._processes.pop(router.name, ()):
            process.kill()
            process.wait()

    def exporter_settings(self, router: Router) -> Mapping[str, Any]:
        """The `[exporters.NAME]` table for a roamroute on this router; known after its daemon was started."""
        return self._settings[router.name]

    def wait_converged(self) -> float:
        """Wait until every router has a route to every other's address, and a default route; returns the seconds.

        Raises: NotReached.
        """
        waiting = list(self.mesh.all_routers)

        def is_converged() -> bool:
            while waiting and self._knows_all(waiting[0]):
                waiting.pop(0)
            return not waiting

        return wait_until(is_converged, "every router has a route to every other", CONVERGENCE_LIMIT_S, poll_s=0.1)

    def _knows_all(self, router: Router) -> bool:
        known = set(router.namespace.run("ip", "-6", "-o", "route", "show").split())
        others = {str(other.address) for other in self.mesh.all_routers if other is not router}
        if not others | {"default"} <= known:
            return False
        return "default" in router.namespace.run("ip", "-4", "-o", "route", "show").split()


def lab_routing(spec: ExporterSpec) -> LabRouting:
    """Raises: MachineUnfit for an exporter that the lab cannot start a daemon for."""
    for routing in spec.lab.values():
        return routing
    raise MachineUnfit(f'the exporter "{spec.name}" says nothing about the lab: choose another with --routing')
