"""Tells the peers of our hosts ahead of any roam: every change to every peer, after a moment of quiet. Pure.

All bindings stand in one log, in the order of their last change. A peer is a cursor into it: what lies behind has been
taken by that peer. It gets what lies ahead in batches, one at a time, each repeated until acknowledged; so a peer costs
one batch of memory however slow it is, and a host one entry however many peers there are. A binding that changes moves
to the end of the log, where nobody has passed it.

    log      [ a  b  c  d  e ]          c changes: [ a  b  d  e  c ]
    cursors        ^P    ^Q                               ^P ^Q

A claim names the same addresses as the hint that follows it. A peer that has accepted the claim is not told again:
its cursor passes the entry in silence. That is why a change waits for a moment: by then the answers are there.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator

import attrs

from roamroute.peers.allowance import Allowance
from roamroute.peers.codec import (
    AUTHENTICATOR_BYTES,
    MESSAGES_BYTES_MAXIMUM,
    MESSAGES_MAXIMUM,
    SEALED_HEADER_BYTES,
    HintsSent,
    encode_message,
)
from roamroute.values import Address, Claim, Hint, Instant, Mac, PeerId, Seconds

QUIET_S: Seconds = 0.25
"""A change waits so long for others to go with it: a host that comes is given three addresses or more within a second,
and a claim is answered within 0.3 s unless four copies in a row were lost."""
REPETITIONS_S: tuple[Seconds, ...] = (0.15, 0.15, 0.3, 0.3, 0.6, 1.2, 2.5, 5.0)
"""Pauses before each repetition of a batch; the last one stays. Where one datagram in five gets lost, one batch in a
hundred takes longer than a second; a peer that has died is sent a dozen copies before it is given up."""
BYTES_PER_S = 65536.0
"""Of hints to all peers together, with the headers of UDP and IPv6: 0.5 Mbit/s for as long as it takes. The hundred
hosts of an access point are told to 49 peers in 6 s, 5,000 to one peer that has come back in as much."""
BURST_BYTES = 16384.0
"""One change is told to 50 peers at once."""
BATCHES_PER_TICK = 16
"""A tick seals so many (20 to 100 µs each) and then lets others run; the rest is due at once."""
CLAIMS_KNOWN = 64
"""Per peer: the last accepted claims whose hints have not been passed yet."""

_HEADERS_BYTES = 40 + 8 + SEALED_HEADER_BYTES + AUTHENTICATOR_BYTES
_END_BYTES = len(encode_message(HintsSent(0)))
_COMPACTED_FROM = 64

_Content = tuple[int, frozenset[Address]]
"""Sequence and addresses: what a hint says of a host."""


@attrs.define
class _Cursor:
    change: int = -1
    """All entries up to this one have been passed."""
    batch: bytes = b""
    """What is under way, or waits for the budget; empty when nothing does."""
    copies: int = 0
    token: int = 0
    batch_end: int = -1
    due: Instant = 0.0
    known: dict[Mac, _Content] = attrs.field(factory=dict)
    """Accepted claims, oldest first."""


@attrs.define
class _Entry:
    change: int
    since: Instant
    content: _Content
    encoded: bytes
    is_correction: bool
    """Another content of the same sequence number was sent to somebody: no claim says the last word."""
    is_sent: bool = False

    def is_known_by(self, cursor: _Cursor, mac: Mac) -> bool:
        return not self.is_correction and cursor.known.get(mac) == self.content


@attrs.frozen
class Batch:
    """Messages for one peer, ready to be sealed."""

    peer: PeerId
    messages: bytes
    is_repetition: bool


class HintLog:
    """Our bindings, and how far each peer has been told. After each call `next_wakeup` says when `tick` is due.

    `first_token`: random, so that a token of an earlier run acknowledges nothing of this one.
    """

    def __init__(self, first_token: int) -> None:
        self._entries: dict[Mac, _Entry] = {}
        self._changes: list[int] = []
        self._macs: list[Mac] = []  # of `_changes`; one whose entry has another change by now is stale
        self._cursors: dict[PeerId, _Cursor] = {}
        self._tokens = itertools.count(first_token)
        self._serial = itertools.count()
        self._allowance = Allowance(BYTES_PER_S, BURST_BYTES)
        self._next_wakeup: Instant | None = None
        self.spared = 0
        """Hints that were not sent because a claim had said the same."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def next_wakeup(self) -> Instant | None:
        """When `tick` has something to do; None while everybody knows everything. It may be early, never late."""
        return self._next_wakeup

    def share(self, hint: Hint, now: Instant) -> None:
        """Let all peers know this binding; one that says the same as before changes nothing.

        Raises: ValueError as `encode_message`.
        """
        content = hint.sequence, frozenset(hint.addresses)
        known = self._entries.get(hint.mac)
        if known is not None and known.content == content:
            return
        is_correction = (
            known is not None and known.content[0] == hint.sequence and (known.is_sent or known.is_correction)
        )
        change = next(self._serial)
        self._entries[hint.mac] = _Entry(change, now, content, encode_message(hint), is_correction)
        self._changes.append(change)
        self._macs.append(hint.mac)
        if len(self._changes) > _COMPACTED_FROM + 2 * len(self._entries):
            self._compact()
        if self._cursors:
            self._wake(now + QUIET_S)

    def unshare(self, mac: Mac) -> None:
        """Tell nobody of this host any more."""
        self._entries.pop(mac, None)

    def join(self, peer: PeerId, now: Instant) -> None:
        """The peer can be told, and knows nothing (any more)."""
        self._cursors[peer] = _Cursor()
        self._wake(now)

    def leave(self, peer: PeerId) -> None:
        """The peer cannot be told; it is told everything when it joins again."""
        self._cursors.pop(peer, None)

    def claim_accepted(self, peer: PeerId, claim: Claim) -> None:
        """The peer knows by a claim of ours what a hint of the same sequence number and addresses would say."""
        cursor = self._cursors.get(peer)
        if cursor is None:
            return
        cursor.known.pop(claim.mac, None)
        if len(cursor.known) >= CLAIMS_KNOWN:
            del cursor.known[next(iter(cursor.known))]
        cursor.known[claim.mac] = claim.sequence, frozenset(claim.addresses)

    def acknowledge(self, peer: PeerId, token: int, now: Instant) -> None:
        """The peer has taken the batch that ended with this token; any other token than the last is ignored."""
        cursor = self._cursors.get(peer)
        if cursor is None or not cursor.batch or token != cursor.token:
            return
        cursor.change, cursor.batch = cursor.batch_end, b""
        self._wake(now)

    def tick(self, now: Instant) -> tuple[Batch, ...]:
        """The batches that are due, as far as the budget goes. Bounded: `next_wakeup` may be now again."""
        if self._next_wakeup is None or now < self._next_wakeup:
            return ()
        batches: list[Batch] = []
        dues: list[Instant] = []
        for peer, cursor in tuple(self._cursors.items()):
            due = cursor.due if cursor.batch else self._advance(cursor)
            if due is None:
                continue
            if due > now or len(batches) == BATCHES_PER_TICK:
                dues.append(due)
                continue
            if not cursor.batch:
                self._gather(cursor, now)
            cost = len(cursor.batch) + _HEADERS_BYTES
            if not self._allowance.take(now, cost):
                dues.append(self._allowance.next_at(now, cost))
                break
            cursor.due = now + REPETITIONS_S[min(cursor.copies, len(REPETITIONS_S) - 1)]
            dues.append(cursor.due)
            batches.append(Batch(peer, cursor.batch, is_repetition=cursor.copies > 0))
            cursor.copies += 1
            self._cursors[peer] = self._cursors.pop(peer)  # behind those that have waited longer
        self._next_wakeup = min(dues, default=None)
        return tuple(batches)

    def unacknowledged(self, peer: PeerId) -> int:
        """How many bindings the peer has not been told, or has not acknowledged; all of them when it cannot be told."""
        cursor = self._cursors.get(peer)
        if cursor is None:
            return len(self._entries)
        if not self._changes or cursor.change >= self._changes[-1]:
            return 0
        return sum(1 for _ in self._ahead(cursor))

    def _advance(self, cursor: _Cursor) -> Instant | None:
        """Pass what the peer knows already; say when the next entry is due, None at the end of the log."""
        for mac, entry in self._ahead(cursor):
            if not entry.is_known_by(cursor, mac):
                return entry.since + QUIET_S
            self.spared += 1
            del cursor.known[mac]
            cursor.change = entry.change
        if self._changes:
            cursor.change = self._changes[-1]
        return None

    def _gather(self, cursor: _Cursor, now: Instant) -> None:
        """Make the peer's next batch of what lies ahead of its cursor."""
        parts: list[bytes] = []
        room = MESSAGES_BYTES_MAXIMUM - _END_BYTES
        for mac, entry in self._ahead(cursor):
            if entry.is_known_by(cursor, mac):
                self.spared += 1
            elif len(entry.encoded) > room or len(parts) == MESSAGES_MAXIMUM - 1:
                break
            else:
                entry.is_sent = True
                parts.append(entry.encoded)
                room -= len(entry.encoded)
            cursor.known.pop(mac, None)
            cursor.batch_end = entry.change
        cursor.token, cursor.copies, cursor.due = next(self._tokens), 0, now
        cursor.batch = b"".join(parts) + encode_message(HintsSent(cursor.token))

    def _ahead(self, cursor: _Cursor) -> Iterator[tuple[Mac, _Entry]]:
        """The entries that the cursor has not passed, in the order of their last change."""
        for position in range(bisect_right(self._changes, cursor.change), len(self._changes)):
            mac = self._macs[position]
            entry = self._entries.get(mac)
            if entry is not None and entry.change == self._changes[position]:
                yield mac, entry

    def _compact(self) -> None:
        self._macs = sorted(self._entries, key=lambda mac: self._entries[mac].change)
        self._changes = [self._entries[mac].change for mac in self._macs]

    def _wake(self, when: Instant) -> None:
        if self._next_wakeup is None or when < self._next_wakeup:
            self._next_wakeup = when
