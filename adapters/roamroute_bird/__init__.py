"""roamroute's adapter for BIRD, over its control socket or a birdc; BIRD itself stays as it is.

`protocol` is sans-IO, `answers` and `routes` what BIRD says as values; `connection` is the socket, `birdc` the command
line, `client` asks by either; `inject` is the file of static routes, `poke` wakes old versions up.
docs/bird-facts.md has the measurements.
"""

from __future__ import annotations

from roamroute.export import Exporter, ExporterContext, ExporterSpec
from roamroute_bird.check import check
from roamroute_bird.config import fragment
from roamroute_bird.exporter import BirdExporter
from roamroute_bird.lab import LAB
from roamroute_bird.settings import Settings, parse


def _create(settings: Settings, context: ExporterContext) -> Exporter:
    return BirdExporter(settings, context)


SPEC = ExporterSpec(name="bird", parse=parse, create=_create, config=fragment, check=check, lab=LAB)
