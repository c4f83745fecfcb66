"""Tells which forwards are used: the first packet of each at once, then once a second while packets go on.

A packet socket sees what this machine sends to segments; the filter in the kernel drops everything else, and what is
for an address that was told within the last second. So under load there are a few wake-ups a second, however many
packets go by. The socket is open only while something is forwarded.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Collection, Container
from ipaddress import IPv6Address, IPv6Network

from roamroute.errors import MalformedInput
from roamroute.events import Event, ForwardUsed
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import attach_filter
from roamroute.values import Address, Instant, Seconds
from roamroute.wire import tunnelled

_REST_S: Seconds = 1.0
_KEPT_S: Seconds = 5.0
"""Without a forward the socket is closed after this; while it is open every packet that is sent costs a little more."""
_BUFFER_BYTES = 16 * 1024
_READ_LIMIT = 32
_ETH_P_ALL = 3


class ForwardWatch:
    """One socket for all interfaces; needs a running loop while it is open."""

    def __init__(
        self,
        source: IPv6Address,
        segments: IPv6Network,
        emit: Callable[[Event], None],
        repeats: Repeats,
        ignored: Callable[[], Container[Address]] = tuple,
        clock: Callable[[], Instant] = time.monotonic,
    ) -> None:
        """Opens nothing yet.

        `source`: of the packets that we send on; `segments`: where to. What comes from the `ignored` is not told.
        """
        self._source = source
        self._segments = segments
        self._emit = emit
        self._repeats = repeats
        self._ignored = ignored
        self._clock = clock
        self._socket: socket.socket | None = None
        self._watched: Collection[Address] = ()
        self._resting: dict[Address, Instant] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._is_paused = False

    def follow(self, watched: Collection[Address]) -> None:
        """Tell of packets for these addresses (a live view of the caller's); none: close. Never raises."""
        self._watched = watched
        if not watched:
            self._stop()
        elif self._socket is None:
            self._open()
        elif self._closing is not None:
            self._closing.cancel()
            self._closing = None
            self._rest()

    def close(self) -> None:
        """Look at nothing any more; idempotent."""
        self._stop()
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _stop(self) -> None:
        """Let nothing pass; the socket is closed later, since another forward may soon need it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._resting.clear()
        if self._socket is not None and self._closing is None:
            self._attach(tunnelled.nothing_filter())
            self._closing = asyncio.get_running_loop().call_later(_KEPT_S, self._close_aside)

    def _close_aside(self) -> None:
        """Closing a packet socket takes the kernel up to 60 ms (synchronize_net): not in the loop's thread."""
        self._closing = None
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            loop.run_in_executor(None, self._socket.close)
            self._socket = None
            self._is_paused = False

    def _open(self) -> None:
        opened: socket.socket | None = None
        try:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            opened = socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_ALL))
            attach_filter(opened, tunnelled.outgoing_filter(self._source, self._segments))
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        except OSError as error:
            if opened is not None:
                opened.close()
            text = f'it cannot be told whether forwards are used because="{error}"'
            self._repeats.tell("warning", "watch", text)
            return
        self._socket = opened
        asyncio.get_running_loop().add_reader(opened.fileno(), self._readable)

    def _readable(self) -> None:
        if self._socket is None:
            return
        now = self._clock()
        used: list[Address] = []
        for _ in range(_READ_LIMIT):
            try:
                packet, came = self._socket.recvfrom(tunnelled.SNAP_BYTES)
            except OSError:  # nothing more, or ENETDOWN once when an interface goes down
                break
            try:
                sender, address = tunnelled.inner_addresses(packet)
            except MalformedInput:
                continue
            # Some may have come in before the filter.
            is_ours = came[2] == socket.PACKET_OUTGOING and packet[8:24] == self._source.packed
            if is_ours and address in self._watched and address not in self._resting:
                self._resting[address] = now
                if sender not in self._ignored():
                    used.append(address)
        self._rest()
        for address in used:
            self._emit(ForwardUsed(address))

    def _rest(self) -> None:
        """Put the filter in for those that rest; look at nothing where there are too many of them."""
        if self._socket is None:
            return
        loop = asyncio.get_running_loop()
        is_crowded = len(self._resting) > tunnelled.MAX_RESTING
        if is_crowded != self._is_paused:
            self._is_paused = is_crowded
            if is_crowded:
                loop.remove_reader(self._socket.fileno())
            else:
                loop.add_reader(self._socket.fileno(), self._readable)
        resting = list(self._resting)[: tunnelled.MAX_RESTING]
        self._attach(tunnelled.outgoing_filter(self._source, self._segments, resting))
        if self._resting and self._timer is None:
            self._timer = loop.call_later(_REST_S, self._wake)

    def _attach(self, program: bytes) -> None:
        if self._socket is not None:
            try:
                attach_filter(self._socket, program)
            except OSError as error:
                self._repeats.tell("warning", "watch", f'packet filter refused because="{error}"')

    def _wake(self) -> None:
        self._timer = None
        limit = self._clock() - _REST_S
        self._resting = {address: since for address, since in self._resting.items() if since > limit}
        self._rest()
