"""`roamroute status` for people. The only module outside the lab that loads rich."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_FORWARDS = 20
_HANDOVERS = 20
_COLUMNS = 140


def print_status(status: Mapping[str, Any]) -> None:
    """Print the answer to `status` as tables."""
    # An address that is cut short is of no use: rather let a narrow terminal wrap the lines. ":a:" is part of
    # one, and "[handover]" of what others say.
    width = max(_COLUMNS, shutil.get_terminal_size().columns)
    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False, width=width)
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
    for version, table in status["neighbour_table"].items():
        if isinstance(table, Mapping) and table["is_overflowing"]:
            fill = f"{table['entries']} entries, room for {table['gc_thresh3']}"
            console.print(f"  the {version} neighbour table OVERFLOWS: {fill}\n    -> roamroute config sysctl")
    for address, why in routes["refused"].items():
        console.print(f"  the kernel refused {address}: {why}")
    _print_hosts(console, status["hosts"])
    _print_peers(console, status["peers"])
    if status["handover"] is not None:
        _print_handover(console, status["handover"])
        _print_handovers(console, status["handovers"])
    _print_discovery(console, status)


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
    table = _table("peer", "state", "since", "round trip", "restarts", "can", "hints told", "segments routed")
    for peer in peers["peers"]:
        is_up = peer["is_up"]
        hints = f"{peer['hints_held']} of {peer['hints_held'] + peer['hints_unacknowledged']}"
        routed = [segment["is_routed"] for segment in peer["segments"]]
        table.add_row(
            peer["peer"],
            "up" if is_up and peer["has_own_key"] else "up, another key" if is_up else "down",
            _duration(peer["since_s"]),
            _milliseconds(peer["rtt_ms"]),
            str(peer["restarts"]),
            " ".join(peer["capabilities"]) or "-",
            hints if is_up else "-",
            _yes(all(routed)) if routed and "segments" in peer["capabilities"] else "-",
        )
    console.print()
    console.print(table)


def _print_handover(console: Console, handover: Mapping[str, Any]) -> None:
    console.print()
    console.print(
        f"hints: {handover['hints']} hosts of the peers are known ahead"
        if handover["is_sharing_hints"]
        else "hints: switched off"
    )
    if handover["is_forwarding"]:
        taken = sum(handover["taken"].values())
        console.print(
            f"forwarding: {len(handover['forwards'])} addresses are sent on; {taken} packets taken from peers"
        )
    else:
        console.print(f"forwarding: NO, {handover['why_not']}")
    forwards = handover["forwards"]
    for forward in forwards[:_FORWARDS]:
        state = "" if forward["is_installed"] else ", NOT installed"
        console.print(f"  {forward['address']} to {forward['peer']}{state}")
    if len(forwards) > _FORWARDS:
        console.print(f"  and {len(forwards) - _FORWARDS} more")
    for host in handover["oscillating"]:
        console.print(f"  {host['mac']} oscillates between access points: not followed for {host['for_s']:.0f} s")


def _print_handovers(console: Console, handovers: list[dict[str, Any]]) -> None:
    """The last ones; milliseconds from the beginning."""
    if not handovers:
        return
    steps = ("announced", "claimed", "diverted", "forwarded", "converged", "withdrawn")
    table = _table("handover", "ago", "from", "to", "known by", *steps)
    for record in handovers[:_HANDOVERS]:
        table.add_row(
            record["mac"],
            _duration(record["began_ago_s"]),
            (record["from"] or "?") if record["side"] == "to" else "here",
            record["to"] if record["side"] == "from" else "here",
            record["known_by"] or "-",
            *(_milliseconds(_thousandfold(record["steps"][f"{step}_s"])) for step in steps),
        )
    console.print()
    console.print(table)


def _print_discovery(console: Console, status: Mapping[str, Any]) -> None:
    console.print()
    dad, ra = status["dad"], status["ra"]
    if dad is None:
        console.print("duplicate addresses: not looked for between hosts that cannot hear each other")
    else:
        console.print(f"duplicate addresses: proxy in mode {dad['mode']}; {_counted(dad['counters'])}")
    if ra is None:
        console.print("router advertisements: not sent by roamroute")
    else:
        lifetime = f"NO default router, {ra['reason']}" if ra["reason"] else f"lifetime {ra['lifetime_s']} s"
        console.print(f"router advertisements: {ra['source']}, {lifetime}; {_counted(ra['counters'])}")
    for router in status["routers"]:
        said = f"lifetime {router['lifetime_s']} s, {_duration(router['age_s'])} ago"
        console.print(f"  on {router['link']} {router['source']} ({router['mac']}) advertises too: {said}")


def _counted(counters: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counters.items() if count) or "nothing yet"


def _thousandfold(value: float | None) -> float | None:
    return None if value is None else 1000 * value


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="fold")
    return table


def _yes(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "NO"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
