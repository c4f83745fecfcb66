"""What carries the messages between the access points of a small world: a bad network, and couriers that repeat.

Nothing of the real protocol is here, only what the engine relies on: a claim is repeated until it is answered, a hint
until it is acknowledged; a hint that has been overtaken by a later one of the same peer is not handed over.
"""

from __future__ import annotations

import random
from typing import Protocol

import attrs

from roamroute import effects, events
from roamroute.testing.clock import Appointment, VirtualClock
from roamroute.values import Answer, Claim, Hint, Mac, PeerId, Seconds, Verdict

REPEAT_S: tuple[Seconds, ...] = (0.02, 0.06, 0.14, 0.3, 0.62, 1.26, 2.2, 3.2, 4.2)  # since the claim was first sent
GIVE_UP_S: Seconds = 5.0
HINT_REPEAT_S: Seconds = 0.5
HINT_PAUSE_S: Seconds = 0.01  # what changes within this time goes together


@attrs.frozen
class NumberedHint:
    """A hint with its place in the order of the sender's; `generation` counts the sender's starts."""

    hint: Hint
    generation: int
    number: int


@attrs.frozen
class HintAcknowledged:
    """The hint of that number, or a later one for the same MAC, has come."""

    mac: Mac
    generation: int
    number: int


Message = Claim | Answer | NumberedHint | HintAcknowledged


class End(Protocol):
    """What is at an end of the network: an access point."""

    peer: PeerId
    is_running: bool
    generation: int
    """Counts its starts."""

    @property
    def neighbours(self) -> list[PeerId]:
        """All others."""

    def received(self, source: PeerId, message: Message) -> None:
        """A datagram came."""

    def emit(self, event: events.Event) -> None:
        """Queue an event for the engine."""


class Network:
    """Unicast between access points, with latency, loss, duplication and reordering; all drawn from one seed."""

    def __init__(self, clock: VirtualClock, randomness: random.Random) -> None:
        self.clock = clock
        self.latency: Seconds = 0.002
        self.jitter: Seconds = 0.0
        """Up to so much is added to each message: above zero messages overtake each other."""
        self.loss = 0.0
        self.duplication = 0.0
        self.cut: set[frozenset[PeerId]] = set()
        """Pairs of peers between which nothing passes."""
        self.sent = 0
        self._random = randomness
        self._ends: dict[PeerId, End] = {}

    def attach(self, end: End) -> None:
        """Let it be reached."""
        self._ends[end.peer] = end

    def send(self, source: PeerId, target: PeerId, message: Message) -> None:
        """Send one datagram, which may get lost."""
        self.sent += 1
        end = self._ends.get(target)
        if end is None:
            return
        generation = end.generation
        copies = 1 + (self._random.random() < self.duplication if self.duplication else 0)
        for _ in range(copies):
            if self.loss and self._random.random() < self.loss:
                continue
            delay = self.latency + (self._random.random() * self.jitter if self.jitter else 0.0)
            self.clock.after(delay, lambda: self._arrive(source, end, generation, message))

    def is_cut(self, one: PeerId, other: PeerId) -> bool:
        """True when nothing passes between the two."""
        return bool(self.cut) and frozenset((one, other)) in self.cut

    def _arrive(self, source: PeerId, end: End, generation: int, message: Message) -> None:
        # A session does not outlive the daemon: what was sent to the one before cannot be read.
        if end.is_running and end.generation == generation and not self.is_cut(source, end.peer):
            end.received(source, message)


@attrs.define(eq=False)
class _Outstanding:
    effect: effects.SendClaim
    waiting: set[PeerId]
    repeats: int = 0
    timer: Appointment | None = None


class ClaimCourier:
    """Repeats each claim until every peer has answered, or 5 s have passed: see `SendClaim`."""

    def __init__(self, end: End, network: Network) -> None:
        self._end = end
        self._network = network
        self._outstanding: dict[Mac, _Outstanding] = {}

    def __len__(self) -> int:
        return len(self._outstanding)

    def send(self, effect: effects.SendClaim) -> None:
        """Send to all peers and keep repeating."""
        self.drop(effect.claim.mac)
        outstanding = _Outstanding(effect, set(self._end.neighbours))
        if outstanding.waiting:
            self._outstanding[effect.claim.mac] = outstanding
            self._send(outstanding)

    def drop(self, mac: Mac) -> None:
        """Stop repeating the claim for this MAC."""
        outstanding = self._outstanding.pop(mac, None)
        if outstanding is not None and outstanding.timer is not None:
            outstanding.timer.cancel()

    def close(self) -> None:
        """Stop everything."""
        for mac in list(self._outstanding):
            self.drop(mac)

    def answered(self, peer: PeerId, answer: Answer) -> None:
        """An answer other than PENDING ends the repetition to that peer."""
        outstanding = self._outstanding.get(answer.mac)
        if (
            outstanding is not None
            and outstanding.effect.claim.sequence == answer.claimed
            and answer.verdict is not Verdict.PENDING
        ):
            outstanding.waiting.discard(peer)
            if not outstanding.waiting:
                self.drop(answer.mac)

    def _send(self, outstanding: _Outstanding) -> None:
        claim = outstanding.effect.claim
        for peer in sorted(outstanding.waiting, key=int):
            self._network.send(self._end.peer, peer, claim)
        if outstanding.repeats < len(REPEAT_S):
            before = REPEAT_S[outstanding.repeats - 1] if outstanding.repeats else 0.0
            delay = REPEAT_S[outstanding.repeats] - before
            outstanding.repeats += 1
            outstanding.timer = self._network.clock.after(delay, lambda: self._send(outstanding))
        else:
            outstanding.timer = self._network.clock.after(GIVE_UP_S - REPEAT_S[-1], lambda: self._give_up(outstanding))

    def _give_up(self, outstanding: _Outstanding) -> None:
        claim = outstanding.effect.claim
        self.drop(claim.mac)
        for peer in sorted(outstanding.waiting, key=int):
            self._end.emit(events.ClaimUnanswered(peer, claim.mac, claim.sequence))


class HintCourier:
    """Brings what is shared to every peer, in the end: see `ShareHint`."""

    def __init__(self, end: End, network: Network) -> None:
        self._end = end
        self._network = network
        self._generation = 0
        self._number = 0
        self._shared: dict[Mac, NumberedHint] = {}
        self._unheard: dict[PeerId, dict[Mac, None]] = {}
        self._timer: Appointment | None = None
        self._heard: dict[tuple[PeerId, Mac], tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._shared)

    def share(self, hint: Hint) -> None:
        """Tell it to all peers, soon."""
        self._number += 1
        self._shared[hint.mac] = NumberedHint(hint, self._generation, self._number)
        for peer in self._end.neighbours:
            self._unheard.setdefault(peer, {})[hint.mac] = None
        self._arm(HINT_PAUSE_S)

    def unshare(self, mac: Mac) -> None:
        """Tell it to nobody any more."""
        del self._shared[mac]
        for unheard in self._unheard.values():
            unheard.pop(mac, None)

    def joined(self, peer: PeerId) -> None:
        """A peer knows nothing, perhaps: tell it all."""
        self._unheard.setdefault(peer, {}).update(dict.fromkeys(self._shared))
        if self._shared:
            self._arm(HINT_PAUSE_S)

    def close(self) -> None:
        """The end is restarted."""
        self._generation += 1
        self._shared.clear()
        self._unheard.clear()
        self._heard.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def received(self, source: PeerId, message: NumberedHint | HintAcknowledged) -> Hint | None:
        """Take a message; returns a hint that is news."""
        if isinstance(message, HintAcknowledged):
            shared = self._shared.get(message.mac)
            if shared is None or (shared.generation, shared.number) <= (message.generation, message.number):
                self._unheard.get(source, {}).pop(message.mac, None)
            return None
        place, mac = (message.generation, message.number), message.hint.mac
        self._network.send(self._end.peer, source, HintAcknowledged(mac, *place))
        if self._heard.get((source, mac), (0, 0)) > place:
            return None
        self._heard[source, mac] = place
        return message.hint

    def _arm(self, delay: Seconds) -> None:
        if self._timer is None:
            self._timer = self._network.clock.after(delay, self._send)

    def _send(self) -> None:
        self._timer = None
        for peer, unheard in self._unheard.items():
            for mac in unheard:
                self._network.send(self._end.peer, peer, self._shared[mac])
        if any(self._unheard.values()):
            self._arm(HINT_REPEAT_S)
