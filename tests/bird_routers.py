"""Two real BIRDs in network namespaces: `here`, an access point with wlan0 and wlan1, and `there`, its neighbour.

They speak Babel with each other (quick hellos; IPv4 and IPv6), or what else a test asks for. `there` has a client link,
too, and can announce the same hosts.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

from generations import Generation

from roamroute.export import KernelNumbers
from roamroute.values import Address

LIMIT_S = 20.0
_NUMBERS = itertools.count()
_KERNEL = KernelNumbers()

BABEL = """
protocol babel babel1 {
  ipv6 { import all; export filter hosts6; };
  ipv4 { import all; export filter hosts4; };
  interface "e0" { type wired; hello interval 500 ms; update interval 1 s; };
}
"""
OSPF = """
protocol ospf v3 ospf6 {
  ipv6 { import all; export filter hosts6; };
  area 0 { interface "e0" { type ptp; hello 1; }; };
}
"""
IBGP = """
protocol bgp ibgp1 {
  local fd44:0:0:e::%(number)d as 65000;
  neighbor fd44:0:0:e::%(other)d as 65000;
  direct;
  connect delay time 1;
  connect retry time 2;
  error wait time 1, 2;
  ipv6 { import all; export filter hosts6; next hop self; };
  ipv4 { import all; export filter hosts4; next hop self; extended next hop; };
}
"""
_COMMON = """
log "%(folder)s/bird.log" all;
router id 10.0.0.%(number)d;
protocol device { }
filter learn6 { if krt_source = 144 then { preference = 250; accept; } reject; }
filter learn4 { if krt_source = 144 then { preference = 250; accept; } reject; }
filter hosts6 { if net ~ [ fd44:0:0:1::/64{128,128}, fd44:0:0:2::/64{128,128} ] then accept; reject; }
filter hosts4 { if net ~ [ 10.44.0.0/16{32,32} ] then accept; reject; }
protocol kernel kernel6 { learn; ipv6 { import filter learn6; export where source != RTS_DEVICE; }; }
protocol kernel kernel4 { learn; ipv4 { import filter learn4; export where source != RTS_DEVICE; }; }
include "%(folder)s/hosts.con[f]";
"""


def sh(command: str, *, check: bool = True) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=30, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_for(is_true: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait until it holds, or fail."""
    until = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < until, f"not within {limit_s:g} s: {what}"
        time.sleep(0.02)


class BirdRouter:
    """A namespace with a BIRD of one generation; `number` is 1 or 2."""

    def __init__(self, generation: Generation, number: int, routing: str) -> None:
        self.generation = generation
        self.number = number
        self.namespace = f"rrb{os.getpid()}-{next(_NUMBERS)}"
        self.folder = Path(tempfile.mkdtemp(prefix="rrb-"))  # short: the path of a socket has 107 bytes
        self.socket = self.folder / "bird.ctl"
        self.include = self.folder / "hosts.conf"
        self.configuration = self.folder / "bird.conf"
        self._process: subprocess.Popen[bytes] | None = None
        names = {"folder": self.folder, "number": number, "other": 3 - number}
        self.text = (_COMMON + routing) % names
        self.configuration.write_text(self.text)

    def ip(self, *commands: str) -> None:
        for command in commands:
            sh(f"ip -n {self.namespace} {command}")

    def build(self) -> None:
        sh(f"ip netns add {self.namespace}")
        sh(f"ip netns exec {self.namespace} sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1")
        sh(f"ip netns exec {self.namespace} sysctl -qw net.ipv6.conf.default.accept_dad=0")
        self.ip("link set lo up")
        for link in ("wlan0", "wlan1"):
            self.ip(f"link add {link} type veth peer name sta-{link}", f"link set {link} up", f"link set sta-{link} up")

    def start(self) -> None:
        """Start BIRD and wait until it answers."""
        command = ["ip", "netns", "exec", self.namespace, self.generation.command]
        command += ["-f", "-c", str(self.configuration), "-s", str(self.socket)]
        with (self.folder / "stderr").open("ab") as output:
            self._process = process = subprocess.Popen(command, stdout=output, stderr=output)
        wait_for(lambda: self.ask("show status") or process.poll() is not None, "BIRD answers")
        assert process.poll() is None, (self.folder / "stderr").read_text()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End BIRD as a crash does: its kernel routes stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End BIRD as an operator does."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def revive(self) -> None:
        """Start BIRD again if it has died by itself, as 3.1.7 does now and then (a null pointer), in one test."""
        if self._process is not None and self._process.poll() is not None:
            self.start()

    def ask(self, command: str) -> str:
        """What BIRD's socket says to one command; "" when nobody is there."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(5)
            stream.connect(str(self.socket))
            _reply(stream)
            stream.sendall(command.encode() + b"\n")
            return _reply(stream)
        return ""

    def configure(self, text: str | None = None) -> str:
        """Give BIRD another configuration, as an operator does; None: its first."""
        self.configuration.write_text(self.text if text is None else text)
        wait_for(self._is_quiet, "the reconfiguration before is over")  # BIRD 3.1 dies of three at once
        answer = self.ask("configure")
        wait_for(self._is_quiet, "the reconfiguration is over")
        return answer

    def _is_quiet(self) -> bool:
        return "up and running" in self.ask("show status")

    def hold(self, *addresses: Address, link: str = "wlan0") -> None:
        """Add host routes as roamroute's kernel exporter does."""
        mark = f"proto {_KERNEL.protocol} metric {_KERNEL.metric}"
        for version in {address.version for address in addresses}:
            chosen = [address for address in addresses if address.version == version]
            batch = "".join(f"route replace {address} dev {link} {mark}\n" for address in chosen)
            command = ["ip", "-n", self.namespace, f"-{version}", "-batch", "-"]
            subprocess.run(command, input=batch, text=True, timeout=30, check=True)

    def leave(self, *addresses: Address) -> None:
        for address in addresses:
            self.ip(f"-{address.version} route del {address} proto {_KERNEL.protocol}")

    def way_to(self, address: Address) -> str:
        """The interface by which the kernel reaches an address; "" when it does not."""
        found = sh(f"ip -n {self.namespace} route get {address}", check=False)
        words = found.split()
        return words[words.index("dev") + 1] if "dev" in words and not found.startswith("unreachable") else ""

    def remove(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self.kill()
        sh(f"ip netns del {self.namespace}", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _reply(stream: socket.socket) -> str:
    data = b""
    while True:
        piece = stream.recv(65536)
        if not piece:
            raise ConnectionResetError
        data += piece
        last = data.rstrip(b"\n").rsplit(b"\n", 1)[-1]
        if data.endswith(b"\n") and last[:4].isdigit() and last[4:5] == b" ":
            return data.decode()


class Pair:
    """Both routers and the link between them."""

    def __init__(self, generation: Generation, routing: str = BABEL) -> None:
        self.generation = generation
        self.here, self.there = (BirdRouter(generation, number, routing) for number in (1, 2))

    def build(self) -> None:
        here, there = self.here, self.there
        for router in (here, there):
            router.build()
        here.ip(f"link add e0 type veth peer name e0 netns {there.namespace}")
        for router in (here, there):
            router.ip(
                "link set e0 up",
                f"addr add 10.45.0.{router.number}/24 dev e0",
                f"addr add fd44:0:0:e::{router.number}/64 dev e0 nodad",
            )

    def start(self) -> None:
        """Start both and wait until each hears the other."""
        marker = ip_address("fd44:0:0:2::1")
        self.there.hold(marker)
        for router in (self.here, self.there):
            router.start()
        wait_for(lambda: self.here.way_to(marker) == "e0", "the routers are neighbours")
        self.there.leave(marker)
        wait_for(lambda: not self.here.way_to(marker), "the retraction arrives")

    def flush(self) -> None:
        """Take away all host routes of ours, on both."""
        for router in (self.here, self.there):
            for family in ("-6", "-4"):
                sh(f"ip {family} -n {router.namespace} route flush proto {_KERNEL.protocol}", check=False)


@contextlib.contextmanager
def pair_of(generation: Generation, routing: str = BABEL) -> Iterator[Pair]:
    """Both routers, not started; gone afterwards."""
    pair = Pair(generation, routing)
    try:
        pair.build()
        yield pair
    finally:
        for router in (pair.here, pair.there):
            router.remove()
