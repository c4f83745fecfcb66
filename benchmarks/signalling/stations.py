"""Many hosts and their hostapds in one thread, for real daemons: stations that connect, and answer where they are.

Host number H has the MAC 02:00:00:00:HH:HH and the addresses fd44:0:0:1::HHHH:1, :2, ... It answers neighbour
solicitations on the client link of the access point where it is, and says nothing by itself. Each access point has a
control socket that speaks hostapd's protocol.
"""

from __future__ import annotations

import socket
from pathlib import Path

from small_hostapd import Serving, SmallHostapd

from benchmarks.many_hosts import ETH_P_IPV6, answer, mac_of
from roamroute.lab.namespaces import Namespace

OUTGOING = 4  # PACKET_OUTGOING, linux/if_packet.h


class Stations:
    """The hosts of some access points, which are numbered from 0. Use as a context manager: a thread serves them."""

    def __init__(self) -> None:
        self.place: dict[int, int] = {}
        """Host number to access point."""
        self._hostapds: list[SmallHostapd] = []
        self._serving = Serving()

    def add_access_point(self, namespace: Namespace, directory: Path, air: Namespace, port: str) -> None:
        """An access point: its hostapd's control socket is made in `directory`; `port` of `air` is its client link."""
        number = len(self._hostapds)
        hostapd = SmallHostapd(namespace, directory / "wlan0", lambda: self._at(number))
        self._hostapds.append(hostapd)
        wire = air.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IPV6))
        with air.entered():
            wire.bind((port, ETH_P_IPV6))
        self._serving.add(hostapd.socket, hostapd.serve)
        self._serving.add(wire, lambda: self._answer(wire, number))

    def __enter__(self) -> Stations:
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.close()

    def move(self, host: int, access_point: int) -> None:
        """The host associates with another access point; the old one is told nothing."""
        self.place[host] = access_point
        self._hostapds[access_point].connect(mac_text(host))

    def _at(self, access_point: int) -> list[str]:
        return [mac_text(host) for host, place in self.place.items() if place == access_point]

    def _answer(self, wire: socket.socket, access_point: int) -> None:
        frame, address = wire.recvfrom(2048)
        reply = None if address[2] == OUTGOING else answer(frame)
        if reply is not None and self.place.get(int.from_bytes(reply[10:12], "big")) == access_point:
            wire.send(reply)


def mac_text(host: int) -> str:
    """The MAC of a host as text."""
    return mac_of(host).hex(":")
