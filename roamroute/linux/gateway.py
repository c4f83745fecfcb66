"""Telling a station that has just connected where its gateway is, so that it need not ask.

A Linux station empties its neighbour cache when the carrier drops (ndisc_evict_nocarrier), asks for its gateway before
the 4-way handshake has ended, which the access point drops, and asks again after a second: its uplink stands still for
so long. An unsolicited Neighbour Advertisement right after the association ends that (docs/linux-facts.md).

Only addresses that are on the link are told: the fixed gateway, fe80::1, and the link's IPv4 addresses.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import attrs

from roamroute.errors import KernelRefused, MalformedInput
from roamroute.linux import rtnetlink
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Log, Notifications, Requests
from roamroute.values import Address, Mac, Seconds
from roamroute.wire import advertisements, netlink
from roamroute.wire.netlink import Message

GATEWAY = IPv6Address("fe80::1")
_GROUPS = (rtnetlink.GROUP_LINK, rtnetlink.GROUP_IPV4_ADDRESS, rtnetlink.GROUP_IPV6_ADDRESS)
_BUFFER_BYTES = 1 << 16
_READ_LIMIT = 256
REPEATED_AFTER_S: tuple[Seconds, ...] = (0.002, 0.005, 0.02, 0.1)
"""hostapd reports the station when it has sent its last message; the station may still be installing the keys.

With 802.11r (FT-PSK, wpa_supplicant 2.10) it always is: the first frame is lost.
"""


class GatewayAdvertiser:
    """Sends on any link; one socket for all, opened at the first need."""

    def __init__(self, log: Log) -> None:
        self._repeats = Repeats(log)
        self._known = _KnownAddresses()
        self._socket: socket.socket | None = None
        self._pending: set[asyncio.TimerHandle] = set()

    def advertise(self, link: str, station: Mac) -> None:
        """Tell now, and four times more within 0.1 s. Never raises; what fails is told in the log, once a while."""
        try:
            frames = tuple(_frames(self._known.of(link), station))
        except (KernelRefused, MalformedInput, OSError) as error:
            self._repeats.tell("warning", "addresses", f'gateway not advertised link={link} because="{error}"')
            return
        self._send(link, frames)
        for delay_s in REPEATED_AFTER_S:
            self._later(delay_s, link, frames)

    def close(self) -> None:
        """Send nothing any more."""
        for timer in self._pending:
            timer.cancel()
        self._pending.clear()
        self._known.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _later(self, delay_s: Seconds, link: str, frames: tuple[bytes, ...]) -> None:
        def send() -> None:
            self._pending.discard(timer)
            self._send(link, frames)

        timer = asyncio.get_running_loop().call_later(delay_s, send)
        self._pending.add(timer)

    def _send(self, link: str, frames: tuple[bytes, ...]) -> None:
        try:
            if self._socket is None:
                kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                self._socket = socket.socket(socket.AF_PACKET, kind, 0)  # protocol 0: it receives nothing
            for frame in frames:
                self._socket.sendto(frame, (link, 0))
        except OSError as error:
            self._repeats.tell("warning", f"send {link}", f'gateway not advertised link={link} because="{error}"')


@attrs.frozen
class _Facing:
    """What stations of an interface see of us."""

    index: int
    name: str
    mac: Mac | None
    addresses: tuple[Address, ...]


class _KnownAddresses:
    """Asks the kernel at the first need, and again when something has changed.

    Two dumps at every connection took 0.5 ms, in which the host routes waited as well; to read that nothing has changed
    takes 2 us. Needs no loop: notifications wait in the socket, and a loss of them is a change.
    """

    def __init__(self) -> None:
        self._by_link: dict[str, _Facing] = {}
        self._requests: Requests | None = None
        self._notifications: Notifications | None = None

    def of(self, link: str) -> _Facing | None:
        """None: there is no such interface. Raises: KernelRefused, MalformedInput, OSError."""
        if self._requests is None:
            self._requests = Requests()
        if self._notifications is None:
            self._notifications = Notifications(_GROUPS, _BUFFER_BYTES)
        messages, is_lossy = self._notifications.read(_READ_LIMIT)
        if is_lossy or len(messages) >= _READ_LIMIT or any(self._is_change(message) for message in messages):
            self._by_link.clear()
        if link not in self._by_link:
            found = _ask(self._requests, link)
            if found is None:
                return None
            self._by_link[link] = found
        return self._by_link[link]

    def close(self) -> None:
        """Close the sockets; idempotent."""
        for opened in (self._requests, self._notifications):
            if opened is not None:
                opened.close()
        self._requests = self._notifications = None
        self._by_link.clear()

    def _is_change(self, message: Message) -> bool:
        """Wi-Fi drivers send RTM_NEWLINK at every association; that alone is none."""
        if message.kind != netlink.RTM_NEWLINK:
            return True
        link = netlink.decode_link(message)
        if link.family != netlink.AF_UNSPEC:
            return False
        known = [each for each in self._by_link.values() if each.name == link.name or each.index == link.ifindex]
        return any((each.index, each.name, each.mac) != (link.ifindex, link.name, link.mac) for each in known)


def _ask(requests: Requests, link: str) -> _Facing | None:
    try:
        index = socket.if_nametoindex(link)
    except OSError:
        return None
    (answer,) = requests.get(netlink.RTM_GETLINK, netlink.link_body(index=index))
    entries = [
        netlink.decode_address(each) for each in requests.dump(netlink.RTM_GETADDR, netlink.address_body(index=index))
    ]
    addresses = tuple(entry.address for entry in entries if entry is not None and entry.ifindex == index)
    return _Facing(index, link, netlink.decode_link(answer).mac, addresses)


def _frames(facing: _Facing | None, station: Mac) -> Iterator[bytes]:
    if facing is None or facing.mac is None:
        return
    for address in facing.addresses:
        if address == GATEWAY:
            yield advertisements.neighbour_advertisement(facing.mac, station, GATEWAY)
        elif isinstance(address, IPv4Address):
            yield advertisements.arp_announcement(facing.mac, station, address)
