"""`[exporters.frr]`: how vtysh is started, who installs the routes, and which routing protocol carries them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from roamroute.adapter.settings import addresses, choice, interfaces, read_table, texts, whole_number
from roamroute.values import Address

MODES = ("kernel", "inject")
ROUTINGS = ("ospf", "ibgp")
DEFAULT_AS = 65000


@attrs.frozen
class Settings:
    """The table, checked."""

    command: tuple[str, ...] = ("vtysh",)
    """vtysh in parts, with what it takes to reach this router's FRR: `("sudo", "vtysh")`, `("vtysh", "-N", "mesh")`."""
    mode: str = "kernel"
    """"kernel": zebra reads our kernel routes. "inject": they become static routes of FRR, which installs them."""
    routing: str = ""
    """The routing protocol that carries the host routes: "ospf" (ospf6d, ospfd), "ibgp" (bgpd); "": whichever does."""
    mesh: tuple[str, ...] = ()
    """The mesh interfaces that `roamroute config frr` writes for."""
    reflectors: tuple[Address, ...] = ()
    """The route reflectors that `roamroute config frr` writes for."""
    as_number: int = DEFAULT_AS
    """The autonomous system that `roamroute config frr` writes for."""

    @property
    def injects(self) -> bool:
        return self.mode == "inject"


def parse(table: Mapping[str, Any]) -> Settings:
    """Check the table.

    Raises: ConfigError with every mistake, each with its dotted path.
    """
    return Settings(**read_table("frr", table, _CHECKS))


def _command(value: Any) -> tuple[str, ...]:
    return _at_least_one(texts('a command in parts such as ["sudo", "vtysh"]')(value))


def _at_least_one(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0].strip():
        raise ValueError(f"must name a program, not {list(words)!r}")
    return words


_CHECKS = {
    "command": _command,
    "mode": choice(*MODES),
    "routing": choice(*ROUTINGS),
    "mesh": interfaces,
    "reflectors": addresses,
    "as_number": whole_number(1, 4294967295),
}
