"""Sessions between two peers: key agreement, encryption, replay protection. Pure: time and randomness are injected.

Two peers that share a key K agree on a session without clocks. Each side holds, per peer, one *challenge*: 16 random
bytes that nobody has used yet. A hello carries the sender's challenge and, as an echo, the receiver's, when the
sender knows it; K authenticates it with both addresses. Who receives an echo of its own current challenge knows that
the sender is alive now, makes the session keys out of K, both addresses and both challenges, and throws its challenge
away. A pair of challenges therefore makes keys once in a process's life, so a counter never starts twice under one
key, and what was recorded in an earlier session never opens.

    A                                            B
    hello(a)            ------------------->             B answers; it stores nothing
                        <-------------------     hello(b, echo a)
    session a,b; a := new
    hello(a, echo b)    ------------------->     session a,b; b := new
    sealed ping or claim------------------->     the session is proved: B uses it
                        <-------------------     sealed pong: A uses it for good

Both may begin at once; they end with the same session. A session lives in one of three rooms: *candidate* (agreed,
nothing received in it yet), *current* (proved, used to send), *previous* (received from for some seconds, because the
network reorders). Only a proved candidate displaces a current session, so no forged, replayed or held-back datagram
takes a live session away. What arrives in an unknown session is answered by a hello: that is how a peer that has
restarted is found out within one round trip.

Rejected before any state is touched: what is no envelope, a hello whose authenticator is wrong, a sealed datagram
that no session of its sender opens. The memory of a `Pairing` is constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from roamroute.errors import MalformedInput
from roamroute.peers.allowance import Allowance
from roamroute.peers.codec import (
    BOOT_BYTES,
    CHALLENGE_BYTES,
    OURS,
    Capability,
    DadRelayed,
    DadTaken,
    Hello,
    HelloEnvelope,
    HintsSent,
    HintsTaken,
    Message,
    Ping,
    Pong,
    SealedEnvelope,
    decode_hello,
    decode_messages,
    encode_hello,
    encode_message,
    is_said,
)
from roamroute.peers.sealing import Session, SharedKey
from roamroute.values import Answer, Claim, HandoverReport, Hint, Instant, PeerId, Seconds

Entropy = Callable[[int], bytes]
"""`os.urandom`, or something reproducible in a test."""

KEEPALIVE_S: Seconds = 10.0
"""A peer not heard for so long is pinged: 0.1 datagrams a second and peer, 25 a second with 255 peers."""
PINGED_AGAIN_S: Seconds = 2.5
"""A ping that is not answered is sent again after this."""
SILENCE_S: Seconds = 35.0
"""A peer not heard for so long is lost: a dozen pings of each side, or their answers, did not come. Where one datagram
in five gets lost, the three of an earlier version lost a peer somewhere in a mesh of 50 every few minutes."""
HELLO_FIRST_S: Seconds = 0.2
"""The first hello is repeated after this; a round trip through a mesh is 5 to 50 ms, and a slow processor takes as
long again for fifty peers at once."""
HELLO_LAST_S: Seconds = 10.0
"""The greeting of an absent peer slows down to this; it greets us itself when it comes."""
REKEYED_WITHIN_S: Seconds = 1.0
"""When our key has changed, peers are greeted under the new one within this time, not 255 at once."""
REKEYING_LAST_S: Seconds = 60.0
"""A peer that does not accept the new key yet is asked ever more rarely, up to this; it asks by itself when it does."""
HELLO_POKED_S: Seconds = 1.0
"""A claim for a peer without a session makes for a hello, but at most one in this time: a router of the mesh that
does not run roamroute, and was discovered by its route, is such a peer for ever."""
CONFIRM_FIRST_S: Seconds = 0.1
"""An agreed session is confirmed again after this, then after twice that, and so on; and with each copy of a claim.
(With 0.02, fifty access points that start on one busy machine kept each other from ever agreeing.)"""
CANDIDATE_S: Seconds = 10.0
"""An agreed session in which nothing is received for so long is given up: no queue delays an answer longer."""
PREVIOUS_S: Seconds = 10.0
"""A displaced session is still received from for so long; far more than any mesh delays a datagram."""
JITTER = 0.25
"""Repetitions are brought forward by up to this fraction, so that peers which start together drift apart."""

HELLO_REPLIES_PER_S = 200.0
HELLO_REPLY_BURST = 64.0
"""Of answers to authentic hellos that are no fresh echo, per peer: a replay costs at most this, and no amplification
(the answer is as long as the hello)."""
STRANGE_REPLIES_PER_S = 20.0
STRANGE_REPLY_BURST = 8.0
"""Of hellos in answer to sealed datagrams in an unknown session, per peer. Anybody who forges a peer's address can
provoke these, so they are few; a peer that has restarted greets by itself as well."""


Told = Claim | Answer | Hint | HintsSent | HintsTaken | HandoverReport | DadRelayed | DadTaken
"""What is not the session's own affair."""


@attrs.frozen
class Step:
    """What came of one call: datagrams for the peer, what it told us, and what changed.

    `refused` names the counter for what was thrown away ("forged", "replayed", "unknown_session", "malformed").
    `is_ready`: a session can be sent in that could not before; what is outstanding should be sent again at once.
    """

    datagrams: tuple[bytes, ...] = ()
    messages: tuple[Told, ...] = ()
    is_ready: bool = False
    has_joined: bool = False
    has_restarted: bool = False
    is_lost: bool = False
    refused: str = ""


_NOTHING = Step()


class Pairing:
    """Everything that is known of one peer's sessions.

    `entropy` gives random bytes. `now` never decreases from call to call. After each call `next_wakeup` says when
    `tick` is due; calling it earlier or later is safe.
    """

    def __init__(
        self,
        keys: Sequence[SharedKey],
        own: PeerId,
        peer: PeerId,
        boot: bytes,
        entropy: Entropy,
        now: Instant,
        capabilities: Capability = OURS,
    ) -> None:
        """`keys`: see `set_keys`. `boot`: our own boot identifier, random, the same for all peers of this process.
        `capabilities`: what we say of ourselves."""
        if not keys or len(boot) != BOOT_BYTES:
            raise ValueError(f"there is one key at least, and a boot identifier has {BOOT_BYTES} bytes")
        self.peer = peer
        self.is_up = False
        self.since = now
        self.heard: Instant | None = None
        self.rtt_s: Seconds | None = None
        self.restarts = 0
        self._keys = tuple(keys)
        self._own, self._own_boot, self._entropy = own, boot, entropy
        self._own_capabilities = capabilities
        self._challenge = entropy(CHALLENGE_BYTES)
        self._peer_boot: bytes | None = None
        self._current: Session | None = None
        self._candidate: Session | None = None
        self._previous: Session | None = None
        self._hello_at = now
        self._greeted_at = now - HELLO_POKED_S
        self._hello_pause = HELLO_FIRST_S
        self._greetings = 0
        self._is_rekeying = False
        self._confirm_at = now
        self._confirm_pause = CONFIRM_FIRST_S
        self._ping_at = now
        self._ping: tuple[int, Instant] | None = None
        self._previous_until = now
        self._hello_replies = Allowance(HELLO_REPLIES_PER_S, HELLO_REPLY_BURST)
        self._strange_replies = Allowance(STRANGE_REPLIES_PER_S, STRANGE_REPLY_BURST)

    @property
    def capabilities(self) -> Capability:
        """What the peer understands, as it said for the session that we send in."""
        session = self._current or self._candidate
        return Capability.NONE if session is None else session.capabilities

    @property
    def is_reachable(self) -> bool:
        """True when what is sent has a chance: in a session in which the peer is heard, or one just agreed on."""
        return (self.is_up and self._current is not None) or self._candidate is not None

    @property
    def has_own_key(self) -> bool:
        """True when we send under the first of our keys."""
        return self._current is not None and self._current.key is self._keys[0]

    @property
    def next_wakeup(self) -> Instant:
        """When `tick` has something to do."""
        due = [self._hello_at] if self._is_greeting else []
        if self._candidate is not None:
            due += (self._confirm_at, self._candidate.agreed_at + CANDIDATE_S)
        if self._current is not None:
            due.append(self._ping_at)
        if self.is_up:
            due.append(self._lost_at)
        return min(due)

    def set_keys(self, keys: Sequence[SharedKey], now: Instant) -> None:
        """State the keys that are accepted. What is sent first is under the first of them.

        Sessions of a key that is accepted no more end here. One of another key than the first goes on until its
        successor stands, and the peer is asked for that, now and then, until it accepts the first as well.
        """
        self._keys = tuple(keys)
        had_session = self._current is not None or self._candidate is not None
        self._current, self._candidate, self._previous = (
            session if session is not None and session.key in self._keys else None
            for session in (self._current, self._candidate, self._previous)
        )
        is_without = had_session and self._current is None and self._candidate is None
        self._is_rekeying = self._current is not None and not self.has_own_key
        if is_without or self._is_rekeying:
            self._greetings = 0
            self._hello_pause = HELLO_FIRST_S
            self._hello_at = now if is_without else now + REKEYED_WITHIN_S - self._jittered(REKEYED_WITHIN_S)

    def greet(self, now: Instant) -> Step:
        """A claim is waiting: greet the peer now if no session can carry it and no hello is under way."""
        if self._current is not None or self._candidate is not None or now - self._greeted_at < HELLO_POKED_S:
            return _NOTHING
        self._greeted_at = now
        return Step((self._greeting(),))

    def send(self, message: Message) -> tuple[bytes, ...]:
        """Datagrams that carry the message; none while there is no session.

        In a session that is not proved yet, a hello goes ahead of it: if the earlier one was lost, this one makes
        the session at the peer.
        """
        return self.carry(encode_message(message))

    def carry(self, messages: bytes) -> tuple[bytes, ...]:
        """The same for messages that are encoded already, `MESSAGES_BYTES_MAXIMUM` at most."""
        if self._current is not None:
            return (self._current.seal(messages),)
        if self._candidate is not None:
            return (self._confirmation(self._candidate), self._candidate.seal(messages))
        return ()

    def receive_hello(self, envelope: HelloEnvelope, now: Instant) -> Step:
        """Judge a greeting that came from the peer's address."""
        key = next((key for key in self._keys if key.has_signed(envelope, self.peer, self._own)), None)
        if key is None:
            return Step(refused="forged")
        try:
            hello = decode_hello(envelope.body)
        except MalformedInput:
            return Step(refused="malformed")
        if hello.echo == self._challenge:
            own, self._challenge = self._challenge, self._entropy(CHALLENGE_BYTES)
            return self._agree(hello, own, key, now)
        for session in (self._candidate, self._current):
            if session is not None and session.peer_challenge == hello.challenge:
                has_both = hello.echo == session.own_challenge
                if has_both and session is self._candidate and key.rank > session.key.rank:
                    return self._agree(hello, session.own_challenge, key, now)
                return self._repeat_confirmation(session, has_both and session.key is key, now)
        if not self._hello_replies.take(now):
            return _NOTHING
        return Step((self._signed(self._hello(self._challenge, hello.challenge), key),))

    def receive_sealed(self, envelope: SealedEnvelope, now: Instant, *, is_said_unread: bool = False) -> Step:
        """Judge an encrypted datagram that came from the peer's address. `is_said_unread`: one of what hosts said is
        proof that the peer is there, and no more: reading it would take ten times as long."""
        for session in (self._current, self._candidate, self._previous):
            if session is not None and session.receive_id == envelope.session:
                break
        else:
            return self._answer_unknown_session(now)
        if not session.is_fresh(envelope):
            return Step(refused="replayed")
        plaintext = session.open(envelope)
        if plaintext is None:
            return Step(refused="forged")
        if is_said_unread and is_said(plaintext):
            return attrs.evolve(self._accept(session, (), now), refused="dad_refused")
        try:
            messages = decode_messages(plaintext, self.peer)
        except MalformedInput:
            return Step(refused="malformed")
        return self._accept(session, messages, now)

    def tick(self, now: Instant) -> Step:
        """Do what is due: greet, confirm, ping, or give up."""
        datagrams: list[bytes] = []
        is_lost = False
        if self._previous is not None and now >= self._previous_until:
            self._previous = None
        if self._candidate is not None:
            if now >= self._candidate.agreed_at + CANDIDATE_S:  # as in next_wakeup, to the bit
                self._candidate = None
                self._hello_at, self._hello_pause = now, HELLO_FIRST_S
            elif now >= self._confirm_at:
                datagrams += self._confirm(self._candidate, now)
        if self.is_up and now >= self._lost_at:
            self.is_up, self.since, is_lost = False, now, True
            self._hello_at, self._hello_pause = now, HELLO_FIRST_S
        if self._is_greeting and now >= self._hello_at:
            datagrams.append(self._greeting())
            self._greeted_at = now
            self._hello_at = now + self._jittered(self._hello_pause)
            self._hello_pause = min(2 * self._hello_pause, REKEYING_LAST_S if self._is_rekeying else HELLO_LAST_S)
        if self._current is not None and now >= self._ping_at:
            datagrams.append(self._pinging(self._current, now))
            self._ping_at = now + self._jittered(PINGED_AGAIN_S if self.is_up else KEEPALIVE_S)
        return Step(tuple(datagrams), is_lost=is_lost)

    @property
    def _lost_at(self) -> Instant:
        return (self.since if self.heard is None else self.heard) + SILENCE_S

    @property
    def _is_greeting(self) -> bool:
        """No session can carry anything, or the one we have leads nowhere any more, or is to have a successor."""
        return self._candidate is None and (self._current is None or not self.is_up or self._is_rekeying)

    def _agree(self, hello: Hello, own: bytes, key: SharedKey, now: Instant) -> Step:
        """The peer echoed our challenge: it is alive, and both challenges are fresh.

        The key is that of the hello. Two that greet each other at once under different keys may so agree on two
        sessions; then both turn to the one of the greater key.
        """
        session = Session(
            key,
            (self._own, own),
            (self.peer, hello.challenge),
            hello.boot,
            agreed_at=now,
            capabilities=hello.capabilities,
        )
        self._candidate = session
        self._confirm_pause = CONFIRM_FIRST_S
        return Step(self._confirm(session, now), is_ready=self._current is None)

    def _repeat_confirmation(self, session: Session, has_both: bool, now: Instant) -> Step:
        """A greeting of a session that we have agreed on already: the peer may not have it yet, or it is a copy.

        `has_both`: the peer knows both challenges and means the same key, so it has made the session.
        """
        if (has_both and session is self._current) or not self._hello_replies.take(now):
            return _NOTHING
        if has_both:
            return Step((self._pinging(session, now),))
        return Step((self._confirmation(session), self._pinging(session, now)))

    def _answer_unknown_session(self, now: Instant) -> Step:
        """The peer holds a session that we do not: one of us restarted, or a hello was lost, or it is a forgery."""
        if not self._strange_replies.take(now):
            return Step(refused="unknown_session")
        if self._candidate is not None:
            replies = (self._confirmation(self._candidate), self._pinging(self._candidate, now))
            return Step(replies, refused="unknown_session")
        return Step((self._greeting(),), refused="unknown_session")

    def _accept(self, session: Session, messages: tuple[Message, ...], now: Instant) -> Step:
        is_ready = has_restarted = False
        if session is self._candidate:
            is_ready = self._current is not None
            has_restarted = self._peer_boot is not None and self._peer_boot != session.boot
            self._peer_boot = session.boot
            # what a peer sent before it restarted says nothing any more, and its tokens would be taken for new ones
            self._previous, self._previous_until = None if has_restarted else self._current, now + PREVIOUS_S
            self._current, self._candidate = session, None
            self._is_rekeying = self._is_rekeying and not self.has_own_key
        self.restarts += has_restarted
        self.heard = now
        self._ping_at = now + self._jittered(KEEPALIVE_S)
        has_joined = not self.is_up
        if has_joined:
            self.is_up, self.since = True, now
        datagrams: list[bytes] = []
        told: list[Told] = []
        for message in messages:
            match message:
                case Ping(token=token):
                    datagrams += self.send(Pong(token))
                case Pong(token=token):
                    self._measure(token, now)
                case _:
                    told.append(message)
        return Step(tuple(datagrams), tuple(told), is_ready, has_joined, has_restarted)

    def _measure(self, token: int, now: Instant) -> None:
        """Smooth the round trip as TCP does (RFC 6298 §2: 1/8)."""
        if self._ping is None or self._ping[0] != token:
            return
        sample = now - self._ping[1]
        self._ping = None
        self.rtt_s = sample if self.rtt_s is None else self.rtt_s + (sample - self.rtt_s) / 8

    def _confirm(self, session: Session, now: Instant) -> tuple[bytes, ...]:
        """Give the peer its half of the session, and something in it that it will answer."""
        self._confirm_at = now + self._jittered(self._confirm_pause)
        self._confirm_pause *= 2
        return self._confirmation(session), self._pinging(session, now)

    def _hello(self, challenge: bytes, echo: bytes | None = None) -> Hello:
        return Hello(challenge, self._own_boot, echo, self._own_capabilities)

    def _confirmation(self, session: Session) -> bytes:
        return self._signed(self._hello(session.own_challenge, session.peer_challenge), session.key)

    def _pinging(self, session: Session, now: Instant) -> bytes:
        token = int.from_bytes(self._entropy(8), "big")
        self._ping = (token, now)
        return session.seal(encode_message(Ping(token)))

    def _greeting(self) -> bytes:
        """A hello under the first key; where no session stands, the others take turns with it."""
        key = self._keys[0 if self._is_rekeying else self._greetings % len(self._keys)]
        self._greetings += 1
        return self._signed(self._hello(self._challenge), key)

    def _signed(self, hello: Hello, key: SharedKey) -> bytes:
        signed = encode_hello(hello)
        return signed + key.authenticator(self._own, self.peer, signed)

    def _jittered(self, pause: Seconds) -> Seconds:
        return pause * (1.0 - JITTER * int.from_bytes(self._entropy(2), "big") / 65535)
