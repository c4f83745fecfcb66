"""The same measurement with one routing after the other, in one table.

A routing that is not installed, or that fails, is said; the others are measured all the same. The JSON is stable, as
that of one report is (`report.py`), and holds one for every routing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from roamroute.errors import RoamrouteError
from roamroute.lab.installed import find_routing
from roamroute.lab.options import LabOptions
from roamroute.lab.report import Report, Summary, milliseconds
from roamroute.lab.run import run

SCHEMA = 1
TEXT_COLUMNS = ("routing", "daemon", "client")
NUMBER_COLUMNS = ("roams", "downlink median", "p95", "max", "uplink median", "lost", "TCP stall", "failed")


@attrs.frozen
class Row:
    """One routing. `report` is None where there was no measurement; `error` says why, empty when it was interrupted.

    `daemon` is a name with a version, empty where that is not known.
    """

    options: LabOptions
    daemon: str
    report: Report | None
    error: str = ""

    @property
    def name(self) -> str:
        """The routing with its options; which program it was, `daemon` says better."""
        options = self.options.routing_options
        if self.daemon:
            options = {key: value for key, value in options.items() if key != "command"}
        return routing_text(self.options.routing, options)

    def is_well(self) -> bool:
        return self.report is not None and self.report.is_well()

    def failures(self) -> Iterator[str]:
        """What went wrong, for people."""
        if self.report is None:
            yield self.error or "interrupted"
            return
        for roam in self.report.failures():
            yield f"{roam.mode}, {roam.behaviour}, roam {roam.number}, {roam.origin} to {roam.destination}: not back"
        for walk in self.report.walks:
            if walk.download is not None and not walk.download.is_verified:
                what = walk.download.error or "differs"
                yield f"{walk.mode}, {walk.behaviour}, walk {walk.number}: TCP download: {what}"


@attrs.frozen
class Survey:
    """What `survey` found, in the order in which it was asked for."""

    rows: Sequence[Row]
    is_complete: bool = True
    """False when it was interrupted: what was measured until then is here."""

    def is_well(self) -> bool:
        """Was every routing measured, did every roam come back, and was every download right?"""
        return self.is_complete and all(row.is_well() for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Everything, as values that `json` can write."""
        routings = [
            {
                "routing": row.options.routing,
                "options": dict(row.options.routing_options),
                "daemon": row.daemon or None,
                "error": row.error or None,
                "is_well": row.is_well(),
                "report": row.report.as_json() if row.report is not None else None,
            }
            for row in self.rows
        ]
        return {"schema": SCHEMA, "is_complete": self.is_complete, "routings": routings}

    def write_json(self, path: Path) -> None:
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def print(self, console: Console) -> None:
        """One table, and below it what went wrong."""
        console.print(self._table())
        for row in self.rows:
            for failure in row.failures():
                console.print(f"{row.name}: {failure}", style="red", markup=False, highlight=False, soft_wrap=True)
        if not self.is_complete:
            console.print("interrupted: this is what was measured until then", style="red")

    def _table(self) -> Table:
        table = Table(
            caption="gap: layer-2 connection to the first packet delivered; lost: packets per roam, sent after it",
            caption_justify="left",
        )
        for column in TEXT_COLUMNS:
            table.add_column(column, overflow="fold")
        for column in NUMBER_COLUMNS:
            table.add_column(column, justify="right")
        for row in self.rows:
            labels = (escape(row.name), escape(row.daemon))
            if row.report is None:
                table.add_row(*labels, "[red]not measured[/red]", end_section=True)
                continue
            lines = list(_lines(row.report))
            for position, line in enumerate(lines):
                table.add_row(*(labels if position == 0 else ("", "")), *line, end_section=line is lines[-1])
        return table


def survey(runs: Sequence[LabOptions], progress: Callable[[str], None]) -> Survey:
    """Do one run after the other; each has its own laboratory, and its own logs below the directory asked for.

    `progress` is called with one line at a time.
    """
    rows: list[Row] = []
    for number, options in enumerate(runs, start=1):
        name = routing_text(options.routing, options.routing_options)
        progress(f"{name} ({number} of {len(runs)})")
        daemon = ""
        if options.log_directory is not None:
            options = attrs.evolve(options, log_directory=options.log_directory / f"{number}-{options.routing}")
        try:
            daemon = find_routing(options.routing).lab.version(options.routing_options)
            rows.append(Row(options, daemon, run(options, progress)))
        except (RoamrouteError, OSError) as error:
            rows.append(Row(options, daemon, None, str(error)))
            progress(f"{name}: {error}")
        except KeyboardInterrupt:
            rows.append(Row(options, daemon, None))
        report, error_text = rows[-1].report, rows[-1].error
        if not (report.is_complete if report is not None else error_text):
            return Survey(rows, is_complete=False)
    return Survey(rows)


def routing_text(name: str, options: Mapping[str, str]) -> str:
    """A routing and its options as `--routing` takes them."""
    return ",".join([name, *(f"{key}={value}" for key, value in options.items())])


def _lines(report: Report) -> Iterator[tuple[str, ...]]:
    """What the table says behind routing and daemon: a line for each mode and behaviour."""
    summaries = {(one.mode, one.behaviour, one.direction): one for one in report.summaries() if one.visits == "all"}
    for mode in report.options.modes:
        for behaviour in report.options.behaviours:
            downlink = summaries.get((mode, behaviour, "downlink"))
            if downlink is not None:
                client = behaviour if len(report.options.modes) == 1 else f"{behaviour}, {mode}"
                yield (client, *_numbers(report, downlink, summaries.get((mode, behaviour, "uplink"))))


def _numbers(report: Report, downlink: Summary, uplink: Summary | None) -> Iterator[str]:
    mode, behaviour, limit_s = downlink.mode, downlink.behaviour, report.options.limit_s
    yield str(downlink.roams)
    for seconds in (downlink.median_s, downlink.p95_s, downlink.max_s):
        yield milliseconds(seconds, limit_s)
    yield milliseconds(uplink.median_s, limit_s) if uplink is not None else "-"
    yield f"{downlink.lost_after_mean:.1f}"
    downloads = [walk.download for walk in report.walks if (walk.mode, walk.behaviour) == (mode, behaviour)]
    stalls = [download.longest_stall_s() for download in downloads if download is not None]
    yield milliseconds(max(stalls), limit_s) if stalls else "-"
    failed = sum((roam.mode, roam.behaviour) == (mode, behaviour) for roam in report.failures())
    failed += sum(download is not None and not download.is_verified for download in downloads)
    yield f"[red]{failed}[/red]" if failed else "0"
