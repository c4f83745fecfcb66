"""The whole laboratory: mesh, air, routing daemons, hostapd, correspondents and probers, up and converged.

Which program publishes the client's routes is a *mode* (`modes.MODES`) and is switched with `mode()` while the rest
goes on, so that several can be compared on one mesh.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from roamroute.lab import addresses
from roamroute.lab.anatomy import Records, know_each_other, read_records
from roamroute.lab.by_hand import RoutesByHand
from roamroute.lab.installed import find_routing
from roamroute.lab.losses import lose_messages
from roamroute.lab.modes import MODES, Mode
from roamroute.lab.namespaces import Sandbox
from roamroute.lab.options import LabOptions
from roamroute.lab.radio import Air, Client, Host
from roamroute.lab.roaming import (
    PEERS_PORT,
    RoamrouteDaemon,
    apply_neighbour_times,
    daemon_tables,
    router_tables,
    write_key,
)
from roamroute.lab.routing import MeshRouting
from roamroute.lab.topology import Mesh, Router
from roamroute.lab.traffic import Traffic
from roamroute.lab.waiting import NotReached, wait_until
from roamroute.lab.wifi import AccessPointDaemon

PROGRAMS = ("ip", "nft", "nsenter", "setpriv", "ss", "sysctl", "hostapd", "wpa_supplicant")
FIRST_HOST_IDENTITY = 0xF000
ACQUAINTANCE_LIMIT_S = 15.0
"""BIRD's Babel takes some seconds for the first host routes, the segments under which access points send on."""
HANDOVER_TABLES = (4544, 4545, 4546)
"""`[handover] tables` and the two behind it, as roamroute has them by default."""


class Laboratory:
    """A context manager: inside it the mesh is up and routes; outside nothing of it is left.

    Raises ConfigError for an unknown routing; on entry MachineUnfit (not root, a program or the routing daemon is
    missing), NotReached or DaemonGone (a daemon does not come up).
    """

    def __init__(self, options: LabOptions) -> None:
        self.options = options
        self.installed = find_routing(options.routing)
        self.sandbox = Sandbox(programs=PROGRAMS)
        self.by_hand: RoutesByHand | None = None
        """Set in the mode "hand": who moves the client must then place its routes."""
        self._roamroutes: list[RoamrouteDaemon] = []
        self._identities = itertools.count(1)
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as exits:
            exits.enter_context(self.sandbox)
            self._start()
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def _start(self) -> None:
        self.routing_version = self.installed.lab.version(self.options.routing_options)
        options = self.options
        self.mesh = Mesh(
            self.sandbox,
            options.access_points,
            has_loop=options.has_loop,
            delay_s=options.link_delay_s,
            stations=options.stations,
        )
        self.routing = MeshRouting(self.mesh, self.installed, self.options.routing_options)
        self.routing.start()
        self.air = Air(self.mesh, has_update_frames=options.has_update_frames)
        self.daemons = {
            access_point.name: AccessPointDaemon(access_point.wifi) for access_point in self.mesh.access_points
        }
        for daemon in self.daemons.values():
            daemon.start()
        for daemon in self.daemons.values():
            daemon.wait_ready()
        self.traffic = Traffic(self.sandbox)
        self.traffic.near.receive(self.mesh.server)
        self.correspondents = {
            access_point.name: self._correspondent(access_point) for access_point in self.mesh.access_points
        }
        self.key_file = write_key(self.sandbox.directory)
        if self.options.peer_loss_percent:
            for router in (*self.mesh.access_points, self.mesh.gateway):
                lose_messages(router.namespace, PEERS_PORT, self.options.peer_loss_percent)
        self.converged_after_s = self.routing.wait_converged()

    @contextlib.contextmanager
    def mode(self, mode: str) -> Iterator[None]:
        """Publish routes in this way for the length of the block; the routes are gone after it."""
        running = self._roamroutes = []
        if not MODES[mode].runs_roamroute:
            self.by_hand = RoutesByHand(self.mesh)
            for access_point in self.mesh.access_points:
                self.by_hand.place([self.correspondents[access_point.name].address], access_point)
        else:
            running += [self._roamroute(access_point, MODES[mode]) for access_point in self.mesh.access_points]
            if self.options.has_gateway_peer and MODES[mode].has_peers:
                gateway = self.mesh.gateway
                running.append(RoamrouteDaemon(gateway, router_tables(self.mesh, gateway, self.key_file, MODES[mode])))
            for daemon in running:
                daemon.start()
            for daemon in running:
                daemon.wait_ready()
            with contextlib.suppress(NotReached):  # what is measured then is what happens then
                sockets = [daemon.control_socket for daemon in running]
                wait_until(lambda: know_each_other(sockets), "all know each other", ACQUAINTANCE_LIMIT_S, poll_s=0.2)
        try:
            yield
        finally:
            self.sandbox.stop(*(daemon.process for daemon in running if daemon.process is not None))
            running.clear()
            if self.by_hand is not None:
                self.by_hand.clear()
                self.by_hand = None
            for access_point in self.mesh.access_points:
                access_point.namespace.ip(f"neigh flush dev {addresses.CLIENT_LINK}")

    def raise_if_ended(self) -> None:
        """Raises: DaemonGone, with the end of its log, when a routing daemon or a roamroute runs no more."""
        self.mesh.raise_if_ended()
        self.routing.raise_if_ended()
        for daemon in self._roamroutes:
            daemon.raise_if_ended()

    def handover_records(self) -> Records:
        """What every access point's roamroute remembers of handovers, now."""
        return read_records({daemon.access_point.name: daemon.control_socket for daemon in self._roamroutes})

    def write_routes(self, name: str) -> None:
        """Write what every router would do with a client's packets, now, to a file that `--keep-logs` keeps."""
        text = []
        for router in self.mesh.all_routers:
            for family in ("-6", "-4"):
                routes = router.namespace.run("ip", family, "route", "show", "table", "main")
                text.append(f"== {router.name} {family}\n{routes}")
                if router.is_access_point or router is self.mesh.gateway:
                    text += self._handover_tables(router, family)
            if router.is_access_point:
                text.append(router.namespace.run("ip", "neigh", "show", "dev", addresses.CLIENT_LINK))
        (self.sandbox.subdirectory("routes") / name).write_text("\n".join(text))

    def _handover_tables(self, router: Router, family: str) -> Iterator[str]:
        yield "rules:\n" + router.namespace.run("ip", family, "rule", "show")
        for table in HANDOVER_TABLES:
            # a table that nobody has used does not exist, which is an error for ip
            routes = router.namespace.run("sh", "-c", f"ip {family} route show table {table} 2>/dev/null || true")
            yield f"table {table}:\n{routes}"

    def new_client(self) -> Client:
        """A client with a MAC and addresses that nobody has seen before, in no cell yet."""
        identity = next(self._identities)
        namespace = self.sandbox.namespace(f"client{identity}")
        client = Client(
            self.air,
            namespace,
            identity,
            self.daemons,
            address_count=self.options.addresses,
            has_ipv4=self.options.has_ipv4,
            mtu_bytes=self.options.client_mtu_bytes,
        )
        client.start()
        self.traffic.far.receive(namespace)
        return client

    def _correspondent(self, access_point: Router) -> Host:
        namespace = self.sandbox.namespace(f"host{access_point.number}")
        host = Host(self.air, namespace, FIRST_HOST_IDENTITY + access_point.number)
        host.attach(access_point)
        return host

    def _roamroute(self, access_point: Router, mode: Mode) -> RoamrouteDaemon:
        tables = daemon_tables(
            self.mesh,
            access_point,
            self.daemons[access_point.name],
            exporter=self.installed.exporter.name,
            exporter_settings=self.routing.exporter_settings(access_point),
            key_file=self.key_file,
            mode=mode,
            more_peers=[self.mesh.gateway] if self.options.has_gateway_peer else [],
        )
        if access_point.dumb is not None:
            if self.options.are_update_frames_trusted:
                tables["policy"] = {"is_trusting_update_frames": True}
            apply_neighbour_times(access_point, tables)
        return RoamrouteDaemon(access_point, tables)
