"""A thousand hosts in one process: answers neighbour solicitations for addresses whose MAC follows from them.

    python -m benchmarks.many_hosts INTERFACE

Address `…::HHHH:AAAA` belongs to host HHHH with MAC `02:00:00:00:HH:HH`. Solicitations are answered with a solicited
advertisement (RFC 4861 §7.2.4) from that MAC. Runs until its standard input ends.
"""

from __future__ import annotations

import select
import socket
import struct
import sys

ETH_P_IPV6 = 0x86DD
SOLICITATION, ADVERTISEMENT = 135, 136
SOLICITED_OVERRIDE = 0x60000000
TARGET_LINK_LAYER_ADDRESS = b"\x02\x01"


def mac_of(host: int) -> bytes:
    """The MAC of host number `host`."""
    return b"\x02\x00\x00\x00" + struct.pack("!H", host)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\x00"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def answer(frame: bytes) -> bytes | None:
    """The advertisement for a solicitation, or None for any other frame."""
    if len(frame) < 78 or frame[12:14] != b"\x86\xdd" or frame[20] != 58 or frame[54] != SOLICITATION:
        return None
    router_mac, source, target = frame[6:12], frame[22:38], frame[62:78]
    mac = mac_of(struct.unpack("!H", target[12:14])[0])
    body = struct.pack("!BBHI", ADVERTISEMENT, 0, 0, SOLICITED_OVERRIDE) + target + TARGET_LINK_LAYER_ADDRESS + mac
    pseudo = target + source + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    return router_mac + mac + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + target + source + body


def main() -> None:
    """Answer until standard input ends."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IPV6)) as wire:
        wire.bind((sys.argv[1], ETH_P_IPV6))
        wire.setsockopt(263, 1, struct.pack("IHH8s", socket.if_nametoindex(sys.argv[1]), 1, 0, b""))  # promiscuous
        while True:
            readable, _, _ = select.select([wire, sys.stdin], [], [])
            if sys.stdin in readable and not sys.stdin.read(1):
                return
            if wire in readable:
                frame, address = wire.recvfrom(2048)
                reply = None if address[2] == socket.PACKET_OUTGOING else answer(frame)
                if reply is not None:
                    wire.send(reply)


if __name__ == "__main__":
    main()
