"""The air: which client hears which access point, when layer 2 is there, and what may pass before the authentication.

Every access point has a cell: a bridge in the air namespace to which its client link is joined. A client is a
namespace with one interface, wlan0, whose other end is a port in the air; roaming moves the port from cell to cell.
The client keeps MAC, addresses and routes, and sees what it would see of a radio: its carrier goes and comes back.
The access points see nothing: their carrier stays, and nobody tells the old one. Where a dumb access point carries the
Wi-Fi (`dumb.py`), the cell is joined to it.

A gate (nftables, netdev hooks on the client's port) drops everything but EAPOL until the EAP success for this client
has passed it, which is just before hostapd says AP-STA-CONNECTED; driver "wired" alone would let all frames through
before. Clients in one cell do not hear each other (`ap_isolate=1`).
"""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from roamroute.lab import addresses
from roamroute.lab.addresses import CLIENT_LINK
from roamroute.lab.dumb import WIFI_MAC, UpdateFrames
from roamroute.lab.namespaces import Namespace
from roamroute.lab.topology import Mesh, Router
from roamroute.lab.waiting import wait_until
from roamroute.lab.wifi import AccessPointDaemon, Supplicant

LAYER_2_DOWN_S = 0.050
"""A Linux station needs 37 to 51 ms to reassociate (WPA2-PSK, mac80211_hwsim)."""
ASSOCIATION_LIMIT_S = 10.0
CARRIER_LIMIT_S = 15.0  # the kernel tells carriers once a second at most, and later while namespaces are being removed

# linux/sockios.h, linux/if.h
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCGIFINDEX, SIOCBRADDIF, SIOCBRDELIF = 0x8913, 0x8914, 0x8933, 0x89A2, 0x89A3
IFF_UP, IFF_RUNNING = 0x1, 0x40
IEEE_PAE_GROUP = 1 << 3
"""01:80:c2:00:00:03: a bridge forwards it only when told to (group_fwd_mask)."""

# EAPOL packet type 0 is EAP (byte 15 of the frame), EAP code 3 is Success (byte 18).
GATE = """\
table netdev {port} {{
    set open {{ type iface_index; flags dynamic; size 8; }}
    chain from_client {{
        type filter hook ingress device {port} priority 0; policy drop;
        ether type 0x888e accept
        iif @open accept
    }}
    chain to_client {{
        type filter hook egress device {port} priority 0; policy drop;
        ether saddr != {{ {access_point_macs} }} drop
        oif @open ether type 0x888e drop
        ether type 0x888e @ll,120,8 0 @ll,144,8 3 add @open {{ oif }} accept
        ether type 0x888e accept
        oif @open accept
    }}
}}
"""


class Air:
    """The cells of all access points, and the ports of the clients."""

    def __init__(self, mesh: Mesh, *, has_update_frames: bool = True) -> None:
        self.mesh = mesh
        self.namespace = mesh.air
        self.has_update_frames = has_update_frames
        self._update_frames = UpdateFrames(self.namespace)
        self._control = Interfaces(self.namespace)
        for access_point in mesh.access_points:
            cell = _cell(access_point)
            self.namespace.ip(
                f"link add {cell} type bridge mcast_snooping 0 stp_state 0 group_fwd_mask {IEEE_PAE_GROUP}",
                f"link set {access_point.name} master {cell}",
                f"link set {access_point.name} up",
                f"link set {cell} up",
            )

    def add_port(self, client: Namespace, port: str, *, mac: str, is_open: bool) -> None:
        """Give `client` an interface wlan0 with a port in the air, in no cell; `is_open`: needs no authentication."""
        self.mesh.veth(client, CLIENT_LINK, self.namespace, port, mac=mac)
        macs = f"{addresses.COMMON_MAC}, {WIFI_MAC}"
        self.namespace.run("nft", "-f", "-", stdin=GATE.format(port=port, access_point_macs=macs))
        if is_open:
            self.namespace.run("nft", "add", "element", "netdev", port, "open", f"{{ {port} }}")

    def leave(self, port: str, access_point: Router | None) -> None:
        """Take the port out of its cell; its client loses the carrier at once."""
        self._control.set_up(port, False)
        if access_point is not None:
            self._control.leave_bridge(_cell(access_point), port)

    def close_gate(self, port: str) -> None:
        """Let only EAPOL pass, until the next EAP success."""
        self.namespace.run("nft", "flush", "set", "netdev", port, "open")

    def join(self, port: str, access_point: Router) -> None:
        """Put the port into the cell of `access_point` and wait until frames pass: less than 1 ms."""
        self._control.join_bridge(_cell(access_point), port)
        self._control.set_up(port, True)
        wait_until(lambda: self._control.is_running(port), f"{port} is up", CARRIER_LIMIT_S, poll_s=0.0002)

    def associated(self, mac: str, access_point: Router) -> None:
        """A station may send from now on: where the access point is a dumb one, it tells the bridges behind it."""
        if access_point.dumb is not None and self.has_update_frames:
            self._update_frames.send(access_point.name, mac)


class Host:
    """A plain host on the client link of one access point: no supplicant, no roaming; it stays where it is."""

    def __init__(self, air: Air, namespace: Namespace, identity: int) -> None:
        self.air = air
        self.namespace = namespace
        self.mac = addresses.host_mac(identity)
        self.address = addresses.host_addresses(identity, 1)[0]
        self.port = namespace.label
        air.add_port(namespace, self.port, mac=self.mac, is_open=True)

    def attach(self, access_point: Router) -> None:
        self.namespace.ip(f"link set {CLIENT_LINK} up")  # or its port never has a carrier
        self.air.join(self.port, access_point)
        _configure_host(self.namespace, [self.address])


class Client:
    """A roaming client: one interface, several addresses, and the real wpa_supplicant.

    `connected_at` is the moment of the last layer-2 connection (CLOCK_MONOTONIC): AP-STA-CONNECTED as a program that
    is attached to the new access point's hostapd receives it. `left_at` is when the carrier went before.
    """

    def __init__(
        self,
        air: Air,
        namespace: Namespace,
        identity: int,
        daemons: Mapping[str, AccessPointDaemon],
        *,
        address_count: int = 8,
        has_ipv4: bool = False,
        mtu_bytes: int = 1500,
        is_configured: bool = False,
    ) -> None:
        """`is_configured`: it gets no addresses and no default route here; router advertisements give it some."""
        self.air = air
        self.namespace = namespace
        self.mac = addresses.host_mac(identity)
        self.addresses = addresses.host_addresses(identity, address_count)
        self.address_ipv4 = addresses.host_address_ipv4(identity) if has_ipv4 else None
        self.port = namespace.label
        self.supplicant = Supplicant(namespace)
        self.access_point: Router | None = None
        self.left_at = 0.0
        self.connected_at = 0.0
        self._daemons = daemons
        self._mtu_bytes = mtu_bytes
        self._is_logged_off = False
        self._is_configured = is_configured
        air.add_port(namespace, self.port, mac=self.mac, is_open=False)
        self._control = Interfaces(namespace)

    @property
    def main_address(self) -> IPv6Address:
        return self.addresses[0]

    def start(self) -> None:
        """Start wpa_supplicant; the client is in no cell yet."""
        self.namespace.ip(f"link set {CLIENT_LINK} mtu {self._mtu_bytes} up")
        self.supplicant.start()

    def leave(self, *, is_polite: bool = False) -> None:
        """Lose layer 2. `is_polite`: log off from the access point before, which real clients do not."""
        if is_polite:
            self.supplicant.log_off()
            self._is_logged_off = True
            time.sleep(0.005)  # the logoff frame must have left before the carrier goes
        self.left_at = time.monotonic()
        self.air.leave(self.port, self.access_point)
        self.access_point = None
        self.air.close_gate(self.port)

    def attach(self, access_point: Router, *, layer_2_down_s: float = LAYER_2_DOWN_S) -> float:
        """Connect to `access_point`, `layer_2_down_s` after `leave`; returns `connected_at`. Raises: NotReached."""
        if self._is_logged_off:
            self.supplicant.log_on()
            self._is_logged_off = False
        daemon = self._daemons[access_point.name]
        daemon.events()
        time.sleep(max(0.0, self.left_at + layer_2_down_s - time.monotonic()))
        self.air.join(self.port, access_point)
        self.access_point = access_point
        wait_until(
            lambda: self._control.is_running(CLIENT_LINK), f"{self.port} has a carrier", CARRIER_LIMIT_S, poll_s=0.0002
        )
        daemon.associate(self.mac)
        self.connected_at = daemon.wait_connected(self.mac, ASSOCIATION_LIMIT_S)
        self.air.associated(self.mac, access_point)
        if not self._is_configured:  # as after the first router advertisement: duplicate address detection follows
            _configure_host(self.namespace, self.addresses, self.address_ipv4)
            self._is_configured = True
        return self.connected_at

    def roam(self, access_point: Router, *, is_polite: bool = False) -> float:
        """Move to another access point; returns the moment of the layer-2 connection."""
        self.leave(is_polite=is_polite)
        return self.attach(access_point)


class Interfaces:
    """Up, down and bridge membership of the interfaces of one namespace, by ioctl: done when the call returns."""

    def __init__(self, namespace: Namespace) -> None:
        self._socket = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        namespace.sandbox.on_close(self._socket.close)

    def set_up(self, link: str, is_up: bool) -> None:
        flags = self._flags(link)
        flags = flags | IFF_UP if is_up else flags & ~IFF_UP
        fcntl.ioctl(self._socket, SIOCSIFFLAGS, struct.pack("16sH14x", link.encode(), flags))

    def is_running(self, link: str) -> bool:
        """Is it up, with a carrier, and has the kernel taken notice (IFF_RUNNING)?"""
        return bool(self._flags(link) & IFF_RUNNING)

    def join_bridge(self, bridge: str, link: str) -> None:
        fcntl.ioctl(self._socket, SIOCBRADDIF, struct.pack("16si12x", bridge.encode(), self._index(link)))

    def leave_bridge(self, bridge: str, link: str) -> None:
        fcntl.ioctl(self._socket, SIOCBRDELIF, struct.pack("16si12x", bridge.encode(), self._index(link)))

    def _flags(self, link: str) -> int:
        answer = fcntl.ioctl(self._socket, SIOCGIFFLAGS, struct.pack("16s16x", link.encode()))
        return int(struct.unpack("16sH14x", answer)[1])

    def _index(self, link: str) -> int:
        answer = fcntl.ioctl(self._socket, SIOCGIFINDEX, struct.pack("16s16x", link.encode()))
        return int(struct.unpack("16si12x", answer)[1])


def _cell(access_point: Router) -> str:
    return f"cell-{access_point.name}"


def _configure_host(namespace: Namespace, own: Sequence[IPv6Address], ipv4: IPv4Address | None = None) -> None:
    """Addresses as from an advertisement with A=1 and L=0, and the gateway of every access point as default route."""
    lines = [f"link set {CLIENT_LINK} up"]
    lines += [f"addr add {address}/128 dev {CLIENT_LINK}" for address in own]
    lines += [f"route add default via {addresses.CLIENT_GATEWAY} dev {CLIENT_LINK}"]
    if ipv4 is not None:
        lines += [
            f"addr add {ipv4}/32 dev {CLIENT_LINK}",
            f"route add default via {addresses.CLIENT_GATEWAY_IPV4} dev {CLIENT_LINK} onlink",
        ]
    namespace.ip(*lines)
