"""Run every benchmark of this folder and print each figure beside its bar.

    python benchmarks/run.py [--results FOLDER] [--list] [NAME ...]

NAME picks ``bench_NAME.py``; without one all run, in the order of their names and each in a process of its own, so
that neither memory nor imports of one colour the next. Exit code: 0 when every bar is met, 1 when one is missed or
a benchmark breaks, 2 for a name that does not exist.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import attrs

FOLDER = Path(__file__).resolve().parent
PREFIX = "bench_"
TIME_LIMIT_S = 4 * 3600  # one benchmark: 15 routings, each 200 roams at 1.2 s and half a minute to start, are 4000 s


class Outcome(TypedDict):
    """What one benchmark left: its figures as JSON, or the reason why there are none."""

    benchmark: str
    seconds: float
    error: str
    figures: list[dict[str, object]]


def available() -> list[str]:
    """Name the benchmarks of this folder, sorted, without prefix and suffix."""
    return sorted(path.stem.removeprefix(PREFIX) for path in FOLDER.glob(f"{PREFIX}*.py"))


def measure(name: str, destination: Path) -> None:
    """Run one benchmark in this process and write its figures to ``destination``."""
    sys.path[0] = str(FOLDER.parent)  # "from benchmarks.figure import Figure" is how a benchmark names it
    sys.path.append(str(FOLDER.parent / "tests"))  # worlds that the tests have too
    module = importlib.import_module(f"benchmarks.{PREFIX}{name}")
    figures = [{**attrs.asdict(figure), "verdict": figure.verdict} for figure in module.run()]
    destination.write_text(json.dumps(figures), encoding="utf-8")


def measure_apart(name: str) -> Outcome:
    """Run one benchmark in a process of its own; its output goes to our standard error."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="roamroute-bench-") as folder:
        destination = Path(folder) / "figures.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--measure", str(destination), name]
        try:
            status = subprocess.run(command, stdout=sys.stderr, timeout=TIME_LIMIT_S, check=False).returncode
            error = "" if status == 0 else f"exit code {status}"
        except subprocess.TimeoutExpired:
            error = f"still running after {TIME_LIMIT_S} s"
        figures = json.loads(destination.read_text(encoding="utf-8")) if destination.exists() else []
    return {"benchmark": name, "seconds": round(time.monotonic() - started, 1), "error": error, "figures": figures}


def spelled(number: object) -> str:
    """Three significant digits are more than any of these measurements can promise; large ones stay whole."""
    if number is None:
        return "-"
    value = float(str(number))
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def report(outcomes: Sequence[Outcome]) -> int:
    """Print one line per figure; return how many bars were missed, a broken benchmark counted as one."""
    missed = 0
    for outcome in outcomes:
        print(f"\n{outcome['benchmark']} ({outcome['seconds']:.0f} s)")
        for figure in outcome["figures"]:
            bar = "no bar" if figure["bar"] is None else f"{figure['comparison']} {spelled(figure['bar'])}"
            value = f"{spelled(figure['value'])} {figure['unit']}"
            note = f"  {figure['note']}" if figure["note"] else ""
            print(f"  {figure['verdict']}  {figure['name']:<58} {value:>14}  ({bar}){note}")
            missed += figure["verdict"] == "FAIL"
        if outcome["error"]:
            print(f"  FAIL  {outcome['benchmark']} broke: {outcome['error']}")
            missed += 1
    return missed


def machine() -> dict[str, object]:
    """Say where the numbers come from: a figure without its machine means nothing."""
    return {
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "load_at_start": os.getloadavg()[0],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(description="Run the benchmarks and hold every figure against its bar.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="run only bench_NAME.py")
    parser.add_argument("--results", type=Path, default=FOLDER / "results", help="folder for the raw data")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure is not None:
        measure(options.names[0], options.measure)
        return 0
    if options.list:
        print("\n".join(available()))
        return 0
    unknown = sorted(set(options.names) - set(available()))
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)} (there are: {', '.join(available())})", file=sys.stderr)
        return 2

    started = datetime.datetime.now(datetime.UTC)
    surroundings = machine()
    outcomes = [measure_apart(name) for name in options.names or available()]
    missed = report(outcomes)
    options.results.mkdir(parents=True, exist_ok=True)
    results = options.results / f"{started:%Y%m%dT%H%M%SZ}.json"
    results.write_text(
        json.dumps({"started": started.isoformat(), "machine": surroundings, "outcomes": outcomes}, indent=1),
        encoding="utf-8",
    )
    count = sum(len(outcome["figures"]) for outcome in outcomes)
    print(f"\n{count} figures, {missed} missed; raw data: {results}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
