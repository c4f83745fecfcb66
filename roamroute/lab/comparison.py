"""What of a report is compared: with other routings (`survey`), or its modes with each other. One line each."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from roamroute.lab.report import Report, Summary, milliseconds

COLUMNS = ("roams", "downlink median", "p95", "max", "uplink median", "p95", "lost", "TCP stall", "failed")
CAPTION = "gap: layer-2 connection to the first packet delivered; lost: packets per roam, sent after it"


def comparison(report: Report) -> Table:
    """The modes of one report in one table."""
    table = Table(title="side by side", title_justify="left", caption=CAPTION, caption_justify="left")
    table.add_column("mode")
    table.add_column("client")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for mode, behaviour, numbers in lines(report):
        table.add_row(mode, behaviour, *numbers)
    return table


def lines(report: Report) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Mode, behaviour, and a text for each of `COLUMNS`."""
    summaries = {(one.mode, one.behaviour, one.direction): one for one in report.summaries() if one.visits == "all"}
    for mode in report.options.modes:
        for behaviour in report.options.behaviours:
            downlink = summaries.get((mode, behaviour, "downlink"))
            if downlink is not None:
                uplink = summaries.get((mode, behaviour, "uplink"))
                yield mode, behaviour, tuple(_numbers(report, downlink, uplink))


def _numbers(report: Report, downlink: Summary, uplink: Summary | None) -> Iterator[str]:
    mode, behaviour, limit_s = downlink.mode, downlink.behaviour, report.options.limit_s
    yield str(downlink.roams)
    for seconds in (downlink.median_s, downlink.p95_s, downlink.max_s):
        yield milliseconds(seconds, limit_s)
    yield milliseconds(uplink.median_s, limit_s) if uplink is not None else "-"
    yield milliseconds(uplink.p95_s, limit_s) if uplink is not None else "-"
    yield f"{downlink.lost_after_mean:.1f}"
    downloads = [walk.download for walk in report.walks if (walk.mode, walk.behaviour) == (mode, behaviour)]
    stalls = [download.longest_stall_s() for download in downloads if download is not None]
    yield milliseconds(max(stalls), limit_s) if stalls else "-"
    failed = sum((roam.mode, roam.behaviour) == (mode, behaviour) for roam in report.failures())
    failed += sum(download is not None and not download.is_verified for download in downloads)
    yield f"[red]{failed}[/red]" if failed else "0"
