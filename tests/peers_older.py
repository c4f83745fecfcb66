"""A peer of the version before capabilities, segments, hints and reports, written from that version's page alone.

It shares no code with roamroute: what a third party, or an access point that was not upgraded, says and understands.
Fields above 14 and messages above 4 are unknown to it; it skips them, and keeps the messages in `unknown`.
"""

from __future__ import annotations

import os
import struct
from hashlib import blake2b
from ipaddress import IPv6Address

from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt as open_sealed
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt as seal

Fields = dict[int, bytes]

PING, PONG, CLAIM, ANSWER = 1, 2, 3, 4
MAC, SEQUENCE, BASIS, ADDRESSES, CLAIMED, VERDICT, TOKEN = 1, 2, 3, 4, 6, 7, 11
CHALLENGE, ECHO, BOOT = 12, 13, 14


def element(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def elements(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        kind, length = struct.unpack_from("!BH", data)
        assert 3 + length <= len(data)
        found.append((kind, data[3 : 3 + length]))
        data = data[3 + length :]
    return found


def known_fields(data: bytes) -> Fields:
    known = [(kind, value) for kind, value in elements(data) if kind <= BOOT]
    assert len(dict(known)) == len(known), "a known field is there twice"
    return dict(known)


class OlderPeer:
    """One end of a pair. Each method returns the datagrams to send."""

    def __init__(self, own: IPv6Address, peer: IPv6Address, key: bytes) -> None:
        self.own, self.peer, self.key = own, peer, key
        self.claims: list[Fields] = []
        self.answers: list[Fields] = []
        self.pongs = 0
        self.unknown: list[int] = []
        self._boot = os.urandom(8)
        self._challenge = os.urandom(16)
        self._challenges = (b"", b"")
        self._keys = (b"", b"")
        self._names = (b"", b"")
        self._counter = 0

    def greet(self) -> list[bytes]:
        return [self._hello(self._challenge, None)]

    def claim(self, mac: bytes, sequence: int, addresses: bytes = b"") -> list[bytes]:
        body = element(MAC, mac) + element(SEQUENCE, sequence.to_bytes(4, "big")) + element(BASIS, b"\1")
        return [self._sealed(CLAIM, body + element(ADDRESSES, addresses))]

    def ping(self) -> list[bytes]:
        return [self._sealed(PING, element(TOKEN, os.urandom(8)))]

    def receive(self, datagram: bytes) -> list[bytes]:
        magic, version, kind = struct.unpack_from("!2sBB", datagram)
        assert (magic, version) == (b"rr", 1)
        return self._receive_hello(datagram) if kind == 1 else self._receive_sealed(datagram)

    def _receive_hello(self, datagram: bytes) -> list[bytes]:
        signed, authenticator = datagram[:-16], datagram[-16:]
        if self._authenticator(self.peer, self.own, signed) != authenticator:
            return []
        fields = known_fields(signed[4:])
        assert len(fields[CHALLENGE]) == 16
        assert len(fields[BOOT]) == 8
        if fields.get(ECHO) == self._challenge:
            self._agree(self._challenge, fields[CHALLENGE])
            self._challenge = os.urandom(16)
        elif fields[CHALLENGE] != self._challenges[1]:
            return [self._hello(self._challenge, fields[CHALLENGE])]
        elif fields.get(ECHO) == self._challenges[0]:
            return []
        return [self._hello(*self._challenges), *self.ping()]

    def _receive_sealed(self, datagram: bytes) -> list[bytes]:
        header, ciphertext = datagram[:20], datagram[20:]
        if header[4:12] != self._names[1]:
            return self.greet()
        plaintext = open_sealed(ciphertext, header, header[12:20].rjust(12, b"\0"), self._keys[1])
        replies = []
        for kind, body in elements(plaintext):
            if kind > ANSWER:
                self.unknown.append(kind)
                continue
            fields = known_fields(body)
            if kind == PING:
                replies.append(self._sealed(PONG, body))
            elif kind == PONG:
                self.pongs += 1
            elif kind == ANSWER:
                self.answers.append(fields)
            else:
                self.claims.append(fields)
                verdict = element(CLAIMED, fields[SEQUENCE]) + element(VERDICT, b"\1")
                replies.append(
                    self._sealed(ANSWER, element(MAC, fields[MAC]) + verdict + element(SEQUENCE, fields[SEQUENCE]))
                )
        return replies

    def _agree(self, own: bytes, peer: bytes) -> None:
        """The page's table of keys; the lower address is ours or the peer's."""
        halves = sorted([(self.own.packed, own), (self.peer.packed, peer)])
        material = b"".join(address + challenge for address, challenge in halves)
        keys = self._derived(b"keys", material, 64)
        names = self._derived(b"ids", material, 16)
        up, down = (keys[:32], names[:8]), (keys[32:], names[8:])
        sending, receiving = (up, down) if self.own < self.peer else (down, up)
        self._challenges = own, peer
        self._keys, self._names = (sending[0], receiving[0]), (sending[1], receiving[1])
        self._counter = 0

    def _derived(self, label: bytes, material: bytes, length: int) -> bytes:
        person = (b"roamroute1 " + label).ljust(16, b"\0")
        return blake2b(material, key=self.key, person=person, digest_size=length).digest()

    def _hello(self, challenge: bytes, echo: bytes | None) -> bytes:
        fields = element(CHALLENGE, challenge) + element(BOOT, self._boot)
        signed = b"rr\1\1" + fields + (b"" if echo is None else element(ECHO, echo))
        return signed + self._authenticator(self.own, self.peer, signed)

    def _authenticator(self, source: IPv6Address, destination: IPv6Address, signed: bytes) -> bytes:
        key = self._derived(b"hello", b"", 32)
        return blake2b(source.packed + destination.packed + signed, key=key, digest_size=16).digest()

    def _sealed(self, kind: int, body: bytes) -> bytes:
        header = b"rr\1\2" + self._names[0] + self._counter.to_bytes(8, "big")
        nonce = self._counter.to_bytes(12, "big")
        self._counter += 1
        return header + seal(element(kind, body), header, nonce, self._keys[0])
