"""The kernel's time of arrival of a datagram, on CLOCK_MONOTONIC: right however late the reader comes to read it."""

from __future__ import annotations

import socket
import struct
import time

SO_TIMESTAMPNS = 35  # asm-generic/socket.h; missing in Python's socket module
TIMESPEC = struct.Struct("qq")
ANCILLARY_BYTES = 256


def stamp_arrivals(receiver: socket.socket) -> None:
    """Let the kernel stamp what this socket receives; UDP and Unix datagrams alike."""
    receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def receive_stamped(receiver: socket.socket, limit_bytes: int) -> tuple[bytes, int]:
    """One datagram and when it arrived, in nanoseconds of CLOCK_MONOTONIC. Raises what `recvmsg` raises."""
    data, ancillary, _, _ = receiver.recvmsg(limit_bytes, ANCILLARY_BYTES)
    now_ns, real_ns = time.monotonic_ns(), time.time_ns()
    for level, kind, stamp in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):  # CLOCK_REALTIME
            seconds, nanoseconds = TIMESPEC.unpack(stamp)
            return data, now_ns - max(0, real_ns - int(seconds * 1_000_000_000 + nanoseconds))
    return data, now_ns
