"""Real Wi-Fi over roamroute and over batman-adv, side by side: runs compare.py in the Wi-Fi lab, prints the table.

    sudo python3 benchmarks/wifi/run.py                    # all eight runs: an hour
    sudo python3 benchmarks/wifi/run.py --times virtual    # 15 minutes, whatever else the machine does
    python3 benchmarks/wifi/run.py --show FILE             # the tables of an earlier run

Every roam goes to one JSON file. What follows "--" goes to compare.py, see its --help.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import table

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent


def main() -> int:
    options = arguments()
    if options.show is not None:
        return report(json.loads(options.show.read_text()))
    document: dict[str, Any] = {"command": sys.argv, "commit": commit(options.commit), "host": platform.release()}
    document["results"] = []
    for when, delay, security in itertools.product(options.times, options.delays, options.security):
        folder = PROJECT / "build" / "wifi-lab" / f"compare-{when}-{delay}-{security}"
        command = [str(PROJECT / "tools" / "wifi-lab" / "test"), "-r", "6", "-l", "3000", "-o", str(folder)]
        command += ["-v"] * (when == "virtual") + ["-g", options.commit] * bool(options.commit)
        command += [str(HERE / "compare.py"), "-n", str(options.n), "--delay", delay]
        command += ["--ft"] * (security == "ft") + options.more
        print(*command, file=sys.stderr, flush=True)
        done = subprocess.run(command, stdout=sys.stderr, check=False)
        if done.returncode:
            print(f"run: failed, see {folder}", file=sys.stderr)
            return 1
        document["results"].append(json.loads((folder / "results.json").read_text()))
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document))
    return report(document)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-n", type=int, default=20, help="roams over each system and with each setting of the cache (20)"
    )
    parser.add_argument("--times", type=words("virtual", "real"), default="virtual,real")
    parser.add_argument("--delays", type=lambda text: text.split(","), default="0,5", help="milliseconds a link (0,5)")
    parser.add_argument("--security", type=words("psk", "ft"), default="psk,ft", help="WPA2-PSK, 802.11r (psk,ft)")
    parser.add_argument("--commit", default="", help="measure this commit instead of what lies in the tree")
    parser.add_argument("--out", type=Path, default=PROJECT / "benchmarks" / "results" / "wifi.json")
    parser.add_argument("--show", type=Path, metavar="FILE", help="run nothing; the tables of this file")
    parser.add_argument("more", nargs="*", help="for compare.py")
    return parser.parse_args()


def words(*known: str) -> Any:
    def parse(text: str) -> list[str]:
        found = text.split(",")
        if set(found) - set(known):
            raise argparse.ArgumentTypeError(f"one or more of {','.join(known)}")
        return found

    return parse


def commit(named: str) -> str:
    """Which source is measured."""
    command = ["git", "-C", str(PROJECT), "describe", "--always"]
    command += [named] if named else ["--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def report(document: dict[str, Any]) -> int:
    results = document["results"]
    print(f"commit {document['commit']}: {' '.join(document['command'])}")
    versions = {f"{system}: {version}" for each in results for system, version in each["versions"].items()}
    print("; ".join(sorted(versions)), end="\n\n")
    print(table.markdown(results), end="\n\n")
    ours = [each for each in results if any("steps" in roam for roam in each["roams"])]
    if ours:
        print(table.anatomy(ours), end="\n\n")
    is_kept = True
    for passes, text in table.verdicts(results):
        is_kept &= passes
        print("PASS" if passes else "FAIL", text)
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
