"""The same roams of a real Wi-Fi client over roamroute and over batman-adv, in turn, in one kernel.

Two set-ups stand side by side, each with its own client, access points, gateway and radios, wired alike:

    ap1 -- gw -- ap2     (--line: gw -- ap1 -- ap2)

roamroute, babeld between routers: every access point routes.    batman-adv: bat0 is bridged with the radios.

They take turns, after each roam (or each --block of them). While one is measured the other is up, its client connected,
and its probes are ten a second. Both clients, their wpa_supplicant and all hostapds are set up alike.
results.json has every roam. Runs in the Wi-Fi lab's kernel: `benchmarks/wifi/run` starts it there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from anatomy import Anatomy
from batman import BridgedMesh
from bench import CLIENT_ADDRESS, GATEWAY_ADDRESS, Bench
from mesh import RoutedMesh, RoutedOptions
from namespaces import NotReached, wait_until
from recorder import WALL_CLOCK_OFFSET, Arrival

LOGS = Path("/shared")
LIMIT_S = 10.0  # until a gap counts as not restored
LEAD_S = 1.5  # before a roam the client scans: ROAM needs an entry that is younger than 30 s
RESTING_PER_SECOND = 10
SETTLED_S = 0.2  # what was sent later than this before the end of a roam's record may be on its way yet


class Mesh(Protocol):
    """What connects a set-up's access points with its gateway."""

    version: str


@dataclass
class SetUp:
    """One of the two that are compared."""

    name: str
    bench: Bench
    mesh: Mesh
    anatomy: Anatomy | None
    options: argparse.Namespace
    roams: list[dict[str, Any]] = field(default_factory=list)
    _measured_until: float = 0.0

    def settle(self) -> None:
        """Wait until probes arrive in both directions. Raises: NotReached."""
        recorder = self.bench.recorder
        wait_until(lambda: bool(recorder.downlink and recorder.uplink), f"the probes of {self.name}", 60)
        time.sleep(5)
        self.rest()

    def rest(self) -> None:
        """While the other is measured: what is lost in the rest of the stay is seen, at little cost."""
        self.bench.recorder.set_rate(RESTING_PER_SECOND)
        self._measured_until = time.monotonic()
        self.bench.recorder.forget()

    def roam(self, choice: random.Random, **about: Any) -> None:
        """Move the client once, when its stay is over."""
        due = self.bench.connected_at + self.options.stay + choice.uniform(0, 1)
        time.sleep(max(0.0, due - LEAD_S - time.monotonic()))
        if self.roams:
            self._look_back()
        self.bench.recorder.set_rate(self.options.rate)
        self.bench.scan()
        time.sleep(max(0.2, due - time.monotonic()))
        self.roams.append({"system": self.name} | about | measured_roam(self.bench, self.anatomy))
        self.rest()

    def _look_back(self) -> None:
        """What was lost in the stay that ends now, since the end of the roam's record."""
        recorder, end = self.bench.recorder, time.monotonic()
        for name, record in (("downlink", recorder.downlink), ("uplink", recorder.uplink)):
            since = self._measured_until
            figures = gap(list(record), list(recorder.sendings), since, since, since, end)
            self.roams[-1] |= {f"stay_{name}_lost": figures["lost"], f"stay_{name}_hole_s": figures["hole_s"]}


def main() -> int:
    options = arguments()
    set_ups = [prepare(name, options) for name in options.systems]
    choice = random.Random(1)
    started = time.monotonic()
    for keeps_cache in options.keeps_cache:
        for set_up in set_ups:
            set_up.bench.client.sysctl(ipv6__conf__wlan0__ndisc_evict_nocarrier=0 if keeps_cache else 1)
        for block, count in enumerate(block_sizes(options.n, options.block)):
            for set_up in set_ups:
                for _ in range(count):
                    set_up.roam(choice, keeps_cache=keeps_cache, block=block)
    document = {
        "options": vars(options),
        "versions": {set_up.name: set_up.mesh.version for set_up in set_ups},
        "is_virtual": "time-travel" in Path("/proc/cmdline").read_text(),
        "took_s": time.monotonic() - started,
        "roams": [roam for set_up in set_ups for roam in set_up.roams],
    }
    for set_up in set_ups:
        if isinstance(set_up.mesh, RoutedMesh) and options.handover != "off":
            add_records(set_up, set_up.mesh)
    (LOGS / "results.json").write_text(json.dumps(document, indent=1))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20, help="roams over each, and for each --keeps-cache (20)")
    parser.add_argument("--block", type=int, default=1, help="roams until the other's turn (1)")
    parser.add_argument("--stay", type=float, default=12, help="seconds at an access point, and up to one more (12)")
    parser.add_argument("--ft", action="store_true", help="802.11r: FT-PSK over the air, instead of WPA2-PSK")
    parser.add_argument("--delay", type=int, default=0, help="milliseconds on each backbone link and direction")
    parser.add_argument("--line", action="store_true", help="gw - ap1 - ap2 instead of ap1 - gw - ap2")
    parser.add_argument(
        "--keeps-cache",
        type=lambda text: [word == "1" for word in text.split(",")],
        default=[False, True],
        help="1: the client's ndisc_evict_nocarrier is 0, it keeps its gateway's entry; 0: Linux's default (0,1: both)",
    )
    parser.add_argument(
        "--systems",
        type=lambda text: text.split(","),
        default=["roamroute", "batman-adv"],
        help="to measure one without the other (roamroute,batman-adv)",
    )
    parser.add_argument("--rate", type=int, default=1000, help="probes a second in each direction (1000)")
    parser.add_argument("--handover", choices=("off", "claim", "full"), default="full", help="roamroute's (full)")
    parser.add_argument("--gateway-peer", action="store_true", help="roamroute on the gateway too")
    parser.add_argument("--babeld", choices=("1.12.1", "1.13.1"), default="1.13.1", help="under roamroute (1.13.1)")
    parser.add_argument("--hello", type=float, help="babeld's hello interval in seconds (babeld's default: 4)")
    parser.add_argument("--algorithm", choices=("BATMAN_IV", "BATMAN_V"), default="BATMAN_IV")
    parser.add_argument("--log", default="info", help="roamroute's log level (info)")
    parser.add_argument("--trace", action="store_true", help="write down how long each step within roamroute took")
    parser.add_argument("--no-anatomy", action="store_true", help="do not look at the backbone and the routing tables")
    return parser.parse_args()


def block_sizes(total: int, size: int) -> list[int]:
    return [min(size, total - done) for done in range(0, total, size)]


def prepare(name: str, options: argparse.Namespace) -> SetUp:
    """Everything up, the client connected and reached."""
    is_routed = name == "roamroute"
    bench = Bench(
        LOGS,
        prefix="r-" if is_routed else "b-",
        first_radio=0 if is_routed else 3,
        channels=(1, 6) if is_routed else (3, 11),  # radios on one channel hear, and pay for, each other
        is_line=options.line,
        is_routed=is_routed,
        has_ft=options.ft,
        delay_ms=options.delay,
    )
    mesh: Mesh
    if is_routed:
        settings = RoutedOptions(
            babeld=options.babeld,
            hello_s=options.hello,
            handover=options.handover,
            has_gateway_peer=options.gateway_peer,
            log_level=options.log,
            program=("/shared/traced.py",) if options.trace else ("-m", "roamroute"),
        )
        mesh = RoutedMesh(bench, settings)
    else:
        mesh = BridgedMesh(bench, options.algorithm)
    recorder = bench.recorder
    recorder.probe((bench.gateway, GATEWAY_ADDRESS), (bench.client, CLIENT_ADDRESS), per_second=options.rate)
    anatomy = Anatomy(bench) if is_routed and not options.no_anatomy else None
    recorder.listen_first()
    recorder.start()
    bench.scan()
    bench.connect(bench.access_points[0].name)
    if isinstance(mesh, BridgedMesh):
        mesh.wait_for_the_client()
    set_up = SetUp(name, bench, mesh, anatomy, options)
    set_up.settle()
    return set_up


def measured_roam(bench: Bench, anatomy: Anatomy | None) -> dict[str, Any]:
    """Move the client; how it went, in seconds."""
    recorder = bench.recorder
    source, target = bench.current, next(ap.name for ap in bench.access_points if ap.name != bench.current)
    recorder.forget()
    if anatomy is not None:
        anatomy.forget()
    asked = time.monotonic()
    try:
        connected = bench.roam(target)
    except NotReached as error:
        print(f"{bench.client.name}: {error}; {bench.look_where()}", flush=True)
        return {"from": source, "to": target, "layer2_s": None}
    # What the client receives now comes by its new access point, whenever it was sent; what it had sent before may yet
    # be on the backbone.
    directions = (("downlink", recorder.downlink, asked - 1), ("uplink", recorder.uplink, connected))
    deadline = connected + LIMIT_S
    while time.monotonic() < deadline and not all(
        any(at >= connected and sent_at >= since for at, _, sent_at in list(record)) for _, record, since in directions
    ):
        time.sleep(0.05)
    time.sleep(1)
    end = time.monotonic()
    found: dict[str, Any] = {"from": source, "to": target, "at": connected, "layer2_s": connected - asked}
    for name, record, since in directions:
        figures = gap(list(record), list(recorder.sendings), since, asked, connected, end)
        found |= {f"{name}_{what}": value for what, value in figures.items()}
    if anatomy is not None:
        found["steps"] = anatomy.steps(source, target, asked, connected)
    return found


def add_records(set_up: SetUp, mesh: RoutedMesh) -> None:
    """What roamroute itself tells of each roam: `record`, and when it had hostapd's event, `received_s`."""
    for ap in set_up.bench.access_points:
        for record in mesh.status(ap.namespace).get("handovers", []):
            began = record["time"] - WALL_CLOCK_OFFSET
            for roam in set_up.roams:
                if record["side"] == "to" and roam["to"] == ap.name and 0 <= began - roam.get("at", began) < 1:
                    roam |= {"record": record, "received_s": began - roam["at"]}


def gap(
    record: Sequence[Arrival],
    sendings: Sequence[tuple[int, float]],
    since: float,
    asked: float,
    connected: float,
    end: float,
) -> Mapping[str, Any]:
    """One direction of a roam that was `asked` for, in seconds and probes.

    `s`: from the connection to the first arrival of what was sent after `since`. `hole_s`: the longest silence after
    that. `lost`: what was sent since the roam was asked for and did not arrive; `lost_later`: those of them that were
    sent after the connection.
    """
    after = sorted(moment for moment, _, sent_at in record if moment >= connected and sent_at >= since)
    arrived = {number for _, number, _ in record}
    missing = [at for number, at in sendings if asked <= at < end - SETTLED_S and number not in arrived]
    return {
        "s": after[0] - connected if after else None,
        "hole_s": max((later - before for before, later in itertools.pairwise(after)), default=None),
        "lost": len(missing),
        "lost_later": sum(at >= connected for at in missing),
        "duplicates": len(record) - len(arrived),
    }


if __name__ == "__main__":
    sys.exit(main())
