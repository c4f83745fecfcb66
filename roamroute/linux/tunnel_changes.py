"""What others change of the rules and routes of forwarding, or of the interfaces that they rest on."""

from __future__ import annotations

from roamroute.errors import MalformedInput
from roamroute.linux import rtnetlink
from roamroute.linux.rtnetlink import Notifications
from roamroute.linux.tunnel_tables import TunnelTables
from roamroute.wire import netlink
from roamroute.wire.netlink import Message

_GROUPS = (
    *(rtnetlink.GROUP_LINK, rtnetlink.GROUP_IPV6_ADDRESS, rtnetlink.GROUP_IPV6_ROUTE, rtnetlink.GROUP_IPV4_ROUTE),
    *(rtnetlink.GROUP_IPV4_RULE, rtnetlink.GROUP_IPV6_RULE),
)
_BUFFER_BYTES = 1 << 18
_READ_LIMIT = 512


class TunnelChanges:
    """Listens; for a loop's reader."""

    def __init__(self, tables: TunnelTables, ours: int) -> None:
        """`ours`: the port of the socket whose changes are our own. Raises: OSError."""
        self._tables = (tables.forwards, tables.segments)
        self._up: dict[int, str] = {}
        program = rtnetlink.table_filter(self._tables, ignored_port=ours)
        self._notifications = Notifications(_GROUPS, _BUFFER_BYTES, program)

    def fileno(self) -> int:
        return self._notifications.fileno()

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._notifications.close()

    def read(self, index: int | None) -> bool:
        """Whether something concerns us in what has come. `index`: the interface of our routes. Raises: OSError."""
        messages, is_lossy = self._notifications.read(_READ_LIMIT)
        concerning = [self._concerns(message, index) for message in messages]
        return is_lossy or any(concerning)

    def _concerns(self, message: Message, index: int | None) -> bool:
        """Much that is told does not: a Wi-Fi driver speaks of its links at every association."""
        try:
            match message.kind:
                case netlink.RTM_NEWLINK | netlink.RTM_DELLINK:
                    link = netlink.decode_link(message)
                    if link.family != netlink.AF_UNSPEC:
                        return False
                    before = self._up.pop(link.ifindex, None)
                    if message.kind == netlink.RTM_NEWLINK and link.flags & netlink.IFF_UP:
                        self._up[link.ifindex] = link.name
                    return self._up.get(link.ifindex) != before
                case netlink.RTM_NEWADDR | netlink.RTM_DELADDR:
                    entry = netlink.decode_address(message)
                    return entry is not None and index in (None, entry.ifindex)
                case netlink.RTM_NEWROUTE | netlink.RTM_DELROUTE:
                    return netlink.decode_route(message).table in self._tables
                case _:
                    return True
        except MalformedInput:
            return True
