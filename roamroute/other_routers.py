"""Routers beside us that advertise on the client links, for `status` and `check`. Pure.

Whoever sends frames can be as many routers as there are link-layer addresses. So what is remembered is bounded, and a
newcomer pushes out only what was heard a single time.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

import attrs

from roamroute.values import Instant, Mac, Seconds
from roamroute.wire.router_advertisements import HeardRouter

REMEMBERED = 32
REMEMBERED_S: Seconds = 3600.0
"""Twice the longest interval between the advertisements of a router (RFC 4861 §6.2.1)."""


@attrs.frozen
class OtherRouter:
    """What a router on `link` said last, and how often it has said something."""

    link: str
    said: HeardRouter
    heard_at: Instant
    times: int


class OtherRouters:
    """By link, link-layer address and source. `now` never goes back."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Mac, IPv6Address], OtherRouter] = {}  # the longest unheard first

    def heard(self, link: str, said: HeardRouter, now: Instant) -> bool:
        """Take an advertisement; True when this router was not known."""
        key = (link, said.mac, said.source)
        known = self._known.pop(key, None)
        if known is None and len(self._known) >= REMEMBERED and not self._make_room(now):
            return False
        self._known[key] = OtherRouter(link, said, now, 1 if known is None else known.times + 1)
        return known is None

    def current(self, now: Instant) -> Iterator[OtherRouter]:
        """Those that have been heard within the last hour, the latest last."""
        return (each for each in self._known.values() if now - each.heard_at < REMEMBERED_S)

    def _make_room(self, now: Instant) -> bool:
        for key, each in self._known.items():
            if each.times == 1 or now - each.heard_at >= REMEMBERED_S:
                del self._known[key]
                return True
        return False
