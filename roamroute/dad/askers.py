"""Who has asked for an address in the last seconds, and so may be about to take it. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from roamroute.dad.recent import Recent
from roamroute.dad.relations import Origin
from roamroute.values import Address, Instant, Mac, PeerId, Seconds

ASKED_S: Seconds = 3.0
"""A host waits for RetransTimer (1 s, RFC 4861 §10) after each solicitation, or for at most 2 s after each ARP probe
(RFC 5227 §1.1); the rest is for the way."""

_MOST_FOR_ONE = 16


class Askers:
    """At most 16 for one address: the oldest goes."""

    def __init__(self, most: int) -> None:
        self._asked: Recent[Address, dict[tuple[Origin, Mac], Instant]] = Recent(ASKED_S, most)

    def add(self, target: Address, origin: Origin, mac: Mac, now: Instant) -> None:
        """`mac`, on a link of ours or at a peer, has asked for `target`."""
        asked = {key: when for key, when in self._of(target, now).items() if now - when <= ASKED_S}
        asked.pop((origin, mac), None)
        asked[origin, mac] = now
        if len(asked) > _MOST_FOR_ONE:
            del asked[next(iter(asked))]
        self._asked.put(target, asked, now)

    def on(self, link: str, target: Address, now: Instant) -> list[Mac]:
        """Those on a link of ours."""
        return [mac for origin, mac in self._live(target, now) if origin == link]

    def peers(self, target: Address, now: Instant) -> list[PeerId]:
        """The peers that have told of somebody who asks."""
        found = [origin for origin, _ in self._live(target, now) if isinstance(origin, IPv6Address | IPv4Address)]
        return list(dict.fromkeys(found))

    def has_other(self, target: Address, mac: Mac, now: Instant) -> bool:
        """Whether somebody else than `mac` has asked."""
        return any(other != mac for _, other in self._live(target, now))

    def last(self, target: Address, now: Instant) -> Instant | None:
        """When somebody asked last; None: not within the last seconds."""
        return max(self._of(target, now).values(), default=None)

    def _live(self, target: Address, now: Instant) -> list[tuple[Origin, Mac]]:
        return [key for key, when in self._of(target, now).items() if now - when <= ASKED_S]

    def _of(self, target: Address, now: Instant) -> dict[tuple[Origin, Mac], Instant]:
        return self._asked.get(target, now) or {}
