"""What the channel's messages are made of: elements of (type, length, contents), and the fields inside them. Pure.

docs/peers-protocol.md has the table of fields. Whatever the bytes, reading gives a value or `MalformedInput`, after
work that is linear in their number: every step of every loop consumes at least the three bytes of an element's head.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from roamroute.errors import MalformedInput
from roamroute.values import Address, Mac, PeerId, Seconds, is_group_mac

Fields = dict[int, bytes]

MAC, SEQUENCE, BASIS, ADDRESSES_6, ADDRESSES_4 = 1, 2, 3, 4, 5
CLAIMED, VERDICT, HOLDER, DENIED_6, DENIED_4 = 6, 7, 8, 9, 10
TOKEN, CHALLENGE, ECHO, BOOT = 11, 12, 13, 14
CAPABILITIES, SEGMENT_6, SEGMENT_4 = 15, 16, 17
WITHDRAWN, FORWARDED, CONVERGED, AGE, DIVERTED = 18, 19, 20, 21, 22
DAD_KIND, TARGET, NONCE, TOKENS = 23, 24, 25, 26
LAST_FIELD = TOKENS

ADDRESSES_MAXIMUM = 64
"""Per message, over all its lists: 64 x 16 = 1024 of the 1200 bytes. A host has 16 by default (policy.py)."""
TOKEN_BYTES = 8
MILLISECONDS, MICROSECONDS = 1_000, 1_000_000

_HEAD = struct.Struct("!BH")  # type, length of what follows


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut (type, length, contents) elements; each step consumes its head at least. Raises: MalformedInput."""
    offset = 0
    while offset < len(data):
        if len(data) - offset < _HEAD.size:
            raise MalformedInput(f"{len(data) - offset} bytes left where a head of {_HEAD.size} is due")
        kind, length = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size
        if length > len(data) - offset:
            raise MalformedInput(f"type {kind} claims {length} bytes where {len(data) - offset} are left")
        yield kind, data[offset : offset + length]
        offset += length


def collect(body: bytes) -> Fields:
    """The fields of a message or hello by their type. Raises: MalformedInput, also for a known one that is twice."""
    fields: Fields = {}
    for kind, value in elements(body):
        if kind in fields and kind <= LAST_FIELD:
            raise MalformedInput(f"field {kind} is there twice")
        fields[kind] = value
    return fields


def exactly(fields: Fields, kind: int, length: int) -> bytes:
    """A field that must be there, of this length. Raises: MalformedInput, as all that follow."""
    value = fields.get(kind)
    if value is None:
        raise MalformedInput(f"field {kind} is missing")
    if len(value) != length:
        raise MalformedInput(f"field {kind} has {length} bytes, not {len(value)}")
    return value


def integer(fields: Fields, kind: int, length: int) -> int:
    """A number of so many bytes."""
    return int.from_bytes(exactly(fields, kind, length), "big")


def sequence(fields: Fields, kind: int, least: int) -> int:
    """A mobility sequence number."""
    value = integer(fields, kind, 4)
    if value < least:
        raise MalformedInput(f"field {kind} is a sequence number of at least {least}, not {value}")
    return value


def station(fields: Fields) -> Mac:
    """The host that the message is about."""
    value = Mac(exactly(fields, MAC, 6).hex(":"))
    if is_group_mac(value):
        raise MalformedInput(f"{value} is a group address, not a station's")
    return value


def address(fields: Fields, kind: int) -> Address | None:
    """One address, of either version; None where the field is absent."""
    value = fields.get(kind)
    if value is None:
        return None
    if len(value) == 16:
        return IPv6Address(value)
    if len(value) == 4:
        return IPv4Address(value)
    raise MalformedInput(f"field {kind} has 4 or 16 bytes, not {len(value)}")


def address_list(fields: Fields, kind_6: int, kind_4: int) -> tuple[Address, ...]:
    """Addresses, IPv6 first."""
    packed_6, packed_4 = fields.get(kind_6, b""), fields.get(kind_4, b"")
    if len(packed_6) % 16:
        raise MalformedInput(f"field {kind_6} has a multiple of 16 bytes, not {len(packed_6)}")
    if len(packed_4) % 4:
        raise MalformedInput(f"field {kind_4} has a multiple of 4 bytes, not {len(packed_4)}")
    return (
        *(IPv6Address(packed_6[start : start + 16]) for start in range(0, len(packed_6), 16)),
        *(IPv4Address(packed_4[start : start + 4]) for start in range(0, len(packed_4), 4)),
    )


def check_count(count: int) -> None:
    """Hold the addresses of a message against `ADDRESSES_MAXIMUM`."""
    if count > ADDRESSES_MAXIMUM:
        raise MalformedInput(f"a message names at most {ADDRESSES_MAXIMUM} addresses, not {count}")


def duration(fields: Fields, kind: int, per_second: int) -> Seconds | None:
    """A time; None where the field is absent."""
    return integer(fields, kind, 4) / per_second if kind in fields else None


def segment(fields: Fields, kind: int) -> IPv6Address | None:
    """The address of a segment; None where the field is absent."""
    return IPv6Address(exactly(fields, kind, 16)) if kind in fields else None


def token_list(fields: Fields) -> tuple[int, ...]:
    """One token or more."""
    packed = fields.get(TOKENS, b"")
    if not packed or len(packed) % TOKEN_BYTES:
        raise MalformedInput(f"field {TOKENS} has {TOKEN_BYTES} bytes or a multiple, not {len(packed)}")
    return tuple(
        int.from_bytes(packed[start : start + TOKEN_BYTES], "big") for start in range(0, len(packed), TOKEN_BYTES)
    )


def element(kind: int, contents: bytes) -> bytes:
    """A field or a message."""
    return _HEAD.pack(kind, len(contents)) + contents


def number(value: int, length: int) -> bytes:
    """Big-endian. Raises: ValueError when it does not fit."""
    if not 0 <= value < 1 << (8 * length):
        raise ValueError(f"{value} does not fit into {length} bytes")
    return value.to_bytes(length, "big")


def mac_bytes(mac: Mac) -> bytes:
    """The six bytes of it."""
    return bytes.fromhex(mac.replace(":", ""))


def segment_element(kind: int, value: IPv6Address | None) -> bytes:
    """The field of a segment; nothing for None."""
    return b"" if value is None else element(kind, value.packed)


def duration_element(kind: int, value: Seconds | None, per_second: int) -> bytes:
    """The field of a time, cut to 32 bits; nothing for None."""
    if value is None:
        return b""
    return element(kind, number(min(max(round(value * per_second), 0), 2**32 - 1), 4))


def holder_element(holder: PeerId | None) -> bytes:
    """The field of an answer's HOLDER; nothing for None."""
    return b"" if holder is None else element(HOLDER, holder.packed)


def address_elements(kind_6: int, kind_4: int, addresses: Iterable[Address]) -> bytes:
    """The fields of a list of addresses; nothing for those that would be empty."""
    chosen = tuple(addresses)
    packed_6 = b"".join(one.packed for one in chosen if one.version == 6)
    packed_4 = b"".join(one.packed for one in chosen if one.version == 4)
    return (element(kind_6, packed_6) if packed_6 else b"") + (element(kind_4, packed_4) if packed_4 else b"")
