"""Access points with roamroute, and clients that do duplicate address detection, as many as one likes.

Every client link of an access point hangs on a bridge, a cell, in the namespace `air`, or is itself a bridge; clients
are ports of it that are isolated from each other. hostapd is a small stand-in (tests/small_hostapd.py): a station
associates by a call, so that hundreds can. The access points reach each other over one more bridge, and nothing routes.

What is asked is what the client's kernel says of its address: tentative, usable, or a duplicate.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from small_hostapd import Serving, SmallHostapd

from roamroute import control, redirects
from roamroute.lab import addresses
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.lab.roaming import RoamrouteDaemon, toml_text, write_key
from roamroute.lab.topology import Router
from roamroute.lab.waiting import wait_until

from .dad_clients import LIMIT_S, Cell, Client, End, Wiring, ask, make_clients, own_addresses, speak, veth_line

PROGRAMS = ("ip", "nft", "nsenter", "setpriv", "sysctl")
PREFIXES = (addresses.ROAMING_PREFIX, addresses.ROAMING_PREFIX_IPV4)
PORT = 4544
"""Of the channel between the access points."""
NO_SNOOPING = "mcast_snooping 0"
Table = Mapping[str, Any]
Changes = Mapping[str, Table]
"""What differs from the usual configuration: table name to the keys that differ."""

# Without the random delay and what a router advertisement would make: a test asks when it wants to.
CLIENT_SETTINGS = {"router_solicitation_delay": 0, "router_solicitations": 0, "accept_ra": 0}


class DadWorld:
    """Make it, add cells, `start` roamroute, then let clients come."""

    def __init__(
        self,
        sandbox: Sandbox,
        access_point_count: int = 2,
        *,
        has_common_mac: bool = True,
        changes: Changes | None = None,
    ) -> None:
        """`has_common_mac`: all client links have the same MAC; else no two."""
        self.sandbox = sandbox
        self.cells: list[Cell] = []
        self.daemons: dict[str, RoamrouteDaemon] = {}
        self._changes = changes or {}
        self._numbers = itertools.count(0x100)
        self._labels = itertools.count(1)
        self._namespaces: set[Namespace] = set()
        self._key_file = write_key(sandbox.directory)
        self._hostapds: dict[End, SmallHostapd] = {}
        self._serving = Serving()
        sandbox.on_close(self._serving.close)
        names = [f"ap{number}" for number in range(1, access_point_count + 1)]
        self.air, self.wires, *namespaces = sandbox.namespaces(["air", "wires", *names])
        self.access_points = [
            Router(name, "access-point", number, namespace)
            for number, (name, namespace) in enumerate(zip(names, namespaces, strict=True), start=1)
        ]
        self._link_macs = itertools.count(2) if not has_common_mac else None
        self._join_access_points()

    # -- access points ------------------------------------------------------------------------------------------------

    def _join_access_points(self) -> None:
        for namespace in (self.air, self.wires):  # what is only a bridge must not take itself for a host
            namespace.sysctl({"net.ipv6.conf.default.disable_ipv6": 1})
        self.wires.ip("link add name mesh type bridge mcast_snooping 0", "link set mesh up")
        settings = {
            "net.ipv4.ip_forward": 1,
            "net.ipv6.conf.all.forwarding": 1,
            "net.ipv6.conf.default.accept_dad": 0,
        }
        for access_point in self.access_points:
            namespace = access_point.namespace
            namespace.sysctl(settings)
            namespace.run("nft", "-f", "-", stdin=redirects.NFTABLES)
            namespace.ip(
                veth_line("mesh0", self.wires, access_point.name),
                "link set mesh0 up",
                f"addr add {access_point.address}/64 dev mesh0 nodad",
            )
            self.wires.ip(f"link set {access_point.name} master mesh up")

    def add_cell(
        self, name: str, *ends: tuple[int, str], options: str = NO_SNOOPING, is_isolating: bool = True
    ) -> Cell:
        """A bridge in the air on which client links hang: (number of the access point from 0, name of the link).

        `options`: as `ip link add type bridge` has them.
        """
        found = tuple(End(self.access_points[number], link) for number, link in ends)
        self.air.ip(f"link add name {name} type bridge {options}", f"link set {name} up")
        for end in found:
            namespace, port = end.access_point.namespace, f"{end.access_point.name}-{end.link}"
            namespace.ip(veth_line(end.link, self.air, port, self._link_mac()))
            self.air.ip(f"link set {port} master {name} up")
            self._configure(end)
        self.cells.append(Cell(self.air, name, found, is_isolating))
        return self.cells[-1]

    def add_bridge(self, number: int, link: str, *, options: str = NO_SNOOPING) -> Cell:
        """A client link that is itself a bridge, with the clients as its ports; they cannot move to another cell."""
        end = End(self.access_points[number], link)
        end.access_point.namespace.ip(f"link add name {link} address {self._link_mac()} type bridge {options}")
        self._configure(end)
        self.cells.append(Cell(end.access_point.namespace, link, (end,)))
        return self.cells[-1]

    def _link_mac(self) -> str:
        return addresses.COMMON_MAC if self._link_macs is None else f"02:00:5e:44:00:{next(self._link_macs):02x}"

    def _configure(self, end: End) -> None:
        """What an operator has configured on a client link, and a hostapd that has it."""
        end.access_point.namespace.ip(
            f"addr add {addresses.CLIENT_GATEWAY}/64 dev {end.link} nodad",
            f"addr add {addresses.CLIENT_GATEWAY_IPV4}/32 dev {end.link}",
            f"link set {end.link} up",
        )
        hostapd = SmallHostapd(end.access_point.namespace, self._hostapd_directory(end.access_point) / end.link)
        self._hostapds[end] = hostapd
        self._serving.add(hostapd.socket, hostapd.serve)

    def _hostapd_directory(self, access_point: Router) -> Path:
        return self.sandbox.subdirectory(f"{access_point.name}/hostapd")

    # -- roamroute ----------------------------------------------------------------------------------------------------

    def tables(self, access_point: Router, changes: Changes | None = None) -> dict[str, Table]:
        """The configuration of roamroute on an access point, with what differs from the usual one."""
        directory = self.sandbox.subdirectory(f"{access_point.name}/roamroute")
        usual: dict[str, Table] = {
            "roaming": {
                "interfaces": [end.link for end in self._hostapds if end.access_point is access_point],
                "prefixes": [str(prefix) for prefix in PREFIXES],
                "exporter": "kernel",
            },
            "stations": {"source": "hostapd", "hostapd_dir": str(self._hostapd_directory(access_point))},
            "peers": {
                "address": str(access_point.address),
                "addresses": [str(other.address) for other in self.access_points if other is not access_point],
                "key_file": str(self._key_file),
            },
            "control": {"socket": str(directory / "control.sock")},
        }
        for more in (self._changes, changes or {}):
            for name, table in more.items():
                usual[name] = {**usual.get(name, {}), **table}
        return usual

    def start(self, others: Mapping[int, tuple[Sequence[str], Changes]] | None = None) -> None:
        """Start roamroute everywhere and wait until each is in sync and has its peers.

        `others`: how to start another version of it, and what its configuration has otherwise, by the number of the
        access point from 0.
        """
        for number, access_point in enumerate(self.access_points):
            command, changes = (others or {}).get(number, ((), {}))
            tables = self.tables(access_point, changes)
            self.daemons[access_point.name] = RoamrouteDaemon(access_point, tables, command)
            self.daemons[access_point.name].start()
        self._wait_ready()

    def restart(self, changes: Changes) -> None:
        """Stop roamroute everywhere, and start it with another configuration."""
        for access_point in self.access_points:
            daemon = self.daemons[access_point.name]
            daemon.stop()
            daemon.configuration.write_text(toml_text(self.tables(access_point, changes)))
            daemon.start()
        self._wait_ready()

    @contextlib.contextmanager
    def changed(self, changes: Changes) -> Iterator[None]:
        """Run roamroute with another configuration for the length of the block."""
        self.restart(changes)
        try:
            yield
        finally:
            self.restart({})

    def _wait_ready(self) -> None:
        for daemon in self.daemons.values():
            daemon.wait_ready()
        for access_point in self.access_points:
            wait_until(lambda: self._has_peers(access_point), f"{access_point.name} has its peers", LIMIT_S)  # noqa: B023

    def _has_peers(self, access_point: Router) -> bool:
        return all(peer["is_up"] for peer in self.status(access_point)["peers"]["peers"])

    def status(self, access_point: Router) -> dict[str, Any]:
        """What `roamroute status --json` prints."""
        return control.ask(self.daemons[access_point.name].control_socket, "status")

    def log(self, access_point: Router) -> str:
        return self.daemons[access_point.name].log.read_text()

    def announced(self, access_point: Router) -> set[str]:
        """The addresses that the access point has host routes of ours for."""
        shown = access_point.namespace.run("ip", "-6", "route", "show", "proto", "144")
        shown += access_point.namespace.run("ip", "-4", "route", "show", "proto", "144")
        return {line.split()[0] for line in shown.splitlines()}

    def wait_announced(self, wanted: Mapping[Client, object]) -> None:
        """Wait until the access points of these clients announce their addresses."""
        by_access_point: dict[str, set[str]] = {}
        for client, address in wanted.items():
            by_access_point.setdefault(client.cell.access_point.name, set()).add(str(address))
        for access_point in self.access_points:
            those = by_access_point.get(access_point.name, set())
            what = f"{access_point.name} announces {len(those)} addresses"
            wait_until(lambda: those <= self.announced(access_point), what, LIMIT_S)  # noqa: B023

    def wait_known(self, access_point: Router, wanted: Mapping[Client, object]) -> None:
        """Wait until the access point, where these clients are not, remembers their addresses."""
        those = {str(address) for address in wanted.values()}

        def is_known() -> bool:
            hosts = self.status(access_point)["hosts"]
            return those <= {address for host in hosts for address in host["remembered"]}

        wait_until(is_known, f"{access_point.name} knows {len(those)} addresses of others", LIMIT_S, poll_s=0.2)

    def processor_s(self, access_point: Router) -> float:
        """Processor time of roamroute on the access point so far (/proc/PID/schedstat)."""
        return int(Path(f"/proc/{self._process(access_point).pid}/schedstat").read_text().split()[0]) / 1e9

    def _process(self, access_point: Router) -> subprocess.Popen[bytes]:
        process = self.daemons[access_point.name].process
        assert process is not None
        return process

    # -- trouble ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def losing(self, percent: int) -> Iterator[None]:
        """Let every message between access points be lost with this probability, which the kernel draws."""
        rules = "table inet lossy { chain input { type filter hook input priority 0; "
        rules += f"udp dport {PORT} numgen random mod 100 < {percent} drop; }}; }}"
        for access_point in self.access_points:
            access_point.namespace.run("nft", "-f", "-", stdin=rules)
        try:
            yield
        finally:
            for access_point in self.access_points:
                access_point.namespace.run("nft", "delete", "table", "inet", "lossy")

    @contextlib.contextmanager
    def stopped(self, access_point: Router) -> Iterator[None]:
        """Let roamroute on an access point stand still (SIGSTOP) for the length of the block."""
        self._process(access_point).send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process(access_point).send_signal(signal.SIGCONT)

    # -- clients ------------------------------------------------------------------------------------------------------

    def crowd(
        self,
        cell: Cell,
        count: int,
        *,
        settings: Mapping[str, int] | None = None,
        is_associated: bool = True,
        wiring: Wiring = "ports",
    ) -> list[Client]:
        """Clients that share a namespace and have no link-local addresses.

        `settings`: what is otherwise than in CLIENT_SETTINGS and by the kernel's default, in net.ipv6.conf.*.
        """
        return self._new(cell, count, {"addr_gen_mode": 1, **(settings or {})}, is_associated, wiring)

    def client(self, cell: Cell, *, settings: Mapping[str, int] | None = None, is_associated: bool = True) -> Client:
        """A client in a namespace of its own, with wlan0 and a link-local address."""
        return self._new(cell, 1, settings or {}, is_associated, "alone")[0]

    def owner(self, cell: Cell, address: object = None, **more: Any) -> Client:
        """A client that has an address, by default its own, and that has said so to its access point."""
        made = self.client(cell, **more)
        self.settle({made: made.address if address is None else address})
        return made

    def settle(self, wanted: Mapping[Client, object]) -> None:
        """Let these clients have these addresses; wait until their access points announce them."""
        found = ask(wanted)
        assert set(found.values()) == {"usable"}, found
        speak(wanted)
        self.wait_announced(wanted)

    def owners(self, cell: Cell, count: int, **more: Any) -> list[Client]:
        """A crowd that has its own addresses."""
        made = self.crowd(cell, count, **more)
        self.settle(own_addresses(made))
        return made

    def _new(
        self, cell: Cell, count: int, settings: Mapping[str, int], is_associated: bool, wiring: Wiring
    ) -> list[Client]:
        label = f"clients{next(self._labels)}"
        numbers = [next(self._numbers) for _ in range(count)]
        wanted = {**CLIENT_SETTINGS, **settings}
        made = make_clients(self.sandbox, label, cell, numbers, wanted, wiring)
        self._namespaces |= {client.namespace for client in made}
        if is_associated:
            self.associate(made)
        return made

    def associate(self, clients: Iterable[Client], end: int = 0) -> None:
        """Let hostapd say that the clients have associated, with one of the client links of their cell."""
        for client in clients:
            self._hostapds[client.cell.ends[end]].connect(client.mac)

    def move(self, clients: Sequence[Client], cell: Cell, end: int = 0) -> None:
        """Roam, all at once: the carrier goes, and comes back in another cell, whose access point hears of it.

        Each has a port of its own.
        """
        self.air.ip(
            *(line for each in clients for line in (f"link set {each.port} down", f"link set {each.port} nomaster"))
        )
        self.air.ip(*(line for each in clients for line in cell.port_lines(each.port)))
        for client in clients:
            client.cell = cell
        self.associate(clients, end)

    def take_away(self, clients: Iterable[Client]) -> None:
        """Remove clients and those that share a namespace with them; their access points are told nothing."""
        for namespace in {client.namespace for client in clients} & self._namespaces:
            self._namespaces.remove(namespace)
            self.sandbox.remove_namespace(namespace)

    @contextlib.contextmanager
    def visited(self) -> Iterator[DadWorld]:
        """Remove at the end of the block the clients that came in it."""
        before = set(self._namespaces)
        try:
            yield self
        finally:
            for namespace in self._namespaces - before:
                self._namespaces.remove(namespace)
                self.sandbox.remove_namespace(namespace)


@contextlib.contextmanager
def two_cells(access_point_count: int = 2, *, changes: Changes | None = None) -> Iterator[tuple[DadWorld, list[Cell]]]:
    """Access points with one client link each, in a cell of its own; roamroute runs."""
    with Sandbox(programs=PROGRAMS) as sandbox:
        world = DadWorld(sandbox, access_point_count, changes=changes)
        cells = [world.add_cell(f"cell{number + 1}", (number, "wlan0")) for number in range(access_point_count)]
        with world_running(world):
            yield world, cells


@contextlib.contextmanager
def world_running(
    world: DadWorld, others: Mapping[int, tuple[Sequence[str], Changes]] | None = None
) -> Iterator[DadWorld]:
    """Start roamroute, and keep its logs where ROAMROUTE_KEEP_LOGS says."""
    try:
        world.start(others)
        yield world
    finally:
        if kept := os.environ.get("ROAMROUTE_KEEP_LOGS"):
            for daemon in world.daemons.values():
                where = Path(kept) / daemon.access_point.name
                shutil.copytree(daemon.directory, where, dirs_exist_ok=True, ignore=_sockets)


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (Path(folder, name).is_file() or Path(folder, name).is_dir())]
