"""As much of hostapd's control interface as `roamroute.hostapd` asks for (hostapd 2.10, ctrl_iface.c), for stations
that associate without a supplicant: hundreds of them, at a call.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from roamroute.lab.namespaces import Namespace

REQUEST_BYTES = 4096


def _nobody() -> Iterable[str]:
    return ()


class SmallHostapd:
    """One BSS. It holds a station until it is told to drop it, like the ghosts that a roam leaves behind.

    `path` is the control socket, named after the interface. `present` names the stations that it has when somebody
    attaches. Whoever made it calls `serve` when `socket` is readable.
    """

    def __init__(self, namespace: Namespace, path: Path, present: Callable[[], Iterable[str]] = _nobody) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.socket = namespace.socket(socket.AF_UNIX, socket.SOCK_DGRAM)  # abstract addresses belong to a namespace
        self.socket.bind(str(path))
        self._present = present
        self._attached: set[bytes] = set()
        self._stations: dict[str, None] = {}

    def connect(self, mac: str) -> None:
        """The station has associated and authenticated."""
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


class Serving:
    """A thread that calls a function whenever its socket is readable; `close` ends it and closes the sockets."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = os.pipe()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="stations", daemon=True)
        self._thread.start()

    def add(self, readable: socket.socket, serve: Callable[[], None]) -> None:
        self._selector.register(readable, selectors.EVENT_READ, serve)

    def close(self) -> None:
        os.write(self._wake, b"x")
        self._thread.join(5)
        for key in tuple(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        os.close(self._wake)
        os.close(self._woken)

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == self._woken:
                    return
                serve: Callable[[], None] = key.data
                serve()
