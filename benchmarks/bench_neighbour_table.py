"""10,000 addresses of 2,000 stations on one access point, of which nine in ten sleep, for an hour.

Twice: the engine with a neighbour table in virtual time, and roamroute with the kernel's table at a tenth of life's
times, so that six minutes are the hour. Nobody sends anything: an address is known to live by its answers only, the
worst case. Some die without a word. `ROAMROUTE_BENCH_SECONDS` shortens the second part.
"""

from __future__ import annotations

import datetime
import os
import time

from sleeping_stations import SleepingWorld, table_limits

from benchmarks.bench_daemon import processor_s, resident_mib
from benchmarks.figure import Figure
from roamroute.lab.namespaces import Sandbox
from roamroute.policy import Policy
from roamroute.testing.sleepers import Night

STATIONS, EACH, AWAKE = 2000, 5, 200
ADDRESSES = STATIONS * EACH
SCALE = 10.0
MEASURED_S = float(os.environ.get("ROAMROUTE_BENCH_SECONDS", "360"))
HOUR_S = 3600.0
DYING = 40  # stations
BUDGET = Policy().probes_per_second
# Beside the budget: the second rounds of those that miss the first one (one in a hundred), and the rounds of the dead.
MEAN_BAR, PEAK_BAR = 1.05 * BUDGET, 1.3 * BUDGET
# Everybody else's turn, the longest REACHABLE, three rounds of the kernel with a pause between.
DEATH_BAR_S = ADDRESSES / BUDGET + 45 + 3 * 3.07 + 2 * 1.0
# As `roamroute config sysctl` prints them for as many.
KEEP = STATIONS * (EACH + 1) + 128


def run() -> list[Figure]:
    """Every figure of both parts, in life's seconds."""
    return [*simulated(), *real()]


def simulated() -> list[Figure]:
    """The engine alone."""
    night = Night(stations=STATIONS, addresses_each=EACH, awake=AWAKE, seed=44)
    began = time.process_time()
    night.run(HOUR_S / 6)
    night.kill(night.stations[:: STATIONS // DYING])
    night.run(HOUR_S * 5 / 6)
    spent = time.process_time() - began
    name = f"simulated hour, {ADDRESSES} addresses"
    assert len(night.withdrawn_after) == DYING * EACH, "not all of the dead were withdrawn"
    return [
        Figure(f"{name}, living lost", len(night.lost), "", bar=0),
        Figure(f"{name}, probes", sum(night.probes.values()) / HOUR_S, "/s", bar=MEAN_BAR, note=f"budget {BUDGET:g}/s"),
        Figure(f"{name}, probes in the busiest second", max(night.probes.values()), "/s", bar=PEAK_BAR),
        Figure(f"{name}, dead withdrawn after at most", max(night.withdrawn_after), "s", bar=DEATH_BAR_S),
        Figure(f"{name}, processor time of engine and simulator", spent, "s"),
    ]


def real() -> list[Figure]:
    """roamroute and the kernel."""
    with Sandbox() as sandbox, table_limits(KEEP, 2 * KEEP, 4 * KEEP):
        world = SleepingWorld(sandbox, count=STATIONS, each=EACH, awake=AWAKE, scale=SCALE)
        world.fill()
        world.start()
        assert world.process is not None
        pid = world.process.pid
        spent, began = processor_s(pid), time.monotonic()
        time.sleep(MEASURED_S / 6)
        dying = list(world.stations.sleepers)[:: STATIONS // DYING]
        killed_at = datetime.datetime.now()
        for number in dying:
            world.stations.kill(number)
        resident = []
        while (rest := began + MEASURED_S - time.monotonic()) > 0:
            time.sleep(min(10.0, rest))
            resident.append(resident_mib(pid))
        spent = processor_s(pid) - spent
        rounds = world.stations.per_second(began)
        dead = {str(each) for each in world.addresses if not world.stations.is_living(each)}
        withdrawn = world.withdrawn()
        lasts = [
            (datetime.datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f") - killed_at).total_seconds()
            for line in world.lines("withdraw route=")
        ]
        routes = world.routes()
        losses = world.status()["counters"]
        assert isinstance(losses, dict)
        life_s = sum(1 for _ in rounds) * SCALE
        name = f"{life_s / 60:.0f} min of life, {ADDRESSES} addresses"
        return [
            Figure(f"{name}, living lost", len([each for each in withdrawn if each not in dead]), "", bar=0),
            Figure(
                *(f"{name}, routes at the end", len(routes), ""),
                bar=ADDRESSES - len(dead),
                comparison="at least",
                note=f"{len(dead)} addresses died",
            ),
            Figure(f"{name}, dead still announced", len({str(each) for each in routes} & dead), "", bar=0),
            Figure(f"{name}, dead withdrawn after at most", SCALE * max(lasts, default=0.0), "s", bar=DEATH_BAR_S),
            Figure(f"{name}, rounds of solicitations", sum(rounds) / life_s, "/s", bar=MEAN_BAR, samples=rounds),
            Figure(f"{name}, rounds in the busiest 10 s", max(rounds) / SCALE, "/s", bar=PEAK_BAR),
            Figure(f"{name}, solicitations on the air", world.stations.solicitations / life_s, "/s"),
            Figure(f"{name}, one core", 100 * spent / life_s, "%", bar=3.0),
            Figure(f"{name}, resident", max(resident), "MiB", bar=90, samples=resident),
            Figure(f"{name}, notifications lost", losses["netlink_losses"], "", bar=0),
        ]
