"""What the kernel of a network namespace shows of somebody's host routes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from roamroute.export import FibChange, KernelNumbers
from roamroute.linux.foreign import ForeignRoutes
from roamroute.testing.exporter_rig import PREFIXES
from roamroute.values import Address, HostRoute


def routes_of(namespace: str, protocol: int | str) -> list[dict[str, Any]]:
    """The unicast routes of one protocol, in the main table, both families."""
    found = []
    for family in ("-6", "-4"):
        command = f"ip -n {namespace} -N -j {family} route show table main proto {protocol}".split()
        shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        found += [each for each in json.loads(shown or "[]") if each.get("type", "unicast") == "unicast"]
    return found


def installed(namespace: str, protocol: int | str = KernelNumbers().protocol) -> dict[Address, HostRoute]:
    """The host routes of one protocol: ours, or a routing daemon's that installs them for us."""
    routes = [HostRoute(ip_address(each["dst"]), each["dev"]) for each in routes_of(namespace, protocol)]
    return {route.address: route for route in routes}


async def follow_fib(changed: Callable[[FibChange], None]) -> None:
    """`ExporterContext.follow_fib` as the daemon has it, of the namespace in which the test's thread is."""
    links = ("wlan0", "wlan1")
    await ForeignRoutes(PREFIXES, KernelNumbers(), changed, lambda *_line: None, interfaces=links).run()
