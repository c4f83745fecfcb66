"""All peers together: datagrams, claims and answers in, datagrams and events out. Pure; channel.py gives it a socket.

It sorts datagrams by their source address to the `Pairing` of that peer, hands claims to the `Courier`, and counts.
A datagram from an address that is no peer's costs one look-up and a count.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import attrs

from roamroute.errors import MalformedInput
from roamroute.events import ClaimAnswered, Event, HandoverReported, HostClaimed, HostHinted, PeerJoined, PeerLost
from roamroute.peers.allowance import Allowance
from roamroute.peers.codec import (
    BOOT_BYTES,
    OURS,
    Capability,
    DadRelayed,
    DadTaken,
    Envelope,
    HelloEnvelope,
    HintsSent,
    HintsTaken,
    SealedEnvelope,
    UnknownEnvelope,
    answer_within_limits,
    encode_message,
    is_nonce,
    open_envelope,
    within_limits,
)
from roamroute.peers.courier import Courier, Round
from roamroute.peers.fields import ADDRESSES_MAXIMUM
from roamroute.peers.hints import HintLog
from roamroute.peers.key import KEYS_MAXIMUM
from roamroute.peers.relays import Hearing, Parcel, Relays, Reliability
from roamroute.peers.sealing import SharedKey
from roamroute.peers.session import Entropy, Pairing, Step
from roamroute.peers.status import COUNTERS, REFUSED, PeerStatus
from roamroute.schedule import Timetable
from roamroute.values import Answer, Claim, DadMessage, HandoverReport, Hint, Instant, Mac, PeerId, Verdict

PEERS_MAXIMUM = 256
"""Every access point talks to every other: 256 of them are 25 keepalives a second each, and 1 MB of sessions."""

HINTS_PER_S = 1000.0
HINTS_BURST = 1000.0
"""Of hints that are taken from a peer. Ours sends 900 a second at most (hints.py: 64 KiB); the engine takes some 30 µs
for each, so a peer gone mad costs 3 % of a processor."""


@attrs.frozen
class Outcome:
    """What a call asks for. Send `datagrams` first, then tell `events`, in order; `said` (what hosts said during
    duplicate address detection, and at which peer) can wait for claims."""

    datagrams: tuple[tuple[PeerId, bytes], ...] = ()
    events: tuple[Event, ...] = ()
    said: tuple[tuple[PeerId, DadMessage], ...] = ()


_Told = TypeVar("_Told", Claim, Answer, Hint)


@attrs.define
class _Traffic:
    sent: int = 0
    received: int = 0
    forged: int = 0
    hint_token: int | None = None
    """Of the last batch that was taken, since the peer has started."""
    hints_allowed: Allowance = attrs.field(factory=lambda: Allowance(HINTS_PER_S, HINTS_BURST))


class Exchange:
    """The protocol of one access point with all its peers.

    `entropy` gives random bytes (`os.urandom`). `now` is monotonic seconds, never less than in the last call. After
    each call `next_wakeup` says when `tick` is due; early or late is safe.
    """

    def __init__(
        self,
        address: PeerId,
        keys: Sequence[bytes],
        entropy: Entropy,
        capabilities: Capability = OURS,
        reliability: Reliability = Reliability.ACKNOWLEDGED,
    ) -> None:
        """`keys`: see `set_keys`. `capabilities`: what we say of ourselves. `reliability`: of `relay_dad`."""
        self._capabilities = capabilities
        self._address, self._entropy = address, entropy
        self._keys = _shared(keys)
        self._boot = entropy(BOOT_BYTES)
        self._pairings: dict[PeerId, Pairing] = {}
        self._traffic: dict[PeerId, _Traffic] = {}
        self._routers: dict[PeerId, None] = {}
        """The peers that have said so: asking all of them takes 36 us for 49, at every claim."""
        self._courier = Courier()
        self._hints = HintLog(int.from_bytes(entropy(6), "big"))
        self._relays = Relays(int.from_bytes(entropy(6), "big"), reliability)
        self._wakeups: Timetable[PeerId] = Timetable()
        self._dues: dict[PeerId, Instant] = {}
        """What is in `_wakeups`: not later than what the peer's pairing wants, and set anew only when it is."""
        self._said: list[tuple[PeerId, DadMessage]] = []
        """Of the datagram that is being judged."""
        self._counters: Counter[str] = Counter()

    @property
    def next_wakeup(self) -> Instant | None:
        """When `tick` has something to do; None without peers. It may be early, never late."""
        due = (self._courier.next_wakeup, self._wakeups.next_due, self._hints.next_wakeup, self._relays.next_wakeup)
        return min((instant for instant in due if instant is not None), default=None)

    @property
    def refused(self) -> int:
        """Datagrams of which something was refused, and hints above the allowance: what a flood consists of."""
        return sum(map(self._counters.__getitem__, REFUSED))

    @property
    def claims_outstanding(self) -> int:
        """Claims that some peer has not answered."""
        return len(self._courier)

    @property
    def counters(self) -> Mapping[str, int]:
        """Every name of `COUNTERS`, since the start."""
        return {
            **{name: self._counters[name] for name in COUNTERS},
            "hints_spared": self._hints.spared,
            "dad_unacknowledged": self._relays.unacknowledged,
            "dad_evicted": self._relays.evicted,
        }

    @property
    def peers(self) -> frozenset[PeerId]:
        """The peers that are talked to."""
        return frozenset(self._pairings)

    def status(self) -> tuple[PeerStatus, ...]:
        """One entry per peer, in the order of their addresses."""
        return tuple(
            PeerStatus(
                peer=peer,
                is_up=pairing.is_up,
                since=pairing.since,
                heard=pairing.heard,
                rtt_s=pairing.rtt_s,
                restarts=pairing.restarts,
                sent=self._traffic[peer].sent,
                received=self._traffic[peer].received,
                forged=self._traffic[peer].forged,
                has_own_key=pairing.has_own_key,
                capabilities=_names(pairing.capabilities),
                hints_held=len(self._hints) - unacknowledged,
                hints_unacknowledged=unacknowledged,
            )
            for peer, pairing in sorted(self._pairings.items(), key=lambda item: _order(item[0]))
            for unacknowledged in (self._hints.unacknowledged(peer),)
        )

    def set_peers(self, peers: Iterable[PeerId], now: Instant) -> Outcome:
        """State the whole set of peers; we ourselves do not count. New ones are greeted at once.

        Above `PEERS_MAXIMUM` those that are known stay, then the lowest addresses are taken ("peers_refused").
        """
        wanted = frozenset(peers) - {self._address}
        ranked = sorted(wanted, key=lambda peer: (peer not in self._pairings, *_order(peer)))
        self._counters["peers_refused"] += len(ranked[PEERS_MAXIMUM:])
        chosen = frozenset(ranked[:PEERS_MAXIMUM])
        datagrams: list[tuple[PeerId, bytes]] = []
        events: list[Event] = []
        for peer in sorted(frozenset(self._pairings) - chosen, key=_order):
            if self._pairings.pop(peer).is_up:
                events.append(PeerLost(peer))
            self._hints.leave(peer)
            self._relays.leave(peer)
            self._wakeups.cancel(peer)
            self._dues.pop(peer, None)
            self._routers.pop(peer, None)
            del self._traffic[peer]
        for peer in ranked[:PEERS_MAXIMUM]:
            if peer not in self._pairings:
                pairing = Pairing(self._keys, self._address, peer, self._boot, self._entropy, now, self._capabilities)
                self._pairings[peer], self._traffic[peer] = pairing, _Traffic()
                self._take(pairing, pairing.tick(now), now, datagrams, events)
        self._carry(self._courier.set_peers(chosen, now), now, datagrams, events)
        return self._outcome(datagrams, events)

    def set_keys(self, keys: Sequence[bytes], now: Instant) -> Outcome:
        """State the keys that are accepted, `KEYS_MAXIMUM` at most; the first is ours. Idempotent.

        Sessions go on; those of a key that is accepted no more are replaced, which takes one and a half round trips.

        Raises: ValueError for no key, too many, or one that is not 32 bytes; then nothing has changed.
        """
        known = {key.secret: key for key in self._keys}
        self._keys = tuple(known.get(key.secret, key) for key in _shared(keys))
        datagrams: list[tuple[PeerId, bytes]] = []
        events: list[Event] = []
        for pairing in self._pairings.values():
            pairing.set_keys(self._keys, now)
            self._take(pairing, pairing.tick(now), now, datagrams, events)
        return self._outcome(datagrams, events)

    def receive(self, datagram: bytes, source: PeerId, now: Instant) -> Outcome:
        """Judge a datagram from the network. It never raises, whatever the bytes."""
        self._counters["datagrams_received"] += 1
        pairing = self._pairings.get(source)
        if pairing is None:
            self._counters["from_strangers"] += 1
            return Outcome()
        self._traffic[source].received += 1
        try:
            envelope = open_envelope(datagram)
        except MalformedInput:
            self._counters["malformed"] += 1
            return Outcome()
        datagrams: list[tuple[PeerId, bytes]] = []
        events: list[Event] = []
        step = self._judge(pairing, envelope, now)
        self._take(pairing, step, now, datagrams, events)
        return self._outcome(datagrams, events)

    def hasten_claim(self, claim: Claim, first: PeerId) -> tuple[bytes, ...]:
        """What tells `first` of a claim, before anything else is done; none where that has no session.

        `send_claim` for the same must follow, with `is_hastened` if there was something to send.
        """
        pairing = self._pairings.get(first)
        if pairing is None or len(claim.addresses) > ADDRESSES_MAXIMUM:
            return ()
        sealed = pairing.carry(encode_message(claim))
        self._counters["datagrams_sent"] += len(sealed)
        self._traffic[first].sent += len(sealed)
        return sealed

    def send_claim(
        self, claim: Claim, now: Instant, first: PeerId | None = None, *, is_hastened: bool = False
    ) -> Outcome:
        """Send the claim to every peer and repeat it until each has answered; it replaces one for the same MAC.

        With `first`, or where peers are routers, the outcome holds the datagrams for those alone (without `first`'s, if
        it was hastened); the next tick, due at once, brings the others.
        """
        datagrams: list[tuple[PeerId, bytes]] = []
        events: list[Event] = []
        claim = self._cut(claim, within_limits(claim))
        evicted = self._courier.evicted
        told_first = dict.fromkeys((first, *self._routers) if first is not None else self._routers)
        errands = self._courier.send(claim, now, tuple(told_first))
        if is_hastened:
            self._counters["claims_sent"] += 1
            errands = attrs.evolve(errands, sends=errands.sends[1:])
        self._carry(errands, now, datagrams, events)
        self._counters["claims_evicted"] += self._courier.evicted - evicted
        return self._outcome(datagrams, events)

    def drop_claim(self, mac: Mac) -> None:
        """Stop repeating the claim for this MAC."""
        self._courier.drop(mac)

    def send_answer(self, peer: PeerId, answer: Answer, now: Instant) -> Outcome:
        """Send an answer once. Without a session it is not sent: the claimant's repetition asks again."""
        pairing = self._pairings.get(peer)
        sealed = pairing.send(self._cut(answer, answer_within_limits(answer))) if pairing is not None else ()
        self._counters["answers_sent" if sealed else "answers_unsent"] += 1
        return self._outcome([(peer, datagram) for datagram in sealed], [])

    def share_hint(self, hint: Hint, now: Instant) -> None:
        """Let the peers know this binding, in time; it replaces an earlier one for the same MAC."""
        self._hints.share(self._cut(hint, within_limits(hint)), now)

    def unshare_hint(self, mac: Mac) -> None:
        """Tell nobody of this host any more."""
        self._hints.unshare(mac)

    def send_report(self, peer: PeerId, report: HandoverReport) -> Outcome:
        """Send a report once; a peer that does not understand it, or has no session, gets none."""
        pairing = self._pairings.get(peer)
        sealed = pairing.send(report) if pairing is not None and Capability.REPORTS in pairing.capabilities else ()
        self._counters["reports_sent"] += bool(sealed)
        return self._outcome([(peer, datagram) for datagram in sealed], [])

    def relay_dad(self, said: Iterable[tuple[DadMessage, Collection[PeerId] | None]], now: Instant) -> Outcome:
        """Tell the given peers (None: all) what hosts have said, and again until they have it, for a second at most.

        A peer that does not proxy is not told; one without a session is, if it comes to have one within the second.
        What goes on the wire at once is in the outcome; one with a nonce that cannot be goes nowhere ("dad_unsent").
        """
        for message, peers in said:
            if not is_nonce(message.nonce):
                self._counters["dad_unsent"] += 1
                continue
            chosen = self._pairings if peers is None else [peer for peer in peers if peer in self._pairings]
            pairings = [self._pairings[peer] for peer in chosen]
            reachable = [pairing for pairing in pairings if pairing.is_reachable]
            told = [(pairing.peer, pairing.rtt_s) for pairing in reachable if Capability.DAD in pairing.capabilities]
            absent = [pairing.peer for pairing in pairings if not pairing.is_reachable]
            self._relays.send(message, told, absent, now)
        return self._outcome(self._relayed(self._relays.turn(now)), [])

    def tick(self, now: Instant) -> Outcome:
        """Do what is due. Bounded work: `next_wakeup` may be `now` again."""
        datagrams: list[tuple[PeerId, bytes]] = []
        events: list[Event] = []
        repeated = self._courier.tick(now)
        self._counters["claims_repeated"] += repeated.repetitions
        self._carry(repeated, now, datagrams, events)
        for batch in self._hints.tick(now):
            self._counters["hint_batches_repeated" if batch.is_repetition else "hint_batches_sent"] += 1
            datagrams += ((batch.peer, datagram) for datagram in self._pairings[batch.peer].carry(batch.messages))
        datagrams += self._relayed(self._relays.turn(now))
        for peer in tuple(self._wakeups.pop_due(now)):
            del self._dues[peer]
            self._take(self._pairings[peer], self._pairings[peer].tick(now), now, datagrams, events)
        return self._outcome(datagrams, events)

    def _judge(self, pairing: Pairing, envelope: Envelope, now: Instant) -> Step:
        match envelope:
            case HelloEnvelope():
                return pairing.receive_hello(envelope, now)
            case SealedEnvelope():
                is_unread = Capability.DAD not in self._capabilities or self._relays.is_deaf(pairing.peer, now)
                return pairing.receive_sealed(envelope, now, is_said_unread=is_unread)
            case UnknownEnvelope():
                return Step(refused="other_version")

    def _take(
        self,
        pairing: Pairing,
        step: Step,
        now: Instant,
        datagrams: list[tuple[PeerId, bytes]],
        events: list[Event],
    ) -> None:
        """Carry out what one pairing's step asks for."""
        peer = pairing.peer
        if step.refused:
            self._counters[step.refused] += 1
            self._traffic[peer].forged += step.refused == "forged"
        datagrams += ((peer, datagram) for datagram in step.datagrams)
        if step.is_lost:
            events.append(PeerLost(peer))
            self._hints.leave(peer)
        if step.has_restarted:
            self._traffic[peer].hint_token = None
            self._relays.restart(peer)
        if step.has_joined or step.has_restarted:
            events.append(PeerJoined(peer))
            self._hints.leave(peer)
            if Capability.HINTS in pairing.capabilities:
                self._hints.join(peer, now)
        if (step.is_ready or step.has_joined) and Capability.DAD in pairing.capabilities:
            self._relays.come(peer, now)
        if step.is_ready:
            for claim in self._courier.outstanding(peer, now):
                datagrams += ((peer, datagram) for datagram in pairing.send(claim))
        hints: list[Hint] = []
        taken: list[int] = []
        is_refused = False
        for message in step.messages:
            match message:
                case Claim():
                    self._counters["claims_received"] += 1
                    events.append(HostClaimed(message))
                case Answer():
                    self._counters["answers_received"] += 1
                    ended = self._courier.answered(peer, message, now)
                    if ended is not None and message.verdict is Verdict.ACCEPTED:
                        self._hints.claim_accepted(peer, ended)
                    events.append(ClaimAnswered(peer, message))
                case Hint():
                    hints.append(message)
                case HintsSent(token=token):
                    if self._take_hints(peer, hints, token, now, events):
                        datagrams += ((peer, datagram) for datagram in pairing.send(HintsTaken(token)))
                    hints = []
                case HintsTaken(token=token):
                    self._hints.acknowledge(peer, token, now)
                case HandoverReport():
                    self._counters["reports_received"] += 1
                    events.append(HandoverReported(peer, message))
                case DadRelayed(token=token):
                    if self._hear_dad(peer, message, now):
                        taken.append(token)
                    else:
                        is_refused = True
                case DadTaken(tokens=tokens):
                    self._relays.acknowledge(peer, tokens)
        self._counters["dad_refused"] += is_refused
        if taken and self._relays.reliability is Reliability.ACKNOWLEDGED:
            datagrams += ((peer, datagram) for datagram in pairing.send(DadTaken(tuple(taken))))
        if Capability.ROUTER in pairing.capabilities:
            self._routers[peer] = None
        else:
            self._routers.pop(peer, None)
        due = pairing.next_wakeup
        if due < self._dues.get(peer, math.inf):
            self._dues[peer] = due
            self._wakeups.set(peer, due)

    def _take_hints(self, peer: PeerId, hints: list[Hint], token: int, now: Instant, events: list[Event]) -> bool:
        """Take a batch of hints; True when it is to be acknowledged: it is taken now, or was the last time.

        A copy that was overtaken by a later batch is dropped: what it says is older. A batch above the peer's allowance
        is dropped, too: it comes again.
        """
        traffic = self._traffic[peer]
        if traffic.hint_token is not None and token <= traffic.hint_token:
            return token == traffic.hint_token
        if not traffic.hints_allowed.take(now, len(hints)):
            self._counters["hints_refused"] += len(hints)
            return False
        traffic.hint_token = token
        self._counters["hints_received"] += len(hints)
        events += (HostHinted(hint) for hint in hints)
        return True

    def _hear_dad(self, peer: PeerId, relayed: DadRelayed, now: Instant) -> bool:
        """Take what a peer relays; True when it is to be acknowledged."""
        match self._relays.hear(peer, relayed.token, now):
            case Hearing.TAKEN:
                self._counters["dad_received"] += 1
                self._said.append((peer, relayed.message))
            case Hearing.COPY:
                self._counters["dad_copies"] += 1
            case Hearing.REFUSED:
                return False
        return True

    def _relayed(self, parcels: Iterable[Parcel]) -> list[tuple[PeerId, bytes]]:
        """Seal what hosts have said. Where the session has gone meanwhile, a later copy may find one."""
        datagrams: list[tuple[PeerId, bytes]] = []
        for parcel in parcels:
            self._counters["dad_sent"] += parcel.new
            self._counters["dad_repeated"] += parcel.count - parcel.new
            sealed = self._pairings[parcel.peer].carry(parcel.messages)
            datagrams += ((parcel.peer, datagram) for datagram in sealed)
        return datagrams

    def _carry(self, errands: Round, now: Instant, datagrams: list[tuple[PeerId, bytes]], events: list[Event]) -> None:
        """Send the courier's claims in the sessions that stand, and greet the peers that have none."""
        encoded, messages = None, b""
        for peer, claim in errands.sends:
            if claim is not encoded:
                encoded, messages = claim, encode_message(claim)
            pairing = self._pairings[peer]
            sealed = pairing.carry(messages) or pairing.greet(now).datagrams
            datagrams += ((peer, datagram) for datagram in sealed)
        self._counters["claims_sent"] += len(errands.sends)
        self._counters["claims_unanswered"] += len(errands.unanswered)
        events += errands.unanswered

    def _cut(self, message: _Told, cut: _Told) -> _Told:
        """Count what had to be cut."""
        self._counters["addresses_cut"] += cut is not message
        return cut

    def _outcome(self, datagrams: list[tuple[PeerId, bytes]], events: list[Event]) -> Outcome:
        self._counters["datagrams_sent"] += len(datagrams)
        for peer, _ in datagrams:
            self._traffic[peer].sent += 1
        said, self._said = tuple(self._said), []
        return Outcome(tuple(datagrams), tuple(events), said)


def _shared(keys: Sequence[bytes]) -> tuple[SharedKey, ...]:
    distinct = tuple(dict.fromkeys(keys))
    if not 0 < len(distinct) <= KEYS_MAXIMUM:
        raise ValueError(f"peers share 1 to {KEYS_MAXIMUM} keys, not {len(distinct)}")
    return tuple(SharedKey(key) for key in distinct)


@functools.cache
def _names(capabilities: Capability) -> tuple[str, ...]:
    return tuple(str(one.name).lower() for one in capabilities)


def _order(peer: PeerId) -> tuple[int, int]:
    return (peer.version, int(peer))
