"""What the access points tell each other ahead: the addresses of the hosts that they hold. Pure; part of the engine.

Ours are shared when the binding or the number of a host that we hold has changed, and at no other time. A peer's are
remembered, so that a host which comes here is announced and claimed without a question. A hint is never proof:

- it announces nothing, withdraws nothing, and takes no host that is here; where it contradicts what is here, the host
  is probed, and where its station is associated here without an address that we know, it is asked for those named;
- one that is older than the greatest claim known changes nothing;
- an address that two peers name for two hosts is believed of neither;
- it makes room for itself among the hosts that are not here, and only up to `hints_per_peer`.
"""

from __future__ import annotations

from roamroute.book import Book
from roamroute.claims import SEQUENCE_MAX, Claims
from roamroute.effects import Note, ShareHint, UnshareHint
from roamroute.ghosts import Ghosts
from roamroute.hosts import Host
from roamroute.values import Address, Hint, Mac, PeerId, Seconds, is_group_mac

_LOOK_AGAIN_S: Seconds = 60.0  # at least, between two looks at what has become too old


class Hints:
    """The part of the engine that shares bindings."""

    def __init__(self, book: Book, claims: Claims, ghosts: Ghosts) -> None:
        self._book = book
        self._claims = claims
        self._ghosts = ghosts
        self._shared: dict[Mac, Hint] = {}

    @property
    def _is_on(self) -> bool:
        return self._book.handover.is_sharing_hints and self._book.me is not None

    # -- ours -------------------------------------------------------------------------------------------------------

    def share(self) -> None:
        """Tell the peers of what has changed in this call."""
        changed, self._book.changed = self._book.changed, {}
        if self._is_on:
            for mac in changed:
                self._share(mac)

    def _share(self, mac: Mac) -> None:
        book, me = self._book, self._book.me
        assert me is not None  # __init__ looked
        host = book.hosts.get(mac)
        told = self._shared.get(mac)
        if host is None or host.holder != me:
            if told is not None:
                self._unshare(mac, "not ours any more")
            return
        if told is None and not host.binding:
            return
        if told is not None and told.sequence == host.sequence and host.binding.keys() == set(told.addresses):
            return
        hint = Hint(mac, host.sequence, me, tuple(host.binding))
        self._shared[mac] = hint
        if ("binding", mac) not in book.times:
            book.times.set(("binding", mac), book.now + book.policy.binding_lifetime_s)
        book.ask(ShareHint(hint, "new" if told is None else "its addresses or its number have changed"))

    def _unshare(self, mac: Mac, because: str) -> None:
        del self._shared[mac]
        self._book.times.cancel(("binding", mac))
        self._book.ask(UnshareHint(mac, because))

    def grew_old(self, host: Host) -> None:
        """Some addresses of a host of ours may be too old to be told of."""
        book = self._book
        told = self._shared.get(host.mac)
        if told is None:
            return
        if not told.addresses and not host.binding:
            self._unshare(host.mac, "nothing is known of it for long")
            return
        book.live_binding(host)
        oldest = min(host.binding.values(), default=book.now)
        book.times.set(("binding", host.mac), max(oldest + book.policy.binding_lifetime_s, book.now + _LOOK_AGAIN_S))

    # -- theirs -----------------------------------------------------------------------------------------------------

    def came(self, hint: Hint) -> None:
        """A peer shared a binding."""
        book = self._book
        is_sane = 0 < hint.sequence <= SEQUENCE_MAX and not is_group_mac(hint.mac)
        if not self._is_on or not is_sane or hint.peer == book.me or hint.mac in book.admission.own_macs:
            return
        host = book.hosts.get(hint.mac)
        if host is not None and hint.order < host.order:
            return
        if host is not None and host.is_here and not book.is_elsewhere(host) and not self._is_unknown(host):
            self._contradicted(host, hint)
            return
        addresses = tuple(filter(book.admission.admits_address, hint.addresses[: book.policy.addresses_per_host]))
        is_new = host is None or host.hinted_by != hint.peer
        if is_new and not book.has_room_for_hint(hint.peer):
            book.ask(Note(f"hints-per-peer {hint.peer}", f"{hint.peer} tells of too many hosts: {hint.mac} is ignored"))
            return
        if host is None and (not addresses or not book.make_room()):
            return
        host = book.host(hint.mac)
        if hint.order > host.order:
            self._claims.lose(host, hint.sequence, hint.peer, f"{hint.peer} holds it", may_expel=False)
        self._bind(host, hint.peer, addresses)

    def _is_unknown(self, host: Host) -> bool:
        """True for a station that a source has listed, and of which nothing else is known: nobody has claimed it."""
        return host.holder is None and not host.entries

    def _contradicted(self, host: Host, hint: Hint) -> None:
        """A claim that we have not heard, or the time before our start: does the host answer here?"""
        if host.holder is None:
            host.sequence = max(host.sequence, hint.sequence)
        if hint.peer == host.holder:
            return
        for entry in host.entries.values():
            entry.is_doubted = True
            self._book.probe(entry, f"{hint.peer} tells that it has the host")

    def _bind(self, host: Host, peer: PeerId, addresses: tuple[Address, ...]) -> None:
        book = self._book
        book.set_hinter(host, peer)
        for address in [address for address in host.binding if address not in addresses]:
            book.unbind(host, address)
        fresh = []
        for address in addresses:
            if address in host.binding:
                continue
            if (entry := book.entries.get(address)) is not None:
                entry.told_of = None if entry.mac == host.mac else host.mac
                continue
            former = book.bound_host(address)
            if former is not None and former.is_here and not book.is_elsewhere(former):
                continue
            if former is not None and former.hinted_by not in (None, peer):
                book.unbind(former, address)
                book.forwards.end_other(address, host.mac)
                book.ask(Note(f"conflict {address}", f"{former.hinted_by} and {peer} tell of it for different hosts"))
                continue
            book.bind(host, address)
            fresh.append(address)
        if fresh and host.station_link is not None:
            self._ghosts.ask_for(host, fresh)

    def end_vouching(self, peer: PeerId) -> None:
        """What a peer has told us so far ages from now on."""
        for host in self._book.hosts.values():
            if host.hinted_by == peer:
                self._book.set_hinter(host, None)
