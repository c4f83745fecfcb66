"""Real babelds in network namespaces, with roamroute's exporters on the access points, for test_babeld_*.py.

Every access point has a thread of its own in its namespace, with an event loop: the kernel exporter and the babeld
adapter run there as they do in the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar

import pytest
from generations import BABELD
from roamroute_babeld import SPEC
from roamroute_babeld.fragment import installed_version, render
from roamroute_babeld.settings import Settings

from roamroute.delta import Delta
from roamroute.events import Event
from roamroute.export import Exporter, ExporterContext, ExportReport, Finding, KernelNumbers
from roamroute.linux.fib import KernelFib
from roamroute.values import Address, HostRoute

DEBIAN_12, DEBIAN_13 = (each.command for each in BABELD)
AS_INSTALLED = [pytest.param(each.command, id=each.name, marks=each.mark) for each in BABELD]
GENERATIONS = [
    *AS_INSTALLED,
    pytest.param(f"{DEBIAN_12} -A 65534", id=f"{BABELD[0].name}-A", marks=BABELD[0].mark),
]
PREFIXES = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
LINK = "wlan0"
LIMIT_S = 40.0
"""For babeld without a kick: an update may wait for a hello interval at each router, and a lost packet for four."""
OPERATOR = """default type wired
default hello-interval 1
redistribute local ip fd44:0:0:a::/64 allow
redistribute local deny
redistribute proto 4 allow
redistribute deny
"""
"""What many write: only what they know goes out. Protocol 4 is `ip route add … proto static`.

At babeld's own hello interval of 4 s a mesh needs 13 s to come up; how long a roam takes then, the lab measures."""

Result = TypeVar("Result")
_NUMBERS = itertools.count()
_CLONE_NEWNET = 0x40000000


def sh(command: str, *, check: bool = True) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=30, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def wait_for(is_true: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> float:
    """Wait until it holds; return the seconds. Fails the test with `what`."""
    begun = time.monotonic()
    while not is_true():
        assert time.monotonic() - begun < limit_s, f"not within {limit_s:g} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - begun


class Router:
    """A namespace with a babeld."""

    def __init__(self, mesh: Mesh, name: str, number: int) -> None:
        self.mesh = mesh
        self.name = name
        self.namespace = f"rrb{os.getpid()}-{mesh.number}-{name}"
        self.directory = mesh.directory / name
        self.directory.mkdir()
        self.socket = self.directory / "babeld.sock"
        self.address = ip_address(f"fd44:0:0:a::{number}")
        self.links: list[str] = []
        self.configuration = [OPERATOR]
        self._babeld: subprocess.Popen[bytes] | None = None
        sh(f"ip netns add {self.namespace}")
        sysctl = "net.ipv6.conf.all.forwarding=1 net.ipv4.ip_forward=1 net.ipv6.conf.default.accept_dad=0"
        sh(f"ip netns exec {self.namespace} sysctl -qw {sysctl}")
        self.ip("link set lo up", f"addr add {self.address}/128 dev lo")

    def ip(self, *lines: str) -> str:
        return "".join(sh(f"ip -n {self.namespace} {line}") for line in lines)

    def start(self, command: str | None = None) -> None:
        """Start babeld, with all that `configuration` holds, in this order."""
        for stale in ("babeld.sock", "babeld.pid"):
            (self.directory / stale).unlink(missing_ok=True)
        arguments: list[str] = []
        for position, text in enumerate(self.configuration):
            file = self.directory / f"{position}.conf"
            file.write_text(text)
            arguments += ["-c", str(file)]
        program, *options = (command or self.mesh.command).split()
        program = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin") or program
        state = ["-S", str(self.directory / "state"), "-I", str(self.directory / "babeld.pid")]
        with (self.directory / "babeld.log").open("ab") as log:
            self._babeld = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.namespace}", program, *options, *state, *arguments, *self.links],
                stdout=log,
                stderr=log,
            )

    def signal(self, number: int) -> None:
        """Send babeld a signal, such as SIGSTOP."""
        assert self._babeld is not None
        self._babeld.send_signal(number)

    def kill(self) -> None:
        if self._babeld is not None:
            self._babeld.kill()
            self._babeld.wait()
            self._babeld = None

    def routes(self, address: Address | str) -> list[dict[str, Any]]:
        """The kernel's routes for exactly this destination ("default" is one), the best first."""
        family = "-4" if "." in str(address) or address == "default4" else "-6"
        where = "default" if str(address).startswith("default") else f"exact {address}"
        found = json.loads(sh(f"ip -j -d {family} -n {self.namespace} route show {where}") or "[]")
        return sorted(found, key=lambda route: int(route.get("metric", 0)))

    def reaches(self, address: Address | str) -> str | None:
        """The link by which the kernel's best route for exactly this destination goes; None where there is none."""
        best = next(iter(self.routes(address)), None)
        return str(best["dev"]) if best is not None and best.get("type", "unicast") == "unicast" else None

    def wait_way(self, address: Address | str, link: str | None = None, limit_s: float = LIMIT_S) -> None:
        """Wait until the best route for exactly this destination goes by `link`, or by any."""

        def is_there() -> bool:
            way = self.reaches(address)
            return way is not None if link is None else way == link

        wait_for(is_there, f"{self.name} reaches {address} by {link or 'any link'}", limit_s)

    def wait_loss(self, address: Address | str) -> None:
        """Wait until there is no usable route for exactly this destination."""
        wait_for(lambda: self.reaches(address) is None, f"{self.name} has lost {address}")

    def close(self) -> None:
        self.kill()
        sh(f"ip netns del {self.namespace}", check=False)


class AccessPoint(Router):
    """A router with a client link and roamroute's exporters."""

    def __init__(self, mesh: Mesh, name: str, number: int) -> None:
        super().__init__(mesh, name, number)
        self.ip(f"link add {LINK} type bridge", f"link set {LINK} up", f"addr add fe80::1/64 dev {LINK} nodad")
        self.ip(f"addr add fd44:0:0:1::1/128 dev {LINK} nodad")
        self.events: list[Event] = []
        self.log: list[str] = []
        self.settings = Settings(socket=str(self.socket))
        self.context = ExporterContext(
            (LINK,),
            PREFIXES,
            KernelNumbers(),
            self.events.append,
            lambda *words: self.log.append(" ".join(words)),
            lambda: self.fib.look_again(),
        )
        version = installed_version(tuple(mesh.command.split()[:1]))
        self.fragment = render(self.settings, self.context, version)
        self.configuration = [self.fragment, OPERATOR]
        self.wanted: dict[Address, HostRoute] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._tasks: list[asyncio.Task[None]] = []
        self.adapter: Exporter
        self.fib: KernelFib

    def listen_on(self, socket: str | int) -> None:
        """Use another local socket, before the start."""
        self.settings = Settings(socket=socket)
        self.fragment = render(self.settings, self.context, installed_version(tuple(self.mesh.command.split()[:1])))
        self.configuration[0] = self.fragment

    def follow(self) -> None:
        """Start roamroute's exporters."""
        self._thread.start()
        self.call(self._begin)

    def announce(self, *addresses: Address) -> None:
        routes = tuple(HostRoute(address, LINK) for address in addresses)
        self.wanted |= {route.address: route for route in routes}
        self.call(lambda: self._publish(Delta(announced=routes)))

    def withdraw(self, *addresses: Address) -> None:
        routes = tuple(self.wanted.pop(address) for address in addresses)
        self.call(lambda: self._publish(Delta(withdrawn=routes)))

    def report(self) -> ExportReport:
        return self.adapter.report()

    def wait_exported(self, *addresses: Address) -> None:
        """Wait until babeld confirms exactly these."""
        wait_for(lambda: self.report().exported == frozenset(addresses), f"{self.name} exports {addresses}")

    def findings(self) -> Sequence[Finding]:
        async def check() -> Sequence[Finding]:
            assert SPEC.check is not None
            return tuple(await SPEC.check(self.settings, self.context))

        return self.call(check)

    def call(self, work: Callable[[], Awaitable[Result]]) -> Result:
        async def run() -> Result:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(LIMIT_S)

    def close(self) -> None:
        if self._thread.is_alive():
            self.call(self._end)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        super().close()

    def _run(self) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self.namespace}") as there:
            assert libc.setns(there.fileno(), _CLONE_NEWNET) == 0
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _begin(self) -> None:
        self.adapter = SPEC.create(self.settings, self.context)
        self.fib = KernelFib(self.context, self.adapter.needs, self.adapter.may_delete)
        self._tasks = [asyncio.create_task(self.adapter.run()), asyncio.create_task(self.fib.run())]

    async def _publish(self, delta: Delta) -> None:
        self.fib.apply(delta)
        await self.adapter.publish(delta)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.adapter.close()
        await self.fib.close()


class Mesh:
    """Routers joined by veth pairs; names that begin with `ap` are access points."""

    def __init__(self, command: str, directory: Path, *pairs: tuple[str, str]) -> None:
        self.command = command
        self.directory = directory
        self.number = next(_NUMBERS)
        self.routers: dict[str, Router] = {}
        for name in dict.fromkeys(itertools.chain(*pairs)):
            make = AccessPoint if name.startswith("ap") else Router
            self.routers[name] = make(self, name, len(self.routers) + 1)
        for number, (left, right) in enumerate(pairs):
            here, there = self.routers[left], self.routers[right]
            here.ip(f"link add {right} type veth peer name {left} netns {there.namespace}")
            for end, link, host in ((here, right, 1), (there, left, 2)):
                end.ip(f"addr add 10.99.{number}.{host}/24 dev {link}", f"link set {link} up")
                end.links.append(link)

    def __getitem__(self, name: str) -> Router:
        return self.routers[name]

    def access_point(self, name: str) -> AccessPoint:
        found = self.routers[name]
        assert isinstance(found, AccessPoint)
        return found

    def start(self) -> None:
        """Start everything and wait until all know the way to all."""
        for router in self.routers.values():
            router.start()
        for router in self.routers.values():
            if isinstance(router, AccessPoint):
                router.follow()
        for here, there in itertools.permutations(self.routers.values(), 2):
            here.wait_way(there.address)

    def close(self) -> None:
        for router in self.routers.values():
            router.close()


@contextlib.contextmanager
def mesh_of(command: str, directory: Path, *pairs: tuple[str, str]) -> Iterator[Mesh]:
    """A mesh that is not started yet; removed at the end."""
    mesh = Mesh(command, directory, *pairs)
    try:
        yield mesh
    finally:
        mesh.close()


class RouteWatch:
    """What happens to some destinations in a router's kernel, from now on."""

    def __init__(self, router: Router) -> None:
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            ["ip", "-n", router.namespace, "-ts", "monitor", "route"], stdout=subprocess.PIPE, text=True
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        time.sleep(0.2)  # there is no sign that it has begun to listen

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)

    def lost(self, destination: str) -> list[str]:
        """The deletions of babeld's usable routes for a destination as `ip monitor` names it."""
        return [line for line in self._lines if f"Deleted {destination} via" in line and "proto babel" in line]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(5)
