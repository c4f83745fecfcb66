"""roamroute's adapter for babeld, over its local socket; babeld itself stays as it is.

`protocol` and `session` are sans-IO, `tables` what babeld knows, `needs` what the kernel exporter must do for it
(parking, the kick), `version` what is wrong with which version, `rules` its configuration as far as it decides over
our routes.
docs/babeld-facts.md has the measurements.
"""

from __future__ import annotations

from roamroute.export import Exporter, ExporterContext, ExporterSpec
from roamroute_babeld.check import check
from roamroute_babeld.exporter import BabeldExporter
from roamroute_babeld.fragment import fragment
from roamroute_babeld.lab import BabeldLab
from roamroute_babeld.settings import Settings, parse


def _create(settings: Settings, context: ExporterContext) -> Exporter:
    return BabeldExporter(settings, context)


SPEC = ExporterSpec(
    name="babeld", parse=parse, create=_create, config=fragment, check=check, lab={"babeld": BabeldLab()}
)
