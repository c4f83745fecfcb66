"""The daemon with 1,000 hosts of 3 addresses: memory, processor time over 5 minutes, and how long a start takes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from ipaddress import IPv6Address
from pathlib import Path

from benchmarks.figure import Figure
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.lab.waiting import wait_until
from roamroute.values import DadKind, DadMessage, Mac
from roamroute.wire import discovery, ethernet, icmpv6

HOSTS = 1000
ADDRESSES = 3
MEASURED_S = float(os.environ.get("ROAMROUTE_BENCH_SECONDS", "300"))
ASKED_PER_S = 150
SETTLE_S = 20.0  # the first probes after a start are denser than the schedule

# As `roamroute config sysctl` prints them for as many; above the second the kernel prunes what is STALE at once.
THRESHOLDS = {"gc_thresh3": 16384, "gc_thresh2": 8192, "gc_thresh1": 4096}
STALE_S = 263  # gc_stale_time; with 60 s, and the table near its first limit, probes are due before the schedule

CONFIG = """
[roaming]
interfaces = ["wlan0"]
prefixes = ["fd44:0:0:1::/64"]
exporter = "kernel"
[stations]
source = "none"
[peers]
address = "fd44:0:0:a::1"
addresses = ["fd44:0:0:a::2"]
key_file = "{directory}/peers.key"
[ra]
[control]
socket = "{directory}/{name}.sock"
[log]
level = "info"
"""


def start_daemon(namespace: Namespace, directory: Path, name: str, text: str) -> subprocess.Popen[bytes]:
    """Start `roamroute run` in the namespace; its log goes to the directory."""
    path = directory / f"{name}.toml"
    path.write_text(text)
    with namespace.entered(), (directory / f"{name}.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", "roamroute", "run", "-c", str(path)], stderr=log)


def ask(directory: Path, name: str) -> dict[str, object]:
    """The daemon's status, or nothing while it does not answer."""
    command = [sys.executable, "-m", "roamroute", "status", "--json", "-c", str(directory / f"{name}.toml")]
    answer = subprocess.run(command, capture_output=True, check=False)
    status: dict[str, object] = json.loads(answer.stdout) if answer.returncode == 0 else {}
    return status


def resident_mib(pid: int) -> float:
    """VmRSS, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no VmRSS: it has ended")


def processor_s(pid: int) -> float:
    """User and system time so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fill(namespace: Namespace, directory: Path) -> None:
    """Put every address into the neighbour table, STALE, as a busy evening leaves it."""
    lines = [
        f"neighbour replace fd44:0:0:1::{host:x}:{number:x} lladdr 02:00:00:00:{host >> 8:02x}:{host & 255:02x} "
        "dev wlan0 nud stale"
        for host in range(1, HOSTS + 1)
        for number in range(1, ADDRESSES + 1)
    ]
    batch = directory / "neighbours"
    batch.write_text("\n".join(lines))
    namespace.run("ip", "-6", "-batch", str(batch))


def run() -> list[Figure]:
    """Two daemons that are peers; one has the hosts, all of which answer, and probes at its default schedule."""
    started: list[subprocess.Popen[bytes]] = []
    with Sandbox() as sandbox:
        ap, other, air = (sandbox.namespace(name) for name in ("ap1", "ap2", "air"))
        directory = sandbox.subdirectory("bench")
        key = directory / "peers.key"
        key.write_text("5a" * 32)
        key.chmod(0o600)
        _link(ap, other, air)
        limits = {name: Path(f"/proc/sys/net/ipv6/neigh/default/{name}") for name in THRESHOLDS}
        saved = {name: path.read_text() for name, path in limits.items()}
        try:
            for name, value in THRESHOLDS.items():
                limits[name].write_text(str(value))
            fill(ap, directory)
            started.append(_responder(air))
            text = CONFIG.replace("{directory}", str(directory))
            started.append(start_daemon(ap, directory, "ap1", text.replace("{name}", "ap1")))
            twin = text.replace("{name}", "ap2").replace('"fd44:0:0:a::1"', '"x"')
            twin = twin.replace('"fd44:0:0:a::2"', '"fd44:0:0:a::1"').replace('"x"', '"fd44:0:0:a::2"')
            started.append(start_daemon(other, directory, "ap2", twin))
            return _measure(ap, air, directory, started[1].pid)
        finally:
            for process in started:
                process.terminate()
                process.wait()
            for name, path in limits.items():
                path.write_text(saved[name])


def _link(ap: Namespace, other: Namespace, air: Namespace) -> None:
    ap.ip(
        f"link add wlan0 type veth peer name a netns {air.name}",
        f"link add name m type veth peer name m netns {other.name}",
    )
    other.run("ip", "link", "add", "wlan0", "type", "bridge")
    for namespace, number in ((ap, 1), (other, 2)):
        namespace.run("ip", "link", "set", "lo", "up")
        namespace.run("ip", "link", "set", "wlan0", "up")
        namespace.run("ip", "link", "set", "dev", "m", "up")
        namespace.run("ip", "-6", "address", "add", f"fd44:0:0:a::{number}/64", "dev", "m", "nodad")
        namespace.run("ip", "-6", "address", "add", "fe80::1/64", "dev", "wlan0", "nodad")
    ap.sysctl({"net.ipv6.neigh.wlan0.gc_stale_time": STALE_S})
    air.run("ip", "link", "set", "dev", "a", "up")


def _responder(air: Namespace) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(Path(__file__).with_name("many_hosts.py")), "a"]
    with air.entered():
        return subprocess.Popen(command, stdin=subprocess.PIPE)


def ask_for_addresses(air: Namespace) -> None:
    """Let each host repeat DAD for an address of its own (a frame of an access point without the mark), and ask for a
    router."""
    with air.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        for host in range(1, HOSTS + 1):
            mac = Mac(f"02:00:00:00:{host >> 8:02x}:{host & 255:02x}")
            target = IPv6Address(f"fd44:0:0:1::{host:x}:1")
            question = discovery.solicitation(mac, DadMessage(DadKind.SOLICITATION, target, mac, os.urandom(6)), None)
            wire.sendto(question[:14] + bytes((0x60, 0, 0, 0)) + question[18:], ("a", 0))
            routers, solicitation = icmpv6.ALL_ROUTERS, bytes((icmpv6.ROUTER_SOLICITATION, *bytes(7)))
            to, sender = ethernet.group_of(routers), ethernet.octets(mac)
            wire.sendto(icmpv6.compose(to, sender, icmpv6.UNSPECIFIED, routers, solicitation), ("a", 0))
            time.sleep(1 / ASKED_PER_S)


def _measure(ap: Namespace, air: Namespace, directory: Path, pid: int) -> list[Figure]:
    def all_wanted() -> bool:
        routes = ask(directory, "ap1").get("routes")
        return isinstance(routes, dict) and routes["installed"] == HOSTS * ADDRESSES

    wait_until(all_wanted, "every route installed", limit_s=60)
    time.sleep(SETTLE_S)
    before, began = processor_s(pid), time.monotonic()
    samples = []
    while (passed := time.monotonic() - began) < MEASURED_S:
        time.sleep(min(10.0, MEASURED_S - passed))
        samples.append(resident_mib(pid))
    share = 100 * (processor_s(pid) - before) / (time.monotonic() - began)
    ask_for_addresses(air)
    samples.append(resident_mib(pid))
    status = ask(directory, "ap1")
    routes, counters, dad = status["routes"], status["counters"], status["dad"]
    assert isinstance(routes, dict)
    assert isinstance(counters, dict)
    assert isinstance(dad, dict)
    name = f"daemon, {HOSTS} hosts x {ADDRESSES} addresses, peers, DAD proxy and RA on"
    return [
        Figure(
            f"{name}, resident", max(samples), "MiB", bar=60, note=f"{dad['counters']['relayed']} DAD", samples=samples
        ),
        Figure(
            f"{name}, one core over {MEASURED_S:g} s", share, "%", bar=1.0, note=f"{counters.get('Probe', 0)} probes"
        ),
        Figure(
            f"{name}, routes still installed", routes["installed"], "", bar=HOSTS * ADDRESSES, comparison="at least"
        ),
    ]
