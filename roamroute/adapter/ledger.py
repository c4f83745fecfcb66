"""What an adapter keeps: which routes are wanted, which of them the daemon exports, and what others announce.

Pure, but for the context's `emit`. Foreign routes may be seen in several places (the daemon's socket, the FIB): an
address is foreign while one of them shows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from roamroute.delta import Delta
from roamroute.events import ForeignRouteLost, ForeignRouteSeen
from roamroute.export import ExporterContext, FibChange
from roamroute.values import Address, HostRoute, Instant, Prefix, Seconds

_FIB = "fib"


class Ledger:
    """The three views of one adapter. `clock` gives monotonic seconds."""

    def __init__(self, context: ExporterContext, *, clock: Callable[[], Instant] = time.monotonic) -> None:
        self._context = context
        self._clock = clock
        self._wanted: dict[Address, HostRoute] = {}
        self._since: dict[Address, Instant] = {}
        self._exported: set[Address] = set()
        self._installed: set[Address] = set()
        self._left_over: set[Address] = set()
        """Of those installed, the ones that are not wanted."""
        self._foreign: dict[Address, dict[str, str]] = {}
        """Per address the places where a foreign route was seen, and its origin there."""

    # what is wanted

    @property
    def wanted(self) -> Mapping[Address, HostRoute]:
        return self._wanted

    def publish(self, delta: Delta) -> None:
        """Take a change; a withdrawal of a route that has moved on to another link changes nothing."""
        now = self._clock()
        for route in delta.withdrawn:
            if self._wanted.get(route.address, route) == route:
                self._forget(route.address)
        for route in delta.announced:
            self._want(route, now)

    def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        """Take the whole set."""
        now = self._clock()
        for address in self._wanted.keys() - {route.address for route in wanted}:
            self._forget(address)
        for route in wanted:
            self._want(route, now)

    def _want(self, route: HostRoute, now: Instant) -> None:
        if self._wanted.get(route.address) != route:
            self._wanted[route.address] = route
            self._left_over.discard(route.address)
            self._since[route.address] = now

    def _forget(self, address: Address) -> None:
        self._wanted.pop(address, None)
        if address in self._installed:
            self._left_over.add(address)
        self._since.pop(address, None)
        self._exported.discard(address)

    # what the daemon confirms

    @property
    def exported(self) -> frozenset[Address]:
        return frozenset(self._exported)

    def confirm(self, address: Address, is_exported: bool) -> bool:
        """Note what the daemon says of one address; True when that is news."""
        is_exported = is_exported and address in self._wanted
        if is_exported == (address in self._exported):
            return False
        if is_exported:
            self._exported.add(address)
        else:
            self._exported.discard(address)
        return True

    def confirm_exactly(self, addresses: Iterable[Address]) -> bool:
        """Note all that the daemon exports; True when that is news."""
        exported = self._wanted.keys() & set(addresses)
        if exported == self._exported:
            return False
        self._exported = exported
        return True

    def missing(self, for_s: Seconds) -> list[Address]:
        """The addresses that have been wanted for so long, and are not exported."""
        due = self._clock() - for_s
        return [at for at, since in self._since.items() if since <= due and at not in self._exported]

    # what others announce

    @property
    def foreign(self) -> Mapping[Address, Mapping[str, str]]:
        """Per address where a foreign route was seen, and its origin there."""
        return self._foreign

    def is_roaming(self, prefix: Prefix) -> bool:
        """Is this the host route of an address inside a roaming prefix?"""
        if prefix.prefixlen != prefix.max_prefixlen:
            return False
        return any(
            prefix.version == roaming.version and prefix.network_address in roaming
            for roaming in self._context.prefixes
        )

    def heard(self, place: str, address: Address, origin: str | None) -> None:
        """A foreign route of this origin is there in this place, or (None) is not any more; tells what is news."""
        places = self._foreign.setdefault(address, {})
        if places.get(place) == origin:
            if not places:
                del self._foreign[address]
            return
        if origin is not None:
            places[place] = origin
            self._context.emit(ForeignRouteSeen(address, origin))
            return
        del places[place]
        if not places:
            del self._foreign[address]
            self._context.emit(ForeignRouteLost(address))

    def heard_exactly(self, place: str, origins: Mapping[Address, str]) -> None:
        """All foreign routes that are there in this place."""
        for address in [at for at, places in self._foreign.items() if place in places and at not in origins]:
            self.heard(place, address, None)
        for address, origin in origins.items():
            self.heard(place, address, origin)

    # what the FIB shows

    @property
    def installed(self) -> frozenset[Address]:
        """The host routes over roaming interfaces that another program has in the FIB: the daemon, where it injects."""
        return frozenset(self._installed)

    @property
    def has_left_over(self) -> bool:
        """Is there something installed that is not wanted (any more)?"""
        return bool(self._left_over)

    def is_uninstalled(self, address: Address) -> bool:
        """Does the daemon export it, and has not put it into the FIB?"""
        return address in self._exported and address not in self._installed

    def fib_changed(self, change: FibChange) -> None:
        """For `ExporterContext.follow_fib`."""
        for address in change.lost:
            self.heard(_FIB, address, None)
        for address, origin in change.foreign.items():
            self.heard(_FIB, address, origin)
        self._installed -= change.removed
        self._left_over -= change.removed
        self._installed |= change.installed
        self._left_over |= change.installed - self._wanted.keys()
