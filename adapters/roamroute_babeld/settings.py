"""`[exporters.babeld]`: where babeld listens, and the little that cannot be seen there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from roamroute.adapter.settings import flag, read_table, text
from roamroute_babeld.version import Version, parse_version

DEFAULT_SOCKET = "/var/run/babeld.sock"


@attrs.frozen
class Settings:
    """The table, checked."""

    socket: str | int = DEFAULT_SOCKET
    """babeld's local socket: its path, or its TCP port on ::1."""
    command: str = "babeld"
    """The program or its command line, asked for its version by `roamroute config babeld`."""
    version: Version | None = None
    """For whose version `roamroute config babeld` writes, if not for that of `command`."""
    allow_duplicates: bool | None = None
    """Whether babeld installs another router's host route beside a parked one of ours. None: as can be seen."""

    @property
    def place(self) -> str:
        """The socket as people write it."""
        return f"[::1]:{self.socket}" if isinstance(self.socket, int) else self.socket


def parse(table: Mapping[str, Any]) -> Settings:
    """Check the table.

    Raises: ConfigError with every mistake, each with its dotted path.
    """
    return Settings(**read_table("babeld", table, _CHECKS))


def _socket(value: Any) -> str | int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f'must be a path such as "{DEFAULT_SOCKET}" or a TCP port, not {value!r}')
    if isinstance(value, int) and not 1 <= value <= 65535:
        raise ValueError(f"a TCP port is 1 to 65535, not {value}")
    return value


def _version(value: Any) -> Version | None:
    if value is None:
        return None
    version = parse_version(value) if isinstance(value, str) else None
    if version is None:
        raise ValueError(f'must be a version in quotes such as "1.13.1", not {value!r}')
    return version


_CHECKS = {
    "socket": _socket,
    "command": text("a program's name or path in quotes"),
    "version": _version,
    "allow_duplicates": flag,
}
