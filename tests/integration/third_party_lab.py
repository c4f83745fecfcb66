"""A third party's exporter as far as the lab is concerned; its routing daemon is this file, run as a script.

The mesh itself is routed by static routes, for three access points and no loop. The host routes are carried by
rumours: the daemon of each access point writes down which are installed there, in a folder that all routers see, and
every router's daemon believes the latest writer. Nothing of roamroute knows of it but the entry point.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from roamroute.delta import Delta
from roamroute.export import Exporter, ExporterContext, ExporterSpec, ExportReport, FibNeeds, LabDaemon, LabRouter
from roamroute.values import HostRoute

NUMBERS = {"ap1": 1, "ap2": 2, "ap3": 3, "r1": 101, "r2": 102, "gw": 200}
NEXT_HOPS = {
    "gw": {"ap1": "r1", "ap2": "r1", "ap3": "r2", "r1": "r1", "r2": "r2"},
    "r1": {"ap1": "ap1", "ap2": "ap2", "ap3": "gw", "gw": "gw", "r2": "gw"},
    "r2": {"ap1": "gw", "ap2": "gw", "ap3": "ap3", "gw": "gw", "r1": "gw"},
    "ap1": dict.fromkeys(["ap2", "ap3", "gw", "r1", "r2"], "r1"),
    "ap2": dict.fromkeys(["ap1", "ap3", "gw", "r1", "r2"], "r1"),
    "ap3": dict.fromkeys(["ap1", "ap2", "gw", "r1", "r2"], "r2"),
}
POLL_S = 0.05
PROTOCOL = "99"


class RumourRouting:
    """See `roamroute.export.LabRouting`."""

    def version(self, options: Mapping[str, str]) -> str:
        return "rumours 1.0"

    def prepare(self, router: LabRouter) -> LabDaemon:
        hops = NEXT_HOPS[router.name]
        lines = [f"route add fd44:0:0:a::{NUMBERS[name]} via {_via(link)}" for name, link in hops.items()]
        if router.role != "gateway":
            up = hops["gw"]
            lines.append(f"route add default via {_via(up)}")
            lines.append(f"route add default via 10.44.200.{NUMBERS[up]} dev {up} onlink")
        batch, ready = router.directory / "routes", router.directory / "ready"
        batch.write_text("\n".join(lines) + "\n")
        folder = router.directory.parent.parent / "rumours"
        folder.mkdir(exist_ok=True)
        daemon = (sys.executable, __file__, str(folder), router.name, str(router.kernel.protocol), str(ready))
        return LabDaemon((("ip", "-batch", str(batch)), daemon), {}, (None, ready))


class RumourExporter:
    """See `roamroute.export.Exporter`: it only lets the kernel exporter install."""

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    def needs(self) -> FibNeeds:
        return FibNeeds()

    def may_delete(self, route: HostRoute) -> bool:
        return True

    async def publish(self, delta: Delta) -> None:
        pass

    async def publish_all(self, wanted: Sequence[HostRoute]) -> None:
        pass

    def report(self) -> ExportReport:
        return ExportReport(is_connected=True, daemon="rumours 1.0")

    async def close(self) -> None:
        pass


def _parse(settings: Mapping[str, Any]) -> None:
    return None


def _create(settings: None, context: ExporterContext) -> Exporter:
    return RumourExporter()


SPEC = ExporterSpec("rumours", parse=_parse, create=_create, lab={"rumours": RumourRouting()})


def install(folder: Path) -> None:
    """Make a distribution with the entry point in a folder for the Python path."""
    information = folder / "third_party_lab-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party-lab\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[roamroute.exporters]\nrumours = third_party_lab:SPEC\n")


def _via(link: str) -> str:
    return f"fe80::a:{NUMBERS[link]} dev {link}"


def carry(folder: Path, router: str, protocol: str, ready: Path) -> None:
    """The daemon, until it is killed."""
    since: dict[str, float] = {}
    believed: dict[str, str] = {}
    ready.touch()
    while True:
        if router.startswith("ap"):
            routes = json.loads(_ip(["-6", "-j", "route", "show", "proto", protocol]) or "[]")
            since = {route["dst"]: since.get(route["dst"], time.time()) for route in routes}
            _write(folder / router, since)
        latest: dict[str, tuple[float, str]] = {}
        for path in folder.glob("ap[0-9]"):
            for host, moment in json.loads(path.read_text()).items():
                latest[host] = max(latest.get(host, (0.0, "")), (moment, path.name))
        found = {host: NEXT_HOPS[router][name] for host, (_, name) in latest.items() if name != router}
        lines = [f"route del {host} proto {PROTOCOL}" for host in believed.keys() - found.keys()]
        lines += [
            f"route replace {host} via {_via(link)} proto {PROTOCOL}"
            for host, link in found.items()
            if believed.get(host) != link
        ]
        if lines:
            _ip(["-force", "-batch", "-"], "\n".join(lines) + "\n")
        believed = found
        time.sleep(POLL_S)


def _ip(words: Sequence[str], text: str = "") -> str:
    return subprocess.run(["ip", *words], input=text, capture_output=True, text=True, check=False).stdout


def _write(path: Path, content: object) -> None:
    new = path.with_name(f".{path.name}")
    new.write_text(json.dumps(content))
    new.rename(path)


if __name__ == "__main__":
    carry(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
