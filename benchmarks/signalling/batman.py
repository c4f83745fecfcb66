"""batman-adv of the same size as the simulation, in the Wi-Fi lab's kernel (tools/wifi-lab) and in its virtual time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import attrs

from benchmarks.signalling.counted import Rate
from benchmarks.signalling.simulation import Size
from roamroute.errors import MachineUnfit
from roamroute.values import Seconds

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 900


@attrs.frozen
class BatmanCost:
    """On the link of an average access point, and on an average one between gateway and router (`inner_…`).

    `reached_…`: the share of clients to which frames found their way.
    """

    idle: Rate
    moving: Rate
    inner_idle: Rate
    inner_moving: Rate
    reached_at_rest: float
    reached_after: float


def measure(size: Size, *, moves_per_second: float, seconds: Seconds) -> BatmanCost:
    """Raises: MachineUnfit when the kernel is not there, with what it said when it did not work."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if not (Path(os.environ.get("WIFI_LAB") or cache / "wifi-lab") / "linux").exists():
        raise MachineUnfit("batman-adv needs the Wi-Fi lab's kernel: run tools/wifi-lab/build")
    with tempfile.TemporaryDirectory(prefix="roamroute-batman-") as folder:
        shutil.copy(Path(__file__).with_name("batman_mesh.py"), folder)
        kernel = [str(ROOT / "tools/wifi-lab/run"), "-v", "-r", "0", "-m", "2G", "-l", str(LIMIT_S), folder]
        arguments = [size.access_points, size.hosts, moves_per_second, round(seconds)]
        done = subprocess.run(
            [*kernel, "python3", "batman_mesh.py", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise MachineUnfit(f"batman-adv in the Wi-Fi lab: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return BatmanCost(
        idle=_rate(told, "idle"),
        moving=_rate(told, "moving"),
        inner_idle=_rate(told, "inner_idle"),
        inner_moving=_rate(told, "inner_moving"),
        reached_at_rest=told["reached_at_rest"],
        reached_after=told["reached_after"],
    )


def _rate(told: dict[str, float], name: str) -> Rate:
    columns = ("sent_octets", "received_octets", "sent_frames", "received_frames")
    return Rate(*(told[f"{name}_{column}"] for column in columns))
