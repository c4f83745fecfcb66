"""A gateway, access points and a client in namespaces, with one simulated radio each where they need one.

Runs inside the lab's kernel (`run`), as its only user: nothing here is ever taken down.

    gw -- ap1 -- ap2          `is_line`: the gateway at the end
    ap1 -- gw -- ap2          else: the gateway in the middle

The client has a static address of the roaming prefix (/128: nothing is on link) and its default route through fe80::1.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROAMING_PREFIX = "fd44:0:0:1::/64"
CLIENT_ADDRESS = "fd44:0:0:1::c"
GATEWAY_ADDRESS = "fd44:0:0:a::9"
SHARED_MAC = "02:00:5e:44:00:01"
PASSPHRASE = "roaming without a bridge"
PORT = 4000
Arrival = tuple[float, int, float]
"""Of a probe: when it arrived, its number, when it was sent."""
PROBE = struct.Struct("!Id")  # number, time of sending

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

HOSTAPD = """\
interface=wlan0
driver=nl80211
ctrl_interface={directory}
ssid=lab
hw_mode=g
channel={channel}
wpa=2
wpa_key_mgmt=WPA-PSK
rsn_pairwise=CCMP
wpa_passphrase={passphrase}
ap_isolate=1
{more}
"""

SUPPLICANT = """\
ctrl_interface={directory}
ap_scan=1
network={{
    ssid="lab"
    key_mgmt=WPA-PSK
    psk="{passphrase}"
    scan_freq={frequencies}
    disabled=1
}}
"""


class NotReached(Exception):
    """Something that had to happen did not, within its time."""


def wait_until(condition: Callable[[], bool], what: str, limit_s: float, poll_s: float = 0.05) -> None:
    """Raises: NotReached."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise NotReached(f"{what}: not within {limit_s} s")
        time.sleep(poll_s)


class Namespace:
    """A network namespace, named as in `ip netns`."""

    def __init__(self, name: str) -> None:
        self.name = name
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str) -> str:
        done = subprocess.run(["ip", "netns", "exec", self.name, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotReached(f"{self.name}: {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        with open(log, "ab") as output:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def sysctl(self, **settings: int) -> None:
        for name, value in settings.items():
            self.run("sysctl", "-q", "-w", f"net.{name.replace('__', '.')}={value}")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in the namespace; sockets opened meanwhile stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        away = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            if _libc.setns(away, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"entering {self.name}")
            yield
        finally:
            _libc.setns(home, _CLONE_NEWNET)
            os.close(away)
            os.close(home)


class ControlSocket:
    """The control interface of hostapd or wpa_supplicant: requests, and after ATTACH events."""

    _count = 0

    def __init__(self, path: Path) -> None:
        ControlSocket._count += 1
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"/tmp/control-{ControlSocket._count}")
        self.socket.settimeout(5)
        wait_until(path.exists, f"{path} appears", 10)
        self.socket.connect(str(path))

    def request(self, command: str) -> str:
        self.socket.send(command.encode())
        while (answer := self.socket.recv(65536)).startswith(b"<"):
            pass
        return answer.decode(errors="replace").strip()


@dataclass
class Saying:
    """One line that hostapd or wpa_supplicant said, when it reached an attached program."""

    at: float
    who: str
    text: str


@dataclass
class Recorder:
    """Sends and receives the probes and listens to the daemons, in a thread of its own, all by one clock."""

    sayings: list[Saying] = field(default_factory=list)
    downlink: list[Arrival] = field(default_factory=list)
    uplink: list[Arrival] = field(default_factory=list)
    sent: int = 0

    def __post_init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._senders: list[tuple[socket.socket, str]] = []

    def listen(self, who: str, control: ControlSocket) -> None:
        assert control.request("ATTACH") == "OK"
        control.socket.setblocking(False)
        self._selector.register(control.socket, selectors.EVENT_READ, lambda: self._hear(who, control.socket))

    def probe(self, gateway: Namespace, client: Namespace, *, has_uplink: bool) -> None:
        """Probes at 100 a second from `gateway` to `client` and back."""
        ends = []
        for end, address in ((gateway, GATEWAY_ADDRESS), (client, CLIENT_ADDRESS)):
            with end.entered():
                ends.append(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            ends[-1].bind((address, PORT))
            ends[-1].setblocking(False)
        near, far = ends
        self._selector.register(near, selectors.EVENT_READ, lambda: self._take(near, self.uplink))
        self._selector.register(far, selectors.EVENT_READ, lambda: self._take(far, self.downlink))
        self._senders.append((near, CLIENT_ADDRESS))
        if has_uplink:
            self._senders.append((far, GATEWAY_ADDRESS))

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= due:
                self.sent += 1
                for sender, destination in self._senders:
                    with suppress(OSError):  # no route at this moment: a lost probe like any other
                        sender.sendto(PROBE.pack(self.sent, now), (destination, PORT))
                due = max(due + 0.01, now)
            for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
                key.data()

    def _take(self, end: socket.socket, into: list[Arrival]) -> None:
        now = time.monotonic()
        try:
            number, sent_at = PROBE.unpack(end.recv(64))
        except OSError:
            return  # an ICMP error that came back
        into.append((now, number, sent_at))

    def _hear(self, who: str, control: socket.socket) -> None:
        now = time.monotonic()
        self.sayings.append(Saying(now, who, control.recv(65536).decode(errors="replace").partition(">")[2].strip()))

    def first(self, who: str, start: str, since: float) -> float | None:
        """When `who` said something that begins with `start`, first after `since`."""
        return next(
            (each.at for each in self.sayings if each.at >= since and each.who == who and each.text.startswith(start)),
            None,
        )

    @staticmethod
    def first_arrival(record: Sequence[Arrival], since: float) -> float | None:
        found = None
        for arrived_at, _, _ in reversed(record):
            if arrived_at < since:
                break
            found = arrived_at
        return found


@dataclass
class AccessPoint:
    """One access point: `link` is the roaming interface, the radio itself or the bridge above it."""

    namespace: Namespace
    number: int
    link: str
    bssid: str
    control: ControlSocket

    @property
    def name(self) -> str:
        return self.namespace.name

    @property
    def mesh_address(self) -> str:
        return f"fd44:0:0:a::{self.number}"

    @property
    def hostapd_directory(self) -> Path:
        return Path(f"/run/hostapd-{self.name}")

    def stations(self) -> list[str]:
        return [
            line.split()[1]
            for line in self.namespace.run("iw", "dev", "wlan0", "station", "dump").splitlines()
            if line.startswith("Station")
        ]


class Bench:
    """The whole set-up. Radio 0 is the client's, radio N access point N's."""

    def __init__(
        self,
        logs: Path,
        *,
        access_points: int = 2,
        is_line: bool = False,
        has_bridge: bool = False,
        same_channel: bool = False,
        delay_ms: int = 0,
        client_address: str = CLIENT_ADDRESS,
    ) -> None:
        self.logs = logs
        self._channels = [1 if same_channel else 1 + 5 * (number % 3) for number in range(access_points)]
        self.recorder = Recorder()
        self.gateway = Namespace("gw")
        self.client = Namespace("client")
        self.mesh_links: dict[str, list[str]] = {"gw": []}
        for namespace in (self.gateway,):
            namespace.sysctl(ipv6__conf__all__forwarding=1)
        self.gateway.run("ip", "addr", "add", f"{GATEWAY_ADDRESS}/128", "dev", "lo")
        self._radio(0, self.client)
        self.client_mac = self._mac(self.client, "wlan0")
        names = [f"ap{number}" for number in range(1, access_points + 1)]
        spaces = {name: Namespace(name) for name in names}
        for before, name in zip(["gw", *names[:-1]] if is_line else ["gw"] * len(names), names, strict=True):
            self._join(self.gateway if before == "gw" else spaces[before], spaces[name], delay_ms)
        self.access_points = [
            self._access_point(spaces[name], number, has_bridge) for number, name in enumerate(names, 1)
        ]
        self.client.run("ip", "link", "set", "wlan0", "up")
        self.client.run("ip", "addr", "add", f"{client_address}/128", "dev", "wlan0", "nodad")
        self.client.run("ip", "route", "add", "default", "via", "fe80::1", "dev", "wlan0")
        self.supplicant = self._supplicant()
        self.current = ""
        self.connected_at = 0.0

    def ap(self, name: str) -> AccessPoint:
        return next(each for each in self.access_points if each.name == name)

    def scan(self) -> None:
        """Let the client know both access points; ROAM needs an entry that is younger than 30 s."""
        since = time.monotonic()
        self.supplicant.request(f"SCAN freq={self._frequencies(',')}")
        wait_until(lambda: self.recorder.first("client", "CTRL-EVENT-SCAN-RESULTS", since) is not None, "a scan", 10)

    def connect(self, name: str) -> float:
        """The client's first association; when the access point said AP-STA-CONNECTED."""
        since = time.monotonic()
        self.supplicant.request(f"BSSID 0 {self.ap(name).bssid}")
        self.supplicant.request("SELECT_NETWORK 0")
        moment = self._connected(name, since, 20)
        # only a preference from here on: ROAM would be refused
        self.supplicant.request("BSSID 0 00:00:00:00:00:00")
        return moment

    def roam(self, name: str, limit_s: float = 10) -> float:
        """Move the client; when hostapd there said AP-STA-CONNECTED. Nobody tells the old access point."""
        since = time.monotonic()
        answer = self.supplicant.request(f"ROAM {self.ap(name).bssid}")
        if answer != "OK":
            raise NotReached(f"wpa_supplicant refused to roam to {name}: {answer}")
        return self._connected(name, since, limit_s)

    def look_where(self) -> str:
        """Where the client is after a roam that failed; waits until it is somewhere."""
        status: dict[str, str] = {}

        def is_somewhere() -> bool:
            for line in self.supplicant.request("STATUS").splitlines():
                key, _, value = line.partition("=")
                status[key] = value
            return status.get("wpa_state") == "COMPLETED"

        wait_until(is_somewhere, "the client is connected somewhere", 30)
        self.current = next(ap.name for ap in self.access_points if ap.bssid == status["bssid"])
        self.connected_at = time.monotonic()
        return f"the client is at {self.current}"

    def _connected(self, name: str, since: float, limit_s: float) -> float:
        said = f"AP-STA-CONNECTED {self.client_mac}"
        wait_until(lambda: self.recorder.first(name, said, since) is not None, f"{name} says {said}", limit_s, 0.005)
        moment = self.recorder.first(name, said, since)
        assert moment is not None
        self.current, self.connected_at = name, moment
        return moment

    def _radio(self, number: int, namespace: Namespace) -> None:
        subprocess.run(["iw", "phy", f"phy{number}", "set", "netns", "name", namespace.name], check=True)
        namespace.run("ip", "link", "set", f"wlan{number}", "name", "wlan0")

    @staticmethod
    def _mac(namespace: Namespace, link: str) -> str:
        return namespace.run("cat", f"/sys/class/net/{link}/address").strip()

    def _join(self, one: Namespace, other: Namespace, delay_ms: int) -> None:
        """A backbone link; each end is named after the other."""
        one.run("ip", "link", "add", other.name, "type", "veth", "peer", "name", one.name, "netns", other.name)
        for end, link in ((one, other.name), (other, one.name)):
            end.run("ip", "link", "set", link, "up")
            if delay_ms:
                end.run("tc", "qdisc", "add", "dev", link, "root", "netem", "delay", f"{delay_ms}ms")
            self.mesh_links.setdefault(end.name, []).append(link)

    def _access_point(self, namespace: Namespace, number: int, has_bridge: bool) -> AccessPoint:
        self._radio(number, namespace)
        namespace.sysctl(ipv6__conf__all__forwarding=1)
        bssid = self._mac(namespace, "wlan0")
        link = "br0" if has_bridge else "wlan0"
        if has_bridge:
            namespace.run("ip", "link", "add", "br0", "address", SHARED_MAC, "type", "bridge", "mcast_snooping", "0")
        directory = Path(f"/run/hostapd-{namespace.name}")
        configuration = Path(f"/tmp/hostapd-{namespace.name}.conf")
        configuration.write_text(
            HOSTAPD.format(
                directory=directory,
                channel=self._channels[number - 1],
                passphrase=PASSPHRASE,
                more="bridge=br0" if has_bridge else "",
            )
        )
        namespace.start("hostapd", "-t", str(configuration), log=str(self.logs / f"hostapd-{namespace.name}.log"))
        control = ControlSocket(directory / "wlan0")
        wait_until(lambda: "state=ENABLED" in control.request("STATUS"), f"hostapd of {namespace.name}", 20)
        namespace.run("ip", "link", "set", link, "up")
        namespace.run("ip", "addr", "add", "fe80::1/64", "dev", link, "nodad")
        namespace.run("ip", "addr", "add", f"fd44:0:0:a::{number}/128", "dev", "lo")
        self.recorder.listen(namespace.name, ControlSocket(directory / "wlan0"))
        return AccessPoint(namespace, number, link, bssid, control)

    def _frequencies(self, separator: str) -> str:
        return separator.join(str(2407 + 5 * channel) for channel in sorted(set(self._channels)))

    def _supplicant(self) -> ControlSocket:
        configuration = Path("/tmp/wpa_supplicant.conf")
        configuration.write_text(
            SUPPLICANT.format(directory="/run/wpa", passphrase=PASSPHRASE, frequencies=self._frequencies(" "))
        )
        self.client.start(
            "wpa_supplicant",
            "-Dnl80211",
            "-iwlan0",
            f"-c{configuration}",
            "-t",
            log=str(self.logs / "wpa_supplicant.log"),
        )
        control = ControlSocket(Path("/run/wpa/wlan0"))
        self.recorder.listen("client", ControlSocket(Path("/run/wpa/wlan0")))
        return control
