"""Tells senders that their packets have become too big by being sent on: a tunnel's duty (RFC 2473 §7.1, §8).

Linux drops an encapsulated packet that is too big for the next link and tells its source, which is this machine, and
nobody listens. This module does: it passes the message on to the sender of the inner packet, so that TCP goes on with
smaller segments at once instead of standing still. Packets of the forwarded hosts only, a limited number each second;
under a flood the kernel's messages are looked at ever more seldom.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from ipaddress import IPv6Address

from roamroute.errors import MalformedInput
from roamroute.linux.repeats import Repeats
from roamroute.values import Address, Seconds
from roamroute.wire import too_big
from roamroute.wire.too_big import TooBig

_PAUSE_FIRST_S: Seconds = 0.01
_PAUSE_LONGEST_S: Seconds = 0.32
"""Doubled from the first to the longest while messages keep coming: 3 wake-ups a second under a flood."""
_READ_LIMIT = 32
_READ_BYTES = 1500
_BUFFER_BYTES = 64 * 1024
_ICMPV6_FILTER = 1  # linux/icmpv6.h
_SOL_RAW, _ICMP_FILTER = 255, 1  # linux/socket.h, linux/icmp.h


class TooBigRelay:
    """Needs a running loop while it is open."""

    def __init__(self, me: IPv6Address, repeats: Repeats) -> None:
        """Opens nothing yet. `me`: the source of encapsulated packets."""
        self._me = me
        self._repeats = repeats
        self._forwards: Mapping[Address, IPv6Address] = {}
        self._socket: socket.socket | None = None
        self._socket4: socket.socket | None = None
        self._pause_s = _PAUSE_FIRST_S
        self._timer: asyncio.TimerHandle | None = None
        self.told = 0
        """How many messages were passed on."""

    def follow(self, forwards: Mapping[Address, IPv6Address]) -> None:
        """Pass on what concerns these addresses, sent to these segments (a live view); none: close. Never raises."""
        self._forwards = forwards
        if not forwards:
            self.close()
        elif self._socket is None:
            self._open()

    def close(self) -> None:
        """Listen no more; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._socket4 is not None:
            self._socket4.close()
            self._socket4 = None

    def _open(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        opened: socket.socket | None = None
        try:
            opened = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
            passing = [0xFFFFFFFF] * 8
            passing[0] &= ~(1 << too_big.ICMPV6_PACKET_TOO_BIG)  # a bit that is set blocks
            opened.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, struct.pack("=8I", *passing))
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            opened.bind((str(self._me), 0))
        except OSError as error:
            if opened is not None:
                opened.close()
            text = f'senders cannot be told when packets that are sent on are too big because="{error}"'
            self._repeats.tell("warning", "too big", text)
            return
        self._socket = opened
        asyncio.get_running_loop().add_reader(opened.fileno(), self._readable)

    def _readable(self) -> None:
        if self._socket is None:
            return
        for _ in range(_READ_LIMIT):
            try:
                message = self._socket.recv(_READ_BYTES)
            except OSError:
                break
            try:
                told = too_big.parse(message)
            except MalformedInput:
                continue
            if told is not None and told.source == self._me and self._forwards.get(told.destination) == told.segment:
                self._tell(told)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(self._pause_s, self._resume)
        self._pause_s = min(2 * self._pause_s, _PAUSE_LONGEST_S)

    def _resume(self) -> None:
        if self._socket is None:
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.fileno(), self._readable)
        self._timer = loop.call_later(2 * self._pause_s, self._relax)

    def _relax(self) -> None:
        self._timer = None
        self._pause_s = _PAUSE_FIRST_S

    def _tell(self, told: TooBig) -> None:
        message = too_big.compose(told)
        try:
            if isinstance(told.sender, IPv6Address):
                if self._socket is not None:
                    self._socket.sendto(message, (str(told.sender), 0))
            else:
                if self._socket4 is None:
                    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                    self._socket4 = socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP)
                    # Bits that are set block: it receives nothing.
                    self._socket4.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF))
                self._socket4.sendto(message, (str(told.sender), 0))
            self.told += 1
        except OSError as error:
            text = f'sender not told that its packets are too big sender={told.sender} because="{error}"'
            self._repeats.tell("debug", "too big", text)
