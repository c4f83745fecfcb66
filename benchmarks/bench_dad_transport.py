"""Is a duplicate found in time? Plain, repeated and acknowledged UDP between two access points. docs/peers-protocol.md.

A host asks once and waits RetransTimer. Its question goes from its access point to the owner's, and the answer back;
each datagram may be lost, acknowledgements too. The simulation drives the channel's own `Exchange`, seals and all, with
a clock of its own; a run over real UDP, with nftables losing datagrams in a namespace, must agree with it.

`ROAMROUTE_BENCH_TRIALS` sets the trials of each simulated case (100,000; a fifth of it for the longer round trips),
`ROAMROUTE_BENCH_DAD` picks parts: "simulation real".
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import os
import random
import sys
from collections.abc import Iterator
from ipaddress import IPv6Address
from unittest import mock

import attrs

from benchmarks.figure import Figure
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.peers import DEFAULT_PORT, PeerChannel, relays
from roamroute.peers.codec import OURS, Capability
from roamroute.peers.exchange import Exchange, Outcome
from roamroute.peers.relays import Reliability
from roamroute.values import DadKind, DadMessage, Mac, PeerId

KEY = bytes(range(32))
ASKING, OWNING = IPv6Address("fd44::a:1"), IPv6Address("fd44::a:2")
QUESTION = DadMessage(DadKind.SOLICITATION, IPv6Address("fd44:0:0:1::25"), Mac("02:00:5e:44:00:01"), b"nonce!")
ANSWER = DadMessage(DadKind.ADVERTISEMENT, QUESTION.target, Mac("02:00:5e:44:00:02"))

RETRANS_TIMER_S = 1.0
AIR_S = 0.02
"""Of the second: the question and its copy at the owner's, the owner's answer and its copy at the asking host's."""
LOSSES_PERCENT = (0, 5, 20, 40)
ROUND_TRIPS_S = (0.01, 0.05, 0.1)
TRIALS = int(os.environ.get("ROAMROUTE_BENCH_TRIALS", "100000"))
HEADERS_BYTES = 40 + 8
REAL_TRIALS = 1000
REAL_PAUSES_S = (0.004, 0.012)
"""Apart, so that few share a datagram: their fates would hang together."""
MISSED_PERCENT = 0.1
"""Three of 3,000."""


@attrs.frozen
class Transport:
    """One of those that are compared."""

    name: str
    reliability: Reliability
    copies: int = 1

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Let `Reliability.REPEATED` mean so many copies."""
        with mock.patch.object(relays, "REPEATED_COPIES", self.copies):
            yield


TRANSPORTS = (
    Transport("plain", Reliability.PLAIN),
    Transport("repeated, 3 copies", Reliability.REPEATED, 3),
    Transport("repeated, 5 copies", Reliability.REPEATED, 5),
    Transport("acknowledged", Reliability.ACKNOWLEDGED),
)


@attrs.define
class Tally:
    """What came of a number of questions whose address had an owner."""

    trials: int = 0
    times_s: list[float] = attrs.field(factory=list)
    """From the question at its access point until the answer is there, of those that got one."""
    datagrams: int = 0
    octets: int = 0

    def found_within(self, seconds: float) -> float:
        """Percent."""
        return 100.0 * sum(time <= seconds for time in self.times_s) / self.trials

    @property
    def found(self) -> float:
        """Percent, in time."""
        return self.found_within(RETRANS_TIMER_S - AIR_S)

    def time_of(self, percent: float) -> float:
        """Seconds until so many are found; infinite where so many never are."""
        position = math.ceil(self.trials * percent / 100) - 1
        return sorted(self.times_s)[position] if position < len(self.times_s) else math.inf

    def __str__(self) -> str:
        within = " ".join(f"{self.found_within(seconds - AIR_S):9.4f}" for seconds in (0.25, 0.5, 1.0, 2.0))
        return (
            f"{within}   99 % {self.time_of(99) * 1000:6.0f} ms   99.9 % {self.time_of(99.9) * 1000:6.0f} ms   "
            f"{self.datagrams / self.trials:5.2f} datagrams"
            + (f" {self.octets / self.trials:5.0f} B" if self.octets else "")
        )


def run() -> list[Figure]:
    """About 15 minutes with 100,000 trials."""
    parts = os.environ.get("ROAMROUTE_BENCH_DAD", "simulation real").split()
    figures: list[Figure] = []
    if "simulation" in parts:
        figures += simulated()
    if "real" in parts:
        figures += real()
    return figures


def simulated() -> Iterator[Figure]:
    """All combinations."""
    for round_trip_s in ROUND_TRIPS_S:
        trials = TRIALS if round_trip_s == ROUND_TRIPS_S[0] else TRIALS // 5
        for transport in TRANSPORTS:
            for loss in LOSSES_PERCENT:
                with transport.in_force():
                    tally = Simulation(transport.reliability, loss / 100, round_trip_s, seed=loss).ask(trials)
                place = f"{round_trip_s * 1000:g} ms round trip, {loss} % lost, {transport.name}"
                print(f"{place:<55} {tally}", file=sys.stderr, flush=True)
                is_chosen = transport.reliability is Reliability.ACKNOWLEDGED
                bar = 100 - MISSED_PERCENT if is_chosen and loss <= 20 else None
                yield Figure(f"DAD transport: found in 1 s, {place}", tally.found, "%", bar, "at least")
                if round_trip_s == ROUND_TRIPS_S[0]:
                    octets = tally.octets / tally.trials
                    yield Figure(f"DAD transport: octets per duplicate found out, {place}", octets, "B")


class Simulation:
    """Two exchanges with a network between them that delays and loses; one question after the other."""

    def __init__(self, reliability: Reliability, loss: float, round_trip_s: float, seed: int) -> None:
        self._chance = random.Random(seed)
        self._loss, self._delay_s = 0.0, round_trip_s / 2
        self._now = 0.0
        self._wire: list[tuple[float, int, PeerId, PeerId, bytes]] = []
        self._serial = 0
        self._tally = Tally()
        self._asked: float | None = None
        self._period_s = 2.5 * RETRANS_TIMER_S if reliability is Reliability.ACKNOWLEDGED else 0.5
        """Longer than anything is repeated, and short enough that nobody pings."""
        self._ends: dict[PeerId, Exchange] = {
            address: Exchange(address, (KEY,), self._chance.randbytes, OURS | Capability.DAD, reliability)
            for address in (ASKING, OWNING)
        }
        for address, end in self._ends.items():
            self._perform(address, end.set_peers((ASKING, OWNING), self._now))
        self._run_until(5.0)
        assert all(end.status()[0].is_up for end in self._ends.values())
        self._loss = loss

    def ask(self, trials: int) -> Tally:
        """Ask so often, each time when the last question is over."""
        self._tally = Tally(trials)
        for _ in range(trials):
            self._asked = self._now
            self._perform(ASKING, self._ends[ASKING].relay_dad([(QUESTION, None)], self._now))
            self._run_until(self._now + self._period_s)
        return self._tally

    def _run_until(self, end: float) -> None:
        while True:
            due, address = min((self._due(end), address) for address, end in self._ends.items())
            if self._wire and self._wire[0][0] <= due:
                if self._wire[0][0] > end:
                    break
                arrival, _, source, destination, datagram = heapq.heappop(self._wire)
                self._now = max(self._now, arrival)
                self._perform(destination, self._ends[destination].receive(datagram, source, self._now))
            elif due <= end:
                self._now = max(self._now, due)
                self._perform(address, self._ends[address].tick(self._now))
            else:
                break
        self._now = end

    @staticmethod
    def _due(end: Exchange) -> float:
        due = end.next_wakeup
        return math.inf if due is None else due

    def _perform(self, address: PeerId, outcome: Outcome) -> None:
        for peer, datagram in outcome.datagrams:
            self._tally.datagrams += 1
            self._tally.octets += len(datagram) + HEADERS_BYTES
            if self._chance.random() >= self._loss:
                self._serial += 1
                delay = self._delay_s * (0.8 + 0.4 * self._chance.random())
                heapq.heappush(self._wire, (self._now + delay, self._serial, address, peer, datagram))
        for _, message in outcome.said:
            if message.kind is DadKind.SOLICITATION:
                self._perform(address, self._ends[address].relay_dad([(ANSWER, None)], self._now))
            elif self._asked is not None:
                self._tally.times_s.append(self._now - self._asked)
                self._asked = None


def real() -> Iterator[Figure]:
    """The channels' sockets on a loopback that loses datagrams, beside the simulation of the same."""
    with Sandbox() as sandbox:
        namespace = sandbox.namespace("mesh")
        namespace.ip(*(f"addr add {address}/128 dev lo nodad" for address in (ASKING, OWNING)))
        namespace.run("nft", "add table inet loss")
        namespace.run("nft", "add chain inet loss input { type filter hook input priority 0; }")
        for transport in TRANSPORTS:
            for loss in LOSSES_PERCENT:
                with transport.in_force(), namespace.entered():
                    tally = asyncio.run(_ask_for_real(namespace, transport.reliability, loss))
                    expected = Simulation(transport.reliability, loss / 100, 0.0005, seed=loss).ask(20_000).found
                place = f"real UDP, {loss} % lost, {transport.name}"
                print(f"{place:<55} {tally}   simulated {expected:.3f}", file=sys.stderr, flush=True)
                spread = 100 * math.sqrt(max(expected * (100 - expected), 10.0) / 1e4 / tally.trials)
                yield Figure(
                    f"DAD transport: found in 1 s, {place}", tally.found, "%", note=f"simulated {expected:.3f}"
                )
                off = abs(tally.found - expected) / spread
                yield Figure(f"DAD transport: {place}: off the simulation", off, "deviations", 4.0)


async def _ask_for_real(namespace: Namespace, reliability: Reliability, loss: int) -> Tally:
    """Ask every few milliseconds, each time for another address."""
    tally = Tally(REAL_TRIALS)
    asked: dict[IPv6Address, float] = {}
    loop = asyncio.get_running_loop()
    chance = random.Random(loss)

    def answer(peer: PeerId, message: DadMessage) -> None:
        owning.relay_dad(attrs.evolve(ANSWER, target=message.target), [peer])

    def note(peer: PeerId, message: DadMessage) -> None:
        assert isinstance(message.target, IPv6Address)
        tally.times_s.append(loop.time() - asked.pop(message.target))

    asking, owning = (
        PeerChannel(
            address,
            DEFAULT_PORT,
            (KEY,),
            (ASKING, OWNING),
            lambda event: None,
            lambda level, line: None,
            dad_told=told,
            reliability=reliability,
        )
        for address, told in ((ASKING, note), (OWNING, answer))
    )
    running = [asyncio.create_task(channel.run()) for channel in (asking, owning)]
    await asyncio.sleep(1.0)
    assert asking.status().peers[0].is_up
    before = _sent(asking, owning)
    if loss:
        rule = f"add rule inet loss input udp dport {DEFAULT_PORT} numgen random mod 1000 < {loss * 10} drop"
        namespace.run("nft", rule)
    for number in range(REAL_TRIALS):
        target = IPv6Address(int(QUESTION.target) + number)
        asked[target] = loop.time()
        asking.relay_dad(attrs.evolve(QUESTION, target=target), None)
        await asyncio.sleep(chance.uniform(*REAL_PAUSES_S))
    await asyncio.sleep(2.5 * RETRANS_TIMER_S)
    tally.datagrams = _sent(asking, owning) - before
    namespace.run("nft", "flush chain inet loss input")
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return tally


def _sent(*channels: PeerChannel) -> int:
    return sum(channel.status().counters["datagrams_sent"] for channel in channels)
