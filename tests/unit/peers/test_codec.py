"""The wire format: bounds, skipping of what is unknown, one error for all that is wrong."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from roamroute.errors import MalformedInput
from roamroute.peers import codec
from roamroute.values import Answer, Basis, Claim, HandoverReport, Hint, Mac, Segments, Verdict

PEER = IPv6Address("fd44::a:1")
MAC = Mac("02:00:5e:44:00:01")
MAC_BYTES = bytes.fromhex("02005e440001")
CLAIM = Claim(MAC, 7, PEER, Basis.ASSOCIATION, (IPv6Address("fd44::1"), IPv4Address("10.44.0.9")))
ANSWER = Answer(
    MAC, 7, Verdict.REFUSED, 9, IPv6Address("fd44::a:2"), (IPv6Address("fd44::2"),), (IPv4Address("10.44.0.9"),)
)
HINT = Hint(MAC, 0, PEER, CLAIM.addresses)
REPORT = HandoverReport(MAC, 7, 0.5, None, 1.25, 0.001)


def field(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def test_a_claim_is_named_by_its_authenticated_sender() -> None:
    other = IPv6Address("fd44::a:9")
    assert codec.decode_messages(codec.encode_message(CLAIM), other) == (
        Claim(MAC, 7, other, Basis.ASSOCIATION, CLAIM.addresses),
    )


def test_messages_follow_each_other_in_a_datagram() -> None:
    messages = (
        codec.Ping(1),
        CLAIM,
        ANSWER,
        HINT,
        codec.HintsSent(5),
        codec.HintsTaken(6),
        REPORT,
        codec.Pong(2**64 - 1),
    )
    assert codec.decode_messages(b"".join(codec.encode_message(message) for message in messages), PEER) == messages


def test_unknown_messages_are_skipped() -> None:
    plaintext = field(200, b"from a later version") + codec.encode_message(CLAIM) + field(0, b"")
    assert codec.decode_messages(plaintext, PEER) == (CLAIM,)


def test_unknown_fields_are_skipped_even_twice() -> None:
    encoded = codec.encode_message(CLAIM)
    body = field(99, b"new") + encoded[3:] + field(99, b"newer") + field(250, b"")
    assert codec.decode_messages(field(encoded[0], body), PEER) == (CLAIM,)


def test_64_addresses_fit_into_a_datagram_and_65_do_not() -> None:
    addresses = tuple(IPv6Address((0xFD44 << 112) + number) for number in range(65))
    full = Claim(MAC, 1, PEER, Basis.NEIGHBOUR, addresses[:64])
    encoded = codec.encode_message(full)
    assert codec.SEALED_HEADER_BYTES + len(encoded) + codec.AUTHENTICATOR_BYTES <= codec.DATAGRAM_BYTES_MAXIMUM
    assert codec.decode_messages(encoded, PEER) == (full,)
    with pytest.raises(ValueError):
        codec.encode_message(Claim(MAC, 1, PEER, Basis.NEIGHBOUR, addresses))


def test_what_is_denied_is_kept_when_an_answer_is_cut() -> None:
    addresses = tuple(IPv6Address((0xFD44 << 112) + number) for number in range(60))
    answer = Answer(MAC, 1, Verdict.ACCEPTED, 1, None, addresses, addresses[:10])
    cut = codec.answer_within_limits(answer)
    assert (cut.denied, cut.addresses) == (addresses[:10], addresses[:54])
    assert codec.within_limits(CLAIM) is CLAIM


def test_a_full_claim_with_everything_fits_into_a_datagram() -> None:
    addresses = tuple(IPv6Address((0xFD44 << 112) + number) for number in range(63))
    full = Claim(MAC, 1, PEER, Basis.NEIGHBOUR, (*addresses, IPv4Address("10.44.0.9")), Segments(*addresses[:2]), 1.0)
    encoded = codec.encode_message(full)
    assert len(encoded) <= codec.MESSAGES_BYTES_MAXIMUM
    assert codec.decode_messages(encoded, PEER) == (full,)


def said_with(kind: int, value: bytes | None) -> bytes:
    """What a host has said, with one field replaced or left out."""
    fields = {1: bytes.fromhex("02005e440001"), 11: bytes(8), 23: b"\1", 24: bytes(16)}
    changed = {**fields, kind: value}
    return field(9, b"".join(field(number, body) for number, body in changed.items() if body is not None))


def claim_with(kind: int, value: bytes | None) -> bytes:
    """A claim whose field `kind` is replaced, or left out."""
    fields = {1: bytes.fromhex("02005e440001"), 2: b"\0\0\0\7", 3: b"\1"}
    if value is None:
        del fields[kind]
    else:
        fields[kind] = value
    return field(3, b"".join(field(key, content) for key, content in fields.items()))


@pytest.mark.parametrize(
    "plaintext",
    [
        b"\3",
        b"\3\0",
        b"\3\0\1",
        field(3, b""),
        field(3, b"\1\xff\xff"),
        claim_with(1, None),
        claim_with(2, None),
        claim_with(3, None),
        claim_with(1, bytes(5)),
        claim_with(1, bytes.fromhex("01005e000001")),
        claim_with(2, bytes(4)),
        claim_with(3, b"\x09"),
        claim_with(4, bytes(15)),
        claim_with(4, bytes(16 * 65)),
        claim_with(5, bytes(5)),
        claim_with(5, bytes(4 * 65)),
        field(3, claim_with(3, b"\1")[3:] + field(2, b"\0\0\0\7")),
        codec.encode_message(ANSWER).replace(b"\x08\0\x10", b"\x08\0\x0f"),
        codec.encode_message(codec.Ping(1)) * 33,
        field(1, field(11, bytes(7))),
        claim_with(16, bytes(15)),
        claim_with(17, bytes(17)),
        claim_with(21, bytes(3)),
        *(said_with(kind, None) for kind in (1, 11, 23, 24)),
        said_with(1, bytes.fromhex("333300000001")),
        said_with(11, bytes(7)),
        said_with(23, b"\0"),
        said_with(23, b"\3"),
        said_with(23, b"\0\1"),
        said_with(24, b""),
        said_with(24, bytes(5)),
        *(said_with(25, bytes(length)) for length in (1, 5, 7, 38, 1000)),
        field(10, b""),
        field(10, field(26, b"")),
        field(10, field(26, bytes(15))),
        field(4, codec.encode_message(ANSWER)[3:] + field(21, bytes(5))),
        field(5, b""),
        field(5, field(1, MAC_BYTES)),
        field(5, field(1, MAC_BYTES) + field(2, bytes(3))),
        field(5, field(1, bytes.fromhex("01005e000001")) + field(2, bytes(4))),
        field(5, field(1, MAC_BYTES) + field(2, bytes(4)) + field(4, bytes(16 * 60)) + field(5, bytes(4 * 5))),
        field(6, b""),
        field(6, field(11, bytes(9))),
        field(7, field(11, bytes(8)) * 2),
        field(8, field(1, MAC_BYTES) + field(2, bytes(4))),
        field(8, field(1, MAC_BYTES) + field(2, b"\0\0\0\1") + field(18, bytes(8))),
        field(8, field(1, MAC_BYTES) + field(2, b"\0\0\0\1") + field(22, b"")),
    ],
)
def test_what_is_wrong_inside_is_one_named_error(plaintext: bytes) -> None:
    with pytest.raises(MalformedInput):
        codec.decode_messages(plaintext, PEER)


@pytest.mark.parametrize(
    "datagram",
    [b"", b"rr\1", b"xx\1\1" + bytes(60), b"rr\1\1" + bytes(15), b"rr\1\2" + bytes(31), b"rr\1\1" + bytes(1197)],
)
def test_what_is_no_envelope_is_one_named_error(datagram: bytes) -> None:
    with pytest.raises(MalformedInput):
        codec.open_envelope(datagram)


def test_another_version_and_an_unknown_kind_are_values() -> None:
    assert codec.open_envelope(b"rr\2\1whatever") == codec.UnknownEnvelope(2, 1)
    assert codec.open_envelope(b"rr\1\x7f") == codec.UnknownEnvelope(1, 0x7F)


def test_a_hello_without_its_challenge_is_malformed() -> None:
    with pytest.raises(MalformedInput):
        codec.decode_hello(field(14, bytes(8)))
