"""Problems between wanted and exported, told once: in the log when they come, to the shell when they change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from roamroute.export import ExporterContext, Problem
from roamroute.values import Seconds

LOOK_S: Seconds = 1.0


async def watch(name: str, context: ExporterContext, problems: Callable[[], Iterable[Problem]]) -> None:
    """Look every second, since time alone makes a route that is not confirmed a problem; until cancelled.

    `name`: the exporter's, for the log.
    """
    reported: tuple[Problem, ...] = ()
    while True:
        await asyncio.sleep(LOOK_S)
        found = tuple(problems())
        if found == reported:
            continue
        known = {problem.text for problem in reported}
        for problem in found:
            if problem.text not in known:
                context.log("warning", f'exporter {name}: {problem.text} remedy="{problem.remedy}"')
        reported = found
        context.changed()
