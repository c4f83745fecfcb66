"""The kick: from a host route of ours to the next router's kernel, with babeld at its default hello interval.

Two namespaces, ap and r, with one babeld each; on ap roamroute's kernel exporter and babeld adapter. Then the same with
1,000 further routes in the mesh, and for comparison without a kick.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

import attrs
from roamroute_babeld import SPEC
from roamroute_babeld.lab import BabeldLab
from roamroute_babeld.settings import Settings

from benchmarks.figure import Figure
from roamroute.delta import Delta
from roamroute.export import Exporter, ExporterContext, FibNeeds, KernelNumbers, LabRouter
from roamroute.lab.namespaces import Sandbox
from roamroute.linux.fib import KernelFib
from roamroute.linux.rtnetlink import GROUP_IPV6_ROUTE, Notifications, host_route_filter
from roamroute.values import Address, HostRoute
from roamroute.wire import netlink

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "roamroute"
BABELDS = (str(CACHE / "bin" / "babeld-1.13.1"), "babeld")
PREFIX = ip_network("fd44:0:0:1::/64")
HOST = int(IPv6Address("fd44:0:0:1::1:0"))
ROUNDS, ROUNDS_WITHOUT, FURTHER = 30, 5, 1000
LIMIT_S = 30.0


class Pair:
    """ap - r, each with a babeld; roamroute's exporters on ap."""

    def __init__(self, sandbox: Sandbox, command: str, label: str) -> None:
        self.ap, self.r = sandbox.namespaces([f"{label}ap", f"{label}r"])
        self.ap.ip(
            f"link add mesh type veth peer name mesh netns {self.r.path.name}",
            "link add wlan0 type bridge",
            "link set wlan0 up",
        )
        daemons = []
        for number, namespace in enumerate((self.ap, self.r), start=1):
            namespace.ip("link set lo up", "link set mesh up", f"addr add fd44:0:0:a::{number}/128 dev lo")
            router = LabRouter(
                name=namespace.label,
                role="access-point",
                number=number,
                directory=sandbox.subdirectory(f"{label}{number}"),
                mesh_links=("mesh",),
                router_address=ip_address(f"fd44:0:0:a::{number}"),
                client_links=("wlan0",),
                roaming_prefixes=(PREFIX,),
                options={"command": command},
            )
            daemons.append(BabeldLab().prepare(router))
        time.sleep(2)  # duplicate address detection of the links' own addresses
        for namespace, daemon in zip((self.ap, self.r), daemons, strict=True):
            namespace.start(*daemon.commands[0])
        self.socket = str(daemons[0].exporter_settings["socket"])
        self._wait(lambda: "fd44:0:0:a::1" in self.r.run("ip", "-6", "route"))
        with self.r.entered():
            self.routes = Notifications((GROUP_IPV6_ROUTE,), 1 << 22, host_route_filter())

    def add_further(self) -> None:
        """Routes that ap hears of: their number is what a kick must outgrow."""
        lines = (f"route add fd44:0:0:1:5::{number:x}/128 dev mesh proto 144 metric 8" for number in range(FURTHER))
        self.r.ip(*lines)
        self._wait(lambda: self.ap.run("ip", "-6", "route").count("proto babel") > FURTHER)

    def _wait(self, is_true: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not is_true():
            if time.monotonic() > end:
                raise TimeoutError("the two babelds do not find each other")
            time.sleep(0.1)

    def arrival_ms(self, address: Address, kind: int, since: float) -> float:
        """Wait for babeld's route of this kind in r's kernel."""
        while time.monotonic() - since < LIMIT_S:
            for message in self.routes.read(64)[0]:
                if message.kind != netlink.RTM_NEWROUTE:
                    continue
                route = netlink.decode_route(message)
                if route.destination == address and route.kind == kind:
                    return (time.monotonic() - since) * 1000
            time.sleep(0.0005)
        raise TimeoutError(f"{address} did not arrive")


async def measure(pair: Pair, rounds: int, needs: Callable[[FibNeeds], FibNeeds]) -> tuple[list[float], list[float]]:
    """Announce and withdraw fresh hosts; milliseconds of each."""
    context = ExporterContext(("wlan0",), (PREFIX,), KernelNumbers(), lambda _event: None, lambda _level, _line: None)
    adapter: Exporter = SPEC.create(Settings(socket=pair.socket), context)
    fib = KernelFib(context, lambda: needs(adapter.needs()), adapter.may_delete)
    tasks = [asyncio.create_task(adapter.run()), asyncio.create_task(fib.run())]
    announced: list[float] = []
    withdrawn: list[float] = []
    try:
        while not adapter.report().is_connected:  # noqa: ASYNC110 - the contract has no event for it
            await asyncio.sleep(0.1)
        fib.apply(Delta((HostRoute(IPv6Address(HOST - 1), "wlan0"),)))  # the reserved routes are made
        await asyncio.sleep(6)
        for number in range(rounds):
            route = HostRoute(IPv6Address(HOST + number), "wlan0")
            for delta, kind, times in (
                (Delta((route,)), netlink.RTN_UNICAST, announced),
                (Delta((), (route,)), netlink.RTN_UNREACHABLE, withdrawn),
            ):
                await asyncio.sleep(0.3 + 0.011 * (number % 20))
                begun = time.monotonic()
                fib.apply(delta)
                times.append(await asyncio.to_thread(pair.arrival_ms, route.address, kind, begun))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await fib.close()
    return announced, withdrawn


def run() -> list[Figure]:
    """One hop, at the default hello interval: what a kick makes of up to 4 s."""
    figures: list[Figure] = []
    with Sandbox() as sandbox:
        for position, command in enumerate(BABELDS):
            version = BabeldLab().version({"command": command})
            pair = Pair(sandbox, command, f"b{position}")
            cases: list[tuple[str, int, Callable[[FibNeeds], FibNeeds], float | None]] = [
                ("kick", ROUNDS, lambda needs: needs, 50),
                ("no kick", ROUNDS_WITHOUT, lambda needs: attrs.evolve(needs, kick=None), None),
            ]
            figures += _measured(pair, version, cases)
            pair.add_further()
            figures += _measured(pair, f"{version}, {FURTHER} routes", [("kick", ROUNDS, lambda needs: needs, 250)])
    return figures


def _measured(
    pair: Pair, what: str, cases: list[tuple[str, int, Callable[[FibNeeds], FibNeeds], float | None]]
) -> list[Figure]:
    figures = []
    for name, rounds, needs, bar in cases:
        with pair.ap.entered():
            for kind, times in zip(("announce", "withdraw"), asyncio.run(measure(pair, rounds, needs)), strict=True):
                title = f"{what}, {kind}, {name}"
                figures.append(Figure(f"{title}, median", statistics.median(times), "ms", bar=bar, samples=times))
                figures.append(Figure(f"{title}, maximum", max(times), "ms"))
    return figures
