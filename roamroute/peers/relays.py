"""Carries what hosts say during duplicate address detection to the peers: at once, then until acknowledged. Pure.

A host that asks waits RetransTimer, 1 s by default (RFC 4861 §10), for its question to get to the owner's access point
and for the owner's answer to come back; what has not arrived by then is of no use. So each (message, peer) pair is
repeated for a second at most: the first time a little after the round trip that the session has measured, then ever
more rarely. Messages that are due for one peer at the same time share a datagram.

The receiver knows a copy by its token, and acknowledges it again. benchmarks/bench_dad_transport.py compares the three
kinds of `Reliability` with this very code; docs/peers-protocol.md has the figures.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import attrs

from roamroute.peers.allowance import Allowance
from roamroute.peers.codec import (
    AUTHENTICATOR_BYTES,
    MESSAGES_BYTES_MAXIMUM,
    MESSAGES_MAXIMUM,
    SEALED_HEADER_BYTES,
    DadRelayed,
    encode_message,
)
from roamroute.peers.sealing import ReplayWindow
from roamroute.values import DadMessage, Instant, PeerId, Seconds

GIVE_UP_S: Seconds = 1.0
"""RetransTimer: the host has decided by then."""
ROUND_TRIPS_WAITED = 1.25
FIRST_PAUSE_MINIMUM_S: Seconds = 0.02
FIRST_PAUSE_MAXIMUM_S: Seconds = 0.06
"""With a longer round trip a copy is wasted on every message, but waiting for it would cost duplicates: with 100 ms and
one datagram in five lost, one in 250 would not be found."""
FIRST_PAUSE_UNKNOWN_S: Seconds = 0.03
"""Where no round trip has been measured yet."""
PAUSE_GROWTH = 1.15
"""Of each pause over the one before. In a second these are 16 copies if the first waits 20 ms, and 9 if it waits 60."""
REPEATED_COPIES = 3
REPEATED_PAUSE_S: Seconds = 0.03
"""Of `Reliability.REPEATED`: so many, so long after one another, however many arrive."""
SLACK_S: Seconds = 0.002
"""What is due so soon goes along: a burst of questions is repeated in as few datagrams as it was sent in."""

PAIRS_MAXIMUM = 16384
"""Outstanding (message, peer) pairs, some 300 bytes each: 5 MB at worst. 300 messages in a second to 49 peers."""
ABSENCES_MAXIMUM = 256
"""Messages of the last second that are kept for peers without a session."""
PAIRS_PER_TURN = 512
"""A turn sends so many, in some 50 datagrams (12 µs each), and then lets others run, claims before all; the rest is due
at once."""
BYTES_PER_S = float(1 << 20)
BURST_BYTES = float(1 << 17)
"""Of all messages to all peers, with the headers of IPv6 and UDP: half of what a socket's buffer holds by default, so
that there is room for a claim. 200 questions at once are 12 KB for each peer."""

GATHERED_BYTES = float(1 << 15)
"""Where that is not enough, nothing is sent until there is room for so much: 31 ms. What gathers meanwhile shares
datagrams, which costs less than half; 300 messages a second to 49 peers fit so, with 20 ms of delay instead of 500."""

HEARD_PER_S = 500.0
HEARD_BURST = 512.0
"""Of messages that are taken from a peer; it repeats what was not."""
DEAF_S: Seconds = 0.05
"""After a message above the allowance, nothing that the peer's hosts said is even read for so long: one gone mad, which
sends 4,000 full datagrams a second, would else keep the others' from being read."""
TOKENS_KNOWN = 4096
"""Per peer, below the greatest: all that it may send in seven seconds, and no copy is older than one."""

_HEADERS_BYTES = 40 + 8 + SEALED_HEADER_BYTES + AUTHENTICATOR_BYTES


class Reliability(enum.Enum):
    """What is done about loss; all but `ACKNOWLEDGED` are there to be measured against it."""

    PLAIN = "plain"
    REPEATED = "repeated"
    ACKNOWLEDGED = "acknowledged"


class Hearing(enum.Enum):
    """What becomes of a message that a peer sent."""

    TAKEN = "taken"
    COPY = "copy"
    """It was taken before, and the peer has not heard so."""
    REFUSED = "refused"
    """It is above the peer's allowance, or too old to tell."""


@attrs.frozen
class Parcel:
    """Messages for one peer that fit into a datagram; so many, and so many of these for the first time."""

    peer: PeerId
    messages: bytes
    count: int
    new: int


@attrs.define(eq=False)
class _Pair:
    peer: PeerId
    token: int
    encoded: bytes
    started: Instant
    pause: Seconds
    copies: int = 0
    serial: int = -1
    """Which entry among those that are due is this pair's; its others are stale."""


@attrs.define(eq=False)
class _Absence:
    token: int
    encoded: bytes
    started: Instant
    peers: set[PeerId]


@attrs.define(eq=False)
class _Heard:
    window: ReplayWindow = attrs.field(factory=lambda: ReplayWindow(TOKENS_KNOWN))
    allowance: Allowance = attrs.field(factory=lambda: Allowance(HEARD_PER_S, HEARD_BURST))
    deaf_until: Instant = 0.0


class Relays:
    """What is outstanding to which peer, and what has been heard of which.

    `first_token`: random, so that a token of an earlier run acknowledges nothing of this one. `now` never decreases
    from call to call. After each call `next_wakeup` says when `turn` is due.
    """

    def __init__(self, first_token: int, reliability: Reliability = Reliability.ACKNOWLEDGED) -> None:
        self.reliability = reliability
        self._tokens = itertools.count(first_token)
        self._serial = itertools.count()
        self._pairs: dict[tuple[PeerId, int], _Pair] = {}  # oldest first
        self._fresh: deque[_Pair] = deque()
        self._due: list[tuple[Instant, int, _Pair]] = []
        self._absences: deque[_Absence] = deque(maxlen=ABSENCES_MAXIMUM)
        self._heard: dict[PeerId, _Heard] = {}
        self._allowance = Allowance(BYTES_PER_S, BURST_BYTES)
        self._held_until: Instant = 0.0
        self.unacknowledged = 0
        self.evicted = 0

    def __len__(self) -> int:
        """Outstanding (message, peer) pairs."""
        return len(self._pairs)

    @property
    def next_wakeup(self) -> Instant | None:
        """When `turn` has something to do; None while nothing is outstanding. It may be early, never late."""
        if self._fresh:
            return self._held_until
        return max(self._due[0][0], self._held_until) if self._due else None

    def send(
        self,
        message: DadMessage,
        peers: Iterable[tuple[PeerId, Seconds | None]],
        absent: Iterable[PeerId],
        now: Instant,
    ) -> None:
        """Take on a message for these peers, each with its round trip if that is known; `turn` sends it.

        Those that are `absent` get it when they come within its second. The oldest pairs are given up when there are
        too many. Raises: ValueError as `encode_message`.
        """
        token = next(self._tokens)
        encoded = encode_message(DadRelayed(token, message))
        for peer, round_trip_s in peers:
            self._add(_Pair(peer, token, encoded, now, _first_pause(round_trip_s)))
        missing = set(absent)
        if missing:
            self._absences.append(_Absence(token, encoded, now, missing))

    def come(self, peer: PeerId, now: Instant) -> None:
        """A session has come to stand in which the peer can be told: what it has missed is due now."""
        for absence in self._absences:
            if peer in absence.peers:
                self._add(_Pair(peer, absence.token, absence.encoded, absence.started, FIRST_PAUSE_UNKNOWN_S))
            absence.peers.discard(peer)
        for pair in self._pairs.values():
            if pair.peer == peer and pair.copies:
                self._schedule(pair, now)

    def leave(self, peer: PeerId) -> None:
        """The peer is none any more."""
        for key in [key for key in self._pairs if key[0] == peer]:
            del self._pairs[key]
        self._heard.pop(peer, None)

    def restart(self, peer: PeerId) -> None:
        """The peer has started again: its tokens say nothing of earlier ones."""
        heard = self._heard.get(peer)
        if heard is not None:
            heard.window = ReplayWindow(TOKENS_KNOWN)

    def acknowledge(self, peer: PeerId, tokens: Iterable[int]) -> None:
        """The peer has these."""
        for token in tokens:
            self._pairs.pop((peer, token), None)

    def is_deaf(self, peer: PeerId, now: Instant) -> bool:
        """True while the peer has said more than it may: what it sends need not be read."""
        heard = self._heard.get(peer)
        return heard is not None and now < heard.deaf_until

    def hear(self, peer: PeerId, token: int, now: Instant) -> Hearing:
        """Judge a message of the peer. One that is refused comes again; the others are to be acknowledged."""
        heard = self._heard.get(peer)
        if heard is None:
            heard = self._heard[peer] = _Heard()
        if not heard.window.is_fresh(token):
            return Hearing.COPY if heard.window.has_seen(token) else Hearing.REFUSED
        if not heard.allowance.take(now):
            heard.deaf_until = now + DEAF_S
            return Hearing.REFUSED
        heard.window.mark(token)
        return Hearing.TAKEN

    def turn(self, now: Instant) -> tuple[Parcel, ...]:
        """What is to be sent now: new messages before repetitions. Bounded work, within the budget."""
        self._give_up(now)
        if now < self._held_until:
            return ()
        chosen: dict[PeerId, list[_Pair]] = {}
        for _ in range(PAIRS_PER_TURN):
            pair = self._foremost(now)
            if pair is None:
                break
            cost = len(pair.encoded) + (0 if pair.peer in chosen else _HEADERS_BYTES)
            if not self._allowance.take(now, cost):
                self._held_until = self._allowance.next_at(now, GATHERED_BYTES)
                break
            if self._fresh:
                self._fresh.popleft()
            else:
                heapq.heappop(self._due)
            chosen.setdefault(pair.peer, []).append(pair)
        parcels = [parcel for peer, pairs in chosen.items() for parcel in _packed(peer, pairs)]
        for pairs in chosen.values():
            for pair in pairs:
                self._note_sent(pair, now)
        return tuple(parcels)

    def _add(self, pair: _Pair) -> None:
        while len(self._pairs) >= PAIRS_MAXIMUM:
            del self._pairs[next(iter(self._pairs))]
            self.evicted += 1
        self._pairs[pair.peer, pair.token] = pair
        self._fresh.append(pair)

    def _give_up(self, now: Instant) -> None:
        """Forget what is older than a second."""
        while self._pairs:
            oldest = next(iter(self._pairs.values()))
            if not self._is_over(oldest, now):
                break
        while self._absences and now >= self._absences[0].started + GIVE_UP_S:
            self._absences.popleft()

    def _is_over(self, pair: _Pair, now: Instant) -> bool:
        """True for what is older than a second; it is forgotten here."""
        if now < pair.started + GIVE_UP_S:
            return False
        del self._pairs[pair.peer, pair.token]
        self.unacknowledged += 1
        return True

    def _foremost(self, now: Instant) -> _Pair | None:
        """What is to be sent next, still in its queue; what is outstanding no more leaves the queues here."""
        while self._fresh:
            pair = self._fresh[0]
            if self._is_outstanding(pair) and not self._is_over(pair, now):
                return pair
            self._fresh.popleft()
        while self._due and self._due[0][0] <= now + SLACK_S:
            _, serial, pair = self._due[0]
            if serial == pair.serial and self._is_outstanding(pair) and not self._is_over(pair, now):
                return pair
            heapq.heappop(self._due)
        return None

    def _is_outstanding(self, pair: _Pair) -> bool:
        return self._pairs.get((pair.peer, pair.token)) is pair

    def _schedule(self, pair: _Pair, due: Instant) -> None:
        pair.serial = next(self._serial)
        heapq.heappush(self._due, (due, pair.serial, pair))

    def _note_sent(self, pair: _Pair, now: Instant) -> None:
        """Say when it is due again, if it is."""
        pair.copies += 1
        pause: Seconds | None = pair.pause
        if self.reliability is Reliability.ACKNOWLEDGED:
            pair.pause *= PAUSE_GROWTH
        else:
            copies = 1 if self.reliability is Reliability.PLAIN else REPEATED_COPIES
            pause = REPEATED_PAUSE_S if pair.copies < copies else None
        if pause is None:
            del self._pairs[pair.peer, pair.token]
        elif now + pause < pair.started + GIVE_UP_S:
            self._schedule(pair, now + pause)
        else:
            self._schedule(pair, pair.started + GIVE_UP_S + SLACK_S)  # to be forgotten


def _packed(peer: PeerId, pairs: Sequence[_Pair]) -> Iterator[Parcel]:
    """Distribute over as few datagrams as they need, in their order."""
    batch: list[_Pair] = []
    room = MESSAGES_BYTES_MAXIMUM
    for pair in pairs:
        if len(pair.encoded) > room or len(batch) == MESSAGES_MAXIMUM:
            yield _parcel(peer, batch)
            batch, room = [], MESSAGES_BYTES_MAXIMUM
        batch.append(pair)
        room -= len(pair.encoded)
    yield _parcel(peer, batch)


def _parcel(peer: PeerId, batch: Sequence[_Pair]) -> Parcel:
    new = sum(not pair.copies for pair in batch)
    return Parcel(peer, b"".join(pair.encoded for pair in batch), len(batch), new)


def _first_pause(round_trip_s: Seconds | None) -> Seconds:
    if round_trip_s is None:
        return FIRST_PAUSE_UNKNOWN_S
    return min(max(ROUND_TRIPS_WAITED * round_trip_s, FIRST_PAUSE_MINIMUM_S), FIRST_PAUSE_MAXIMUM_S)
