"""From hostapd's AP-STA-CONNECTED to the router advertisement on the air, with peers and the DAD proxy on.

The clock runs from just before the event is written to hostapd's control socket until the kernel takes the frame in at
the other end of the client link (SO_TIMESTAMPNS). What lies between: the claim, the routes of a station that is known,
the gateway's neighbour advertisement, and Python waking up.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from small_hostapd import Serving, SmallHostapd

from benchmarks.bench_daemon import CONFIG, ask, start_daemon
from benchmarks.figure import Figure
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.lab.waiting import wait_until

STATIONS = 200
APART_S = 0.02
TOGETHER = 100
LIMIT_S = 2.0
ETH_P_IPV6 = 0x86DD
OUTGOING = 4  # PACKET_OUTGOING, linux/if_packet.h
SO_TIMESTAMPNS = 35  # asm-generic/socket.h
ROUTER_ADVERTISEMENT = 134


def run() -> list[Figure]:
    """Stations that connect one after the other, then many at once."""
    with contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox())
        ap, other, air = sandbox.namespaces(["ap1", "ap2", "air"])
        _link(ap, other, air)
        directory = sandbox.subdirectory("bench")
        key = directory / "peers.key"
        key.write_text("5a" * 32)
        key.chmod(0o600)
        serving = Serving()
        stack.callback(serving.close)
        hostapd = SmallHostapd(ap, directory / "hostapd" / "wlan0")
        serving.add(hostapd.socket, hostapd.serve)
        wire = stack.enter_context(_wire(air))
        for namespace, name, address, peer in ((ap, "ap1", 1, 2), (other, "ap2", 2, 1)):
            process = start_daemon(namespace, directory, name, _configuration(directory, name, address, peer))
            stack.callback(process.wait)
            stack.callback(process.terminate)
        wait_until(lambda: _has_peer(directory), "the access points have a session", limit_s=30)
        wait_until(lambda: bool(select.select([wire], [], [], 0)[0]), "the first advertisement to all", limit_s=30)
        return _measure(hostapd, wire)


def _configuration(directory: Path, name: str, address: int, peer: int) -> str:
    text = CONFIG.replace("{directory}", str(directory)).replace("{name}", name)
    text = text.replace("fd44:0:0:a::1", "OURS").replace("fd44:0:0:a::2", f"fd44:0:0:a::{peer}")
    text = text.replace("OURS", f"fd44:0:0:a::{address}")
    if name == "ap1":
        text = text.replace('source = "none"', f'hostapd_dir = "{directory}/hostapd"')
    return text


def _link(ap: Namespace, other: Namespace, air: Namespace) -> None:
    ap.ip(
        f"link add wlan0 type veth peer name a netns {air.name}",
        f"link add name m type veth peer name m netns {other.name}",
    )
    other.ip("link add wlan0 type bridge")
    for namespace, number in ((ap, 1), (other, 2)):
        namespace.sysctl({"net.ipv6.conf.all.forwarding": 1, "net.ipv6.conf.default.accept_dad": 0})
        namespace.ip(
            "link set lo up",
            "link set wlan0 up",
            "link set dev m up",
            f"address add fd44:0:0:a::{number}/64 dev m nodad",
            "address add fe80::1/64 dev wlan0 nodad",
        )
    air.ip("link set dev a up")


@contextlib.contextmanager
def _wire(air: Namespace) -> Iterator[socket.socket]:
    wire = air.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IPV6))
    with air.entered():
        wire.bind(("a", ETH_P_IPV6))
        wire.setsockopt(263, 1, struct.pack("IHH8s", socket.if_nametoindex("a"), 1, 0, b""))  # promiscuous
    wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    try:
        yield wire
    finally:
        wire.close()


def _has_peer(directory: Path) -> bool:
    peers = ask(directory, "ap1").get("peers")
    return isinstance(peers, dict) and all(peer["is_up"] for peer in peers["peers"])


def _measure(hostapd: SmallHostapd, wire: socket.socket) -> list[Figure]:
    single: list[float] = []
    for number in range(STATIONS):
        began = {_mac(number): time.clock_gettime_ns(time.CLOCK_REALTIME)}
        hostapd.connect(_mac(number))
        single += _advertised(wire, began)
        time.sleep(APART_S)
    began = {}
    for number in range(STATIONS, STATIONS + TOGETHER):
        began[_mac(number)] = time.clock_gettime_ns(time.CLOCK_REALTIME)
        hostapd.connect(_mac(number))
    together = _advertised(wire, began)
    name = "AP-STA-CONNECTED to the router advertisement on the air"
    return [
        Figure(f"{name}, median", _at(single, 0.5), "ms", bar=5, samples=single),
        Figure(f"{name}, 95 %", _at(single, 0.95), "ms"),
        Figure(f"{name}, {TOGETHER} at once, median", _at(together, 0.5), "ms", samples=together),
        Figure(f"{name}, {TOGETHER} at once, last", max(together), "ms"),
    ]


def _advertised(wire: socket.socket, began: dict[str, int]) -> list[float]:
    """Milliseconds until each of these stations has been advertised to for the first time."""
    found: dict[str, float] = {}
    give_up_at = time.monotonic() + LIMIT_S
    while len(found) < len(began):
        if not select.select([wire], [], [], max(0.0, give_up_at - time.monotonic()))[0]:
            raise RuntimeError(f"{len(began) - len(found)} stations were not advertised to within {LIMIT_S:g} s")
        frame, ancillary, _, place = wire.recvmsg(2048, socket.CMSG_SPACE(16))
        if place[2] == OUTGOING or len(frame) < 55 or frame[54] != ROUTER_ADVERTISEMENT:
            continue
        seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2][:16])
        station = frame[:6].hex(":")
        if station in began:
            found.setdefault(station, (seconds * 10**9 + nanoseconds - began[station]) / 1e6)
    return list(found.values())


def _mac(number: int) -> str:
    return f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"


def _at(samples: list[float], share: float) -> float:
    return sorted(samples)[int(share * (len(samples) - 1))]
