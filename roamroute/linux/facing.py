"""What stations of an interface see of us: its link-layer address and its IP addresses."""

from __future__ import annotations

import socket

import attrs

from roamroute.linux import rtnetlink
from roamroute.linux.rtnetlink import Notifications, Requests
from roamroute.values import Address, Mac
from roamroute.wire import netlink
from roamroute.wire.netlink import Message

_GROUPS = (rtnetlink.GROUP_LINK, rtnetlink.GROUP_IPV4_ADDRESS, rtnetlink.GROUP_IPV6_ADDRESS)
_BUFFER_BYTES = 1 << 16
_READ_LIMIT = 256


@attrs.frozen
class Facing:
    """`mac` is None where the link has none."""

    index: int
    name: str
    mac: Mac | None
    addresses: tuple[Address, ...]


class KnownFaces:
    """Asks the kernel at the first need, and again when something has changed.

    Two dumps at every connection took 0.5 ms, in which the host routes waited as well; to read that nothing has changed
    takes 2 us. Needs no loop: notifications wait in the socket, and a loss of them is a change.
    """

    def __init__(self) -> None:
        self._by_link: dict[str, Facing] = {}
        self._requests: Requests | None = None
        self._notifications: Notifications | None = None

    def of(self, link: str) -> Facing | None:
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


def _ask(requests: Requests, link: str) -> Facing | None:
    try:
        index = socket.if_nametoindex(link)
    except OSError:
        return None
    (answer,) = requests.get(netlink.RTM_GETLINK, netlink.link_body(index=index))
    entries = [
        netlink.decode_address(each) for each in requests.dump(netlink.RTM_GETADDR, netlink.address_body(index=index))
    ]
    addresses = tuple(entry.address for entry in entries if entry is not None and entry.ifindex == index)
    return Facing(index, link, netlink.decode_link(answer).mac, addresses)
