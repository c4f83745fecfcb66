"""Whether a link hears by itself what another link of ours, or a peer, hears: whether both are on one layer 2.

Two access points may serve one Ethernet, or two roaming interfaces one bridge, on purpose or by a cable. What is
copied from one to the other then comes back to its sender. Nobody configures it, so it is learnt from each message: a
copy that the link has heard itself says that they are joined, one that it does not hear in time that they are apart.
Pure.
"""

from __future__ import annotations

import enum

from roamroute.dad.recent import Recent
from roamroute.values import Instant, PeerId, Seconds

Origin = str | PeerId
"""Where a message comes from: a link of ours, or a peer."""

HOLD_PEER_S: Seconds = 0.003
"""Before the first copy from a peer is handed out. The frame itself has come before the peer's word of it, which takes
0.3 ms and more, but it may be read after it."""
HOLD_LINK_S: Seconds = 0.01
"""The same between two links of ours: the way from one to the other may lead over the air."""
HOLD_JOINED_S: Seconds = 0.1
"""For the next copies where the two are joined: most are heard within that time and not handed out at all."""
JOINED_S: Seconds = 600.0
"""So long one proof holds."""

_MOST = 1024


class Relation(enum.Enum):
    """Between a link and an origin."""

    UNKNOWN = 1
    APART = 2
    JOINED = 3


class Relations:
    """Bounded: the least recently proven are forgotten, and learnt again."""

    def __init__(self) -> None:
        self._joined: Recent[tuple[str, Origin], bool] = Recent(JOINED_S, _MOST)
        self._apart: dict[tuple[str, Origin], None] = {}

    def between(self, link: str, origin: Origin, now: Instant) -> Relation:
        """What is known."""
        pair = _pair(link, origin)
        if self._joined.get(pair, now):
            return Relation.JOINED
        return Relation.APART if pair in self._apart else Relation.UNKNOWN

    def hold_s(self, link: str, origin: Origin, now: Instant) -> Seconds:
        """How long a copy from `origin` is to wait for the link to hear it itself."""
        match self.between(link, origin, now):
            case Relation.APART:
                return 0.0
            case Relation.JOINED:
                return HOLD_JOINED_S
            case Relation.UNKNOWN:
                return HOLD_LINK_S if isinstance(origin, str) else HOLD_PEER_S

    def joined(self, link: str, origin: Origin, now: Instant) -> None:
        """Both have heard the same transmission."""
        pair = _pair(link, origin)
        self._joined.put(pair, True, now)
        self._apart.pop(pair, None)

    def missed(self, link: str, origin: Origin, now: Instant) -> None:
        """`link` has not heard in time what `origin` heard; one loss does not undo a proof that still holds."""
        pair = _pair(link, origin)
        if self._joined.get(pair, now):
            return
        self._apart[pair] = None
        if len(self._apart) > _MOST:
            del self._apart[next(iter(self._apart))]


def _pair(link: str, origin: Origin) -> tuple[str, Origin]:
    return (min(link, origin), max(link, origin)) if isinstance(origin, str) else (link, origin)
