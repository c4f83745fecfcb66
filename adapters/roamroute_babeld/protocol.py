"""babeld's local socket as bytes in and typed lines out. Knows no socket and no clock.

The server speaks first: `BABEL 1.0`, `version babeld-1.13.1`, `host …`, `my-id …`, `ok`. A client writes one command a
line (`dump`, `monitor`, `unmonitor`, `quit`; an empty line or a comment is answered too) and gets lines of state, then
`ok`, `bad`, or `no` with a reason. After `monitor` a line comes for every change. babeld 1.12.1 to 1.14 local.c: the
lines are the same in all of them.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from ipaddress import ip_network

import attrs

from roamroute.errors import MalformedInput
from roamroute.values import Prefix

INFINITY = 65535
"""The metric of a route that is not there, babeld.h."""
LINE_LIMIT_BYTES = 4096
"""babeld formats every line into 512 bytes; more than this is not babeld."""
MONITOR = b"monitor\n"
PING = b"#\n"
"""A comment changes nothing and is answered with `ok`, on a read-only socket too."""


class Change(enum.Enum):
    """What happened to the thing in a line of state. A dump says `add` for everything."""

    ADD = "add"
    CHANGE = "change"
    FLUSH = "flush"


@attrs.frozen
class Header:
    """One line of the greeting: `BABEL`, `version`, `host` or `my-id`."""

    key: str
    value: str


@attrs.frozen
class Reply:
    """The end of an answer: `ok`, `bad`, or `no` with a reason."""

    word: str
    reason: str = ""


@attrs.frozen
class InterfaceLine:
    """An interface that babeld speaks on."""

    change: Change
    name: str
    is_up: bool


@attrs.frozen
class NeighbourLine:
    """A neighbouring router; `identity` is babeld's own name for it."""

    change: Change
    identity: str
    address: str
    interface: str


@attrs.frozen
class XrouteLine:
    """A route that this babeld originates; `metric` is that of the redistribution rule."""

    change: Change
    prefix: Prefix
    source: Prefix
    metric: int


@attrs.frozen
class RouteLine:
    """A route heard from a neighbour; `router_id` is its originator."""

    change: Change
    identity: str
    prefix: Prefix
    source: Prefix
    is_installed: bool
    router_id: str
    metric: int


@attrs.frozen
class OtherLine:
    """A line that this module does not know; a newer babeld may send some."""

    text: str


Line = Header | Reply | InterfaceLine | NeighbourLine | XrouteLine | RouteLine | OtherLine

_HEADERS = frozenset({"BABEL", "version", "host", "my-id"})
_REPLIES = frozenset({"ok", "no", "bad"})
_CHANGES = {change.value: change for change in Change}


def parse_line(text: str) -> Line:
    """Turn one line, without its end, into a value.

    Raises: MalformedInput when the line begins like a known one and goes on differently.
    """
    word, _, rest = text.partition(" ")
    change = _CHANGES.get(word)
    if change is not None:
        return _parse_state(change, rest, text)
    if word in _REPLIES:
        return Reply(word, rest)
    if word in _HEADERS:
        return Header(word, rest)
    return OtherLine(text)


class LineReader:
    """Collects bytes, gives lines. After an error it is of no more use: the connection is out of step."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Line]:
        """Take what arrived, however it was cut.

        Raises: MalformedInput for a malformed, overlong or undecodable line.
        """
        *complete, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_LIMIT_BYTES:
            raise MalformedInput(f"babeld: a line of more than {LINE_LIMIT_BYTES} bytes without an end")
        return [parse_line(_decode(line)) for line in complete]


def _decode(line: bytes) -> str:
    if len(line) > LINE_LIMIT_BYTES:
        raise MalformedInput(f"babeld: a line of {len(line)} bytes, the limit is {LINE_LIMIT_BYTES}")
    try:
        return line.decode("utf-8").rstrip("\r")
    except UnicodeDecodeError:
        raise MalformedInput(f"babeld: undecodable line {line[:80]!r}") from None


def _parse_state(change: Change, rest: str, text: str) -> Line:
    kind, *words = rest.split(" ")
    if not words:
        return OtherLine(text)
    # add KIND IDENTITY key value key value …; the interface's identity is its name
    identity, fields = words[0], dict(zip(words[1::2], words[2::2], strict=False))
    try:
        match kind:
            case "xroute":
                return XrouteLine(change, _prefix(fields["prefix"]), _prefix(fields["from"]), _metric(fields["metric"]))
            case "route":
                return RouteLine(
                    change,
                    identity,
                    _prefix(fields["prefix"]),
                    _prefix(fields["from"]),
                    _yes(fields["installed"]),
                    fields["id"],
                    _metric(fields["metric"]),
                )
            case "neighbour":
                return NeighbourLine(change, identity, fields["address"], fields["if"])
            case "interface":
                return InterfaceLine(change, identity, _yes(fields["up"]))
            case _:
                return OtherLine(text)
    except KeyError as error:
        raise MalformedInput(f"babeld: no {error.args[0]!r} in {text[:200]!r}") from None
    except ValueError as error:
        raise MalformedInput(f"babeld: {error} in {text[:200]!r}") from None


def _yes(word: str) -> bool:
    if word in ("yes", "true"):
        return True
    if word in ("no", "false"):
        return False
    raise ValueError(f"{word!r} is neither yes nor no")


def _metric(word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 10):
        raise ValueError(f"{word!r} is not a metric")
    return int(word)


@lru_cache(maxsize=4096)  # a kick repeats the line of one route a hundred times; parsing a prefix costs 8 µs
def _prefix(word: str) -> Prefix:
    return ip_network(word, strict=False)
