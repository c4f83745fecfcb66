"""One connection to babeld's local socket: greeting, the state as a whole, then every change. No socket, no clock.

GREETING until the `ok` after the greeting; LOADING while `monitor` tells everything there is; FOLLOWING from then on.
"""

from __future__ import annotations

import enum

import attrs

from roamroute.errors import DaemonRefused
from roamroute_babeld.protocol import MONITOR, Change, Header, Line, LineReader, Reply, XrouteLine
from roamroute_babeld.tables import Tables
from roamroute_babeld.version import Quirks, Version, parse_version, quirks_of


class Stage(enum.Enum):
    """How far a connection is."""

    GREETING = "greeting"
    LOADING = "loading"
    FOLLOWING = "following"


@attrs.frozen
class Greeting:
    """What babeld says of itself."""

    program: str = ""
    router_id: str = ""

    @property
    def version(self) -> Version | None:
        return parse_version(self.program)

    @property
    def quirks(self) -> Quirks:
        return quirks_of(self.version)


class Session:
    """Feed it what arrives and send what it returns. `tables` are whole from FOLLOWING on."""

    def __init__(self) -> None:
        self.stage = Stage.GREETING
        self.greeting = Greeting()
        self.tables = Tables()
        self._reader = LineReader()

    def receive(self, data: bytes) -> tuple[bytes, list[Line]]:
        """Take what arrived; return what to send, and the lines of state in it that tell something new.

        Raises: MalformedInput, DaemonRefused. Then the connection is of no more use.
        """
        to_send = b""
        state: list[Line] = []
        for line in self._reader.feed(data):
            match line:
                case Header(key="version", value=value):
                    self.greeting = attrs.evolve(self.greeting, program=value)
                case Header(key="my-id", value=value):
                    self.greeting = attrs.evolve(self.greeting, router_id=value)
                case Reply(word="ok") if self.stage is Stage.GREETING:
                    self.stage = Stage.LOADING
                    to_send += MONITOR
                case Reply(word="ok") if self.stage is Stage.LOADING:
                    self.stage = Stage.FOLLOWING
                case Reply(word="no" | "bad" as word, reason=reason) if self.stage is not Stage.FOLLOWING:
                    raise DaemonRefused(f'babeld refused "monitor": {word} {reason}'.rstrip())
                case Header() | Reply():
                    pass
                case XrouteLine(change=Change.CHANGE) if self.tables.knows(line):
                    pass  # a kick: a hundred of them
                case _:
                    self.tables.apply(line)
                    state.append(line)
        return to_send, state
