"""The kernel side: a neighbour event to the installed route, 5,000 neighbours at a start, and what a probe costs."""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import random
import resource
import select
import socket
import statistics
import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_network
from pathlib import Path

from benchmarks.figure import Figure
from roamroute.admission import Admission
from roamroute.delta import coalesce
from roamroute.effects import Probe
from roamroute.engine import Engine
from roamroute.events import Event, NeighbourChanged, NeighboursResynced
from roamroute.export import ExporterContext, FibNeeds, KernelNumbers
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.linux.fib import KernelFib
from roamroute.linux.neighbours import NeighbourSource
from roamroute.linux.rtnetlink import GROUP_IPV6_ROUTE, Notifications, Requests, host_route_filter
from roamroute.policy import Policy
from roamroute.values import HostRoute, Mac, Nud
from roamroute.wire import netlink

PREFIX = ip_network("fd44:0:0:1::/64")
BASE = int(IPv6Address("fd44:0:0:1:0:1::"))
CLIENT = int(IPv6Address("fd44:0:0:1:0:2::"))
MAC = Mac("02:00:00:00:00:02")
EVENTS = 500
NEIGHBOURS = 5000
CLIENT_ADDRESSES = 64
PROBE_ROUNDS = 20
_PUT = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE


def silent(_level: str, _line: str) -> None:
    """A log for nobody."""


def kernel_fib(needs: FibNeeds | None = None) -> KernelFib:
    """The exporter for wlan0."""
    context = ExporterContext(("wlan0",), (PREFIX,), KernelNumbers(), lambda _event: None, silent)
    return KernelFib(context, lambda: needs or FibNeeds(), lambda _route: True)


def mac_of(number: int) -> Mac:
    """Each host has three addresses."""
    return Mac(f"02:00:00:01:{number // 3 >> 8:02x}:{number // 3 & 255:02x}")


def put_neighbours(entries: list[tuple[IPv6Address, Mac]], state: Nud) -> None:
    """Write entries into the kernel's neighbour table as ND would."""
    index = socket.if_nametoindex("wlan0")
    requests = Requests()
    bodies = [netlink.neighbour_body(index, address, mac, state) for address, mac in entries]
    refused = requests.transact([(netlink.RTM_NEWNEIGH, _PUT, body) for body in bodies])
    requests.close()
    if refused:
        raise RuntimeError(f"the kernel refused {len(refused)} neighbours: {refused[0]}")


class Loop:
    """Source, engine and exporter as the daemon joins them, without the rest of it."""

    def __init__(self, needs: FibNeeds | None = None) -> None:
        self.engine = Engine(Admission(("wlan0",), (PREFIX,)), Policy(), seed=1)
        self.fib = kernel_fib(needs)
        self.source = NeighbourSource(("wlan0",), self.take, silent)
        self.synced = asyncio.Event()
        self.engine_s = 0.0

    def take(self, batch: list[Event]) -> None:
        """Put events through the engine and install what comes out."""
        began = time.perf_counter()
        effects = [effect for event in batch for effect in self.engine.handle(event, time.monotonic())]
        self.engine_s += time.perf_counter() - began
        if any(isinstance(event, NeighboursResynced) for event in batch):
            self.fib.apply_all(tuple(self.engine.wanted.values()))
            self.synced.set()
        else:
            self.fib.apply(coalesce(effects))


def outsider(pipe: multiprocessing.connection.Connection) -> None:
    """Another process: makes neighbours appear and waits for their routes; sends the times in ms."""
    index = socket.if_nametoindex("wlan0")
    routes = Notifications((GROUP_IPV6_ROUTE,), 1 << 20, host_route_filter())
    requests = Requests()
    chance = random.Random(1)
    times = []
    for number in range(EVENTS):
        time.sleep(chance.uniform(0.001, 0.01))
        body = netlink.neighbour_body(index, IPv6Address(BASE + number), mac_of(number), Nud.REACHABLE)
        began = time.perf_counter()
        requests.transact([(netlink.RTM_NEWNEIGH, _PUT, body)])
        while not select.select([routes], [], [], 2)[0] or not routes.read(16)[0]:
            if time.perf_counter() - began > 2:
                raise RuntimeError(f"neighbour {number}: no route within 2 s")
        times.append((time.perf_counter() - began) * 1000)
    pipe.send(times)


async def event_to_route() -> list[float]:
    """Neighbour event to installed route, seen from another process; milliseconds."""
    loop = Loop()
    tasks = [asyncio.create_task(loop.source.run()), asyncio.create_task(loop.fib.run())]
    await loop.synced.wait()
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=outsider, args=(there,))
    process.start()
    there.close()
    try:
        times: list[float] = await asyncio.to_thread(here.recv)
    finally:
        process.join(5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        loop.fib.clear()
        await loop.fib.close()
    return times


async def start_with_many(needs: FibNeeds | None = None) -> tuple[float, float]:
    """Seconds from opening the source until every route is in the kernel, and the engine's part of it."""
    loop = Loop(needs)
    running = asyncio.create_task(loop.fib.run())
    await asyncio.sleep(0)
    began = time.perf_counter()
    following = asyncio.create_task(loop.source.run())
    await loop.synced.wait()
    requests = Requests()
    body = netlink.route_filter_body(netlink.AF_INET6, table=254, protocol=144)
    while len(requests.dump(netlink.RTM_GETROUTE, body)) < NEIGHBOURS:
        await asyncio.sleep(0.005)
        if time.perf_counter() - began > 20:
            raise RuntimeError("5,000 routes are not there after 20 s")
    took = time.perf_counter() - began
    requests.close()
    for task in (running, following):
        task.cancel()
    await asyncio.gather(running, following, return_exceptions=True)
    loop.fib.clear()
    await loop.fib.close()
    return took, loop.engine_s


async def probe_cycles() -> tuple[float, float]:
    """Microseconds of processor time a probe cycle costs us: (our own, with the kernel's on our account)."""
    waiting: set[IPv6Address] = set()
    answered = asyncio.Event()

    def heard(batch: list[Event]) -> None:
        for event in batch:
            if isinstance(event, NeighbourChanged) and event.neighbour.nud is Nud.REACHABLE:
                waiting.discard(event.neighbour.address)
        if not waiting:
            answered.set()

    source = NeighbourSource(("wlan0",), heard, silent)
    task = asyncio.create_task(source.run())
    await asyncio.sleep(0.05)
    addresses = [IPv6Address(CLIENT + number) for number in range(CLIENT_ADDRESSES)]
    used = time.process_time()
    user = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for _ in range(PROBE_ROUNDS):
        waiting.update(addresses)
        answered.clear()
        source.probe([Probe("wlan0", address, MAC, "benchmark") for address in addresses])
        async with asyncio.timeout(5):
            await answered.wait()
        put_neighbours([(address, MAC) for address in addresses], Nud.STALE)  # what follows in life after 15 to 45 s
        await asyncio.sleep(0.02)
    cycles = PROBE_ROUNDS * CLIENT_ADDRESSES
    ours = (resource.getrusage(resource.RUSAGE_SELF).ru_utime - user) / cycles * 1e6
    whole = (time.process_time() - used) / cycles * 1e6
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return ours, whole


def with_room_for(neighbours: int, measure: Callable[[], list[Figure]]) -> list[Figure]:
    """Raise the limits of the neighbour table, which count for the whole host, and restore them."""
    limits = [Path(f"/proc/sys/net/ipv6/neigh/default/gc_thresh{number}") for number in (1, 2, 3)]
    saved = [path.read_text() for path in limits]
    try:
        for path in reversed(limits):
            path.write_text(str(max(neighbours, int(path.read_text()))))
        return measure()
    finally:
        for path, text in zip(limits, saved, strict=True):
            path.write_text(text)


def build(sandbox: Sandbox) -> tuple[Namespace, Namespace]:
    """An access point with wlan0 and a client with many addresses."""
    ap, client = sandbox.namespace("ap"), sandbox.namespace("client")
    ap.ip(f"link add wlan0 type veth peer name eth0 address {MAC} netns {client.name}")
    client.sysctl({"net.ipv6.conf.eth0.accept_dad": 0})
    ap.ip("link set lo up", "addr add fe80::1/64 dev wlan0 nodad", "link set wlan0 up")
    client.ip("link set lo up", "link set eth0 up")
    client.ip(*(f"addr add {IPv6Address(CLIENT + number)}/64 dev eth0 nodad" for number in range(CLIENT_ADDRESSES)))
    return ap, client


def run() -> list[Figure]:
    """Measure in two namespaces joined by a veth pair."""
    return with_room_for(16384, measure)


def measure() -> list[Figure]:
    """All figures of this benchmark."""
    with Sandbox() as sandbox:
        ap, _client = build(sandbox)
        with ap.entered():
            own_us, whole_us = asyncio.run(probe_cycles())
            ap.ip("neigh flush dev wlan0")
            latencies = asyncio.run(event_to_route())
            put_neighbours([(IPv6Address(BASE + number), mac_of(number)) for number in range(NEIGHBOURS)], Nud.STALE)
            starts = [asyncio.run(start_with_many()) for _ in range(5)]
            paced = [asyncio.run(start_with_many(FibNeeds(parks=True))) for _ in range(3)]
            routes = [HostRoute(IPv6Address(BASE + number), "wlan0") for number in range(NEIGHBOURS)]
            fib = kernel_fib()
            began = time.perf_counter()
            fib.apply_all(routes)
            each_us = (time.perf_counter() - began) / NEIGHBOURS * 1e6
            fib.clear()
            asyncio.run(fib.close())
    started = [took for took, _engine in starts]
    without_engine = [took - engine for took, engine in starts]
    return [
        Figure(
            "neighbour event to installed route, median",
            statistics.median(latencies),
            "ms",
            bar=2.0,
            note="seen from another process",
            samples=tuple(latencies),
        ),
        Figure("neighbour event to installed route, 99th percentile", statistics.quantiles(latencies, n=100)[98], "ms"),
        Figure(
            f"{NEIGHBOURS} neighbours at start, all routes installed, median",
            statistics.median(started),
            "s",
            bar=1.0,
            samples=tuple(started),
        ),
        Figure("the same without the engine's part", statistics.median(without_engine), "s", bar=0.4),
        Figure(
            "the same, paced for a routing daemon that listens",
            statistics.median(took for took, _engine in paced),
            "s",
            bar=1.0,
            note="200 messages in 10 ms",
        ),
        Figure("one route of a batch", each_us, "µs", note="pyroute2 0.9.7: 315 to 470"),
        Figure(
            "one probe with its three events, our own code", own_us, "µs", bar=100.0, note="user time, 64 in a batch"
        ),
        Figure(
            "one probe with its three events, with the kernel's share", whole_us, "µs", note="the veth client included"
        ),
    ]
