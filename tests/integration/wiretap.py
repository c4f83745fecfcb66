"""What passes on the wires of a mesh, and packets that nobody's kernel would send."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address, ip_address

import attrs

from roamroute.lab.namespaces import Namespace

PORT = 4544
"""Of the channel between the access points."""
_ETH_P_ALL = 0x0003
_SO_RCVBUFFORCE = 33
_IP_RAW = 255
_ETHERNET, _IPV4, _IPV6 = 14, 20, 40
_TYPE_IPV4, _TYPE_IPV6 = 0x0800, 0x86DD
_IN_IPV4, _IN_IPV6, _ROUTING, _UDP = 4, 41, 43, 17
_PROBE = struct.Struct("<IIq")


@attrs.frozen
class Packet:
    """An IP packet on a wire: its own ends, and those of the packet in it, if it is a tunnel."""

    frame: bytes
    source: str
    destination: str
    is_tunnel: bool = False
    inner_source: str = ""
    inner_destination: str = ""
    destination_port: int = 0
    payload: bytes = b""

    @property
    def probe(self) -> tuple[int, int] | None:
        """Flow and number of a packet of the lab's prober."""
        if len(self.payload) != _PROBE.size or self.destination_port != 4600:
            return None
        flow, number, _ = _PROBE.unpack(self.payload)
        return flow, number


class Wiretap:
    """Every IP packet that passes some interfaces of a namespace, in either direction, from now on."""

    def __init__(self, namespace: Namespace, *links: str) -> None:
        self.links = links
        self._sockets = []
        for link in links:
            tap = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 24)
            tap.bind((link, _ETH_P_ALL))
            tap.setblocking(False)
            self._sockets.append(tap)
        self._seen: list[Packet] = []

    def seen(self) -> list[Packet]:
        """All packets until now."""
        for tap in self._sockets:
            with contextlib.suppress(BlockingIOError):
                while True:
                    if (packet := parse(tap.recv(65536))) is not None:
                        self._seen.append(packet)
        return self._seen

    def tunnels(self, inner_destination: object = None) -> list[Packet]:
        """Those that carry another packet, to this address."""
        return [
            packet
            for packet in self.seen()
            if packet.is_tunnel and str(inner_destination or packet.inner_destination) == packet.inner_destination
        ]

    def probes(self) -> Counter[tuple[int, int]]:
        """How often each of the prober's packets has been seen, in a tunnel or not."""
        return Counter(packet.probe for packet in self.seen() if packet.probe is not None)

    def messages(self, source: object, destination: object) -> list[Packet]:
        """The datagrams of the channel between two access points."""
        ends = (str(source), str(destination))
        return [
            packet
            for packet in self.seen()
            if packet.destination_port == PORT and (packet.source, packet.destination) == ends
        ]

    def close(self) -> None:
        for tap in self._sockets:
            tap.close()


@contextlib.contextmanager
def tapped(*wires: tuple[Namespace, Sequence[str]]) -> Iterator[list[Wiretap]]:
    """Listen on wires for the length of the block."""
    taps = [Wiretap(namespace, *links) for namespace, links in wires]
    try:
        yield taps
    finally:
        for tap in taps:
            tap.close()


def ipv6_packet(source: object, destination: object, protocol: int, body: bytes) -> bytes:
    """A whole packet, with whatever source."""
    head = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64)
    return b"".join((head, ip_address(str(source)).packed, ip_address(str(destination)).packed, body))


def send_packet(namespace: Namespace, packet: bytes) -> None:
    """Send a whole IPv6 packet; what the kernel refuses by itself is no loss."""
    with namespace.socket(socket.AF_INET6, socket.SOCK_RAW, _IP_RAW) as wire, contextlib.suppress(OSError):
        wire.sendto(packet, (str(IPv6Address(packet[24:40])), 0))


def repeat_message(namespace: Namespace, message: Packet) -> None:
    """Send a datagram of the channel once more, from the same source (whose checksum may be left to a device)."""
    datagram = struct.pack("!HHHH", PORT, PORT, 8 + len(message.payload), 0) + message.payload
    ends = ip_address(message.source).packed + ip_address(message.destination).packed
    summed = ends + struct.pack("!II", len(datagram), _UDP) + datagram + b"\0" * (len(datagram) % 2)
    total = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    datagram = datagram[:6] + (~total & 0xFFFF).to_bytes(2, "big") + datagram[8:]
    send_packet(namespace, ipv6_packet(message.source, message.destination, _UDP, datagram))


def parse(frame: bytes) -> Packet | None:
    """The packet in an Ethernet frame; None when it is not IP."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind not in (_TYPE_IPV4, _TYPE_IPV6) or len(frame) < _ETHERNET + _IPV4:
        return None
    source, destination, protocol, body = _opened(frame[_ETHERNET:])
    if protocol not in (_IN_IPV4, _IN_IPV6):
        return Packet(frame, source, destination, False, "", "", *_datagram(protocol, body))
    inner_source, inner_destination, inner_protocol, inner_body = _opened(body)
    ports = _datagram(inner_protocol, inner_body)
    return Packet(frame, source, destination, True, inner_source, inner_destination, *ports)


def _opened(packet: bytes) -> tuple[str, str, int, bytes]:
    """Source, destination, protocol and body of an IP packet; a routing header is skipped."""
    if packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        total = int.from_bytes(packet[2:4], "big")
        return str(ip_address(packet[12:16])), str(ip_address(packet[16:20])), packet[9], packet[header:total]
    total = _IPV6 + int.from_bytes(packet[4:6], "big")
    protocol, body = packet[6], packet[_IPV6:total]
    if protocol == _ROUTING:
        protocol, body = body[0], body[8 + body[1] * 8 :]
    return str(IPv6Address(packet[8:24])), str(IPv6Address(packet[24:40])), protocol, body


def _datagram(protocol: int, body: bytes) -> tuple[int, bytes]:
    return (int.from_bytes(body[2:4], "big"), body[8:]) if protocol == _UDP and len(body) >= 8 else (0, b"")
