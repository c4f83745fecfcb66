"""Dumb access points: plain bridges that carry the Wi-Fi of a router. They have no address and run no roamroute.

    client ~~~ cell --- wlan0 [bridge br0] eth0 --- lan0 [bridge wlan0] router

The router's client link keeps its name, and is a bridge with one port: so its kernel learns which MAC is behind it.
hostapd runs on the dumb access point, and the router hears nothing of it.

What a dumb access point says at an association is the layer-2 update frame: an IEEE 802.2 XID response, broadcast,
from the station's own MAC. Linux sends it when a station becomes authorised (mac80211's sta_info.c, with
`cfg80211_send_layer2_update` of net/wireless/util.c; since 2019 not before), as if the station had: received on the
Wi-Fi interface, so that the bridge above learns the port, and floods the frame to those behind. A wired interface of
hostapd has nobody who does, so here the lab does.
"""

from __future__ import annotations

import contextlib
import enum
import socket

from roamroute.lab import addresses
from roamroute.lab.namespaces import Namespace

WIFI_MAC = "02:00:5e:44:00:02"
"""Of the Wi-Fi interface of every dumb access point: only its EAPOL has it."""
BRIDGE = "br0"
UPLINK = "eth0"
PORT = "lan0"
"""The port of the router's client link."""

_BROADCAST = b"\xff" * 6
_XID_RESPONSE = bytes((0x00, 0x01, 0xAF, 0x81, 0x01, 0x00))
"""DSAP null; SSAP null, response; XID, final bit clear; format identifier; class: type 1; no window."""
FRAME_BYTES = 60
"""Ethernet's least, without the checksum; the length field says 6."""


class Stations(enum.Enum):
    """Who says at an access point which stations are there: what `--stations` takes."""

    HOSTAPD = "hostapd"
    NONE = "none"
    MIXED = "mixed"

    def is_dumb(self, number: int) -> bool:
        """Is access point `number` (from 1 on) a router behind a dumb one? Mixed: every second."""
        match self:
            case Stations.HOSTAPD:
                return False
            case Stations.NONE:
                return True
            case Stations.MIXED:
                return number % 2 == 0


def update_frame(mac: str) -> bytes:
    """The layer-2 update frame for a station."""
    frame = _BROADCAST + bytes.fromhex(mac.replace(":", "")) + len(_XID_RESPONSE).to_bytes(2, "big") + _XID_RESPONSE
    return frame.ljust(FRAME_BYTES, b"\0")


def bridge_lines(bridge: str, *ports: str, mac: str = "", snooping: int = 1) -> list[str]:
    """`ip` lines for a bridge with these ports, all up. Multicast snooping is on by default, as the kernel has it."""
    address = f" address {mac}" if mac else ""
    lines = [f"link add {bridge}{address} type bridge stp_state 0 forward_delay 0 mcast_snooping {snooping}"]
    for port in ports:
        lines += [f"link set {port} master {bridge} addrgenmode none up"]
    return [*lines, f"link set {bridge} up"]


class UpdateFrames:
    """Sends layer-2 update frames into dumb access points, from the air's side, where the station would be."""

    def __init__(self, air: Namespace) -> None:
        self._socket = air.socket(socket.AF_PACKET, socket.SOCK_RAW)
        air.sandbox.on_close(self._socket.close)

    def send(self, link: str, mac: str) -> None:
        """Over `link` of the air, whose other end is the Wi-Fi interface of the access point; at once."""
        with contextlib.suppress(OSError):  # the link is down: so the frame is lost
            self._socket.sendto(update_frame(mac), (link, 0))


def client_link_lines() -> list[str]:
    """`ip` lines for the client link of a router behind a dumb access point."""
    return bridge_lines(addresses.CLIENT_LINK, PORT, mac=addresses.COMMON_MAC, snooping=0)
