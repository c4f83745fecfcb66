"""Stations that a peer has taken and that are still associated here: ghosts, or the losers' right. Pure.

A station that roams says no good-bye: hostapd keeps a ghost of it for minutes. And order alone may pick the wrong one:
the two claims of a host that moves on within milliseconds, while messages are lost, may end with the greater number at
the place that it has left. So an access point that loses a host which is associated with it asks the host, once, some
time after: what answers then is there, and is claimed anew; what does not is removed from hostapd.
"""

from __future__ import annotations

from collections.abc import Sequence

from roamroute.book import Book
from roamroute.effects import Deauthenticate
from roamroute.hosts import Host
from roamroute.values import Address, Seconds

_PAUSE_S: Seconds = 2.0  # a live AP-STA-CONNECTED may still be on its way when a claim takes the host
_FRESH_S: Seconds = 1.0  # an association younger than this, and lost: perhaps a race that the wrong one won,
_RACE_PAUSE_S: Seconds = 0.05  # so ask soon; two round trips and a repetition of the claims
_QUESTIONS = 2  # addresses of which a host that we lost is asked for; one answer is enough
_EXPEL_AFTER_S: Seconds = 5.0  # three unicast NS and two seconds


class Ghosts:
    """The part of the engine that doubts a loss, once."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def expect(self, host: Host) -> None:
        """A host that is associated here has just been lost: ask it in a moment."""
        if self._book.is_held(host):
            return  # it is asked when it is followed again
        is_fresh = host.associated_at is not None and self._book.now - host.associated_at < _FRESH_S
        self._book.times.set(("ghost", host.mac), self._book.now + (_RACE_PAUSE_S if is_fresh else _PAUSE_S))

    def ask(self, host: Host) -> None:
        """A station that a peer has taken is still associated here: does it answer?"""
        book = self._book
        if host.station_link is None or not book.is_elsewhere(host) or book.is_held(host):
            return
        known = tuple(dict.fromkeys((*host.surrendered, *book.live_binding(host))))
        self._question(host, host.station_link, known)
        if not known:
            book.watch(host, host.station_link, f"still associated, but {host.holder} has the host")
        book.times.set(("expel", host.mac), book.now + _EXPEL_AFTER_S)

    def ask_for(self, host: Host, addresses: Sequence[Address]) -> None:
        """A peer that has the host has told of addresses that we did not know: perhaps it answers to them here."""
        book = self._book
        if ("ghost", host.mac) in book.times or host.station_link is None:
            return  # it will be asked
        if ("expel", host.mac) in book.times:
            self._question(host, host.station_link, addresses)
        else:
            self.ask(host)

    def _question(self, host: Host, link: str, addresses: Sequence[Address]) -> None:
        book = self._book
        for address in addresses[:_QUESTIONS]:
            if address not in book.entries and book.admission.admits(link, address, host.mac):
                book.question(link, address, host.mac, f"still associated, but {host.holder} has the host")

    def expel(self, host: Host) -> None:
        """A station that a peer has taken, and that does not answer, is removed from hostapd; no frame on the air."""
        if host.station_link is not None and self._book.is_elsewhere(host) and not self._book.is_held(host):
            self._book.ask(Deauthenticate(host.mac, host.station_link, f"ghost: {host.holder} has the host"))
            self._book.unwatch(host, "a ghost")
            host.station_link = None
