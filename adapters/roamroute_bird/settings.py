"""`[exporters.bird]`: how BIRD is reached, who installs the routes, and which routing protocol carries them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from roamroute.adapter.settings import addresses, choice, interfaces, read_table, text, texts, whole_number
from roamroute.errors import ConfigError
from roamroute.values import Address
from roamroute_bird.protocol import quoted

DEFAULT_SOCKET = "/run/bird/bird.ctl"
DEFAULT_INCLUDE = "/etc/bird/roamroute-hosts.conf"
MODES = ("kernel", "inject")
ROUTINGS = ("babel", "ospf", "ibgp")
DEFAULT_AS = 65000


@attrs.frozen
class Settings:
    """The table, checked."""

    socket: str = DEFAULT_SOCKET
    """BIRD's control socket; not used when there is a `command`."""
    command: tuple[str, ...] = ()
    """A birdc for a BIRD whose socket is out of reach: `("sudo", "birdc")`. `-v` is added to it."""
    mode: str = "kernel"
    """"kernel": BIRD learns our kernel routes. "inject": BIRD reads them from `include`, and installs them."""
    include: str = DEFAULT_INCLUDE
    """The file of static routes that is ours in mode "inject"; both address families are in it."""
    routing: str = ""
    """The routing protocol for `roamroute config bird`: "babel", "ospf", "ibgp"; "": print all three."""
    mesh: tuple[str, ...] = ()
    """The mesh interfaces that `roamroute config bird` writes for; empty: all but the client links."""
    reflectors: tuple[Address, ...] = ()
    """The route reflectors that `roamroute config bird` writes for."""
    as_number: int = DEFAULT_AS
    """The autonomous system that `roamroute config bird` writes for."""
    protocols: tuple[str, ...] = ()
    """BIRD's names of the protocols of which each must export our routes; empty: one that is up suffices."""

    @property
    def injects(self) -> bool:
        return self.mode == "inject"

    @property
    def birdc(self) -> str:
        """How a person reaches the same BIRD."""
        return " ".join(self.command) if self.command else f"birdc -s {self.socket}"


def _absolute(value: Any) -> str:
    path: str = text(f'an absolute path such as "{DEFAULT_INCLUDE}"')(value)
    if not Path(path).is_absolute() or '"' in path:
        raise ValueError(f'must be an absolute path such as "{DEFAULT_INCLUDE}", not {value!r}')
    return path


def _names(value: Any) -> tuple[str, ...]:
    names: tuple[str, ...] = texts('names of BIRD\'s protocols such as ["babel1"]')(value)
    for name in names:
        try:
            quoted(name)
        except ValueError:
            raise ValueError(f'must be names of BIRD\'s protocols such as ["babel1"], not {name!r}') from None
    return names


_CHECKS = {
    "socket": text(f'a path such as "{DEFAULT_SOCKET}"'),
    "command": texts('a command in parts such as ["sudo", "birdc"]'),
    "mode": choice(*MODES),
    "include": _absolute,
    "routing": choice(*ROUTINGS),
    "mesh": interfaces,
    "reflectors": addresses,
    "as_number": whole_number(1, 4294967295),
    "protocols": _names,
}


def parse(table: Mapping[str, Any]) -> Settings:
    """Check the table.

    Raises: ConfigError with every mistake, each with its dotted path.
    """
    values = read_table("bird", table, _CHECKS)
    if "socket" in values and values.get("command"):
        raise ConfigError(("exporters.bird.command: drives birdc instead of the socket; give one of the two",))
    return Settings(**values)
