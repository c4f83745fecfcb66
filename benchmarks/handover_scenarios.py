"""What the benchmarks handover_{full,alone,loss,stay,delay,dumb,modes} measure: 500 packets a second, every routing.

Each scenario is one `roamroute lab` for each routing, one after the other: two at once on two processors would
measure each other. What a run found is kept under results/handover/SCENARIO/, and is taken from there the next time if
neither the command nor roamroute have changed since, so that a measurement that was interrupted goes on where it was.

    ROAMROUTE_BENCH_ROAMS=20          make it shorter
    ROAMROUTE_BENCH_DWELL=0.5         seconds between two roams, 1 without it
    ROAMROUTE_BENCH_ROUTINGS=frr,3.1  only routings with one of these in their name
    ROAMROUTE_BENCH_REUSE=none        measure everything again; "any": take what is there, whatever code it is of
    ROAMROUTE_BENCH_PARALLEL=2        so many runs side by side, for a look in a hurry; such runs are kept apart

`python -m benchmarks.handover_table` prints what there is as one table.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs

from benchmarks.handover import CACHE
from benchmarks.handover_verdict import DELAY, DUMB, FULL, LOSS, MODES, Bars, Report

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results" / "handover"
ROAMS = int(os.environ.get("ROAMROUTE_BENCH_ROAMS", "100"))
WANTED = tuple(filter(None, os.environ.get("ROAMROUTE_BENCH_ROUTINGS", "").split(",")))
REUSE = os.environ.get("ROAMROUTE_BENCH_REUSE", "same")
PARALLEL = int(os.environ.get("ROAMROUTE_BENCH_PARALLEL", "1"))
RUN_LIMIT_S = 3000.0
PACKETS = ("--gateway-peer", "--pps", "500", "--dwell", os.environ.get("ROAMROUTE_BENCH_DWELL", "1"), "--quiet")
"""The gateway takes part. A client that stays for 1 s often leaves before OSPF or Babel have converged: forwarding has
to bridge that."""

ROUTINGS: tuple[tuple[str, str | None], ...] = (
    ("babeld", None),
    ("bird-babel", None),
    ("bird-ospf", None),
    ("bird-ibgp", None),
    ("frr-ospf", None),
    ("frr-ibgp", None),
    ("babeld", "babeld-1.13.1"),
    ("bird-babel", "bird-2.17"),
    ("bird-ospf", "bird-2.17"),
    ("bird-ibgp", "bird-2.17"),
    ("bird-babel", "bird-3.1"),
    ("bird-ospf", "bird-3.1"),
    ("bird-ibgp", "bird-3.1"),
    ("frr-ospf", "frr-10.3"),
    ("frr-ibgp", "frr-10.3"),
)
"""Debian 12's daemons, then Debian 13's as tools/debian13-root installs them."""


DEBIAN_12 = tuple(routing for routing, program in ROUTINGS if program is None)


@attrs.frozen
class Scenario:
    """One kind of run. `words` are options of `roamroute lab`; `only`: these routings of Debian 12's, None: all."""

    name: str
    words: tuple[str, ...]
    bars: Bars
    only: tuple[str, ...] | None = None


SCENARIOS: Mapping[str, Scenario] = {
    each.name: each
    for each in (
        Scenario("full", ("--roams", str(ROAMS), "--ipv4", *PACKETS), FULL),
        Scenario("loss", ("--roams", str(ROAMS), "--silent", "--ipv4", "--peer-loss", "20", *PACKETS), LOSS),
        Scenario("stay", ("--roams", str(max(2, ROAMS // 16)), "--silent", "--ipv4", *PACKETS, "--dwell", "14"), FULL),
        Scenario("alone", ("--roams", str(ROAMS), "--silent", "--ipv4", *PACKETS[1:]), FULL),
        Scenario("delay", ("--roams", str(max(2, ROAMS // 5)), "--delay", "30", *PACKETS), DELAY, only=DEBIAN_12),
        Scenario(
            "dumb",
            ("--roams", str(max(2, ROAMS // 2)), "--ipv4", "--stations", "none", *PACKETS),
            DUMB,
            only=DEBIAN_12,
        ),
        Scenario(
            "dumb_quiet",
            ("--roams", str(max(2, ROAMS // 5)), "--talk", "--stations", "none", "--no-update-frames", *PACKETS),
            DUMB,
            only=DEBIAN_12,
        ),
        Scenario(
            "dumb_mixed",
            ("--roams", str(max(2, ROAMS // 5)), "--ipv4", "--stations", "mixed", *PACKETS),
            DUMB,
            only=("babeld", "bird-ospf", "frr-ospf"),
        ),
        Scenario(
            "dumb_trusted",
            ("--roams", str(max(2, ROAMS // 5)), "--stations", "mixed", "--trust-update-frames", "--ipv4", *PACKETS),
            DUMB,
            only=("babeld", "bird-ospf", "frr-ospf"),
        ),
        Scenario(
            "modes",
            (
                *("--handover", "full", "--handover", "claim", "--handover", "off"),
                *("--roams", str(max(2, ROAMS // 5)), "--compare-roams", str(max(2, ROAMS // 20)), "--limit", "8"),
                *PACKETS,
            ),
            MODES,
            only=("babeld", "bird-ospf", "bird-ibgp", "frr-ospf"),
        ),
    )
}


@attrs.frozen
class Run:
    """One routing in one scenario."""

    scenario: Scenario
    routing: str
    program: str | None

    @property
    def name(self) -> str:
        return self.routing if self.program is None else f"{self.routing} of {self.program}"

    @property
    def words(self) -> tuple[str, ...]:
        """The command line of `roamroute lab`, without `--json`."""
        option = "" if self.program is None else f",command={CACHE / 'bin' / self.program}"
        return (*self.scenario.words, "--routing", f"{self.routing}{option}")

    @property
    def file(self) -> Path:
        folder = self.scenario.name if PARALLEL == 1 else f"{self.scenario.name}-side-by-side"
        return RESULTS / folder / f"{self.name}.json"


def runs(scenario: Scenario) -> list[Run]:
    """What there is to do, narrowed down by ROAMROUTE_BENCH_ROUTINGS."""
    found = [
        Run(scenario, routing, program)
        for routing, program in ROUTINGS
        if scenario.only is None or (program is None and routing in scenario.only)
    ]
    return [run for run in found if not WANTED or any(word in run.name for word in WANTED)]


def measured(scenario: Scenario) -> Iterator[tuple[Run, Report | None, str]]:
    """Every run with what it found, or None and why not; from the kept results where they still hold."""
    code = _digest()
    todo = runs(scenario)
    with ThreadPoolExecutor(PARALLEL) as pool:
        for run, (report, error) in zip(todo, pool.map(lambda each: _measure(each, code), todo), strict=True):
            yield run, report, error


def kept(scenario: Scenario) -> Iterator[tuple[Run, Report]]:
    """What has been measured, of whatever code."""
    for run in runs(scenario):
        if run.file.exists():
            yield run, Report(json.loads(run.file.read_text(encoding="utf-8")))


def _measure(run: Run, code: str) -> tuple[Report | None, str]:
    if (found := _reusable(run, code)) is not None:
        print(f"{run.scenario.name}, {run.name}: measured before", file=sys.stderr)
        return found, ""
    print(f"{run.scenario.name}, {run.name}: {' '.join(run.words)}", file=sys.stderr, flush=True)
    began, load = time.time(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="roamroute-bench-") as folder:
        destination = Path(folder) / "report.json"
        command = [sys.executable, "-m", "roamroute.lab", *run.words, "--json", str(destination)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return None, f"still running after {RUN_LIMIT_S:g} s"
        if not destination.exists():
            return None, _last_line(done.stderr)
        found = json.loads(destination.read_text(encoding="utf-8"))
    if not found["is_complete"]:
        return None, "interrupted"
    kept = {"words": run.words, "code": code, "began": began, "load": load, "took_s": time.time() - began}
    run.file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = run.file.with_suffix(".part")
    unfinished.write_text(json.dumps({**found, "run": kept}), encoding="utf-8")
    unfinished.replace(run.file)
    return Report(json.loads(run.file.read_text(encoding="utf-8"))), ""


def _reusable(run: Run, code: str) -> Report | None:
    if REUSE == "none" or not run.file.exists():
        return None
    found: dict[str, Any] = json.loads(run.file.read_text(encoding="utf-8"))
    is_same = found["run"]["code"] == code or REUSE == "any"
    return Report(found) if is_same and tuple(found["run"]["words"]) == run.words else None


def _digest() -> str:
    """Of all code that a measurement rests on."""
    digest = hashlib.sha256()
    for folder in ("roamroute", "adapters"):
        for path in sorted((FOLDER.parent / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _last_line(text: str) -> str:
    lines: Sequence[str] = text.strip().splitlines() or ["said nothing"]
    return lines[-1]
