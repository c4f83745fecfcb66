"""A mesh with roamroute on every access point over a real routing daemon, for tests to let clients roam in.

What is asked is what others see: the gateway's FIB two hops away, packets that arrive. Nothing here knows a test, and
several worlds may exist on one machine. With ROAMROUTE_KEEP_LOGS=DIRECTORY in the environment all configurations and
logs of a world are kept there.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from generations import BABELD, BIRD, FRR, Generation

from roamroute import control
from roamroute.lab import addresses
from roamroute.lab.dumb import Stations
from roamroute.lab.laboratory import PROGRAMS, Laboratory
from roamroute.lab.namespaces import CommandFailed, Namespace
from roamroute.lab.options import LabOptions
from roamroute.lab.radio import Client
from roamroute.lab.roaming import RoamrouteDaemon, daemon_tables
from roamroute.lab.topology import Router
from roamroute.lab.traffic import Download
from roamroute.lab.waiting import wait_until
from roamroute.segments import segments_of

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

LIMIT_S = 40.0
QUICK = {"stale_probe_after_s": 3.0, "handover_linger_s": 3.0}
HOLE_LIMIT_S = 1.5
"""Half of what a router costs that sends packets nowhere until the old access point has withdrawn (QUICK)."""
FORWARDS = 4544
"""The routing table of what is sent on, as `[handover] tables` has it by default."""
MARKS = [pytest.mark.requires_root, pytest.mark.requires_programs(*PROGRAMS, "ping")]
"""What every test in a world needs: `pytestmark = MARKS`."""

DOWNLOAD_BYTES_PER_SECOND = 100_000.0


@attrs.frozen
class Flavour:
    """What carries the routes: a routing protocol of the lab, one version of its daemon, and the adapter's mode.

    `hello`: seconds, as text; correctness needs no default timers.
    """

    routing: str
    generation: Generation
    mode: str = "kernel"
    hello: str = "1"

    @property
    def name(self) -> str:
        """For example "bird-ospf-2.17" and "bird-ospf-2.17-inject"."""
        return f"{self.routing}-{self.generation.version}" + (f"-{self.mode}" if self.mode != "kernel" else "")

    @property
    def options(self) -> dict[str, str]:
        options = {"command": self.generation.command, "hello-interval": self.hello}
        if self.mode != "kernel":
            options["mode"] = self.mode
        if self.generation.daemon == "bird":
            # BIRD 3.1 that was killed finds its old routes in the kernel, and leaves some new ones out until it scans.
            options["scan-time"] = "1"
        return options


BABELD_FLAVOURS = tuple(Flavour("babeld", generation, hello="0.5") for generation in BABELD)
KERNEL_FLAVOURS = (
    *(Flavour(f"bird-{routing}", generation) for routing in ("babel", "ospf", "ibgp") for generation in BIRD),
    *(Flavour(f"frr-{routing}", generation) for routing in ("ospf", "ibgp") for generation in FRR),
)
"""Every protocol on every generation."""
INJECT_FLAVOURS = (
    Flavour("bird-ibgp", BIRD[0], "inject"),
    Flavour("bird-ospf", BIRD[1], "inject"),
    Flavour("bird-babel", BIRD[2], "inject"),
    Flavour("frr-ospf", FRR[0], "inject"),
    Flavour("frr-ibgp", FRR[1], "inject"),
)
"""Every protocol once, and every generation once: what the mode changes lies before the protocol."""


def parameters(flavours: Sequence[Flavour]) -> list[ParameterSet]:
    """For the `params` of a fixture, each marked with what it needs."""
    return [pytest.param(each, id=each.name, marks=each.generation.mark) for each in flavours]


@attrs.frozen
class World:
    """A mesh with roamroute on every access point."""

    flavour: Flavour
    laboratory: Laboratory
    daemons: dict[str, RoamrouteDaemon]

    @property
    def access_points(self) -> list[Router]:
        return self.laboratory.mesh.access_points

    @property
    def gateway(self) -> Namespace:
        return self.laboratory.mesh.gateway.namespace

    def towards(self, address: object) -> str:
        """The link by which the gateway's FIB sends to exactly this address, "" when it has no host route."""
        return link_towards(self.gateway, address)

    def wait_at(self, access_point: Router, *wanted: object) -> None:
        """Wait until the gateway sends to these addresses by the access point, and nobody else keeps them.

        The old access point may go on announcing them for a while, and sends on what it gets.
        """
        router = self.laboratory.mesh.router_of(access_point).name
        for address in wanted:
            wait_until(lambda: self.towards(address) == router, f"{address} goes by {router}", LIMIT_S)  # noqa: B023
            wait_until(lambda: self.live(access_point, address), f"{access_point.name} has {address}", LIMIT_S)  # noqa: B023
        for other in self.access_points:
            if other is not access_point:
                for address in wanted:
                    wait_until(
                        lambda: not self.live(other, address) or self.forwarded(other, address),  # noqa: B023
                        f"{other.name} has withdrawn {address}, or sends it on",
                        LIMIT_S,
                    )

    def wait_reached(self, *wanted: object) -> None:
        """Wait until packets from the server to each of these addresses come back."""
        for address in wanted:
            wait_until(lambda: is_answered(self.laboratory.mesh.server, address), f"{address} answers", LIMIT_S)  # noqa: B023

    def wait_gone(self, *unwanted: object) -> None:
        for address in unwanted:
            wait_until(lambda: not self.towards(address), f"{address} is gone from the gateway", LIMIT_S)  # noqa: B023

    def live(self, access_point: Router, address: object) -> bool:
        """Whether the access point has a live host route to the client link: ours, or one that was injected."""
        ours = ("proto", "144") if self.flavour.mode == "kernel" else ("dev", addresses.CLIENT_LINK)
        return bool(access_point.namespace.run("ip", family_of(address), "route", "show", str(address), *ours))

    def forwarded(self, access_point: Router, address: object) -> bool:
        """Whether the access point sends on what arrives for the address to another one."""
        words = ("route", "show", str(address), "table", str(FORWARDS))
        with contextlib.suppress(CommandFailed):  # the table comes into being with its first route
            return bool(access_point.namespace.run("ip", family_of(address), *words))
        return False

    def join(self, client: Client, access_point: Router) -> None:
        """Let a client appear, and wait until everybody knows all its addresses."""
        client.roam(access_point)
        if client.address_ipv4 is not None:
            # IPv4 has no duplicate address detection here: the address is known when its first packet has been seen.
            wait_until(
                lambda: is_answered(client.namespace, addresses.SERVER_IPV4), "the client reaches the server", LIMIT_S
            )
        self.wait_at(access_point, *all_addresses(client))

    def download(self, client: Client) -> Download:
        """A TCP download by the client that has begun."""
        new = Download(
            self.laboratory.sandbox,
            self.laboratory.mesh.server,
            addresses.SERVER,
            client.namespace,
            client.main_address,
            DOWNLOAD_BYTES_PER_SECOND,
        )
        wait_until(new.has_begun, "the download has begun", LIMIT_S)
        return new

    def status(self, access_point: Router) -> dict[str, Any]:
        """What `roamroute status --json` prints, without the start of a process."""
        return control.ask(self.daemons[access_point.name].control_socket, "status")

    def is_wanted(self, access_point: Router, *addresses_there: object) -> bool:
        """Whether roamroute on the access point wants routes for all of these addresses."""
        return {str(address) for address in addresses_there} <= self._those(access_point, "is_wanted")

    def is_exported(self, access_point: Router, *addresses_there: object) -> bool:
        """Whether the routing daemon on the access point confirms all of these addresses."""
        return {str(address) for address in addresses_there} <= self._those(access_point, "is_exported")

    def _those(self, access_point: Router, claim: str) -> set[str]:
        hosts = self.status(access_point)["hosts"]
        return {entry["address"] for host in hosts for entry in host["addresses"] if entry[claim]}

    def wait_exported(self, access_point: Router, *wanted: object) -> None:
        wait_until(lambda: self.is_exported(access_point, *wanted), f"{access_point.name} has exported", LIMIT_S)

    def wait_peers(self, access_point: Router) -> None:
        """Wait until the access point has a session with every other."""

        def are_up() -> bool:
            return all(peer["is_up"] for peer in self.status(access_point)["peers"]["peers"])

        wait_until(are_up, f"{access_point.name} has sessions with its peers", LIMIT_S)

    def problems(self, access_point: Router) -> str:
        """What the exporter says is wrong, with the remedies, in one text."""
        found = self.status(access_point)["exporter"]["problems"]
        return "\n".join(f"{problem['text']} -> {problem['remedy']}" for problem in found)

    def command(self, access_point: Router, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`roamroute …` beside the daemon of the access point."""
        return run_beside(self.daemons[access_point.name], *arguments)

    def errors(self, access_point: Router) -> list[dict[str, str]]:
        """What `roamroute check` finds wrong, but for the neighbour table: that is the whole machine's."""
        findings = json.loads(self.command(access_point, "check", "--json").stdout)["findings"]
        wrong = [finding for finding in findings if finding["level"] == "error"]
        return [finding for finding in wrong if not finding["subject"].endswith("neighbour table")]

    @contextlib.contextmanager
    def new_client(self) -> Iterator[Client]:
        """A client that nobody has seen before; it leaves at the end, with a good-bye."""
        new = self.laboratory.new_client()
        try:
            yield new
        finally:
            new.leave(is_polite=True)

    @contextlib.contextmanager
    def watched_gateway(self, name: str) -> Iterator[Callable[[], list[str]]]:
        """Follow the gateway's FIB for the length of the block; yields what asks for the deletions seen so far."""
        log = self.laboratory.sandbox.subdirectory("watched") / name
        log.touch()
        monitor = self.gateway.start("ip", "-o", "-ts", "monitor", "route", log=log)
        try:
            yield lambda: [line for line in log.read_text().splitlines() if "Deleted" in line]
        finally:
            self.laboratory.sandbox.stop(monitor)


def run_beside(daemon: RoamrouteDaemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`roamroute …` as an operator types it beside the daemon, with its configuration."""
    entered = ("nsenter", f"--net={daemon.access_point.namespace.path}")
    return subprocess.run(
        [*entered, sys.executable, "-m", "roamroute", *arguments, "-c", str(daemon.configuration)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def roam_while_the_routers_stand_still(world: World) -> None:
    """A roam of which no router can hear: what the old access point sends on arrives, and no router ever sees it."""
    first, second, _ = world.access_points
    for access_point in world.access_points:
        router = world.laboratory.mesh.router_of(access_point).name
        segments = segments_of(access_point.address, (addresses.ROAMING_PREFIX, addresses.ROAMING_PREFIX_IPV4))
        for segment in (segments.ipv6, segments.ipv4):
            wait_until(lambda: world.towards(segment) == router, f"the way to {segment} is known", LIMIT_S)  # noqa: B023
    with world.new_client() as client:
        own = all_addresses(client)
        world.join(client, first)
        world.wait_reached(*own)
        with _standing_still(world):
            client.roam(second)
            world.wait_reached(*own)
        world.wait_at(second, *own)
    # It has gone, and no router takes the one that would still send on its packets for a way to it.
    world.wait_gone(*own)
    assert all(world.forwarded(first, address) for address in own)


def roam_between_routers_without_a_hole(world: World) -> None:
    """What the routers do until the old access point has withdrawn, and then, costs no more than a moment."""
    first, _, third = world.access_points
    traffic = world.laboratory.traffic
    with world.new_client() as client:
        world.join(client, first)
        own = client.main_address, client.address_ipv4
        world.wait_reached(*own)
        flows = tuple(
            traffic.start_flow(traffic.near, world.laboratory.mesh.server, source, address, 100.0)
            for source, address in zip((addresses.SERVER, addresses.SERVER_IPV4), own, strict=True)
        )
        wait_until(traffic.have_reached(flows, time.monotonic()), "packets arrive", LIMIT_S)
        client.roam(third)
        world.wait_at(third, *own)
        for address in own:
            wait_until(lambda: not world.live(first, address), f"{first.name} has withdrawn {address}", LIMIT_S)  # noqa: B023
        wait_until(traffic.have_reached(flows, time.monotonic() + 0.5), "packets arrive after that", LIMIT_S)
        for flow in flows:
            traffic.near.stop(flow)
        for flow in flows:
            arrived = [client.connected_at, *(at for at, _ in traffic.flows[flow].arrived if at > client.connected_at)]
            hole = max(later - earlier for earlier, later in itertools.pairwise(arrived))
            assert hole < HOLE_LIMIT_S, f"flow {flow}: nothing for {hole:.1f} s"


@contextlib.contextmanager
def _standing_still(world: World) -> Iterator[None]:
    """Stop the routing daemons of the gateway and the routers (SIGSTOP); their kernels go on with what they know."""
    mesh = world.laboratory.mesh
    stopped = [
        process
        for router in (mesh.gateway, *mesh.routers)
        for process in world.laboratory.routing.processes(router)
        if process.poll() is None
    ]
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            process.send_signal(signal.SIGCONT)


def speak(client: Client) -> None:
    """Let the client send one packet from each of its addresses; whether an answer comes is another matter."""
    for address in all_addresses(client):
        server = addresses.SERVER_IPV4 if family_of(address) == "-4" else addresses.SERVER
        is_answered(client.namespace, server, source=address)


def all_addresses(client: Client) -> list[object]:
    """Every address that the client has: IPv6 first."""
    return [*client.addresses, *([] if client.address_ipv4 is None else [client.address_ipv4])]


def link_towards(namespace: Namespace, address: object) -> str:
    """The link of the best host route for exactly this address; several joined by "+", "" where there is none."""
    routes = json.loads(namespace.run("ip", "-j", family_of(address), "route", "show", str(address)) or "[]")
    usable = [route for route in routes if route.get("type", "unicast") == "unicast"]
    if not usable:
        return ""
    best = min(usable, key=lambda route: int(route.get("metric", 0)))
    hops: list[Mapping[str, Any]] = best.get("nexthops", [best])
    return "+".join(sorted({str(hop["dev"]) for hop in hops}))


def is_answered(namespace: Namespace, address: object, *, source: object = None) -> bool:
    """Whether one ping to the address is answered; a packet needs less than a millisecond."""
    by = [] if source is None else ["-I", str(source)]
    try:
        namespace.run("ping", "-c1", "-W0.3", *by, str(address))
    except CommandFailed:
        return False
    return True


def family_of(address: object) -> str:
    """`ip`'s option."""
    return "-4" if "." in str(address) else "-6"


def tables_of(
    laboratory: Laboratory, access_point: Router, settings: Mapping[str, Any] | None = None
) -> dict[str, Mapping[str, Any]]:
    """The configuration of roamroute on one access point. `settings`: another `[exporters.NAME]` than the lab's."""
    tables = daemon_tables(
        laboratory.mesh,
        access_point,
        laboratory.daemons[access_point.name],
        exporter=laboratory.installed.exporter.name,
        exporter_settings=laboratory.routing.exporter_settings(access_point) if settings is None else settings,
        key_file=laboratory.key_file,
    )
    return {**tables, "policy": QUICK}


@contextlib.contextmanager
def make_world(
    flavour: Flavour, *, client_addresses: int = 2, stations: Stations = Stations.HOSTAPD
) -> Iterator[World]:
    """A world in which everything is up, every access point has found the host beside it, and the gateway knows."""
    options = LabOptions(
        routing=flavour.routing,
        routing_options=flavour.options,
        addresses=client_addresses,
        has_ipv4=True,
        stations=stations,
    )
    with Laboratory(options) as laboratory:
        assert flavour.generation.version in laboratory.routing_version
        for access_point in laboratory.mesh.access_points:
            access_point.namespace.sysctl({"net.ipv6.neigh.wlan0.base_reachable_time_ms": 3000})
        daemons = {
            access_point.name: RoamrouteDaemon(access_point, tables_of(laboratory, access_point))
            for access_point in laboratory.mesh.access_points
        }
        for daemon in daemons.values():
            daemon.start()
        for daemon in daemons.values():
            daemon.wait_ready()
        world = World(flavour, laboratory, daemons)
        for access_point in laboratory.mesh.access_points:
            host = laboratory.correspondents[access_point.name]
            wait_until(
                lambda: is_answered(host.namespace, addresses.SERVER) or world.live(access_point, host.address),  # noqa: B023
                f"{access_point.name} has found its host",
                LIMIT_S,
            )
            world.wait_at(access_point, host.address)
            world.wait_peers(access_point)
        try:
            yield world
        finally:
            if kept := os.environ.get("ROAMROUTE_KEEP_LOGS"):
                shutil.copytree(
                    laboratory.sandbox.directory, Path(kept) / flavour.name, dirs_exist_ok=True, ignore=_sockets
                )


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (Path(folder, name).is_file() or Path(folder, name).is_dir())]
