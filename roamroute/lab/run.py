"""One run of the lab, from nothing to the report, and the logs kept when asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from roamroute.lab.laboratory import Laboratory
from roamroute.lab.options import LabOptions
from roamroute.lab.report import Report, versions
from roamroute.lab.roams import Roam, Walk, run_mode


def run(options: LabOptions, progress: Callable[[str], None]) -> Report:
    """See `roamroute.lab.run_lab`."""
    walks: list[Walk] = []
    roams: list[Roam] = []
    is_complete = False
    laboratory = Laboratory(options)
    progress("building the mesh and waiting for its routes")
    with laboratory as lab:
        found = versions(lab.routing_version)
        progress(f"the mesh has converged after {lab.converged_after_s:.1f} s")
        try:
            for mode in options.modes:
                run_mode(lab, mode, progress, walks, roams)
            is_complete = True
        except KeyboardInterrupt:
            if not roams:
                raise
        finally:
            if options.log_directory is not None:
                keep_logs(lab.sandbox.directory, options.log_directory)
        return Report(options, found, lab.converged_after_s, walks, roams, is_complete)


def keep_logs(directory: Path, destination: Path) -> None:
    """Copy configurations, logs and packet records of a run; sockets and keys stay behind."""
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.suffix != ".key":
            copy = destination / path.relative_to(directory)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
