"""Whether this access point has a way to the Internet: follows some routes of the main table.

A route counts when it is unicast, whoever made it, also when it is for some sources only (babeld's source-specific
routes, RFC 8678); what answers "unreachable" or drops does not, nor does a route out of an interface without a carrier.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, IPv6Network

from roamroute.errors import KernelRefused, MalformedInput
from roamroute.linux import rtnetlink
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Log, Notifications, Requests
from roamroute.values import Instant, Seconds
from roamroute.wire import netlink
from roamroute.wire.netlink import Message

_GROUPS = (rtnetlink.GROUP_LINK, rtnetlink.GROUP_IPV6_ROUTE)
_MAIN_TABLE = 254
_BUFFER_BYTES = 1 << 18
_READ_LIMIT = 256
_BETWEEN_LOOKS_S: Seconds = 0.5
"""A look is a dump of the table, 1 ms for a thousand routes; a change after a quiet time is looked at at once."""
_IS_UP = netlink.IFF_UP | netlink.IFF_LOWER_UP


class RouteWatch:
    """Tells whether there is a route that covers one of `prefixes`: first at the start of `run`, then when it changes.

    The notifications say only that something has happened; the table is looked at then. No wake-up for host routes.
    """

    def __init__(
        self,
        prefixes: Sequence[IPv6Network],
        changed: Callable[[bool], None],
        log: Log,
        *,
        clock: Callable[[], Instant] = time.monotonic,
    ) -> None:
        """Opens nothing yet. `changed`: called in the loop."""
        self._prefixes = tuple(prefixes)
        self._longest = max((prefix.prefixlen for prefix in self._prefixes), default=0)
        self._changed = changed
        self._repeats = Repeats(log)
        self._clock = clock
        self._told: bool | None = None
        self._flags: dict[int, int] = {}
        """Of the links, as far as they matter."""
        self._notifications: Notifications | None = None
        self._requests: Requests | None = None
        self._pending: asyncio.TimerHandle | None = None
        self._looked_at: Instant = float("-inf")

    @property
    def has_route(self) -> bool | None:
        """What was told last; None before the first look."""
        return self._told

    async def run(self) -> None:
        """Follow the kernel until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while self._notifications is None:
                try:
                    self._requests = self._requests or Requests()
                    program = rtnetlink.short_route_filter(self._longest)
                    self._notifications = Notifications(_GROUPS, _BUFFER_BYTES, program)
                except OSError as error:
                    self._repeats.tell("error", "open", f'netlink cannot be opened because="{error}"')
                    await asyncio.sleep(_BETWEEN_LOOKS_S)
            loop.add_reader(self._notifications.fileno(), self._readable)
            self._look()
            await loop.create_future()
        finally:
            if self._pending is not None:
                self._pending.cancel()
                self._pending = None
            if self._notifications is not None:
                loop.remove_reader(self._notifications.fileno())
                self._notifications.close()
                self._notifications = None
            if self._requests is not None:
                self._requests.close()
                self._requests = None

    def _readable(self) -> None:
        if self._notifications is None:
            return
        try:
            messages, is_lossy = self._notifications.read(_READ_LIMIT)
        except OSError as error:
            self._repeats.tell("warning", "broken", f'route notifications broke because="{error}"')
            messages, is_lossy = [], True
        is_news = is_lossy
        for message in messages:
            try:
                is_news = self._is_news(message) or is_news
            except MalformedInput:
                is_news = True
        if is_news:
            self._look_soon()

    def _is_news(self, message: Message) -> bool:
        """A change of the right routes, or of whether a link carries: IPv6 keeps routes of a link without a carrier."""
        if message.kind not in (netlink.RTM_NEWLINK, netlink.RTM_DELLINK):
            return True
        link = netlink.decode_link(message)
        if link.family != netlink.AF_UNSPEC:
            return False
        flags = link.flags & _IS_UP if message.kind == netlink.RTM_NEWLINK else 0
        before = self._flags.get(link.ifindex)
        self._flags[link.ifindex] = flags
        if message.kind == netlink.RTM_DELLINK:
            del self._flags[link.ifindex]
        return flags != before

    def _look_soon(self) -> None:
        if self._pending is None:
            delay_s = max(self._looked_at + _BETWEEN_LOOKS_S - self._clock(), 0.0)
            self._pending = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        self._pending = None
        self._looked_at = self._clock()
        if self._requests is None:
            return
        try:
            body = netlink.route_filter_body(netlink.AF_INET6, table=_MAIN_TABLE)
            has_route = any(self._counts(message) for message in self._requests.dump(netlink.RTM_GETROUTE, body))
        except (KernelRefused, MalformedInput) as error:
            self._repeats.tell("error", "dump", f'routes cannot be dumped, trying again because="{error}"')
            self._look_soon()
            return
        if has_route is not self._told:
            self._told = has_route
            self._changed(has_route)

    def _counts(self, message: Message) -> bool:
        # Most routes are longer: one octet decides before anything is decoded.
        if message.data[message.start + 1] > self._longest:
            return False
        entry = netlink.decode_route(message)
        if entry.kind != netlink.RTN_UNICAST or entry.table != _MAIN_TABLE or entry.flags & netlink.RTNH_F_UNUSABLE:
            return False
        destination = IPv6Address(0) if entry.destination is None else entry.destination
        route = IPv6Network((int(destination), entry.prefix_length), strict=False)
        return any(prefix.subnet_of(route) for prefix in self._prefixes)
