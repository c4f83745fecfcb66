"""What one babeld knows, rebuilt from the lines of its socket, and what follows from it for kicks and deletions.

A prefix is taken as babeld holds it: IPv4 as ::ffff:a.b.c.d with 96 added to the length. babeld sorts what it
originates by (length, bits); the first of them, `head`, decides what 1.13 and 1.14 retract when a route is deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from roamroute.values import Address, Prefix
from roamroute_babeld.protocol import INFINITY, Change, InterfaceLine, Line, RouteLine, XrouteLine

POISON = 65532
"""The metric of parked routes: with the cost of any link (3 at least) infinite for the neighbour. babeld sends it, and
not another router's route that it has installed, since `kernel-priority` is as great (message.c flushupdates)."""
DORMANT = 65533
"""The metric of dormant routes: another router's route is installed, since `allow-duplicates` is greater (65534, the
most that babeld takes; route.c consider_route), and is sent, since `kernel-priority` is less."""
LINGERING = 49152
"""The metric of routes whose host has moved on. Greater than the half of infinity with which the smoothed metric of a
new route begins (route.c, route_smoothed_metric): the new one wins when the old one's has risen. With the cost of 60
wireless hops it is still finite."""

_DEFAULTS = (IPv6Network("::/0"), IPv4Network("0.0.0.0/0"))
_IPV4_MAPPED = 0xFFFF << 32


class Tables:
    """The state of one babeld at one moment; `apply` moves it on."""

    def __init__(self) -> None:
        self.interfaces: dict[str, bool] = {}
        """Whether babeld takes the interface for up."""
        self.xroutes: dict[tuple[Prefix, Prefix], int] = {}
        """What it originates: (destination, source) and metric."""
        self.routes: dict[str, RouteLine] = {}
        """What it heard, by babeld's own name for the route."""
        self._heard: Counter[tuple[Prefix, Prefix]] = Counter()
        self._hosts: dict[Address, dict[str, tuple[str, int]]] = {}
        self._short: set[Prefix] = set()
        self._ipv4_hosts = 0

    def apply(self, line: Line) -> None:
        """Take one line of state; others change nothing."""
        match line:
            case XrouteLine():
                self._apply_xroute(line)
            case RouteLine():
                self._apply_route(line)
            case InterfaceLine(change=change, name=name, is_up=is_up):
                if change is Change.FLUSH:
                    self.interfaces.pop(name, None)
                else:
                    self.interfaces[name] = is_up
            case _:
                pass

    def knows(self, line: XrouteLine) -> bool:
        """Does the line change nothing?"""
        return self.xroutes.get((line.prefix, line.source)) == line.metric

    @property
    def slots(self) -> int:
        """How many destinations were heard of: babeld's `installed_routes_estimate()`."""
        return len(self._heard)

    def metric_of(self, address: Address) -> int | None:
        """The metric with which the host route of `address` is originated; None where it is not."""
        return self.xroutes.get(_host_key(address))

    def originators(self, address: Address) -> frozenset[tuple[str, int]]:
        """The routers whose host route for `address` was heard, each with the (finite) metric of that route."""
        return frozenset(self._hosts.get(address, {}).values())

    def is_settled(self, address: Address) -> bool:
        """Is the host parked here, and another router's usable route for it installed beside?

        A neighbour sends us such a route only when it does not use ours any more, so it has heard the poison; or it has
        been there before, and sending it does what the poison does (route.c update_route: another originator).
        """
        if self.metric_of(address) != POISON:
            return False
        return any(self.routes[identity].is_installed for identity in self._hosts.get(address, ()))

    def foreign_hosts(self) -> Iterator[Address]:
        """The addresses with host routes of other routers."""
        return iter(self._hosts)

    def head(self) -> Prefix | None:
        """The first of what it originates, in babeld's order; for the host routes only their family is right."""
        if self._short:
            return min(self._short, key=_order)
        if not self.xroutes:
            return None
        return _DEFAULT_HOSTS[1 if self._ipv4_hosts else 0]

    def is_deletion_harmless(self, prefix: Prefix) -> bool:
        """May the originated host route `prefix` be deleted, where deletions retract with the length of `head`?

        Retracted is, for a `head` of the same family, the covering prefix of that length: harmless where no neighbour
        hears that one from us. For a `head` of the other family the retraction names a source prefix that nobody has.
        """
        head = self.head()
        if head is None or head.version != prefix.version or head.prefixlen >= prefix.prefixlen:
            return True
        covering = prefix.supernet(new_prefix=head.prefixlen)
        key = (covering, _DEFAULTS[0 if prefix.version == 6 else 1])
        return key not in self.xroutes and key not in self._heard

    def blocked_hosts(self) -> int:
        """How many parked addresses have a usable foreign route that babeld does not install."""
        count = 0
        for (prefix, _), metric in self.xroutes.items():
            address = prefix.network_address
            if metric < POISON or prefix.prefixlen != prefix.max_prefixlen or address not in self._hosts:
                continue
            heard = [self.routes[identity] for identity in self._hosts[address]]
            count += bool(heard) and not any(route.is_installed for route in heard)
        return count

    def _apply_xroute(self, line: XrouteLine) -> None:
        key = (line.prefix, line.source)
        is_host = line.prefix.prefixlen == line.prefix.max_prefixlen
        if line.change is Change.FLUSH:
            if self.xroutes.pop(key, None) is None:
                return
            if not is_host:
                self._short = {prefix for prefix, _ in self.xroutes if prefix.prefixlen < prefix.max_prefixlen}
            elif line.prefix.version == 4:
                self._ipv4_hosts -= 1
            return
        if key not in self.xroutes:
            if not is_host:
                self._short.add(line.prefix)
            elif line.prefix.version == 4:
                self._ipv4_hosts += 1
        self.xroutes[key] = line.metric

    def _apply_route(self, line: RouteLine) -> None:
        key = (line.prefix, line.source)
        before = self.routes.pop(line.identity, None)
        if before is not None:
            self._forget(before)
        if line.change is Change.FLUSH:
            return
        self.routes[line.identity] = line
        self._heard[key] += 1
        is_host = line.prefix.prefixlen == line.prefix.max_prefixlen and line.source in _DEFAULTS
        if is_host and line.metric < INFINITY:
            self._hosts.setdefault(line.prefix.network_address, {})[line.identity] = (line.router_id, line.metric)

    def _forget(self, before: RouteLine) -> None:
        key = (before.prefix, before.source)
        self._heard[key] -= 1
        if self._heard[key] <= 0:
            del self._heard[key]
        address = before.prefix.network_address
        heard = self._hosts.get(address)
        if heard is not None and heard.pop(before.identity, None) is not None and not heard:
            del self._hosts[address]


_DEFAULT_HOSTS = (IPv6Network("2001:db8::/128"), IPv4Network("192.0.2.0/32"))


@lru_cache(maxsize=4096)
def _host_key(address: Address) -> tuple[Prefix, Prefix]:
    return (ip_network(address), _DEFAULTS[0 if address.version == 6 else 1])


def _order(prefix: Prefix) -> tuple[int, int]:
    if prefix.version == 4:
        return (prefix.prefixlen + 96, _IPV4_MAPPED | int(prefix.network_address))
    return (prefix.prefixlen, int(prefix.network_address))
