"""Real FRRs in network namespaces, for tests of the FRR adapter: `ap` with a client link, `far` behind a mesh link.

FRR's daemons look for each other in /run/frr, and 10's mgmtd does so whatever its options say: each daemon runs in a
mount namespace in which the router's own folder lies there.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from generations import Generation

from roamroute.values import Address

LIMIT_S = 30.0
USER = ("-u", "root", "-g", "frrvty")
BIND = """\
mkdir -p /run/frr
mount --bind "$1" /run/frr
test ! -d /var/lib/frr || mount --bind "$1/lib" /var/lib/frr
shift
exec "$@"
"""
PRIVATE = ("unshare", "--mount", "--propagation", "private", "sh", "-ec")
DAEMONS = ("mgmtd", "zebra", "staticd", "ospfd", "ospf6d", "bgpd")
_NUMBERS = itertools.count()


def sh(command: str, *, check: bool = True) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_for(is_true: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> float:
    """Wait until it holds; return the seconds. Fails the test with `what`."""
    begun = time.monotonic()
    while not is_true():
        assert time.monotonic() - begun < limit_s, f"not within {limit_s:g} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - begun


class FrrRouter:
    """A namespace with FRR's daemons; `configuration` is what `vtysh -b` loads at the start."""

    def __init__(self, generation: Generation, name: str, number: int, configuration: str) -> None:
        self.generation = generation
        self.name = name
        self.namespace = f"rrf{os.getpid()}-{next(_NUMBERS)}-{name}"
        # Short: the path of a socket has 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix=f"rrf-{name}-"))
        self.address = f"fd44:0:0:a::{number}"
        self.configuration = configuration
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        (self.directory / "lib").mkdir()
        (self.directory / "vtysh.conf").write_text("")
        sh(f"ip netns add {self.namespace}")
        sysctl = "net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1 net.ipv6.conf.default.accept_dad=0"
        sh(f"ip netns exec {self.namespace} sysctl -qw {sysctl}")
        self.ip("link set lo up", f"addr add {self.address}/128 dev lo", f"addr add 10.99.9.{number}/32 dev lo")

    @property
    def command(self) -> list[str]:
        """vtysh for this router; it may be started in any namespace."""
        place = str(self.directory)
        return [self.generation.terminal, "--vty_socket", place, "--config_dir", place]

    @property
    def daemons(self) -> list[str]:
        return [name for name in DAEMONS if name != "mgmtd" or (Path(self.generation.command) / name).exists()]

    def ip(self, *lines: str) -> str:
        return "".join(sh(f"ip -n {self.namespace} {line}") for line in lines)

    def start(self) -> None:
        """Start all daemons, one after the other, and load the configuration."""
        for name in self.daemons:
            self.start_daemon(name)
        (self.directory / "frr.conf").write_text(self.configuration)
        self.load()

    def start_daemon(self, name: str) -> None:
        ready = self.directory / f"{name}.vty"
        ready.unlink(missing_ok=True)
        command = [str(Path(self.generation.command) / name), *USER, "-P", "0", "--log", "stdout"]
        with (self.directory / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.namespace}", *PRIVATE, BIND, "sh", str(self.directory), *command],
                stdout=log,
                stderr=log,
            )
        wait_for(ready.exists, f"{name} is there: {(self.directory / f'{name}.log').read_text()[-500:]}")

    def restart(self, *names: str) -> None:
        """Kill these daemons, or all, and start them again."""
        self.kill(*names)
        self.revive()

    def revive(self) -> None:
        """Start what is not running; the configuration is loaded again, as watchfrr would."""
        for name in self.daemons:
            if name not in self._running:
                self.start_daemon(name)
        self.load()

    def load(self) -> None:
        done = subprocess.run([*self.command, "-b"], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def kill(self, *names: str) -> None:
        """SIGKILL for these daemons, or for all."""
        for name in names or [*reversed(self._running)]:
            process = self._running.pop(name)
            process.kill()
            process.wait()

    def signal(self, name: str, number: int) -> None:
        self._running[name].send_signal(number)

    def process_id(self, name: str) -> int:
        return self._running[name].pid

    def vtysh(self, *lines: str) -> str:
        """As an operator would, in a process of its own."""
        options = [word for line in lines for word in ("-c", line)]
        done = subprocess.run([*self.command, *options], capture_output=True, text=True, timeout=60, check=False)
        return done.stdout

    def routes(self, address: Address | str) -> list[dict[str, Any]]:
        """The kernel's routes for exactly this destination, the best first."""
        found = json.loads(sh(f"ip -j -d {_family(address)} -n {self.namespace} route show exact {address}") or "[]")
        return sorted(found, key=lambda route: int(route.get("metric", 0)))

    def reaches(self, address: Address | str) -> str | None:
        """The link by which the kernel's best route for exactly this destination goes; None where there is none."""
        best = next(iter(self.routes(address)), None)
        return str(best["dev"]) if best is not None and best.get("type", "unicast") == "unicast" else None

    def close(self) -> None:
        for name in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                self._running[name].send_signal(18)  # SIGCONT: a stopped one dies as well, but its children do not
        self.kill()
        sh(f"ip netns del {self.namespace}", check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


def configuration(routing: str, mode: str, *, is_far: bool, hello_s: int = 1) -> str:
    """What an operator would load: host routes of the roaming prefixes, and nothing else, leave the access point."""
    source = "static" if mode == "inject" and not is_far else "kernel"
    number = 2 if is_far else 1
    ospf = f" redistribute {source} route-map hosts6" if routing == "ospf" else " !"
    return f"""
ip prefix-list hosts seq 5 permit 10.44.0.0/16 ge 32
ipv6 prefix-list hosts seq 5 permit fd44:0:0:1::/64 ge 128
route-map hosts4 permit 10
 match ip address prefix-list hosts
route-map hosts6 permit 10
 match ipv6 address prefix-list hosts
interface lo
 ipv6 ospf6 area 0
 ip ospf area 0
interface mesh
 ipv6 ospf6 network point-to-point
 ipv6 ospf6 hello-interval {hello_s}
 ipv6 ospf6 dead-interval {4 * hello_s}
 ipv6 ospf6 area 0
 ip ospf network point-to-point
 ip ospf hello-interval {hello_s}
 ip ospf dead-interval {4 * hello_s}
 ip ospf area 0
router ospf
 ospf router-id 10.99.9.{number}
{ospf.replace("hosts6", "hosts4")}
router ospf6
 ospf6 router-id 10.99.9.{number}
{ospf}
""" + (
        ""
        if routing != "ibgp"
        else f"""
router bgp 65000
 bgp router-id 10.99.9.{number}
 no bgp default ipv4-unicast
 neighbor fd44:0:0:a::{3 - number} remote-as internal
 neighbor fd44:0:0:a::{3 - number} update-source lo
 neighbor fd44:0:0:a::{3 - number} timers connect 1
 neighbor 10.99.9.{3 - number} remote-as internal
 neighbor 10.99.9.{3 - number} update-source lo
 neighbor 10.99.9.{3 - number} timers connect 1
 address-family ipv6 unicast
  neighbor fd44:0:0:a::{3 - number} activate
  redistribute {source} route-map hosts6
 exit-address-family
 address-family ipv4 unicast
  neighbor 10.99.9.{3 - number} activate
  redistribute {source} route-map hosts4
 exit-address-family
"""
    )


def _family(address: Address | str) -> str:
    return "-4" if "." in str(address) else "-6"


class Pair:
    """`ap` (wlan0, mesh) and `far` (mesh)."""

    def __init__(self, generation: Generation, routing: str, mode: str) -> None:
        self.ap = FrrRouter(generation, "ap", 1, configuration(routing, mode, is_far=False))
        self.far = FrrRouter(generation, "far", 2, configuration(routing, mode, is_far=True))
        for link in ("wlan0", "wlan1"):
            self.ap.ip(f"link add {link} type bridge", f"link set {link} up", f"addr add fe80::1/64 dev {link} nodad")
        self.ap.ip("addr add fd44:0:0:1::1/128 dev wlan0 nodad", "addr add 10.44.0.1/32 dev wlan0")
        self.far.ip("link add wlan0 type bridge", "link set wlan0 up")
        self.ap.ip(f"link add mesh type veth peer name mesh netns {self.far.namespace}")
        for router, number in ((self.ap, 1), (self.far, 2)):
            router.ip(f"addr add 10.99.0.{number}/24 dev mesh", "link set mesh up")

    def start(self) -> None:
        self.far.start()
        self.ap.start()
        wait_for(lambda: self.far.reaches(self.ap.address), "the routing protocol is up")

    def announce_elsewhere(self, address: Address) -> None:
        """`far` has the host, too."""
        self.far.ip(f"{_family(address)} route add {address} dev wlan0 proto 144 metric 8")

    def withdraw_elsewhere(self, address: Address) -> None:
        self.far.ip(f"{_family(address)} route del {address} dev wlan0 proto 144 metric 8")

    def flush(self) -> None:
        """Remove what a test has left."""
        for router in (self.ap, self.far):
            for family in ("-4", "-6"):
                for protocol in (144, 145, 146, 147):
                    sh(f"ip -n {router.namespace} {family} route flush proto {protocol}")
        configuration = self.ap.vtysh("show running-config")
        ours = [line for line in configuration.splitlines() if line.startswith(("ip route ", "ipv6 route "))]
        if ours:
            self.ap.vtysh("configure terminal", *(f"no {line}" for line in ours), "end")

    def close(self) -> None:
        self.ap.close()
        self.far.close()


@contextlib.contextmanager
def pair_of(generation: Generation, routing: str, mode: str) -> Iterator[Pair]:
    """Two routers that know each other; removed at the end."""
    pair = Pair(generation, routing, mode)
    try:
        pair.start()
        yield pair
    finally:
        pair.close()
