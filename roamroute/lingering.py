"""Host routes that stay wanted although the host is elsewhere: make before break. Pure.

A withdrawal outruns the announcement that is to replace it: the routers between would have no route for seconds. So
the former access point goes on announcing for a while, as long as it sends on what comes by that route.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from roamroute.values import Address, HostRoute, Instant, Mac


class Lingering(Mapping[Address, Instant]):
    """At most one route for each address, until when. Bounded by the forwards, which each of them needs."""

    def __init__(self) -> None:
        self._routes: dict[Address, tuple[HostRoute, Mac, Instant]] = {}
        self._of_host: dict[Mac, dict[Address, None]] = {}

    def __getitem__(self, address: Address) -> Instant:
        return self._routes[address][2]

    def __iter__(self) -> Iterator[Address]:
        return iter(self._routes)

    def __len__(self) -> int:
        return len(self._routes)

    def __contains__(self, address: object) -> bool:
        return address in self._routes

    def routes(self) -> tuple[HostRoute, ...]:
        """All of them."""
        return tuple(route for route, _, _ in self._routes.values())

    def of_host(self, mac: Mac) -> tuple[Address, ...]:
        """The addresses of this host."""
        return tuple(self._of_host.get(mac, ()))

    def owner(self, address: Address) -> Mac | None:
        """The host that was here."""
        known = self._routes.get(address)
        return None if known is None else known[1]

    def add(self, route: HostRoute, mac: Mac, until: Instant) -> None:
        """Let the route linger."""
        self.end(route.address)
        self._routes[route.address] = (route, mac, until)
        self._of_host.setdefault(mac, {})[route.address] = None

    def end(self, address: Address) -> HostRoute | None:
        """It lingers no longer; returns the route, if there was one."""
        known = self._routes.pop(address, None)
        if known is None:
            return None
        route, mac, _ = known
        of_host = self._of_host[mac]
        del of_host[address]
        if not of_host:
            del self._of_host[mac]
        return route
