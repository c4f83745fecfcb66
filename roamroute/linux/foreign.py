"""Other programs' host routes in the FIB, inside given prefixes.

Three uses: a host route inside a roaming prefix that leads into the mesh says that another access point announces the
host (evidence for the engine where no adapter hears the routing daemon itself); one over a roaming interface is what a
routing daemon that injects has installed for us; and those inside the mesh's infrastructure prefix are the peers. The
kernel's own routes (protocol 2: our addresses) and redirects are not counted, nor are unreachable ones: babeld 1.12
keeps a retracted prefix as such for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from roamroute.errors import KernelRefused, MalformedInput
from roamroute.export import FibChange, KernelNumbers
from roamroute.linux import rtnetlink
from roamroute.linux.repeats import Repeats
from roamroute.linux.rtnetlink import Log, Notifications, Requests
from roamroute.values import Address, Prefix, Seconds
from roamroute.wire import netlink
from roamroute.wire.netlink import Message, RouteEntry

_GROUPS = (rtnetlink.GROUP_LINK, rtnetlink.GROUP_IPV4_ROUTE, rtnetlink.GROUP_IPV6_ROUTE)
_BUFFER_BYTES = 1 << 20
_READ_LIMIT = 512
_RETRY_S: Seconds = 1.0
_LOSS_PAUSE_S: Seconds = 1.0
"""A routing daemon that starts installs thousands of routes at once; one dump a second is enough to follow."""
_DOUBT_PAUSE_S: Seconds = 0.1

Key = tuple[int, int, int, Address | None]
"""metric, protocol, interface, gateway: routes of one address that differ in any of these stand beside each other."""
_SEVERAL = 0
"""Instead of the interface: more than one way."""


class ForeignRoutes:
    """Follows host routes of protocols that are not ours; tells what is new and what is gone."""

    def __init__(
        self,
        prefixes: Sequence[Prefix],
        ours: KernelNumbers,
        changed: Callable[[FibChange], None],
        log: Log,
        *,
        interfaces: Sequence[str] = (),
    ) -> None:
        """`changed`: called in the loop. `interfaces`: routes over these, without a gateway, are not foreign but
        installed."""
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
                ours.lingering_protocol,
            }
        )
        self._changed = changed
        self._interfaces = frozenset(interfaces)
        self._repeats = Repeats(log)
        self._roaming: set[int] = set()
        """The indexes of `interfaces`."""
        self._routes: dict[Address, set[Key]] = {}
        self._touched: set[Address] = set()
        """Whose routes have changed since the last telling."""
        self._foreign: set[Address] = set()
        self._installed: set[Address] = set()
        self._notifications: Notifications | None = None
        self._pending: asyncio.TimerHandle | None = None

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
        before = self._routes
        try:
            requests = Requests()
            try:
                self._dump(requests)
            finally:
                requests.close()
        except (KernelRefused, MalformedInput, OSError) as error:
            self._routes = before
            self._repeats.tell("error", "dump", f'foreign routes cannot be dumped, trying again because="{error}"')
            self._later(_RETRY_S)
            return
        self._touched |= before.keys() | self._routes.keys()
        self._tell()

    def _dump(self, requests: Requests) -> None:
        self._roaming = set()
        for message in requests.dump(netlink.RTM_GETLINK, netlink.link_body()):
            self._learn_link(message)
        self._routes = {}
        for family in sorted({prefix.version for prefix in self._prefixes}):
            number = netlink.AF_INET6 if family == 6 else netlink.AF_INET
            body = netlink.route_filter_body(number, table=self._table)
            for message in requests.dump(netlink.RTM_GETROUTE, body):
                # Most routes are no host routes: one byte decides before anything is decoded.
                if message.data[message.start + 1 : message.start + 2] in (b"\x80", b"\x20"):
                    self._learn(message)

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
                    self._learn(message)
                elif message.kind in (netlink.RTM_NEWLINK, netlink.RTM_DELLINK):
                    self._learn_link(message)
            except MalformedInput as error:
                self._repeats.tell("warning", "malformed", f'kernel message skipped because="{error}"')
        self._tell()

    def _learn_link(self, message: Message) -> None:
        link = netlink.decode_link(message)
        if link.family != netlink.AF_UNSPEC:
            return
        is_there = message.kind == netlink.RTM_NEWLINK
        if not is_there or not link.flags & netlink.IFF_UP:
            # The kernel takes the routes along, those of IPv4 without a word.
            self._forget(link.ifindex)
        if (is_there and link.name in self._interfaces) != (link.ifindex in self._roaming):
            self._roaming ^= {link.ifindex}
            self._touched |= self._routes.keys()

    def _forget(self, ifindex: int) -> None:
        for address, keys in list(self._routes.items()):
            left = {key for key in keys if key[2] != ifindex}
            if left != keys:
                self._keep(address, left)
            if any(key[2] == _SEVERAL for key in left):
                self._later(_DOUBT_PAUSE_S)

    def _learn(self, message: Message) -> None:
        entry = netlink.decode_route(message)
        address = entry.destination
        if (
            address is None
            or entry.prefix_length != address.max_prefixlen
            or entry.table != self._table
            or not any(address in prefix for prefix in self._prefixes)
        ):
            return
        keys = self._routes.get(address, set())
        key = _key(entry)
        # IPv6 joins routes of one metric into one with several ways, and shows that from then on.
        joined = {each for each in keys if each[:2] == key[:2]} if key[2] == _SEVERAL else {key}
        if message.kind == netlink.RTM_DELROUTE:
            if key not in keys and (*key[:2], _SEVERAL, None) in keys:
                self._later(_DOUBT_PAUSE_S)  # one of several ways: the last, or are there more?
            keys = keys - joined
        else:
            if message.flags & netlink.NLM_F_REPLACE:
                # What it replaced had the same metric, and is not mentioned again.
                keys = {each for each in keys if each[0] != entry.metric}
            keys = keys - joined
            if entry.kind == netlink.RTN_UNICAST and entry.protocol not in self._ignored:
                keys = keys | {key}
        self._keep(address, keys)

    def _keep(self, address: Address, keys: set[Key]) -> None:
        self._touched.add(address)
        if keys:
            self._routes[address] = keys
        else:
            self._routes.pop(address, None)

    def _tell(self) -> None:
        """Tell what is new of the addresses that were touched."""
        foreign: dict[Address, str] = {}
        installed: set[Address] = set()
        for address in self._touched:
            for key in sorted(self._routes.get(address, ()), key=lambda key: key[0]):
                if key[2] in self._roaming and key[3] is None:
                    installed.add(address)
                else:
                    foreign.setdefault(address, _origin(key))
        change = FibChange(
            foreign={address: origin for address, origin in foreign.items() if address not in self._foreign},
            lost=_gone(self._foreign, self._touched, foreign),
            installed=frozenset(installed - self._installed),
            removed=_gone(self._installed, self._touched, installed),
        )
        self._touched = set()
        if change == FibChange():
            return
        self._foreign -= change.lost
        self._foreign |= change.foreign.keys()
        self._installed -= change.removed
        self._installed |= change.installed
        self._changed(change)


def _key(entry: RouteEntry) -> Key:
    return (entry.metric, entry.protocol, entry.ifindex or _SEVERAL, entry.gateway)


def _origin(key: Key) -> str:
    metric, protocol, _, gateway = key
    via = f" via {gateway}" if gateway is not None else ""
    return f"kernel route of protocol {protocol}{via} metric {metric}"


def _gone(told: set[Address], touched: set[Address], present: Iterable[Address]) -> frozenset[Address]:
    return frozenset((told & touched).difference(present))
