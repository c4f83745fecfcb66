"""A gateway and one access point, joined by a veth pair, each with the routing daemon of one routing of the lab; on the
access point roamroute's exporters, in a thread in its namespace, as the daemon `roamroute run` runs them.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from roamroute.delta import Delta
from roamroute.export import ExporterContext, FibChange, KernelNumbers
from roamroute.lab import addresses
from roamroute.lab.installed import InstalledRouting
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.lab.routing import MeshRouting
from roamroute.lab.topology import CLIENT_LINK_LINES, Router, address_lines
from roamroute.lab.waiting import wait_until
from roamroute.linux.fib import KernelFib
from roamroute.linux.foreign import ForeignRoutes
from roamroute.linux.rtnetlink import GROUP_IPV6_ROUTE, Notifications, host_route_filter
from roamroute.values import Address, HostRoute
from roamroute.wire import netlink

PREFIXES = (addresses.ROAMING_PREFIX, addresses.ROAMING_PREFIX_IPV4)
CALL_LIMIT_S = 60.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ExportingPair:
    """Up and converged when it has been made. Raises: MachineUnfit, NotReached, DaemonGone."""

    def __init__(self, sandbox: Sandbox, routing: InstalledRouting, options: Mapping[str, str]) -> None:
        self.sandbox = sandbox
        gateway, access_point = sandbox.namespaces(["gw", "ap1"])
        self.gateway = Router("gw", "gateway", addresses.GATEWAY_NUMBER, gateway)
        self.access_point = Router("ap1", "access-point", 1, access_point)
        self.gateway.neighbours.append(self.access_point)
        self.access_point.neighbours.append(self.gateway)
        self._build(sandbox)
        self.routing = MeshRouting(self, routing, options)
        self.routing.start()
        self.routing.wait_converged()
        self.exporters = Exporters(access_point, routing, self.routing.exporter_settings(self.access_point))
        sandbox.on_close(self.exporters.close)
        self.exporters.start()
        with gateway.entered():
            self._arrivals = Notifications((GROUP_IPV6_ROUTE,), 1 << 24, host_route_filter())

    @property
    def all_routers(self) -> list[Router]:
        return [self.gateway, self.access_point]

    def _build(self, sandbox: Sandbox) -> None:
        forwarding = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}
        for router in self.all_routers:
            router.namespace.sysctl({**forwarding, "net.ipv6.conf.default.accept_dad": 0})
        there = self.access_point.namespace.name
        self.gateway.namespace.ip(f"link add ap1 index 1000 type veth peer name gw index 1001 netns {there}")
        for router in self.all_routers:
            router.namespace.ip(*address_lines(router))
        self.gateway.namespace.ip(
            "link add out type bridge",
            "link set out up",
            "route add ::/0 dev out proto static",
            "route add 0.0.0.0/0 dev out proto static",
        )
        self.access_point.namespace.ip(f"link add {addresses.CLIENT_LINK} type bridge", *CLIENT_LINK_LINES)

    def arrived(self, address: Address, since: float, limit_s: float, *, is_gone: bool = False) -> float:
        """Wait until the gateway's kernel has a usable route for the address, or none any more; seconds since `since`.

        Raises: TimeoutError.
        """
        while (left_s := since + limit_s - time.monotonic()) > 0:
            select.select([self._arrivals.fileno()], [], [], left_s)
            messages, is_lossy = self._arrivals.read(1024)
            if is_lossy:
                raise TimeoutError("route notifications of the gateway were lost")
            for message in messages:
                if message.kind not in (netlink.RTM_NEWROUTE, netlink.RTM_DELROUTE):
                    continue
                route = netlink.decode_route(message)
                is_usable = message.kind == netlink.RTM_NEWROUTE and route.kind == netlink.RTN_UNICAST
                if route.destination == address and is_usable != is_gone:
                    return time.monotonic() - since
        raise TimeoutError(f"{address} did not {'go' if is_gone else 'arrive'} within {limit_s:g} s")

    def wait_count(self, count: int, limit_s: float) -> float:
        """Wait until the gateway has so many host routes of the roaming prefix; returns the seconds."""

        def are_there() -> bool:
            shown = self.gateway.namespace.run("ip", "-6", "route", "show", "root", str(addresses.ROAMING_PREFIX))
            return sum(" via " in line for line in shown.splitlines()) == count

        seconds = wait_until(are_there, f"{count} host routes have arrived", limit_s, poll_s=0.25)
        while self._arrivals.read(1024)[0]:
            pass
        return seconds

    def daemon_cpu_s(self) -> float:
        """Processor time of the access point's routing daemon so far."""
        return sum(_cpu_s(process.pid) for process in self.routing.processes(self.access_point))


class Exporters:
    """The kernel exporter and the adapter, with an event loop of their own in a namespace."""

    def __init__(self, namespace: Namespace, routing: InstalledRouting, settings: Mapping[str, Any]) -> None:
        self._namespace = namespace
        spec = routing.exporter
        context = ExporterContext(
            (addresses.CLIENT_LINK,),
            PREFIXES,
            KernelNumbers(),
            lambda event: None,
            lambda level, line: self.log.append(f"{level}: {line}"),
            lambda: self.fib.look_again(),
            self._follow_fib,
        )
        self.log: list[str] = []
        self.adapter = spec.create(spec.parse(dict(settings)), context)
        self.fib = KernelFib(context, self.adapter.needs, self.adapter.may_delete)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="exporters", daemon=True)
        self._tasks: list[asyncio.Task[Any]] = []
        self._others = _children()
        """Processes of ours that are not the adapter's."""

    def start(self) -> None:
        """Run them, and wait until the daemon is connected and told that nothing is wanted."""
        self._thread.start()
        self.call(self._begin())
        wait_until(lambda: self.call(self._is_connected()), "the adapter is connected", CALL_LIMIT_S)
        self.call(self._publish_all())

    def publish(self, delta: Delta) -> float:
        """Publish as the daemon does; returns when it began (CLOCK_MONOTONIC)."""
        begun: float = self.call(self._publish(delta))
        return begun

    def wait_confirmed(self, count: int, limit_s: float) -> None:
        """Wait until the adapter has no more to ask: the daemon confirms so many routes. Raises: NotReached."""
        wait_until(lambda: self.call(self._confirmed()) in (count, None), "all is confirmed", limit_s, poll_s=0.25)

    def cpu_s(self) -> float:
        """Processor time of the thread and of the processes that the adapter keeps (birdc, vtysh)."""
        kept = sum(_cpu_s(process) for process in _children() - self._others)
        ended = os.times()
        return float(self.call(self._thread_s()) + kept + ended.children_user + ended.children_system)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_LIMIT_S)

    def close(self) -> None:
        if self._thread.is_alive():
            self.call(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def _run(self) -> None:
        with self._namespace.entered():
            asyncio.set_event_loop(self._loop)
            self._loop.run_forever()

    async def _follow_fib(self, changed: Callable[[FibChange], None]) -> None:
        def log(level: str, line: str) -> None:
            self.log.append(f"{level}: {line}")

        links = (addresses.CLIENT_LINK,)
        await ForeignRoutes(PREFIXES, KernelNumbers(), changed, log, interfaces=links).run()

    async def _begin(self) -> None:
        self._tasks = [asyncio.create_task(self.adapter.run()), asyncio.create_task(self.fib.run())]

    async def _is_connected(self) -> bool:
        return self.adapter.report().is_connected

    async def _confirmed(self) -> int | None:
        exported = self.adapter.report().exported
        return len(exported) if exported is not None else None

    async def _publish_all(self) -> None:
        self.fib.apply_all(())
        await self.adapter.publish_all(())

    async def _publish(self, delta: Delta) -> float:
        begun = time.monotonic()
        self.fib.apply(delta)
        await self.adapter.publish(delta)
        return begun

    async def _thread_s(self) -> float:
        return time.thread_time()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.adapter.close()
        await self.fib.close()


def host_routes(first: int, count: int) -> tuple[HostRoute, ...]:
    """So many hosts on the client link, from this number on."""
    numbers = range(first, first + count)
    return tuple(HostRoute(addresses.ROAMING_PREFIX[0x10000 + number], addresses.CLIENT_LINK) for number in numbers)


def _children() -> frozenset[int]:
    """The processes that this one has started and that still run."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == os.getpid():
            found.add(int(path.parent.name))
    return frozenset(found)


def _cpu_s(process: int) -> float:
    """Processor time of a process, its threads and the children that it has reaped (proc(5), /proc/PID/stat)."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS_PER_SECOND
