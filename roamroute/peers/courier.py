"""Carries claims: to every peer at once, again and again to each that has not answered, for at most 5 s. Pure.

It knows which claim waits for whose answer and when it is due again; not how a datagram is made (session.py).
A claim ends, per peer, with a final answer or with `ClaimUnanswered`, once; `drop` and a newer claim for the same MAC
end it without a word, because the engine has asked for that.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterable, Sequence

import attrs

from roamroute.events import ClaimUnanswered
from roamroute.values import Answer, Claim, Instant, Mac, PeerId, Seconds, Verdict

REPETITIONS_S: tuple[Seconds, ...] = (0.02, 0.04, 0.08, 0.16, 0.25)
"""Pauses before each repetition; the last one stays. The first is above the round trip of most meshes, so that a
claim that got through is rarely sent twice; five losses in a row cost 0.55 s."""
FIRST_REPETITIONS_S: tuple[Seconds, ...] = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.25)
"""The same for the peer that holds the host, and for routers: every packet is lost until they know, so a copy too many
(200 bytes) is the lesser evil; with one datagram in five lost, four of five losses are made good after 5 ms."""
PATIENT_S: Seconds = 0.25
"""A peer that answered "pending" is asked again after this: it is probing, for up to 4 s (policy.trial_s)."""
GIVE_UP_S: Seconds = 5.0
"""A claim that nobody answered for so long is over: the host has moved on, or neighbour discovery will tell."""

CLAIMS_MAXIMUM = 4096
"""Outstanding claims; a burst of that many associations within 5 s is 40 times what a big access point holds."""
WAITS_MAXIMUM = 32768
"""Outstanding (claim, peer) pairs, about 70 bytes each: 2.3 MB at worst, whatever the number of peers."""
SENDS_PER_TICK = 256
"""A tick sends about so many datagrams (10 µs each) and then lets others run; the rest is due at once."""


@attrs.define
class _Errand:
    claim: Claim
    started: Instant
    due: Instant
    waiting: set[PeerId]
    patient_due: Instant = 0.0
    patient: set[PeerId] = attrs.field(factory=set)
    repetitions: int = 0
    first: frozenset[PeerId] = frozenset()
    first_due: Instant = 0.0
    first_repetitions: int = 0
    serial: int = 0
    """Which heap entry is this errand's; the others for its MAC are stale."""

    def claim_at(self, now: Instant) -> Claim:
        """The claim, aged by the time that it has been under way."""
        if self.claim.age_s is None:
            return self.claim
        return attrs.evolve(self.claim, age_s=self.claim.age_s + (now - self.started))

    @property
    def wakeup(self) -> Instant:
        due = self.started + GIVE_UP_S
        if not self.first.isdisjoint(self.waiting):
            due = min(due, self.first_due)
            if not self.waiting <= self.first:
                due = min(due, self.due)
        elif self.waiting:
            due = min(due, self.due)
        if self.patient:
            due = min(due, self.patient_due)
        return due


@attrs.frozen
class Round:
    """What a call asks for: claims to send now, and peers to give up. `repetitions` of the sends are repetitions."""

    sends: tuple[tuple[PeerId, Claim], ...] = ()
    unanswered: tuple[ClaimUnanswered, ...] = ()
    repetitions: int = 0


class Courier:
    """Outstanding claims by MAC. After each call `next_wakeup` says when `tick` is due."""

    def __init__(self) -> None:
        self._peers: frozenset[PeerId] = frozenset()
        self._errands: dict[Mac, _Errand] = {}  # oldest first
        self._wakeups: list[tuple[Instant, int, Mac]] = []
        self._waits = 0
        self._serial = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._errands)

    @property
    def waits(self) -> int:
        """Outstanding (claim, peer) pairs."""
        return self._waits

    @property
    def next_wakeup(self) -> Instant | None:
        """When `tick` has something to do; None while nothing is outstanding. It may be early, never late."""
        return self._wakeups[0][0] if self._errands else None

    def send(self, claim: Claim, now: Instant, first: Sequence[PeerId] = ()) -> Round:
        """Take on a claim, in place of an older one for the same MAC. It goes to every peer now.

        If there are peers among `first`, it goes to those now, in this order, and to the others at the next tick, which
        is due at once: who asked may do before that what cannot wait. The oldest claims are given up (`unanswered`)
        when there are too many.
        """
        self.drop(claim.mac)
        if not self._peers:
            return Round()
        unanswered: list[ClaimUnanswered] = []
        while self._errands and (
            len(self._errands) >= CLAIMS_MAXIMUM or self._waits + len(self._peers) > WAITS_MAXIMUM
        ):
            oldest = next(iter(self._errands.values()))
            unanswered += self._end(oldest)
            self.evicted += 1
        errand = _Errand(claim, now, now + REPETITIONS_S[0], set(self._peers))
        peers: Collection[PeerId] = [peer for peer in first if peer in self._peers]
        if peers:
            errand.first, errand.first_due = frozenset(peers), now + FIRST_REPETITIONS_S[0]
            errand.due, errand.repetitions = now, -1
        self._errands[claim.mac] = errand
        self._waits += len(errand.waiting)
        self._schedule(errand)
        return Round(tuple((peer, claim) for peer in peers or self._peers), tuple(unanswered))

    def drop(self, mac: Mac) -> None:
        """Forget the claim for this MAC, if there is one."""
        errand = self._errands.get(mac)
        if errand is not None:
            self._end(errand)

    def answered(self, peer: PeerId, answer: Answer, now: Instant) -> Claim | None:
        """Note an answer; say which claim it ended for this peer. One to another claim than the outstanding one
        changes nothing."""
        errand = self._errands.get(answer.mac)
        if errand is None or answer.claimed != errand.claim.sequence:
            return None
        if peer not in errand.waiting and peer not in errand.patient:
            return None
        if answer.verdict is Verdict.PENDING:
            if peer in errand.waiting:
                errand.waiting.discard(peer)
                if not errand.patient:
                    errand.patient_due = now + PATIENT_S
                errand.patient.add(peer)
                self._schedule(errand)
            return None
        self._settle(errand, peer)
        return errand.claim

    def outstanding(self, peer: PeerId, now: Instant) -> tuple[Claim, ...]:
        """Claims that this peer has not answered, newest first: to be sent at once when a session comes to stand.

        Not more than a tick sends; the others follow when their repetition is due.
        """
        waiting = (errand.claim_at(now) for errand in reversed(self._errands.values()) if peer in errand.waiting)
        return tuple(itertools.islice(waiting, SENDS_PER_TICK))

    def set_peers(self, peers: Iterable[PeerId], now: Instant) -> Round:
        """State the whole set of peers. Claims go to new ones too; those that left are given up."""
        wanted = frozenset(peers)
        unanswered: list[ClaimUnanswered] = []
        gone, new = self._peers - wanted, wanted - self._peers
        self._peers = wanted
        sends: list[tuple[PeerId, Claim]] = []
        for errand in self._errands.values():
            if new and self._waits + len(new) <= WAITS_MAXIMUM:
                claim = errand.claim_at(now)
                errand.waiting |= new
                self._waits += len(new)
                self._schedule(errand)
                sends += ((peer, claim) for peer in new)
        for errand in tuple(self._errands.values()):
            for peer in sorted(gone & (errand.waiting | errand.patient), key=_order):
                unanswered.append(ClaimUnanswered(peer, errand.claim.mac, errand.claim.sequence))
                self._settle(errand, peer)
        return Round(tuple(sends), tuple(unanswered))

    def tick(self, now: Instant) -> Round:
        """Send what is due again, and give up what is too old. Bounded: `next_wakeup` may be now again."""
        sends: list[tuple[PeerId, Claim]] = []
        unanswered: list[ClaimUnanswered] = []
        repetitions = 0
        while self._wakeups and self._wakeups[0][0] <= now and len(sends) + len(unanswered) < SENDS_PER_TICK:
            _, serial, mac = heapq.heappop(self._wakeups)
            errand = self._errands.get(mac)
            if errand is None or errand.serial != serial:
                continue
            if now >= errand.started + GIVE_UP_S:
                unanswered += self._end(errand)
                continue
            before, claim = len(sends), errand.claim_at(now)
            is_new = errand.repetitions < 0
            insistent = errand.first & errand.waiting
            if insistent and errand.first_due <= now:
                errand.first_repetitions += 1
                errand.first_due = now + _pause(FIRST_REPETITIONS_S, errand.first_repetitions)
                sends += ((peer, claim) for peer in insistent)
                repetitions += len(insistent) if is_new else 0
            if errand.waiting and errand.due <= now:
                errand.repetitions += 1
                errand.due = now + _pause(REPETITIONS_S, errand.repetitions)
                sends += ((peer, claim) for peer in errand.waiting - errand.first)
            if errand.patient and errand.patient_due <= now:
                errand.patient_due = now + PATIENT_S
                sends += ((peer, claim) for peer in errand.patient)
            repetitions += 0 if is_new else len(sends) - before
            self._schedule(errand)
        return Round(tuple(sends), tuple(unanswered), repetitions)

    def _schedule(self, errand: _Errand) -> None:
        self._serial += 1
        errand.serial = self._serial
        heapq.heappush(self._wakeups, (errand.wakeup, self._serial, errand.claim.mac))
        if len(self._wakeups) > 64 + 4 * len(self._errands):
            self._wakeups = [(errand.wakeup, errand.serial, mac) for mac, errand in self._errands.items()]
            heapq.heapify(self._wakeups)

    def _settle(self, errand: _Errand, peer: PeerId) -> None:
        errand.waiting.discard(peer)
        errand.patient.discard(peer)
        self._waits -= 1
        if not errand.waiting and not errand.patient:
            del self._errands[errand.claim.mac]

    def _end(self, errand: _Errand) -> tuple[ClaimUnanswered, ...]:
        peers = errand.waiting | errand.patient
        self._waits -= len(peers)
        del self._errands[errand.claim.mac]
        claim = errand.claim
        return tuple(ClaimUnanswered(peer, claim.mac, claim.sequence) for peer in sorted(peers, key=_order))


def _pause(pauses: tuple[Seconds, ...], repetitions: int) -> Seconds:
    return pauses[min(repetitions, len(pauses) - 1)]


def _order(peer: PeerId) -> tuple[int, int]:
    return (peer.version, int(peer))
