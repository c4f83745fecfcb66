"""An emulated mesh on this machine, in network namespaces, with the real daemons: it roams a client, measures the gaps.

`run_lab` is what the command `roamroute lab` runs, `survey.survey` what it runs for several routings. Tests build what
they need from the parts: `namespaces.Sandbox`, `topology.Mesh`, `wifi.AccessPointDaemon`, `radio.Client`,
`routing.MeshRouting`, `roaming.RoamrouteDaemon`, `traffic.Traffic`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roamroute.lab.options import LabOptions
    from roamroute.lab.report import Report


def run_lab(options: LabOptions, progress: Callable[[str], None] = lambda line: None) -> Report:
    """Build the laboratory, roam in every mode that is asked for, take it down; an interrupted run reports what it has.

    `progress` is called with one line at a time. Raises: MachineUnfit, ConfigError, NotReached, CommandFailed.
    """
    from roamroute.lab.run import run

    return run(options, progress)
