"""roamroute's adapter for FRR, over vtysh; FRR itself stays as it is."""

from __future__ import annotations

from roamroute.export import Exporter, ExporterContext, ExporterSpec
from roamroute_frr.exporter import FrrExporter
from roamroute_frr.lab import FrrLab
from roamroute_frr.settings import Settings, parse


def _create(settings: Settings, context: ExporterContext) -> Exporter:
    return FrrExporter(settings, context)


SPEC = ExporterSpec(
    name="frr",
    parse=parse,
    create=_create,
    lab={"frr-ospf": FrrLab("ospf"), "frr-ibgp": FrrLab("ibgp")},
)
