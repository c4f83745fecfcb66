"""How much of what hosts say, and peers tell, the proxy takes up. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

from roamroute.dad.counters import DadCounters
from roamroute.dad.limits import Limits
from roamroute.dad.recent import Recent
from roamroute.dad.relations import Origin
from roamroute.schedule import Budget
from roamroute.values import Address, DadKind, DadMessage, Instant, Mac, PeerId, Seconds

Key = TypeVar("Key", bound=Hashable)

_PEERS_REMEMBERED = 1024
_IDLE_S: Seconds = 60.0
"""A budget that nobody has used for so long is full again, at any rate used here, and may be forgotten."""


class Quotas:
    """Each answer True has used up what it allows; a refusal is counted, and used up nothing of a total."""

    def __init__(self, limits: Limits, counters: DadCounters) -> None:
        self._limits = limits
        self._counters = counters
        self._stations: Recent[tuple[str, Mac, DadKind], Budget] = Recent(_IDLE_S, limits.stations_remembered)
        self._targets: Recent[tuple[Origin, Mac], dict[Address, Instant]] = Recent(
            limits.targets_s, limits.stations_remembered
        )
        self._peers: Recent[PeerId, Budget] = Recent(_IDLE_S, _PEERS_REMEMBERED)
        self._known = Budget(limits.known_rate, limits.known_burst)
        self._unknown = Budget(limits.unknown_rate, limits.unknown_burst)
        self._told = Budget(limits.told_rate, limits.told_burst)
        self._defended = Budget(limits.defended_rate, limits.defended_burst)

    def allow_heard(self, link: str, message: DadMessage, is_known: bool, now: Instant) -> bool:
        """What a host here says. `is_known`: the access point knows the host by more than this frame."""
        limits = self._limits
        if not self._take(
            self._stations, (link, message.mac, message.kind), limits.station_rate, limits.station_burst, now
        ):
            self._counters.refused_station_limit += 1
            return False
        if not (self._known if is_known else self._unknown).take(now):
            self._counters.refused_total_limit += 1
            return False
        return True

    def allow_told(self, peer: PeerId, now: Instant) -> bool:
        """What a peer tells."""
        limits = self._limits
        if self._take(self._peers, peer, limits.peer_rate, limits.peer_burst, now) and self._told.take(now):
            return True
        self._counters.refused_peer_limit += 1
        return False

    def allow_target(self, origin: Origin, message: DadMessage, now: Instant) -> bool:
        """That a host, for which nothing else vouches, says what costs another this address. Counted where it was said:
        who borrows its MAC elsewhere takes nothing from it."""
        limits = self._limits
        targets = self._targets.get((origin, message.mac), now) or {}
        targets = {target: when for target, when in targets.items() if now - when <= limits.targets_s}
        if message.target not in targets and len(targets) >= limits.targets_per_station:
            self._counters.refused_target_limit += 1
            return False
        targets[message.target] = now
        self._targets.put((origin, message.mac), targets, now)
        return True

    def allow_defence(self, now: Instant) -> bool:
        """That we answer for an address of ours."""
        if self._defended.take(now):
            return True
        self._counters.refused_total_limit += 1
        return False

    @staticmethod
    def _take(budgets: Recent[Key, Budget], key: Key, rate: float, burst: float, now: Instant) -> bool:
        budget = budgets.get(key, now) or Budget(rate, burst)
        budgets.put(key, budget, now)
        return budget.take(now)
