"""A client with real Wi-Fi roams between two access points that run roamroute and babeld; prints the gaps.

Probes go 100 times a second in both directions. A gap is the time from AP-STA-CONNECTED at the new access point, as a
program attached to hostapd receives it, to the first probe that arrives. results.json has every roam;
what every router believed when a roam was not restored within the limit is in not-restored-N.txt.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shlex
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench import GATEWAY_ADDRESS, ROAMING_PREFIX, AccessPoint, Arrival, Bench, Namespace, NotReached, wait_until

LOGS = Path("/shared")
DEBIAN13 = Path("/tmp/debian13")


class Mesh:
    """babeld on the gateway and the access points, roamroute on the latter."""

    def __init__(self, bench: Bench, options: argparse.Namespace) -> None:
        self._bench = bench
        self._options = options
        self._babeld = babeld_command(options.babeld)
        self.version = subprocess.run([*self._babeld, "-V"], capture_output=True, text=True, check=False).stderr.strip()
        for ap in bench.access_points:
            self._configuration(ap).write_text(self._tables(ap))
        key = Path("/tmp/peers.key")
        key.touch(mode=0o600)
        key.write_text(os.urandom(32).hex())
        self._start_babeld(bench.gateway, None)
        for ap in bench.access_points:
            self._start_babeld(ap.namespace, ap)
        for ap in bench.access_points:
            ap.namespace.start(
                sys.executable, "-m", "roamroute", "run", "-c", str(self._configuration(ap)), log=str(self._log(ap))
            )
        for ap in bench.access_points:
            wait_until(partial(self._is_in_sync, ap), f"roamroute of {ap.name} is in sync", 30)
        for router in (bench.gateway, *(ap.namespace for ap in bench.access_points)):
            wait_until(partial(self._knows_all, router), f"babeld of {router.name} has converged", 60, 0.5)

    def _is_in_sync(self, ap: AccessPoint) -> bool:
        return "in sync" in self._log(ap).read_text()

    def _knows_all(self, router: Namespace) -> bool:
        routes = router.run("ip", "-6", "route", "show", "proto", "42") + router.run("ip", "-6", "addr")
        return all(
            address in routes for address in (GATEWAY_ADDRESS, *(a.mesh_address for a in self._bench.access_points))
        )

    def _start_babeld(self, router: Namespace, ap: AccessPoint | None) -> None:
        """As an operator would: his own file, and in front of it the fragment that `roamroute config` prints."""
        own = Path(f"/tmp/babeld-{router.name}.conf")
        lines = [
            "default type wired",
            "redistribute local ip fd44:0:0:a::/64 allow",
            "redistribute local deny",
            "redistribute deny",
            f"local-path /run/babeld-{router.name}.sock",
        ]
        if self._options.hello is not None:
            lines.insert(0, f"default hello-interval {self._options.hello}")
        own.write_text("\n".join(lines) + "\n")
        arguments = ["-I", f"/run/babeld-{router.name}.pid", "-S", f"/run/babeld-{router.name}.state"]
        if ap is not None:
            fragment = Path(f"/tmp/babeld-{router.name}.roamroute.conf")
            fragment.write_text(
                router.run(sys.executable, "-m", "roamroute", "config", "babeld", "-c", str(self._configuration(ap)))
            )
            (LOGS / fragment.name).write_text(fragment.read_text())
            if "babeld -A 65534" in fragment.read_text():
                arguments += ["-A", "65534"]
            arguments += ["-c", str(fragment)]
        router.start(
            *self._babeld,
            *arguments,
            "-c",
            str(own),
            *self._bench.mesh_links[router.name],
            log=str(LOGS / f"babeld-{router.name}.log"),
        )

    def describe(self, file: Path) -> None:
        """Write down what every router believes, for somebody who looks for a fault."""
        with file.open("w") as text:
            for router in (self._bench.gateway, *(ap.namespace for ap in self._bench.access_points)):
                text.write(f"== {router.name}\n{router.run('ip', '-6', 'route')}{router.run('ip', '-6', 'neigh')}")
                with socket.socket(socket.AF_UNIX) as babeld:
                    babeld.settimeout(2)
                    babeld.connect(f"/run/babeld-{router.name}.sock")
                    babeld.sendall(b"dump\nquit\n")
                    while answer := babeld.recv(65536):
                        text.write(answer.decode())

    @staticmethod
    def _configuration(ap: AccessPoint) -> Path:
        return Path(f"/tmp/roamroute-{ap.name}.toml")

    @staticmethod
    def _log(ap: AccessPoint) -> Path:
        return LOGS / f"roamroute-{ap.name}.log"

    def _tables(self, ap: AccessPoint) -> str:
        options = self._options
        peers = json.dumps([each.mesh_address for each in self._bench.access_points if each is not ap])
        text = f"""\
[roaming]
interfaces = ["{ap.link}"]
prefixes = ["{ROAMING_PREFIX}"]
exporter = "babeld"
[exporters.babeld]
socket = "/run/babeld-{ap.name}.sock"
command = "{shlex.join(self._babeld)}"
[stations]
source = "{options.source}"
hostapd_dir = "{ap.hostapd_directory}"
[control]
socket = "/run/roamroute-{ap.name}.sock"
[log]
level = "{options.log}"
"""
        if options.plain:
            return text + "[packets]\nenabled = false\n"
        return text + f'[peers]\naddress = "{ap.mesh_address}"\naddresses = {peers}\nkey_file = "/tmp/peers.key"\n'


def babeld_command(version: str) -> list[str]:
    """Debian 12's own, or Debian 13's as tools/debian13-root unpacked it on the machine that runs this."""
    if version == "1.12.1":
        return ["/usr/sbin/babeld"]
    DEBIAN13.mkdir()
    subprocess.run(["mount", "-t", "hostfs", "none", str(DEBIAN13), "-o", os.environ["LAB_DEBIAN13"]], check=True)
    loader = next((DEBIAN13 / "usr").glob("lib*/ld-linux*.so.*"), None) or next(
        (DEBIAN13 / "usr/lib").rglob("ld-linux*")
    )
    libraries = next((DEBIAN13 / "usr/lib").glob("*-linux-gnu"))
    return [str(loader), "--library-path", str(libraries), str(DEBIAN13 / "usr/sbin/babeld")]


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
    mesh = Mesh(bench, options)
    recorder = bench.recorder
    recorder.probe(bench.gateway, bench.client, has_uplink=not options.silent)
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
