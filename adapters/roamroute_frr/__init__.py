"""roamroute's adapter for FRR, over vtysh; FRR itself stays as it is.

`vtysh` is the conversation, `answers` what FRR says as values, `confirmation` what FRR does with our routes, `inject`
the static routes of mode "inject", `running` its configuration as far as it decides over our routes.
docs/frr-facts.md has the measurements.
"""

from __future__ import annotations

from roamroute.export import ExporterSpec
from roamroute_frr.check import check
from roamroute_frr.config import fragment
from roamroute_frr.exporter import create
from roamroute_frr.lab import FrrLab
from roamroute_frr.settings import parse

SPEC = ExporterSpec(
    name="frr",
    parse=parse,
    create=create,
    config=fragment,
    check=check,
    lab={"frr-ospf": FrrLab("ospf"), "frr-ibgp": FrrLab("ibgp")},
)
