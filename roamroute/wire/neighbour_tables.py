"""The neighbour tables themselves, as RTM_GETNEIGHTBL tells of them: limits, how full they are, the times of each link.

Pure: bytes in, values out; the frame around it is `roamroute.wire.netlink`. Layouts are linux/neighbour.h (struct
ndtmsg, ndt_config, ndt_stats; enum NDTA_*, NDTPA_*). Times are 64-bit milliseconds.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from roamroute.errors import MalformedInput
from roamroute.wire.netlink import AF_UNSPEC, Message, attributes

RTM_GETNEIGHTBL = 66
_NDTA_THRESH1, _NDTA_THRESH2, _NDTA_THRESH3, _NDTA_CONFIG, _NDTA_PARMS, _NDTA_STATS = 2, 3, 4, 5, 6, 7
_NDTPA_IFINDEX, _NDTPA_BASE_REACHABLE_TIME, _NDTPA_RETRANS_TIME = 1, 4, 5
_NDTPA_GC_STALETIME, _NDTPA_UCAST_PROBES = 6, 11

_HEADER = struct.Struct("=BxH")  # family, padding
_CONFIG = struct.Struct("=HHI")  # key length, entry size, entries
_STATS = struct.Struct("=11Q")  # ... forced_gc_runs, table_fulls
_U32, _U64 = struct.Struct("=I"), struct.Struct("=Q")


class TableEntry(NamedTuple):
    """A whole table, which all network namespaces share. `overflows`: how often a new neighbour found no room.

    `entries` counts those that are never collected too, which the limits do not (Linux 6.18 neigh_alloc).
    """

    family: int
    keep: int
    soft_limit: int
    hard_limit: int
    entries: int
    overflows: int


class LinkTimes(NamedTuple):
    """What holds for the neighbours of one link."""

    family: int
    ifindex: int
    base_reachable_ms: int
    retrans_ms: int
    stale_ms: int
    unicast_solicitations: int


def tables_body(family: int = AF_UNSPEC) -> bytes:
    """The body of a dump request."""
    return _HEADER.pack(family, 0)


def decode_table(message: Message) -> TableEntry | LinkTimes | None:
    """Read one message of the dump; None for a part that says nothing of these. Raises: MalformedInput."""
    data, start, end = message.data, message.start, message.end
    if end - start < 4:
        raise MalformedInput("netlink: neighbour table message too short")
    family = data[start]
    limits: dict[int, int] = {}
    config: tuple[int, ...] | None = None
    stats: tuple[int, ...] | None = None
    times: LinkTimes | None = None
    for kind, offset, length in attributes(data, start + 4, end):
        if kind in (_NDTA_THRESH1, _NDTA_THRESH2, _NDTA_THRESH3):
            limits[kind] = _number(_U32, data, offset, length)
        elif kind == _NDTA_CONFIG:
            config = _numbers(_CONFIG, data, offset, length)
        elif kind == _NDTA_STATS:
            stats = _numbers(_STATS, data, offset, length)
        elif kind == _NDTA_PARMS:
            times = _decode_times(family, data, offset + 4, offset + length)
    if len(limits) == 3 and config is not None and stats is not None:
        return TableEntry(
            *(family, limits[_NDTA_THRESH1], limits[_NDTA_THRESH2], limits[_NDTA_THRESH3], config[2], stats[10])
        )
    return times


def _decode_times(family: int, data: bytes, start: int, end: int) -> LinkTimes | None:
    index: int | None = None
    reachable = retrans = stale = solicitations = 0
    for kind, offset, length in attributes(data, start, end):
        if kind == _NDTPA_IFINDEX:
            index = _number(_U32, data, offset, length)
        elif kind == _NDTPA_BASE_REACHABLE_TIME:
            reachable = _number(_U64, data, offset, length)
        elif kind == _NDTPA_RETRANS_TIME:
            retrans = _number(_U64, data, offset, length)
        elif kind == _NDTPA_GC_STALETIME:
            stale = _number(_U64, data, offset, length)
        elif kind == _NDTPA_UCAST_PROBES:
            solicitations = _number(_U32, data, offset, length)
    return None if index is None else LinkTimes(family, index, reachable, retrans, stale, solicitations)


def _number(form: struct.Struct, data: bytes, offset: int, length: int) -> int:
    return _numbers(form, data, offset, length)[0]


def _numbers(form: struct.Struct, data: bytes, offset: int, length: int) -> tuple[int, ...]:
    """The first numbers of an attribute, which newer kernels may make longer."""
    if length - 4 < form.size:
        raise MalformedInput(f"netlink: attribute of {length - 4} bytes, {form.size} expected")
    return form.unpack_from(data, offset + 4)
