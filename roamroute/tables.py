"""`roamroute status` for people. The only module outside the lab that loads rich."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def print_status(status: Mapping[str, Any]) -> None:
    """Print the answer to `status` as tables."""
    console = Console(highlight=False, soft_wrap=True, emoji=False)  # ":a:" is part of an address
    routes, exporter = status["routes"], status["exporter"]
    state = "drained" if status["is_drained"] else "in sync" if status["is_synced"] else "starting"
    console.print(f"roamroute {status['version']}, {state}, up {_duration(status['uptime_s'])}")
    counts = {view: "unknown" if routes[view] is None else routes[view] for view in ("wanted", "installed", "exported")}
    console.print(
        f"routes: wanted {counts['wanted']}, installed {counts['installed']}, exported {counts['exported']}, "
        f"parked {routes['parked']}, foreign {routes['foreign']}"
    )
    link = "connected" if exporter["is_connected"] else "NOT connected"
    console.print(f"exporter: {exporter['name']}, {exporter['daemon'] or 'no routing daemon'}, {link}")
    for problem in exporter["problems"]:
        console.print(f"  problem: {problem['text']}\n    -> {problem['remedy']}")
    for address, why in routes["refused"].items():
        console.print(f"  the kernel refused {address}: {why}")
    _print_hosts(console, status["hosts"])
    _print_peers(console, status["peers"])


def _print_hosts(console: Console, hosts: list[dict[str, Any]]) -> None:
    table = Table(
        "host", "station", "address", "NUD", "wanted", "installed", "exported", "age", box=None, pad_edge=False
    )
    for host in hosts:
        for number, entry in enumerate(host["addresses"]):
            table.add_row(
                host["mac"] if number == 0 else "",
                (host["station_link"] or "-") if number == 0 else "",
                entry["address"],
                entry["nud"],
                _yes(entry["is_wanted"]),
                _yes(entry["is_installed"]),
                _yes(entry["is_exported"]),
                _duration(entry["age_s"]),
            )
    console.print()
    console.print(table)
    remembered = sum(1 for host in hosts if not host["addresses"])
    console.print(f"{remembered} more hosts are remembered" if remembered else "", end="\n" if remembered else "")


def _print_peers(console: Console, peers: Mapping[str, Any] | None) -> None:
    if peers is None:
        console.print("\nno peers are configured")
        return
    table = _table("peer", "state", "since", "round trip", "restarts")
    for peer in peers["peers"]:
        rtt = "-" if peer["rtt_ms"] is None else f"{peer['rtt_ms']:.1f} ms"
        state = "up" if peer["is_up"] else "down"
        table.add_row(peer["peer"], state, _duration(peer["since_s"]), rtt, str(peer["restarts"]))
    console.print()
    console.print(table)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="fold")  # an address that is cut short is of no use
    return table


def _yes(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "NO"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
