"""Other programs' host routes in the FIB, inside given prefixes.

Two uses: a host route inside a roaming prefix says that another access point announces the host (evidence for the
engine where no adapter hears the routing daemon itself), and those inside the mesh's infrastructure prefix are the
peers. The kernel's own routes (protocol 2: our addresses) and redirects are not counted, nor are unreachable ones:
babeld 1.12 keeps a retracted prefix as such for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from roamroute.errors import KernelRefused, MalformedInput
from roamroute.events import Event, ForeignRouteLost, ForeignRouteSeen
from roamroute.export import KernelNumbers
from roamroute.linux import rtnetlink
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Log, Notifications, Requests
from roamroute.values import Address, Prefix, Seconds
from roamroute.wire import netlink
from roamroute.wire.netlink import Message, RouteEntry

_GROUPS = (rtnetlink.GROUP_IPV4_ROUTE, rtnetlink.GROUP_IPV6_ROUTE)
_BUFFER_BYTES = 1 << 20
_READ_LIMIT = 512
_RETRY_S: Seconds = 1.0
_LOSS_PAUSE_S: Seconds = 1.0
"""A routing daemon that starts installs thousands of routes at once; one dump a second is enough to follow."""

Key = tuple[int, int, int, str]
"""metric, protocol, interface, gateway: routes of one address that differ in any of these stand beside each other."""


class ForeignRoutes:
    """Follows host routes of protocols that are not ours; tells what is new and what is gone."""

    def __init__(
        self,
        prefixes: Sequence[Prefix],
        ours: KernelNumbers,
        changed: Callable[[Mapping[Address, str], frozenset[Address]], None],
        log: Log,
    ) -> None:
        """`changed`: called in the loop with the addresses that are new (with their origin, for people) and gone."""
        self._prefixes = tuple(prefixes)
        self._table = ours.table
        self._ignored = frozenset(
            {
                netlink.RTPROT_REDIRECT,
                netlink.RTPROT_KERNEL,
                ours.protocol,
                ours.withdrawing_protocol,
                ours.hidden_protocol,
                ours.dormant_protocol,
            }
        )
        self._changed = changed
        self._repeats = Repeats(log)
        self._routes: dict[Address, dict[Key, str]] = {}
        self._told: frozenset[Address] = frozenset()
        self._notifications: Notifications | None = None
        self._pending: asyncio.TimerHandle | None = None

    @property
    def addresses(self) -> frozenset[Address]:
        """The addresses that others announce at this moment."""
        return self._told

    async def run(self) -> None:
        """Follow the kernel until cancelled."""
        try:
            while True:
                try:
                    program = rtnetlink.host_route_filter(ignored_protocols=sorted(self._ignored))
                    self._notifications = Notifications(_GROUPS, _BUFFER_BYTES, program)
                    break
                except OSError as error:
                    self._repeats.tell("error", "open", f'netlink cannot be opened because="{error}"')
                    await asyncio.sleep(_RETRY_S)
            asyncio.get_running_loop().add_reader(self._notifications.fileno(), self._readable)
            self.resync()
            await asyncio.get_running_loop().create_future()
        finally:
            if self._pending is not None:
                self._pending.cancel()
            if self._notifications is not None:
                asyncio.get_running_loop().remove_reader(self._notifications.fileno())
                self._notifications.close()
                self._notifications = None

    def resync(self) -> None:
        """Dump the table now and tell the difference."""
        self._pending = None
        routes: dict[Address, dict[Key, str]] = {}
        try:
            requests = Requests()
            try:
                for family in sorted({prefix.version for prefix in self._prefixes}):
                    number = netlink.AF_INET6 if family == 6 else netlink.AF_INET
                    body = netlink.route_filter_body(number, table=self._table)
                    for message in requests.dump(netlink.RTM_GETROUTE, body):
                        # Most routes are no host routes: one byte decides before anything is decoded.
                        if message.data[message.start + 1 : message.start + 2] in (b"\x80", b"\x20"):
                            self._learn(routes, message)
            finally:
                requests.close()
        except (KernelRefused, MalformedInput, OSError) as error:
            self._repeats.tell("error", "dump", f'foreign routes cannot be dumped, trying again because="{error}"')
            self._later(_RETRY_S)
            return
        self._routes = routes
        self._tell()

    def _later(self, delay_s: Seconds) -> None:
        if self._pending is None:
            self._pending = asyncio.get_running_loop().call_later(delay_s, self.resync)

    def _readable(self) -> None:
        if self._notifications is None:
            return
        try:
            messages, is_lossy = self._notifications.read(_READ_LIMIT)
        except OSError as error:
            self._repeats.tell("warning", "broken", f'route notifications broke because="{error}"')
            self._later(_RETRY_S)
            return
        if is_lossy:
            self._repeats.tell("info", "loss", 'route notifications were lost, dumping again because="ENOBUFS"')
            self._later(_LOSS_PAUSE_S)
        for message in messages:
            try:
                if message.kind in (netlink.RTM_NEWROUTE, netlink.RTM_DELROUTE):
                    self._learn(self._routes, message)
            except MalformedInput as error:
                self._repeats.tell("warning", "malformed", f'kernel message skipped because="{error}"')
        self._tell()

    def _learn(self, routes: dict[Address, dict[Key, str]], message: Message) -> None:
        entry = netlink.decode_route(message)
        address = entry.destination
        if (
            address is None
            or entry.prefix_length != address.max_prefixlen
            or entry.table != self._table
            or not any(address in prefix for prefix in self._prefixes)
        ):
            return
        keys = routes.setdefault(address, {})
        if message.kind == netlink.RTM_NEWROUTE and message.flags & netlink.NLM_F_REPLACE:
            # What it replaced had the same metric, and is not mentioned again.
            for key in [key for key in keys if key[0] == entry.metric]:
                del keys[key]
        key = (entry.metric, entry.protocol, entry.ifindex or 0, str(entry.gateway or ""))
        if message.kind == netlink.RTM_DELROUTE:
            keys.pop(key, None)
        elif entry.kind == netlink.RTN_UNICAST and entry.protocol not in self._ignored:
            keys[key] = _origin(entry)
        if not keys:
            del routes[address]

    def _tell(self) -> None:
        present = frozenset(self._routes)
        new = {address: next(iter(self._routes[address].values())) for address in present - self._told}
        gone = self._told - present
        self._told = present
        if new or gone:
            self._changed(new, gone)


def events_for(seen: Mapping[Address, str], lost: frozenset[Address]) -> list[Event]:
    """The changes as the engine takes them."""
    gone: list[Event] = [ForeignRouteLost(address) for address in lost]
    return gone + [ForeignRouteSeen(address, origin) for address, origin in seen.items()]


def _origin(entry: RouteEntry) -> str:
    via = f" via {entry.gateway}" if entry.gateway is not None else ""
    return f"kernel route of protocol {entry.protocol}{via} metric {entry.metric}"
