"""From the results of compare.py to the table that people read, and to the bars."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SYSTEMS = ("roamroute", "batman-adv")
PROBE_MS = 1.25  # probes are 0.75 to 1.25 ms apart: of two gaps that differ by less, neither is known to be shorter
UPLINK_BAR_MS = 10.0

Results = Mapping[str, Any]
"""A results.json of compare.py."""


def markdown(results: Sequence[Results]) -> str:
    """One pair of lines for each run; milliseconds, median / 95th percentile / maximum."""
    lines = [
        "| | | downlink | uplink | uplink, cache kept | lost, downlink | lost, uplink | layer 2 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        for system in result["options"]["systems"]:
            every = _roams(result, system)
            emptied, kept = (_roams(result, system, keeps_cache=keeps) for keeps in (False, True))
            title = title_of(result) if system == result["options"]["systems"][0] else ""
            cells = [
                spread(_ms(every, "downlink_s")),
                spread(_ms(emptied, "uplink_s")),
                spread(_ms(kept, "uplink_s")),
                _counts(every, "downlink_lost"),
                _counts(every, "uplink_lost"),
                spread(_ms(every, "layer2_s")),
            ]
            failed = sum(each["layer2_s"] is None or each["downlink_s"] is None for each in every)
            name = f"{system} ({failed} of {len(every)} not restored)" if failed else system
            lines.append(f"| {title} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def title_of(result: Results) -> str:
    """How this run differs from the others."""
    options = result["options"]
    words = [
        "virtual time" if result["is_virtual"] else "real time",
        f"{options['delay']} ms a link",
        "802.11r" if options["ft"] else "WPA2-PSK",
    ]
    if options["line"]:
        words.append("in line")
    if options["gateway_peer"]:
        words.append("the gateway a peer")
    if options["handover"] != "full":
        words.append(f"handover {options['handover']}")
    if options["babeld"] != "1.13.1":
        words.append(f"babeld {options['babeld']}")
    return ", ".join(words)


def anatomy(results: Sequence[Results]) -> str:
    """Where roamroute's milliseconds go: of each step, when it happened after AP-STA-CONNECTED, median / maximum."""
    lines = []
    names: dict[str, str] = {
        "received_s": "roamroute has the event from hostapd",
        "claim_sent_s": "the claim leaves the new access point",
        "claim_received_s": "… reaches the old one",
        "forward_installed_s": "the old one forwards (its kernel says so)",
        "first_forwarded_s": "the first packet leaves in the tunnel",
        "route_installed_s": "the host route is in the new one's kernel",
        "neighbour_installed_s": "the station is in its neighbour table",
        "downlink_s": "the client has the first packet",
        "uplink_s": "the gateway has the first packet of the client",
        "gateway_route_changed_s": "the gateway's route leads to the new one",
    }
    lines.append("| | " + " | ".join(title_of(each) for each in results) + " |")
    lines.append("|---|" + "---|" * len(results))
    for key, name in names.items():
        cells = []
        for result in results:
            roams = [each | each.get("steps", {}) for each in _roams(result, "roamroute")]
            values = _ms(roams, key)
            cells.append(f"{statistics.median(values):.1f} / {values[-1]:.1f}" if values else "")
        if any(cells):
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def verdicts(results: Sequence[Results]) -> Iterable[tuple[bool, str]]:
    """Each bar, and whether it is kept."""
    for result in results:
        if set(SYSTEMS) - set(result["options"]["systems"]):
            continue
        ours, theirs = (_ms(_roams(result, system), "downlink_s") for system in SYSTEMS)
        factor = 1 if result["is_virtual"] or result["options"]["delay"] else 2
        is_complete = all(each.get("downlink_s") is not None for each in _roams(result, "roamroute"))
        for what, mine, bar in (
            ("median", statistics.median(ours), factor * statistics.median(theirs)),
            ("maximum", ours[-1], factor * theirs[-1]),
        ):
            yield (
                is_complete and mine <= bar + PROBE_MS,
                f"{title_of(result)}: downlink, {what} {mine:.1f} ms, at most {factor} x batman-adv's ({bar:.1f} ms) "
                f"and {PROBE_MS} ms between probes",
            )
        for keeps in (False, True):
            values = _ms(_roams(result, "roamroute", keeps_cache=keeps), "uplink_s")
            if values:
                yield (
                    statistics.median(values) <= UPLINK_BAR_MS,
                    f"{title_of(result)}: uplink{', cache kept' * keeps}, median {statistics.median(values):.1f} ms, "
                    f"95th percentile {percentile(values, 95):.1f}, at most {UPLINK_BAR_MS:.0f} ms",
                )


def spread(values: Sequence[float]) -> str:
    """Of sorted milliseconds: median / 95th percentile / maximum."""
    if not values:
        return "–"
    return " / ".join(_short(each) for each in (statistics.median(values), percentile(values, 95), values[-1]))


def percentile(values: Sequence[float], percent: int) -> float:
    """Of sorted values, the nearest rank."""
    return values[max(0, -(-percent * len(values) // 100) - 1)]


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _roams(result: Results, system: str, *, keeps_cache: bool | None = None) -> list[Mapping[str, Any]]:
    return [each for each in result["roams"] if each["system"] == system and keeps_cache in (None, each["keeps_cache"])]


def _ms(roams: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    return sorted(1000 * each[key] for each in roams if each.get(key) is not None)


def _counts(roams: Iterable[Mapping[str, Any]], key: str) -> str:
    values = sorted(each[key] for each in roams if each.get(key) is not None)
    return f"{statistics.median(values):.0f} / {percentile(values, 95)} / {values[-1]}" if values else "–"
