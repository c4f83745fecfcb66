"""What BIRD says of itself and of its protocols, as values. Pure. The forms are those of BIRD 2.0.12, 2.17 and 3.1."""

from __future__ import annotations

import attrs

from roamroute.errors import MalformedInput
from roamroute_bird.protocol import Line, Reply

STATUS = "show status"
PROTOCOLS = "show protocols"
PROTOCOLS_ALL = "show protocols all"

_VERSION_LINE, _STATUS_LINE = 1000, 1011

ROUTING_KINDS = ("Babel", "OSPF", "BGP", "RIP")
"""The kinds of protocols that tell other routers."""


@attrs.frozen
class Status:
    """`show status`. The times are as BIRD writes them: only a difference means something."""

    version: str
    router_id: str
    booted: str
    configured: str
    state: str
    """The last line: "Daemon is up and running", "Reconfiguration in progress", "Shutdown in progress"."""

    @property
    def program(self) -> str:
        return f"BIRD {self.version}"

    @property
    def is_configuring(self) -> bool:
        """Is a reconfiguration still going on? That may wait for protocols that are going down."""
        return self.state.startswith("Reconfiguration in progress")


@attrs.frozen
class Channel:
    """One address family of a protocol. `family` is BIRD's word: "ipv4", "ipv6", "ipv6-mc" …"""

    family: str
    state: str = ""
    table: str = ""
    preference: int | None = None
    import_filter: str = ""
    export_filter: str = ""

    @property
    def is_up(self) -> bool:
        return self.state == "UP"


@attrs.frozen
class Protocol:
    """One line of `show protocols`, with its channels where all was asked for.

    `kind` is BIRD's word: "Babel", "OSPF", "BGP", "Kernel", "Static" …; `info` is what stands behind the state: a time,
    and "Established" or "Active" for BGP, "Running" or "Alone" for OSPF.
    """

    name: str
    kind: str
    table: str
    state: str
    info: str
    channels: tuple[Channel, ...] = ()

    @property
    def is_up(self) -> bool:
        return self.state == "up"

    @property
    def is_routing(self) -> bool:
        return self.kind in ROUTING_KINDS

    def carries(self, version: int) -> bool:
        """Does it have a channel for this version of IP that is up?"""
        return any(channel.family == f"ipv{version}" and channel.is_up for channel in self.channels)


def status_of(reply: Reply) -> Status:
    """Read the reply to `show status`.

    Raises: MalformedInput when it is none.
    """
    found = {"version": "", "router_id": "", "booted": "", "configured": ""}
    for line in reply.lines:
        for key, code, start in _STATUS_LINES:
            if line.code == code and line.text.startswith(start):
                found[key] = line.text[len(start) :].strip()
    if not found["version"]:
        raise MalformedInput(f"BIRD: no version in the status: {reply.last.text[:80]!r}")
    return Status(state=reply.last.text, **found)


_STATUS_LINES = (
    ("version", _VERSION_LINE, "BIRD "),
    ("router_id", _STATUS_LINE, "Router ID is "),
    ("booted", _STATUS_LINE, "Last reboot on "),
    ("configured", _STATUS_LINE, "Last reconfiguration on "),
)


def protocols_of(reply: Reply) -> tuple[Protocol, ...]:
    """Read the reply to `show protocols` or `show protocols all`.

    Raises: MalformedInput.
    """
    protocols: list[Protocol] = []
    channels: list[Channel] = []
    for line in reply.lines:
        match line.code:
            case 1002:
                _close(protocols, channels)
                protocols.append(_protocol(line))
            case 1006 if protocols:
                _detail(line.text, channels)
            case _:
                pass
    _close(protocols, channels)
    return tuple(protocols)


def _close(protocols: list[Protocol], channels: list[Channel]) -> None:
    if channels:
        protocols[-1] = attrs.evolve(protocols[-1], channels=tuple(channels))
        channels.clear()


def _protocol(line: Line) -> Protocol:
    # Name       Proto      Table      State  Since         Info
    words = line.text.split(maxsplit=4)
    if len(words) < 4:
        raise MalformedInput(f"BIRD: no line of a protocol: {line.text[:80]!r}")
    name, kind, table, state = words[:4]
    return Protocol(name, kind, table, state, " ".join(words[4].split()) if len(words) > 4 else "")


def _detail(text: str, channels: list[Channel]) -> None:
    """Take one detail of a protocol: `  Channel ipv6`, or `    KEY: VALUE` of the channel before."""
    stripped = text.strip()
    if text.startswith("  Channel "):
        channels.append(Channel(stripped.removeprefix("Channel ")))
        return
    if not channels:
        return
    key, colon, value = stripped.partition(":")
    if not colon:
        return
    value = value.strip()
    channel = channels[-1]
    match key:
        case "State":
            channel = attrs.evolve(channel, state=value)
        case "Table":
            channel = attrs.evolve(channel, table=value)
        case "Preference" if value.isascii() and value.isdigit() and len(value) < 10:
            channel = attrs.evolve(channel, preference=int(value))
        case "Input filter":
            channel = attrs.evolve(channel, import_filter=value)
        case "Output filter":
            channel = attrs.evolve(channel, export_filter=value)
        case _:
            pass
    channels[-1] = channel
