"""Sends probes, receives them, and listens to hostapd and wpa_supplicant: everything that is timed, by one clock.

Arrivals carry the kernel's stamps (SO_TIMESTAMPNS), also those of the daemons' lines: when hostapd sent a line to
whoever is attached, not when this program came to read it. So nothing needs to be read at once, and what is measured
keeps the processor: a system call is dear under user-mode Linux (10 µs and more).
"""

from __future__ import annotations

import os
import random
import selectors
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from namespaces import ControlSocket, Namespace

PORT = 4000
READ_EVERY_S = 0.02
Arrival = tuple[float, int, float]
"""Of a probe: when it arrived, its number, when it was sent."""
PROBE = struct.Struct("!Id")  # number, time of sending
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; a struct timespec by the wall clock comes with each datagram
_SO_RCVBUFFORCE = 33
_TIMESPEC = struct.Struct("@qq")


def stamped(end: socket.socket) -> None:
    """Let the kernel say when each datagram reached `end`."""
    end.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def take(end: socket.socket) -> tuple[bytes, float, Any]:
    """The next datagram, when it arrived by the monotonic clock, and from where. Raises: OSError as `recvmsg`."""
    data, ancillary, _, origin = end.recvmsg(65536, 64)
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack(value)
            return data, seconds + nanoseconds / 1e9 - WALL_CLOCK_OFFSET, origin
    return data, time.monotonic(), origin


WALL_CLOCK_OFFSET = time.time() - time.monotonic()  # nothing sets the lab's clock


@dataclass
class Saying:
    """One line that hostapd or wpa_supplicant said, when it reached an attached program."""

    at: float
    who: str
    text: str


@dataclass
class Recorder:
    """In a thread of its own, which goes before everything else that runs: late probes would look like a gap."""

    sayings: list[Saying] = field(default_factory=list)
    downlink: list[Arrival] = field(default_factory=list)
    uplink: list[Arrival] = field(default_factory=list)
    sendings: list[tuple[int, float]] = field(default_factory=list)
    """Number and moment of each pair of probes."""
    sent: int = 0

    def __post_init__(self) -> None:
        self._selector = selectors.SelectSelector()  # epoll knows whole milliseconds only
        self._patient: list[Callable[[], None]] = []
        self._senders: list[tuple[socket.socket, str]] = []
        self._interval_s = 0.01
        self._choice = random.Random(2)
        self._controls: list[ControlSocket] = []

    def listen(self, who: str, control: ControlSocket) -> None:
        stamped(control.socket)
        assert control.request("ATTACH") == "OK"
        self._controls.append(control)
        control.socket.setblocking(False)
        self._patient.append(lambda: self._hear(who, control.socket))

    def listen_first(self) -> None:
        """Hear what the daemons say before everybody who is attached: they tell who came last first, and whom they tell
        may run, and act, before they tell the next. Before `start`."""
        for control in self._controls:
            control.socket.settimeout(5)
            assert control.request("DETACH") == "OK"
            assert control.request("ATTACH") == "OK"
            control.socket.setblocking(False)

    def watch(self, end: socket.socket, handle: Callable[[], None], *, is_stamped: bool) -> None:
        """Call `handle` in this thread when `end` may have something to read, once a while or, without stamps, at once.

        It reads all there is. Before `start`.
        """
        if is_stamped:
            end.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 20)
            self._patient.append(handle)
        else:
            self._selector.register(end, selectors.EVENT_READ, handle)

    def probe(
        self,
        gateway: tuple[Namespace, str],
        client: tuple[Namespace, str],
        *,
        has_uplink: bool = True,
        per_second: int = 100,
    ) -> None:
        """Probes from `gateway` (namespace and address) to `client` and back, `per_second` in each direction."""
        ends = []
        for space, address in (gateway, client):
            with space.entered():
                ends.append(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            ends[-1].bind((address, PORT))
            ends[-1].setblocking(False)
            stamped(ends[-1])
        near, far = ends
        self.watch(near, lambda: self._take(near, self.uplink), is_stamped=True)
        self.watch(far, lambda: self._take(far, self.downlink), is_stamped=True)
        self._senders.append((near, client[1]))
        if has_uplink:
            self._senders.append((far, gateway[1]))
        self.set_rate(per_second)

    def set_rate(self, per_second: int) -> None:
        """Probes in each direction, from the next one on."""
        self._interval_s = 1 / per_second

    def start(self) -> None:
        sys.setswitchinterval(0.0005)
        threading.Thread(target=self._run, daemon=True).start()

    def forget(self) -> None:
        """Drop the probes so far: a thousand a second fill the memory."""
        self.sendings.clear()
        self.downlink.clear()
        self.uplink.clear()

    def _run(self) -> None:
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_FIFO, os.sched_param(1))
        due = read = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= read:
                read = now + READ_EVERY_S
                for handle in self._patient:
                    handle()
            if now >= due:
                self.sent += 1
                self.sendings.append((self.sent, now))
                for sender, destination in self._senders:
                    with suppress(OSError):  # no route at this moment: a lost probe like any other
                        sender.sendto(PROBE.pack(self.sent, now), (destination, PORT))
                # in step with nothing: otherwise, in virtual time, every roam meets the same moment between two probes
                due = max(due + self._interval_s * self._choice.uniform(0.75, 1.25), now)
            for key, _ in self._selector.select(max(0.0, min(due, read) - time.monotonic())):
                key.data()

    def _take(self, end: socket.socket, into: list[Arrival]) -> None:
        try:
            while True:
                data, now, _ = take(end)
                number, sent_at = PROBE.unpack(data)
                into.append((now, number, sent_at))
        except OSError:
            return  # nothing more, or an ICMP error that came back

    def _hear(self, who: str, control: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                data, now, _ = take(control)
                self.sayings.append(Saying(now, who, data.decode(errors="replace").partition(">")[2].strip()))

    def first(self, who: str, start: str, since: float) -> float | None:
        """When `who` said something that begins with `start`, first after `since`."""
        return next(
            (each.at for each in self.sayings if each.at >= since and each.who == who and each.text.startswith(start)),
            None,
        )

    @staticmethod
    def first_arrival(record: Sequence[Arrival], since: float) -> float | None:
        found = None
        for arrived_at, _, _ in reversed(record):
            if arrived_at < since:
                break
            found = arrived_at
        return found
