"""`[exporters.babeld]`: where babeld listens, and the little that cannot be seen there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from roamroute.errors import ConfigError
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
    mistakes: list[str] = []
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = f"exporters.babeld.{key}"
        match key:
            case "socket" if isinstance(value, str) and value.isascii() and value.isdigit():
                value = int(value)
            case "version" if isinstance(value, str):
                value = parse_version(value)
                if value is None:
                    mistakes.append(f'{where}: must be a version such as "1.13.1", not {table[key]!r}')
            case _:
                pass
        match key:
            case "socket" if type(value) is int and not 1 <= value <= 65535:
                mistakes.append(f"{where}: a TCP port is 1 to 65535, not {value}")
            case "socket" if not value or type(value) not in (str, int):
                mistakes.append(f'{where}: must be a path such as "{DEFAULT_SOCKET}" or a TCP port, not {value!r}')
            case "command" if not value or not isinstance(value, str):
                mistakes.append(f"{where}: must be a program's name or path in quotes, not {value!r}")
            case "version" if table[key] is not None and not isinstance(table[key], str):
                mistakes.append(f'{where}: must be a version in quotes such as "1.13.1", not {value!r}')
            case "allow_duplicates" if not isinstance(value, bool):
                mistakes.append(f"{where}: must be true or false, not {value!r}")
            case "socket" | "command" | "version" | "allow_duplicates":
                pass
            case _:
                known = ", ".join(attribute.name for attribute in attrs.fields(Settings))
                mistakes.append(f"{where}: is not known here (known keys: {known})")
        values[key] = value
    if mistakes:
        raise ConfigError(tuple(mistakes))
    return Settings(**values)
