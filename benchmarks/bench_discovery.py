"""Neighbour discovery on the wire: our codec beside scapy's, and the way from a frame to the daemon and back."""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network

from benchmarks.figure import Figure
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.linux.discovery import DiscoveryTap, Heard
from roamroute.linux.frame_sender import FrameSender
from roamroute.values import AdvertisedPrefix, AdvertisedRouter, DadKind, DadMessage, Mac
from roamroute.wire import discovery, ethernet, icmpv6
from roamroute.wire.router_advertisements import router_advertisement

STATION, AP = Mac("02:00:00:00:00:02"), Mac("02:00:5e:44:00:01")
TARGET = IPv6Address("fd44:0:0:1::99")
FRAMES = 400
REPEATED = 2000
BURST = 200
ROUTER = AdvertisedRouter(
    IPv6Address("fe80::1"),
    1800,
    (AdvertisedPrefix(IPv6Network("fd44:0:0:1::/64"), 86400, 14400),),
    rdnss=(IPv6Address("fd44::53"),),
    dnssl=("example.org",),
    rdnss_lifetime_s=5400,
    pref64=IPv6Network("64:ff9b::/96"),
    pref64_lifetime_s=5400,
)
RESIDENT = """
import time
import asyncio, attrs, ipaddress
def resident():
    return int(open("/proc/self/statm").read().split()[1]) / 256
before, began = resident(), time.perf_counter()
"""
SCAPY = (
    RESIDENT
    + """
import sys
from scapy.layers.inet6 import *
from scapy.layers.l2 import ARP, Ether
loaded, memory = time.perf_counter() - began, resident() - before
asked, told = bytes.fromhex(sys.argv[1]), bytes.fromhex(sys.argv[2])
def us(call):
    times = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(100):
            call()
        times.append((time.perf_counter() - began) * 1e4)
    return sorted(times)[2]
def read_ns():
    packet = Ether(asked)
    return packet.src, packet[IPv6].src, packet[ICMPv6ND_NS].tgt, packet[ICMPv6NDOptUnknown].data
def read_ra():
    packet = Ether(told)
    return packet.src, packet[ICMPv6ND_RA].routerlifetime, packet[ICMPv6NDOptPrefixInfo].prefix
def build_ns():
    return bytes(
        Ether(src="02:00:00:00:00:02", dst="33:33:ff:00:00:99") / IPv6(src="::", dst="ff02::1:ff00:99")
        / ICMPv6ND_NS(tgt="fd44:0:0:1::99") / ICMPv6NDOptUnknown(type=14, data=b"nonce!")
    )
def build_ra():
    return bytes(
        Ether(src="02:00:5e:44:00:01", dst="33:33:00:00:00:01") / IPv6(src="fe80::1", dst="ff02::1")
        / ICMPv6ND_RA(routerlifetime=1800) / ICMPv6NDOptSrcLLAddr(lladdr="02:00:5e:44:00:01")
        / ICMPv6NDOptPrefixInfo(prefixlen=64, L=0, prefix="fd44:0:0:1::", validlifetime=86400, preferredlifetime=14400)
        / ICMPv6NDOptRDNSS(dns=["fd44::53"], lifetime=5400)
        / ICMPv6NDOptDNSSL(searchlist=["example.org"], lifetime=5400)
        / ICMPv6NDOptPREF64(scaledlifetime=675, plc=0, prefix="64:ff9b::")
    )
print(loaded * 1000, memory, us(read_ns), us(build_ns), us(read_ra), us(build_ra))
"""
)
OURS = (
    RESIDENT
    + """
import roamroute.wire.discovery
print((time.perf_counter() - began) * 1000, resident() - before)
"""
)


def asked(nonce: bytes = b"nonce!") -> bytes:
    """A host's solicitation."""
    group = icmpv6.solicited_node(TARGET.packed)
    message = bytes([icmpv6.NEIGHBOUR_SOLICITATION, *bytes(7)]) + TARGET.packed + icmpv6.option(14, nonce)
    ends = ethernet.group_of(group), ethernet.octets(STATION)
    return icmpv6.compose(*ends, icmpv6.UNSPECIFIED, group, message)


def microseconds(call: Callable[[], object]) -> float:
    """The median of five rounds."""
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(REPEATED):
            call()
        rounds.append((time.perf_counter() - began) / REPEATED * 1e6)
    return statistics.median(rounds)


def numbers_of(program: str, *arguments: str) -> list[float]:
    """What a fresh interpreter prints, the median of five runs of it."""
    command = [sys.executable, "-c", program, *arguments]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(5)]
    return [statistics.median(map(float, column)) for column in zip(*runs, strict=True)]


def station(pipe: multiprocessing.connection.Connection) -> None:
    """Another process on the client's side: solicits, with the time in the nonce, now and then; then in a burst."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind(("eth0", 0))
        time.sleep(0.2)  # the tap opens
        chance = random.Random(1)
        for _ in range(FRAMES):
            time.sleep(chance.uniform(0.001, 0.01))
            wire.send(asked(time.monotonic_ns().to_bytes(14, "big")))
        time.sleep(0.2)
        for _ in range(BURST):
            wire.send(asked(time.monotonic_ns().to_bytes(14, "big")))
    pipe.send(None)


async def frame_to_callback(ap: Namespace, client: Namespace) -> tuple[list[float], list[float]]:
    """Milliseconds from just before a station's frame is built until the daemon is told: one by one, and in a burst."""
    times: list[float] = []

    def heard(_link: str, message: Heard) -> None:
        if isinstance(message, DadMessage) and message.target == TARGET:
            times.append((time.monotonic_ns() - int.from_bytes(message.nonce, "big")) / 1e6)

    tap = DiscoveryTap(("wlan0",), heard, lambda _level, _line: None, station_frames_per_second=10**6)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=station, args=(there,))
    with client.entered():
        process.start()
    with ap.entered():
        task = asyncio.create_task(tap.run())
        try:
            await asyncio.to_thread(here.recv)
            await asyncio.sleep(0.3)
        finally:
            process.join(5)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    if len(times) != FRAMES + BURST:
        raise RuntimeError(f"{len(times)} of {FRAMES + BURST} frames were heard")
    return times[:FRAMES], times[FRAMES:]


def handing_out(ap: Namespace) -> float:
    """Microseconds to build and send one solicitation, in a row of two hundred to as many stations."""
    message = DadMessage(DadKind.SOLICITATION, TARGET, STATION, b"nonce!")
    stations = [Mac(f"02:00:00:00:01:{number:02x}") for number in range(BURST)]
    rounds = []
    with ap.entered():
        sender = FrameSender(lambda _level, _line: None)
        for _ in range(6):
            began = time.perf_counter()
            mac = sender.mac_of("wlan0")
            assert mac is not None
            for frame in discovery.handed_out(mac, message, stations):
                sender.send("wlan0", frame)
            rounds.append((time.perf_counter() - began) / BURST * 1e6)
        sender.close()
    return statistics.median(rounds[1:])


def run() -> list[Figure]:
    """Codec in this process, scapy in one of its own, the way of a frame in two namespaces."""
    solicited, advertised = asked(), router_advertisement(AP, None, ROUTER)
    message = DadMessage(DadKind.SOLICITATION, TARGET, STATION, b"nonce!")
    ours = [
        microseconds(lambda: discovery.parse(solicited)),
        microseconds(lambda: discovery.solicitation(AP, message, None)),
        microseconds(lambda: discovery.parse(advertised)),
        microseconds(lambda: router_advertisement(AP, None, ROUTER)),
    ]
    loaded_ms, memory, *scapy = numbers_of(SCAPY, solicited.hex(), advertised.hex())
    our_load_ms, our_memory = numbers_of(OURS)
    with Sandbox() as sandbox:
        ap, client = sandbox.namespace("ap"), sandbox.namespace("client")
        ap.ip(f"link add wlan0 type veth peer name eth0 address {STATION} netns {client.name}", "link set wlan0 up")
        client.ip("link set eth0 up")
        single, burst = asyncio.run(frame_to_callback(ap, client))
        sending_us = handing_out(ap)
    names = [
        "DAD solicitation read",
        "DAD solicitation built",
        "router advertisement read",
        "router advertisement built",
    ]
    return [
        *(
            Figure(name, own, "µs", bar=100.0, note=f"scapy: {theirs:.0f}")
            for name, own, theirs in zip(names, ours, scapy, strict=True)
        ),
        Figure("codec imported", our_load_ms, "ms", bar=50.0, note=f"scapy: {loaded_ms:.0f}"),
        Figure("codec in memory", our_memory, "MiB", bar=3.0, note=f"scapy: {memory:.0f}"),
        Figure("station's frame to the daemon told, median", statistics.median(single), "ms", bar=1.0, samples=single),
        Figure("station's frame to the daemon told, 99th percentile", statistics.quantiles(single, n=100)[98], "ms"),
        Figure(f"the same, {BURST} frames at once, median", statistics.median(burst), "ms", bar=20.0, samples=burst),
        Figure("the same, the last", max(burst), "ms"),
        Figure("solicitation built and sent to one of 200 stations", sending_us, "µs", bar=100.0),
    ]
