"""Why BIRD does not export a route of ours, and what an operator does about it."""

from __future__ import annotations

from roamroute.export import Problem
from roamroute.values import Address
from roamroute_bird.answers import Protocol
from roamroute_bird.confirmation import Confirmation, Obstacle, Standing
from roamroute_bird.settings import Settings

FRAGMENT = "compare BIRD's configuration with what `roamroute config bird` prints, or run `roamroute check`"


def problem_of(address: Address, standing: Standing, bird: Confirmation, settings: Settings) -> Problem:
    """Why `address` is not exported."""
    match standing.obstacle:
        case Obstacle.ABSENT:
            return _absent(address, bird, settings)
        case Obstacle.BEATEN:
            text = f"BIRD prefers the route of {standing.best} to ours for {address}: ours is not exported"
            return Problem(text, f"our routes need preference 250: {FRAGMENT}")
        case Obstacle.NO_PROTOCOL:
            return Problem(f"no routing protocol of BIRD is up for {address}: {_states(bird)}", FRAGMENT)
        case _:
            names = ", ".join(bird.carriers(address.version))
            text = f"BIRD has our route for {address} and does not export it to {names}"
            return Problem(text, f"the export filter of {names} must accept it: {FRAGMENT}")


def _absent(address: Address, bird: Confirmation, settings: Settings) -> Problem:
    if not settings.injects:
        if not bird.kernel_protocols:
            return Problem("BIRD has no protocol kernel that is up: it sees none of our routes", FRAGMENT)
        names = ", ".join(bird.kernel_protocols)
        text = f"BIRD has not learnt our route for {address} from the kernel"
        return Problem(text, f"{names}: learn, and an import filter that accepts it: {FRAGMENT}")
    missing = bird.missing_static_protocols([address.version])
    if missing:
        remedy = f'put include "{settings.include}"; into BIRD\'s configuration and let it configure'
        return Problem(f"BIRD does not include {settings.include}: it has no protocol {missing[0]}", remedy)
    text = f"BIRD has read {settings.include} and does not have the route for {address}"
    return Problem(text, "is the interface up? ip link; otherwise birdc show protocols")


def _states(bird: Confirmation) -> str:
    return ", ".join(map(_state, filter(lambda protocol: protocol.is_routing, bird.protocols))) or "it has none"


def _state(protocol: Protocol) -> str:
    return f"{protocol.name} {protocol.state} {protocol.info}".rstrip()
