"""Classic BPF (linux/filter.h) as data: the few instructions that our filters need, and their assembly.

Pure. A program is an array of struct sock_filter: code, jump if true, jump if false, operand.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from roamroute.values import Mac
from roamroute.wire import ethernet

Instruction = tuple[int, int, int, int]
"""code, jt, jf, k; the jumps count instructions to skip, at most 255."""

LD_ABS = 0x20
LDH_ABS = 0x28
LDB_ABS = 0x30
LD_LENGTH = 0x80
AND = 0x54
TAX = 0x07
JEQ = 0x15
JEQ_X = 0x1D
JGE = 0x35
JSET = 0x45
JA = 0x05
RET = 0x06

# linux/filter.h, enum skf_ad_off: loads at SKF_AD_OFF + n give properties of the packet instead of its bytes.
PROTOCOL = 0xFFFFF000
PACKET_TYPE = 0xFFFFF000 + 4
VLAN_TAG_PRESENT = 0xFFFFF000 + 48

MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS, linux/bpf_common.h."""

_INSTRUCTION = struct.Struct("=HBBI")


def assemble(*program: Instruction) -> bytes:
    """The program as the kernel takes it.

    Raises: ValueError when it is longer than the kernel allows.
    """
    if len(program) > MAX_INSTRUCTIONS:
        raise ValueError(f"{len(program)} instructions: the kernel takes {MAX_INSTRUCTIONS}")
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def foreign_and_untagged(muted: Iterable[Mac]) -> list[Instruction]:
    """Go on only with frames that others have sent, none of `muted`, without a VLAN tag (another link's; the tag is not
    in the bytes).

    The last four octets of a MAC decide, so that two instructions serve a station; the reader looks at all six.
    """
    drop = (RET, 0, 0, 0)
    program = [
        (LD_ABS, 0, 0, PACKET_TYPE),
        (JEQ, 2, 0, ethernet.PACKET_OUTGOING),  # to the drop
        (LD_ABS, 0, 0, VLAN_TAG_PRESENT),
        (JEQ, 1, 0, 0),
        drop,
        (LD_ABS, 0, 0, 8),
    ]
    for mac in muted:
        program += [(JEQ, 0, 1, last_octets(mac)), drop]
    return program


def only_from(macs: Iterable[Mac]) -> list[Instruction]:
    """Go on only with frames of these senders, of whom again the last four octets decide."""
    tests = [(JEQ, 0, 1, last_octets(mac)) for mac in macs]
    program: list[Instruction] = [(LD_ABS, 0, 0, 8)]
    for place, test in enumerate(tests):
        program += [test, (JA, 0, 0, 2 * (len(tests) - place) - 1)]  # over the other tests and the drop
    return [*program, (RET, 0, 0, 0)]


def last_octets(mac: Mac) -> int:
    """The last four octets of a link-layer address as a number."""
    return int(mac.replace(":", "")[4:], 16)
