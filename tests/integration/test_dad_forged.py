"""A client that lies, floods, or cannot speak: what it costs the others, and how the proxy bears it.

Whoever answers a question for an address that nobody has keeps it from the one who asks (RFC 3756 §4.1.3); nothing can
be done about that one. What must not be is that others suffer, that a liar takes an address from who has it, and that
the daemon or the air of another access point is kept busy.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address
from typing import Any

import pytest

from roamroute.lab import addresses
from roamroute.lab.waiting import wait_until

from .dad_clients import LIMIT_S, Cell, Client, ask, own_addresses
from .dad_stopwatch import ADVERTISEMENT, SOLICITATION, Passage, Tap
from .dad_world import PROGRAMS, DadWorld, two_cells

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs(*PROGRAMS)]

ALL_NODES = IPv6Address("ff02::1")
NOBODY = IPv6Address("::")
_ICMPV6 = 58


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[DadWorld, list[Cell]]]:
    with two_cells() as found:
        yield found


@pytest.fixture
def world(place: tuple[DadWorld, list[Cell]]) -> Iterator[DadWorld]:
    """The same for all tests, but for the clients."""
    with place[0].visited():
        yield place[0]


@pytest.fixture
def here(place: tuple[DadWorld, list[Cell]]) -> Cell:
    """Where the liar is."""
    return place[1][0]


@pytest.fixture
def there(place: tuple[DadWorld, list[Cell]]) -> Cell:
    return place[1][1]


# -- frames that no kernel would send ---------------------------------------------------------------------------------


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def frame(
    mac: str, source: IPv6Address, destination: IPv6Address, body: bytes, *, hop_limit: int = 255, error: int = 0
) -> bytes:
    """ICMPv6 in Ethernet to a group, with a right checksum unless `error` is added to it."""
    summed = source.packed + destination.packed + struct.pack("!II", len(body), _ICMPV6) + body
    summed += b"\0" * (len(summed) % 2)
    total = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack("!H", ((~total & 0xFFFF) + error) & 0xFFFF) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, hop_limit) + source.packed + destination.packed
    return b"\x33\x33" + destination.packed[12:] + octets(mac) + b"\x86\xdd" + head + body


def group_of(target: IPv6Address) -> IPv6Address:
    return IPv6Address(IPv6Address("ff02::1:ff00:0").packed[:13] + target.packed[13:])


def question(mac: str, target: IPv6Address, options: bytes = b"", **wrong: Any) -> bytes:
    """A solicitation as DAD sends it."""
    body = struct.pack("!BBHI", SOLICITATION, 0, 0, 0) + target.packed + options
    wrong.setdefault("source", NOBODY)
    wrong.setdefault("destination", group_of(target))
    return frame(mac, body=body, **wrong)


def claim(mac: str, target: IPv6Address, options: bytes | None = None, **wrong: Any) -> bytes:
    """An advertisement to all nodes with the override flag, as a liar would send it."""
    own = b"\x02\x01" + octets(mac)
    body = struct.pack("!BBHI", ADVERTISEMENT, 0, 0, 0x20000000) + target.packed + (own if options is None else options)
    wrong.setdefault("source", target)
    wrong.setdefault("destination", ALL_NODES)
    return frame(mac, body=body, **wrong)


def malformed(mac: str, target: IPv6Address) -> list[bytes]:
    """What RFC 4861 §7.1 tells to discard, of both kinds."""
    nonce = b"\x0e\x01" + bytes(range(6))
    return [
        question(mac, target, b"\x0e\x00" + bytes(6)),  # an option of length 0
        question(mac, target, b"\x0e\x04" + bytes(6)),  # one that ends behind the packet
        question(mac, target, nonce + b"\x0e"),  # a type without a length
        question(mac, target, b"\x01\x01" + octets(mac)),  # a link-layer address of nobody
        question(mac, target, hop_limit=254),
        question(mac, target, error=1),
        question(mac, target, destination=ALL_NODES),
        question(mac, target, destination=target),
        question(mac, target)[: 14 + 40 + 20],  # a target that is cut
        question(mac, IPv6Address("ff02::1:2")),
        claim(mac, target, b"\x02\x00" + octets(mac)),
        claim(mac, target, b"\x02\x09" + octets(mac)),
        claim(mac, target, b"\x02"),
        claim(mac, target, hop_limit=1),
        claim(mac, target, error=1),
        claim(mac, target)[: 14 + 40 + 12],
        claim(mac, IPv6Address("ff05::2")),
    ]


class Liar:
    """A raw socket on the interface of a client, and what it hears."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sent = 0
        self._socket = client.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        client.namespace.sandbox.on_close(self._socket.close)
        self._socket.bind((client.link, 3))

    def send(self, *frames: bytes) -> None:
        for each in frames:
            self._socket.send(each)
            self.sent += 1

    @contextlib.contextmanager
    def flooding(self, frames: Iterable[bytes], per_second: int) -> Iterator[None]:
        """Send these frames over and over, for the length of the block."""
        ended = threading.Event()
        thread = threading.Thread(target=self._flood, args=(itertools.cycle(list(frames)), per_second, ended))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _flood(self, frames: Iterator[bytes], per_second: int, ended: threading.Event) -> None:
        while not ended.wait(0.02):
            self.send(*itertools.islice(frames, per_second // 50))

    @contextlib.contextmanager
    def claiming_everything(self) -> Iterator[Counter[IPv6Address]]:
        """Answer every solicitation that is heard; yields which, and how often."""
        found: Counter[IPv6Address] = Counter()
        ended = threading.Event()
        thread = threading.Thread(target=self._claim, args=(found, ended))
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()

    def _claim(self, found: Counter[IPv6Address], ended: threading.Event) -> None:
        self._socket.settimeout(0.1)
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                heard, sender = self._socket.recvfrom(2048)
                if sender[2] != socket.PACKET_OUTGOING and heard[12:14] == b"\x86\xdd" and heard[54] == SOLICITATION:
                    target = IPv6Address(heard[62:78])
                    if target in addresses.ROAMING_PREFIX:
                        found[target] += 1
                        self.send(claim(self.client.mac, target))


def invented(count: int) -> list[IPv6Address]:
    return [addresses.ROAMING_PREFIX[(0xBAD << 32) + number] for number in range(count)]


def others_are_well(world: DadWorld, here: Cell, there: Cell) -> None:
    """Collisions are found, both ways, and what is free is free."""
    askers = [*world.crowd(here, 4), *world.crowd(there, 4)]
    owners = [*world.owners(there, 4), *world.owners(here, 4)]
    found = ask({asker: owner.address for asker, owner in zip(askers, owners, strict=True)})
    assert set(found.values()) == {"duplicate"}, found
    found = ask(own_addresses(askers))
    assert set(found.values()) == {"usable"}, found


def handed_out(passages: list[Passage], targets: Iterable[IPv6Address]) -> int:
    """How many frames about these targets the access point has sent."""
    wanted = {target.packed for target in targets}
    return sum(passage.is_ours and passage.target in wanted for passage in passages)


@pytest.mark.parametrize("kind", [claim, question], ids=["claims", "questions"])
def test_a_flood_hurts_nobody_and_keeps_nobody_busy(world: DadWorld, here: Cell, there: Cell, kind: Any) -> None:
    """A thousand targets, 2,000 frames a second, from one client."""
    liar = Liar(world.client(here))
    targets = invented(1000)
    tap = Tap(there)
    before, began = [world.processor_s(each) for each in world.access_points], time.monotonic()
    with liar.flooding([kind(liar.client.mac, target) for target in targets], 2000):
        others_are_well(world, here, there)
    passed = time.monotonic() - began
    spent = [world.processor_s(each) - since for each, since in zip(world.access_points, before, strict=True)]
    assert liar.sent > 1000
    assert spent[0] < 0.5 * passed, f"{spent[0]:.2f} s of {passed:.2f} s, {liar.sent} frames"
    assert spent[1] < 0.3 * passed, f"{spent[1]:.2f} s of {passed:.2f} s"
    # A burst of 64 of one station and kind, 4 a second after it.
    assert handed_out(tap.read(), targets) <= 64 + 8 * passed


def test_who_claims_everything_is_soon_not_believed(world: DadWorld, here: Cell, there: Cell) -> None:
    liar = Liar(world.client(here))
    states: Counter[str] = Counter()
    with liar.claiming_everything() as claimed:
        for _ in range(4):
            askers = world.crowd(there, 10)
            states += Counter(ask(own_addresses(askers)).values())
    assert len(claimed) >= 40  # it has heard them all
    assert states["duplicate"] <= 16, states
    assert _counter(world, "refused_target_limit") > 0
    others_are_well(world, here, there)


def test_an_owner_keeps_its_address_whoever_claims_it(world: DadWorld, here: Cell, there: Cell) -> None:
    owner = world.owner(there)
    liar = Liar(world.client(here))
    target = owner.address
    liar.send(claim(liar.client.mac, target), claim(owner.mac, target))
    liar.send(question(liar.client.mac, target), question(owner.mac, target))
    liar.send(question(owner.mac, target, b"\x0e\x01" + bytes(range(6))))
    assert world.client(here).ask(target) == "duplicate"
    assert owner.state(target) == "usable"
    assert str(target) in world.announced(there.access_point)
    assert str(target) not in world.announced(here.access_point)
    others_are_well(world, here, there)


def test_what_is_malformed_goes_no_further(world: DadWorld, here: Cell, there: Cell) -> None:
    """The owner's address is asked for and claimed: neither does it answer, nor is anything handed out."""
    owner = world.owner(there)
    liar = Liar(world.client(here))
    tap = Tap(there)
    for each in malformed(liar.client.mac, owner.address):
        liar.send(each)
    proof = invented(1)[0]
    other = Liar(world.client(here))
    other.send(question(other.client.mac, proof))  # what comes after it has passed: so it has been looked at
    seen: list[Passage] = []

    def has_come() -> bool:
        seen.extend(tap.read())
        return handed_out(seen, [proof]) > 0

    wait_until(has_come, "a right question is handed out", LIMIT_S)
    assert handed_out(seen, [owner.address]) == 0
    assert world.status(here.access_point)["tap"]["malformed_frames"] > 0
    assert owner.state(owner.address) == "usable"
    others_are_well(world, here, there)


def _counter(world: DadWorld, name: str) -> int:
    return sum(world.status(access_point)["dad"]["counters"][name] for access_point in world.access_points)
