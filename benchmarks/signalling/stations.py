"""Many hosts and their hostapds in one thread, for real daemons: stations that connect, and answer where they are.

Host number H has the MAC 02:00:00:00:HH:HH and the addresses fd44:0:0:1::HHHH:1, :2, ... It answers neighbour
solicitations on the client link of the access point where it is, and says nothing by itself. Each access point has a
control socket that speaks as much of hostapd's protocol as `roamroute.hostapd` asks for (hostapd 2.10, ctrl_iface.c).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from benchmarks.many_hosts import ETH_P_IPV6, answer, mac_of
from roamroute.lab.namespaces import Namespace

OUTGOING = 4  # PACKET_OUTGOING, linux/if_packet.h
REQUEST_BYTES = 4096


class Stations:
    """The hosts of some access points, which are numbered from 0. Use as a context manager: a thread serves them."""

    def __init__(self) -> None:
        self.place: dict[int, int] = {}
        """Host number to access point."""
        self._hostapds: list[_Hostapd] = []
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="stations", daemon=True)

    def add_access_point(self, namespace: Namespace, directory: Path, air: Namespace, port: str) -> None:
        """An access point: its hostapd's control socket is made in `directory`; `port` of `air` is its client link."""
        number = len(self._hostapds)
        hostapd = _Hostapd(namespace, directory / "wlan0", lambda: self._at(number))
        self._hostapds.append(hostapd)
        wire = air.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IPV6))
        with air.entered():
            wire.bind((port, ETH_P_IPV6))
        self._selector.register(hostapd.socket, selectors.EVENT_READ, hostapd.serve)
        self._selector.register(wire, selectors.EVENT_READ, lambda: self._answer(wire, number))

    def __enter__(self) -> Stations:
        self._selector.register(self._wake, selectors.EVENT_READ, lambda: None)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._woken, b"x")
        self._thread.join(5)
        for key in tuple(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        os.close(self._wake)
        os.close(self._woken)

    def move(self, host: int, access_point: int) -> None:
        """The host associates with another access point; the old one is told nothing."""
        self.place[host] = access_point
        self._hostapds[access_point].connect(mac_text(host))

    def _at(self, access_point: int) -> list[str]:
        return [mac_text(host) for host, place in self.place.items() if place == access_point]

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == self._wake:
                    return
                serve: Callable[[], None] = key.data
                serve()

    def _answer(self, wire: socket.socket, access_point: int) -> None:
        frame, address = wire.recvfrom(2048)
        reply = None if address[2] == OUTGOING else answer(frame)
        if reply is not None and self.place.get(int.from_bytes(reply[10:12], "big")) == access_point:
            wire.send(reply)


class _Hostapd:
    """One BSS. It holds a station until it is told to drop it, like the ghosts that a roam leaves behind."""

    def __init__(self, namespace: Namespace, path: Path, present: Callable[[], list[str]]) -> None:
        self.socket = namespace.socket(socket.AF_UNIX, socket.SOCK_DGRAM)  # abstract addresses belong to a namespace
        self.socket.bind(str(path))
        self._present = present
        self._attached: set[bytes] = set()
        self._stations: dict[str, None] = {}

    def connect(self, mac: str) -> None:
        self._stations[mac] = None
        self._tell(f"<3>AP-STA-CONNECTED {mac}")

    def serve(self) -> None:
        request, peer = self.socket.recvfrom(REQUEST_BYTES)
        words = request.decode("ascii").split()
        with contextlib.suppress(ConnectionRefusedError):  # whoever asked has gone
            self.socket.sendto(self._reply(words, peer).encode("ascii"), peer)
        if words[0] == "DEAUTHENTICATE" and words[1] in self._stations:
            del self._stations[words[1]]
            self._tell(f"<3>AP-STA-DISCONNECTED {words[1]}")

    def _reply(self, words: list[str], peer: bytes) -> str:
        match words:
            case ["ATTACH"]:
                self._attached.add(peer)
                self._stations |= dict.fromkeys(self._present())
                return "OK\n"
            case ["DETACH"]:
                self._attached.discard(peer)
                return "OK\n"
            case ["PING"]:
                return "PONG\n"
            case ["STA-FIRST"]:
                return self._record(next(iter(self._stations), None))
            case ["STA-NEXT", mac]:
                known = list(self._stations)
                return self._record(known[known.index(mac) + 1] if mac in known[:-1] else None)
            case ["STA", mac]:
                return self._record(mac if mac in self._stations else None)
            case ["DEAUTHENTICATE", _, *_]:
                return "OK\n"
            case _:
                return "UNKNOWN COMMAND\n"

    def _record(self, mac: str | None) -> str:
        return "" if mac is None else f"{mac}\nflags=[AUTH][ASSOC][AUTHORIZED]\nconnected_time=1\n"

    def _tell(self, event: str) -> None:
        for peer in tuple(self._attached):
            try:
                self.socket.sendto(event.encode("ascii"), peer)
            except ConnectionRefusedError:
                self._attached.discard(peer)


def mac_text(host: int) -> str:
    """The MAC of a host as text."""
    return mac_of(host).hex(":")
