"""The peers' channel: what a claim and a hint cost in time and bytes, a session in memory, the library at import."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
import tracemalloc
from ipaddress import IPv4Address, IPv6Address
from typing import Any, ClassVar
from unittest import mock

import attrs

from benchmarks.figure import Figure
from roamroute.effects import DropClaim, SendAnswer, SendClaim
from roamroute.events import ClaimAnswered, Event, HostClaimed, HostHinted
from roamroute.peers import PeerChannel, codec
from roamroute.peers.exchange import Exchange
from roamroute.values import (
    Answer,
    Basis,
    Claim,
    DadKind,
    DadMessage,
    HandoverReport,
    Hint,
    Mac,
    PeerId,
    Segments,
    Verdict,
)

KEY = bytes(range(32))
ADDRESSES = tuple(IPv6Address((0xFD44 << 112) + number) for number in range(3))
PORT = 45440
ROUND_TRIPS = 500
MESSAGES = 20_000
SESSIONS = 255
PEERS = 49
FAN_OUTS = 200
HOSTS = 5000
STARTS = 7


def run() -> list[Figure]:
    """All figures; about 15 s."""
    return [*round_trips(), *fan_out(), core(), *hints(), *octets(), *refusals(), memory(), *imports()]


def claim_of(number: int, peer: PeerId) -> Claim:
    """A claim for a host with three addresses."""
    station = Mac(f"02:00:5e:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}")
    return Claim(station, 1, peer, Basis.ASSOCIATION, ADDRESSES, Segments(*ADDRESSES[:2]), age_s=0.0)


def hint_of(number: int, peer: PeerId) -> Hint:
    """The hint for the same host."""
    claim = claim_of(number, peer)
    return Hint(claim.mac, claim.sequence, peer, claim.addresses)


def accepted(claim: Claim) -> Answer:
    """The answer of a peer that knew the same addresses."""
    return Answer(claim.mac, claim.sequence, Verdict.ACCEPTED, claim.sequence, claim.peer, claim.addresses)


def round_trips() -> list[Figure]:
    """Two channels over real UDP on the loopback, both in this process: the work of both ends is in the time."""

    async def measure() -> tuple[list[float], float]:
        addresses = IPv4Address("127.0.0.2"), IPv4Address("127.0.0.3")
        answers: asyncio.Queue[ClaimAnswered] = asyncio.Queue()
        joined = asyncio.Event()

        def tell_claimant(event: Event) -> None:
            joined.set()
            if isinstance(event, ClaimAnswered):
                answers.put_nowait(event)

        def tell_holder(event: Event) -> None:
            if isinstance(event, HostClaimed):
                holder.send_answer(SendAnswer(event.claim.peer, accepted(event.claim), "benchmark"))

        def no_log(level: str, line: str) -> None:
            pass

        claimant = PeerChannel(addresses[0], PORT, (KEY,), addresses, tell_claimant, no_log)
        holder = PeerChannel(addresses[1], PORT, (KEY,), addresses, tell_holder, no_log)
        running = [asyncio.create_task(channel.run()) for channel in (claimant, holder)]
        await asyncio.wait_for(joined.wait(), 10)
        samples = []
        for number in range(ROUND_TRIPS):
            started = time.perf_counter()
            claimant.send_claim(SendClaim(claim_of(number, addresses[0]), "benchmark"))
            await answers.get()
            samples.append(time.perf_counter() - started)
        started = time.perf_counter()
        for number in range(MESSAGES // 10):
            claimant.send_claim(SendClaim(claim_of(number, addresses[0]), "benchmark"))
            if number % 100 == 99:
                await asyncio.sleep(0)
        seen = 0
        while seen < MESSAGES // 10:
            await answers.get()
            seen += 1
        rate = MESSAGES // 10 / (time.perf_counter() - started)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        return samples, rate

    samples, rate = asyncio.run(measure())
    microseconds = [sample * 1e6 for sample in samples]
    return [
        Figure(
            "peers: claim round trip, median",
            statistics.median(microseconds),
            "µs",
            2000,
            note="UDP on loopback, both ends on one core",
            samples=microseconds,
        ),
        Figure("peers: claims answered per second", rate, "1/s", 1000, "at least", note="as above"),
    ]


def fan_out() -> list[Figure]:
    """From `send_claim` until the first and the last of 49 datagrams is in the kernel; the former holder is known.

    The receivers are sockets that nobody reads: what the others do is not in the time. A pause before each claim lets
    the processor's caches cool down, as they are when a station connects.
    """

    class Listening(socket.socket):
        sent: ClassVar[list[float]] = []

        def sendto(self, *arguments: Any) -> int:
            done = super().sendto(*arguments)
            self.sent.append(time.perf_counter())
            return done

    async def measure() -> tuple[list[float], list[float], list[float]]:
        peers = [IPv4Address(f"127.0.1.{number}") for number in range(1, PEERS + 1)]
        channel = PeerChannel(
            IPv4Address("127.0.0.2"),
            PORT,
            (KEY,),
            (),
            lambda event: None,
            lambda level, line: None,
            dad_told=lambda peer, message: None,
        )
        with contextlib.ExitStack() as stack, mock.patch("roamroute.peers.channel.socket.socket", Listening):
            proxy = codec.OURS | codec.Capability.DAD
            others = {peer: Exchange(peer, (KEY,), os.urandom, proxy) for peer in peers}
            for peer, other in others.items():
                wire = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                wire.bind((str(peer), PORT))
                wire.setblocking(False)
                other.set_peers([IPv4Address("127.0.0.2")], 0.0)
                asyncio.get_running_loop().add_reader(wire, reply, wire, other)
            running = asyncio.create_task(channel.run())
            await asyncio.sleep(0)
            channel.set_peers(peers)
            while not all(peer.is_up for peer in channel.status().peers):  # noqa: ASYNC110 - about the other ends
                await asyncio.sleep(0.01)
            first, last, said = [], [], []
            for number in range(FAN_OUTS):
                claim = claim_of(number, IPv4Address("127.0.0.2"))
                await asyncio.sleep(0.01)
                Listening.sent.clear()
                started = time.perf_counter()
                channel.send_claim(SendClaim(claim, "benchmark", first=peers[number % PEERS]))
                while len(Listening.sent) < PEERS:  # noqa: ASYNC110 - it is the loop that is measured
                    await asyncio.sleep(0)
                first.append((Listening.sent[0] - started) * 1e6)
                last.append((Listening.sent[PEERS - 1] - started) * 1e6)
                channel.drop_claim(DropClaim(claim.mac, "benchmark"))
            for number in range(FAN_OUTS):
                question = DadMessage(DadKind.SOLICITATION, ADDRESSES[0], claim_of(number, peers[0]).mac, b"nonce!")
                await asyncio.sleep(0.01)
                Listening.sent.clear()
                started = time.perf_counter()
                channel.relay_dad(question, None)
                said.append((Listening.sent[PEERS - 1] - started) * 1e6)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return first, last, said

    def reply(wire: socket.socket, other: Exchange) -> None:
        datagram, source = wire.recvfrom(2000)
        for _, answer in other.receive(datagram, IPv4Address(source[0]), 0.01).datagrams:
            wire.sendto(answer, source)

    first, last, said = asyncio.run(measure())
    return [
        Figure(
            "peers: claim to the former holder is in the kernel",
            statistics.median(first),
            "µs",
            100,
            note=f"first of {PEERS} peers, after a pause of 10 ms",
            samples=first,
        ),
        Figure(
            "peers: claim to the last peer is in the kernel",
            statistics.median(last),
            "µs",
            2000,
            note=f"last of {PEERS} peers",
            samples=last,
        ),
        Figure(
            "peers: message of DAD to the last peer is in the kernel",
            statistics.median(said),
            "µs",
            2000,
            note=f"last of {PEERS} peers, in the same call",
            samples=said,
        ),
    ]


def hints() -> list[Figure]:
    """A batch of hints from the log to the events at the peer, and what the log holds of a host."""
    first, second = stand()
    total = MESSAGES // 4
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(HOSTS):
        first.share_hint(hint_of(number, FIRST), 0.0)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    first.unshare_hint(hint_of(0, FIRST).mac)
    now, told, spent = 10.0, 0, 0.0
    for number in range(HOSTS, HOSTS + total):
        first.share_hint(hint_of(number, FIRST), 0.0)
    while told < total:
        now += 1.0  # beyond what the budget and the allowance hold back
        started = time.perf_counter()
        for _, datagram in first.tick(now).datagrams:
            outcome = second.receive(datagram, FIRST, now)
            told += sum(isinstance(event, HostHinted) for event in outcome.events)
            for _, reply in outcome.datagrams:
                first.receive(reply, SECOND, now)
        spent += time.perf_counter() - started
    return [
        Figure("peers: both ends' work for a hint", spent / told * 1e6, "µs", 100, note="in batches, no sockets"),
        Figure("peers: memory per host that is shared", grown / HOSTS / 1024, "KiB", 2, note="3 addresses, any peers"),
    ]


def octets() -> list[Figure]:
    """What goes over the air, with the headers of UDP and IPv6."""
    claim, hint = claim_of(1, FIRST), hint_of(1, FIRST)
    around = 40 + 8 + codec.SEALED_HEADER_BYTES + codec.AUTHENTICATOR_BYTES
    end = len(codec.encode_message(codec.HintsSent(0)))
    one = len(codec.encode_message(hint))
    batch = (codec.MESSAGES_BYTES_MAXIMUM - end) // one
    report = HandoverReport(claim.mac, 1, 0.001, 0.002, 1.5, 0.001)
    question = DadMessage(DadKind.SOLICITATION, ADDRESSES[0], claim.mac, b"nonce!")
    said = len(codec.encode_message(codec.DadRelayed(1, question)))
    full = codec.MESSAGES_BYTES_MAXIMUM // said
    sizes = {
        "claim": around + len(codec.encode_message(claim)),
        "answer, nothing to add": around + len(codec.encode_message(attrs.evolve(accepted(claim), addresses=()))),
        "answer with 3 addresses": around + len(codec.encode_message(accepted(claim))),
        "hint alone": around + one + end,
        "hint in a full batch": (around + batch * one + end) / batch,
        "acknowledgement of hints": around + end,
        "report": around + len(codec.encode_message(report)),
        "message of DAD": around + said,
        "message of DAD in a full datagram": (around + full * said) / full,
        "acknowledgement of one": around + len(codec.encode_message(codec.DadTaken((1,)))),
    }
    note = "host of 3 IPv6 addresses; IPv6, UDP and seal included"
    return [Figure(f"peers: bytes of a {kind}", size, "B", None, note=note) for kind, size in sizes.items()]


def refusals() -> list[Figure]:
    """What a datagram costs that is thrown away: the share of a flood that is read at all."""
    first, second = stand()
    ((_, replayed),) = first.send_claim(claim_of(1, FIRST), 100.0).datagrams
    second.receive(replayed, FIRST, 100.0)
    noise = os.urandom(100)
    kinds = {
        "stranger's": (noise, IPv6Address("fd66::1")),
        "forged hello": (b"rr\1\1" + noise, FIRST),
        "forged seal": (b"rr\1\2" + noise, FIRST),
        "replay": (replayed, FIRST),
    }
    figures = []
    for kind, (datagram, source) in kinds.items():
        started = time.perf_counter()
        for _ in range(MESSAGES // 4):
            second.receive(datagram, source, 100.0)
        spent = (time.perf_counter() - started) / (MESSAGES // 4)
        figures.append(Figure(f"peers: a refused datagram, {kind}", spent * 1e6, "µs", 100, note="no sockets"))
    return figures


def core() -> Figure:
    """Seal a claim, open it, answer, open the answer: without sockets."""
    first, second = stand()
    claim = claim_of(1, FIRST)
    now = 100.0
    started = time.perf_counter()
    for _ in range(MESSAGES // 4):
        ((_, datagram),) = first.send_claim(claim, now).datagrams
        second.receive(datagram, FIRST, now)
        ((_, datagram),) = second.send_answer(FIRST, accepted(claim), now).datagrams
        first.receive(datagram, SECOND, now)
    spent = (time.perf_counter() - started) / (MESSAGES // 4)
    return Figure("peers: both ends' work for a claim and its answer", spent * 1e6, "µs", 1000, note="no sockets")


FIRST, SECOND = IPv6Address("fd44::a:1"), IPv6Address("fd44::a:2")


def stand() -> tuple[Exchange, Exchange]:
    """Two exchanges with a session between them."""
    first, second = Exchange(FIRST, (KEY,), os.urandom), Exchange(SECOND, (KEY,), os.urandom)
    ends: dict[PeerId, Exchange] = {FIRST: first, SECOND: second}
    waiting: list[tuple[PeerId, PeerId, bytes]] = [(FIRST, *sent) for sent in first.set_peers([SECOND], 0.0).datagrams]
    waiting += [(SECOND, *sent) for sent in second.set_peers([FIRST], 0.0).datagrams]
    while waiting:
        source, destination, datagram = waiting.pop(0)
        outcome = ends[destination].receive(datagram, source, 0.01)
        waiting += [(destination, *sent) for sent in outcome.datagrams]
    assert first.status()[0].is_up
    return first, second


def memory() -> Figure:
    """A session with each of 255 peers, as seen by one access point."""
    peers = [IPv6Address(int(FIRST) + number) for number in range(1, SESSIONS + 1)]
    others: dict[PeerId, Exchange] = {peer: Exchange(peer, (KEY,), os.urandom) for peer in peers}
    for other in others.values():
        other.set_peers([FIRST], 0.0)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    ours = Exchange(FIRST, (KEY,), os.urandom)
    waiting = list(ours.set_peers(peers, 0.0).datagrams)
    while waiting:
        peer, datagram = waiting.pop()
        for _, reply in others[peer].receive(datagram, FIRST, 0.01).datagrams:
            waiting += ours.receive(reply, peer, 0.01).datagrams
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert all(peer.is_up for peer in ours.status())
    return Figure("peers: memory per session", grown / SESSIONS / 1024, "KiB", 8, note="with 255 peers")


def imports() -> list[Figure]:
    """What the library adds to a process that has asyncio and attrs; cryptography is what was not chosen."""
    library = "from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt"
    other = "from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305"
    figures = []
    for name, statement, bars in (("PyNaCl", library, (4.0, 20.0)), ("cryptography", other, (None, None))):
        starts = [start for start in (start_with(statement) for _ in range(STARTS)) if start is not None]
        if not starts:
            continue
        note = "" if bars[0] is not None else "not used: for comparison"
        resident, spent = ([start[which] for start in starts] for which in (0, 1))
        figures.append(
            Figure(f"peers: resident memory of {name}", statistics.median(resident), "MiB", bars[0], note=note)
        )
        figures.append(Figure(f"peers: import of {name}", statistics.median(spent), "ms", bars[1], note=note))
    return figures


def start_with(statement: str) -> tuple[float, float] | None:
    """MiB and ms that the import adds to a fresh process; None where it is not installed."""
    program = f"""
import asyncio, time
import attrs
def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024
before, started = resident(), time.perf_counter()
{statement}
print(resident() - before, (time.perf_counter() - started) * 1000)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    resident, spent = done.stdout.split()
    return float(resident), float(spent)
