"""The same as in `simulation`, with real daemons: some access points on one link, each in a network namespace.

Kernel exporter, the hosts of `stations`; no routing daemon, which the access points' messages do not depend on.
"""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import attrs

from benchmarks.signalling.counted import Count, Rate, count, start_counting
from benchmarks.signalling.simulation import REST_S, Size
from benchmarks.signalling.stations import Stations, mac_text
from roamroute import control
from roamroute.errors import DaemonGone, DaemonRefused
from roamroute.lab.namespaces import Namespace, Process, Sandbox
from roamroute.lab.roaming import write_key
from roamroute.lab.waiting import wait_until
from roamroute.values import Seconds

PORT = 4544
READY_LIMIT_S: Seconds = 60.0
SETTLED_S: Seconds = 15.0
"""After the last roam: longer than an old route lingers."""

CONFIGURATION = """\
[roaming]
interfaces = ["wlan0"]
prefixes = ["fd44:0:0:1::/64"]
exporter = "kernel"
[stations]
source = "hostapd"
hostapd_dir = "{directory}/hostapd"
[peers]
address = "{address}"
addresses = [{others}]
key_file = "{key}"
[control]
socket = "{directory}/control.sock"
"""


@attrs.frozen
class DaemonTraffic:
    """Of an average access point: octets of the whole start, rates after it; `misplaced` as in the simulation."""

    start_octets: float
    idle: Rate
    roaming: Rate
    misplaced: int


def measure(size: Size, *, idle_s: Seconds, roaming_s: Seconds, roams_per_second: float) -> DaemonTraffic:
    """Start, rest, roam. Raises: NotReached, MachineUnfit."""
    with Sandbox() as sandbox, Stations() as stations:
        directories = _build(sandbox, stations, size)
        access_points = list(directories)
        begun = _counts(access_points)
        processes = [_start(namespace, directory) for namespace, directory in directories.items()]
        wait_until(lambda: _is_settled(directories, size), "every daemon has its routes and peers", READY_LIMIT_S)
        time.sleep(REST_S)
        started = _counts(access_points)
        time.sleep(idle_s)
        rested = _counts(access_points)
        _roam(stations, size, roaming_s, roams_per_second)
        roamed = _counts(access_points)
        time.sleep(SETTLED_S)
        misplaced = _misplaced(stations, directories, size)
        for process, directory in zip(processes, directories.values(), strict=True):
            if process.poll() is not None:
                raise RuntimeError(f"a daemon has ended: {(directory / 'log').read_text()[-2000:]}")
        return DaemonTraffic(
            sum(after.sent[0] - before.sent[0] for after, before in zip(started, begun, strict=True)) / len(begun),
            _mean(after.since(before) for after, before in zip(rested, started, strict=True)),
            _mean(after.since(before) for after, before in zip(roamed, rested, strict=True)),
            misplaced,
        )


def _build(sandbox: Sandbox, stations: Stations, size: Size) -> dict[Namespace, Path]:
    """Namespaces, links, neighbour tables and configurations; returns where each access point has its files."""
    air, mesh, *access_points = sandbox.namespaces(
        ["air", "mesh", *(f"ap{n}" for n in range(1, size.access_points + 1))]
    )
    key = write_key(sandbox.subdirectory("key"))
    mesh.ip("link add bridge type bridge mcast_snooping 0", "link set bridge up")
    stations.place = {host: (host - 1) % size.access_points for host in range(1, size.hosts + 1)}
    directories = {}
    for number, namespace in enumerate(access_points, start=1):
        directory = sandbox.subdirectory(namespace.label)
        (directory / "hostapd").mkdir()
        directories[namespace] = directory
        air.ip(f"link add {namespace.label} type veth peer name wlan0 netns {namespace.name}")
        mesh.ip(f"link add {namespace.label} type veth peer name mesh netns {namespace.name}")
        mesh.ip(f"link set {namespace.label} master bridge", f"link set {namespace.label} up")
        air.ip(f"link set {namespace.label} up")
        namespace.sysctl({"net.ipv6.conf.all.forwarding": 1, "net.ipv6.conf.default.accept_dad": 0})
        namespace.ip(
            "link set mesh up",
            "link set wlan0 up",
            f"addr add {_address(number)}/64 dev mesh nodad",
            "addr add fe80::1/64 dev wlan0 nodad",
        )
        here = [host for host, place in stations.place.items() if place == number - 1]
        namespace.ip(*(_entry(host, each) for host in here for each in range(1, size.addresses + 1)))
        stations.add_access_point(namespace, directory / "hostapd", air, namespace.label)
        start_counting(namespace, PORT)
        others = ", ".join(f'"{_address(other)}"' for other in range(1, size.access_points + 1) if other != number)
        (directory / "roamroute.toml").write_text(
            CONFIGURATION.format(directory=directory, address=_address(number), others=others, key=key)
        )
    return directories


def _address(number: int) -> str:
    return f"fd44:0:0:a::{number:x}"


def _host_address(host: int, number: int) -> str:
    return str(IPv6Address(f"fd44:0:0:1::{host:x}:{number:x}"))


def _entry(host: int, number: int) -> str:
    return f"neigh replace {_host_address(host, number)} lladdr {mac_text(host)} dev wlan0 nud stale"


def _start(namespace: Namespace, directory: Path) -> Process:
    configuration = str(directory / "roamroute.toml")
    return namespace.start(sys.executable, "-m", "roamroute", "run", "-c", configuration, log=directory / "log")


def _is_settled(directories: dict[Namespace, Path], size: Size) -> bool:
    installed = 0
    for directory in directories.values():
        status = _status(directory)
        if status is None or not all(peer["is_up"] for peer in status["peers"]["peers"]):
            return False
        installed += status["routes"]["installed"]
    return installed >= size.hosts * size.addresses


def _status(directory: Path) -> dict[str, Any] | None:
    with contextlib.suppress(DaemonGone, DaemonRefused):
        return control.ask(directory / "control.sock", "status")
    return None


def _counts(access_points: Sequence[Namespace]) -> list[Count]:
    return [count(namespace) for namespace in access_points]


def _roam(stations: Stations, size: Size, duration: Seconds, per_second: float) -> None:
    choice = random.Random(44)
    begun = time.monotonic()
    for number in range(round(duration * per_second)):
        time.sleep(max(0.0, begun + (number + choice.random()) / per_second - time.monotonic()))
        host = choice.randint(1, size.hosts)
        stations.move(host, choice.choice([each for each in range(size.access_points) if each != stations.place[host]]))
    time.sleep(max(0.0, begun + duration - time.monotonic()))


def _misplaced(stations: Stations, directories: dict[Namespace, Path], size: Size) -> int:
    """Addresses that are not announced by exactly the access point where their host is."""
    wanted = []
    for directory in directories.values():
        status = _status(directory) or {"hosts": []}
        wanted.append({each["address"] for host in status["hosts"] for each in host["addresses"] if each["is_wanted"]})
    return sum(
        [place for place, addresses in enumerate(wanted) if _host_address(host, number) in addresses] != [at]
        for host, at in stations.place.items()
        for number in range(1, size.addresses + 1)
    )


def _mean(rates: Iterable[Rate]) -> Rate:
    known = list(rates)
    return Rate(*(sum(column) / len(known) for column in zip(*map(attrs.astuple, known), strict=True)))
