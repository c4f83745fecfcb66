"""The filter's program, interpreted: who passes, and how long it is. The kernel runs it in the integration tests."""

from __future__ import annotations

import random
import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from roamroute.peers.sieve import INSTRUCTION_BYTES, SAMPLED, sieve
from roamroute.values import PeerId


def passes(program: bytes, source: PeerId, chance: int) -> bool:
    """Run the program over a packet from `source`; `chance` is what the kernel's random number would be."""
    accumulator, position = 0, 0
    while True:
        code, if_true, if_false, constant = struct.unpack_from("=HBBI", program, position * INSTRUCTION_BYTES)
        position += 1
        match code:
            case 0x20 if constant == 0xFFFFF000 + 56:
                accumulator = chance
            case 0x20:
                assert constant == 0xFFF00000 + (20 if source.version == 6 else 12)
                accumulator = int(source) & 0xFFFFFFFF
            case 0x54:
                accumulator &= constant
            case 0x15:
                position += if_true if accumulator == constant else if_false
            case _:
                assert code == 0x06
                return bool(constant)


@pytest.mark.parametrize("base", [IPv6Address("fd44:0:0:a::1"), IPv4Address("10.44.0.1")])
def test_peers_pass_and_strangers_now_and_then(base: PeerId) -> None:
    peers = [base + 7 * number for number in range(256)]
    program = sieve(peers, base.version)
    assert len(program) // INSTRUCTION_BYTES < 4096  # BPF_MAXINSNS
    chance = random.Random(1)
    assert all(passes(program, peer, chance.getrandbits(32)) for peer in peers)
    strangers = sum(passes(program, base + 1, number) for number in range(1600))
    assert strangers == 1600 // SAMPLED


def test_without_peers_everybody_is_a_stranger() -> None:
    program = sieve([IPv4Address("10.44.0.1")], 6)
    assert not passes(program, IPv6Address("fd44::1"), 1)
    assert passes(program, IPv6Address("fd44::1"), 0)
