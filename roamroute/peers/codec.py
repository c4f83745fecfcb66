"""The peers' channel on the wire: envelopes, messages and their fields. docs/peers-protocol.md is this file as prose.

Pure: bytes to values and back. It knows no key (session.py does) and no peer's state. Whatever the bytes, the answer
is a value or `MalformedInput`, after work that is linear in their number: every step of every loop consumes at least
the three bytes of a field's head.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

import attrs

from roamroute.errors import MalformedInput
from roamroute.values import (
    Address,
    Answer,
    Basis,
    Claim,
    HandoverReport,
    Hint,
    Mac,
    PeerId,
    Seconds,
    Segments,
    Verdict,
    is_group_mac,
)

MAGIC = b"rr"
VERSION = 1
DATAGRAM_BYTES_MAXIMUM = 1200
"""Fits the least IPv6 link (1280, RFC 8200 §5) with 40 + 8 of headers and room for a tunnel of the mesh."""
ADDRESSES_MAXIMUM = 64
"""Per message, over all its lists: 64 x 16 = 1024 of the 1200 bytes. A host has 16 by default (policy.py)."""
MESSAGES_MAXIMUM = 32
"""Per datagram; a batch of hints may have as many."""
MESSAGES_BYTES_MAXIMUM = DATAGRAM_BYTES_MAXIMUM - 20 - 16
"""What a sealed datagram has room for: without its header and authenticator."""

CHALLENGE_BYTES = 16
BOOT_BYTES = 8
AUTHENTICATOR_BYTES = 16
SESSION_ID_BYTES = 8

HELLO = 1
SEALED = 2

_ENVELOPE = struct.Struct("!2sBB")  # magic, version, kind
_SEALED = struct.Struct(f"!2sBB{SESSION_ID_BYTES}sQ")  # the same, session, counter
_HEAD = struct.Struct("!BH")  # of a message and of a field: type, length of what follows

SEALED_HEADER_BYTES = _SEALED.size
_MILLISECONDS, _MICROSECONDS = 1_000, 1_000_000

_PING, _PONG, _CLAIM, _ANSWER, _HINT, _HINTS_SENT, _HINTS_TAKEN, _REPORT = range(1, 9)

_MAC, _SEQUENCE, _BASIS, _ADDRESSES_6, _ADDRESSES_4 = 1, 2, 3, 4, 5
_CLAIMED, _VERDICT, _HOLDER, _DENIED_6, _DENIED_4 = 6, 7, 8, 9, 10
_TOKEN, _CHALLENGE, _ECHO, _BOOT = 11, 12, 13, 14
_CAPABILITIES, _SEGMENT_6, _SEGMENT_4 = 15, 16, 17
_WITHDRAWN, _FORWARDED, _CONVERGED, _AGE, _DIVERTED = 18, 19, 20, 21, 22
LAST_FIELD = _DIVERTED


@attrs.frozen
class HelloEnvelope:
    """A greeting whose authenticator is still to be checked over `signed`; then `decode_hello(body)`."""

    signed: bytes
    body: bytes
    authenticator: bytes


@attrs.frozen
class SealedEnvelope:
    """An encrypted datagram; `header` is authenticated with it."""

    header: bytes
    session: bytes
    counter: int
    ciphertext: bytes


@attrs.frozen
class UnknownEnvelope:
    """A datagram of another version, or of a kind that this version does not know."""

    version: int
    kind: int


Envelope = HelloEnvelope | SealedEnvelope | UnknownEnvelope


class Capability(enum.Flag, boundary=enum.CONFORM):
    """What a peer understands beyond pings, claims and answers, which every peer of version 1 does.

    A peer from before this field has none; a bit that we do not know is dropped.
    """

    NONE = 0
    HINTS = 1
    REPORTS = 2
    SEGMENTS = 4
    ROUTER = 8
    """It has no client links, and sends on for every host: what it has not been told goes to the wrong place."""


OURS = Capability.HINTS | Capability.REPORTS | Capability.SEGMENTS


@attrs.frozen
class Hello:
    """`challenge` is the sender's for the next session; `echo` the receiver's, when the sender knows it."""

    challenge: bytes
    boot: bytes
    echo: bytes | None = None
    capabilities: Capability = Capability.NONE


@attrs.frozen
class Ping:
    """Answer with a Pong of the same token."""

    token: int


@attrs.frozen
class Pong:
    """The answer to a Ping."""

    token: int


@attrs.frozen
class HintsSent:
    """Ends a batch of hints: answer with a HintsTaken of the same token, when the hints before it have been taken."""

    token: int


@attrs.frozen
class HintsTaken:
    """The answer to a HintsSent."""

    token: int


Message = Ping | Pong | Claim | Answer | Hint | HintsSent | HintsTaken | HandoverReport
_Naming = TypeVar("_Naming", Claim, Hint)


def open_envelope(datagram: bytes) -> Envelope:
    """Take a datagram apart as far as that needs no key. Raises: MalformedInput."""
    if not _ENVELOPE.size <= len(datagram) <= DATAGRAM_BYTES_MAXIMUM:
        raise MalformedInput(f"a datagram has {_ENVELOPE.size} to {DATAGRAM_BYTES_MAXIMUM} bytes, not {len(datagram)}")
    magic, version, kind = _ENVELOPE.unpack_from(datagram)
    if magic != MAGIC:
        raise MalformedInput(f"a datagram starts with {MAGIC.hex()}, not {magic.hex()}")
    if version != VERSION or kind not in (HELLO, SEALED):
        return UnknownEnvelope(version, kind)
    if kind == HELLO:
        if len(datagram) < _ENVELOPE.size + AUTHENTICATOR_BYTES:
            raise MalformedInput(f"a hello of {len(datagram)} bytes has no room for its authenticator")
        signed, authenticator = datagram[:-AUTHENTICATOR_BYTES], datagram[-AUTHENTICATOR_BYTES:]
        return HelloEnvelope(signed, signed[_ENVELOPE.size :], authenticator)
    if len(datagram) < _SEALED.size + AUTHENTICATOR_BYTES:
        raise MalformedInput(f"a sealed datagram of {len(datagram)} bytes has no room for its authenticator")
    *_, session, counter = _SEALED.unpack_from(datagram)
    return SealedEnvelope(datagram[: _SEALED.size], session, counter, datagram[_SEALED.size :])


def encode_hello(hello: Hello) -> bytes:
    """The signed part of a hello; the authenticator follows it on the wire."""
    echo = b"" if hello.echo is None else _field(_ECHO, hello.echo)
    capabilities = _field(_CAPABILITIES, _number(hello.capabilities.value, 4)) if hello.capabilities else b""
    return (
        _ENVELOPE.pack(MAGIC, VERSION, HELLO)
        + _field(_CHALLENGE, hello.challenge)
        + _field(_BOOT, hello.boot)
        + echo
        + capabilities
    )


def decode_hello(body: bytes) -> Hello:
    """The inverse, of `HelloEnvelope.body`. Raises: MalformedInput."""
    fields = _collect(body)
    return Hello(
        challenge=_exactly(fields, _CHALLENGE, CHALLENGE_BYTES),
        boot=_exactly(fields, _BOOT, BOOT_BYTES),
        echo=_exactly(fields, _ECHO, CHALLENGE_BYTES) if _ECHO in fields else None,
        capabilities=Capability(_integer(fields, _CAPABILITIES, 4) if _CAPABILITIES in fields else 0),
    )


def sealed_header(session: bytes, counter: int) -> bytes:
    """The head of an encrypted datagram, which is sent in the clear and authenticated."""
    return _SEALED.pack(MAGIC, VERSION, SEALED, session, counter)


def encode_message(message: Message) -> bytes:
    """One message; several may follow each other in a datagram.

    The `peer` of a claim or hint is not written: the receiver knows who sent it. The addresses of each list are written
    IPv6 first. An age is written in milliseconds, the times of a report in microseconds; what is beyond 32 bits is cut.

    Raises: ValueError for more than `ADDRESSES_MAXIMUM` addresses (see `within_limits`) or a number out of its range.
    """
    match message:
        case Ping(token=token):
            return _message(_PING, _field(_TOKEN, _number(token, 8)))
        case Pong(token=token):
            return _message(_PONG, _field(_TOKEN, _number(token, 8)))
        case Claim():
            if len(message.addresses) > ADDRESSES_MAXIMUM:
                raise ValueError(f"a claim names at most {ADDRESSES_MAXIMUM} addresses, not {len(message.addresses)}")
            return _message(
                _CLAIM,
                _field(_MAC, _mac_bytes(message.mac))
                + _field(_SEQUENCE, _number(message.sequence, 4))
                + _field(_BASIS, _number(message.basis.value, 1))
                + _addresses(_ADDRESSES_6, _ADDRESSES_4, message.addresses)
                + _segment(_SEGMENT_6, message.segments.ipv6)
                + _segment(_SEGMENT_4, message.segments.ipv4)
                + _duration(_AGE, message.age_s, _MILLISECONDS),
            )
        case Answer():
            count = len(message.addresses) + len(message.denied)
            if count > ADDRESSES_MAXIMUM:
                raise ValueError(f"an answer names at most {ADDRESSES_MAXIMUM} addresses, not {count}")
            holder = b"" if message.holder is None else _field(_HOLDER, message.holder.packed)
            return _message(
                _ANSWER,
                _field(_MAC, _mac_bytes(message.mac))
                + _field(_CLAIMED, _number(message.claimed, 4))
                + _field(_VERDICT, _number(message.verdict.value, 1))
                + _field(_SEQUENCE, _number(message.sequence, 4))
                + holder
                + _addresses(_ADDRESSES_6, _ADDRESSES_4, message.addresses)
                + _addresses(_DENIED_6, _DENIED_4, message.denied)
                + _duration(_AGE, message.age_s, _MILLISECONDS),
            )
        case Hint():
            if len(message.addresses) > ADDRESSES_MAXIMUM:
                raise ValueError(f"a hint names at most {ADDRESSES_MAXIMUM} addresses, not {len(message.addresses)}")
            return _message(
                _HINT,
                _field(_MAC, _mac_bytes(message.mac))
                + _field(_SEQUENCE, _number(message.sequence, 4))
                + _addresses(_ADDRESSES_6, _ADDRESSES_4, message.addresses),
            )
        case HintsSent(token=token):
            return _message(_HINTS_SENT, _field(_TOKEN, _number(token, 8)))
        case HintsTaken(token=token):
            return _message(_HINTS_TAKEN, _field(_TOKEN, _number(token, 8)))
        case HandoverReport():
            return _message(
                _REPORT,
                _field(_MAC, _mac_bytes(message.mac))
                + _field(_SEQUENCE, _number(message.sequence, 4))
                + _duration(_WITHDRAWN, message.withdrawn_s, _MICROSECONDS)
                + _duration(_FORWARDED, message.forwarded_s, _MICROSECONDS)
                + _duration(_CONVERGED, message.converged_s, _MICROSECONDS)
                + _duration(_DIVERTED, message.diverted_s, _MICROSECONDS),
            )


def decode_messages(plaintext: bytes, sender: PeerId) -> tuple[Message, ...]:
    """All messages of a datagram that this version knows. Raises: MalformedInput; then none of them is to be used."""
    messages: list[Message] = []
    for position, (kind, body) in enumerate(_elements(plaintext)):
        if position == MESSAGES_MAXIMUM:
            raise MalformedInput(f"more than {MESSAGES_MAXIMUM} messages in a datagram")
        decode = _DECODERS.get(kind)
        if decode is not None:
            messages.append(decode(_collect(body), sender))
    return tuple(messages)


def within_limits(message: _Naming) -> _Naming:
    """The message itself, or a copy cut down to the addresses that fit."""
    if len(message.addresses) <= ADDRESSES_MAXIMUM:
        return message
    return attrs.evolve(message, addresses=message.addresses[:ADDRESSES_MAXIMUM])


def answer_within_limits(answer: Answer) -> Answer:
    """The same for an answer; what is denied comes before what is known."""
    if len(answer.addresses) + len(answer.denied) <= ADDRESSES_MAXIMUM:
        return answer
    denied = answer.denied[:ADDRESSES_MAXIMUM]
    return attrs.evolve(answer, denied=denied, addresses=answer.addresses[: ADDRESSES_MAXIMUM - len(denied)])


def _decode_claim(fields: dict[int, bytes], sender: PeerId) -> Claim:
    addresses = _address_list(fields, _ADDRESSES_6, _ADDRESSES_4)
    _check_count(len(addresses))
    try:
        basis = Basis(_integer(fields, _BASIS, 1))
    except ValueError as error:
        raise MalformedInput(f"a claim's basis: {error}") from error
    return Claim(
        mac=_station(fields),
        sequence=_sequence(fields, _SEQUENCE, least=1),
        peer=sender,
        basis=basis,
        addresses=addresses,
        segments=Segments(_decode_segment(fields, _SEGMENT_6), _decode_segment(fields, _SEGMENT_4)),
        age_s=_decode_duration(fields, _AGE, _MILLISECONDS),
    )


def _decode_answer(fields: dict[int, bytes], sender: PeerId) -> Answer:
    addresses = _address_list(fields, _ADDRESSES_6, _ADDRESSES_4)
    denied = _address_list(fields, _DENIED_6, _DENIED_4)
    _check_count(len(addresses) + len(denied))
    try:
        verdict = Verdict(_integer(fields, _VERDICT, 1))
    except ValueError as error:
        raise MalformedInput(f"an answer's verdict: {error}") from error
    return Answer(
        mac=_station(fields),
        claimed=_sequence(fields, _CLAIMED, least=1),
        verdict=verdict,
        sequence=_sequence(fields, _SEQUENCE, least=0),
        holder=_holder(fields),
        addresses=addresses,
        denied=denied,
        age_s=_decode_duration(fields, _AGE, _MILLISECONDS),
    )


def _decode_hint(fields: dict[int, bytes], sender: PeerId) -> Hint:
    addresses = _address_list(fields, _ADDRESSES_6, _ADDRESSES_4)
    _check_count(len(addresses))
    return Hint(mac=_station(fields), sequence=_sequence(fields, _SEQUENCE, least=0), peer=sender, addresses=addresses)


def _decode_report(fields: dict[int, bytes], sender: PeerId) -> HandoverReport:
    return HandoverReport(
        mac=_station(fields),
        sequence=_sequence(fields, _SEQUENCE, least=1),
        withdrawn_s=_decode_duration(fields, _WITHDRAWN, _MICROSECONDS),
        forwarded_s=_decode_duration(fields, _FORWARDED, _MICROSECONDS),
        converged_s=_decode_duration(fields, _CONVERGED, _MICROSECONDS),
        diverted_s=_decode_duration(fields, _DIVERTED, _MICROSECONDS),
    )


_DECODERS: dict[int, Callable[[dict[int, bytes], PeerId], Message]] = {
    _PING: lambda fields, _: Ping(_integer(fields, _TOKEN, 8)),
    _PONG: lambda fields, _: Pong(_integer(fields, _TOKEN, 8)),
    _CLAIM: _decode_claim,
    _ANSWER: _decode_answer,
    _HINT: _decode_hint,
    _HINTS_SENT: lambda fields, _: HintsSent(_integer(fields, _TOKEN, 8)),
    _HINTS_TAKEN: lambda fields, _: HintsTaken(_integer(fields, _TOKEN, 8)),
    _REPORT: _decode_report,
}


def _decode_duration(fields: dict[int, bytes], kind: int, per_second: int) -> Seconds | None:
    return _integer(fields, kind, 4) / per_second if kind in fields else None


def _decode_segment(fields: dict[int, bytes], kind: int) -> IPv6Address | None:
    return IPv6Address(_exactly(fields, kind, 16)) if kind in fields else None


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut (type, length, body) elements; each step consumes its head at least."""
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


def _collect(body: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    for kind, value in _elements(body):
        if kind in fields and kind <= LAST_FIELD:
            raise MalformedInput(f"field {kind} is there twice")
        fields[kind] = value
    return fields


def _exactly(fields: dict[int, bytes], kind: int, length: int) -> bytes:
    value = fields.get(kind)
    if value is None:
        raise MalformedInput(f"field {kind} is missing")
    if len(value) != length:
        raise MalformedInput(f"field {kind} has {length} bytes, not {len(value)}")
    return value


def _integer(fields: dict[int, bytes], kind: int, length: int) -> int:
    return int.from_bytes(_exactly(fields, kind, length), "big")


def _sequence(fields: dict[int, bytes], kind: int, least: int) -> int:
    value = _integer(fields, kind, 4)
    if value < least:
        raise MalformedInput(f"field {kind} is a sequence number of at least {least}, not {value}")
    return value


def _station(fields: dict[int, bytes]) -> Mac:
    value = Mac(_exactly(fields, _MAC, 6).hex(":"))
    if is_group_mac(value):
        raise MalformedInput(f"{value} is a group address, not a station's")
    return value


def _holder(fields: dict[int, bytes]) -> PeerId | None:
    value = fields.get(_HOLDER)
    if value is None:
        return None
    if len(value) == 16:
        return IPv6Address(value)
    if len(value) == 4:
        return IPv4Address(value)
    raise MalformedInput(f"field {_HOLDER} has 4 or 16 bytes, not {len(value)}")


def _address_list(fields: dict[int, bytes], kind_6: int, kind_4: int) -> tuple[Address, ...]:
    packed_6, packed_4 = fields.get(kind_6, b""), fields.get(kind_4, b"")
    if len(packed_6) % 16:
        raise MalformedInput(f"field {kind_6} has a multiple of 16 bytes, not {len(packed_6)}")
    if len(packed_4) % 4:
        raise MalformedInput(f"field {kind_4} has a multiple of 4 bytes, not {len(packed_4)}")
    return (
        *(IPv6Address(packed_6[start : start + 16]) for start in range(0, len(packed_6), 16)),
        *(IPv4Address(packed_4[start : start + 4]) for start in range(0, len(packed_4), 4)),
    )


def _check_count(count: int) -> None:
    if count > ADDRESSES_MAXIMUM:
        raise MalformedInput(f"a message names at most {ADDRESSES_MAXIMUM} addresses, not {count}")


def _message(kind: int, body: bytes) -> bytes:
    return _HEAD.pack(kind, len(body)) + body


def _field(kind: int, value: bytes) -> bytes:
    return _HEAD.pack(kind, len(value)) + value


def _segment(kind: int, segment: IPv6Address | None) -> bytes:
    return b"" if segment is None else _field(kind, segment.packed)


def _duration(kind: int, duration: Seconds | None, per_second: int) -> bytes:
    if duration is None:
        return b""
    return _field(kind, _number(min(max(round(duration * per_second), 0), 2**32 - 1), 4))


def _number(value: int, length: int) -> bytes:
    if not 0 <= value < 1 << (8 * length):
        raise ValueError(f"{value} does not fit into {length} bytes")
    return value.to_bytes(length, "big")


def _mac_bytes(address: Mac) -> bytes:
    return bytes.fromhex(address.replace(":", ""))


def _addresses(kind_6: int, kind_4: int, addresses: Iterable[Address]) -> bytes:
    chosen = tuple(addresses)
    packed_6 = b"".join(address.packed for address in chosen if address.version == 6)
    packed_4 = b"".join(address.packed for address in chosen if address.version == 4)
    return (_field(kind_6, packed_6) if packed_6 else b"") + (_field(kind_4, packed_4) if packed_4 else b"")
