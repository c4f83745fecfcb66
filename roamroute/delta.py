"""The difference between two sets of host routes, and the fold that turns effects back into a set.

Pure. Exporters take a `Delta` and, on demand, the whole wanted set; `difference` is how they compare it with what
is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from roamroute.effects import Announce, Effect, Withdraw
from roamroute.values import Address, HostRoute


@attrs.frozen
class Delta:
    """What changed. A route whose address moved to another link stands in `announced` only: announcing replaces."""

    announced: tuple[HostRoute, ...] = ()
    withdrawn: tuple[HostRoute, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.announced or self.withdrawn)


def fold(wanted: dict[Address, HostRoute], effects: Iterable[Effect]) -> None:
    """Apply announcements and withdrawals to `wanted` in place."""
    for effect in effects:
        match effect:
            case Announce(route=route):
                wanted[route.address] = route
            case Withdraw(route=route):
                if wanted.get(route.address) == route:
                    del wanted[route.address]
            case _:
                pass


def difference(present: Mapping[Address, HostRoute], wanted: Mapping[Address, HostRoute]) -> Delta:
    """What must be announced and withdrawn to get from `present` to `wanted`."""
    return Delta(
        announced=tuple(route for address, route in wanted.items() if present.get(address) != route),
        withdrawn=tuple(route for address, route in present.items() if address not in wanted),
    )


def coalesce(effects: Iterable[Effect]) -> Delta:
    """The net change of a run of effects: only the last word on each address counts."""
    last: dict[Address, Announce | Withdraw] = {}
    for effect in effects:
        if isinstance(effect, Announce | Withdraw):
            last[effect.route.address] = effect
    return Delta(
        announced=tuple(effect.route for effect in last.values() if isinstance(effect, Announce)),
        withdrawn=tuple(effect.route for effect in last.values() if isinstance(effect, Withdraw)),
    )


def without_lingering(delta: Delta) -> Delta:
    """The same for what only hosts that are here are meant for: a route that begins to linger is withdrawn."""
    lingering = tuple(attrs.evolve(route, is_lingering=False) for route in delta.announced if route.is_lingering)
    return Delta(
        announced=tuple(route for route in delta.announced if not route.is_lingering),
        withdrawn=delta.withdrawn + lingering,
    )
