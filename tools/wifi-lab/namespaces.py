"""Network namespaces, the control sockets of hostapd and wpa_supplicant, and waiting for what must happen."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class NotReached(Exception):
    """Something that had to happen did not, within its time."""


def wait_until(condition: Callable[[], bool], what: str, limit_s: float, poll_s: float = 0.05) -> None:
    """Raises: NotReached."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise NotReached(f"{what}: not within {limit_s} s")
        time.sleep(poll_s)


class Namespace:
    """A network namespace, named as in `ip netns`."""

    def __init__(self, name: str) -> None:
        self.name = name
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str) -> str:
        done = subprocess.run(["ip", "netns", "exec", self.name, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotReached(f"{self.name}: {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        with open(log, "ab") as output:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def sysctl(self, **settings: int) -> None:
        for name, value in settings.items():
            self.run("sysctl", "-q", "-w", f"net.{name.replace('__', '.')}={value}")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in the namespace; sockets opened meanwhile stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        away = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            if _libc.setns(away, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"entering {self.name}")
            yield
        finally:
            _libc.setns(home, _CLONE_NEWNET)
            os.close(away)
            os.close(home)


class ControlSocket:
    """The control interface of hostapd or wpa_supplicant: requests, and after ATTACH events."""

    _count = 0

    def __init__(self, path: Path) -> None:
        ControlSocket._count += 1
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"/tmp/control-{ControlSocket._count}")
        self.socket.settimeout(5)
        wait_until(path.exists, f"{path} appears", 10)
        self.socket.connect(str(path))

    def request(self, command: str) -> str:
        self.socket.send(command.encode())
        while (answer := self.socket.recv(65536)).startswith(b"<"):
            pass
        return answer.decode(errors="replace").strip()
