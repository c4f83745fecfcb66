"""Who looks on: the counters, the log, and whoever follows by `watch`. Told last, when no packet waits any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from roamroute.effects import Announce, Deauthenticate, Effect, Withdraw
from roamroute.events import Event
from roamroute.logs import is_logged, line_of, log

Observer = Callable[[str, Any], None]
"""Gets a kind and a value, synchronously, and must not block. "event" and "effect" come with what the engine took and
asked for, "discovery" with what the DAD proxy and the router advertisements heard and did, "handover" with fields."""


class Onlookers:
    """Shows what has been done; changes nothing."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        """How many events and effects there were of each kind."""
        self._observers: set[Observer] = set()

    def __bool__(self) -> bool:
        """True while anybody follows: spares the making of what nobody would see."""
        return bool(self._observers)

    def add(self, observer: Observer) -> Callable[[], None]:
        """Show everything to `observer` from now on; returns the function that ends it."""
        self._observers.add(observer)
        return lambda: self._observers.discard(observer)

    def tell(self, kind: str, value: Any) -> None:
        """Show one value to all who follow."""
        for observer in tuple(self._observers):
            observer(kind, value)

    def handled(self, event: Event | None, effects: Sequence[Effect]) -> None:
        """The engine took this event, or its timer where there is none, and asked for these effects."""
        is_traced = is_logged("debug")
        for effect in effects:
            self.counters[type(effect).__name__] += 1
        if self._observers:
            if event is not None:
                self.tell("event", event)
            for effect in effects:
                self.tell("effect", effect)
        if event is not None and is_traced:
            log("debug", line_of(event))
        for effect in effects:
            level = "info" if isinstance(effect, Announce | Withdraw | Deauthenticate) else "debug"
            if is_traced or (level == "info" and is_logged("info")):
                log(level, line_of(effect))
