"""A mesh in which no routing daemon runs: every router knows the ways that the test has given it, and nothing else.

So the routing never learns that a client has moved, for as long as a test likes, and what arrives all the same has come
by the handover. Access points, hostapd, wpa_supplicant and roamroute (exporter `kernel`) are as in world.py. The lab's
topology: the server behind the gateway, ap1 and ap2 on r1, ap3 on r2.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs

from roamroute import control
from roamroute.lab import addresses
from roamroute.lab.laboratory import FIRST_HOST_IDENTITY, PROGRAMS
from roamroute.lab.namespaces import CommandFailed, Namespace, Sandbox
from roamroute.lab.radio import Air, Client, Host
from roamroute.lab.roaming import RoamrouteDaemon, toml_text, write_key
from roamroute.lab.topology import Mesh, Router
from roamroute.lab.traffic import Traffic
from roamroute.lab.waiting import wait_until
from roamroute.lab.wifi import AccessPointDaemon
from roamroute.segments import segments_of
from roamroute.values import Segments

from .wiretap import PORT
from .world import LIMIT_S, QUICK, all_addresses, family_of, is_answered, run_beside, speak

PREFIXES = (addresses.ROAMING_PREFIX, addresses.ROAMING_PREFIX_IPV4)
TABLES = (4544, 4545, 4546)
"""The routing tables of the handover, as `[handover] tables` has them by default."""
LINGER_S = 2.0
"""So long the old access point goes on announcing what it sends on; no routing daemon needs the time here."""
Table = Mapping[str, Any]
Changes = Mapping[str, Table]
"""What differs from the usual configuration: table name to the keys that differ."""


class StillMesh:
    """Everything but the ways is running; `lead` says where the routers send a client's packets."""

    def __init__(
        self, sandbox: Sandbox, access_point_count: int, changes: Changes, *, hostapd_count: int | None = None
    ) -> None:
        self.sandbox = sandbox
        self.mesh = Mesh(sandbox, access_point_count)
        self.air = Air(self.mesh)
        self.key_file = write_key(sandbox.directory)
        self.traffic = Traffic(sandbox)
        self.traffic.near.receive(self.mesh.server)
        self.identities = itertools.count(1)
        self._changes = changes
        self.hostapds = {
            router.name: AccessPointDaemon(router.namespace) for router in self.access_points[:hostapd_count]
        }
        self.daemons: dict[str, RoamrouteDaemon] = {}

    @property
    def access_points(self) -> list[Router]:
        return self.mesh.access_points

    @property
    def server(self) -> Namespace:
        return self.mesh.server

    @property
    def gateway(self) -> Router:
        return self.mesh.gateway

    def start(self) -> None:
        """Start hostapd, then roamroute on every access point, and wait until they are ready."""
        for hostapd in self.hostapds.values():
            hostapd.start()
        for hostapd in self.hostapds.values():
            hostapd.wait_ready()
        for router in self.access_points:
            router.namespace.sysctl({"net.ipv6.neigh.wlan0.base_reachable_time_ms": 3000})
            self.daemons[router.name] = RoamrouteDaemon(router, self.tables(router))
            self.daemons[router.name].start()
        for router in self.access_points:
            self.daemons[router.name].wait_ready()

    def repair(self) -> None:
        """Start what a test that failed has left dead."""
        dead = [daemon for daemon in self.daemons.values() if daemon.process and daemon.process.poll() is not None]
        for daemon in dead:
            daemon.start()
        for daemon in dead:
            daemon.wait_ready()
        for router in self.access_points:
            self.wait_peers(router)

    def tables(self, router: Router, changes: Changes | None = None) -> dict[str, Table]:
        """The configuration of roamroute on a router, with what differs from the usual one."""
        hostapd = self.hostapds.get(router.name)
        directory = self.sandbox.subdirectory(f"{router.name}/roamroute")
        usual: dict[str, Table] = {
            "roaming": {
                "interfaces": [addresses.CLIENT_LINK] if router.is_access_point else [],
                "prefixes": [str(prefix) for prefix in PREFIXES],
                "exporter": "kernel",
            },
            "stations": {"source": "none"}
            if hostapd is None
            else {"source": "hostapd", "hostapd_dir": str(hostapd.control_directory)},
            "peers": {
                "address": str(router.address),
                "addresses": [str(other.address) for other in self.access_points if other is not router],
                "key_file": str(self.key_file),
            },
            "policy": {**QUICK, "sleep_rounds": 1, "handover_linger_s": LINGER_S},
            "control": {"socket": str(directory / "control.sock")},
        }
        for more in (self._changes, changes or {}):
            for name, table in more.items():
                usual[name] = {**usual.get(name, {}), **table}
        return usual

    def configure(self, router: Router, changes: Changes | None = None) -> None:
        """Write another configuration; it counts from the next start on."""
        self.daemons[router.name].configuration.write_text(toml_text(self.tables(router, changes)))

    def restart(self, router: Router, changes: Changes | None = None) -> None:
        """Kill roamroute on a router and start it with another configuration; wait until it has its peers."""
        self.daemons[router.name].kill()
        self.configure(router, changes)
        self.daemons[router.name].start()
        self.daemons[router.name].wait_ready()
        self.wait_peers(router)

    @contextlib.contextmanager
    def changed(self, *routers: Router, changes: Changes) -> Iterator[None]:
        """Run roamroute with another configuration on some routers for the length of the block."""
        for router in routers:
            self.restart(router, changes)
        try:
            yield
        finally:
            for router in routers:
                self.restart(router)

    @contextlib.contextmanager
    def alone(self, router: Router) -> Iterator[None]:
        """Run roamroute on a router without peers for the length of the block."""
        daemon = self.daemons[router.name]
        daemon.kill()
        tables = {name: table for name, table in self.tables(router).items() if name != "peers"}
        daemon.configuration.write_text(toml_text(tables))
        daemon.start()
        daemon.wait_ready()
        try:
            yield
        finally:
            self.restart(router)

    @contextlib.contextmanager
    def gateway_as_peer(self) -> Iterator[None]:
        """Run roamroute on the gateway too, which has no client link, and name it to the access points."""
        gateway = self.gateway
        known = {
            router.name: [str(other.address) for other in (*self.access_points, gateway) if other is not router]
            for router in self.access_points
        }
        self.daemons[gateway.name] = RoamrouteDaemon(gateway, self.tables(gateway))
        self.daemons[gateway.name].start()
        self.daemons[gateway.name].wait_ready()
        try:
            for router in self.access_points:
                self.restart(router, {"peers": {"addresses": known[router.name]}})
            self.wait_peers(gateway)
            yield
        finally:
            self.daemons.pop(gateway.name).stop()
            for router in self.access_points:
                self.restart(router)

    # -- ways ---------------------------------------------------------------------------------------------------------

    def lead(self, access_point: Router, *destinations: object) -> None:
        """Send these addresses to the access point, on every router but itself, from now on."""
        lines: dict[str, list[str]] = defaultdict(list)
        for router, hop in self.mesh.next_hops(access_point):
            lines[router.name] += [f"route replace {each} {_via(hop, each)}" for each in destinations]
        lines[access_point.name] += [f"route flush {each} proto static" for each in destinations]
        for router in self.mesh.all_routers:
            router.namespace.ip(*lines[router.name])

    def segments(self, router: Router) -> Segments:
        return segments_of(router.address, PREFIXES)

    def give_ways(self) -> None:
        """Let every router know the way to the address of every other, and to its segments."""
        lines: dict[str, list[str]] = defaultdict(list)
        for destination in self.mesh.all_routers:
            own: list[object] = [destination.address]
            if destination.is_access_point:
                segments = self.segments(destination)
                own += [each for each in (segments.ipv6, segments.ipv4) if each is not None]
            if destination is self.gateway:
                own += ["::/0", "0.0.0.0/0"]
            for router, hop in self.mesh.next_hops(destination):
                lines[router.name] += [f"route replace {each} {_via(hop, each)}" for each in own]
        for router in self.mesh.all_routers:
            router.namespace.ip(*lines[router.name])

    # -- roamroute ----------------------------------------------------------------------------------------------------

    def status(self, router: Router) -> dict[str, Any]:
        """What `roamroute status --json` prints."""
        return control.ask(self.daemons[router.name].control_socket, "status")

    def log(self, router: Router) -> str:
        return self.daemons[router.name].log.read_text()

    def command(self, router: Router, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`roamroute …` beside the daemon of the router."""
        return run_beside(self.daemons[router.name], *arguments)

    def wait_peers(self, router: Router) -> None:
        """Wait until the router has a session with every peer that it knows."""

        def are_up() -> bool:
            return all(peer["is_up"] for peer in self.status(router)["peers"]["peers"])

        wait_until(are_up, f"{router.name} has sessions with its peers", LIMIT_S)

    def is_announced(self, access_point: Router, address: object) -> bool:
        """Whether the access point has a host route of ours for the address."""
        return bool(access_point.namespace.run("ip", family_of(address), "route", "show", str(address), "proto", "144"))

    def announcers(self, address: object) -> list[str]:
        """The names of the access points that have a host route of ours for the address."""
        return [router.name for router in self.access_points if self.is_announced(router, address)]

    def wait_here(self, access_point: Router, *wanted: object, limit_s: float = LIMIT_S) -> None:
        """Wait until this access point announces the addresses, and no other does but to send on what it gets."""
        for address in wanted:
            wait_until(
                lambda: self._is_here(access_point, address),  # noqa: B023
                f"{address} is announced by {access_point.name}, and by nobody who keeps it",
                limit_s,
            )

    def wait_alone(self, access_point: Router, *wanted: object) -> None:
        """Wait until this access point announces the addresses, and no other does at all."""
        for address in wanted:
            wait_until(
                lambda: self.announcers(address) == [access_point.name],  # noqa: B023
                f"{address} is announced by {access_point.name} alone",
                LIMIT_S,
            )

    def _is_here(self, access_point: Router, address: object) -> bool:
        if not self.is_announced(access_point, address) or self.forwarded(access_point, address):
            return False
        others = [router for router in self.access_points if router is not access_point]
        return all(self.forwarded(other, address) or not self.is_announced(other, address) for other in others)

    def forwarded(self, router: Router, address: object) -> str:
        """The route by which the router sends on what arrives for the address, "" when it does not."""
        with contextlib.suppress(CommandFailed):  # the table comes into being with its first route
            words = ("route", "show", str(address), "table", str(TABLES[0]))
            return router.namespace.run("ip", family_of(address), *words).strip()
        return ""

    def wait_forwarded(self, router: Router, address: object, towards: Router) -> None:
        segment = str(self.segments(towards).for_address(ip_address(str(address))))
        wait_until(
            lambda: segment in self.forwarded(router, address),
            f"{router.name} sends {address} on to {towards.name}",
            LIMIT_S,
        )

    def wait_not_forwarded(self, router: Router, address: object, limit_s: float = LIMIT_S) -> None:
        wait_until(lambda: not self.forwarded(router, address), f"{router.name} forwards {address} no more", limit_s)

    def wait_hinted(self, router: Router, client: Client) -> None:
        """Wait until the router, where the client is not, knows all its addresses."""

        def is_hinted() -> bool:
            hosts = [host for host in self.status(router)["hosts"] if host["mac"] == client.mac]
            known = {address for host in hosts for address in host["remembered"]}
            return {str(address) for address in all_addresses(client)} <= known

        wait_until(is_hinted, f"{router.name} knows the client's addresses", LIMIT_S)

    # -- trouble ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def losing(self, *routers: Router, percent: int = 100) -> Iterator[None]:
        """Let these routers lose what peers tell them and, when all of it, what they tell, for the length of the block.

        Each message is lost with this probability, which the kernel draws.
        """
        lost = f"udp dport {PORT} " + ("drop" if percent == 100 else f"numgen random mod 100 < {percent} drop")
        rules = f"table inet lossy {{ chain input {{ type filter hook input priority 0; {lost}; }}; "
        rules += f"chain output {{ type filter hook output priority 0; {lost if percent == 100 else ''}; }}; }}"
        for router in routers:
            router.namespace.run("nft", "-f", "-", stdin=rules)
        try:
            yield
        finally:
            for router in routers:
                router.namespace.run("nft", "delete", "table", "inet", "lossy")

    @contextlib.contextmanager
    def stopped(self, router: Router) -> Iterator[None]:
        """Let roamroute on a router stand still (SIGSTOP) for the length of the block."""
        process = self.daemons[router.name].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    # -- clients ------------------------------------------------------------------------------------------------------

    def new_client(self, *, identity: int | None = None, address_count: int = 2, has_ipv4: bool = True) -> Client:
        """A client in no cell yet. `identity`: that of another client, to have the same MAC and addresses."""
        number = next(self.identities)
        namespace = self.sandbox.namespace(f"client{number}")
        client = Client(
            self.air,
            namespace,
            number if identity is None else identity,
            self.hostapds,
            address_count=address_count,
            has_ipv4=has_ipv4,
        )
        # Duplicate address detection, which tells the addresses, would take up to two seconds of every test.
        link = addresses.CLIENT_LINK
        namespace.sysctl(
            {f"net.ipv6.conf.{link}.router_solicitation_delay": 0, f"net.ipv6.neigh.{link}.retrans_time_ms": 100}
        )
        client.start()
        self.traffic.far.receive(namespace)
        return client

    def new_host(self, access_point: Router) -> Host:
        """A host beside an access point that needs no authentication, and has a roaming address."""
        number = next(self.identities)
        host = Host(self.air, self.sandbox.namespace(f"host{number}"), FIRST_HOST_IDENTITY + number)
        host.attach(access_point)
        return host

    @contextlib.contextmanager
    def twin_of(self, client: Client) -> Iterator[Client]:
        """Another station with the same MAC and addresses, in no cell yet; it leaves at the end."""
        new = self.new_client(identity=int(client.mac[-5:].replace(":", ""), 16), has_ipv4=False)
        try:
            yield new
        finally:
            new.leave()

    def join(self, client: Client, access_point: Router) -> None:
        """Let a client appear, lead its addresses there, and wait until it is reached at all of them."""
        own = all_addresses(client)
        self.lead(access_point, *own)
        client.roam(access_point)

        def is_known() -> bool:
            speak(client)
            return all(self.announcers(address) == [access_point.name] for address in own)

        wait_until(is_known, f"the client is at {access_point.name} with all its addresses", LIMIT_S)
        for address in own:
            wait_until(lambda: is_answered(self.server, address), f"{address} answers", LIMIT_S)  # noqa: B023

    @contextlib.contextmanager
    def client_at(self, access_point: Router, *, has_ipv4: bool = False) -> Iterator[Client]:
        """A client that everybody knows to be there; it leaves at the end."""
        new = self.new_client(has_ipv4=has_ipv4)
        try:
            self.join(new, access_point)
            yield new
        finally:
            new.leave(is_polite=True)

    @contextlib.contextmanager
    def downlink(self, address: object, *, rate: float = 200.0, source: Namespace | None = None) -> Iterator[Downlink]:
        """A stream of packets to the address, by default from the server."""
        begins = addresses.SERVER if family_of(address) == "-6" else addresses.SERVER_IPV4
        flow = self.traffic.start_flow(
            self.traffic.near, self.server if source is None else source, begins, address, rate
        )
        try:
            yield Downlink(self.traffic, flow)
        finally:
            self.traffic.near.stop(flow)


def silence(client: Client) -> None:
    """From now on the client says nothing but who has its addresses, when it is asked (and EAPOL, which is no IP)."""
    rules = "type filter hook output priority 0; policy drop; icmpv6 type nd-neighbor-advert accept"
    client.namespace.run("nft", "-f", "-", stdin=f"table inet silent {{ chain output {{ {rules}; }}; }}")


@attrs.frozen
class Downlink:
    """A stream of packets with numbers."""

    traffic: Traffic
    flow: int

    def wait_arriving(self, since: float, limit_s: float = LIMIT_S) -> None:
        """Wait until something that was sent after this moment (CLOCK_MONOTONIC) has arrived."""
        wait_until(self.traffic.have_reached((self.flow,), since), f"packets of flow {self.flow} arrive", limit_s)

    def numbers(self, since: float, until: float) -> list[int]:
        """The packets that were sent between the two moments."""
        self.traffic.read()
        return [number for moment, number in self.traffic.flows[self.flow].sent if since <= moment < until]

    def lost(self, since: float, until: float) -> list[int]:
        """Those of them that have not arrived; packets sent after `until` must have arrived, or it is too early."""
        self.wait_arriving(until)
        arrived = {number for _, number in self.traffic.flows[self.flow].arrived}
        return [number for number in self.numbers(since, until) if number not in arrived]

    def repeated(self) -> list[int]:
        """Packets that arrived more than once."""
        self.traffic.read()
        counted = Counter(number for _, number in self.traffic.flows[self.flow].arrived)
        return [number for number, count in counted.items() if count > 1]


@contextlib.contextmanager
def make_still_mesh(access_point_count: int = 3, *, changes: Changes | None = None) -> Iterator[StillMesh]:
    """A still mesh in which everything runs. `changes`: to the configuration of every roamroute in it."""
    with Sandbox(programs=PROGRAMS) as sandbox:
        new = StillMesh(sandbox, access_point_count, changes or {})
        new.give_ways()
        new.start()
        for router in new.access_points:
            new.wait_peers(router)
        try:
            yield new
        finally:
            if kept := os.environ.get("ROAMROUTE_KEEP_LOGS"):
                for daemon in new.daemons.values():
                    shutil.copytree(
                        daemon.directory,
                        Path(kept) / "still" / daemon.access_point.name,
                        dirs_exist_ok=True,
                        ignore=lambda _, names: [name for name in names if name in ("control.sock", "notify")],
                    )


def _via(hop: Router, destination: object) -> str:
    if family_of(destination) == "-6":
        return f"via {addresses.link_local(hop.number)} dev {hop.name} proto static"
    return f"via {addresses.router_address_ipv4(hop.number)} dev {hop.name} onlink proto static"
