"""The Internet checksum, RFC 1071. Pure."""

from __future__ import annotations

import struct


def internet_checksum(octets: bytes) -> int:
    """The complement of the sum in ones' complement; 0 over octets that contain their right checksum."""
    octets += bytes(len(octets) & 1)
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
