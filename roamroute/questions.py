"""Addresses that have no entry, whose hosts were asked for them: candidates and challenges. Pure.

A *candidate* is an address that only a packet named; a *challenge* is one whose host a peer holds. Both are settled by
a probe: what counts is a REACHABLE that the kernel reports after the probe itself, anything else is older. A question
that nobody answered may be asked again after `PAUSE_S`. Bounded in all and for each host, so that one station's forged
packets do not keep the others' addresses from being asked for.
"""

from __future__ import annotations

import attrs

from roamroute.values import Address, Instant, Mac, Seconds

PAUSE_S: Seconds = 5.0  # three unicast NS and two seconds: nobody is asked twice at the same time
_TOTAL = 1024
PER_SECOND = 200
"""`_TOTAL` questions of 5 s each: a fifth of the urgent probes."""


@attrs.define(eq=False)
class Question:
    """A probe of an address without an entry; `is_out`: the kernel has told of it, what answers it comes after that."""

    mac: Mac
    link: str
    asked_at: Instant
    is_out: bool = False


class Questions:
    """At most one question for each address, `per_host` for each host."""

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._by_address: dict[Address, Question] = {}  # oldest first
        self._by_mac: dict[Mac, set[Address]] = {}

    def __len__(self) -> int:
        return len(self._by_address)

    def __contains__(self, address: Address) -> bool:
        return address in self._by_address

    def get(self, address: Address, now: Instant) -> Question | None:
        """The question for `address` that is still open."""
        question = self._by_address.get(address)
        if question is not None and question.asked_at + PAUSE_S < now:
            self.end(address)
            return None
        return question

    def are_open(self, mac: Mac) -> bool:
        """True while a host is asked for one of its addresses."""
        return mac in self._by_mac

    def ask(self, address: Address, mac: Mac, link: str, now: Instant) -> bool:
        """Open a question; False when one is open for the address or a bound is reached: then nobody is to be asked."""
        if self.get(address, now) is not None:
            return False
        while self._by_address and next(iter(self._by_address.values())).asked_at + PAUSE_S < now:
            self.end(next(iter(self._by_address)))
        of_host = self._by_mac.setdefault(mac, set())
        if len(self._by_address) >= _TOTAL or len(of_host) >= self._per_host:
            if not of_host:
                del self._by_mac[mac]
            return False
        of_host.add(address)
        self._by_address[address] = Question(mac, link, now)
        return True

    def end(self, address: Address) -> None:
        """The question is answered, or means nothing any more."""
        question = self._by_address.pop(address, None)
        if question is not None:
            of_host = self._by_mac[question.mac]
            of_host.discard(address)
            if not of_host:
                del self._by_mac[question.mac]

    def end_all(self, mac: Mac) -> None:
        """Who holds the host is decided: answers to older probes mean nothing."""
        for address in tuple(self._by_mac.get(mac, ())):
            self.end(address)
