"""The engine alone: no kernel, no socket, no clock. What one event costs, and what one host weighs."""

from __future__ import annotations

import gc
import random
import statistics
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address, ip_network

from benchmarks.figure import Figure
from roamroute import events
from roamroute.admission import Admission
from roamroute.effects import Probe, SendClaim
from roamroute.engine import Engine
from roamroute.policy import Handover, Policy
from roamroute.segments import segments_of
from roamroute.values import Address, Answer, Basis, Claim, Hint, Mac, Neighbour, Nud, PeerId, Station, Verdict

PREFIX = ip_network("fd44:0:0:1::/64")
LINK = "wlan0"
ME: PeerId = IPv6Address("fd44:0:0:a::1")
PEERS: tuple[PeerId, ...] = tuple(IPv6Address(0xFD4400000000000A << 64 | number) for number in (2, 3, 4))
HOSTS, ADDRESSES = 1000, 3
EVENTS = 60_000
_DEFAULT_HANDOVER = Handover()
BATCH = 200  # events whose time is taken together: a clock reading costs 0.1 µs, so it does not colour the figure


def mac(number: int) -> Mac:
    """The MAC of a host."""
    return Mac(f"02:00:5e:44:{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}")


def addresses(number: int) -> tuple[Address, ...]:
    """The addresses of a host: spread over the prefix as SLAAC does."""
    spread = random.Random(number)
    return tuple(PREFIX[spread.getrandbits(64)] for _ in range(ADDRESSES))


def full_engine(hosts: int = HOSTS, handover: Handover = _DEFAULT_HANDOVER) -> Engine:
    """An engine whose hosts are associated, confirmed and announced."""
    engine = Engine(Admission((LINK,), (PREFIX,)), Policy(), me=ME, handover=handover)
    engine.handle(events.NeighboursResynced(frozenset({LINK}), ()), 0.0)
    for number in range(hosts):
        engine.handle(events.StationConnected(Station(mac(number), LINK)), 0.0)
        for address in addresses(number):
            engine.handle(neighbour(number, address, Nud.REACHABLE), 0.0)
    for peer in PEERS:
        engine.handle(events.PeerJoined(peer), 0.0)
    return engine


def neighbour(number: int, address: Address, nud: Nud) -> events.NeighbourChanged:
    """What the kernel says of an address of the host."""
    return events.NeighbourChanged(Neighbour(LINK, address, nud, None if nud is Nud.FAILED else mac(number)))


def daily_life(count: int) -> Iterator[events.Event]:
    """The mixture of an access point at work: NUD going round, hosts that come, go, and are claimed by peers."""
    chance = random.Random(44)
    hosts = [(number, addresses(number)) for number in range(HOSTS)]
    produced = 0
    sequence = 10
    while produced < count:
        number, own = chance.choice(hosts)
        address = chance.choice(own)
        draw = chance.random()
        came: list[events.Event]
        if draw < 0.80:  # a reachable time ends; the host is probed and answers
            came = [neighbour(number, address, nud) for nud in (Nud.STALE, Nud.PROBE, Nud.REACHABLE)]
        elif draw < 0.88:  # it roams to a peer
            sequence += 1
            came = [events.HostClaimed(Claim(mac(number), sequence, chance.choice(PEERS), Basis.ASSOCIATION, own[:1]))]
        elif draw < 0.97:  # it comes (back)
            came = [events.StationConnected(Station(mac(number), LINK))]
            came += [neighbour(number, each, nud) for each in own for nud in (Nud.PROBE, Nud.REACHABLE)]
        elif draw < 0.99:  # it says good-bye
            came = [events.StationLeft(Station(mac(number), LINK))]
        else:
            came = [events.AddressSeen(LINK, mac(number), address)]
        produced += len(came)
        yield from came


def cost_of_events() -> tuple[list[float], int]:
    """Microseconds of processor time per event, of each batch; ticks and the peers' answers are part of it."""
    engine = full_engine()
    life = list(daily_life(EVENTS))
    samples: list[float] = []
    now = 100.0
    handled = 0
    gc.collect()
    while handled < len(life):
        batch = life[handled : handled + BATCH]
        answers: list[events.Event] = []
        count = 0
        began = time.process_time()
        for event in batch:
            now += 0.002  # 500 events a second
            due = engine.next_wakeup
            if due is not None and due <= now:
                engine.tick(now)
            for effect in engine.handle(event, now):
                if isinstance(effect, SendClaim):
                    claim = effect.claim
                    answer = Answer(claim.mac, claim.sequence, Verdict.ACCEPTED, claim.sequence, ME)
                    answers += [events.ClaimAnswered(peer, answer) for peer in PEERS]
        for answer_event in answers:
            engine.handle(answer_event, now)
        count = len(batch) + len(answers)
        samples.append((time.process_time() - began) / count * 1e6)
        handled += len(batch)
    return samples, len(engine.wanted)


def cost_of_arrivals(hosts: int = 5000) -> list[float]:
    """Microseconds for each association of a hinted host with three addresses: announced, claimed, shared, probed."""
    handover = Handover(segments=segments_of(ME, (PREFIX,)))
    engine = Engine(Admission((LINK,), (PREFIX,)), Policy(), me=ME, handover=handover)
    engine.handle(events.NeighboursResynced(frozenset({LINK}), ()), 0.0)
    for peer in PEERS:
        engine.handle(events.PeerJoined(peer), 0.0)
    for number in range(hosts):
        hint = Hint(mac(number), 7, PEERS[number % 3], addresses(number))
        engine.handle(events.HostHinted(hint), 0.0)
    arrivals = [events.StationConnected(Station(mac(number), LINK)) for number in range(hosts)]
    samples = _each(engine, arrivals)
    assert len(engine.wanted) == hosts * ADDRESSES
    return samples


def cost_of_departures(hosts: int = HOSTS) -> list[float]:
    """Microseconds for each claim of a peer for a host with three addresses: sent on, forgotten, answered."""
    handover = Handover(segments=segments_of(ME, (PREFIX,)))
    engine = full_engine(hosts, handover)
    claims = [
        events.HostClaimed(
            Claim(mac(number), 100, PEERS[0], Basis.ASSOCIATION, addresses(number), segments_of(PEERS[0], (PREFIX,)))
        )
        for number in range(hosts)
    ]
    samples = _each(engine, claims)
    assert len(engine.forwards) == hosts * ADDRESSES
    return samples


def _each(engine: Engine, came: Sequence[events.Event]) -> list[float]:
    samples: list[float] = []
    gc.collect()
    for number, event in enumerate(came):
        now = 10.0 + number * 1e-4  # no probe fails meanwhile
        began = time.perf_counter()
        engine.handle(event, now)
        samples.append((time.perf_counter() - began) * 1e6)
        due = engine.next_wakeup
        if due is not None and due <= now:
            engine.tick(now)
    return sorted(samples)


def cost_of_resync(count: int) -> float:
    """Milliseconds for the first resynchronisation with so many neighbours."""
    neighbours = tuple(
        Neighbour(LINK, address, Nud.STALE, mac(number))
        for number in range(count // ADDRESSES)
        for address in addresses(number)
    )
    engine = Engine(Admission((LINK,), (PREFIX,)), Policy(), me=ME)
    began = time.process_time()
    engine.handle(events.NeighboursResynced(frozenset({LINK}), neighbours), 0.0)
    taken = (time.process_time() - began) * 1e3
    assert len(engine.wanted) == len(neighbours)
    return taken


def weight_of_a_host() -> tuple[float, float]:
    """Bytes per host with three addresses that is here, and per host that is only remembered."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    engine = full_engine()
    gc.collect()
    here = (tracemalloc.get_traced_memory()[0] - before) / HOSTS
    for number in range(HOSTS):
        engine.handle(events.StationLeft(Station(mac(number), LINK)), 1.0)
    gc.collect()
    remembered = (tracemalloc.get_traced_memory()[0] - before) / HOSTS
    tracemalloc.stop()
    return here, remembered


def probes_at_rest() -> float:
    """Routine probes per second of 3,000 addresses that always answer, at the default schedule."""
    engine = full_engine()
    asked = 0
    chance = random.Random(1)
    owners = {address: number for number in range(HOSTS) for address in addresses(number)}
    kernel: list[tuple[float, Address]] = [(chance.uniform(0, 45), address) for address in owners]
    kernel.sort()
    now, end = 1.0, 300.0
    while now < end:
        now += 0.5
        due = [address for when, address in kernel if when <= now]
        kernel = [row for row in kernel if row[0] > now]
        for address in due:
            engine.handle(neighbour(owners[address], address, Nud.STALE), now)
        for effect in engine.tick(now):
            if isinstance(effect, Probe):
                asked += 1
                for nud in (Nud.PROBE, Nud.REACHABLE):
                    engine.handle(neighbour(owners[effect.address], effect.address, nud), now)
                kernel.append((now + chance.uniform(15, 45), effect.address))
    return asked / end


def run() -> list[Figure]:
    """Time the engine over a mixture of events with 3,000 addresses, and weigh it."""
    samples, wanted = cost_of_events()
    here, remembered = weight_of_a_host()
    ordered = sorted(samples)
    arrivals, departures = cost_of_arrivals(), cost_of_departures()
    mixture = f"80 % NUD, 17 % roams, {wanted} of {HOSTS * ADDRESSES} routes wanted at the end"
    return [
        Figure("engine, one event, mean", statistics.fmean(samples), "µs", 20, note=mixture, samples=tuple(samples)),
        Figure("engine, one event, median", ordered[len(ordered) // 2], "µs", 20),
        Figure("engine, one event, p99 of batches of 200", ordered[int(len(ordered) * 0.99)], "µs"),
        Figure(
            "engine, first resynchronisation, 5,000 neighbours", cost_of_resync(5000), "ms", note="all: at most 1 s"
        ),
        Figure("engine, association of a hinted host, median", arrivals[len(arrivals) // 2], "µs", note="3 addresses"),
        Figure("engine, association of a hinted host, p99", arrivals[int(len(arrivals) * 0.99)], "µs"),
        Figure("engine, loss to a peer's claim, median", departures[len(departures) // 2], "µs", note="3 addresses"),
        Figure("engine, loss to a peer's claim, p99", departures[int(len(departures) * 0.99)], "µs"),
        Figure("engine, host with 3 addresses, here", here / 1024, "KiB"),
        Figure("engine, host with 3 addresses, remembered", remembered / 1024, "KiB"),
        Figure("engine, routine probes of 3,000 addresses", probes_at_rest(), "per s", note="budget 100 per s"),
    ]


if __name__ == "__main__":
    for figure in run():
        print(f"{figure.name}: {figure.value:.2f} {figure.unit} (bar {figure.bar})")
