"""One event, one line: `withdraw route=2001:db8::1/128 link=wlan0 because="station left"`.

The same text serves the log, `roamroute watch` and, as a mapping, their `--json` forms. A repeated warning is counted,
not repeated.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

import attrs

from roamroute.values import Instant, Seconds

LOGGER = logging.getLogger("roamroute")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PLAIN = re.compile(r"[A-Za-z0-9_.:/%+-]+")
_FLATTENED = frozenset({"neighbour", "station", "route", "claim", "answer", "message"})
_NAMES = {"kind": "said"}
"""`kind` is what a line of `watch --json` is."""


def configure(level: str) -> None:
    """Log to stderr. systemd adds the time, so we do not when it runs us (JOURNAL_STREAM is its sign)."""
    form = "%(levelname)s %(message)s" if "JOURNAL_STREAM" in os.environ else "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(format=form)
    LOGGER.setLevel(_LEVELS[level])


def log(level: str, line: str) -> None:
    """Log one line at "debug", "info", "warning" or "error"."""
    LOGGER.log(_LEVELS[level], "%s", line)


def is_logged(level: str) -> bool:
    """True when a line of this level would be seen: spares its making."""
    return LOGGER.isEnabledFor(_LEVELS[level])


def name_of(value: object) -> str:
    """`StationConnected` is `station-connected`."""
    return _WORD.sub("-", type(value).__name__).lower()


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of an event or effect as plain JSON values; nested ones are flattened."""
    found: dict[str, Any] = {}
    for field in attrs.fields(type(value)):
        inner = getattr(value, field.name)
        if field.name == "route":
            found["route"] = str(inner)
            found["link"] = inner.link
            if inner.is_lingering:
                found["is_lingering"] = True
        elif field.name in _FLATTENED and attrs.has(type(inner)):
            found.update(fields_of(inner))
        else:
            found[_NAMES.get(field.name, field.name)] = _plain(inner)
    return found


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, int):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | frozenset | set | list):
        return [_plain(inner) for inner in value]
    if attrs.has(type(value)):
        return fields_of(value)
    return str(value)


def line_of(value: Any) -> str:
    """An event or effect as one line of text."""
    return " ".join([name_of(value), *key_values(fields_of(value))])


def key_values(fields: Mapping[str, Any]) -> list[str]:
    """`key=value` for each field that says something; long lists are shown by their length."""
    texts = []
    for key, value in fields.items():
        if value is None or value is False or value == []:
            continue
        if isinstance(value, list) and (len(value) > 4 or any(isinstance(inner, dict) for inner in value)):
            text = f"{len(value)} items"
        elif isinstance(value, list):
            text = ",".join(map(str, value))
        else:
            text = str(value).lower() if value is True else str(value)
        texts.append(f"{key}={text}" if _PLAIN.fullmatch(text) or "," in text else f'{key}="{text}"')
    return texts


class RepeatedWarnings:
    """Lets a warning of one key through once a minute, and then says how often it came in between. Bounded."""

    def __init__(self, every_s: Seconds = 60.0, keys: int = 1024) -> None:
        self._every_s = every_s
        self._keys = keys
        self._seen: dict[str, tuple[Instant, int]] = {}

    def admit(self, key: str, line: str, now: Instant) -> str | None:
        """The line to log now, or None."""
        last, count = self._seen.pop(key, (None, 0))
        if last is not None and now - last < self._every_s:
            self._seen[key] = (last, count + 1)
            return None
        self._seen[key] = (now, 0)
        if len(self._seen) > self._keys:
            del self._seen[next(iter(self._seen))]
        return f"{line} ({count} times more since)" if count else line
