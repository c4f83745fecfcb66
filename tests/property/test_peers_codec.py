"""Any bytes give a value or the one named error, and what is written is read back."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roamroute.errors import MalformedInput
from roamroute.peers import codec, fields
from roamroute.values import Answer, Basis, Claim, DadKind, DadMessage, HandoverReport, Hint, Mac, Segments, Verdict

PEER = IPv6Address("fd44::a:1")

macs = st.binary(min_size=6, max_size=6).map(lambda octets: Mac(bytes([octets[0] & 0xFE, *octets[1:]]).hex(":")))
addresses_6 = st.integers(0, 2**128 - 1).map(IPv6Address)
addresses_4 = st.integers(0, 2**32 - 1).map(IPv4Address)
sequences = st.integers(1, 2**32 - 1)
ages = st.none() | st.integers(0, 2**32 - 1).map(lambda milliseconds: milliseconds / 1_000)


@st.composite
def address_lists(draw: st.DrawFn, most: int) -> tuple[IPv4Address | IPv6Address, ...]:
    first = draw(st.lists(addresses_6, max_size=most))
    return (*first, *draw(st.lists(addresses_4, max_size=most - len(first))))


claims = st.builds(
    Claim,
    mac=macs,
    sequence=sequences,
    peer=st.just(PEER),
    basis=st.sampled_from(Basis),
    addresses=address_lists(fields.ADDRESSES_MAXIMUM),
    segments=st.builds(Segments, st.none() | addresses_6, st.none() | addresses_6),
    age_s=ages,
)
answers = st.builds(
    Answer,
    mac=macs,
    claimed=sequences,
    verdict=st.sampled_from(Verdict),
    sequence=st.integers(0, 2**32 - 1),
    holder=st.none() | addresses_6 | addresses_4,
    addresses=address_lists(fields.ADDRESSES_MAXIMUM // 2),
    denied=address_lists(fields.ADDRESSES_MAXIMUM // 2),
    age_s=ages,
)
tokens = st.integers(0, 2**64 - 1)
hints = st.builds(
    Hint,
    mac=macs,
    sequence=st.integers(0, 2**32 - 1),
    peer=st.just(PEER),
    addresses=address_lists(fields.ADDRESSES_MAXIMUM),
)
durations = st.none() | st.integers(0, 2**32 - 1).map(lambda microseconds: microseconds / 1_000_000)
reports = st.builds(
    HandoverReport,
    mac=macs,
    sequence=sequences,
    withdrawn_s=durations,
    forwarded_s=durations,
    converged_s=durations,
    diverted_s=durations,
)
tokened = (codec.Ping, codec.Pong, codec.HintsSent, codec.HintsTaken)
said = st.builds(
    DadMessage,
    kind=st.sampled_from(DadKind),
    target=addresses_6 | addresses_4,
    mac=macs,
    nonce=st.sampled_from((0, 6, 14, 22, 30)).flatmap(lambda length: st.binary(min_size=length, max_size=length)),
)
relayed = st.builds(codec.DadRelayed, token=tokens, message=said)
taken = st.builds(codec.DadTaken, st.lists(tokens, min_size=1, max_size=codec.MESSAGES_MAXIMUM).map(tuple))
messages = (
    claims
    | answers
    | hints
    | reports
    | relayed
    | taken
    | st.one_of(*(st.builds(kind, token=tokens) for kind in tokened))
)
elements = st.tuples(st.integers(0, 255), st.binary(max_size=40)).map(
    lambda element: bytes([element[0]]) + len(element[1]).to_bytes(2, "big") + element[1]
)


@given(message=messages)
def test_what_is_written_is_read_back(message: codec.Message) -> None:
    encoded = codec.encode_message(message)
    assert len(encoded) + codec.SEALED_HEADER_BYTES + codec.AUTHENTICATOR_BYTES <= codec.DATAGRAM_BYTES_MAXIMUM
    (decoded,) = codec.decode_messages(encoded, PEER)
    assert decoded == message
    if isinstance(message, Claim | Answer):  # their age does not count in comparisons
        assert isinstance(decoded, Claim | Answer)
        assert decoded.age_s == message.age_s


@given(age_s=st.floats(allow_nan=False), moment_s=st.floats(-1e9, 1e9))
def test_an_age_or_time_beyond_its_range_is_written_as_the_nearest(age_s: float, moment_s: float) -> None:
    if abs(age_s) > 1e300:
        age_s = 1e9
    claim = Claim(Mac("02:00:5e:44:00:01"), 1, PEER, Basis.ASSOCIATION, age_s=age_s)
    (decoded,) = codec.decode_messages(codec.encode_message(claim), PEER)
    assert isinstance(decoded, Claim)
    assert decoded.age_s is not None
    assert decoded.age_s == pytest.approx(min(max(age_s, 0.0), 4294967.295), abs=0.001)
    report = HandoverReport(claim.mac, 1, forwarded_s=moment_s)
    (told,) = codec.decode_messages(codec.encode_message(report), PEER)
    assert isinstance(told, HandoverReport)
    assert told.forwarded_s == pytest.approx(min(max(moment_s, 0.0), 4294.967295), abs=1e-6)


@given(
    challenge=st.binary(min_size=16, max_size=16),
    boot=st.binary(min_size=8, max_size=8),
    echo=st.none() | st.binary(min_size=16, max_size=16),
    bits=st.integers(0, 2**32 - 1),
    unknown=st.lists(elements.filter(lambda element: element[0] > fields.LAST_FIELD), max_size=5),
)
def test_a_hello_is_read_back_and_capabilities_that_nobody_knows_are_dropped(
    challenge: bytes, boot: bytes, echo: bytes | None, bits: int, unknown: list[bytes]
) -> None:
    hello = codec.Hello(challenge, boot, echo, codec.Capability(bits & 31))
    assert codec.decode_hello(codec.encode_hello(hello)[4:] + b"".join(unknown)) == hello
    without = codec.encode_hello(codec.Hello(challenge, boot, echo))[4:]
    assert codec.decode_hello(without + b"\x0f\0\4" + bits.to_bytes(4, "big")) == hello


@given(message=claims, unknown=st.lists(elements.filter(lambda element: element[0] > fields.LAST_FIELD), max_size=5))
def test_unknown_fields_change_nothing(message: Claim, unknown: list[bytes]) -> None:
    encoded = codec.encode_message(message)
    body = encoded[3:] + b"".join(unknown)
    assert codec.decode_messages(encoded[:1] + len(body).to_bytes(2, "big") + body, PEER) == (message,)


@given(plaintext=st.binary(max_size=1200) | st.lists(elements, max_size=40).map(b"".join))
def test_any_plaintext_gives_messages_or_the_named_error(plaintext: bytes) -> None:
    try:
        decoded = codec.decode_messages(plaintext, PEER)
    except MalformedInput:
        return
    assert len(decoded) <= codec.MESSAGES_MAXIMUM
    for message in decoded:
        assert codec.decode_messages(codec.encode_message(message), PEER) == (message,)


@given(message=messages, data=st.data())
def test_a_damaged_message_gives_messages_or_the_named_error(message: codec.Message, data: st.DataObject) -> None:
    encoded = bytearray(codec.encode_message(message))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MalformedInput):
        codec.decode_messages(bytes(encoded[: data.draw(st.integers(0, len(encoded)))]), PEER)


@given(
    datagram=st.binary(max_size=1300)
    | st.builds(lambda kind, rest: b"rr\1" + bytes([kind]) + rest, st.integers(0, 3), st.binary(max_size=1200))
)
def test_any_datagram_gives_an_envelope_or_the_named_error(datagram: bytes) -> None:
    with suppress(MalformedInput):
        envelope = codec.open_envelope(datagram)
        if isinstance(envelope, codec.HelloEnvelope):
            codec.decode_hello(envelope.body)


@given(body=st.binary(max_size=1200) | st.lists(elements, max_size=40).map(b"".join))
def test_any_hello_gives_a_value_or_the_named_error(body: bytes) -> None:
    try:
        hello = codec.decode_hello(body)
    except MalformedInput:
        return
    assert codec.decode_hello(codec.encode_hello(hello)[4:]) == hello
