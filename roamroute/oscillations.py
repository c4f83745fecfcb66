"""Hosts that change their holder several times a second, again and again between the same access points. Pure.

Two devices with one MAC, or a looped bridge, not a walk: RFC 7432 §15.1. Following them costs every access point and
every router of the mesh, and serves nobody. Then the host stays with its holder for a while: nobody else claims it. All
access points hear all claims, so all count alike; one that missed some merely goes on a little longer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType

import attrs

from roamroute.policy import Policy
from roamroute.values import Instant, Mac, PeerId, Seconds

_LONGEST = 16  # times `oscillation_hold_s`
_REMEMBERED = 1024  # hosts that have oscillated lately


@attrs.define(eq=False)
class _Hold:
    until: Instant
    duration: Seconds


class Oscillations:
    """Counts the changes of each host's holder, of late only."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._held: dict[Mac, Instant] = {}
        self._holds: dict[Mac, _Hold] = {}  # those that have ended included, for a while; oldest first
        self._moves: dict[
            Mac, deque[tuple[Instant, PeerId, bool]]
        ] = {}  # with: had it the host before? last moved last

    @property
    def held(self) -> Mapping[Mac, Instant]:
        """The hosts that are not followed, with the time until which they stay where they are; a live view."""
        return MappingProxyType(self._held)

    def __contains__(self, mac: Mac) -> bool:
        return mac in self._held

    def __len__(self) -> int:
        return len(self._moves) + len(self._holds)

    def moved(self, mac: Mac, former: PeerId, holder: PeerId, now: Instant) -> Instant | None:
        """Count a change of the holder; returns the time until which the host is to be held, when that begins."""
        began = now - self._policy.oscillation_window_s
        moves = self._moves.pop(mac, None)
        if moves is None or moves[-1][0] < began:
            moves = deque(((now, former, False),), maxlen=self._policy.oscillation_moves + 2)
        while moves and moves[0][0] < began:
            moves.popleft()
        is_return = any(holder == before for _, before, _ in moves)
        moves.append((now, holder, is_return))
        self._moves[mac] = moves
        oldest = next(iter(self._moves))
        if self._moves[oldest][-1][0] < began or len(self._moves) > self._policy.hosts_remembered:
            del self._moves[oldest]
        if not is_return or mac in self._held or len(moves) <= self._policy.oscillation_moves:
            return None
        if sum(was_return for _, _, was_return in moves) <= self._policy.oscillation_moves:
            return None
        return self._hold(mac, now)

    def _hold(self, mac: Mac, now: Instant) -> Instant:
        before = self._holds.pop(mac, None)
        duration = self._policy.oscillation_hold_s
        if before is not None and now < before.until + before.duration:
            duration = min(2 * before.duration, _LONGEST * duration)
        self._holds[mac] = _Hold(now + duration, duration)
        self._held[mac] = now + duration
        if len(self._holds) > _REMEMBERED:
            oldest = next(iter(self._holds))
            del self._holds[oldest]
            self._held.pop(oldest, None)
        return now + duration

    def release(self, mac: Mac) -> bool:
        """The hold has ended: counting begins anew. False when it is not held."""
        self._moves.pop(mac, None)
        return self._held.pop(mac, None) is not None
