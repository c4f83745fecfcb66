"""The test vector of docs/peers-protocol.md: another implementation, or a later version of this one, is held to it."""

from __future__ import annotations

import os
import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from roamroute.peers import codec
from roamroute.peers.sealing import Session, SharedKey
from roamroute.peers.session import Pairing
from roamroute.values import Answer, Basis, Claim, DadKind, DadMessage, HandoverReport, Hint, Mac, Segments, Verdict

PAGE = Path(__file__).resolve().parents[3] / "docs" / "peers-protocol.md"
BLOCK = re.compile(r"(?<=<!-- vector -->\n```\n).*?(?=```\n<!-- /vector -->)", re.DOTALL)

KEY = bytes(range(32))
LOWER, HIGHER = IPv6Address("fd44:0:0:a::1"), IPv6Address("fd44:0:0:a::2")
BOOT = bytes.fromhex("b001b001b001b001")
STATION = Mac("02:00:5e:44:00:01")
ADDRESSES = (IPv6Address("fd44:0:0:1::25"), IPv4Address("10.44.0.25"))
SEGMENTS = Segments(IPv6Address("fd44:0:0:1:726f:616d:1:2"), IPv6Address("fd44:0:0:1:726f:616d:1:3"))
CLAIM = Claim(STATION, 7, LOWER, Basis.ASSOCIATION, ADDRESSES, SEGMENTS, age_s=0.02)
ANSWER = Answer(STATION, 7, Verdict.ACCEPTED, 7, LOWER, (IPv6Address("fd44:0:0:1::26"),), age_s=0.02)
HINTS = (Hint(STATION, 7, LOWER, ADDRESSES), Hint(Mac("02:00:5e:44:00:02"), 1, LOWER))
REPORT = HandoverReport(STATION, 7, withdrawn_s=8.0, forwarded_s=0.0025, converged_s=0.75, diverted_s=0.0015)
TOKEN = 0x0102030405060708
SAID = (
    DadMessage(DadKind.SOLICITATION, ADDRESSES[0], STATION, bytes.fromhex("6e6f6e636521")),
    DadMessage(DadKind.ADVERTISEMENT, ADDRESSES[1], STATION),
)


def constant(octet: int) -> bytes:
    return bytes([octet]) * codec.CHALLENGE_BYTES


def vector() -> str:
    """One exchange, from fixed challenges: the greeting, its answer, and every kind of message but ping and pong."""
    lower = Pairing((SharedKey(KEY),), LOWER, HIGHER, BOOT, lambda length: constant(0xAA)[:length], 0.0)
    higher = Pairing((SharedKey(KEY),), HIGHER, LOWER, BOOT, lambda length: constant(0xBB)[:length], 0.0)
    (greeting,) = lower.tick(0.0).datagrams
    envelope = codec.open_envelope(greeting)
    assert isinstance(envelope, codec.HelloEnvelope)
    (reply,) = higher.receive_hello(envelope, 0.0).datagrams
    ends = (LOWER, constant(0xAA)), (HIGHER, constant(0xBB))
    key = SharedKey(KEY)
    up, down = Session(key, ends[0], ends[1], BOOT, 0.0), Session(key, ends[1], ends[0], BOOT, 0.0)
    claim, answer = codec.encode_message(CLAIM), codec.encode_message(ANSWER)
    hints = b"".join(codec.encode_message(message) for message in (*HINTS, codec.HintsSent(TOKEN)))
    taken, report = codec.encode_message(codec.HintsTaken(TOKEN)), codec.encode_message(REPORT)
    relayed = b"".join(codec.encode_message(codec.DadRelayed(TOKEN + offset, said)) for offset, said in enumerate(SAID))
    heard = codec.encode_message(codec.DadTaken((TOKEN, TOKEN + 1)))
    lines = [
        ("key", KEY),
        ("key for hellos", key.rank),
        ("lower address", LOWER.packed),
        ("higher address", HIGHER.packed),
        ("hello from lower, challenge aa..", greeting),
        ("hello from higher, challenge bb.., echo aa..", reply),
        ("session, lower to higher", down.receive_id),
        ("session, higher to lower", up.receive_id),
        ("claim, plain", claim),
        ("claim, sealed by lower, counter 0", up.seal(claim)),
        ("answer, plain", answer),
        ("answer, sealed by higher, counter 0", down.seal(answer)),
        ("two hints and hints sent, plain", hints),
        ("two hints and hints sent, sealed by lower, counter 1", up.seal(hints)),
        ("hints taken, plain", taken),
        ("hints taken, sealed by higher, counter 1", down.seal(taken)),
        ("report, plain", report),
        ("report, sealed by higher, counter 2", down.seal(report)),
        ("two of what hosts said, plain", relayed),
        ("two of what hosts said, sealed by lower, counter 2", up.seal(relayed)),
        ("their acknowledgement, plain", heard),
        ("their acknowledgement, sealed by higher, counter 3", down.seal(heard)),
    ]
    return "".join(f"{name}:\n{wrapped(value)}" for name, value in lines)


def wrapped(value: bytes) -> str:
    return "".join(f"  {value[start : start + 32].hex()}\n" for start in range(0, len(value), 32))


def test_the_page_shows_what_the_code_does() -> None:
    text = PAGE.read_text(encoding="utf-8")
    if os.environ.get("ROAMROUTE_WRITE_VECTORS"):
        text = BLOCK.sub(lambda _: vector(), text)
        PAGE.write_text(text, encoding="utf-8")
    (shown,) = BLOCK.findall(text)
    assert shown == vector(), f"the page must show:\n{vector()}"


def test_the_vector_opens_again() -> None:
    sealed = bytes.fromhex("".join(re.findall(r"claim, sealed.*?:\n((?:  [0-9a-f]+\n)+)", vector())[0].split()))
    envelope = codec.open_envelope(sealed)
    assert isinstance(envelope, codec.SealedEnvelope)
    session = Session(SharedKey(KEY), (HIGHER, constant(0xBB)), (LOWER, constant(0xAA)), BOOT, 0.0)
    plaintext = session.open(envelope)
    assert plaintext is not None
    (claim,) = codec.decode_messages(plaintext, LOWER)
    assert isinstance(claim, Claim)
    assert (claim, claim.age_s) == (CLAIM, CLAIM.age_s)
