"""One host route more or less, beside 10 and beside 5,000 of them: how fast it reaches the next router, and its effort.

A gateway and one access point, for every routing of the lab, in mode `kernel` and, where there is one, `inject`.
`ROAMROUTE_BENCH_ROUTINGS` picks some: "bird-ospf frr-ibgp,mode=inject". `ROAMROUTE_BENCH_ROUTES` is the large number.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections.abc import Mapping

import attrs

from benchmarks.exporting_pair import ExportingPair, host_routes
from benchmarks.figure import Figure
from roamroute.delta import Delta
from roamroute.errors import RoamrouteError
from roamroute.lab.gaps import percentile
from roamroute.lab.installed import find_routing, installed_routings
from roamroute.lab.namespaces import Sandbox
from roamroute.lab.survey import routing_text

FEW = 10
MANY = int(os.environ.get("ROAMROUTE_BENCH_ROUTES", "5000"))
ROUNDS = 20
PAUSE_S = 1.0
"""Between two changes, and up to half of it more, not to be in step with anybody's timers: routing daemons that send at
most once a second are measured, not their limit."""
IDLE_S = 5.0
ARRIVAL_LIMIT_S = 30.0
BULK_LIMIT_S = 120.0
SLACK_MS = 50.0
MODES = ("kernel", "inject")
UNJUDGED = ("babeld",)
"""bench_babeld.py has bars of its own: what hurries babeld's announcements along costs more the more routes it has."""
FIRST_SINGLE = 100_000


@attrs.frozen
class Effort:
    """What changes cost: milliseconds to the gateway's kernel, processor milliseconds for one change."""

    added_ms: list[float]
    removed_ms: list[float]
    daemon_ms: float
    our_ms: float


def run() -> list[Figure]:
    """Beside many routes, one more must arrive as fast as beside few."""
    figures = []
    for name, options in _asked():
        try:
            figures += _measured(name, options)
        except (RoamrouteError, TimeoutError) as error:
            print(f"{routing_text(name, options)}: {error}", file=sys.stderr)
            note = str(error).splitlines()[0] if str(error) else type(error).__name__
            figures.append(Figure(f"{routing_text(name, options)}: measured", 0, "", 1, "at least", note=note))
    return figures


def _asked() -> list[tuple[str, Mapping[str, str]]]:
    if "ROAMROUTE_BENCH_ROUTINGS" not in os.environ:
        names = [routing.name for routing in installed_routings().routings]
        return [(name, {"mode": mode}) for name in names for mode in MODES if mode == "kernel" or name not in UNJUDGED]
    asked: list[tuple[str, Mapping[str, str]]] = []
    for text in os.environ["ROAMROUTE_BENCH_ROUTINGS"].split():
        name, *pairs = text.split(",")
        asked.append((name, dict(pair.split("=", 1) for pair in pairs)))
    return asked


def _measured(name: str, options: Mapping[str, str]) -> list[Figure]:
    with Sandbox() as sandbox:
        routing = find_routing(name)
        what = f"{routing.lab.version(options)}, {routing_text(name, {'mode': options.get('mode', 'kernel')})}"
        print(what, file=sys.stderr)
        pair = ExportingPair(sandbox, routing, options)
        _publish_many(pair, 0, FEW)
        few = _effort(pair, FIRST_SINGLE)
        bulk_s, confirmed_s = _publish_many(pair, FEW, MANY)
        many = _effort(pair, FIRST_SINGLE + ROUNDS)
        for line in pair.exporters.log:
            print(line, file=sys.stderr)
    figures = [Figure(f"{what}: {MANY - FEW} at once, until the last has arrived", bulk_s, "s")]
    figures.append(Figure(f"{what}: {MANY - FEW} at once, until the last is confirmed", confirmed_s, "s"))
    for change in ("added", "removed"):
        before, after = getattr(few, f"{change}_ms"), getattr(many, f"{change}_ms")
        median_ms = statistics.median(before)
        is_judged = options.get("mode", "kernel") == "kernel" and name not in UNJUDGED
        bar = median_ms * 1.5 + SLACK_MS if is_judged else None
        figures += [
            Figure(f"{what}: one {change} beside {FEW}, median", median_ms, "ms", samples=before),
            Figure(f"{what}: one {change} beside {FEW}, p95", percentile(before, 95), "ms"),
            Figure(f"{what}: one {change} beside {MANY}, median", statistics.median(after), "ms", bar, samples=after),
            Figure(f"{what}: one {change} beside {MANY}, p95", percentile(after, 95), "ms"),
        ]
    for count, effort in ((FEW, few), (MANY, many)):
        figures += [
            Figure(f"{what}: daemon's processor time for one change beside {count}", effort.daemon_ms, "ms"),
            Figure(f"{what}: our processor time for one change beside {count}", effort.our_ms, "ms"),
        ]
    return figures


def _publish_many(pair: ExportingPair, first: int, until: int) -> tuple[float, float]:
    """Seconds until the last has arrived, and until the last is confirmed."""
    begun = pair.exporters.publish(Delta(host_routes(first, until - first)))
    pair.wait_count(until, BULK_LIMIT_S)
    bulk_s = time.monotonic() - begun
    pair.exporters.wait_confirmed(until, BULK_LIMIT_S)
    confirmed_s = time.monotonic() - begun
    time.sleep(IDLE_S)  # the last acknowledgements
    return bulk_s, confirmed_s


def _effort(pair: ExportingPair, first: int) -> Effort:
    """Add and remove one route after the other; the processor time that passes without any is subtracted."""
    begun, daemon_s, our_s = time.monotonic(), pair.daemon_cpu_s(), pair.exporters.cpu_s()
    time.sleep(IDLE_S)
    idle_s = time.monotonic() - begun
    daemon_idle, our_idle = (pair.daemon_cpu_s() - daemon_s) / idle_s, (pair.exporters.cpu_s() - our_s) / idle_s
    begun, daemon_s, our_s = time.monotonic(), pair.daemon_cpu_s(), pair.exporters.cpu_s()
    choice = random.Random(first)
    times: dict[bool, list[float]] = {False: [], True: []}
    for route in host_routes(first, ROUNDS):
        for is_removal in (False, True):
            delta = Delta((), (route,)) if is_removal else Delta((route,))
            since = pair.exporters.publish(delta)
            times[is_removal].append(1000 * pair.arrived(route.address, since, ARRIVAL_LIMIT_S, is_gone=is_removal))
            time.sleep(PAUSE_S * choice.uniform(1.0, 1.5))
    passed_s, changes = time.monotonic() - begun, 2 * ROUNDS
    daemon_s = pair.daemon_cpu_s() - daemon_s - passed_s * daemon_idle
    our_s = pair.exporters.cpu_s() - our_s - passed_s * our_idle
    return Effort(times[False], times[True], 1000 * daemon_s / changes, 1000 * our_s / changes)
