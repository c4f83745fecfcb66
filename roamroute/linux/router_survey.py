"""Who advertises itself as a router on a link: asks, listens for a moment, and tells; for `roamroute check`, as root.

The solicitation leaves by a raw ICMPv6 socket, of which the kernel gives a copy to the programs of this machine: a
radvd, BIRD or zebra here answers as well. What it sends to all is heard as it leaves; what it answers to an address of
ours never reaches the link, and is heard on the loopback interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from ipaddress import IPv6Address

import attrs

from roamroute.errors import MalformedInput
from roamroute.linux.rtnetlink import attach_filter
from roamroute.values import Seconds
from roamroute.wire import bpf, discovery, ethernet, icmpv6
from roamroute.wire.router_advertisements import HeardRouter

LISTEN_S: Seconds = 4.5
"""A router that answers by multicast waits 3 s after its last one (RFC 4861 §10 MIN_DELAY_BETWEEN_RAS), and 0.5 s more
(MAX_RA_DELAY_TIME). A second solicitation covers a loss."""
_ASK_AGAIN_S: Seconds = 0.5
_LOOPBACK = "lo"
_FRAMES_READ = 64
_MESSAGE_TYPE = ethernet.HEADER_BYTES + icmpv6.HEADER_BYTES
_DESTINATION = slice(ethernet.HEADER_BYTES + 24, ethernet.HEADER_BYTES + 40)
_FILTER = (
    (bpf.LDH_ABS, 0, 0, 12),
    (bpf.JEQ, 0, 5, ethernet.ETH_P_IPV6),
    (bpf.LDB_ABS, 0, 0, ethernet.HEADER_BYTES + 6),
    (bpf.JEQ, 0, 3, icmpv6.ICMPV6),
    (bpf.LDB_ABS, 0, 0, _MESSAGE_TYPE),
    (bpf.JEQ, 0, 1, icmpv6.ROUTER_ADVERTISEMENT),
    (bpf.RET, 0, 0, discovery.SNAP_BYTES),
    (bpf.RET, 0, 0, 0),
)


@attrs.frozen
class Advertised:
    """What was heard; `is_ours`: a program of this machine sent it."""

    router: HeardRouter
    is_ours: bool


async def survey(link: str, source: IPv6Address | None, listen_s: Seconds = LISTEN_S) -> tuple[Advertised, ...]:
    """Ask all routers of `link` and return what they said, each different answer once, in the order of arrival.

    `source`: one of our link-local addresses there, better not one that another router has, too; None: the kernel's
    choice. Malformed frames are left out. Raises: OSError when a socket is refused, or the link is down.
    """
    heard: dict[Advertised, None] = {}
    with contextlib.ExitStack() as opened:
        loop = asyncio.get_running_loop()
        for name in (link, _LOOPBACK):
            listening = opened.enter_context(_listening(name))
            loop.add_reader(listening, _read, listening, heard, name == _LOOPBACK, source)
            opened.callback(loop.remove_reader, listening)
        asking = opened.enter_context(_asking(link, source))
        end = time.monotonic() + listen_s
        _ask(asking, link)
        await asyncio.sleep(min(_ASK_AGAIN_S, listen_s))
        with contextlib.suppress(OSError):  # what has been heard is worth more
            _ask(asking, link)
        await asyncio.sleep(max(0.0, end - time.monotonic()))
    return tuple(heard)


def _listening(link: str) -> socket.socket:
    """A packet socket for advertisements, also those that leave: only who asks for every protocol is shown them."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    try:
        attach_filter(opened, bpf.assemble(*_FILTER))
        opened.bind((link, ethernet.ETH_P_ALL))
    except OSError:
        opened.close()
        raise
    return opened


def _asking(link: str, source: IPv6Address | None) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    opened = socket.socket(socket.AF_INET6, kind, socket.getprotobyname("ipv6-icmp"))
    try:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(link))
        if source is not None:
            opened.bind((str(source), 0, 0, socket.if_nametoindex(link)))
    except OSError:
        opened.close()
        raise
    return opened


def _ask(asking: socket.socket, link: str) -> None:
    """The kernel fills in the checksum (RFC 3542 §3.1)."""
    message = bytes([icmpv6.ROUTER_SOLICITATION]) + bytes(7)
    group = str(IPv6Address(icmpv6.ALL_ROUTERS))
    asking.sendto(message, (group, 0, 0, socket.if_nametoindex(link)))


def _read(
    listening: socket.socket, heard: dict[Advertised, None], is_loopback: bool, source: IPv6Address | None
) -> None:
    """What comes over the loopback interface to another address than `source` answers a question on another link."""
    for _ in range(_FRAMES_READ):
        try:
            frame, address = listening.recvfrom(discovery.SNAP_BYTES)
        except (BlockingIOError, OSError):
            return
        try:
            message = discovery.parse(frame)
        except MalformedInput:
            continue
        if not isinstance(message, HeardRouter):
            continue
        if not is_loopback or source is None or frame[_DESTINATION] == source.packed:
            heard[Advertised(message, is_loopback or address[2] == ethernet.PACKET_OUTGOING)] = None
