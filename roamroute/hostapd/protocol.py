"""hostapd's control interface as bytes: events and replies. Sans-IO; connection.py gives it a socket.

A datagram from hostapd is an event (`<3>AP-STA-CONNECTED 02:...`, with `IFNAME=wlan0 ` in front where one socket
serves several BSSes) or the reply to the one request that is out. Read in hostapd 2.10: hostapd/ctrl_iface.c,
src/ap/ctrl_iface_ap.c, src/ap/sta_info.c. Whatever the bytes, the answer is a value or `MalformedInput`.

What AP-STA-DISCONNECTED means. hostapd sends it whenever a station loses its authorisation (ap_sta_set_authorized),
also when the *same* station is just authenticating anew and hostapd still held its old entry (ap_sta_re_add, called by
handle_auth): that one is not gone. hostapd has one thread, so what `STA <mac>` says after the event is how the event's
handler left the station:

    the cause                                     afterwards
    deauthentication by the station               no such station
    disassociation by the station, inactivity     timeout_next=DEAUTH
    DEAUTHENTICATE or DISASSOCIATE by somebody    timeout_next=REMOVE or DEAUTH
    802.1X logoff                                 its count of logoff frames has grown
    authentication anew                           none of these (flags [AUTH], later [AUTH][ASSOC], then [AUTHORIZED])
"""

from __future__ import annotations

import re

import attrs

from roamroute.errors import MalformedInput
from roamroute.values import Mac, mac

DATAGRAM_BYTES_MAXIMUM = 4096
"""hostapd's replies and events are cut to this (ctrl_iface.c, reply_size)."""

_EVENT = re.compile(r"(?:IFNAME=(?P<bss>\S+) )?<(?P<level>\d{1,3})>(?P<text>.*)", re.DOTALL)
_LEAVING = frozenset({"DEAUTH", "REMOVE"})


@attrs.frozen
class Connected:
    """AP-STA-CONNECTED: associated, and the handshake or the 802.1X authentication has succeeded."""

    mac: Mac


@attrs.frozen
class Disconnected:
    """AP-STA-DISCONNECTED: not authorised any more. Whether it has gone, `means_left` tells."""

    mac: Mac


@attrs.frozen
class Enabled:
    """AP-ENABLED: the BSS transmits."""


@attrs.frozen
class Disabled:
    """AP-DISABLED: the BSS does not transmit any more; its stations are gone."""


@attrs.frozen
class Terminating:
    """CTRL-EVENT-TERMINATING: hostapd ends, or is about to take this BSS away."""


@attrs.frozen
class Skipped:
    """An event that says nothing to us."""

    name: str


@attrs.frozen
class Reply:
    """What came back to a request, without the newline at its end."""

    text: str


HostapdEvent = Connected | Disconnected | Enabled | Disabled | Terminating | Skipped


@attrs.frozen
class StationRecord:
    """What `STA`, `STA-FIRST` and `STA-NEXT` say of one station, as far as it concerns us.

    `connected_s`: for how long it has been associated, where the driver knows. `logoffs`: EAPOL-Logoff frames received.
    """

    mac: Mac
    flags: frozenset[str]
    timeout_next: str = ""
    connected_s: float | None = None
    logoffs: int = 0

    @property
    def is_authorized(self) -> bool:
        """The station may send and receive."""
        return "AUTHORIZED" in self.flags


def read_datagram(datagram: bytes) -> HostapdEvent | Reply:
    """Tell an event from a reply, and read the event. Raises: MalformedInput for an event that is not as it must be."""
    if len(datagram) > DATAGRAM_BYTES_MAXIMUM:
        raise MalformedInput(f"hostapd sends at most {DATAGRAM_BYTES_MAXIMUM} bytes, not {len(datagram)}")
    text = datagram.decode("utf-8", errors="replace").rstrip("\n\0")
    match = _EVENT.match(text)
    if match is None:
        return Reply(text)
    name, _, rest = match["text"].partition(" ")
    match name:
        case "AP-STA-CONNECTED":
            return Connected(_station(name, rest))
        case "AP-STA-DISCONNECTED":
            return Disconnected(_station(name, rest))
        case "AP-ENABLED":
            return Enabled()
        case "AP-DISABLED":
            return Disabled()
        case "CTRL-EVENT-TERMINATING":
            return Terminating()
        case _:
            return Skipped(name)


def read_station(reply: str) -> StationRecord | None:
    """Read the reply to a station request; None where there is no (further) station.

    Raises: MalformedInput when it is neither a station nor hostapd's way of saying "none" (nothing, or FAIL).
    """
    lines = reply.split("\n")
    if lines[0] in ("", "FAIL"):
        return None
    try:
        address = mac(lines[0].strip())
    except ValueError as error:
        raise MalformedInput(f"hostapd's station starts with {lines[0][:40]!r}: {error}") from error
    fields = read_fields(reply)
    if "flags" not in fields:
        raise MalformedInput(f"hostapd's station {address} has no flags")
    return StationRecord(
        mac=address,
        # 2.10 prints "[PENDING_POLL" without its closing bracket
        flags=frozenset(flag for flag in re.split(r"[\[\]]+", fields["flags"]) if flag),
        timeout_next=fields.get("timeout_next", ""),
        connected_s=_seconds(fields.get("connected_time")),
        logoffs=int(_seconds(fields.get("dot1xAuthEapolLogoffFramesRx")) or 0),
    )


def read_fields(reply: str) -> dict[str, str]:
    """The `name=value` lines of a reply such as STATUS's; others are skipped, the first of a name counts."""
    fields: dict[str, str] = {}
    for line in reply.split("\n"):
        name, separator, value = line.partition("=")
        if separator:
            fields.setdefault(name, value)
    return fields


def means_left(record: StationRecord | None, logoffs_before: int) -> bool:
    """After AP-STA-DISCONNECTED: True when the station has gone, False when it is just authenticating anew.

    `record` is what `STA <mac>` said after the event, None when there is no such station; `logoffs_before` the count
    of its logoff frames before.
    """
    if record is None:
        return True
    if record.is_authorized:
        return False
    return record.timeout_next in _LEAVING or record.logoffs > logoffs_before


def _station(event: str, rest: str) -> Mac:
    """The MAC that an event starts with; keyid=, ip_addr= and p2p_dev_addr= may follow."""
    try:
        return mac(rest.partition(" ")[0])
    except ValueError as error:
        raise MalformedInput(f"hostapd's {event}: {error}") from error


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text) else None
