"""BIRD's control socket as bytes in and replies out. Knows no socket and no clock.

A client sends one command a line and waits for the reply; at the start BIRD speaks first (`0001 BIRD 2.17.5 ready.`).
Each line of a reply begins with a code of four digits; after it `-` says that more follows and a space that the reply
is over. A line that begins with a space goes on with the code of the line before; one that begins with `+` is a log
message that somebody asked for, and belongs to no reply. Codes: 0 and 1 well, 2 heading, 8 could not be done, 9 not
understood (BIRD 2.0.12, 2.17 and 3.1 doc/reply_codes, nest/cli.c).

BIRD closes the connection when more than 1023 bytes of commands are waiting: one command at a time.
"""

from __future__ import annotations

import re

import attrs

from roamroute.errors import DaemonRefused, MalformedInput

LINE_LIMIT_BYTES = 16384
"""BIRD formats every line into 4096 bytes at most; more than this is not BIRD."""
REPLY_LIMIT_BYTES = 64 << 20
"""All routes of a full table of the Internet have 150 MB; our questions bring 10 MB for 50,000 hosts."""
COMMAND_LIMIT_BYTES = 1000

WELCOME = 1
NOT_FOUND = 8001
NO_PROTOCOLS_MATCH = 8003
STOPPED = 8004
"""BIRD 3 gives up a listing when it is reconfigured meanwhile."""
ACCESS_DENIED = 8007
_REFUSALS = 8000

_START = re.compile(rb"[0-9]{4}[- ]")
_POSITION = re.compile(r"(?P<path>[^\n]+?):(?P<line>[0-9]{1,9})(?::(?P<column>[0-9]{1,9}))? (?P<words>[^\n]+)")


@attrs.frozen
class Line:
    """One line of a reply, without what frames it."""

    code: int
    text: str


@attrs.frozen
class Position:
    """Where in its configuration BIRD stopped reading, and why. `column` is 0 where BIRD gives none."""

    path: str
    line: int
    column: int
    words: str


@attrs.frozen
class Reply:
    """All lines of a reply, the last among them. There is at least one."""

    lines: tuple[Line, ...]

    @property
    def last(self) -> Line:
        return self.lines[-1]

    @property
    def refusal(self) -> Line | None:
        """The line that says no; None when BIRD did what was asked."""
        return self.last if self.last.code >= _REFUSALS else None


class BirdRefused(DaemonRefused):
    """BIRD answered with a code of 8000 or more; `refusal` is what it said."""

    def __init__(self, command: str, refusal: Line, remedy: str = "") -> None:
        said = f'BIRD refused "{command}": {refusal.code} {refusal.text}'
        super().__init__(f"{said} ({remedy})" if remedy else said)
        self.refusal = refusal

    @property
    def position(self) -> Position | None:
        return position_of(self.refusal.text)


def position_of(text: str) -> Position | None:
    """The place in a configuration file at the start of an error text: `/etc/bird/bird.conf:3:26 syntax error`."""
    match = _POSITION.fullmatch(text)
    if match is None:
        return None
    return Position(match["path"], int(match["line"]), int(match["column"] or 0), match["words"])


class ReplyReader:
    """Collects bytes, gives replies. After an error it is of no more use: the connection is out of step."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[Line] = []
        self._reply_bytes = 0

    def feed(self, data: bytes) -> list[Reply]:
        """Take what arrived, however it was cut; return the replies that are whole now.

        Raises: MalformedInput for what BIRD cannot have sent.
        """
        *complete, self._rest = (self._rest + data).split(b"\n")
        replies = []
        for line in complete:
            if self._take(line):
                replies.append(Reply(tuple(self._lines)))
                self._lines = []
                self._reply_bytes = 0
        if len(self._rest) > LINE_LIMIT_BYTES:
            raise MalformedInput(f"BIRD: a line of more than {LINE_LIMIT_BYTES} bytes without an end")
        return replies

    def _take(self, line: bytes) -> bool:
        """Add a line; True when it ends the reply."""
        self._reply_bytes += len(line)
        if len(line) > LINE_LIMIT_BYTES or self._reply_bytes > REPLY_LIMIT_BYTES:
            raise MalformedInput(f"BIRD: a line of {len(line)} bytes in a reply of {self._reply_bytes}")
        if line[:1] == b" " and self._lines:
            self._lines.append(Line(self._lines[-1].code, _text(line[1:])))
            return False
        if line[:1] == b"+":
            return False
        if not _START.match(line):
            raise MalformedInput(f"BIRD: no line of a reply: {line[:80]!r}")
        self._lines.append(Line(int(line[:4]), _text(line[5:])))
        return line[4:5] == b" "


def _text(data: bytes) -> str:
    """Names and descriptions come as the configuration has them: not always UTF-8."""
    return data.decode("utf-8", "replace")


def quoted(name: str) -> str:
    """A protocol's name as a command takes it, also where the name is a word of BIRD's language.

    Raises: ValueError for a name that BIRD cannot have.
    """
    if not re.fullmatch(r"[A-Za-z0-9_:.\-]{1,64}", name):
        raise ValueError(f"not a name of a protocol: {name!r}")
    return f"'{name}'"
