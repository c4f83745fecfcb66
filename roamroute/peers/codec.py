"""The peers' channel on the wire: envelopes, messages and their fields. docs/peers-protocol.md is this file as prose.

Pure: bytes to values and back. It knows no key (session.py does) and no peer's state. Whatever the bytes, the answer
is a value or `MalformedInput`, after work that is linear in their number: every step of every loop consumes at least
the three bytes of a field's head.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import TypeVar

import attrs

from roamroute.errors import MalformedInput
from roamroute.peers.fields import (
    ADDRESSES_4,
    ADDRESSES_6,
    ADDRESSES_MAXIMUM,
    AGE,
    BASIS,
    BOOT,
    CAPABILITIES,
    CHALLENGE,
    CLAIMED,
    CONVERGED,
    DAD_KIND,
    DENIED_4,
    DENIED_6,
    DIVERTED,
    ECHO,
    FORWARDED,
    HOLDER,
    MAC,
    MICROSECONDS,
    MILLISECONDS,
    NONCE,
    SEGMENT_4,
    SEGMENT_6,
    SEQUENCE,
    TARGET,
    TOKEN,
    TOKEN_BYTES,
    TOKENS,
    VERDICT,
    WITHDRAWN,
    Fields,
    address,
    address_elements,
    address_list,
    check_count,
    collect,
    duration,
    duration_element,
    element,
    elements,
    exactly,
    holder_element,
    integer,
    mac_bytes,
    number,
    segment,
    segment_element,
    sequence,
    station,
    token_list,
)
from roamroute.values import (
    Answer,
    Basis,
    Claim,
    DadKind,
    DadMessage,
    HandoverReport,
    Hint,
    PeerId,
    Segments,
    Verdict,
)

MAGIC = b"rr"
VERSION = 1
DATAGRAM_BYTES_MAXIMUM = 1200
"""Fits the least IPv6 link (1280, RFC 8200 §5) with 40 + 8 of headers and room for a tunnel of the mesh."""
MESSAGES_MAXIMUM = 32
"""Per datagram; a batch of hints may have as many."""
MESSAGES_BYTES_MAXIMUM = DATAGRAM_BYTES_MAXIMUM - 20 - 16
"""What a sealed datagram has room for: without its header and authenticator."""
NONCE_BYTES_MAXIMUM = 30
"""Of a Nonce option (RFC 3971 §5.3.2) of 32 bytes, as wire/discovery.py takes it from a host; hosts use 6."""
CHALLENGE_BYTES = 16
BOOT_BYTES = 8
AUTHENTICATOR_BYTES = 16
SESSION_ID_BYTES = 8

HELLO = 1
SEALED = 2

_ENVELOPE = struct.Struct("!2sBB")  # magic, version, kind
_SEALED = struct.Struct(f"!2sBB{SESSION_ID_BYTES}sQ")  # the same, session, counter

SEALED_HEADER_BYTES = _SEALED.size

_PING, _PONG, _CLAIM, _ANSWER, _HINT, _HINTS_SENT, _HINTS_TAKEN, _REPORT = range(1, 9)
_DAD_RELAYED, _DAD_TAKEN = 9, 10


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
    DAD = 16
    """Its duplicate address detection proxy is on."""


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


@attrs.frozen
class DadRelayed:
    """What a host said at the sender: acknowledge the token. The sender's tokens increase from message to message."""

    token: int
    message: DadMessage


@attrs.frozen
class DadTaken:
    """Acknowledges the messages of these tokens, one at least."""

    tokens: tuple[int, ...]


Message = Ping | Pong | Claim | Answer | Hint | HintsSent | HintsTaken | HandoverReport | DadRelayed | DadTaken
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
    echo = b"" if hello.echo is None else element(ECHO, hello.echo)
    capabilities = element(CAPABILITIES, number(hello.capabilities.value, 4)) if hello.capabilities else b""
    return (
        _ENVELOPE.pack(MAGIC, VERSION, HELLO)
        + element(CHALLENGE, hello.challenge)
        + element(BOOT, hello.boot)
        + echo
        + capabilities
    )


def decode_hello(body: bytes) -> Hello:
    """The inverse, of `HelloEnvelope.body`. Raises: MalformedInput."""
    fields = collect(body)
    return Hello(
        challenge=exactly(fields, CHALLENGE, CHALLENGE_BYTES),
        boot=exactly(fields, BOOT, BOOT_BYTES),
        echo=exactly(fields, ECHO, CHALLENGE_BYTES) if ECHO in fields else None,
        capabilities=Capability(integer(fields, CAPABILITIES, 4) if CAPABILITIES in fields else 0),
    )


def sealed_header(session: bytes, counter: int) -> bytes:
    """The head of an encrypted datagram, which is sent in the clear and authenticated."""
    return _SEALED.pack(MAGIC, VERSION, SEALED, session, counter)


def encode_message(message: Message) -> bytes:
    """One message; several may follow each other in a datagram.

    The `peer` of a claim or hint is not written: the receiver knows who sent it. The addresses of each list are written
    IPv6 first. An age is written in milliseconds, the times of a report in microseconds; what is beyond 32 bits is cut.

    Raises: ValueError for more than `ADDRESSES_MAXIMUM` addresses (see `within_limits`), a nonce that
    is none, or a number out of its range.
    """
    match message:
        case Ping(token=token):
            return element(_PING, element(TOKEN, number(token, 8)))
        case Pong(token=token):
            return element(_PONG, element(TOKEN, number(token, 8)))
        case Claim():
            if len(message.addresses) > ADDRESSES_MAXIMUM:
                raise ValueError(f"a claim names at most {ADDRESSES_MAXIMUM} addresses, not {len(message.addresses)}")
            return element(
                _CLAIM,
                element(MAC, mac_bytes(message.mac))
                + element(SEQUENCE, number(message.sequence, 4))
                + element(BASIS, number(message.basis.value, 1))
                + address_elements(ADDRESSES_6, ADDRESSES_4, message.addresses)
                + segment_element(SEGMENT_6, message.segments.ipv6)
                + segment_element(SEGMENT_4, message.segments.ipv4)
                + duration_element(AGE, message.age_s, MILLISECONDS),
            )
        case Answer():
            count = len(message.addresses) + len(message.denied)
            if count > ADDRESSES_MAXIMUM:
                raise ValueError(f"an answer names at most {ADDRESSES_MAXIMUM} addresses, not {count}")
            return element(
                _ANSWER,
                element(MAC, mac_bytes(message.mac))
                + element(CLAIMED, number(message.claimed, 4))
                + element(VERDICT, number(message.verdict.value, 1))
                + element(SEQUENCE, number(message.sequence, 4))
                + holder_element(message.holder)
                + address_elements(ADDRESSES_6, ADDRESSES_4, message.addresses)
                + address_elements(DENIED_6, DENIED_4, message.denied)
                + duration_element(AGE, message.age_s, MILLISECONDS),
            )
        case Hint():
            if len(message.addresses) > ADDRESSES_MAXIMUM:
                raise ValueError(f"a hint names at most {ADDRESSES_MAXIMUM} addresses, not {len(message.addresses)}")
            return element(
                _HINT,
                element(MAC, mac_bytes(message.mac))
                + element(SEQUENCE, number(message.sequence, 4))
                + address_elements(ADDRESSES_6, ADDRESSES_4, message.addresses),
            )
        case HintsSent(token=token):
            return element(_HINTS_SENT, element(TOKEN, number(token, 8)))
        case HintsTaken(token=token):
            return element(_HINTS_TAKEN, element(TOKEN, number(token, 8)))
        case HandoverReport():
            return element(
                _REPORT,
                element(MAC, mac_bytes(message.mac))
                + element(SEQUENCE, number(message.sequence, 4))
                + duration_element(WITHDRAWN, message.withdrawn_s, MICROSECONDS)
                + duration_element(FORWARDED, message.forwarded_s, MICROSECONDS)
                + duration_element(CONVERGED, message.converged_s, MICROSECONDS)
                + duration_element(DIVERTED, message.diverted_s, MICROSECONDS),
            )
        case DadRelayed(token=token, message=said):
            if not is_nonce(said.nonce):
                raise ValueError(f"a nonce of {len(said.nonce)} bytes")
            return element(
                _DAD_RELAYED,
                element(TOKEN, number(token, TOKEN_BYTES))
                + element(DAD_KIND, number(said.kind.value, 1))
                + element(TARGET, said.target.packed)
                + element(MAC, mac_bytes(said.mac))
                + (element(NONCE, said.nonce) if said.nonce else b""),
            )
        case DadTaken(tokens=tokens):
            return element(_DAD_TAKEN, element(TOKENS, b"".join(number(token, TOKEN_BYTES) for token in tokens)))


def is_nonce(nonce: bytes) -> bool:
    """True for what a Nonce option may hold, and for the empty one, which is none."""
    return not nonce or (len(nonce) <= NONCE_BYTES_MAXIMUM and len(nonce) % 8 == 6)


def is_said(plaintext: bytes) -> bool:
    """True for a datagram that begins with what a host said; ours then hold nothing else."""
    return plaintext[:1] == bytes([_DAD_RELAYED])


def decode_messages(plaintext: bytes, sender: PeerId) -> tuple[Message, ...]:
    """All messages of a datagram that this version knows. Raises: MalformedInput; then none of them is to be used."""
    messages: list[Message] = []
    for position, (kind, body) in enumerate(elements(plaintext)):
        if position == MESSAGES_MAXIMUM:
            raise MalformedInput(f"more than {MESSAGES_MAXIMUM} messages in a datagram")
        decode = _DECODERS.get(kind)
        if decode is not None:
            messages.append(decode(collect(body), sender))
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


def _decode_claim(fields: Fields, sender: PeerId) -> Claim:
    addresses = address_list(fields, ADDRESSES_6, ADDRESSES_4)
    check_count(len(addresses))
    try:
        basis = Basis(integer(fields, BASIS, 1))
    except ValueError as error:
        raise MalformedInput(f"a claim's basis: {error}") from error
    return Claim(
        mac=station(fields),
        sequence=sequence(fields, SEQUENCE, least=1),
        peer=sender,
        basis=basis,
        addresses=addresses,
        segments=Segments(segment(fields, SEGMENT_6), segment(fields, SEGMENT_4)),
        age_s=duration(fields, AGE, MILLISECONDS),
    )


def _decode_answer(fields: Fields, sender: PeerId) -> Answer:
    addresses = address_list(fields, ADDRESSES_6, ADDRESSES_4)
    denied = address_list(fields, DENIED_6, DENIED_4)
    check_count(len(addresses) + len(denied))
    try:
        verdict = Verdict(integer(fields, VERDICT, 1))
    except ValueError as error:
        raise MalformedInput(f"an answer's verdict: {error}") from error
    return Answer(
        mac=station(fields),
        claimed=sequence(fields, CLAIMED, least=1),
        verdict=verdict,
        sequence=sequence(fields, SEQUENCE, least=0),
        holder=address(fields, HOLDER),
        addresses=addresses,
        denied=denied,
        age_s=duration(fields, AGE, MILLISECONDS),
    )


def _decode_hint(fields: Fields, sender: PeerId) -> Hint:
    addresses = address_list(fields, ADDRESSES_6, ADDRESSES_4)
    check_count(len(addresses))
    return Hint(mac=station(fields), sequence=sequence(fields, SEQUENCE, least=0), peer=sender, addresses=addresses)


def _decode_report(fields: Fields, sender: PeerId) -> HandoverReport:
    return HandoverReport(
        mac=station(fields),
        sequence=sequence(fields, SEQUENCE, least=1),
        withdrawn_s=duration(fields, WITHDRAWN, MICROSECONDS),
        forwarded_s=duration(fields, FORWARDED, MICROSECONDS),
        converged_s=duration(fields, CONVERGED, MICROSECONDS),
        diverted_s=duration(fields, DIVERTED, MICROSECONDS),
    )


def _decode_dad_relayed(fields: Fields, sender: PeerId) -> DadRelayed:
    target = address(fields, TARGET)
    if target is None:
        raise MalformedInput(f"field {TARGET} is missing")
    nonce = fields.get(NONCE, b"")
    if not is_nonce(nonce):
        raise MalformedInput(f"a nonce of {len(nonce)} bytes")
    try:
        kind = DadKind(integer(fields, DAD_KIND, 1))
    except ValueError as error:
        raise MalformedInput(f"what is said: {error}") from error
    return DadRelayed(integer(fields, TOKEN, TOKEN_BYTES), DadMessage(kind, target, station(fields), nonce))


_DECODERS: dict[int, Callable[[Fields, PeerId], Message]] = {
    _PING: lambda fields, _: Ping(integer(fields, TOKEN, 8)),
    _PONG: lambda fields, _: Pong(integer(fields, TOKEN, 8)),
    _CLAIM: _decode_claim,
    _ANSWER: _decode_answer,
    _HINT: _decode_hint,
    _HINTS_SENT: lambda fields, _: HintsSent(integer(fields, TOKEN, 8)),
    _HINTS_TAKEN: lambda fields, _: HintsTaken(integer(fields, TOKEN, 8)),
    _REPORT: _decode_report,
    _DAD_RELAYED: _decode_dad_relayed,
    _DAD_TAKEN: lambda fields, _: DadTaken(token_list(fields)),
}
