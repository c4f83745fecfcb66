"""The DAD proxy's decisions (the rules will be explained here)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from roamroute.dad.counters import DadCounters
from roamroute.dad.effects import DadEffect, HandOut, Relay
from roamroute.dad.limits import Limits
from roamroute.dad.view import View
from roamroute.values import DadMessage, Instant, PeerId, Prefix

DadMode = Literal["all", "targeted"]
_DEFAULTS = Limits()


class DadProxy:
    """`now`: monotonic seconds, never less than in an earlier call. After each call re-arm a timer at `next_wakeup`.

    `is_isolated`: hosts on one link do not hear each other (hostapd's ap_isolate, isolated bridge ports).
    """

    def __init__(
        self,
        links: Iterable[str],
        prefixes: Iterable[Prefix],
        view: View,
        *,
        mode: DadMode = "all",
        is_isolated: bool = True,
        limits: Limits = _DEFAULTS,
    ) -> None:
        self._links = tuple(links)
        self._prefixes = tuple(prefixes)
        self._view = view
        self._mode = mode
        self._is_isolated = is_isolated
        self._limits = limits
        self.counters = DadCounters()

    def heard(self, link: str, message: DadMessage, now: Instant) -> list[DadEffect]:
        """A host said this on `link`; frames that an access point made are not to be given here."""
        return [Relay(message)]

    def told(self, peer: PeerId, message: DadMessage, now: Instant) -> list[DadEffect]:
        """`peer` heard this; the channel has authenticated the peer."""
        return [HandOut(link, message) for link in self._links]

    def tick(self, now: Instant) -> list[DadEffect]:
        """Do what is due."""
        return []

    @property
    def next_wakeup(self) -> Instant | None:
        """When `tick` has something to do; None: not before the next message."""
        return None
