"""Where a host is, where no association tells: what bridges have learnt, and what other routers announce. Pure.

Part of the engine. None of this is proof; each is a reason to ask the host, and what it answers counts.

- A bridge that learns a MAC: the host may have come. What is known of its addresses, by a peer's hint above all, is
  asked for on that link. A bridge tells of a MAC that is new to it, or on another port, and nothing while it still has
  it (300 s): so where a peer has taken the host the bridge is made to forget it.
- A bridge that forgets a MAC: the host may have gone.
- A route of another router for a host that is here: it may have gone there. Such a route that ends, for a host that a
  peer holds: it may have come here, and be silent.
"""

from __future__ import annotations

from roamroute.book import Book
from roamroute.effects import AdvertiseGateway
from roamroute.hosts import Host
from roamroute.values import Address, Mac, is_group_mac


class Whereabouts:
    """The part of the engine that follows bridges and other routers' routes."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self.foreign: dict[Address, str] = {}
        """Host routes of other routers, with their origin; the oldest first."""

    def mac_learned(self, mac: Mac, link: str) -> None:
        """A bridge behind us learned the MAC: where no association is reported, the hint to look for the host."""
        book = self._book
        if link not in book.admission.links or mac in book.admission.own_macs or is_group_mac(mac):
            return
        host = book.host(mac)
        self.noticed(host, link)
        is_resting = host.rests > 0 and ("denial", mac) in book.times
        if host.is_here or (book.policy.is_following_bridges and (is_resting or book.is_held(host))):
            return
        known = book.live_binding(host)
        if host.watched_link == link and (book.questions.are_open(mac) or not known):
            return  # it is looked for: the bridge and the frame tell the same
        for address in known:
            book.seen(link, mac, address)
        book.watch(host, link, "the bridge learned its MAC, no address is here")
        if book.policy.is_following_bridges and book.policy.is_advertising_gateway:
            book.ask(AdvertiseGateway(link, mac, "the bridge learned its MAC"))

    def noticed(self, host: Host, link: str) -> None:
        """Something of a host that is here was heard on `link`: ask it there, if that is news."""
        if host.station_link is not None:
            return
        for entry in list(host.entries.values()):
            if entry.link != link:
                self._book.question(link, entry.address, entry.mac, f"is on {entry.link}, but was heard here")
            elif entry.failed_rounds:
                self._book.probe(entry, "its MAC was heard again")

    def mac_forgotten(self, mac: Mac) -> None:
        """The bridge has not heard the MAC for a while, or its port went down."""
        host = self._book.hosts.get(mac)
        for entry in list(host.entries.values()) if host is not None else ():
            self._book.probe(entry, "the bridge forgot its MAC")

    def foreign_route_seen(self, address: Address, origin: str) -> None:
        """Another router announces the address; if it is wanted here, one failure is enough from now on."""
        self.foreign.pop(address, None)
        self.foreign[address] = origin
        if len(self.foreign) > 4 * self._book.policy.addresses_total:
            del self.foreign[next(iter(self.foreign))]
        entry = self._book.entries.get(address)
        if entry is not None and entry.is_wanted:
            entry.is_doubted = True
            self._book.probe(entry, f"also announced by {origin}")

    def foreign_route_lost(self, address: Address) -> None:
        """No other router announces the address any more."""
        book = self._book
        self.foreign.pop(address, None)
        entry = book.entries.get(address)
        if entry is not None:
            entry.is_doubted = False
        host = book.bound_host(address)
        if not book.policy.is_following_bridges or host is None or host.is_here or not book.is_elsewhere(host):
            return
        if not book.questions.are_open(host.mac):
            # One link for each address: a question is about one link, and a host has several addresses.
            links = sorted(book.admission.links)
            book.seen(links[list(host.binding).index(address) % len(links)], host.mac, address)
