"""The two kinds of rtnetlink socket: one that asks, one that listens.

`Requests` is synchronous. The kernel carries out rtnetlink requests inside the send, and produces the next part of a
dump inside the receive: there is nothing to wait for but the kernel's own work, so a coroutine would only add delay.
A receive timeout bounds what should be impossible. `Notifications` is for a loop's reader.

They are apart on purpose: a flood of notifications cannot make a dump fail, and a dump cannot push notifications out.
The price is that a notification from before a dump may be read after it; every later one follows, so the last word
on each object is still the kernel's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Sequence

import attrs

from roamroute.errors import KernelRefused, MalformedInput
from roamroute.wire import netlink
from roamroute.wire.netlink import Message

Log = Callable[[str, str], None]
"""Takes a level name ("debug", "info", "warning", "error") and one line."""

# linux/rtnetlink.h, enum rtnetlink_groups
GROUP_LINK = 1
GROUP_NEIGHBOUR = 3
GROUP_IPV4_ADDRESS = 5
GROUP_IPV4_ROUTE = 7
GROUP_IPV4_RULE = 8
GROUP_IPV6_ADDRESS = 9
GROUP_IPV6_ROUTE = 11
GROUP_IPV6_RULE = 19

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_NETLINK_CAP_ACK = 10
_NETLINK_GET_STRICT_CHK = 12
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32
_SO_ATTACH_FILTER = 26
_RTA_TABLE = 15

_REPLY_LIMIT_S = 2
"""The kernel answers inside the system call; a machine that needs longer than this is in trouble of its own."""
_BATCH = 512
"""Messages to a send. 512 host routes are 36 KiB, below the default send buffer of 208 KiB, and 8 ms of kernel time,
which is how long nothing else in the daemon runs."""
_READ_BYTES = 65536
"""A datagram from the kernel is at most 32 KiB (Linux 6.18 af_netlink.c, netlink_recvmsg)."""
_DUMP_ATTEMPTS = 5


@attrs.frozen
class Refusal:
    """The kernel's error for message `position` of a batch."""

    position: int
    errno: int

    def __str__(self) -> str:
        return f"{errno.errorcode.get(self.errno, str(self.errno))} ({os.strerror(self.errno)})"


class Requests:
    """Sends rtnetlink requests and reads the answers, synchronously. One caller at a time."""

    def __init__(self, protocol: int = socket.NETLINK_ROUTE) -> None:
        """Raises: OSError when the kernel gives no netlink socket."""
        self._protocol = protocol
        self._sequence = 0
        self._connect()

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._socket.close()

    def transact(self, bodies: Sequence[tuple[int, int, bytes]]) -> list[Refusal]:
        """Carry out (type, flags, body) in order; all are tried, the refused ones are returned.

        Only the last message of each send asks for an acknowledgement: the kernel reports errors without being asked
        (Linux 6.18 af_netlink.c, netlink_rcv_skb), so silence before the last acknowledgement means success.

        Raises: KernelRefused when the answers themselves were lost; then nothing is known about this batch.
        """
        refusals: list[Refusal] = []
        for base in range(0, len(bodies), _BATCH):
            self._carry_out(bodies[base : base + _BATCH], base, refusals)
        return refusals

    def transact_whole(self, bodies: Sequence[tuple[int, int, bytes]]) -> None:
        """Carry out (type, flags, body) of a batch of nfnetlink, which begins and ends with a message of its own.

        Raises: KernelRefused; nothing has been done then.
        """
        first = self._sequence + 1
        self._sequence += len(bodies)
        last = self._sequence - 1  # the batch's end is not acknowledged by every kernel
        encoded = [
            netlink.encode(
                *(kind, flags | netlink.NLM_F_REQUEST | (netlink.NLM_F_ACK if first + place == last else 0)),
                *(first + place, body),
            )
            for place, (kind, flags, body) in enumerate(bodies)
        ]
        try:
            self._socket.send(netlink.join(encoded))
            while True:
                for message in netlink.split(self._socket.recv(_READ_BYTES)):
                    if message.kind != netlink.NLMSG_ERROR or not first <= message.sequence <= last + 1:
                        continue
                    number = netlink.decode_error(message)
                    if number:
                        raise KernelRefused(f"the kernel refused a batch: {os.strerror(number)}", number)
                    if message.sequence == last:
                        return
        except (OSError, MalformedInput) as error:
            raise self._broken("a batch", error) from error

    def dump(self, kind: int, body: bytes, *, none_if: int | None = None) -> list[Message]:
        """All objects that the kernel holds, consistently: a dump that was overtaken by a change is repeated.

        `none_if`: the errno that means "there are none" (ENOENT for a table that has not been made yet).

        Raises: KernelRefused.
        """
        for attempt in range(_DUMP_ATTEMPTS):
            try:
                messages, is_torn = self._dump(kind, body)
            except KernelRefused as error:
                if error.errno == none_if:
                    return []
                raise
            # A table that changes all the time is never dumped untorn; the notifications that follow mend the rest.
            if not is_torn or attempt == _DUMP_ATTEMPTS - 1:
                return messages
        raise AssertionError("unreachable")

    def get(self, kind: int, body: bytes) -> list[Message]:
        """Ask for one object, which is answered before the acknowledgement.

        Raises: KernelRefused, with ENOENT where there is no such object.
        """
        self._sequence += 1
        sequence = self._sequence
        messages: list[Message] = []
        try:
            self._socket.send(netlink.encode(kind, netlink.NLM_F_REQUEST | netlink.NLM_F_ACK, sequence, body))
            while True:
                for message in netlink.split(self._socket.recv(_READ_BYTES)):
                    if message.sequence != sequence:
                        continue
                    if message.kind == netlink.NLMSG_ERROR:
                        number = netlink.decode_error(message)
                        if number:
                            reason = f"the kernel refused a request of type {kind}: {os.strerror(number)}"
                            raise KernelRefused(reason, number)
                        return messages
                    messages.append(message)
        except (OSError, MalformedInput) as error:
            raise self._broken(f"a request of type {kind}", error) from error

    def _carry_out(self, part: Sequence[tuple[int, int, bytes]], base: int, refusals: list[Refusal]) -> None:
        first = self._sequence + 1
        last = self._sequence + len(part)
        self._sequence = last
        encoded = [
            netlink.encode(
                kind,
                flags | netlink.NLM_F_REQUEST | (netlink.NLM_F_ACK if first + place == last else 0),
                first + place,
                body,
            )
            for place, (kind, flags, body) in enumerate(part)
        ]
        try:
            self._socket.send(netlink.join(encoded))
            while True:
                for message in netlink.split(self._socket.recv(_READ_BYTES)):
                    if message.kind != netlink.NLMSG_ERROR or not first <= message.sequence <= last:
                        continue
                    number = netlink.decode_error(message)
                    if number:
                        refusals.append(Refusal(base + message.sequence - first, number))
                    if message.sequence == last:
                        return
        except (OSError, MalformedInput) as error:
            raise self._broken("requests", error) from error

    def _dump(self, kind: int, body: bytes) -> tuple[list[Message], bool]:
        self._sequence += 1
        sequence = self._sequence
        messages: list[Message] = []
        is_torn = False
        try:
            self._socket.send(netlink.encode_dump(kind, sequence, body))
            while True:
                for message in netlink.split(self._socket.recv(_READ_BYTES)):
                    if message.sequence != sequence:
                        continue
                    is_torn = is_torn or bool(message.flags & netlink.NLM_F_DUMP_INTR)
                    if message.kind in (netlink.NLMSG_DONE, netlink.NLMSG_ERROR):
                        number = netlink.decode_error(message)
                        if number:
                            reason = f"the kernel refused a dump of type {kind}: {os.strerror(number)}"
                            raise KernelRefused(reason, number)
                        return messages, is_torn
                    messages.append(message)
        except (OSError, MalformedInput) as error:
            raise self._broken(f"a dump of type {kind}", error) from error

    def _connect(self) -> None:
        self._socket = _open(self._protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _REPLY_LIMIT_S, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        _force(self._socket, _SO_RCVBUFFORCE, socket.SO_RCVBUF, 1 << 20)
        _force(self._socket, _SO_SNDBUFFORCE, socket.SO_SNDBUF, 1 << 20)
        with contextlib.suppress(OSError):  # before Linux 4.20 the kernel ignores filters; callers filter again
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        self.port: int = self._socket.getsockname()[0]
        """Notifications that our own requests caused carry this number."""

    def _broken(self, what: str, error: OSError | MalformedInput) -> KernelRefused:
        """Start afresh, so that late answers to this request cannot be taken for those to the next."""
        number = error.errno if isinstance(error, OSError) and error.errno is not None else errno.EBADMSG
        self._socket.close()
        try:
            self._connect()
        except OSError as failure:
            return KernelRefused(f"netlink cannot be reopened after {what}: {failure}", failure.errno or errno.EIO)
        return KernelRefused(f"the kernel did not answer {what} over netlink: {error}", number)


class Notifications:
    """Listens to rtnetlink groups; non-blocking, for a loop's reader."""

    def __init__(
        self,
        groups: Iterable[int],
        buffer_bytes: int,
        program: bytes | None = None,
        protocol: int = socket.NETLINK_ROUTE,
    ) -> None:
        """`program`: classic BPF that says which messages are worth a wake-up.

        Raises: OSError when the kernel gives no netlink socket or refuses a group.
        """
        self._socket = _open(protocol)
        self._socket.setblocking(False)
        _force(self._socket, _SO_RCVBUFFORCE, socket.SO_RCVBUF, buffer_bytes)
        if program is not None:
            attach_filter(self._socket, program)
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._socket.close()

    def read(self, limit: int) -> tuple[list[Message], bool]:
        """At most `limit` datagrams that are there now, and whether the kernel has dropped some since the last call.

        After a loss the caller has to ask for everything again; what is returned beside it is older than the loss.
        """
        messages: list[Message] = []
        is_lossy = False
        receive = self._socket.recvfrom
        for _ in range(limit):
            try:
                datagram, (port, _groups) = receive(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                is_lossy = True
                continue
            if port != 0:
                continue  # not from the kernel
            try:
                messages.extend(netlink.split(datagram))
            except MalformedInput:
                is_lossy = True
        return messages, is_lossy


def attach_filter(to: socket.socket, program: bytes) -> None:
    """Attach a classic BPF program (an array of struct sock_filter) to a socket. Raises: OSError."""
    import ctypes  # 10 ms; only those who filter pay

    buffer = ctypes.create_string_buffer(program, len(program))
    argument = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)


def host_route_filter(
    *, ignored_port: int = 0, ignored_protocols: Sequence[int] = (), table: int | None = None
) -> bytes:
    """Classic BPF for `Notifications`: host routes and link changes pass, other routes do not wake us.

    `table`: of host routes only those in it.
    `ignored_port`: nor do changes that this socket of ours asked for; 5,000 of them would fill a buffer.
    `ignored_protocols`: nor do routes with these protocol numbers.

    Offsets: nlmsg_type 4 and nlmsg_pid 12 (in the machine's order; BPF loads big-endian), rtm_dst_len 17,
    rtm_table 20, rtm_protocol 21.
    """
    from roamroute.wire import bpf

    drop, accept = (bpf.RET, 0, 0, 0), (bpf.RET, 0, 0, 0xFFFFFFFF)
    is_link = [(bpf.LDH_ABS, 0, 0, 4)]
    for kind in (netlink.RTM_NEWLINK, netlink.RTM_DELLINK):
        is_link += [(bpf.JEQ, 0, 1, _swapped(kind, 2)), accept]
    is_ignored = [(bpf.LD_ABS, 0, 0, 12), (bpf.JEQ, 0, 1, _swapped(ignored_port, 4)), drop] if ignored_port else []
    if table is not None:
        is_ignored += _in_tables((table,))
    is_ignored.append((bpf.LDB_ABS, 0, 0, 21))
    for protocol in ignored_protocols:
        is_ignored += [(bpf.JEQ, 0, 1, protocol), drop]
    is_host = [(bpf.LDB_ABS, 0, 0, 17), (bpf.JEQ, 1, 0, 128), (bpf.JEQ, 0, 1, 32), accept, drop]
    return bpf.assemble(*is_link, *is_ignored, *is_host)


def short_route_filter(longest: int) -> bytes:
    """Classic BPF for `Notifications`: link changes, and routes of a prefix not longer than `longest`.

    Offsets: nlmsg_type 4 (in the machine's order; BPF loads big-endian), rtm_dst_len 17.
    """
    from roamroute.wire import bpf

    drop, accept = (bpf.RET, 0, 0, 0), (bpf.RET, 0, 0, 0xFFFFFFFF)
    program = [(bpf.LDH_ABS, 0, 0, 4)]
    program += [(bpf.JEQ, 1, 0, _swapped(netlink.RTM_NEWROUTE, 2)), (bpf.JEQ, 0, 2, _swapped(netlink.RTM_DELROUTE, 2))]
    return bpf.assemble(*program, (bpf.LDB_ABS, 0, 0, 17), (bpf.JGE, 1, 0, longest + 1), accept, drop)


def table_filter(tables: Sequence[int], *, ignored_port: int) -> bytes:
    """Classic BPF for `Notifications`: everything but routes in other tables and what `ignored_port` asked for."""
    from roamroute.wire import bpf

    drop, accept = (bpf.RET, 0, 0, 0), (bpf.RET, 0, 0, 0xFFFFFFFF)
    program = [(bpf.LD_ABS, 0, 0, 12), (bpf.JEQ, 0, 1, _swapped(ignored_port, 4)), drop, (bpf.LDH_ABS, 0, 0, 4)]
    program += [(bpf.JEQ, 2, 0, _swapped(netlink.RTM_NEWROUTE, 2)), (bpf.JEQ, 1, 0, _swapped(netlink.RTM_DELROUTE, 2))]
    return bpf.assemble(*program, accept, *_in_tables(tables), accept)


def _in_tables(tables: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """Instructions that drop a route of another table. The kernel puts RTA_TABLE first (Linux 6.18 rt6_fill_node,
    fib_dump_info), behind headers of 28 octets; were something else there, the route would pass."""
    from roamroute.wire import bpf

    count = len(tables)
    checks = [(bpf.JEQ, count - place, 0, _swapped(table, 4)) for place, table in enumerate(tables)]
    is_table = (bpf.JEQ, 0, count + 2, _swapped(_RTA_TABLE, 2))
    return [(bpf.LDH_ABS, 0, 0, 30), is_table, (bpf.LD_ABS, 0, 0, 32), *checks, (bpf.RET, 0, 0, 0)]


def _swapped(number: int, size: int) -> int:
    """BPF loads big-endian what the machine has in its own order."""
    return int.from_bytes(number.to_bytes(size, sys.byteorder), "big")


def _open(protocol: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    opened.bind((0, 0))
    return opened


def ask_for_receive_buffer(to: socket.socket, size: int) -> None:
    """Let the kernel keep so many bytes for a socket, twice that in truth; more than net.core.rmem_max if we may."""
    _force(to, _SO_RCVBUFFORCE, socket.SO_RCVBUF, size)


def ask_for_send_buffer(to: socket.socket, size: int) -> None:
    """As `ask_for_receive_buffer`, for what waits to be sent."""
    _force(to, _SO_SNDBUFFORCE, socket.SO_SNDBUF, size)


def _force(to: socket.socket, forced: int, plain: int, size: int) -> None:
    """Set a buffer size; beyond net.core.?mem_max that takes CAP_NET_ADMIN, without it less must do."""
    try:
        to.setsockopt(socket.SOL_SOCKET, forced, size)
    except OSError:
        to.setsockopt(socket.SOL_SOCKET, plain, size)
