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

import hmac
from collections.abc import Callable
from hashlib import blake2b

import attrs
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt as open_sealed,
)
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_encrypt as seal,
)
from nacl.exceptions import CryptoError

from roamroute.errors import MalformedInput
from roamroute.peers.allowance import Allowance
from roamroute.peers.codec import (
    AUTHENTICATOR_BYTES,
    BOOT_BYTES,
    CHALLENGE_BYTES,
    OURS,
    SESSION_ID_BYTES,
    Capability,
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
    sealed_header,
)
from roamroute.peers.key import KEY_BYTES
from roamroute.values import Answer, Claim, HandoverReport, Hint, Instant, PeerId, Seconds

Entropy = Callable[[int], bytes]
"""`os.urandom`, or something reproducible in a test."""

WINDOW = 256
"""Datagrams that may overtake each other; a burst of 256 claims that a mesh sends over two paths."""

KEEPALIVE_S: Seconds = 10.0
"""A peer not heard for so long is pinged: 0.1 datagrams a second and peer, 25 a second with 255 peers."""
SILENCE_S: Seconds = 35.0
"""A peer not heard for so long is lost: three pings unanswered, and half an interval."""
HELLO_FIRST_S: Seconds = 0.1
"""The first hello is repeated after this; a round trip through a mesh is 5 to 50 ms."""
HELLO_LAST_S: Seconds = 10.0
"""The greeting of an absent peer slows down to this; it greets us itself when it comes."""
HELLO_POKED_S: Seconds = 1.0
"""A claim for a peer without a session makes for a hello, but at most one in this time: a router of the mesh that
does not run roamroute, and was discovered by its route, is such a peer for ever."""
CONFIRM_FIRST_S: Seconds = 0.02
"""An agreed session is confirmed again after this, then after twice that, and so on."""
CANDIDATE_S: Seconds = 5.0
"""An agreed session in which nothing is received for so long is given up; a claim is not repeated longer either."""
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


def _person(label: str) -> bytes:
    """BLAKE2b's personalisation: 16 bytes that keep the uses of one key apart."""
    return f"roamroute1 {label}".encode("ascii").ljust(16, b"\0")


def _packed(address: PeerId) -> bytes:
    """16 bytes for every address; IPv4 is mapped (RFC 4291 §2.5.5.2)."""
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed


class ReplayWindow:
    """Which counters of a session have been seen: the greatest, and a bit for each of the `WINDOW` below it."""

    __slots__ = ("_greatest", "_seen")

    def __init__(self) -> None:
        self._greatest = -1
        self._seen = 0

    def is_fresh(self, counter: int) -> bool:
        """True for a counter not yet marked and not too old to tell."""
        behind = self._greatest - counter
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def mark(self, counter: int) -> None:
        """Remember a fresh counter, after its datagram has been authenticated."""
        ahead = counter - self._greatest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self._greatest = counter
        else:
            self._seen |= 1 << -ahead


class Session:
    """Keys for both directions, our counter and the window on theirs."""

    __slots__ = (
        "agreed_at", "boot", "capabilities", "own_challenge", "peer_challenge", "receive_id",
        "_counter", "_receive_key", "_send_id", "_send_key", "_window",
    )  # fmt: skip

    def __init__(
        self,
        key: bytes,
        own: tuple[PeerId, bytes],
        peer: tuple[PeerId, bytes],
        boot: bytes,
        agreed_at: Instant,
        capabilities: Capability = Capability.NONE,
    ) -> None:
        """`own` and `peer` are an address and a challenge each; `boot` and `capabilities` are the peer's."""
        self.own_challenge, self.peer_challenge = own[1], peer[1]
        self.boot = boot
        self.agreed_at = agreed_at
        self.capabilities = capabilities
        halves = sorted((_packed(address), challenge) for address, challenge in (own, peer))
        material = b"".join(address + challenge for address, challenge in halves)
        keys = blake2b(material, key=key, person=_person("keys"), digest_size=2 * KEY_BYTES).digest()
        names = blake2b(material, key=key, person=_person("ids"), digest_size=2 * SESSION_ID_BYTES).digest()
        by_direction = (
            (keys[:KEY_BYTES], names[:SESSION_ID_BYTES]),  # from the lower address to the higher
            (keys[KEY_BYTES:], names[SESSION_ID_BYTES:]),
        )
        is_lower = _packed(own[0]) < _packed(peer[0])
        self._send_key, self._send_id = by_direction[0 if is_lower else 1]
        self._receive_key, self.receive_id = by_direction[1 if is_lower else 0]
        self._counter = 0
        self._window = ReplayWindow()

    def seal(self, plaintext: bytes) -> bytes:
        """Encrypt into a whole datagram; every call uses a counter of its own."""
        header = sealed_header(self._send_id, self._counter)
        nonce = self._counter.to_bytes(12, "big")
        self._counter += 1
        return header + seal(plaintext, header, nonce, self._send_key)

    def is_fresh(self, envelope: SealedEnvelope) -> bool:
        """False for a counter that was received before, or is too old to tell."""
        return self._window.is_fresh(envelope.counter)

    def open(self, envelope: SealedEnvelope) -> bytes | None:
        """Decrypt and mark as received; None when it was not sealed by the peer in this session."""
        nonce = envelope.counter.to_bytes(12, "big")
        try:
            plaintext: bytes = open_sealed(envelope.ciphertext, envelope.header, nonce, self._receive_key)
        except CryptoError:
            return None
        self._window.mark(envelope.counter)
        return plaintext


Told = Claim | Answer | Hint | HintsSent | HintsTaken | HandoverReport
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

    def __init__(self, key: bytes, own: PeerId, peer: PeerId, boot: bytes, entropy: Entropy, now: Instant) -> None:
        """`boot`: our own boot identifier, random, the same for all peers of this process."""
        if len(key) != KEY_BYTES or len(boot) != BOOT_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes and a boot identifier {BOOT_BYTES}")
        self.peer = peer
        self.is_up = False
        self.since = now
        self.heard: Instant | None = None
        self.rtt_s: Seconds | None = None
        self.restarts = 0
        self._key, self._own, self._own_boot, self._entropy = key, own, boot, entropy
        self._hello_key = blake2b(b"", key=key, person=_person("hello"), digest_size=KEY_BYTES).digest()
        self._challenge = entropy(CHALLENGE_BYTES)
        self._peer_boot: bytes | None = None
        self._current: Session | None = None
        self._candidate: Session | None = None
        self._previous: Session | None = None
        self._hello_at = now
        self._greeted_at = now - HELLO_POKED_S
        self._hello_pause = HELLO_FIRST_S
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
        if not hmac.compare_digest(self._authenticator(self.peer, self._own, envelope.signed), envelope.authenticator):
            return Step(refused="forged")
        try:
            hello = decode_hello(envelope.body)
        except MalformedInput:
            return Step(refused="malformed")
        if hello.echo == self._challenge:
            return self._agree(hello, now)
        for session in (self._candidate, self._current):
            if session is not None and session.peer_challenge == hello.challenge:
                return self._repeat_confirmation(session, hello, now)
        if not self._hello_replies.take(now):
            return _NOTHING
        return Step((self._signed(Hello(self._challenge, self._own_boot, hello.challenge, OURS)),))

    def receive_sealed(self, envelope: SealedEnvelope, now: Instant) -> Step:
        """Judge an encrypted datagram that came from the peer's address."""
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
            self._hello_pause = min(2 * self._hello_pause, HELLO_LAST_S)
        if self._current is not None and now >= self._ping_at:
            datagrams.append(self._pinging(self._current, now))
            self._ping_at = now + self._jittered(KEEPALIVE_S)
        return Step(tuple(datagrams), is_lost=is_lost)

    @property
    def _lost_at(self) -> Instant:
        return (self.since if self.heard is None else self.heard) + SILENCE_S

    @property
    def _is_greeting(self) -> bool:
        """No session can carry anything, or the one we have leads nowhere any more."""
        return self._candidate is None and (self._current is None or not self.is_up)

    def _agree(self, hello: Hello, now: Instant) -> Step:
        """The peer echoed our challenge: it is alive, and both challenges are fresh. Use up ours."""
        session = Session(
            self._key,
            (self._own, self._challenge),
            (self.peer, hello.challenge),
            hello.boot,
            agreed_at=now,
            capabilities=hello.capabilities,
        )
        self._challenge = self._entropy(CHALLENGE_BYTES)
        self._candidate = session
        self._confirm_pause = CONFIRM_FIRST_S
        return Step(self._confirm(session, now), is_ready=self._current is None)

    def _repeat_confirmation(self, session: Session, hello: Hello, now: Instant) -> Step:
        """A greeting of a session that we have agreed on already: the peer may not have it yet, or it is a copy."""
        has_both = hello.echo == session.own_challenge
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

    def _confirmation(self, session: Session) -> bytes:
        return self._signed(Hello(session.own_challenge, self._own_boot, session.peer_challenge, OURS))

    def _pinging(self, session: Session, now: Instant) -> bytes:
        token = int.from_bytes(self._entropy(8), "big")
        self._ping = (token, now)
        return session.seal(encode_message(Ping(token)))

    def _greeting(self) -> bytes:
        return self._signed(Hello(self._challenge, self._own_boot, capabilities=OURS))

    def _signed(self, hello: Hello) -> bytes:
        signed = encode_hello(hello)
        return signed + self._authenticator(self._own, self.peer, signed)

    def _authenticator(self, source: PeerId, destination: PeerId, signed: bytes) -> bytes:
        material = _packed(source) + _packed(destination) + signed
        return blake2b(material, key=self._hello_key, digest_size=AUTHENTICATOR_BYTES).digest()

    def _jittered(self, pause: Seconds) -> Seconds:
        return pause * (1.0 - JITTER * int.from_bytes(self._entropy(2), "big") / 65535)
