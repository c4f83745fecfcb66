"""The neighbour-state-to-route policy engine. Pure: `handle(event, now)`, `tick(now)`, `next_wakeup`.

The rules first. An *entry* is an address of a host on one of our links.

- An entry is wanted while the kernel holds it REACHABLE, STALE, DELAY or PROBE (draft-barth-homenet-wifi-roaming-00,
  RFC 4861 §7.3). It goes when NUD has failed, when the station has left, when the interface has gone.
- STALE says nothing about life: the entry is probed on a schedule, and stays wanted while the probe is out.
- A failure of an associated station that nobody else announces is repeated `sleep_rounds` times: it may be asleep.
- A host belongs to the peer with the greatest claim (sequence, peer). An association claims at once. An address that
  only neighbour discovery vouches for waits for the peers' answers, at most `answer_wait_s`.
- A host that we lost is ours again only by a newer association, or when it answers a probe that we sent *after* the
  loss. A `NeighboursResynced` never claims.
- A peer's claim that rests on neighbour discovery, for a host that is associated here, or for an address that another
  host holds here, is put on *trial*: we probe, and answer by what we hear.
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
from roamroute.effects import Effect, Note
from roamroute.hosts import Challenge, Entry, Host
from roamroute.policy import Policy
from roamroute.values import (
    Address,
    Basis,
    HostRoute,
    Instant,
    Mac,
    Neighbour,
    Nud,
    PeerId,
    Seconds,
    Station,
    is_group_mac,
)

_DEFAULT_POLICY = Policy()
_CANDIDATES = 1024
_CANDIDATE_PAUSE_S: Seconds = 5.0  # three unicast NS and two seconds: a candidate is not asked twice at the same time
_REAUTHENTICATION_S: Seconds = 2.0  # 802.11 authentication to the end of the 4-way handshake: 0.1 s, 1 s when retried
_CONFIRM_AFTER_RESYNC_S: Seconds = 5.0  # after a start nobody knows how old a STALE entry is: ask soon, not all at once


class Engine:
    """Turns events into effects. One instance per access point.

    `me` is our peer identifier, None without a peers' channel. `seed` makes the jitter repeatable.
    All methods take `now` in monotonic seconds, never less than in the call before.
    """

    def __init__(
        self, admission: Admission, policy: Policy = _DEFAULT_POLICY, me: PeerId | None = None, seed: int = 0
    ) -> None:
        self.policy = policy
        self._admission = admission
        self._book = Book(admission, policy, me, seed)
        self._claims = Claims(self._book, self._resume)
        self._foreign: dict[Address, str] = {}
        self._candidates: dict[Address, tuple[Mac, Instant]] = {}

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
    def foreign(self) -> Mapping[Address, str]:
        """Host routes of other routers, with their origin; a live read-only view."""
        return MappingProxyType(self._foreign)

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
                self._address_seen(link, mac, address)
            case events.StationConnected(station=station):
                self._station_connected(station)
            case events.StationLeft(station=station, is_reauthenticating=is_reauthenticating):
                self._station_left(station, is_reauthenticating)
            case events.StationsResynced(links=links, stations=stations):
                self._stations_resynced(links, stations)
            case events.LinkLost(link=link):
                self._link_lost(link)
            case events.MacLearned(mac=mac, link=link):
                self._mac_learned(mac, link)
            case events.MacForgotten(mac=mac):
                self._mac_forgotten(mac)
            case events.ForeignRouteSeen(address=address, origin=origin):
                self._foreign_route_seen(address, origin)
            case events.ForeignRouteLost(address=address):
                self._foreign_route_lost(address)
            case events.OwnAddressesChanged(addresses=addresses, macs=macs):
                self._own_addresses_changed(addresses, macs)
            case events.HostClaimed(claim=claim):
                self._claims.claim_came(claim)
            case events.ClaimAnswered(peer=peer, answer=answer):
                self._claims.answer_came(peer, answer)
            case events.ClaimUnanswered(peer=peer, mac=mac, sequence=sequence):
                self._claims.unanswered(peer, mac, sequence)
            case events.PeerJoined(peer=peer):
                self._claims.peers.add(peer)
            case events.PeerLost(peer=peer):
                self._claims.lost_peer(peer)
            case events.Drained():
                self._drained()
            case events.Resumed():
                self._resumed()
            case _:
                assert_never(event)
        return self._book.finish()

    def tick(self, now: Instant) -> list[Effect]:
        """Do what is due; harmless when nothing is."""
        book = self._book
        book.now = now
        for kind, key in book.times.pop_due(now):
            if not isinstance(key, str):
                entry = book.entries.get(key)
                if entry is not None:
                    self._entry_is_due(kind, entry)
            elif kind == "trial":
                self._claims.conclude(key)
            elif (host := book.hosts.get(key)) is not None:
                self._host_is_due(kind, host)
        return book.finish()

    def _entry_is_due(self, kind: str, entry: Entry) -> None:
        if kind == "silent":
            self._failed(entry, "no word from the kernel on a probe")
        elif entry.failed_rounds:
            self._book.probe(entry, f"no answer, perhaps asleep (round {entry.failed_rounds + 1})")
        else:
            self._book.routine_is_due(entry)

    def _host_is_due(self, kind: str, host: Host) -> None:
        if kind == "answers":
            self._claims.settle(host, "no peer objected in time")
        elif kind == "ghost":
            self._claims.expel_ghost(host)
        elif kind == "reauthentication" and host.station_link is not None:
            self._station_left(Station(host.mac, host.station_link), is_reauthenticating=False)

    # -- neighbours -------------------------------------------------------------------------------------------------

    def _neighbour_changed(self, neighbour: Neighbour, is_resync: bool = False) -> None:
        book = self._book
        entry = book.entries.get(neighbour.address)
        if not self._admission.admits_neighbour(neighbour):
            if entry is not None and entry.link == neighbour.link:
                book.drop(entry, "not learnt by neighbour discovery any more")
        elif neighbour.nud is Nud.FAILED:
            if entry is not None and entry.link == neighbour.link:
                self._failed(entry, "neighbour unreachability detection failed")
            else:
                self._candidates.pop(neighbour.address, None)
                book.challenges.pop(neighbour.address, None)
        elif neighbour.mac is None or not neighbour.nud.is_alive:
            pass  # INCOMPLETE: the kernel is looking; nothing is known
        elif entry is None:
            self._appeared(neighbour, neighbour.mac, is_resync)
        elif entry.mac != neighbour.mac:
            self._mac_changed(entry, neighbour, neighbour.mac)
        else:
            self._refreshed(entry, neighbour)

    def _refreshed(self, entry: Entry, neighbour: Neighbour) -> None:
        book = self._book
        if entry.link != neighbour.link:
            if neighbour.nud is not Nud.REACHABLE and entry.nud is Nud.REACHABLE:
                return  # a shadow on the link that the host has left
            book.move(entry, neighbour.link, "seen on another link of ours")
        was_probing = entry.nud is Nud.PROBE
        entry.nud = neighbour.nud
        if neighbour.nud is Nud.REACHABLE:
            entry.confirmed_at = book.now
            entry.failed_rounds = 0
            entry.is_doubted = False
            book.times.cancel(("silent", entry.address))
            book.times.cancel(("probe", entry.address))
            host = book.hosts[entry.mac]
            if entry.is_wanted:
                book.bind(host, entry.address)
                book.unwatch(host, "an address is known")
            if was_probing:
                self._claims.tested(entry.address, is_answering=True)
        elif neighbour.nud is Nud.STALE:
            book.times.cancel(("silent", entry.address))
            book.probe_in(entry, self.policy.stale_probe_after_s)

    def _appeared(self, neighbour: Neighbour, mac: Mac, is_resync: bool) -> None:
        book = self._book
        address = neighbour.address
        candidate = self._candidates.get(address)
        if candidate is not None and candidate[0] == mac and neighbour.nud is not Nud.REACHABLE:
            return  # our own probe of an address that only a packet named: wait for the answer
        host = book.host(mac)
        if host.station_link is None and not self.policy.is_announcing_unassociated:
            return
        if host.denied.get(address, 0.0) > book.now:
            return
        if book.is_elsewhere(host) and not self._is_revived(host, neighbour):
            return
        self._candidates.pop(address, None)
        entry = book.admit(host, address, neighbour.link)
        if entry is None:
            return
        entry.nud = neighbour.nud
        if neighbour.nud is Nud.REACHABLE:
            entry.confirmed_at = book.now
        if is_resync:
            book.want(entry, "in the neighbour cache")
        elif address in host.binding and host.holder == book.me:
            book.want(entry, "a known address of the host appeared")
        else:
            self._claims.claim_address(host, entry)
        if entry.is_wanted:
            book.bind(host, address)
        if neighbour.nud is Nud.STALE:
            book.probe_in(entry, _CONFIRM_AFTER_RESYNC_S if is_resync else self.policy.stale_probe_after_s)

    def _is_revived(self, host: Host, neighbour: Neighbour) -> bool:
        """A host that a peer holds comes back by answering a probe that we sent after we lost it."""
        book = self._book
        challenge = book.challenges.get(neighbour.address)
        if challenge is None or challenge.mac != host.mac:
            self._challenge(host, neighbour.address, neighbour.link, "seen here, but a peer holds the host")
        elif neighbour.nud is Nud.PROBE:
            challenge.is_out = True
        elif neighbour.nud is Nud.REACHABLE and challenge.is_out:
            book.end_challenges(host)
            return True
        return False

    def _challenge(self, host: Host, address: Address, link: str, because: str) -> None:
        """Probe an address of a host that a peer holds; at most one probe per address is out."""
        book = self._book
        self._forget_old_questions()
        if address not in book.challenges and len(book.challenges) < _CANDIDATES:
            book.challenges[address] = Challenge(host.mac, book.now)
            book.probe_address(link, address, host.mac, because)

    def _mac_changed(self, entry: Entry, neighbour: Neighbour, mac: Mac) -> None:
        """Another MAC names an address that is here: the owner is asked first (RFC 6957 §4.2.3)."""
        book = self._book
        owner = book.hosts[entry.mac]
        if entry.failed_rounds > 0 and owner.station_link is None:
            book.drop(entry, f"silent, and {mac} has the address now")
            self._appeared(neighbour, mac, is_resync=False)
        elif ("silent", entry.address) not in book.times:
            conflict = f"{mac} claims {entry.address} of {entry.mac}: asking the owner"
            book.ask(Note(f"conflict {entry.address}", conflict))
            entry.is_doubted = True
            entry.nud = Nud.NONE
            book.probe(entry, f"{mac} claims its address")

    def _failed(self, entry: Entry, because: str) -> None:
        book = self._book
        host = book.hosts[entry.mac]
        book.times.cancel(("silent", entry.address))
        may_sleep = host.station_link == entry.link and not entry.is_doubted
        if (
            may_sleep
            and entry.failed_rounds + 1 < self.policy.sleep_rounds
            and not self._claims.is_on_trial(entry.address)
        ):
            entry.failed_rounds += 1
            entry.nud = Nud.FAILED
            book.times.set(("probe", entry.address), book.now + self.policy.sleep_pause_s)
            return
        if entry.confirmed_at is None:
            book.unbind(host, entry.address)  # remembered, or handed over, but it never answered here
        book.drop(entry, because)
        self._claims.tested(entry.address, is_answering=False)

    def _neighbour_removed(self, link: str, address: Address) -> None:
        entry = self._book.entries.get(address)
        if entry is None or entry.link != link or entry.nud in (Nud.FAILED, Nud.NONE):
            return
        # Pruned by the kernel or deleted by somebody: the host may well be there. Ask, and keep the route meanwhile.
        self._book.probe(entry, "its entry was removed from the neighbour table")

    def _neighbours_resynced(self, links: frozenset[str], neighbours: tuple[Neighbour, ...]) -> None:
        book = self._book
        present = {(neighbour.link, neighbour.address) for neighbour in neighbours}
        for neighbour in neighbours:
            self._neighbour_changed(neighbour, is_resync=True)
        for entry in list(book.entries.values()):
            # An entry whose probe has just been asked for is not in the kernel's dump yet.
            is_just_asked = entry.nud in (Nud.NONE, Nud.FAILED) and ("silent", entry.address) in book.times
            if entry.link in links and (entry.link, entry.address) not in present and not is_just_asked:
                book.drop(entry, "not in the neighbour cache any more")

    def _link_lost(self, link: str) -> None:
        book = self._book
        for entry in [entry for entry in book.entries.values() if entry.link == link]:
            book.drop(entry, f"interface {link} is gone")
        for host in book.hosts.values():
            if host.station_link == link:
                host.station_link = None
            if host.watched_link == link:
                book.unwatch(host, f"interface {link} is gone")

    def _own_addresses_changed(self, addresses: frozenset[Address], macs: frozenset[Mac]) -> None:
        self._admission.own_addresses = addresses
        self._admission.own_macs = macs
        for entry in list(self._book.entries.values()):
            if not self._admission.admits(entry.link, entry.address, entry.mac):
                self._book.drop(entry, "the address or MAC belongs to a router")

    # -- stations and candidates ------------------------------------------------------------------------------------

    def _station_connected(self, station: Station) -> None:
        if station.link not in self._admission.links or station.mac in self._admission.own_macs:
            return
        book = self._book
        host = book.host(station.mac)
        host.station_link = station.link
        host.claims_repeated = 0
        book.end_challenges(host)
        book.times.cancel(("ghost", station.mac))
        book.times.cancel(("reauthentication", station.mac))
        for entry in list(host.entries.values()):
            if entry.link != station.link:
                book.move(entry, station.link, "the station is on another link of ours")
                book.probe(entry, "the station is on another link of ours")
        returning = tuple(address for address in book.live_binding(host) if address not in host.entries)
        self._claims.claim(host, Basis.ASSOCIATION, "station connected", returning)
        self._resume(host, station.link, returning, "station connected, address remembered")
        if not host.entries:
            book.watch(host, station.link, "station connected, no address known")

    def _resume(self, host: Host, link: str, addresses: tuple[Address, ...], because: str) -> None:
        """Announce addresses of a host that is here before it has sent a packet, and probe to confirm."""
        book = self._book
        for address in addresses:
            if address in host.entries or not self._admission.admits(link, address, host.mac):
                continue
            if host.denied.get(address, 0.0) > book.now:
                continue
            other = book.entries.get(address)
            if other is not None:  # another host has it here: the neighbour cache will tell who answers
                book.probe(other, f"{host.mac} had the address before")
                continue
            entry = book.admit(host, address, link)
            if entry is not None:
                book.bind(host, address)
                book.want(entry, because)
                book.probe(entry, because)

    def _station_left(self, station: Station, is_reauthenticating: bool) -> None:
        book = self._book
        host = book.hosts.get(station.mac)
        if host is None or host.station_link != station.link:
            return
        if is_reauthenticating:
            book.times.set(("reauthentication", station.mac), book.now + _REAUTHENTICATION_S)
            return
        host.station_link = None
        book.times.cancel(("reauthentication", station.mac))
        book.times.cancel(("ghost", station.mac))
        for entry in list(host.entries.values()):
            book.forget(entry, "station left")
        book.unwatch(host, "station left")

    def _stations_resynced(self, links: frozenset[str], stations: tuple[Station, ...]) -> None:
        book = self._book
        present = {(station.mac, station.link) for station in stations}
        for host in list(book.hosts.values()):
            if host.station_link in links and (host.mac, host.station_link) not in present:
                self._station_left(Station(host.mac, host.station_link), is_reauthenticating=False)
        for station in stations:
            if station.link in self._admission.links and station.mac not in self._admission.own_macs:
                host = book.host(station.mac)
                if not book.is_elsewhere(host):  # else a ghost, or a return whose event is still to come
                    host.station_link = station.link
                    if not host.entries:
                        book.watch(host, station.link, "the station is here, no address known")

    def _mac_learned(self, mac: Mac, link: str) -> None:
        """A bridge behind us learned the MAC: where no association is reported, the hint to look for the host."""
        book = self._book
        if link not in self._admission.links or mac in self._admission.own_macs or is_group_mac(mac):
            return
        host = book.host(mac)
        if host.entries or host.station_link is not None:
            return
        for address in book.live_binding(host):
            self._address_seen(link, mac, address)
        book.watch(host, link, "the bridge learned its MAC, no address is here")

    def _mac_forgotten(self, mac: Mac) -> None:
        host = self._book.hosts.get(mac)
        for entry in list(host.entries.values()) if host is not None else ():
            self._book.probe(entry, "the bridge forgot its MAC")

    def _address_seen(self, link: str, mac: Mac, address: Address) -> None:
        if not self._admission.admits(link, address, mac):
            return
        book = self._book
        entry = book.entries.get(address)
        if entry is not None:
            if entry.mac != mac:
                self._mac_changed(entry, Neighbour(link, address, Nud.STALE, mac), mac)
            return
        host = book.hosts.get(mac)
        if host is not None and host.denied.get(address, 0.0) > book.now:
            return
        if host is not None and book.is_elsewhere(host):
            self._challenge(host, address, link, "seen in a packet, but a peer holds the host")
            return
        self._forget_old_questions()
        asked = self._candidates.get(address)
        if (asked is None or asked[0] != mac) and len(self._candidates) < _CANDIDATES:
            self._candidates.pop(address, None)
            self._candidates[address] = (mac, book.now)
            book.probe_address(link, address, mac, "seen in a packet")

    def _forget_old_questions(self) -> None:
        """Candidates and challenges that nobody answered may be asked again."""
        oldest = self._book.now - _CANDIDATE_PAUSE_S
        while self._candidates and next(iter(self._candidates.values()))[1] < oldest:
            del self._candidates[next(iter(self._candidates))]
        challenges = self._book.challenges
        while challenges and next(iter(challenges.values())).asked_at < oldest:
            del challenges[next(iter(challenges))]

    # -- the routing, the operator ----------------------------------------------------------------------------------

    def _foreign_route_seen(self, address: Address, origin: str) -> None:
        self._foreign.pop(address, None)
        self._foreign[address] = origin
        if len(self._foreign) > 4 * self.policy.addresses_total:
            del self._foreign[next(iter(self._foreign))]
        entry = self._book.entries.get(address)
        if entry is not None and entry.is_wanted:
            entry.is_doubted = True
            self._book.probe(entry, f"also announced by {origin}")

    def _foreign_route_lost(self, address: Address) -> None:
        self._foreign.pop(address, None)
        entry = self._book.entries.get(address)
        if entry is not None:
            entry.is_doubted = False

    def _drained(self) -> None:
        self._book.is_drained = True
        for route in list(self._book.wanted.values()):
            self._book.unwant(route, "drained by the operator")

    def _resumed(self) -> None:
        self._book.is_drained = False
        for entry in self._book.entries.values():
            if entry.is_wanted:
                self._book.want(entry, "resumed by the operator")
