"""The prober: sends and receives UDP packets at a steady rate and writes down each of them.

Runs as a process of its own, `python -m roamroute.lab.prober LOG`, so that nothing else the lab does delays a packet.
Orders come as lines on standard input, times are CLOCK_MONOTONIC, which all namespaces share:

    receive NETNS PORT                              take packets for all addresses of the namespace
    send FLOW NETNS SOURCE DESTINATION PORT RATE    send RATE packets a second from now on; FLOW is a number
    stop FLOW

`NETNS` is a path. Every packet carries flow, sequence number and the time it was sent. The log gets one record for
each packet sent (its `received` is 0) and one for each received, stamped by the kernel on arrival.
"""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from roamroute.lab.namespaces import entered_namespace
from roamroute.lab.punctual import be_punctual
from roamroute.lab.stamps import receive_stamped, stamp_arrivals

RECORD = struct.Struct("<IIqq")
"""Flow, sequence number, sent and received in nanoseconds; written to the log, and sent without its last field."""
PACKET = struct.Struct("<IIq")
PACKETS_PER_TURN = 64


class Flow:
    """A steady stream of packets from one address to another."""

    def __init__(self, number: int, netns: Path, source: str, destination: str, port: int, rate: float) -> None:
        self.number = number
        self.sequence = 0
        self.interval_ns = round(1e9 / rate)
        self.due_ns = time.monotonic_ns()
        version = ipaddress.ip_address(destination).version
        with entered_namespace(netns):
            self.socket = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((source, 0))
        self.destination = (destination, port)

    def send(self, now_ns: int) -> bytes:
        """Send one packet and return its record. What the kernel refuses (no carrier, no route) counts as lost."""
        self.sequence += 1
        with contextlib.suppress(OSError):
            self.socket.sendto(PACKET.pack(self.number, self.sequence, now_ns), self.destination)
        # A prober that was held up goes on with its rhythm; it does not send what it missed.
        self.due_ns = max(self.due_ns + self.interval_ns, now_ns)
        return RECORD.pack(self.number, self.sequence, now_ns, 0)


class Prober:
    """The loop: orders, packets that are due, packets that arrive."""

    def __init__(self, log: BinaryIO) -> None:
        self._log = log
        self._flows: dict[int, Flow] = {}
        self._receivers: list[socket.socket] = []
        self._orders = b""

    def run(self, orders: BinaryIO) -> None:
        """Work until standard input ends."""
        while True:
            now_ns = time.monotonic_ns()
            for flow in self._flows.values():
                if flow.due_ns <= now_ns:
                    self._log.write(flow.send(time.monotonic_ns()))
            next_due_ns = min((flow.due_ns for flow in self._flows.values()), default=None)
            timeout = None if next_due_ns is None else max(0.0, (next_due_ns - time.monotonic_ns()) / 1e9)
            waiting: list[BinaryIO | socket.socket] = [orders, *self._receivers]
            readable, _, _ = select.select(waiting, [], [], timeout)
            for source in readable:
                if isinstance(source, socket.socket):
                    for record in _received(source):
                        self._log.write(record)
                elif not self._take_orders(orders):
                    return

    def _take_orders(self, orders: BinaryIO) -> bool:
        text = orders.read(65536)
        *lines, self._orders = (self._orders + text).split(b"\n")
        for line in lines:
            self._obey(line.decode().split())
        return bool(text)

    def _obey(self, words: list[str]) -> None:
        match words:
            case ["receive", netns, port]:
                self._receivers.append(_receiver(Path(netns), int(port)))
            case ["send", number, netns, source, destination, port, rate]:
                flow = Flow(int(number), Path(netns), source, destination, int(port), float(rate))
                self._flows[flow.number] = flow
            case ["stop", number]:
                self._flows.pop(int(number)).socket.close()
            case _:
                raise ValueError(f"no such order: {' '.join(words)}")


def _receiver(netns: Path, port: int) -> socket.socket:
    with entered_namespace(netns):
        receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    stamp_arrivals(receiver)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    receiver.setblocking(False)
    receiver.bind(("::", port))
    return receiver


def _received(receiver: socket.socket) -> Iterator[bytes]:
    """The records of the packets that wait, at most `PACKETS_PER_TURN`."""
    for _ in range(PACKETS_PER_TURN):
        try:
            packet, arrived_ns = receive_stamped(receiver, 2048)
        except (BlockingIOError, ConnectionError):
            return
        if len(packet) == PACKET.size:
            yield RECORD.pack(*PACKET.unpack(packet), arrived_ns)


if __name__ == "__main__":
    with Path(sys.argv[1]).open("ab", buffering=0) as log_file, open(0, "rb", buffering=0) as order_file:
        be_punctual(comes_first=True)  # it stands for machines of their own
        Prober(log_file).run(order_file)
