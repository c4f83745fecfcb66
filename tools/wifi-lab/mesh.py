"""What carries the client's packets between gateway and access points: routers with babeld and roamroute."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bench import GATEWAY_ADDRESS, ROAMING_PREFIX, Bench
from namespaces import Namespace, wait_until

LOGS = Path("/shared")
DEBIAN13 = Path("/tmp/debian13")
Handover = Literal["off", "claim", "full"]
"""The access points do not talk to each other; they claim and answer; and hints and forwarding too."""


@dataclass(frozen=True)
class RoutedOptions:
    """How babeld and roamroute are set up."""

    babeld: str = "1.13.1"
    hello_s: float | None = None
    """babeld's hello interval; None is babeld's default (4 s)."""
    source: str = "hostapd"
    handover: Handover = "full"
    has_gateway_peer: bool = False
    """The gateway runs roamroute too, without client links, and forwards."""
    has_packet_source: bool = True
    log_level: str = "info"
    program: tuple[str, ...] = ("-m", "roamroute")
    """What Python runs as the daemon."""
    prefixes: tuple[str, ...] = (ROAMING_PREFIX,)
    more_tables: str = ""
    """Of the access points' configuration."""


class RoutedMesh:
    """babeld on all routers, roamroute on the access points and, if asked for, on the gateway."""

    def __init__(self, bench: Bench, options: RoutedOptions) -> None:
        self._bench = bench
        self._options = options
        self._babeld = babeld_command(options.babeld)
        self.version = subprocess.run([*self._babeld, "-V"], capture_output=True, text=True, check=False).stderr.strip()
        bench.gateway.sysctl(ipv6__conf__all__forwarding=1)
        key = Path("/tmp/peers.key")
        if not key.exists():
            key.touch(mode=0o600)
            key.write_text(os.urandom(32).hex())
        self._addresses = {ap.name: ap.mesh_address for ap in bench.access_points}
        if options.has_gateway_peer:
            self._addresses[bench.gateway.name] = GATEWAY_ADDRESS
        links = {ap.name: [ap.link] for ap in bench.access_points}
        for name in self._addresses:
            self._configuration(name).write_text(self._tables(name, links.get(name, [])))
        self._routers = [bench.gateway, *(ap.namespace for ap in bench.access_points)]
        for router in self._routers:
            self._start_babeld(router)
        peers = [router for router in self._routers if router.name in self._addresses]
        for router in peers:
            program = ["nice", "-n", "-10", sys.executable, *options.program]  # as examples/roamroute.service does
            arguments = ["run", "-c", str(self._configuration(router.name))]
            router.start(*program, *arguments, log=str(self._log(router.name)))
        for router in peers:
            wait_until(partial(self._is_in_sync, router), f"roamroute of {router.name} is in sync", 30)
        for router in self._routers:
            wait_until(partial(self._knows_all, router), f"babeld of {router.name} has converged", 60, 0.5)

    def status(self, router: Namespace) -> Any:
        """What `roamroute status --json` says there. Raises: NotReached when it does not answer."""
        arguments = ["status", "--json", "-c", str(self._configuration(router.name))]
        return json.loads(router.run(sys.executable, "-m", "roamroute", *arguments))

    def _is_in_sync(self, router: Namespace) -> bool:
        return "in sync" in self._log(router.name).read_text()

    def _knows_all(self, router: Namespace) -> bool:
        routes = router.run("ip", "-6", "route", "show", "proto", "42") + router.run("ip", "-6", "addr")
        return all(
            address in routes for address in (GATEWAY_ADDRESS, *(a.mesh_address for a in self._bench.access_points))
        )

    def _start_babeld(self, router: Namespace) -> None:
        """As an operator would: his own file, and in front of it the fragment that `roamroute config` prints."""
        own = Path(f"/tmp/babeld-{router.name}.conf")
        lines = [
            "default type wired",
            "redistribute local ip fd44:0:0:a::/64 allow",
            "redistribute local deny",
            "redistribute deny",
            f"local-path /run/babeld-{router.name}.sock",
        ]
        if self._options.hello_s is not None:
            lines.insert(0, f"default hello-interval {self._options.hello_s}")
        own.write_text("\n".join(lines) + "\n")
        arguments = ["-I", f"/run/babeld-{router.name}.pid", "-S", f"/run/babeld-{router.name}.state"]
        if any(ap.namespace is router for ap in self._bench.access_points):
            fragment = Path(f"/tmp/babeld-{router.name}.roamroute.conf")
            asked = ["config", "babeld", "-c", str(self._configuration(router.name))]
            fragment.write_text(router.run(sys.executable, "-m", "roamroute", *asked))
            (LOGS / fragment.name).write_text(fragment.read_text())
            if "babeld -A 65534" in fragment.read_text():
                arguments += ["-A", "65534"]
            arguments += ["-c", str(fragment)]
        links = self._bench.mesh_links[router.name]
        log = str(LOGS / f"babeld-{router.name}.log")
        router.start(*self._babeld, *arguments, "-c", str(own), *links, log=log)

    def describe(self, file: Path) -> None:
        """Write down what every router believes, for somebody who looks for a fault."""
        with file.open("w") as text:
            for router in self._routers:
                text.write(f"== {router.name}\n{router.run('ip', '-6', 'route')}{router.run('ip', '-6', 'neigh')}")
                with socket.socket(socket.AF_UNIX) as babeld:
                    babeld.settimeout(2)
                    babeld.connect(f"/run/babeld-{router.name}.sock")
                    babeld.sendall(b"dump\nquit\n")
                    while answer := babeld.recv(65536):
                        text.write(answer.decode())

    @staticmethod
    def _configuration(router: str) -> Path:
        return Path(f"/tmp/roamroute-{router}.toml")

    @staticmethod
    def _log(router: str) -> Path:
        return LOGS / f"roamroute-{router}.log"

    def _tables(self, router: str, links: list[str]) -> str:
        options = self._options
        peers = json.dumps([address for name, address in self._addresses.items() if name != router])
        text = f"""\
[roaming]
interfaces = {json.dumps(links)}
prefixes = {json.dumps(options.prefixes)}
[control]
socket = "/run/roamroute-{router}.sock"
[log]
level = "{options.log_level}"
"""
        if links:  # who has none exports nothing
            text = text.replace(
                "[control]",
                f"""\
exporter = "babeld"
[exporters.babeld]
socket = "/run/babeld-{router}.sock"
command = "{shlex.join(self._babeld)}"
[stations]
source = "{options.source}"
hostapd_dir = "/run/hostapd-{router}"
[control]""",
            )
            text += options.more_tables
        if options.handover != "off":
            text += (
                f'[peers]\naddress = "{self._addresses[router]}"\naddresses = {peers}\nkey_file = "/tmp/peers.key"\n'
            )
        if options.handover == "claim":
            text += "[handover]\nhints = false\nforwarding = false\n"
        if not options.has_packet_source:
            text += "[packets]\nenabled = false\n"
        return text


def babeld_command(version: str) -> list[str]:
    """Debian 12's own, or Debian 13's as tools/debian13-root unpacked it on the machine that runs this."""
    if version == "1.12.1":
        return ["/usr/sbin/babeld"]
    if not DEBIAN13.exists():
        DEBIAN13.mkdir()
        subprocess.run(["mount", "-t", "hostfs", "none", str(DEBIAN13), "-o", os.environ["LAB_DEBIAN13"]], check=True)
    loader = next((DEBIAN13 / "usr").glob("lib*/ld-linux*.so.*"), None) or next(
        (DEBIAN13 / "usr/lib").rglob("ld-linux*")
    )
    libraries = next((DEBIAN13 / "usr/lib").glob("*-linux-gnu"))
    return [str(loader), "--library-path", str(libraries), str(DEBIAN13 / "usr/sbin/babeld")]
