"""Reading an `[exporters.NAME]` table: every mistake at once, each with its dotted path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from roamroute.errors import ConfigError
from roamroute.values import Address, is_interface_name

Check = Callable[[Any], Any]
"""Takes the value as TOML has it, returns it as the adapter wants it. Raises: ValueError("must be …")."""


def read_table(name: str, table: Mapping[str, Any], checks: Mapping[str, Check]) -> dict[str, Any]:
    """The checked values of the keys that are there; every key has its check.

    Raises: ConfigError with every mistake, each beginning with `exporters.NAME.KEY: `.
    """
    mistakes: list[str] = []
    values: dict[str, Any] = {}
    for key, value in table.items():
        check = checks.get(key)
        if check is None:
            mistakes.append(f"exporters.{name}.{key}: is not known here (known keys: {', '.join(checks)})")
            continue
        try:
            values[key] = check(value)
        except ValueError as error:
            mistakes.append(f"exporters.{name}.{key}: {error}")
    if mistakes:
        raise ConfigError(tuple(mistakes))
    return values


def text(what: str) -> Check:
    """A text of one line that is not empty. `what` names it with an example: 'a path such as "/run/bird/bird.ctl"'."""

    def check(value: Any) -> str:
        if not _is_text(value):
            raise ValueError(f"must be {what}, not {value!r}")
        return str(value)

    return check


def flag(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r}")
    return value


def choice(*known: str) -> Check:
    """One of some words."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            words = " or ".join(f'"{word}"' for word in known)
            raise ValueError(f"must be {words}, not {value!r}")
        return value

    return check


def number(least: float, most: float, unit: str = "") -> Check:
    """A number in a range, in `unit`."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"must be {_plain(least)} to {_plain(most)}{' ' + unit if unit else ''}, not {value!r}")
        return value

    return check


def _plain(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


def whole_number(least: int, most: int, unit: str = "") -> Check:
    """A whole number in a range, in `unit`."""
    in_range = number(least, most, unit)

    def check(value: Any) -> int:
        if not isinstance(in_range(value), int):
            raise ValueError(f"must be a whole number, not {value!r}")
        return int(value)

    return check


def texts(what: str) -> Check:
    """A list of texts of one line each, none of them empty. `what` names it with an example."""

    def check(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(map(_is_text, value)):
            raise ValueError(f"must be {what}, not {value!r}")
        return tuple(value)

    return check


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def interfaces(value: Any) -> tuple[str, ...]:
    """A list of names of interfaces."""
    names = texts('a list of interfaces such as ["mesh0"]')(value)
    for name in names:
        if not is_interface_name(name):
            raise ValueError(f"{name!r} is not an interface name")
    return tuple(names)


def addresses(value: Any) -> tuple[Address, ...]:
    """A list of addresses."""
    words = texts('a list of addresses such as ["fd44:0:0:a::1"]')(value)
    try:
        found = tuple(ip_address(word) for word in words)
    except ValueError as error:
        raise ValueError(f"must be a list of addresses, but {error}") from None
    for address in found:
        if getattr(address, "scope_id", None):
            raise ValueError(f"must be addresses without a zone, not {str(address)!r}")
    return found
