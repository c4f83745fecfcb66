"""What the kernel exporter must do for a babeld in a given state: parking, and the kick that makes it send at once.

**Parking.** A withdrawn route stays, unreachable and with the worst kernel metric, under the withdrawing protocol
number, which is redistributed with a metric that is infinite to the neighbours: they lose the host's own /128,
whatever the version does wrong with deletions. With `allow-duplicates` babeld installs another router's route beside
it, and with `kernel-priority` it sends the poison all the same. Then the route becomes dormant: what is installed is
sent again, since others may reach the host through us.

**The kick.** babeld buffers updates for up to 4 s (min(hello interval, 4 s), interface.c update_jitter), except that a
full buffer is sent within 10 ms (message.c buffer_update). Its size is max(destinations heard + originated + 4,
packet / 16). So reserved routes of ours, which an `out … deny` rule keeps off the air, are changed that often right
after the real change. 1.13 takes every change of one route; 1.12 looks at the whole table once for all changes that it
finds, so there it takes several routes, several times. Where that would be more work than it saves, a reserved route is
added and deleted: a deletion is urgent, about 0.12 s. In 1.13 and 1.14 it must be one of the family that the shortest
route that is originated has not: see `Tables.is_deletion_harmless`.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from roamroute.export import FibNeeds, Kick
from roamroute.values import Address, Seconds
from roamroute_babeld.tables import Tables
from roamroute_babeld.version import Quirks

RESERVED = (IPv6Network("100::/64"), IPv4Network("192.0.2.0/24"))
"""RFC 6666 discard-only, RFC 5737 documentation: no host is there, and nobody announces anything that covers them."""

_ONE_IPV6 = IPv6Address("100::4444:0")
_ONE_IPV4 = IPv4Address("192.0.2.44")
_MANY = tuple(_ONE_IPV6 + number for number in range(64))

SHORT_PARKING_S: Seconds = 0.05
"""Without `allow-duplicates` a parked route keeps babeld from installing the host's new one, which comes 0.1 s after
the withdrawal at the earliest (an intermediate router's urgent update); babeld looks within 3 ms."""
DORMANT_AFTER_S: Seconds = 0.03
"""The kick takes 20 ms to send the poison. Dormant is only what is settled, too: no time is right on every machine."""
STALE_FOR_S: Seconds = 1.0
"""A foreign route that was there before the poison does not settle it earlier. With split horizon a neighbour leaves a
stale one standing (3 of 20 moves lost with 1.12.1 on a busy machine); a live one, in a line, then waits so long."""
LONG_PARKING_S: Seconds = 60.0
"""Nobody is in the way: long enough for three periodic updates of 16 s, in case the first was lost on the air."""
PARKED_LIMIT = 1024
"""26 bytes each, every 16 s: 1.7 kB/s on a link at worst."""
LINGER_S: Seconds = 0.5
"""At a stop: the kick takes 20 ms, the next router's urgent update 150 ms."""

_LARGEST_PACKET = 1444
"""MTU 1500, less 40 IPv6, 8 UDP and 4 bytes of babel header."""
_SLACK = 8
"""The buffer may be older than the tables."""
_MOST_ROUNDS = 1500
"""1,000 changes take 40 ms of babeld and kernel, 3,000 as long as the urgent way (1.13.1, 2 cores)."""
_MOST_LOOKS = 7
"""With 1.12.1: 3 ms and one look at the whole table each."""
_SPARE_LOOKS = 1
"""Two changes fall into one look when babeld is late: 1 of 60 kicks without a spare one."""
_LOOK_S: Seconds = 0.003
_LOOK_PER_ROUTE_S: Seconds = 10e-6
"""Dumping and sorting the kernel's table, per route in it (1.12.1)."""


def needs_of(kick: Kick, settled: frozenset[Address], *, has_duplicates: bool, demotes: bool) -> FibNeeds:
    """Say what is needed, with a kick from `kick_of`; `settled` as `Tables.is_settled` has it."""
    return FibNeeds(
        parks=True,
        parked_limit=PARKED_LIMIT,
        parked_for_s=LONG_PARKING_S if has_duplicates else SHORT_PARKING_S,
        dormant_after_s=DORMANT_AFTER_S if has_duplicates else None,
        settled=settled,
        kick=kick,
        linger_s=LINGER_S,
        demotes=demotes,
    )


def kick_of(tables: Tables, quirks: Quirks, *, mtu: int = 1500) -> Kick:
    """Choose the quickest kick for a babeld in this state."""
    packet = max(mtu - 56, _LARGEST_PACKET)
    known = tables.slots + len(tables.xroutes)
    if quirks.coalesces:
        missing = sum(tables.metric_of(address) is None for address in _MANY)
        buffer = max(known + missing + 4, packet // 16) + _SLACK
        looks = -(-buffer // len(_MANY)) + _SPARE_LOOKS
        pause_s = _LOOK_S + _LOOK_PER_ROUTE_S * known
        if looks <= _MOST_LOOKS:
            return Kick(_MANY, looks, pause_s)
        return Kick((_ONE_IPV6,), 1, pause_s, deletes=True)
    address = _harmless_one(tables)
    buffer = max(known + 1 + 4, packet // 16) + _SLACK
    if buffer <= _MOST_ROUNDS:
        return Kick((address,), buffer)
    return Kick((address,), 1, _LOOK_S, deletes=True)


def _harmless_one(tables: Tables) -> Address:
    """A reserved address that can be deleted without harm, also at a stop."""
    head = tables.head()
    return _ONE_IPV6 if head is not None and head.version == 4 else _ONE_IPV4
