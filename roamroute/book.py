"""The engine's books: hosts, their addresses here, what is wanted, and the probes that are due.

Only primitive moves stand here, each keeping the books consistent and saying its effect; *when* to make a move is the
business of engine.py (neighbours and stations) and claims.py (peers). Pure.

Invariants: `entries` is the union of all `host.entries`; `wanted` holds the route of every wanted entry, except while
drained, and those that linger; every bound of the policy holds after every move.
"""

from __future__ import annotations

import random
from collections import Counter

from roamroute.admission import Admission
from roamroute.effects import Announce, Effect, EndForward, Forget, Forward, Note, Unlearn, Unwatch, Watch, Withdraw
from roamroute.forwards import Forwards
from roamroute.hosts import Entry, Forgotten, Host
from roamroute.lingering import Lingering
from roamroute.oscillations import Oscillations
from roamroute.policy import Handover, Policy
from roamroute.probing import Probing
from roamroute.questions import Questions
from roamroute.schedule import Timetable
from roamroute.values import Address, HostRoute, Instant, Mac, Neighbour, Nud, PeerId, Seconds

_WATCH_S: Seconds = 60.0  # a packet socket can look at few stations at once: who tells nothing makes room
_ECHO_S: Seconds = 0.25  # so late we may read what the kernel said before it deleted a neighbour
_ECHO_PROBE_S: Seconds = 4.0  # a probe that crossed our deletion makes the neighbour anew, in PROBE for 3 s
_FORGOTTEN = 4096


HOST_TIMES = (
    *(
        "answers",
        "binding",
        "claim",
        "missed",
        "ghost",
        "expel",
        "denial",
        "hold",
        "watch",
        "reauthentication",
        "search",
    ),
)
"""The kinds of due times that belong to a host; those of an address are "probe", "silent", "forward", "linger"."""


class Book:
    """State and primitive moves. `now` is set by the engine at every call from outside."""

    def __init__(self, admission: Admission, policy: Policy, me: PeerId | None, seed: int, handover: Handover) -> None:
        self.admission = admission
        self.policy = policy
        self.handover = handover
        self.me = me
        self.now: Instant = 0.0
        self.is_drained = False
        self.hosts: dict[Mac, Host] = {}  # least recently seen first
        self.entries: dict[Address, Entry] = {}
        self.wanted: dict[Address, HostRoute] = {}
        self.questions = Questions(policy.addresses_per_host)
        self._forgotten: dict[Address, Forgotten] = {}  # oldest first
        self._bound: dict[Address, Mac] = {}
        self.changed: dict[Mac, None] = {}
        """Hosts whose binding, number or holder has changed in this call."""
        self._hinted: Counter[PeerId] = Counter()  # how many hosts each peer vouches for: `Host.hinted_by`
        self.times: Timetable[tuple[str, Address | Mac]] = Timetable()
        self._effects: list[Effect] = []
        self.forwards = Forwards(policy, self.times, self._forward)
        self.lingering = Lingering()
        self.oscillations = Oscillations(policy)
        self.probing = Probing(policy, random.Random(seed), self.entries, self.questions, self.times, self.ask)

    # -- effects ----------------------------------------------------------------------------------------------------

    def ask(self, effect: Effect) -> None:
        """Add an effect to this call's result."""
        self._effects.append(effect)

    def _forward(self, effect: Forward | EndForward | Note) -> None:
        self.ask(effect)
        if isinstance(effect, EndForward) and effect.address in self.lingering:
            host = self.hosts.get(self.lingering.owner(effect.address) or Mac(""))
            if host is None or self.is_elsewhere(host):  # else it is here, or will be: a withdrawal would be a flap
                self.end_lingering(effect.address, effect.because)

    def finish(self) -> list[Effect]:
        """Spend the probe budgets and hand out the effects of this call."""
        self._effects += self.probing.spend(self.now)
        effects, self._effects = self._effects, []
        return effects

    @property
    def next_wakeup(self) -> Instant | None:
        """When something is due."""
        due = [] if self.times.next_due is None else [self.times.next_due]
        if self._effects:
            due.append(self.now)
        probes_due = self.probing.next_due(self.now)
        if probes_due is not None:
            due.append(probes_due)
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
        newest = next(reversed(self.hosts))
        for host in self.hosts.values():
            if not host.entries and host.station_link is None and host.mac != newest:
                self._erase(host)
                return
        mac, host = next(iter(self.hosts.items()))
        for entry in list(host.entries.values()):
            self.drop(entry, "too many hosts")
        self._erase(host)
        self.ask(Note("hosts-remembered", f"more than {self.policy.hosts_remembered} hosts: forgot {mac}"))

    def make_room(self) -> bool:
        """Make room for a host that is not here; False when only hosts that are here could make it."""
        if len(self.hosts) < self.policy.hosts_remembered:
            return True
        absent = (host for host in self.hosts.values() if not host.entries and host.station_link is None)
        oldest = next(absent, None)
        if oldest is None:
            self.ask(
                Note("hosts-remembered", f"{self.policy.hosts_remembered} hosts are here: what peers tell is not kept")
            )
            return False
        self._erase(oldest)
        return True

    def _erase(self, host: Host) -> None:
        self.set_hinter(host, None)
        for address in self.lingering.of_host(host.mac):
            self.end_lingering(address, "the host is forgotten")
        for address in list(host.binding):
            self.unbind(host, address)
        self.unwatch(host, "forgotten")
        for kind in HOST_TIMES:
            self.times.cancel((kind, host.mac))
        self.questions.end_all(host.mac)
        self.oscillations.release(host.mac)
        self.changed[host.mac] = None
        del self.hosts[host.mac]

    def is_elsewhere(self, host: Host) -> bool:
        """True when a peer holds the host."""
        return host.holder is not None and host.holder != self.me

    def is_held(self, host: Host) -> bool:
        """True for a host that oscillates, and is to stay with the peer that has it."""
        return host.mac in self.oscillations and self.is_elsewhere(host)

    def live_binding(self, host: Host) -> tuple[Address, ...]:
        """The remembered addresses whose lifetime has not ended and that no peer has denied."""
        oldest = self.now - self.policy.binding_lifetime_s
        for address in [address for address, seen_at in host.binding.items() if seen_at < oldest]:
            if address not in host.entries and host.hinted_by is None:
                self.unbind(host, address)
        return tuple(address for address in host.binding if host.denied.get(address, 0.0) <= self.now)

    def bind(self, host: Host, address: Address) -> None:
        """Remember that `address` is the host's, and nobody else's.

        When a host has too many, the longest unseen one goes, one that is not here first.
        """
        former = self._bound.get(address)
        if former != host.mac:
            self.changed[host.mac] = None
            self.forwards.end_other(address, host.mac)
            if former is not None:
                self.changed[former] = None
                self.hosts[former].binding.pop(address, None)
                entry = self.entries.get(address)
                if entry is not None and self.is_elsewhere(self.hosts[former]):
                    entry.told_of = former
        self._bound[address] = host.mac
        host.binding.pop(address, None)
        host.binding[address] = self.now
        if len(host.binding) > self.policy.addresses_per_host:
            absent = (old for old in host.binding if old not in host.entries and old != address)
            self.unbind(host, next(absent, next(iter(host.binding))))

    def unbind(self, host: Host, address: Address) -> None:
        """Do not remember `address` for this host."""
        if host.binding.pop(address, None) is not None:
            del self._bound[address]
            self.changed[host.mac] = None

    def bound_host(self, address: Address) -> Host | None:
        """The host for which the address is remembered."""
        mac = self._bound.get(address)
        return None if mac is None else self.hosts[mac]

    def set_hinter(self, host: Host, peer: PeerId | None) -> None:
        """Who vouches for the binding from now on; with None it ages from now on."""
        if host.hinted_by == peer:
            return
        if host.hinted_by is not None:
            self._hinted[host.hinted_by] -= 1
            if not self._hinted[host.hinted_by]:
                del self._hinted[host.hinted_by]
            host.binding.update(dict.fromkeys(host.binding, self.now))
        if peer is not None:
            self._hinted[peer] += 1
        host.hinted_by = peer

    def has_room_for_hint(self, peer: PeerId) -> bool:
        """True when the peer may vouch for one more host."""
        return self._hinted[peer] < self.policy.hints_per_peer

    def unbind_from_others(self, address: Address, mac: Mac) -> None:
        """The peers confirmed `address` for `mac`: a host that had it earlier, and has it not here, loses it."""
        former = self.hosts.get(self._bound.get(address, mac))
        if former is not None and former.mac != mac and address not in former.entries and former.hinted_by is None:
            self.unbind(former, address)
            self.forwards.end_other(address, mac)

    def is_free(self, address: Address) -> bool:
        """True when no host is known to have the address, here or elsewhere."""
        return address not in self._bound and address not in self.entries

    def watch(self, host: Host, link: str, because: str) -> None:
        """Look for the host's addresses in its packets."""
        if host.watched_link not in (None, link):
            self.unwatch(host, "it is on another link of ours")
        if host.watched_link is None:
            host.watched_link = link
            self.times.set(("watch", host.mac), self.now + _WATCH_S)
            self.ask(Watch(link, host.mac, because))

    def watch_at_least(self, host: Host, link: str, duration_s: Seconds, because: str) -> None:
        """Look so long, whatever is known of the host."""
        if duration_s > 0.0:
            self.watch(host, link, because)
            host.watched_until = self.now + duration_s
            if host.entries:
                self.times.set(("watch", host.mac), host.watched_until)

    def end_watch(self, host: Host, because: str) -> None:
        """An address is known: look no longer than was wanted at least."""
        if host.watched_until <= self.now:
            self.unwatch(host, because)
        elif host.watched_link is not None:
            self.times.set(("watch", host.mac), host.watched_until)

    def unwatch(self, host: Host, because: str) -> None:
        """Stop that."""
        if host.watched_link is not None:
            self.ask(Unwatch(host.watched_link, host.mac, because))
            host.watched_link = None
            self.times.cancel(("watch", host.mac))

    def unlearn(self, mac: Mac, because: str, link: str | None = None) -> None:
        """Let one bridge or all forget the MAC, where they are listened to."""
        if self.policy.is_following_bridges:
            self.ask(Unlearn(mac, link, because))

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

    def is_too_new(self, host: Host, address: Address) -> bool:
        """True for an address that the host never had, when it has come with too many of them."""
        ahead_s = (2 * self.policy.addresses_per_host - 1) / self.policy.new_addresses_per_s
        return address not in host.binding and host.new_until - self.now > ahead_s

    def takes_up(self, host: Host, address: Address, link: str) -> bool:
        """May the address, which has no entry, get one? The kernel is to forget it where it may not."""
        if self.is_too_new(host, address):
            text = f"{host.mac} makes new addresses too fast: {address} and others are not announced"
            self.ask(Note(f"new-addresses {host.mac}", text))
            self.ask(Forget(link, address, "the host makes new addresses too fast"))
            return False
        if address not in host.binding:
            host.new_until = max(host.new_until, self.now) + 1.0 / self.policy.new_addresses_per_s
        return True

    def want(self, entry: Entry, because: str) -> None:
        """Want the entry's host route."""
        entry.is_wanted = True
        route = entry.route
        if entry.address in self.lingering:
            self.lingering.end(entry.address)
            self.times.cancel(("linger", entry.address))
        if not self.is_drained and self.wanted.get(entry.address) != route:
            self.wanted[entry.address] = route
            self.ask(Announce(route, because))
        if entry.address in self.forwards:
            self.forwards.end(entry.address, "it is here")
        host = self.hosts[entry.mac]
        if entry.confirmed_at is not None and host.watched_link is not None:
            self.end_watch(host, "an address is known")

    def unwant(self, route: HostRoute, because: str) -> None:
        """Withdraw the route, if it is out."""
        if self.wanted.get(route.address) == route:
            del self.wanted[route.address]
            self.ask(Withdraw(route, because))

    def end_lingering(self, address: Address, because: str) -> None:
        """Withdraw the route of a host that is elsewhere."""
        route = self.lingering.end(address)
        if route is not None:
            self.times.cancel(("linger", address))
            self.unwant(route, because)

    def drop(self, entry: Entry, because: str, is_lingering: bool = False) -> None:
        """The address is not here any more. Its binding stays, and for a while its route, if that is lingering."""
        if is_lingering:
            until = self.now + self.policy.handover_linger_s
            route = HostRoute(entry.address, entry.link, is_lingering=True)
            self.lingering.add(route, entry.mac, until)
            self.times.set(("linger", entry.address), until)
            self.wanted[entry.address] = route
            self.ask(Announce(route, f"{because}: for a while, and worse"))
        elif entry.is_wanted:
            self.unwant(entry.route, because)
        self.entries.pop(entry.address, None)
        host = self.hosts.get(entry.mac)
        if host is not None:
            host.entries.pop(entry.address, None)
        self.probing.end(entry.address)
        self.probing.leave_routine(entry.address)
        owner = None if entry.told_of is None else self.hosts.get(entry.told_of)
        if owner is not None and entry.address not in self._bound and self.is_elsewhere(owner):
            self.bind(owner, entry.address)

    def forget(self, entry: Entry, because: str, is_lingering: bool = False) -> None:
        """Drop the entry, and let the kernel forget its neighbour."""
        self.drop(entry, because, is_lingering)
        self.ask(Forget(entry.link, entry.address, because))
        self._forgotten.pop(entry.address, None)
        self._forgotten[entry.address] = Forgotten(entry.link, entry.mac, self.now)
        oldest = next(iter(self._forgotten.values()))
        while oldest.asked_at + _ECHO_PROBE_S < self.now or len(self._forgotten) > _FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]
            oldest = next(iter(self._forgotten.values()))

    def forgetting_confirmed(self, link: str, address: Address) -> None:
        """The kernel has deleted the neighbour."""
        forgotten = self._forgotten.get(address)
        if forgotten is not None and forgotten.link == link:
            forgotten.is_confirmed = True

    def is_echo(self, neighbour: Neighbour) -> bool:
        """Was this said before the kernel heard that it should forget, or caused by a probe of before that?"""
        forgotten = self._forgotten.get(neighbour.address)
        if forgotten is None or (forgotten.link, forgotten.mac) != (neighbour.link, neighbour.mac):
            return False
        if neighbour.address in self.questions:
            return False
        age = self.now - forgotten.asked_at
        return age < _ECHO_PROBE_S if neighbour.nud is Nud.PROBE else age < _ECHO_S and not forgotten.is_confirmed

    def move(self, entry: Entry, link: str, because: str) -> None:
        """The address is on another link of ours: announcing there replaces the route without a gap."""
        self.ask(Forget(entry.link, entry.address, because))
        self.unlearn(entry.mac, because, entry.link)
        self.probing.end(entry.address)
        entry.link = link
        entry.nud = Nud.NONE
        if entry.is_wanted:
            self.want(entry, because)

    # -- addresses that no neighbour entry vouches for -----------------------------------------------------------

    def resume(self, host: Host, link: str, addresses: tuple[Address, ...], because: str) -> None:
        """Announce addresses of a host that is here before it has sent a packet, and probe to confirm."""
        for address in addresses:
            if address in host.entries or not self.admission.admits(link, address, host.mac):
                continue
            if host.denied.get(address, 0.0) > self.now:
                continue
            other = self.entries.get(address)
            if other is not None:  # another host has it here: the neighbour cache will tell who answers
                other.rival = (link, host.mac)
                self.probe(other, f"{host.mac} had the address before")
                continue
            entry = self.admit(host, address, link)
            if entry is not None:
                self.questions.end(address)
                self.bind(host, address)
                self.want(entry, because)
                self.probe(entry, because)

    def seen(self, link: str, mac: Mac, address: Address) -> None:
        """A packet named the address, or something else makes us ask for it: the host may confirm it."""
        if not self.admission.admits(link, address, mac):
            return
        entry = self.entries.get(address)
        if entry is not None:
            if entry.mac != mac:
                self.dispute(entry, link, mac)
            elif entry.link != link and self.hosts[mac].station_link is None:
                self.question(link, address, mac, f"is on {entry.link}, but was heard here")
            return
        host = self.hosts.get(mac)
        if host is not None and (host.denied.get(address, 0.0) > self.now or self.is_too_new(host, address)):
            return
        elsewhere = f", but {host.holder} has the host" if host is not None and self.is_elsewhere(host) else ""
        self.question(link, address, mac, f"seen in a packet{elsewhere}")

    def dispute(self, entry: Entry, link: str, mac: Mac) -> None:
        """Another MAC names an address that is here: the owner is asked first (RFC 6957 §4.2.3), then the rival."""
        entry.rival = (link, mac)
        if not self.is_asked(entry):
            self.ask(
                Note(f"conflict {entry.address}", f"{mac} claims {entry.address} of {entry.mac}: asking the owner")
            )
            entry.is_doubted = True
            entry.nud = Nud.NONE
            self.probe(entry, f"{mac} claims its address")

    # -- probes -----------------------------------------------------------------------------------------------------

    def probe_in(self, entry: Entry, delay_s: Seconds) -> None:
        """Probe as a routine at most `delay_s` from now, unless a probe is due earlier."""
        self.probing.stale(entry, delay_s, self.now)

    def is_asked(self, entry: Entry) -> bool:
        """True while a probe of the entry is out or queued: its end will be heard."""
        return self.probing.is_asked(entry.address)

    def probe(self, entry: Entry, because: str) -> None:
        """Probe now, out of the urgent budget, unless it is asked already."""
        self.probing.urgent(entry, because, self.now)

    def question(self, link: str, address: Address, mac: Mac, because: str) -> None:
        """Probe an address that has no entry (on this link), unless it is asked for already."""
        self.probing.question(link, address, mac, because, self.now)
