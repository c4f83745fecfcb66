"""A socket filter that keeps strangers' datagrams from waking us: classic BPF over the source address. Pure.

It looks at the last 32 bits of the address only; `Exchange` looks at all of it. Of what the filter does not know, one
datagram in sixteen passes by chance, so that it is still counted, and an access point that the others do not know
shows in their logs. linux/filter.h; net/core/filter.c, Linux 6.18.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from roamroute.values import PeerId

SAMPLED = 16
"""One stranger's datagram of so many passes: 100,000 a second then cost a tenth of a processor."""

_LOAD_WORD, _AND, _JUMP_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NETWORK_HEADER, _RANDOM = 0xFFF00000, 0xFFFFF000 + 56  # SKF_NET_OFF, SKF_AD_OFF + SKF_AD_RANDOM
_LAST_WORD = {4: 12, 6: 20}  # of the source address, in the network header
_ALL, _NOTHING = 0xFFFFFFFF, 0
_INSTRUCTION = struct.Struct("=HBBI")  # code, jump if true, jump if false, constant
INSTRUCTION_BYTES = _INSTRUCTION.size


def sieve(peers: Iterable[PeerId], version: int) -> bytes:
    """The program (an array of struct sock_filter) for a socket of this IP version; 2 instructions per peer."""
    words = sorted({int(peer) & 0xFFFFFFFF for peer in peers if peer.version == version})
    program = [(_LOAD_WORD, 0, 0, _NETWORK_HEADER + _LAST_WORD[version])]
    for word in words:
        program += [(_JUMP_EQUAL, 0, 1, word), (_RETURN, 0, 0, _ALL)]
    program += [(_LOAD_WORD, 0, 0, _RANDOM), (_AND, 0, 0, SAMPLED - 1), (_JUMP_EQUAL, 0, 1, 0)]
    program += [(_RETURN, 0, 0, _ALL), (_RETURN, 0, 0, _NOTHING)]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
