"""The neighbour-state-to-route policy engine. Pure: `handle(event, now)`, `tick(now)`, `next_wakeup`.

The rules first. An *entry* is an address of a host on one of our links.

- An entry is wanted while the kernel holds it REACHABLE, STALE, DELAY or PROBE (draft-barth-homenet-wifi-roaming-00,
  RFC 4861 §7.3). It goes when NUD has failed, when the station has left, when the interface has gone.
- STALE says nothing about life: the entry is probed on a schedule, and stays wanted while the probe is out.
- At a start PROBE alone is no evidence: we may have asked a host that only asked for the address itself. Where no
  earlier run has left a route, the answer is waited for.
- What the kernel has collected, or has no room for, says nothing about life either: it is asked for, and stays wanted.
- A failure of an associated station that nobody else announces is repeated `sleep_rounds` times: it may be asleep.
- A host belongs to the peer with the greatest claim (sequence, peer). An association claims at once. An address that
  only neighbour discovery vouches for waits for the peers' answers, at most `answer_wait_s`.
- A host that we lost is ours again only by a newer association, or when it answers a probe that we sent *after* the
  loss. A `NeighboursResynced` never claims.
- A peer's claim that rests on neighbour discovery, for a host that is associated here, or for an address that another
  host holds here, is put on *trial*: we probe, and answer by what we hear.
- A host that a peer took, and that takes what is sent on to it: the route *lingers* (make before break) for
  `handover_linger_s`, while what comes by it is forwarded.
- What a peer holds and tells of ahead (a *hint*) is remembered, proves nothing, and lets an association that comes
  later announce and claim at once. Of two associations the later one wins, where it can be told which it was.
- A host that oscillates between access points stays with its holder for a while: nobody else claims it.
- `wanted` is the fold of all `Announce` and `Withdraw` effects; a drain holds everything back.

What it must not know: clocks, sockets, the routing daemon. Nothing here blocks, logs or raises for what others send.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import assert_never

from roamroute import events
from roamroute.admission import Admission
from roamroute.book import Book
from roamroute.claims import Claims
from roamroute.effects import Effect, Forward
from roamroute.ghosts import Ghosts
from roamroute.hints import Hints
from roamroute.hosts import Entry, Host
from roamroute.policy import Handover, Policy
from roamroute.presence import Presence
from roamroute.trials import Trials
from roamroute.values import (
    Address,
    HostRoute,
    Instant,
    Mac,
    Neighbour,
    Nud,
    PeerId,
    Seconds,
    Station,
)
from roamroute.whereabouts import Whereabouts

_DEFAULT_POLICY = Policy()
_DEFAULT_HANDOVER = Handover()
_CONFIRM_AFTER_START_S: Seconds = 5.0  # nobody knows how old an entry is, or what the peers think: ask soon


class Engine:
    """Turns events into effects. One instance per access point.

    `me` is our peer identifier, None without a peers' channel. `seed` makes the jitter repeatable.
    All methods take `now` in monotonic seconds, never less than in the call before.
    """

    def __init__(
        self,
        admission: Admission,
        policy: Policy = _DEFAULT_POLICY,
        me: PeerId | None = None,
        seed: int = 0,
        handover: Handover = _DEFAULT_HANDOVER,
    ) -> None:
        self.policy = policy
        self._admission = admission
        self._book = Book(admission, policy, me, seed, handover)
        self._ghosts = Ghosts(self._book)
        self._claims = Claims(self._book, self._ghosts)
        self._hints = Hints(self._book, self._claims, self._ghosts)
        self._trials = Trials(self._book, self._claims)
        self._whereabouts = Whereabouts(self._book)
        self._presence = Presence(self._book, self._claims, self._ghosts, self._whereabouts)
        self._known_links: set[str] = set()
        """Links of which a `NeighboursResynced` has told: what a later one adds was not announced before."""
        self.announced_before: frozenset[Address] = frozenset()
        """Addresses whose routes an earlier run has left; to be set before the first `NeighboursResynced`."""

    @property
    def handover(self) -> Handover:
        """What this access point takes part in; may be set at any time, what follows from it comes with the next tick.

        Where forwarding has become impossible nothing is sent on any more, and nothing lingers.
        """
        return self._book.handover

    @handover.setter
    def handover(self, handover: Handover) -> None:
        self._book.handover = handover
        if not handover.is_forwarding:
            for address in list(self._book.forwards):
                self._book.forwards.end(address, "nothing can be sent on")

    # -- what others may look at ------------------------------------------------------------------------------------

    @property
    def wanted(self) -> Mapping[Address, HostRoute]:
        """The host routes that should be announced now; a live read-only view."""
        return MappingProxyType(self._book.wanted)

    @property
    def hosts(self) -> Mapping[Mac, Host]:
        """Every host that is here or remembered; a live view, its values not to be changed."""
        return MappingProxyType(self._book.hosts)

    @property
    def entries(self) -> Mapping[Address, Entry]:
        """Every address that is here, wanted or not; a live view, its values not to be changed."""
        return MappingProxyType(self._book.entries)

    def bound_host(self, address: Address) -> Host | None:
        """The host for which the address is remembered, here or at a peer; not to be changed."""
        return self._book.bound_host(address)

    @property
    def foreign(self) -> Mapping[Address, str]:
        """Host routes of other routers, with their origin; a live read-only view."""
        return MappingProxyType(self._whereabouts.foreign)

    @property
    def forwards(self) -> Mapping[Address, Forward]:
        """What still arrives for hosts that peers have taken, and where it is sent on to; a live read-only view."""
        return MappingProxyType(self._book.forwards)

    @property
    def lingering(self) -> Mapping[Address, Instant]:
        """Addresses that are wanted although their hosts are elsewhere, with the time of withdrawal; a live view.

        What arrives for them is sent on; none of them is an entry of a host, unless it is just coming back.
        """
        return MappingProxyType(self._book.lingering)

    @property
    def oscillating(self) -> Mapping[Mac, Instant]:
        """Hosts that moved to and fro too fast, with the time until which they stay where they are; a live view."""
        return self._book.oscillations.held

    @property
    def is_drained(self) -> bool:
        """True between `Drained` and `Resumed`."""
        return self._book.is_drained

    @property
    def next_wakeup(self) -> Instant | None:
        """When `tick` is due, or None."""
        return self._book.next_wakeup

    # -- the two ways in --------------------------------------------------------------------------------------------

    def handle(self, event: events.Event, now: Instant) -> list[Effect]:
        """Take one event; returns what to do, in order."""
        self._book.now = now
        match event:
            case events.NeighbourChanged(neighbour=neighbour):
                self._neighbour_changed(neighbour)
            case events.NeighbourRemoved(link=link, address=address):
                self._neighbour_removed(link, address)
            case events.NeighboursResynced(links=links, neighbours=neighbours):
                self._neighbours_resynced(links, neighbours)
            case events.AddressSeen(link=link, mac=mac, address=address):
                self._book.seen(link, mac, address)
            case events.StationConnected(station=station):
                self._presence.connected(station)
            case events.StationLeft(station=station, is_reauthenticating=is_reauthenticating):
                self._presence.left(station, is_reauthenticating)
            case events.StationsResynced(links=links, stations=stations):
                self._presence.resynced(links, stations)
            case events.ProbesRefused(addresses=addresses):
                for address in addresses:
                    self._book.probing.refused(address, now)
            case events.CollectionChanged(after_s=after_s):
                self._book.probing.collect_after(after_s, now)
            case events.LinkLost(link=link):
                self._presence.link_lost(link)
            case events.MacLearned(mac=mac, link=link):
                self._whereabouts.mac_learned(mac, link)
            case events.StationAnnounced(mac=mac, link=link):
                self._presence.announced(mac, link)
            case events.MacForgotten(mac=mac):
                self._whereabouts.mac_forgotten(mac)
            case events.ForeignRouteSeen(address=address, origin=origin):
                self._whereabouts.foreign_route_seen(address, origin)
            case events.ForeignRouteLost(address=address):
                self._whereabouts.foreign_route_lost(address)
            case events.OwnAddressesChanged(addresses=addresses, macs=macs):
                self._own_addresses_changed(addresses, macs)
            case events.HostClaimed(claim=claim):
                self._trials.claim_came(claim)
            case events.ClaimAnswered(peer=peer, answer=answer):
                self._claims.answer_came(peer, answer)
            case events.ClaimUnanswered(peer=peer, mac=mac, sequence=sequence):
                self._claims.unanswered(peer, mac, sequence)
            case events.PeerJoined(peer=peer):
                self._hints.end_vouching(peer)  # it may have been restarted, and tells all that it has anew
                self._claims.joined_peer(peer)
            case events.PeerLost(peer=peer):
                self._claims.lost_peer(peer)
                self._hints.end_vouching(peer)
            case events.HostHinted(hint=hint):
                self._hints.came(hint)
            case events.ForwardUsed(address=address):
                self._book.forwards.used(address, now)
            case events.HandoverReported():
                pass  # for people to read
            case events.Drained():
                self._drained()
            case events.Resumed():
                self._resumed()
            case _:
                assert_never(event)
        return self._finish()

    def tick(self, now: Instant) -> list[Effect]:
        """Do what is due; harmless when nothing is."""
        book = self._book
        book.now = now
        for kind, key in book.times.pop_due(now):
            if not isinstance(key, str):
                entry = book.entries.get(key)
                if kind == "forward":
                    book.forwards.is_due(key, now)
                elif kind == "linger":
                    book.end_lingering(key, "the routers know the new way by now")
                elif entry is not None:
                    self._entry_is_due(kind, entry)
            elif kind == "trial":
                self._trials.conclude(key)
            elif (host := book.hosts.get(key)) is not None:
                self._host_is_due(kind, host)
        return self._finish()

    def _finish(self) -> list[Effect]:
        if self._book.changed:
            self._hints.share()
        return self._book.finish()

    def _entry_is_due(self, kind: str, entry: Entry) -> None:
        if kind == "silent":
            self._failed(entry, "no word from the kernel on a probe")
        elif entry.failed_rounds:
            self._book.probe(entry, f"no answer, perhaps asleep (round {entry.failed_rounds + 1})")
        else:
            self._book.probing.routine(entry)

    def _host_is_due(self, kind: str, host: Host) -> None:
        if kind == "answers":
            self._claims.waited(host)
        elif kind == "claim":
            self._claims.claim_rest(host)
        elif kind == "missed":
            self._claims.retry(host)
        elif kind == "binding":
            self._hints.grew_old(host)
        elif kind == "hold":
            self._presence.hold_ended(host)
        elif kind == "ghost":
            self._ghosts.ask(host)
        elif kind == "expel":
            self._ghosts.expel(host)
        elif kind == "watch":
            self._presence.watched_enough(host)
        elif kind == "search":
            self._presence.search(host)
        elif kind == "denial":
            self._presence.denial_ended(host)
        elif kind == "reauthentication" and host.station_link is not None:
            self._presence.left(Station(host.mac, host.station_link), is_reauthenticating=False)

    # -- neighbours -------------------------------------------------------------------------------------------------

    def _neighbour_changed(self, neighbour: Neighbour, is_resync: bool = False, is_start: bool = False) -> None:
        book = self._book
        entry = book.entries.get(neighbour.address)
        # An address that has an entry has been admitted, and is looked at again when our own addresses change.
        is_known = entry is not None and entry.link == neighbour.link and neighbour.mac in (entry.mac, None)
        admission = self._admission
        if not (admission.is_discovered(neighbour) if is_known else admission.admits_neighbour(neighbour)):
            if entry is not None and entry.link == neighbour.link:
                book.drop(entry, "not learnt by neighbour discovery any more")
            elif neighbour.address.is_link_local and neighbour.nud.is_alive:
                self._presence.heard(neighbour)
        elif neighbour.nud is Nud.FAILED:
            if entry is None or entry.link != neighbour.link:
                question = book.questions.get(neighbour.address, book.now)
                if question is not None and question.link == neighbour.link and question.is_out:
                    book.questions.end(neighbour.address)
            elif entry.nud is Nud.NONE and book.is_asked(entry):
                pass  # older than our probe, of which the kernel has not told yet
            elif not (is_resync and entry.failed_rounds):  # else the failure that we know of
                self._failed(entry, "neighbour unreachability detection failed")
        elif neighbour.mac is None or not neighbour.nud.is_alive:
            pass  # INCOMPLETE: the kernel is looking; nothing is known
        elif entry is None:
            if not is_start and book.is_echo(neighbour):
                return
            self._appeared(neighbour, neighbour.mac, is_resync, is_start)
        elif entry.mac != neighbour.mac:
            book.dispute(entry, neighbour.link, neighbour.mac)
        else:
            self._refreshed(entry, neighbour, is_resync)

    def _refreshed(self, entry: Entry, neighbour: Neighbour, is_resync: bool) -> None:
        book = self._book
        host = book.hosts[entry.mac]
        if entry.link != neighbour.link and not self._is_moved(host, entry, neighbour):
            return
        was_probing = entry.nud is Nud.PROBE
        entry.nud = neighbour.nud
        if neighbour.nud is Nud.REACHABLE:
            entry.failed_rounds = 0
            if entry.is_wanted or not is_resync:
                self._confirmed(host, entry, is_resync)
            if was_probing:
                self._trials.tested(entry.address, is_answering=True)
        elif neighbour.nud is Nud.STALE:
            book.times.cancel(("silent", entry.address))
            book.probe_in(entry, self.policy.stale_probe_after_s)
        if is_resync and not entry.is_wanted and not self._claims.is_asked_for(host, entry):
            book.probe(entry, "seen while messages were lost")

    def _confirmed(self, host: Host, entry: Entry, is_resync: bool) -> None:
        """The kernel says REACHABLE: the address answers."""
        book = self._book
        entry.confirmed_at = book.now
        entry.is_doubted = False
        entry.rival = None
        book.times.cancel(("silent", entry.address))
        book.times.cancel(("probe", entry.address))
        if entry.is_wanted:
            book.bind(host, entry.address)
            book.end_watch(host, "an address is known")
            if host.holder is None and not is_resync:
                self._claims.reclaim(host, "confirmed after a start")
        elif not self._claims.is_asked_for(host, entry):
            self._claims.claim_address(host, entry)

    def _is_moved(self, host: Host, entry: Entry, neighbour: Neighbour) -> bool:
        """The address is seen on another link of ours: follow proof, ask for it where there is none."""
        book = self._book
        if host.station_link == entry.link:
            return False  # a shadow on a link that the station has left
        if neighbour.nud is not Nud.REACHABLE and host.station_link != neighbour.link:
            book.question(neighbour.link, entry.address, entry.mac, f"is on {entry.link}, but seen here")
            return False
        book.questions.end(entry.address)
        book.move(entry, neighbour.link, "seen on another link of ours")
        return True

    def _appeared(self, neighbour: Neighbour, mac: Mac, is_resync: bool, is_start: bool) -> None:
        book = self._book
        address = neighbour.address
        known = book.hosts.get(mac)
        if (known is None or known.station_link is None) and not self.policy.is_announcing_unassociated:
            return
        host = book.host(mac)
        if host.denied.get(address, 0.0) > book.now or book.is_held(host):
            return
        if is_start and neighbour.nud is Nud.PROBE and address not in self.announced_before:
            book.question(neighbour.link, address, mac, "in the neighbour cache, but only being asked")
            return
        if not self._is_answer(host, neighbour, is_resync) or not book.takes_up(host, address, neighbour.link):
            return
        entry = book.admit(host, address, neighbour.link)
        if entry is None:
            return
        entry.nud = neighbour.nud
        if neighbour.nud is Nud.REACHABLE and not is_resync:
            entry.confirmed_at = book.now
        if address in host.binding and host.holder == book.me:
            book.bind(host, address)
            book.want(entry, "a known address of the host appeared")
        elif is_start or (is_resync and book.me is None):
            book.bind(host, address)
            book.want(entry, "in the neighbour cache")
        elif is_resync:
            book.probe(entry, "seen while messages were lost")
        else:
            self._claims.claim_address(host, entry)
        if is_resync:
            book.probe_in(entry, _CONFIRM_AFTER_START_S)
        elif neighbour.nud is Nud.STALE:
            book.probe_in(entry, self.policy.stale_probe_after_s)

    def _is_answer(self, host: Host, neighbour: Neighbour, is_resync: bool) -> bool:
        """May an address without an entry be taken from this? Not while it, or a host that a peer holds, is asked."""
        book = self._book
        question = book.questions.get(neighbour.address, book.now)
        is_elsewhere = book.is_elsewhere(host)
        if question is None:
            if is_elsewhere:
                book.question(neighbour.link, neighbour.address, host.mac, f"seen here, but {host.holder} has the host")
            return not is_elsewhere
        if question.mac != host.mac or question.link != neighbour.link:
            return False
        if neighbour.nud is Nud.PROBE:
            question.is_out = True
        if neighbour.nud is not Nud.REACHABLE or is_resync or (is_elsewhere and not question.is_out):
            return False
        book.questions.end(neighbour.address)
        if is_elsewhere:
            host.proven_at = book.now
        return True

    def _failed(self, entry: Entry, because: str) -> None:
        book = self._book
        host = book.hosts[entry.mac]
        book.times.cancel(("silent", entry.address))
        is_associated = host.station_link == entry.link
        if not is_associated:
            book.unlearn(entry.mac, "it may be at another port, or come back")
        rounds = self.policy.sleep_rounds if is_associated else self.policy.sleep_rounds_unassociated
        may_sleep = entry.failed_rounds + 1 < rounds and not entry.is_doubted
        if may_sleep and not self._trials.is_on_trial(entry.address):
            entry.failed_rounds += 1
            entry.nud = Nud.FAILED
            book.times.set(("probe", entry.address), book.now + self.policy.sleep_pause_s)
            return
        if entry.confirmed_at is None:
            book.unbind(host, entry.address)  # remembered, or handed over, but it never answered here
        book.drop(entry, because)
        self._trials.tested(entry.address, is_answering=False)
        if host.station_link is not None and not host.entries and not book.is_elsewhere(host):
            book.watch(host, host.station_link, "associated, but no known address answers")
        if entry.rival is not None:
            link, mac = entry.rival
            book.seen(link, mac, entry.address)

    def _neighbour_removed(self, link: str, address: Address) -> None:
        self._book.forgetting_confirmed(link, address)
        entry = self._book.entries.get(address)
        if entry is None or entry.link != link or entry.nud in (Nud.FAILED, Nud.NONE):
            return
        self._ask_for_lost(entry, "its entry was removed from the neighbour table")

    def _ask_for_lost(self, entry: Entry, because: str) -> None:
        """Pruned or deleted by somebody: the host may well be there. Thousands at once: the routine budget will do."""
        entry.nud = Nud.NONE
        if not self._book.is_asked(entry):
            self._book.times.cancel(("probe", entry.address))
            self._book.probing.routine(entry, because)

    def _neighbours_resynced(self, links: frozenset[str], neighbours: tuple[Neighbour, ...]) -> None:
        book = self._book
        present = {(neighbour.link, neighbour.address) for neighbour in neighbours}
        # Link-local ones last: they say something only of a host that has no other address.
        for neighbour in sorted(neighbours, key=lambda each: each.address.is_link_local):
            is_start = neighbour.link not in self._known_links
            self._neighbour_changed(neighbour, is_resync=True, is_start=is_start)
        self._known_links |= links & self._admission.links
        for entry in list(book.entries.values()):
            # What is being asked, or will be as it may be asleep, need not be in the kernel's dump.
            is_gone = entry.link in links and (entry.link, entry.address) not in present
            if is_gone and not entry.failed_rounds and not book.is_asked(entry):
                self._ask_for_lost(entry, "not in the neighbour cache any more")
        for link in links:
            self._presence.link_returned(link)

    def _own_addresses_changed(self, addresses: frozenset[Address], macs: frozenset[Mac]) -> None:
        self._admission.own_addresses = addresses
        self._admission.own_macs = macs
        for entry in list(self._book.entries.values()):
            if not self._admission.admits(entry.link, entry.address, entry.mac):
                self._book.drop(entry, "the address or MAC belongs to a router")
        for route in self._book.lingering.routes():
            if not self._admission.admits_address(route.address):
                self._book.end_lingering(route.address, "the address belongs to a router")

    # -- the operator -----------------------------------------------------------------------------------------------

    def _drained(self) -> None:
        self._book.is_drained = True
        for route in self._book.lingering.routes():
            self._book.end_lingering(route.address, "drained by the operator")
        for route in list(self._book.wanted.values()):
            self._book.unwant(route, "drained by the operator")

    def _resumed(self) -> None:
        self._book.is_drained = False
        for entry in self._book.entries.values():
            if entry.is_wanted:
                self._book.want(entry, "resumed by the operator")
