"""The DAD proxy between two access points, 200 clients of each, by what the clients' own kernels find.

    make bench NAMES=dad

The clients of an access point do not hear each other. A collision is found when the kernel of the client that asks says
"dadfailed"; one that is missed is an address that two clients use. All ask at once, by their kernels: some after the
random delay of up to a second that RFC 4862 §5.4.2 demands and Linux keeps to ("spread"), some without it: 200
solicitations in some 10 ms ("burst").

- collisions: 200 clients of the first access point ask for the addresses of 200 clients of the second, which keep them
- the same while each message between the access points is lost with a probability of 20 %, in either direction
- delay: from the solicitation as it enters the first access point to that which leaves the second, and from the owner's
  advertisement as it enters the second to that which leaves the first, by the kernel's stamps on the four frames
- roams: 50 clients go to the other access point and repeat DAD for the address that they have had, 20 times over

Rounds begin `PERIOD_S` after each other: a found duplicate takes milliseconds, and 200 clients that came back at once
would be the flood that the proxy's limits are for (roamroute/dad/limits.py).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from integration.dad_clients import Client, ask, forget, own_addresses
from integration.dad_stopwatch import Stopwatch
from integration.dad_world import PROGRAMS, DadWorld, world_running

from benchmarks.figure import Figure
from roamroute.lab.namespaces import Sandbox

CLIENTS = int(os.environ.get("ROAMROUTE_BENCH_CLIENTS", "200"))
QUIET_ROUNDS = int(os.environ.get("ROAMROUTE_BENCH_ROUNDS", "15"))
LOSSY_ROUNDS = 15
LOSS_PERCENT = 20
MISSED_OF_3000 = 3.0
DELAY_BAR_MS = 5.0
SINGLE_ASKS = 200
PERIOD_S = 2.5
ROAMERS = 50
ROAMS = int(os.environ.get("ROAMROUTE_BENCH_ROAMS", "1000"))
MODES = ("all", "targeted")
LIMITS = {
    # As `roamroute config sysctl` prints them for as many; 400 clients have some 800 entries at once.
    "net/ipv6/neigh/default/gc_thresh3": 16384,
    "net/ipv6/neigh/default/gc_thresh2": 8192,
    "net/ipv6/neigh/default/gc_thresh1": 4096,
    # An advertisement to all nodes is 200 frames here, those of 200 DADs at once 40,000: what exceeds 1000 is dropped.
    "net/core/netdev_max_backlog": 100_000,
}


class Scene:
    """Two access points, of which the second has the owners."""

    def __init__(self, world: DadWorld, mode: str) -> None:
        self.world = world
        self.mode = mode
        self.here = world.add_cell("here", (0, "wlan0"))
        self.there = world.add_cell("there", (1, "wlan0"))
        self.stopwatch = Stopwatch(self.here, self.there)

    def populate(self) -> None:
        # Behind one port: with a port for each a multicast frame would be 200, at the cost of the daemon that sends it.
        self.owners = self.world.owners(self.there, CLIENTS, wiring="trunk")
        self.askers = self.world.crowd(self.here, CLIENTS, wiring="trunk")
        self.world.wait_known(self.here.access_point, own_addresses(self.owners))

    def delay_asking(self, is_delayed: bool) -> None:
        """Let the clients' kernels wait for a random part of a second before they solicit, or not."""
        namespace = self.askers[0].namespace
        name = "router_solicitation_delay"  # used for DAD as well (addrconf_dad_kick, net/ipv6/addrconf.c)
        namespace.sysctl({f"net.ipv6.conf.{asker.link}.{name}": int(is_delayed) for asker in self.askers})

    @property
    def collisions(self) -> dict[Client, object]:
        """Who asks for whose address."""
        return {asker: owner.address for asker, owner in zip(self.askers, self.owners, strict=True)}

    def asked(self, rounds: int) -> Iterator[Counter[str]]:
        """Let all ask at once, again and again: how many ended how, of each round."""
        for number in range(rounds):
            began, lost = time.monotonic(), lost_by_kernel()
            found = Counter[str](ask(self.collisions).values())
            if lost_by_kernel() != lost:
                raise RuntimeError(f"the kernel was too small for this, or not ours alone: {lost}, {lost_by_kernel()}")
            forget(self.collisions)
            print(f"mode {self.mode}, round {number}: {dict(found)}", file=sys.stderr)
            time.sleep(max(0.0, began + PERIOD_S - time.monotonic()))
            yield found


def run() -> list[Figure]:
    """Two access points with 200 clients each, in both modes of the proxy."""
    with room():
        return [figure for mode in MODES for figure in in_mode(mode)]


def in_mode(mode: str) -> list[Figure]:
    with Sandbox(programs=PROGRAMS) as sandbox:
        scene = Scene(DadWorld(sandbox, changes={"dad": {"mode": mode}}), mode)
        with world_running(scene.world):
            scene.populate()
            figures = single_delays(scene)
            figures += collisions(scene, "spread", DELAY_BAR_MS)
            figures += collisions(scene, "burst", None)
            figures += lossy_collisions(scene, "spread")
            figures += lossy_collisions(scene, "burst")
            for enhanced_dad in (1, 0):
                figures += roams(scene, enhanced_dad)
            figures += owners_left(scene)
            figures += processor(scene)
            return figures


def single_delays(scene: Scene) -> list[Figure]:
    """One asks after the other: what the proxy adds to a DAD that has the access points to itself."""
    scene.stopwatch.read_ms()
    missed = 0
    for asker, address in itertools.islice(itertools.cycle(scene.collisions.items()), SINGLE_ASKS):
        missed += ask({asker: address})[asker] != "duplicate"
        forget({asker: address})
    name = f"mode {scene.mode}, one DAD after the other"
    return [Figure(f"{name}, missed of {SINGLE_ASKS}", missed, "", bar=0), *delays(scene, name, DELAY_BAR_MS)]


def delays(scene: Scene, what: str, bar_ms: float | None) -> list[Figure]:
    """The figures of what the stopwatch has seen, and begin anew."""
    figures = []
    for name, samples in zip(("NS to the owner", "NA to the client"), scene.stopwatch.read_ms(), strict=True):
        title = f"{what}, {name}"
        if not samples:
            figures.append(Figure(f"{title}, seen", 0, "", bar=1, comparison="at least"))
            continue
        spread = f"p95 {quantile(samples, 0.95):.3g}, max {max(samples):.3g} ms, {len(samples)} frames"
        figures.append(
            Figure(f"{title}, median", statistics.median(samples), "ms", bar=bar_ms, note=spread, samples=samples)
        )
    return figures


def collisions(scene: Scene, how: str, bar_ms: float | None) -> list[Figure]:
    """`how`: "spread" or "burst"."""
    scene.delay_asking(how == "spread")
    scene.stopwatch.read_ms()
    missed = [float(CLIENTS - found["duplicate"]) for found in scene.asked(QUIET_ROUNDS)]
    name = f"mode {scene.mode}, {CLIENTS} DADs at once ({how})"
    total = CLIENTS * QUIET_ROUNDS
    return [Figure(f"{name}, missed of {total}", sum(missed), "", bar=0, samples=missed), *delays(scene, name, bar_ms)]


def lossy_collisions(scene: Scene, how: str) -> list[Figure]:
    scene.delay_asking(how == "spread")
    with scene.world.losing(LOSS_PERCENT):
        missed = [float(CLIENTS - found["duplicate"]) for found in scene.asked(LOSSY_ROUNDS)]
    total = CLIENTS * LOSSY_ROUNDS
    name = f"mode {scene.mode}, {CLIENTS} DADs at once ({how}), {LOSS_PERCENT} % loss, missed of {total}"
    return [Figure(name, sum(missed), "", bar=MISSED_OF_3000 * total / 3000, samples=missed)]


def roams(scene: Scene, enhanced_dad: int) -> list[Figure]:
    """Clients that take the address along and ask for it again, as after an association."""
    world = scene.world
    clients = world.owners(scene.here, ROAMERS, settings={"enhanced_dad": enhanced_dad})
    wanted = own_addresses(clients)
    false = 0
    for number in range(ROAMS // ROAMERS):
        forget(wanted)
        world.move(clients, (scene.there, scene.here)[number % 2])
        found = ask(wanted)
        false += sum(state != "usable" for state in found.values())
    world.take_away(clients)
    kind = "RFC 7527" if enhanced_dad else "no RFC 7527"
    return [Figure(f"mode {scene.mode}, {ROAMS} roams with DAD ({kind}), false collisions", false, "", bar=0)]


def owners_left(scene: Scene) -> list[Figure]:
    """Nobody who has an address may lose it to who asks for it."""
    left = sum(owner.state(owner.address) == "usable" for owner in scene.owners)
    name = f"mode {scene.mode}, owners that still use their address"
    return [Figure(name, left, "", bar=CLIENTS, comparison="at least")]


def processor(scene: Scene) -> list[Figure]:
    """Reported only: what the whole run has cost."""
    spent = [scene.world.processor_s(access_point) for access_point in scene.world.access_points]
    return [Figure(f"mode {scene.mode}, processor time of an access point's daemon", max(spent), "s", samples=spent)]


def lost_by_kernel() -> tuple[int, int]:
    """Frames that had no room on this machine: in the receive queues, for want of an entry in the neighbour table."""
    queues = [line.split() for line in Path("/proc/net/softnet_stat").read_text().splitlines()]
    table = Path("/proc/net/stat/ndisc_cache").read_text().splitlines()
    column = table[0].split().index("table_fulls")
    return sum(int(words[1], 16) for words in queues), sum(int(line.split()[column], 16) for line in table[1:])


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that is not less than this share of them."""
    return sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


@contextlib.contextmanager
def room() -> Iterator[None]:
    """What counts for the whole machine, and is restored: here one kernel is 400 clients and two access points."""
    files = {Path("/proc/sys", name): value for name, value in LIMITS.items()}
    saved = {path: path.read_text() for path in files}
    try:
        for path, value in files.items():
            path.write_text(str(value))
        yield
    finally:
        for path, text in saved.items():
            path.write_text(text)
