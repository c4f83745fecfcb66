"""How long the DAD proxy's messages are on their way between two access points, by the kernel's stamps on frames."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import defaultdict
from collections.abc import Iterable
from ipaddress import IPv6Address

import attrs

from roamroute.lab.stamps import ANCILLARY_BYTES, SO_TIMESTAMPNS, TIMESPEC, stamp_arrivals
from roamroute.linux.rtnetlink import attach_filter

from .dad_clients import Cell

SOLICITATION, ADVERTISEMENT = 135, 136
LATE_S = 1.0
"""RetransTimer: a host waits no longer (RFC 4861 §10)."""
_SAME_S = 0.5
_ETH_P_ALL = 0x0003
_SO_RCVBUFFORCE = 33
_PACKET_OUTGOING = 4
_SOURCE, _DESTINATION, _KIND, _TARGET = slice(22, 38), slice(38, 54), 54, slice(62, 78)
_ALL_NODES = IPv6Address("ff02::1").packed
# Classic BPF (code, jump if true, jump if false, constant): ICMPv6 of type 135 or 136 in IPv6 without extensions.
_ONLY_DISCOVERY = (
    (0x28, 0, 0, 12),
    (0x15, 0, 5, 0x86DD),
    (0x30, 0, 0, 20),
    (0x15, 0, 3, 58),
    (0x30, 0, 0, _KIND),
    (0x15, 2, 0, SOLICITATION),
    (0x15, 1, 0, ADVERTISEMENT),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 256),
)


@attrs.frozen
class Passage:
    """A solicitation from nobody, or an advertisement to all nodes, on a client link. `at`: seconds."""

    at: float
    kind: int
    target: bytes
    is_ours: bool
    """The access point has sent it."""


class Tap:
    """What passes the first client link of a cell, from now on."""

    def __init__(self, cell: Cell) -> None:
        end = cell.ends[0]
        self._socket = cell.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        cell.namespace.sandbox.on_close(self._socket.close)
        attach_filter(self._socket, b"".join(struct.pack("HBBI", *line) for line in _ONLY_DISCOVERY))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
        stamp_arrivals(self._socket)
        self._socket.bind((f"{end.access_point.name}-{end.link}", _ETH_P_ALL))
        self._socket.setblocking(False)

    def read(self) -> list[Passage]:
        """All since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, ancillary, _, sender = self._socket.recvmsg(256, ANCILLARY_BYTES)
                kind = frame[_KIND]
                if frame[_DESTINATION] == _ALL_NODES if kind == ADVERTISEMENT else not any(frame[_SOURCE]):
                    # The port's other end is the access point's: what goes out of it is a client's.
                    is_ours = sender[2] != _PACKET_OUTGOING
                    found.append(Passage(_stamp(ancillary), kind, frame[_TARGET], is_ours))
        return found


class Stopwatch:
    """From a client's solicitation to the proxy's in the other cell, and back with the owner's advertisement."""

    def __init__(self, asking: Cell, owning: Cell) -> None:
        self._near, self._far = Tap(asking), Tap(owning)

    def read_ms(self) -> tuple[list[float], list[float]]:
        """Of all since the last call: the ways there, and the ways back, of those that were in time."""
        near, far = self._near.read(), self._far.read()
        return _ways_ms(near, far, SOLICITATION), _ways_ms(far, near, ADVERTISEMENT)


def _ways_ms(heard: Iterable[Passage], sent: Iterable[Passage], kind: int) -> list[float]:
    """From each message of a client on one link to the first copy of it on the other."""
    copies: dict[bytes, list[float]] = defaultdict(list)
    for passage in sent:
        if passage.kind == kind and passage.is_ours:
            copies[passage.target].append(passage.at)
    last: dict[bytes, float] = {}
    found = []
    for passage in heard:
        if passage.kind != kind or passage.is_ours:
            continue
        is_repeat = passage.at - last.get(passage.target, 0.0) < _SAME_S  # asked by unicast too, it has answered twice
        last[passage.target] = passage.at
        ways = [at - passage.at for at in copies[passage.target] if 0 <= at - passage.at < LATE_S]
        if ways and not is_repeat:
            found.append(1000 * min(ways))
    return found


def _stamp(ancillary: Iterable[tuple[int, int, bytes]]) -> float:
    """SO_TIMESTAMPNS, which counts from 1970."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = TIMESPEC.unpack(data)
            return float(seconds + nanoseconds / 1e9)
    raise ValueError("a frame without a stamp")
