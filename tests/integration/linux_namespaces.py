"""Namespaces for the tests of roamroute.linux: an access point `ap` with a client `sta` on a veth pair.

The test's own thread moves into the access point's namespace: netlink and packet sockets belong to the namespace in
which they are opened, whoever uses them later.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from roamroute.values import Mac

_NUMBERS = itertools.count()
_CLONE_NEWNET = 0x40000000
_FIRST_NAMESPACE = os.open("/proc/self/ns/net", os.O_RDONLY)
"""Where the tests were started: usually the initial one, the only one that has the limits of the neighbour table."""


def sh(command: str, *, check: bool = True) -> str:
    """Run one line of shell; return its output."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=30, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Move this thread into a network namespace, and back."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        assert libc.setns(there, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert libc.setns(home, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(home)
        os.close(there)


class Bed:
    """Two namespaces: `ap` with wlan0 (fe80::1, 10.44.0.1/16), `sta` with eth0 (fd44::2, 10.44.0.2)."""

    MAC = Mac("02:00:00:00:00:02")
    PREFIX = "fd44:0:0:1::/64"
    ADDRESS6 = "fd44:0:0:1::2"
    ADDRESS4 = "10.44.0.2"

    def __init__(self) -> None:
        self.ap = f"rrlx{os.getpid()}ap{next(_NUMBERS)}"
        self.sta = f"rrlx{os.getpid()}sta{next(_NUMBERS)}"

    def build(self) -> None:
        sh(f"ip netns add {self.ap} && ip netns add {self.sta}")
        for namespace in (self.ap, self.sta):
            sh(f"ip -n {namespace} link set lo up")
            sysctl = f"ip netns exec {namespace} sysctl -qw"
            sh(f"{sysctl} net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.forwarding=1")
        self.plug()

    def plug(self) -> None:
        """Make the pair of interfaces (again)."""
        sh(f"ip -n {self.ap} link add wlan0 type veth peer name eth0 address {self.MAC} netns {self.sta}")
        sh(f"ip -n {self.ap} addr add fe80::1/64 dev wlan0 nodad && ip -n {self.ap} addr add 10.44.0.1/16 dev wlan0")
        sh(f"ip -n {self.ap} link set wlan0 up && ip -n {self.sta} link set eth0 up")
        sh(f"ip -n {self.sta} addr add {self.ADDRESS6}/64 dev eth0 nodad")
        sh(f"ip -n {self.sta} addr add {self.ADDRESS4}/16 dev eth0")

    def unplug(self) -> None:
        sh(f"ip -n {self.ap} link del wlan0")

    def on_ap(self, command: str, *, check: bool = True) -> str:
        return sh(f"ip netns exec {self.ap} {command}", check=check)

    def on_sta(self, command: str, *, check: bool = True) -> str:
        return sh(f"ip netns exec {self.sta} {command}", check=check)

    def remove(self) -> None:
        for namespace in (self.ap, self.sta):
            sh(f"ip netns del {namespace}", check=False)


def make_bed() -> Iterator[Bed]:
    """The body of a fixture: a bed, with the thread inside the access point's namespace."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    bed = Bed()
    try:
        bed.build()
        with inside(bed.ap):
            yield bed
    finally:
        bed.remove()


async def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.01)


class Logged:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, level: str, line: str) -> None:
        self.lines.append(f"{level} {line}")


@contextmanager
def neighbour_limits(maximum: int) -> Iterator[None]:
    """Room for `maximum` neighbours. The limits count for the whole host: what was there is restored."""
    files = [Path(f"/proc/sys/net/{family}/neigh/default/gc_thresh3") for family in ("ipv4", "ipv6")]
    with in_first_namespace():
        before = [file.read_text() for file in files]
        for file in files:
            file.write_text(str(max(maximum, int(file.read_text()))))
    try:
        yield
    finally:
        with in_first_namespace():
            for file, text in zip(files, before, strict=True):
                file.write_text(text)


@contextmanager
def in_first_namespace() -> Iterator[None]:
    """Move this thread to where the tests were started, and back."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        libc.setns(_FIRST_NAMESPACE, _CLONE_NEWNET)
        if not Path("/proc/sys/net/ipv6/neigh/default/gc_thresh3").exists():
            pytest.skip("not in the initial network namespace: the limits of the neighbour table cannot be raised")
        yield
    finally:
        libc.setns(home, _CLONE_NEWNET)
        os.close(home)
