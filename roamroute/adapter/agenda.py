"""When to ask a routing daemon about which address. Pure.

A route that has just been published is asked for at once and again after pauses that double, until it is exported; all
others are looked at in turn, a few a second, so that neither we nor the daemon are busier for having many.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict

from roamroute.values import Address, Instant, Seconds

FIRST_PAUSE_S: Seconds = 0.01
"""BIRD takes a kernel route within 1 ms when it is idle, a file of 5,000 within 7 ms; FRR a route within 30 ms."""
LAST_PAUSE_S: Seconds = 8.0


class Agenda:
    """The addresses that are held, and when to ask about those that are not exported."""

    def __init__(self) -> None:
        self._held: OrderedDict[Address, None] = OrderedDict()
        """Whose turn it is comes first."""
        self._due: dict[Address, Instant] = {}
        self._pause_s: dict[Address, Seconds] = {}

    @property
    def held(self) -> tuple[Address, ...]:
        return tuple(self._held)

    def hold(self, address: Address, now: Instant) -> None:
        """A route has been published: ask soon."""
        self._held.setdefault(address)
        self._due[address] = now
        self._pause_s[address] = FIRST_PAUSE_S

    def drop(self, address: Address) -> None:
        """The route is not wanted any more."""
        self._held.pop(address, None)
        self._settle(address)

    def ask_all(self, now: Instant) -> None:
        """Everything that is known may be wrong."""
        for address in self._held:
            self.hold(address, now)

    def answered(self, address: Address, now: Instant, *, is_exported: bool) -> None:
        """The daemon has said whether the address is exported."""
        if is_exported:
            self._settle(address)
        elif address in self._held:
            pause_s = self._pause_s.get(address, FIRST_PAUSE_S)
            self._due[address] = now + pause_s
            self._pause_s[address] = min(LAST_PAUSE_S, 2 * pause_s)

    def due(self, now: Instant) -> list[Address]:
        """What is to be asked now."""
        return [address for address, at in self._due.items() if at <= now]

    @property
    def next_due(self) -> Instant | None:
        return min(self._due.values(), default=None)

    def turns(self, count: int) -> list[Address]:
        """The next held addresses, in turn: at most `count`, none twice."""
        found = list(itertools.islice(self._held, count))
        for address in found:
            self._held.move_to_end(address)
        return found

    def _settle(self, address: Address) -> None:
        self._due.pop(address, None)
        self._pause_s.pop(address, None)
