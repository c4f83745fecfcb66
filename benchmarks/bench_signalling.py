"""What the access points say to each other, in octets per second, next to batman-adv and to Babel. docs/signalling.md.

5,000 hosts on 50 access points in a simulation that drives the daemon's own engine and exchange; 100 hosts on 4 both
there and with real daemons, to see that the two agree. `ROAMROUTE_BENCH_SIGNALLING` picks parts: "simulation daemons
babel batman".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.signalling import babel, batman, daemons
from benchmarks.signalling.counted import Rate
from benchmarks.signalling.simulation import Simulation, Size, Traffic
from roamroute.errors import MachineUnfit
from roamroute.policy import Handover

WHOLE = Size(50, 5000)
SIZES = (Size(10, 1000), Size(25, 2500))
FEW = Size(4, 100)
ROAM_EVERY_S = 600.0
"""Each host, on average."""
MEASURED_S = 60.0
FEW_IDLE_S, FEW_ROAMING_S, FEW_ROAMS_PER_S = 120.0, 100.0, 1.0
NAMESPACE_LATENCY_S = 0.0003
AGREEMENT_PERCENT = 10.0
BABELDS = (
    "babeld",
    str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "roamroute/bin/babeld-1.13.1"),
)
BABEL_S = 160.0
"""Ten of babeld's updates of everything (one in about 16 s, 70 kB each); one more or less is chance."""


def run() -> list[Figure]:
    """About 20 minutes, most of it waiting for daemons."""
    parts: dict[str, Callable[[], Iterator[Figure]]] = {
        "simulation": simulated,
        "daemons": compared,
        "babel": babel_alone,
        "batman": batman_alone,
    }
    asked = os.environ.get("ROAMROUTE_BENCH_SIGNALLING", " ".join(parts)).split()
    return [figure for name in asked for figure in parts[name]()]


def simulated() -> Iterator[Figure]:
    """The whole size, and smaller ones that show what grows how."""
    for size in (*SIZES, WHOLE):
        simulation = Simulation(size)
        start = simulation.start()
        _show(f"{size}, start", start)
        idle = simulation.rest(MEASURED_S)
        _show(f"{size}, idle", idle)
        roaming = simulation.roam(MEASURED_S, size.hosts / ROAM_EVERY_S)
        _show(f"{size}, roaming", roaming)
        simulation.rest(daemons.SETTLED_S)
        restart = simulation.restart()
        _show(f"{size}, restart of one", restart)
        yield Figure(f"{size}: all start, each sends", start.total * start.seconds / 1000, "kB")
        yield Figure(f"{size}: idle, each sends", idle.total, "B/s", note="and receives as much")
        yield Figure(f"{size}: roaming, each sends", roaming.total, "B/s", note="one roam per host in 10 min")
        yield Figure(f"{size}: roaming, the busiest, both ways", roaming.greatest, "B/s")
        for name, traffic in (("idle", idle), ("roaming", roaming)):
            note = f"{traffic.across_datagrams:.0f} per s"
            yield Figure(f"{size}: {name}, a link in the middle, each way", traffic.across, "B/s", note=note)
        yield Figure(f"{size}: one restarts, both ways", restart.greatest * restart.seconds / 1000, "kB", note="itself")
        yield Figure(f"{size}: roaming, engine and exchange, of a core", 100 * roaming.processor, "%")
        yield Figure(f"{size}: addresses announced wrongly at the end", simulation.misplaced(), "", 0)
        yield Figure(f"{size}: bindings elsewhere that are not known", simulation.unknown(), "", 0)
    claims_only = Simulation(SIZES[0], handover=Handover(is_sharing_hints=False, is_forwarding=False))
    claims_only.start()
    roaming = claims_only.roam(MEASURED_S, SIZES[0].hosts / ROAM_EVERY_S)
    _show(f"{SIZES[0]}, roaming, claims only", roaming)
    yield Figure(f"{SIZES[0]}: roaming, claims only, each sends", roaming.total, "B/s", note="no hints, no forwarding")


def compared() -> Iterator[Figure]:
    """The same with real daemons and in the simulation, which has no routing daemon then, either."""
    real = daemons.measure(FEW, idle_s=FEW_IDLE_S, roaming_s=FEW_ROAMING_S, roams_per_second=FEW_ROAMS_PER_S)
    simulation = Simulation(FEW, latency_s=NAMESPACE_LATENCY_S, is_converging=False)
    start = simulation.start()
    simulated = {
        "start": start.total * start.seconds,
        "idle": simulation.rest(10 * FEW_IDLE_S).total,
        "roaming": simulation.roam(FEW_ROAMING_S, FEW_ROAMS_PER_S).total,
    }
    measured = {"start": real.start_octets, "idle": real.idle.sent_octets, "roaming": real.roaming.sent_octets}
    for name, octets in measured.items():
        unit = "B" if name == "start" else "B/s"
        yield Figure(f"{FEW}, {name}: real daemons, each sends", octets, unit)
        yield Figure(f"{FEW}, {name}: simulation, each sends", simulated[name], unit)
        difference = 100 * abs(simulated[name] / octets - 1)
        yield Figure(f"{FEW}, {name}: the simulation differs by", difference, "%", AGREEMENT_PERCENT)
    yield Figure(f"{FEW}: real daemons, addresses announced wrongly at the end", real.misplaced, "", 0)


def babel_alone() -> Iterator[Figure]:
    """As many host routes as hosts, and as many moves, in babeld alone."""
    per_second = WHOLE.hosts / ROAM_EVERY_S
    for command in BABELDS:
        if Path(command).is_absolute() and not Path(command).exists():
            print(f"{command} is not there: run tools/debian13-root", file=sys.stderr)
            continue
        cost = babel.measure(
            command,
            routes=WHOLE.hosts,
            own=WHOLE.hosts // WHOLE.access_points,
            moves_per_second=per_second,
            idle_s=BABEL_S,
            moving_s=BABEL_S,
        )
        yield from _rates(f"{cost.version}, {WHOLE.hosts} host routes", cost.idle, cost.moving)


def batman_alone() -> Iterator[Figure]:
    """As many access points, clients and moves, in batman-adv."""
    try:
        cost = batman.measure(WHOLE, moves_per_second=WHOLE.hosts / ROAM_EVERY_S, seconds=MEASURED_S)
    except MachineUnfit as error:
        print(error, file=sys.stderr)
        return
    yield from _rates(f"batman-adv IV, {WHOLE}", cost.idle, cost.moving)
    yield from _rates(f"batman-adv IV, {WHOLE}, gateway's links", cost.inner_idle, cost.inner_moving)
    yield Figure("batman-adv: clients reached at rest", 100 * cost.reached_at_rest, "%", 90, "at least")


def _rates(what: str, idle: Rate, moving: Rate) -> Iterator[Figure]:
    for name, rate in (("idle", idle), ("moving", moving)):
        yield Figure(f"{what}, {name}: sent", rate.sent_octets, "B/s", note=f"{rate.sent_datagrams:.1f} per s")
        yield Figure(
            f"{what}, {name}: received", rate.received_octets, "B/s", note=f"{rate.received_datagrams:.1f} per s"
        )


def _show(what: str, traffic: Traffic) -> None:
    """The kinds of message, which are too many for figures."""
    kinds = [f"{kind} {octets:.0f} ({traffic.datagrams[kind]:.2f})" for kind, octets in traffic.octets.items()]
    print(f"{what}: octets (datagrams) per second that each sends: {', '.join(kinds)}", file=sys.stderr)
