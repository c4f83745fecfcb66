"""What sending on costs: the hot path of a handover in the kernel's tables, thousands of forwards, and each packet."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_network

from benchmarks.figure import Figure
from roamroute.delta import Delta
from roamroute.effects import EndForward, Forward
from roamroute.export import KernelNumbers
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.linux.forwarding import Forwarding
from roamroute.linux.gateway import GatewayAdvertiser
from roamroute.segments import segments_of
from roamroute.values import HostRoute, Mac

PREFIX = ip_network("fd44:0:0:1::/64")
HOST = IPv6Address("fd44:0:0:1::1000")
MANY = IPv6Address("fd44:0:0:1:1::")
ME, PEER = IPv6Address("fd44:a::1"), IPv6Address("fd44:a::2")
SERVER, STATION = IPv6Address("fd44:9::1"), IPv6Address("fd44:0:0:1::77")
ADDRESSES = 8
ROAMS = 300
FORWARDS = 8192
PACKETS = 500
BURSTS = 50
TURNS = 6


def silent(_level: str, _line: str) -> None:
    """A log for nobody."""


def forwarding() -> Forwarding:
    """An access point's, with one peer."""
    return Forwarding(
        *((PREFIX,), ("wlan0",), ME, segments_of(ME, (PREFIX,))),
        tables=4544,
        rule_priority=4544,
        numbers=KernelNumbers(),
        emit=lambda _event: None,
        log=silent,
    )


def effects_to(host: IPv6Address, count: int) -> list[Forward | EndForward]:
    """Send `count` addresses on to the peer."""
    segment = segments_of(PEER, (PREFIX,)).ipv6
    return [Forward(host + number, segment, PEER, "benchmark") for number in range(count)] if segment else []


def timed_us(do: Callable[[], None]) -> float:
    """Microseconds of one call."""
    began = time.perf_counter()
    do()
    return (time.perf_counter() - began) * 1e6


async def hot_path() -> dict[str, list[float]]:
    """The steps of a roam of a host with `ADDRESSES` addresses, in the loop, microseconds each."""
    times: dict[str, list[float]] = {"forward": [], "end": [], "deliver": [], "gateway": []}
    made = forwarding()
    made.open()
    made.set_peers(frozenset({PEER}))
    gateway = GatewayAdvertiser(silent)
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0.05)
    for number in range(ROAMS):
        begun = effects_to(HOST + number * ADDRESSES, ADDRESSES)
        ended: list[Forward | EndForward] = [EndForward(each.address, "benchmark") for each in begun]
        routes = tuple(HostRoute(each.address, "wlan0") for each in begun)
        times["forward"].append(timed_us(lambda begun=begun: made.forward(begun)))  # type: ignore[misc]
        await asyncio.sleep(0.001)
        times["end"].append(timed_us(lambda ended=ended: made.forward(ended)))  # type: ignore[misc]
        times["deliver"].append(timed_us(lambda routes=routes: made.deliver(Delta(announced=routes))))  # type: ignore[misc]
        times["gateway"].append(timed_us(lambda: gateway.advertise("wlan0", Mac("02:00:00:00:00:09"))))
        await asyncio.sleep(0.002)
        made.deliver(Delta(withdrawn=routes))
    gateway.close()
    await stop(made, running)
    return times


async def many() -> tuple[float, float]:
    """Seconds for `FORWARDS` forwards: of the call, and until all are in the kernel."""
    made = forwarding()
    made.open()
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0.05)
    wanted = effects_to(MANY, FORWARDS)
    began = time.perf_counter()
    made.forward(wanted)
    called = time.perf_counter() - began
    while len(made.status().forwards) < FORWARDS:
        await asyncio.sleep(0.01)
        if time.perf_counter() - began > 20:
            raise RuntimeError(f"{FORWARDS} forwards are not there after 20 s")
    took = time.perf_counter() - began
    await stop(made, running)
    return called, took


async def stop(made: Forwarding, running: asyncio.Task[None]) -> None:
    """End everything."""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    made.clear()
    await made.close()


def packet_ns(sender: socket.socket) -> float:
    """Nanoseconds that a packet takes from the sender through the access point to the station: the best of many."""
    payload = bytes(100)
    best = float("inf")
    for _ in range(BURSTS):
        began = time.perf_counter()
        for _packet in range(PACKETS):
            sender.send(payload)
        best = min(best, (time.perf_counter() - began) / PACKETS * 1e9)
    return best


async def packets(server: Namespace) -> dict[str, float]:
    """What a packet to a station that is here takes: without forwarding, with it, and while another is sent on.

    In turns, and the best of each: what else runs here disturbs all three alike.
    """
    with server.entered():
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sender.connect((str(STATION), 9))
    packet_ns(sender)
    found: dict[str, list[float]] = {"plain": [], "rules": [], "watched": []}
    for _ in range(TURNS):
        found["plain"].append(packet_ns(sender))
        made = forwarding()
        made.open()
        found["rules"].append(packet_ns(sender))
        running = asyncio.create_task(made.run())
        await asyncio.sleep(0.02)
        made.forward(effects_to(HOST, 1))
        await asyncio.sleep(0.02)
        found["watched"].append(packet_ns(sender))
        await stop(made, running)
    sender.close()
    return {what: min(each) for what, each in found.items()}


def build(sandbox: Sandbox) -> tuple[Namespace, Namespace]:
    """A server, an access point between, and a station that drops what it gets before it answers."""
    server, ap, station = sandbox.namespace("server"), sandbox.namespace("ap"), sandbox.namespace("station")
    ap.sysctl({"net.ipv6.conf.all.forwarding": 1})
    server.ip(f"link add to_ap type veth peer name up0 netns {ap.name}")
    ap.ip(f"link add wlan0 type veth peer name eth0 netns {station.name}")
    server.ip("link set lo up", "link set to_ap up", "addr add fe80::2/64 dev to_ap nodad", f"addr add {SERVER} dev lo")
    server.ip(f"route add {PREFIX} via fe80::3 dev to_ap")
    ap.ip("link set lo up", "link set up0 up", "link set wlan0 up", f"addr add {ME} dev lo")
    ap.ip("addr add fe80::3/64 dev up0 nodad", "addr add fe80::1/64 dev wlan0 nodad", "addr add 10.44.0.1/32 dev wlan0")
    ap.ip(f"route add {STATION} dev wlan0 metric 8", "route add default via fe80::2 dev up0")
    station.ip("link set lo up", "link set eth0 up", f"addr add {STATION}/128 dev eth0 nodad")
    station.ip("route add blackhole default")
    return server, ap


def run() -> list[Figure]:
    """Measure in three namespaces in a row."""
    with Sandbox() as sandbox:
        server, ap = build(sandbox)
        with ap.entered():
            times = asyncio.run(hot_path())
            called_s, took_s = asyncio.run(many())
            each = asyncio.run(packets(server))
    names = {
        "forward": f"{ADDRESSES} addresses sent on, median",
        "end": f"{ADDRESSES} addresses not sent on any more, median",
        "deliver": f"{ADDRESSES} addresses taken for, median",
        "gateway": "a station told its gateway, median",
    }
    figures = [
        Figure(name, statistics.median(times[what]), "µs", samples=tuple(times[what])) for what, name in names.items()
    ]
    return [
        *figures,
        Figure(f"{FORWARDS} forwards, the call", called_s, "s", bar=1.0),
        Figure(
            f"{FORWARDS} forwards, all there", took_s, "s", bar=5.0, note="the kernel may be short of memory at first"
        ),
        Figure("a packet through an access point without forwarding", each["plain"], "ns", note="the sender included"),
        Figure("more with the rules", each["rules"] - each["plain"], "ns", bar=500.0),
        Figure("more while something is sent on", each["watched"] - each["plain"], "ns", bar=1000.0),
    ]
