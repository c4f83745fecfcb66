"""A gateway, access points and a client in namespaces, with one simulated radio each where they need one.

Runs inside the lab's kernel (`run`), as its only user: nothing here is ever taken down.

    gw -- ap1 -- ap2          `is_line`: the gateway at the end
    ap1 -- gw -- ap2          else: the gateway in the middle

The client has a static address of the roaming prefix (/128: nothing is on link) and its default route through fe80::1.
What runs on gateway and access points is not this module's: see mesh.py.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from namespaces import ControlSocket, Namespace, NotReached, wait_until
from recorder import Recorder

ROAMING_PREFIX = "fd44:0:0:1::/64"
CLIENT_ADDRESS = "fd44:0:0:1::c"
GATEWAY_ADDRESS = "fd44:0:0:a::9"
GATEWAY_LINK_LOCAL = "fe80::1"
SHARED_MAC = "02:00:5e:44:00:01"
PASSPHRASE = "roaming without a bridge"

GOES_FIRST = ("nice", "-n", "-20")
"""The radios' own programs: in life, layer 2 does not wait for a routing daemon on another machine."""

HOSTAPD = """\
interface=wlan0
driver=nl80211
ctrl_interface={directory}
ssid={ssid}
hw_mode=g
channel={channel}
wpa=2
wpa_key_mgmt={key_management}
rsn_pairwise=CCMP
wpa_passphrase={passphrase}
ap_isolate=1
"""

# 802.11r over the air; each access point makes the keys of the others' stations from the passphrase
HOSTAPD_FT = """\
mobility_domain=4f57
nas_identifier={name}
ft_over_ds=0
ft_psk_generate_local=1
"""

SUPPLICANT = """\
ctrl_interface={directory}
ap_scan=1
network={{
    ssid="{ssid}"
    key_mgmt={key_management}
    psk="{passphrase}"
    scan_freq={frequencies}
    disabled=1
}}
"""


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
    """The whole set-up: its first radio is the client's, the next are the access points'."""

    def __init__(
        self,
        logs: Path,
        *,
        prefix: str = "",
        first_radio: int = 0,
        channels: Sequence[int] = (1, 6),
        is_line: bool = False,
        has_bridge: bool = False,
        is_routed: bool = True,
        has_ft: bool = False,
        delay_ms: int = 0,
        client_address: str = CLIENT_ADDRESS,
    ) -> None:
        """`prefix` of all names tells several set-ups in one kernel apart, `channels` has one for each access point.

        `is_routed`: the access points are routers, each with fe80::1 towards the client; else bare bridges ("br0").
        """
        self.logs = logs
        self._prefix = prefix
        self._first_radio = first_radio
        self._channels = channels
        self._has_bridge = has_bridge or not is_routed
        self._is_routed = is_routed
        self._key_management = "FT-PSK" if has_ft else "WPA-PSK"
        self.recorder = Recorder()
        self.gateway = Namespace(f"{prefix}gw")
        self.client = Namespace(f"{prefix}client")
        self.mesh_links: dict[str, list[str]] = {self.gateway.name: []}
        self.gateway.sysctl(ipv6__conf__all__forwarding=1)
        self.gateway.run("ip", "addr", "add", f"{GATEWAY_ADDRESS}/128", "dev", "lo")
        self._radio(first_radio, self.client)
        self.client_mac = self._mac(self.client, "wlan0")
        spaces = [Namespace(f"{prefix}ap{number}") for number in range(1, len(channels) + 1)]
        nearer = [self.gateway, *spaces[:-1]] if is_line else [self.gateway] * len(spaces)
        for before, space in zip(nearer, spaces, strict=True):
            self._join(before, space, delay_ms)
        self.access_points = [self._access_point(space, number) for number, space in enumerate(spaces, 1)]
        self.client.run("ip", "link", "set", "wlan0", "up")
        self.client.run("ip", "addr", "add", f"{client_address}/128", "dev", "wlan0", "nodad")
        self.client.run("ip", "route", "add", "default", "via", GATEWAY_LINK_LOCAL, "dev", "wlan0")
        self.supplicant = self._supplicant(self.client, "client")
        self.current = ""
        self.connected_at = 0.0

    def ap(self, name: str) -> AccessPoint:
        return next(each for each in self.access_points if each.name == name)

    def another_client(self, name: str, radio: int) -> tuple[Namespace, ControlSocket]:
        """A client without any address, and its wpa_supplicant: the recorder, not started yet, hears it as `name`."""
        namespace = Namespace(f"{self._prefix}{name}")
        self._radio(radio, namespace)
        namespace.run("ip", "link", "set", "wlan0", "up")
        return namespace, self._supplicant(namespace, name)

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

    def _access_point(self, namespace: Namespace, number: int) -> AccessPoint:
        self._radio(self._first_radio + number, namespace)
        bssid = self._mac(namespace, "wlan0")
        link = "br0" if self._has_bridge else "wlan0"
        if self._has_bridge:
            namespace.run("ip", "link", "add", "br0", "type", "bridge")
        directory = Path(f"/run/hostapd-{namespace.name}")
        configuration = Path(f"/tmp/hostapd-{namespace.name}.conf")
        text = HOSTAPD.format(
            directory=directory,
            ssid=self._ssid,
            channel=self._channels[number - 1],
            key_management=self._key_management,
            passphrase=PASSPHRASE,
        )
        if self._key_management == "FT-PSK":
            text += HOSTAPD_FT.format(name=namespace.name)
        configuration.write_text(text + "bridge=br0\n" * self._has_bridge)
        log = str(self.logs / f"hostapd-{namespace.name}.log")
        namespace.start(*GOES_FIRST, "hostapd", "-t", str(configuration), log=log)
        control = ControlSocket(directory / "wlan0")
        wait_until(lambda: "state=ENABLED" in control.request("STATUS"), f"hostapd of {namespace.name}", 20)
        if self._is_routed:
            if self._has_bridge:
                namespace.run(
                    "ip", "link", "set", "br0", "address", SHARED_MAC, "type", "bridge", "mcast_snooping", "0"
                )
            namespace.sysctl(ipv6__conf__all__forwarding=1)
            namespace.run("ip", "addr", "add", f"{GATEWAY_LINK_LOCAL}/64", "dev", link, "nodad")
            namespace.run("ip", "addr", "add", f"fd44:0:0:a::{number}/128", "dev", "lo")
        namespace.run("ip", "link", "set", link, "up")
        self.recorder.listen(namespace.name, ControlSocket(directory / "wlan0"))
        return AccessPoint(namespace, number, link, bssid, control)

    @property
    def _ssid(self) -> str:
        return f"{self._prefix}lab"

    def _frequencies(self, separator: str) -> str:
        return separator.join(str(2407 + 5 * channel) for channel in sorted(set(self._channels)))

    def _supplicant(self, namespace: Namespace, name: str) -> ControlSocket:
        configuration = Path(f"/tmp/{namespace.name}.conf")
        directory = Path(f"/run/wpa-{namespace.name}")
        configuration.write_text(
            SUPPLICANT.format(
                directory=directory,
                ssid=self._ssid,
                key_management=self._key_management,
                passphrase=PASSPHRASE,
                frequencies=self._frequencies(" "),
            )
        )
        log = str(self.logs / f"wpa_supplicant-{namespace.name}.log")
        namespace.start(*GOES_FIRST, "wpa_supplicant", "-Dnl80211", "-iwlan0", f"-c{configuration}", "-t", log=log)
        control = ControlSocket(directory / "wlan0")
        self.recorder.listen(name, ControlSocket(directory / "wlan0"))
        return control
