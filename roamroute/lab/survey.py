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
from roamroute.lab.comparison import CAPTION, COLUMNS, lines
from roamroute.lab.installed import find_routing
from roamroute.lab.options import LabOptions
from roamroute.lab.report import Report
from roamroute.lab.run import run

SCHEMA = 1
TEXT_COLUMNS = ("routing", "daemon", "client")


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
            caption=CAPTION,
            caption_justify="left",
        )
        for column in TEXT_COLUMNS:
            table.add_column(column, overflow="fold")
        for column in COLUMNS:
            table.add_column(column, justify="right")
        for row in self.rows:
            labels = (escape(row.name), escape(row.daemon))
            if row.report is None:
                table.add_row(*labels, "[red]not measured[/red]", end_section=True)
                continue
            found = list(lines(row.report))
            for position, (mode, behaviour, numbers) in enumerate(found):
                client = behaviour if len(row.report.options.modes) == 1 else f"{behaviour}, {mode}"
                labels = labels if position == 0 else ("", "")
                table.add_row(*labels, client, *numbers, end_section=position == len(found) - 1)
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
