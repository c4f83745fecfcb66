"""A client with real Wi-Fi roams between two access points that run roamroute and babeld; prints the gaps.

Probes go 100 times a second in both directions. A gap is the time from AP-STA-CONNECTED at the new access point, as a
program attached to hostapd receives it, to the first probe that arrives. results.json has every roam;
what every router believed when a roam was not restored within the limit is in not-restored-N.txt.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench import CLIENT_ADDRESS, GATEWAY_ADDRESS, Bench
from mesh import RoutedMesh, RoutedOptions
from namespaces import Namespace, NotReached, wait_until
from recorder import Arrival

LOGS = Path("/shared")


def answers_ping(namespace: Namespace, address: str) -> bool:
    return "1 received" in namespace.run("sh", "-c", f"ping -c1 -W1 {address} || true")


def spread(values: Sequence[float | None], limit_s: float) -> str:
    known = sorted(1000 * value for value in values if value is not None)
    text = (
        "never"
        if not known
        else (
            f"median {statistics.median(known):6.0f}  p95 {known[max(0, -(-19 * len(known) // 20) - 1)]:6.0f}"
            f"  max {known[-1]:6.0f} ms"
        )
    )
    lost = len(values) - len(known)
    return f"{text} of {len(known)}" + (f", {lost} not within {limit_s:.0f} s" if lost else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=20, help="roams (20)")
    parser.add_argument("--source", choices=("hostapd", "nl80211", "none"), default="hostapd")
    parser.add_argument("--babeld", choices=("1.12.1", "1.13.1"), default="1.13.1")
    parser.add_argument("--handover", choices=("off", "claim", "full"), default="full")
    parser.add_argument("--gateway-peer", action="store_true", help="roamroute on the gateway too: it forwards")
    parser.add_argument("--hello", type=float, help="babeld's hello interval in seconds (babeld's default: 4)")
    parser.add_argument(
        "--plain", action="store_true", help="neighbour cache and associations only: no peers, no packets"
    )
    parser.add_argument("--silent", action="store_true", help="the client sends nothing by itself: no uplink probes")
    parser.add_argument(
        "--keep-cache",
        action="store_true",
        help="the client's ndisc_evict_nocarrier is 0: it keeps its gateway's entry",
    )
    parser.add_argument(
        "--bridge", action="store_true", help="the roaming interface is a bridge above the radio, with one MAC"
    )
    parser.add_argument("--line", action="store_true", help="gw - ap1 - ap2 instead of ap1 - gw - ap2")
    parser.add_argument("--quick", action="store_true", help="each roam is a return, within a second after leaving")
    parser.add_argument("--stay", type=float, default=0, help="seconds at each access point, within 50 ms (2 to 4)")
    parser.add_argument("--delay", type=int, default=0, help="milliseconds on each backbone link and direction")
    parser.add_argument("--limit", type=float, default=10, help="seconds until a gap counts as not restored (10)")
    parser.add_argument("--log", default="info", help="roamroute's log level (info)")
    options = parser.parse_args()

    bench = Bench(LOGS, is_line=options.line, has_bridge=options.bridge, delay_ms=options.delay)
    if options.keep_cache:
        bench.client.sysctl(ipv6__conf__wlan0__ndisc_evict_nocarrier=0)
    mesh = RoutedMesh(
        bench,
        RoutedOptions(
            options.babeld,
            options.hello,
            options.source,
            "off" if options.plain else options.handover,
            options.gateway_peer,
            not options.plain,
            options.log,
        ),
    )
    recorder = bench.recorder
    ends = (bench.gateway, GATEWAY_ADDRESS), (bench.client, CLIENT_ADDRESS)
    recorder.probe(*ends, has_uplink=not options.silent)
    recorder.start()
    bench.scan()
    bench.connect("ap1")
    if options.silent:
        # something must tell the first access point the address; the others know it from their peers
        wait_until(partial(answers_ping, bench.client, GATEWAY_ADDRESS), "the client reaches the gateway", 30, 1)
    directions = {"downlink": recorder.downlink} | ({} if options.silent else {"uplink": recorder.uplink})
    for name, record in directions.items():
        wait_until(partial(bool, record), f"the first {name} probe", 30)
    time.sleep(5)
    choice = random.Random(1)
    roams = []
    for number in range(options.n):
        try:
            roams.append(roam(bench, directions, options, choice))
        except NotReached as error:
            print(f"roam {number}: {error}; {bench.look_where()}", flush=True)
            roams.append({"to": None, "layer2_s": None} | {f"{name}_s": None for name in directions})
        if None in roams[-1].values():
            mesh.describe(LOGS / f"not-restored-{number}.txt")
    report(mesh.version, options, tuple(directions), roams)
    return 0


def roam(
    bench: Bench, directions: Mapping[str, Sequence[Arrival]], options: argparse.Namespace, choice: random.Random
) -> dict[str, Any]:
    """Move the client once (`--quick`: away and back) and say how it went."""
    recorder = bench.recorder
    target = next(ap.name for ap in bench.access_points if ap.name != bench.current)
    due = bench.connected_at + options.stay + choice.uniform(-0.05, 0.05)
    time.sleep(max(0.0, due - 1 - time.monotonic()))
    bench.scan()
    time.sleep(choice.uniform(1, 2) if not options.stay else max(0.0, due - time.monotonic()))
    if options.quick:
        here = next(ap.name for ap in bench.access_points if ap.name != target)
        bench.roam(target)
        time.sleep(choice.uniform(0.05, 0.9))
        target = here
    sent, asked = recorder.sent, time.monotonic()
    connected = bench.roam(target)
    gaps: dict[str, float] = {}
    while len(gaps) < len(directions) and time.monotonic() < connected + options.limit:
        for name, record in directions.items():
            moment = recorder.first_arrival(record, connected)
            if moment is not None:
                gaps.setdefault(name, moment - connected)
        time.sleep(0.02)
    time.sleep(choice.uniform(1, 2))
    end = time.monotonic()
    expected = range(sent + 1, recorder.sent - 20)
    found: dict[str, Any] = {"to": target, "layer2_s": connected - asked}
    for name, record in directions.items():
        arrived = {number for _, number, _ in record}
        moments = [connected, *sorted(moment for moment, _, _ in record if moment > connected), end]
        found[f"{name}_s"] = gaps.get(name)
        found[f"{name}_longest_s"] = max(after - before for before, after in itertools.pairwise(moments))
        found[f"{name}_lost"] = sum(number not in arrived for number in expected)
    return found


def report(
    version: str, options: argparse.Namespace, directions: Sequence[str], roams: Sequence[Mapping[str, Any]]
) -> None:
    """Print the table and write results.json."""
    document = {"options": vars(options), "babeld": version, "roams": roams}
    (LOGS / "results.json").write_text(json.dumps(document, indent=1))
    extras = [name.replace("_", "-") for name, value in vars(options).items() if value is True]
    extras += [f"{options.delay} ms a link"] * bool(options.delay)
    print(", ".join([version, f"hello {options.hello or 'default'}", f"source {options.source}", *extras]))
    print(f"  layer 2   {spread([each['layer2_s'] for each in roams], options.limit)}")
    for name in directions:
        lost = [each[f"{name}_lost"] for each in roams if each["to"] is not None]
        later = [
            each
            for each in roams
            if each[f"{name}_s"] is not None and each[f"{name}_longest_s"] > each[f"{name}_s"] + 0.05
        ]
        print(
            f"  {name:9} {spread([each[f'{name}_s'] for each in roams], options.limit)}"
            f"    probes lost {statistics.median(lost):.0f}, at most {max(lost)}"
            + (f"; a longer hole after the first probe in {len(later)} roams" if later else "")
        )


if __name__ == "__main__":
    sys.exit(main())
