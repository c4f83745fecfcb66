"""The peers' channel: what a claim costs in time, a session in memory, and the cryptographic library at import."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from ipaddress import IPv4Address, IPv6Address

from benchmarks.figure import Figure
from roamroute.effects import SendAnswer, SendClaim
from roamroute.events import ClaimAnswered, Event, HostClaimed
from roamroute.peers import PeerChannel
from roamroute.peers.exchange import Exchange
from roamroute.values import Answer, Basis, Claim, Mac, PeerId, Verdict

KEY = bytes(range(32))
ADDRESSES = tuple(IPv6Address((0xFD44 << 112) + number) for number in range(3))
PORT = 45440
ROUND_TRIPS = 500
MESSAGES = 20_000
SESSIONS = 255
STARTS = 7


def run() -> list[Figure]:
    """All figures; about 10 s."""
    return [*round_trips(), core(), memory(), *imports()]


def claim_of(number: int, peer: PeerId) -> Claim:
    """A claim for a host with three addresses."""
    station = Mac(f"02:00:5e:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}")
    return Claim(station, 1, peer, Basis.ASSOCIATION, ADDRESSES)


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
