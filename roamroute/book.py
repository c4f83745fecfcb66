"""The engine's books: hosts, their addresses here, what is wanted, and the probes that are due.

Only primitive moves stand here, each keeping the books consistent and saying its effect; *when* to make a move is the
business of engine.py (neighbours and stations) and claims.py (peers). Pure.

Invariants: `entries` is the union of all `host.entries`; `wanted` holds the route of every wanted entry, except while
drained; every bound of the policy holds after every move.
"""

from __future__ import annotations

import random
from collections import deque

from roamroute.admission import Admission
from roamroute.effects import Announce, Effect, Forget, Note, Probe, Unwatch, Watch, Withdraw
from roamroute.hosts import Challenge, Entry, Host
from roamroute.policy import Policy
from roamroute.schedule import Budget, Timetable
from roamroute.values import Address, HostRoute, Instant, Mac, Nud, PeerId, Seconds

_URGENT_QUEUE = 4096  # probes that wait for the urgent budget; 4 s of it, after which a host has asked again anyway


class Book:
    """State and primitive moves. `now` is set by the engine at every call from outside."""

    def __init__(self, admission: Admission, policy: Policy, me: PeerId | None, seed: int) -> None:
        self.admission = admission
        self.policy = policy
        self.me = me
        self.now: Instant = 0.0
        self.is_drained = False
        self.hosts: dict[Mac, Host] = {}  # least recently seen first
        self.entries: dict[Address, Entry] = {}
        self.wanted: dict[Address, HostRoute] = {}
        self.challenges: dict[Address, Challenge] = {}
        self._bound: dict[Address, Mac] = {}
        self.times: Timetable[tuple[str, Address | Mac]] = Timetable()
        self._effects: list[Effect] = []
        self._random = random.Random(seed)
        self._routine: deque[Address] = deque()
        self._routine_members: set[Address] = set()
        self._urgent: deque[Probe] = deque()
        self._routine_budget = Budget(policy.probes_per_second, policy.probe_burst)
        self._urgent_budget = Budget(policy.urgent_probes_per_second, policy.urgent_probes_per_second / 4)

    # -- effects ----------------------------------------------------------------------------------------------------

    def ask(self, effect: Effect) -> None:
        """Add an effect to this call's result."""
        self._effects.append(effect)

    def finish(self) -> list[Effect]:
        """Spend the probe budgets and hand out the effects of this call."""
        while self._urgent and self._urgent_budget.take(self.now):
            self._effects.append(self._urgent.popleft())
        while self._routine and self._routine_budget.take(self.now):
            address = self._routine.popleft()
            self._routine_members.discard(address)
            entry = self.entries.get(address)
            if entry is not None and entry.nud is Nud.STALE:
                self._effects.append(Probe(entry.link, address, entry.mac, "stale"))
                self.times.set(("silent", address), self.now + self.policy.trial_s)
        effects, self._effects = self._effects, []
        return effects

    @property
    def next_wakeup(self) -> Instant | None:
        """When something is due."""
        due = [] if self.times.next_due is None else [self.times.next_due]
        if self._urgent:
            due.append(self._urgent_budget.next_token_at(self.now))
        if self._routine:
            due.append(self._routine_budget.next_token_at(self.now))
        return min(due, default=None)

    # -- hosts ------------------------------------------------------------------------------------------------------

    def host(self, mac: Mac) -> Host:
        """The host of this MAC, made when unknown; now the most recently seen one."""
        host = self.hosts.pop(mac, None) or Host(mac, self.now)
        host.seen_at = self.now
        self.hosts[mac] = host
        if len(self.hosts) > self.policy.hosts_remembered:
            self._forget_a_host()
        return host

    def _forget_a_host(self) -> None:
        # A host that is here must not be forgotten; entries and stations are bounded by their own limits, so that a
        # short look from the oldest end finds one that has gone.
        for host in self.hosts.values():
            if not host.entries and host.station_link is None:
                self._erase(host)
                return
        mac, host = next(iter(self.hosts.items()))
        for entry in list(host.entries.values()):
            self.drop(entry, "too many hosts")
        self._erase(host)
        self.ask(Note("hosts-remembered", f"more than {self.policy.hosts_remembered} hosts: forgot {mac}"))

    def _erase(self, host: Host) -> None:
        for address in list(host.binding):
            self.unbind(host, address)
        self.unwatch(host, "forgotten")
        for kind in ("answers", "ghost", "reauthentication"):
            self.times.cancel((kind, host.mac))
        del self.hosts[host.mac]

    def is_elsewhere(self, host: Host) -> bool:
        """True when a peer holds the host."""
        return host.holder is not None and host.holder != self.me

    def live_binding(self, host: Host) -> tuple[Address, ...]:
        """The remembered addresses whose lifetime has not ended and that no peer has denied."""
        oldest = self.now - self.policy.binding_lifetime_s
        for address in [address for address, seen_at in host.binding.items() if seen_at < oldest]:
            if address not in host.entries:
                self.unbind(host, address)
        return tuple(address for address in host.binding if host.denied.get(address, 0.0) <= self.now)

    def bind(self, host: Host, address: Address) -> None:
        """Remember that `address` is the host's, and nobody else's.

        When a host has too many, the longest unseen one goes, one that is not here first.
        """
        former = self._bound.get(address)
        if former is not None and former != host.mac and former in self.hosts:
            self.hosts[former].binding.pop(address, None)
        self._bound[address] = host.mac
        host.binding.pop(address, None)
        host.binding[address] = self.now
        if len(host.binding) > self.policy.addresses_per_host:
            absent = (old for old in host.binding if old not in host.entries and old != address)
            self.unbind(host, next(absent, next(iter(host.binding))))

    def unbind(self, host: Host, address: Address) -> None:
        """Do not remember `address` for this host."""
        if host.binding.pop(address, None) is not None and self._bound.get(address) == host.mac:
            del self._bound[address]

    def unbind_from_others(self, address: Address, mac: Mac) -> None:
        """The peers confirmed `address` for `mac`: a host that had it earlier, and has it not here, loses it."""
        former = self.hosts.get(self._bound.get(address, mac))
        if former is not None and former.mac != mac and address not in former.entries:
            self.unbind(former, address)

    def watch(self, host: Host, link: str, because: str) -> None:
        """Look for the host's addresses in its packets."""
        if host.watched_link is None:
            host.watched_link = link
            self.ask(Watch(link, host.mac, because))

    def unwatch(self, host: Host, because: str) -> None:
        """Stop that."""
        if host.watched_link is not None:
            self.ask(Unwatch(host.watched_link, host.mac, because))
            host.watched_link = None

    def end_challenges(self, host: Host) -> None:
        """Who holds the host is decided: answers to older probes mean nothing."""
        for address in [address for address, challenge in self.challenges.items() if challenge.mac == host.mac]:
            del self.challenges[address]

    # -- entries ----------------------------------------------------------------------------------------------------

    def admit(self, host: Host, address: Address, link: str) -> Entry | None:
        """Make an entry, not yet wanted, for an address that has none; None when a limit forbids it."""
        if len(host.entries) >= self.policy.addresses_per_host:
            oldest = min(host.entries.values(), key=lambda entry: (entry.confirmed_at or 0.0, entry.since))
            self.ask(
                Note(
                    f"addresses-per-host {host.mac}",
                    f"{host.mac} has more than {self.policy.addresses_per_host} addresses: {oldest.address}, "
                    f"the least recently confirmed, makes room for {address}",
                )
            )
            self.unbind(host, oldest.address)
            self.drop(oldest, "the host has too many addresses")
        if len(self.entries) >= self.policy.addresses_total:
            self.ask(
                Note("addresses-total", f"{self.policy.addresses_total} addresses are here: {address} is not announced")
            )
            return None
        entry = Entry(address, link, host.mac, self.now)
        host.entries[address] = entry
        self.entries[address] = entry
        return entry

    def want(self, entry: Entry, because: str) -> None:
        """Want the entry's host route."""
        entry.is_wanted = True
        route = entry.route
        if not self.is_drained and self.wanted.get(entry.address) != route:
            self.wanted[entry.address] = route
            self.ask(Announce(route, because))

    def unwant(self, route: HostRoute, because: str) -> None:
        """Withdraw the route, if it is out."""
        if self.wanted.get(route.address) == route:
            del self.wanted[route.address]
            self.ask(Withdraw(route, because))

    def drop(self, entry: Entry, because: str) -> None:
        """The address is not here any more. Its binding stays."""
        self.unwant(entry.route, because)
        self.entries.pop(entry.address, None)
        host = self.hosts.get(entry.mac)
        if host is not None:
            host.entries.pop(entry.address, None)
        self.times.cancel(("probe", entry.address))
        self.times.cancel(("silent", entry.address))

    def forget(self, entry: Entry, because: str) -> None:
        """Drop the entry, and let the kernel forget its neighbour."""
        self.drop(entry, because)
        self.ask(Forget(entry.link, entry.address, because))

    def move(self, entry: Entry, link: str, because: str) -> None:
        """The address is on another link of ours: announcing there replaces the route without a gap."""
        self.ask(Forget(entry.link, entry.address, because))
        entry.link = link
        entry.nud = Nud.NONE
        if entry.is_wanted:
            self.want(entry, because)

    # -- probes -----------------------------------------------------------------------------------------------------

    def probe_in(self, entry: Entry, delay_s: Seconds) -> None:
        """Probe as a routine at most `delay_s` from now, unless a probe is due earlier."""
        if ("probe", entry.address) not in self.times and entry.address not in self._routine_members:
            shorter = delay_s * (1.0 - self.policy.stale_probe_jitter * self._random.random())
            self.times.set(("probe", entry.address), self.now + shorter)

    def routine_is_due(self, entry: Entry) -> None:
        """Queue the entry for the routine budget."""
        if entry.address not in self._routine_members:
            self._routine.append(entry.address)
            self._routine_members.add(entry.address)

    def probe(self, entry: Entry, because: str) -> None:
        """Probe now, out of the urgent budget; silence of the kernel counts as a failure after `trial_s`."""
        self.times.cancel(("probe", entry.address))
        self.times.set(("silent", entry.address), self.now + self.policy.trial_s)
        self.probe_address(entry.link, entry.address, entry.mac, because)

    def probe_address(self, link: str, address: Address, mac: Mac, because: str) -> None:
        """Probe an address that need not have an entry."""
        if len(self._urgent) >= _URGENT_QUEUE:
            self.ask(Note("probe-queue", "too many probes are waiting: one was dropped"))
            return
        self._urgent.append(Probe(link, address, mac, because))
