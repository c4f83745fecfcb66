"""Thousands of stations, most of them asleep, on the client link of an access point: real kernel, real roamroute.

One thread plays them all: it answers neighbour solicitations and ARP requests as stations in power save do, late (when
they wake for their listen interval) or, now and then, not in this round; the dead never. Nobody sends anything else, so
an address is known to live by its answers only. hostapd is a small stand-in that has all of them associated.

Times are scaled: with `scale` 10 the kernel's and roamroute's times are a tenth, and the budget is ten times as large,
so that six minutes are an hour. gc_thresh* are the whole machine's: `table_limits` sets and restores them.
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import os
import random
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import attrs
from small_hostapd import SmallHostapd

from roamroute import control
from roamroute.lab.namespaces import Process, Sandbox
from roamroute.lab.waiting import wait_until
from roamroute.values import Address

ETH_P_ALL, ETH_P_IPV6, ETH_P_ARP = 0x0003, b"\x86\xdd", b"\x08\x06"
OUTGOING = 4  # PACKET_OUTGOING, linux/if_packet.h
PREFIX6, PREFIX4 = int(IPv6Address("fd44:0:0:1::")), int(IPv4Address("10.44.0.0"))
LISTEN_S = 1.02  # a listen interval of 10 beacons: so late a station in power save answers at the latest
ROUND_S = 3.07  # the kernel's three unicast solicitations, until it gives up
SKIP_PAUSE_S = 60.0  # who has missed a round is awake for so long at least


@attrs.define(eq=False)
class Sleeper:
    """A station. Times are the monotonic clock's."""

    number: int
    is_sleepy: bool
    wakes_at: float = 0.0
    deaf_until: float = 0.0
    may_skip_at: float = 0.0
    died_at: float | None = None

    @property
    def mac(self) -> bytes:
        return b"\x02\x00\x00\x00" + struct.pack("!H", self.number)


def address_of(number: int, index: int, version: int) -> Address:
    """The address `index` (from 0) of station `number`."""
    if version == 6:
        return IPv6Address(PREFIX6 | number << 16 | index + 1)
    return IPv4Address(PREFIX4 + 0x100 + number * 8 + index)


def number_of(address: bytes) -> int:
    """The station that has the address."""
    if len(address) == 16:
        return int.from_bytes(address[12:14], "big")
    return (int.from_bytes(address, "big") - PREFIX4 - 0x100) // 8


class Stations:
    """All of them, in a thread."""

    def __init__(self, count: int, awake: int, scale: float, skip_chance: float) -> None:
        self.sleepers = {number: Sleeper(number, number > awake) for number in range(1, count + 1)}
        self.solicitations = 0
        self.rounds: list[float] = []
        """When each round of the kernel began: the first solicitation of an address after the end of the one before."""
        self._scale, self._skip_chance = scale, skip_chance
        self._chance = random.Random(44)
        self._open_rounds: dict[bytes, float] = {}
        self._answers: list[tuple[float, int, bytes, bytes]] = []
        self._numbers = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = os.pipe()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._wire: socket.socket | None = None
        self._hostapd: SmallHostapd | None = None
        self._thread = threading.Thread(target=self._serve, name="stations", daemon=True)

    def start(self, wire: socket.socket, hostapd: SmallHostapd | None) -> None:
        self._wire, self._hostapd = wire, hostapd
        self._selector.register(wire, selectors.EVENT_READ, self._readable)
        if hostapd is not None:
            self._selector.register(hostapd.socket, selectors.EVENT_READ, hostapd.serve)
        self._thread.start()

    def close(self) -> None:
        os.write(self._wake, b"x")
        self._thread.join(5)
        for key in tuple(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        os.close(self._wake)
        os.close(self._woken)

    def kill(self, number: int) -> None:
        """The station is gone, without a word; hostapd has not noticed."""
        self.sleepers[number].died_at = time.monotonic()

    def is_living(self, address: Address) -> bool:
        return self.sleepers[number_of(address.packed)].died_at is None

    def per_second(self, since: float) -> list[int]:
        """How many rounds began in each whole second from `since` on."""
        counted = collections.Counter(int(began - since) for began in list(self.rounds) if began >= since)
        return [counted[second] for second in range(int(time.monotonic() - since))]

    def _serve(self) -> None:
        while True:
            rest = self._answers[0][0] - time.monotonic() if self._answers else None
            for key, _ in self._selector.select(None if rest is None else max(rest, 0.0)):
                if key.fileobj == self._woken:
                    return
                key.data()
            now = time.monotonic()
            while self._answers and self._answers[0][0] <= now:
                _, _, target, frame = heapq.heappop(self._answers)
                self._open_rounds.pop(target, None)
                assert self._wire is not None
                with contextlib.suppress(OSError):
                    self._wire.send(frame)

    def _readable(self) -> None:
        assert self._wire is not None
        for _ in range(64):
            try:
                frame, where = self._wire.recvfrom(2048)
            except OSError:  # nothing more, or the link is down
                return
            asked = None if where[2] == OUTGOING else _question(frame)
            if asked is not None:
                self._asked(frame, asked, time.monotonic())

    def _asked(self, frame: bytes, target: bytes, now: float) -> None:
        station = self.sleepers.get(number_of(target))
        self.solicitations += 1
        if now - self._open_rounds.get(target, float("-inf")) > (ROUND_S - 0.05) / self._scale:
            self._open_rounds[target] = now
            self.rounds.append(now)
        if station is None or station.died_at is not None or now < station.deaf_until:
            return
        due = now
        if station.is_sleepy:
            if now >= station.may_skip_at and self._chance.random() < self._skip_chance:
                station.deaf_until = now + ROUND_S / self._scale
                station.may_skip_at = station.deaf_until + SKIP_PAUSE_S / self._scale
                return
            if station.wakes_at < now:
                station.wakes_at = now + self._chance.random() * LISTEN_S / self._scale
            due = station.wakes_at
        answer = _advertisement(frame, target, station.mac) if len(target) == 16 else _reply(frame, target, station.mac)
        heapq.heappush(self._answers, (due, next(self._numbers), target, answer))


def _question(frame: bytes) -> bytes | None:
    """The address that a neighbour solicitation or an ARP request asks for."""
    if frame[12:14] == ETH_P_IPV6 and len(frame) >= 78 and frame[20] == 58 and frame[54] == 135:
        return frame[62:78]
    if frame[12:14] == ETH_P_ARP and len(frame) >= 42 and frame[20:22] == b"\x00\x01":
        return frame[38:42]
    return None


def _advertisement(frame: bytes, target: bytes, mac: bytes) -> bytes:
    """RFC 4861 §7.2.4: solicited, override."""
    router, source = frame[6:12], frame[22:38]
    body = struct.pack("!BBHI", 136, 0, 0, 0x60000000) + target + b"\x02\x01" + mac
    total = sum(struct.unpack("!36H", target + source + struct.pack("!II", len(body), 58) + body))
    total = (total >> 16) + (total & 0xFFFF)
    body = body[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + body[4:]
    return router + mac + ETH_P_IPV6 + struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + target + source + body


def _reply(frame: bytes, target: bytes, mac: bytes) -> bytes:
    router, source = frame[6:12], frame[28:32]
    return router + mac + ETH_P_ARP + b"\x00\x01\x08\x00\x06\x04\x00\x02" + mac + target + router + source


@contextlib.contextmanager
def table_limits(keep: int, soft_limit: int, hard_limit: int) -> Iterator[None]:
    """Set gc_thresh1, 2 and 3 of both tables, of the whole machine, and restore them. In the initial namespace only."""
    wanted = {3: hard_limit, 2: soft_limit, 1: keep}
    files = {
        Path(f"/proc/sys/net/{family}/neigh/default/gc_thresh{which}"): str(value)
        for family in ("ipv6", "ipv4")
        for which, value in wanted.items()
    }
    before = {file: file.read_text() for file in files}
    try:
        for file, text in files.items():
            file.write_text(text)
        yield
    finally:
        for file, text in before.items():
            file.write_text(text)


class SleepingWorld:
    """An access point with `count` stations of `each` addresses, all of them in its neighbour table; `awake` answer at
    once. Use `start`, then look. Closed with the sandbox.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        count: int,
        each: int,
        awake: int,
        scale: float,
        versions: tuple[int, ...] = (6,),
        skip_chance: float = 0.02,
        policy: dict[str, float] | None = None,
    ) -> None:
        self.scale = scale
        self.each = each * len(versions)
        self.stations = Stations(count, awake, scale, skip_chance)
        self.addresses = [
            address_of(number, index, version)
            for number in self.stations.sleepers
            for version in versions
            for index in range(each)
        ]
        self.access_point, self.air = sandbox.namespaces(["ap", "air"])
        self.directory = sandbox.subdirectory("roamroute")
        self.log = self.directory / "log"
        self.sandbox = sandbox
        self.policy = {
            "stale_probe_after_s": 45.0 / scale,
            "probes_per_second": 100.0 * scale,
            "probe_burst": 50.0,
            "sleep_pause_s": 1.0 / scale,
            "trial_s": max(4.0 / scale, 1.0),
            **(policy or {}),
        }
        self.process: Process | None = None
        self._connect()

    def _connect(self) -> None:
        ap, air = self.access_point, self.air
        ap.ip(f"link add wlan0 type veth peer name air netns {air.name}")
        air.ip("link set dev air up")
        ap.ip("addr add fe80::1/64 dev wlan0 nodad", "addr add 10.44.0.1/32 dev wlan0", "link set wlan0 up")
        for version in (4, 6):
            ap.sysctl(
                {
                    f"net.ipv{version}.neigh.wlan0.base_reachable_time_ms": round(30_000 / self.scale),
                    f"net.ipv{version}.neigh.wlan0.retrans_time_ms": round(1000 / self.scale),
                    # A solicitation counts as use: what is not REACHABLE longer than this goes to DELAY, not to STALE.
                    f"net.ipv{version}.neigh.wlan0.delay_first_probe_time": 5 // round(self.scale),
                }
            )
        wire = air.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        with air.entered():
            index = socket.if_nametoindex("air")
            wire.bind(("air", ETH_P_ALL))
        wire.setsockopt(263, 1, struct.pack("IHH8s", index, 1, 0, b""))  # PACKET_MR_PROMISC: for all of their MACs
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        wire.setblocking(False)
        hostapd = SmallHostapd(ap, self.directory / "hostapd" / "wlan0", lambda: map(_mac_text, self._associated()))
        self.stations.start(wire, hostapd)
        self.sandbox.on_close(self.stations.close)

    def _associated(self) -> list[Sleeper]:
        return list(self.stations.sleepers.values())

    def fill(self) -> None:
        """Put every address into the neighbour table, STALE, as a busy evening leaves it."""
        lines = [
            f"neigh replace {address} lladdr {_mac_text(self.stations.sleepers[number_of(address.packed)])} "
            "dev wlan0 nud stale"
            for address in self.addresses
        ]
        for begin in range(0, len(lines), 1000):
            self.access_point.ip(*lines[begin : begin + 1000])

    def start(self) -> None:
        """Start roamroute, and wait until every address has its route."""
        numbers = "".join(
            f"{name} = {round(value) if name == 'probe_burst' else value}\n" for name, value in self.policy.items()
        )
        self.configuration = self.directory / "roamroute.toml"
        self.configuration.write_text(
            '[roaming]\ninterfaces = ["wlan0"]\nprefixes = ["fd44:0:0:1::/64", "10.44.0.0/16"]\nexporter = "kernel"\n'
            f'[stations]\nhostapd_dir = "{self.directory}/hostapd"\n'
            f'[control]\nsocket = "{self.socket}"\n[policy]\n{numbers}'
            f"[neighbours]\nstations = {len(self.stations.sleepers)}\naddresses_per_station = {self.each}\n"
        )
        self.process = self.access_point.start(
            sys.executable, "-m", "roamroute", "run", "-c", str(self.configuration), log=self.log
        )
        wait_until(lambda: len(self.routes()) == len(self.addresses), "every address has its route", limit_s=60)
        wait_until(self.socket.exists, "the control socket is there", limit_s=20)

    @property
    def socket(self) -> Path:
        return self.directory / "control.sock"

    def status(self) -> dict[str, object]:
        return control.ask(self.socket, "status")

    def routes(self) -> set[Address]:
        """The host routes in the access point's FIB."""
        found: set[Address] = set()
        for option, kind in (("-6", IPv6Address), ("-4", IPv4Address)):
            lines = self.access_point.run("ip", option, "route", "show", "proto", "144").splitlines()
            found |= {kind(line.split()[0].removesuffix("/32").removesuffix("/128")) for line in lines}
        return found

    def withdrawn(self) -> list[str]:
        """The addresses that roamroute has withdrawn since its start, by its log; with repetitions."""
        return [
            word.removeprefix("route=").partition("/")[0]
            for line in self.log.read_text().splitlines()
            if "withdraw route=" in line
            for word in line.split()
            if word.startswith("route=")
        ]

    def lines(self, text: str) -> list[str]:
        """The lines of the log with this text."""
        return [line for line in self.log.read_text().splitlines() if text in line]


def _mac_text(station: Sleeper) -> str:
    return station.mac.hex(":")
