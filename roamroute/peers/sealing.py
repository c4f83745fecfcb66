"""What the shared key gives: authenticators for hellos, the keys of a session, its seals and its replay window. Pure.

The derivations are those of docs/peers-protocol.md, to the byte; session.py says when each of them is used.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b

from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt as open_sealed,
)
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_encrypt as seal,
)
from nacl.exceptions import CryptoError

from roamroute.peers.codec import (
    AUTHENTICATOR_BYTES,
    SESSION_ID_BYTES,
    Capability,
    HelloEnvelope,
    SealedEnvelope,
    sealed_header,
)
from roamroute.peers.key import KEY_BYTES
from roamroute.values import Instant, PeerId

WINDOW = 256
"""Datagrams that may overtake each other; a burst of 256 claims that a mesh sends over two paths."""


class SharedKey:
    """One of the keys that all access points share."""

    __slots__ = ("rank", "secret")

    def __init__(self, secret: bytes) -> None:
        """Raises: ValueError when it is not 32 bytes."""
        if len(secret) != KEY_BYTES:
            raise ValueError(f"the peers' key has {KEY_BYTES} bytes, not {len(secret)}")
        self.secret = secret
        self.rank = blake2b(b"", key=secret, person=_person("hello"), digest_size=KEY_BYTES).digest()
        """The key for hellos; both sides also agree by it which of two keys is the greater."""

    def authenticator(self, source: PeerId, destination: PeerId, signed: bytes) -> bytes:
        """What follows the signed part of a hello from `source` to `destination`."""
        material = _packed(source) + _packed(destination) + signed
        return blake2b(material, key=self.rank, digest_size=AUTHENTICATOR_BYTES).digest()

    def has_signed(self, envelope: HelloEnvelope, source: PeerId, destination: PeerId) -> bool:
        """True for a hello that somebody with this key made for this way."""
        return hmac.compare_digest(self.authenticator(source, destination, envelope.signed), envelope.authenticator)


class ReplayWindow:
    """Which counters have been seen: the greatest, and a bit for each of the `width - 1` below it."""

    __slots__ = ("_greatest", "_seen", "_width")

    def __init__(self, width: int = WINDOW) -> None:
        self._width = width
        self._greatest = -1
        self._seen = 0

    def is_fresh(self, counter: int) -> bool:
        """True for a counter not yet marked and not too old to tell."""
        behind = self._greatest - counter
        return behind < 0 or (behind < self._width and not self._seen >> behind & 1)

    def has_seen(self, counter: int) -> bool:
        """True for a counter that was marked and is not too old to tell."""
        behind = self._greatest - counter
        return 0 <= behind < self._width and bool(self._seen >> behind & 1)

    def mark(self, counter: int) -> None:
        """Remember a fresh counter, after its datagram has been authenticated."""
        ahead = counter - self._greatest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, self._width) | 1) & ((1 << self._width) - 1)
            self._greatest = counter
        else:
            self._seen |= 1 << -ahead


class Session:
    """Keys for both directions, our counter and the window on theirs."""

    __slots__ = (
        "agreed_at", "boot", "capabilities", "key", "own_challenge", "peer_challenge", "receive_id",
        "_counter", "_receive_key", "_send_id", "_send_key", "_window",
    )  # fmt: skip

    def __init__(
        self,
        key: SharedKey,
        own: tuple[PeerId, bytes],
        peer: tuple[PeerId, bytes],
        boot: bytes,
        agreed_at: Instant,
        capabilities: Capability = Capability.NONE,
    ) -> None:
        """`own` and `peer` are an address and a challenge each; `boot` and `capabilities` are the peer's."""
        self.key = key
        self.own_challenge, self.peer_challenge = own[1], peer[1]
        self.boot = boot
        self.agreed_at = agreed_at
        self.capabilities = capabilities
        halves = sorted((_packed(address), challenge) for address, challenge in (own, peer))
        material = b"".join(address + challenge for address, challenge in halves)
        keys = blake2b(material, key=key.secret, person=_person("keys"), digest_size=2 * KEY_BYTES).digest()
        names = blake2b(material, key=key.secret, person=_person("ids"), digest_size=2 * SESSION_ID_BYTES).digest()
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


def _person(label: str) -> bytes:
    """BLAKE2b's personalisation: 16 bytes that keep the uses of one key apart."""
    return f"roamroute1 {label}".encode("ascii").ljust(16, b"\0")


def _packed(address: PeerId) -> bytes:
    """16 bytes for every address; IPv4 is mapped (RFC 4291 §2.5.5.2)."""
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed
