"""Which stations are here: associations and links. Pure; part of the engine.

An association claims the host at once and brings back what is remembered of it; its end takes all addresses of the
host. The end is not always told: a station that roams leaves a ghost behind, which ghosts.py finds and removes.
"""

from __future__ import annotations

from roamroute.book import Book
from roamroute.claims import Claims
from roamroute.effects import AdvertiseGateway
from roamroute.ghosts import Ghosts
from roamroute.hosts import Host
from roamroute.questions import PAUSE_S, PER_SECOND
from roamroute.values import Basis, Mac, Neighbour, Seconds, Station, is_group_mac
from roamroute.whereabouts import Whereabouts

_REAUTHENTICATION_S: Seconds = 2.0  # 802.11 authentication to the end of the 4-way handshake: 0.1 s, 1 s when retried


class Presence:
    """The part of the engine that deals with stations."""

    def __init__(self, book: Book, claims: Claims, ghosts: Ghosts, whereabouts: Whereabouts) -> None:
        self._book = book
        self._whereabouts = whereabouts
        self._claims = claims
        self._ghosts = ghosts
        self._lost_links: set[str] = set()
        self._listed_links: set[str] = set()
        """Links whose stations have been listed: who is new in a later list has come unseen."""

    def _is_ours(self, mac: Mac, link: str) -> bool:
        admission = self._book.admission
        return link in admission.links and mac not in admission.own_macs and not is_group_mac(mac)

    def connected(self, station: Station) -> None:
        """A live association: claim the host, announce what it had."""
        if not self._is_ours(station.mac, station.link):
            return
        book = self._book
        host = book.host(station.mac)
        host.station_link = station.link
        host.associated_at = host.proven_at = book.now
        host.is_defended = False
        host.refusals = 0
        book.questions.end_all(host.mac)
        for kind in ("ghost", "expel", "reauthentication"):
            book.times.cancel((kind, station.mac))
        for entry in list(host.entries.values()):
            if entry.link != station.link:
                book.move(entry, station.link, "the station is on another link of ours")
                book.probe(entry, "the station is on another link of ours")
        if book.is_held(host):  # if it stays it has come to rest, and its holder may have lost it
            rested_at = book.now + book.policy.oscillation_window_s
            book.times.set(("hold", host.mac), min(book.oscillations.held[host.mac], rested_at))
        else:
            self._take(host, station.link, "station connected")
        if book.policy.is_advertising_gateway:
            book.ask(AdvertiseGateway(station.link, station.mac, "station connected"))

    def announced(self, mac: Mac, link: str) -> None:
        """An access point behind us says that the station has associated; where that is not trusted, it may have."""
        book = self._book
        if not book.policy.is_trusting_update_frames:
            self._whereabouts.mac_learned(mac, link)
            return
        if not self._is_ours(mac, link):
            return
        host = book.host(mac)
        for entry in list(host.entries.values()):
            if entry.link != link:
                book.move(entry, link, "its access point is on another link of ours")
                book.probe(entry, "its access point is on another link of ours")
        if host.is_here or book.is_held(host):
            return
        host.proven_at = book.now
        book.questions.end_all(mac)
        self._take(host, link, "its access point says that it has associated")
        if book.policy.is_advertising_gateway:
            book.ask(AdvertiseGateway(link, mac, "its access point says that it has associated"))

    def _take(self, host: Host, link: str, because: str) -> None:
        book = self._book
        returning = tuple(address for address in book.live_binding(host) if address not in host.entries)
        self._claims.claim(host, Basis.ASSOCIATION, because, returning)
        book.resume(host, link, returning, f"{because}, address remembered")
        if not host.entries:
            book.watch(host, link, f"{because}, no address known")
        book.watch_at_least(host, link, book.policy.watch_after_association_s, f"{because}, it may have a new address")

    def hold_ended(self, host: Host) -> None:
        """A host that moved to and fro too fast is followed again: to the place where its station came last."""
        book = self._book
        book.oscillations.release(host.mac)
        if not host.is_here:
            book.unlearn(host.mac, "its next packet is to be heard of")
        if host.station_link is None or not book.is_elsewhere(host):
            return
        if host.proven_at is not None and (host.held_since is None or host.proven_at > host.held_since):
            self._take(host, host.station_link, "associated here at the end of an oscillation")
        else:
            self._ghosts.ask(host)

    def left(self, station: Station, is_reauthenticating: bool) -> None:
        """The end of an association takes all addresses, also those that came before we knew of it."""
        book = self._book
        host = book.hosts.get(station.mac)
        if host is None or host.station_link not in (station.link, None):
            return  # it has moved to another link of ours
        for kind in ("ghost", "expel", "reauthentication"):
            book.times.cancel((kind, station.mac))
        if is_reauthenticating:
            if host.station_link is not None:
                book.times.set(("reauthentication", station.mac), book.now + _REAUTHENTICATION_S)
            return
        host.station_link = None
        for entry in list(host.entries.values()):
            book.forget(entry, "station left")
        book.unwatch(host, "station left")

    def resynced(self, links: frozenset[str], stations: tuple[Station, ...]) -> None:
        """All associations on these links; claims nothing.

        Who has come unseen is told of its gateway. Not those of the first list: they have been here for long, or a
        restart with hundreds of them would fill the air; router advertisements to all follow a start anyway.
        """
        book = self._book
        present = {(station.mac, station.link) for station in stations}
        for host in list(book.hosts.values()):
            if host.station_link in links and (host.mac, host.station_link) not in present:
                self.left(Station(host.mac, host.station_link), is_reauthenticating=False)
        for station in stations:
            if not self._is_ours(station.mac, station.link):
                continue
            host = book.host(station.mac)
            is_news = host.station_link != station.link
            host.station_link = station.link
            book.times.cancel(("reauthentication", station.mac))
            if is_news and book.is_elsewhere(host):
                self._ghosts.ask(host)  # or a return whose event was lost: it will answer
            if is_news and not host.entries:
                book.watch(host, station.link, "the station is here, no address known")
            is_unseen = is_news and station.link in self._listed_links and not book.is_elsewhere(host)
            if is_unseen and book.policy.is_advertising_gateway:
                book.ask(AdvertiseGateway(station.link, station.mac, "the station has come unseen"))
        self._listed_links |= links & book.admission.links

    def denial_ended(self, host: Host) -> None:
        """A peer's denial was for a while: if the host is still here, it may ask for the address again."""
        book = self._book
        for address in [address for address, until in host.denied.items() if until <= book.now]:
            del host.denied[address]
            link = host.station_link or next((entry.link for entry in host.entries.values()), None)
            if link is not None:
                book.seen(link, host.mac, address)
        if host.denied:
            book.times.set(("denial", host.mac), min(host.denied.values()))
        elif not host.is_here:
            book.unlearn(host.mac, "its next packet is to be heard of")

    def link_lost(self, link: str) -> None:
        """Its routes go at once. Who is associated on it is hostapd's to say, which may well go on."""
        book = self._book
        if link in book.admission.links:
            self._lost_links.add(link)
        for route in book.lingering.routes():
            if route.link == link:
                book.end_lingering(route.address, f"interface {link} is gone")
        for entry in [entry for entry in book.entries.values() if entry.link == link]:
            book.hosts[entry.mac].lost_link = link
            book.drop(entry, f"interface {link} is gone")

    def link_returned(self, link: str) -> None:
        """The neighbour cache of a link that was down is empty, its hosts may be silent: ask, and look.

        As many at a time as questions can be open: all of a large access point take a minute.
        """
        book = self._book
        if link not in self._lost_links:
            return
        self._lost_links.discard(link)
        ahead = 0
        for host in list(book.hosts.values()):
            was_here = host.station_link == link or (host.station_link is None and host.lost_link == link)
            if not was_here or host.entries or book.is_elsewhere(host):
                continue
            host.lost_link = link
            host.searches = book.policy.sleep_rounds
            if ahead < PER_SECOND:
                self.search(host)
            else:
                book.times.set(("search", host.mac), book.now + ahead // PER_SECOND)
            ahead += max(len(host.binding), 1)
            if host.station_link is not None:
                book.watch(host, link, f"interface {link} is back, no address is here")

    def search(self, host: Host) -> None:
        """Ask for the remembered addresses of a host whose link was down; again, for it may be asleep."""
        book = self._book
        link = host.station_link or host.lost_link
        if link is None or book.is_elsewhere(host):
            return
        missing = [address for address in book.live_binding(host) if address not in book.entries]
        for address in missing:
            book.seen(link, host.mac, address)
        host.searches -= 1
        if missing and host.searches > 0:
            book.times.set(("search", host.mac), book.now + PAUSE_S + 0.5)
        else:
            host.lost_link = None

    def heard(self, neighbour: Neighbour) -> None:
        """A MAC has a link-local address in the neighbour cache: if that is all that is known, look at its packets.

        A host that cached its gateway before we started sends data, and no neighbour discovery from other addresses.
        """
        mac, link = neighbour.mac, neighbour.link
        if mac is None or not self._is_ours(mac, link) or not self._book.admission.is_discovered(neighbour):
            return
        known = self._book.hosts.get(mac)
        if known is None and not self._book.policy.is_announcing_unassociated:
            return
        if known is not None:
            self._whereabouts.noticed(known, link)
        if known is None or not known.entries:
            self._book.watch(self._book.host(mac), link, "only its link-local address is known")

    def watched_enough(self, host: Host) -> None:
        """Nothing was learnt for a while; a station that is still associated is looked at on, as if newly asked for."""
        if host.station_link is None or host.entries or host.station_link != host.watched_link:
            self._book.unwatch(host, "its addresses are known" if host.entries else "nothing was learnt")
            if not host.is_here:
                self._book.unlearn(host.mac, "its next packet is to be heard of")
        else:
            host.watched_link = None
            self._book.watch(host, host.station_link, "still here, no address known")
