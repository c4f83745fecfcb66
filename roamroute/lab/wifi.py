"""The real hostapd and wpa_supplicant, with driver "wired": 802.1X over Ethernet instead of radio.

A wire has no association frames, so `AccessPointDaemon.associate` tells hostapd by its control interface what a radio
driver would: a station has associated. What follows is real: EAP between hostapd and wpa_supplicant (MD5, about 1 ms),
AP-STA-CONNECTED when it has succeeded, and where hostapd still holds an old entry of the station (a ghost: nobody says
good-bye when roaming), AP-STA-DISCONNECTED for that one before.

hostapd 2.10 keeps a wired station for ever; it has no inactivity timeout for it.
"""

from __future__ import annotations

import select
import socket
import time
from pathlib import Path

import attrs

from roamroute.errors import DaemonGone, DaemonRefused
from roamroute.lab.addresses import CLIENT_LINK
from roamroute.lab.namespaces import Namespace, Process
from roamroute.lab.stamps import receive_stamped, stamp_arrivals
from roamroute.lab.waiting import NotReached, wait_until

START_LIMIT_S = 10.0
REPLY_LIMIT_S = 5.0

HOSTAPD_CONF = """\
interface={link}
driver=wired
ctrl_interface={directory}
ieee8021x=1
eap_server=1
eap_user_file={users}
eap_reauth_period=0
use_pae_group_addr=1
"""

SUPPLICANT_CONF = """\
ctrl_interface={directory}
ap_scan=0
network={{
    key_mgmt=IEEE8021X
    eap=MD5
    identity="client"
    password="roamroute lab"
    eapol_flags=0
}}
"""

EAP_USERS = '"client" MD5 "roamroute lab"\n'


class ControlSocket:
    """A connection to a control interface of hostapd or wpa_supplicant (wpa_ctrl): requests or, if attached, events."""

    def __init__(self, path: Path, own_path: Path) -> None:
        self._own_path = own_path
        own_path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(own_path))
        self.socket.settimeout(REPLY_LIMIT_S)
        stamp_arrivals(self.socket)
        self._path = path
        try:
            self.socket.connect(str(path))
        except OSError as error:
            self.close()
            raise DaemonGone(f"connecting to {path}: {error}") from None

    def request(self, command: str) -> str:
        """Send a request, return the answer. Events that come in between are lost: attach another connection for them.

        Raises: DaemonGone when no answer comes.
        """
        try:
            self.socket.send(command.encode())
            while (answer := self.socket.recv(65536)).startswith(b"<"):
                pass
        except OSError as error:
            raise DaemonGone(f"{self._path}: no answer to {command!r}: {error}") from None
        return answer.decode(errors="replace").strip()

    def order(self, command: str) -> None:
        """Send a request that must be answered OK. Raises: DaemonRefused, DaemonGone."""
        if (answer := self.request(command)) != "OK":
            raise DaemonRefused(f"{self._path} refused {command!r}: {answer}")

    def drain(self) -> list[tuple[float, str]]:
        """The events that have arrived and when (CLOCK_MONOTONIC, in seconds), without waiting."""
        events = []
        while select.select([self.socket], [], [], 0)[0]:
            event, arrived_ns = receive_stamped(self.socket, 65536)
            events.append((arrived_ns / 1e9, event.decode(errors="replace")))
        return events

    def close(self) -> None:
        self.socket.close()
        self._own_path.unlink(missing_ok=True)


@attrs.frozen
class StationEvent:
    """AP-STA-CONNECTED or AP-STA-DISCONNECTED, as a program attached to hostapd receives it."""

    at: float  # CLOCK_MONOTONIC, in seconds
    kind: str
    mac: str


class AccessPointDaemon:
    """hostapd on the client link of one access point.

    `control_directory` is what an operator would write as `ctrl_interface`, and as `hostapd_dir` for roamroute.
    """

    def __init__(self, namespace: Namespace, *, link: str = CLIENT_LINK) -> None:
        self.namespace = namespace
        self.link = link
        self._directory = namespace.sandbox.subdirectory(f"{namespace.label}/wifi")
        self.control_directory = self._directory / "hostapd"
        self.process: Process | None = None
        self._requests: ControlSocket | None = None
        self._events: ControlSocket | None = None
        namespace.sandbox.on_close(self._close_sockets)

    def start(self) -> None:
        """Start hostapd; use `wait_ready` after it. Also restarts one that was killed."""
        users = self._directory / "eap-users"
        users.write_text(EAP_USERS)
        configuration = self._directory / "hostapd.conf"
        configuration.write_text(HOSTAPD_CONF.format(link=self.link, directory=self.control_directory, users=users))
        self.process = self.namespace.start("hostapd", str(configuration), log=self._directory / "hostapd.log")

    def wait_ready(self) -> None:
        """Wait until hostapd answers, and attach to its events. Raises: NotReached."""
        self._close_sockets()
        wait_until(self._connects, f"hostapd of {self.namespace.label} answers", START_LIMIT_S, poll_s=0.01)

    def associate(self, mac: str) -> None:
        """Tell hostapd that the station has associated; it begins to authenticate it at once."""
        requests = self._connected(self._requests)
        stations = self.stations()
        if mac in stations and len(stations) > 1:
            # Others must not be touched: the port of this one is closed and opened again.
            requests.order(f"EAPOL_SET {mac} AdminControlledPortControl ForceUnauthorized")
            requests.order(f"EAPOL_SET {mac} AdminControlledPortControl Auto")
            return
        if stations:
            # Removes every station at once, whatever state it is in (a deauthenticated one stays for 5 s otherwise).
            requests.order("DEAUTHENTICATE ff:ff:ff:ff:ff:ff tx=0")
        requests.order(f"NEW_STA {mac}")

    def stations(self) -> tuple[str, ...]:
        """The stations that hostapd has an entry for, ghosts too."""
        requests, found = self._connected(self._requests), []
        answer = requests.request("STA-FIRST")
        while answer and answer != "FAIL":
            found.append(answer.split()[0])
            answer = requests.request(f"STA-NEXT {found[-1]}")
        return tuple(found)

    def events(self) -> list[StationEvent]:
        """Station events since the last call."""
        found = []
        for arrived_at, line in self._connected(self._events).drain():
            kind, _, rest = line.partition(">")[2].partition(" ")
            if kind in ("AP-STA-CONNECTED", "AP-STA-DISCONNECTED"):
                found.append(StationEvent(arrived_at, kind, rest.split()[0]))
        return found

    def wait_connected(self, mac: str, limit_s: float) -> float:
        """Wait for AP-STA-CONNECTED and return when it was received (CLOCK_MONOTONIC). Raises: NotReached."""
        deadline = time.monotonic() + limit_s
        while (left := deadline - time.monotonic()) > 0:
            select.select([self._connected(self._events).socket], [], [], left)
            for event in self.events():
                if event.kind == "AP-STA-CONNECTED" and event.mac == mac:
                    return event.at
        raise NotReached(f"hostapd of {self.namespace.label} has not authenticated {mac} within {limit_s} s")

    def kill(self) -> None:
        """Kill hostapd with SIGKILL, as a crash would."""
        self._close_sockets()
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _connects(self) -> bool:
        path = self.control_directory / self.link
        try:
            self._requests = ControlSocket(path, self._directory / "requests")
            self._events = ControlSocket(path, self._directory / "events")
            self._events.order("ATTACH")
        except (DaemonGone, DaemonRefused):
            self._close_sockets()
            return False
        return True

    def _close_sockets(self) -> None:
        for connection in (self._requests, self._events):
            if connection is not None:
                connection.close()
        self._requests = self._events = None

    def _connected(self, connection: ControlSocket | None) -> ControlSocket:
        if connection is None:
            raise DaemonGone(f"hostapd of {self.namespace.label} has not been started, or wait_ready was not called")
        return connection


class Supplicant:
    """wpa_supplicant on the interface of one client."""

    def __init__(self, namespace: Namespace, *, link: str = CLIENT_LINK) -> None:
        self.namespace = namespace
        self.link = link
        self._directory = namespace.sandbox.subdirectory(f"{namespace.label}/wifi")
        self._requests: ControlSocket | None = None
        namespace.sandbox.on_close(self._close)

    def start(self) -> None:
        configuration = self._directory / "wpa_supplicant.conf"
        configuration.write_text(SUPPLICANT_CONF.format(directory=self._directory / "wpa"))
        command = ("wpa_supplicant", "-Dwired", f"-i{self.link}", f"-c{configuration}")
        self.namespace.start(*command, log=self._directory / "wpa_supplicant.log")
        wait_until(self._connects, f"wpa_supplicant of {self.namespace.label} answers", START_LIMIT_S, poll_s=0.01)

    def log_off(self) -> None:
        """Say good-bye to the access point, as a polite client would; `log_on` before the next association."""
        self._order("LOGOFF")

    def log_on(self) -> None:
        self._order("LOGON")

    def _order(self, command: str) -> None:
        if self._requests is None:
            raise DaemonGone(f"wpa_supplicant of {self.namespace.label} has not been started")
        self._requests.order(command)

    def _close(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    def _connects(self) -> bool:
        self._close()
        try:
            self._requests = ControlSocket(self._directory / "wpa" / self.link, self._directory / "requests")
            answer = self._requests.request("STATUS")
        except DaemonGone:
            return False
        return "wpa_state=ASSOCIATED" in answer  # it is ready to be authenticated; the carrier may be missing
