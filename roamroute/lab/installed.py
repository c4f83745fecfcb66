"""What the lab can run: the routing daemons and protocols that the installed exporters offer in `ExporterSpec.lab`.

roamroute names no adapter; a routing of a third party is chosen, listed and measured like ours.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from roamroute.errors import ConfigError, MachineUnfit
from roamroute.export import ExporterSpec, LabRouting, exporter_names, find_exporter


@attrs.frozen
class InstalledRouting:
    """One routing daemon with one routing protocol. `name` is what `--routing` takes."""

    name: str
    exporter: ExporterSpec
    lab: LabRouting


@attrs.frozen
class Offers:
    """All that is installed, by exporter and then in the order in which each offers it."""

    routings: tuple[InstalledRouting, ...]
    broken: Mapping[str, str] = attrs.field(factory=dict)
    """Exporters that are installed and cannot be loaded, with the reason."""

    def find(self, name: str) -> InstalledRouting:
        """The routing of that name, or the only one of the exporter of that name; empty: the first of all.

        Raises: ConfigError, which lists what is known; MachineUnfit when nothing is.
        """
        if not self.routings:
            reasons = "".join(f"; {exporter}: {reason}" for exporter, reason in self.broken.items())
            raise MachineUnfit(f"no installed exporter knows how to start its routing daemon in the lab{reasons}")
        if not name:
            return self.routings[0]
        found = [routing for routing in self.routings if routing.name == name]
        found = found or [routing for routing in self.routings if routing.exporter.name == name]
        if len(found) == 1:
            return found[0]
        if found and found[0].name == name:
            offering = " and ".join(f'"{routing.exporter.name}"' for routing in found)
            raise ConfigError((f'--routing: "{name}" is offered by the exporters {offering}: remove one of them',))
        if found:
            choices = ", ".join(f'"{routing.name}"' for routing in found)
            raise ConfigError((f'--routing: the exporter "{name}" has several: choose one of {choices}',))
        known = ", ".join(f'"{routing.name}"' for routing in self.routings)
        reason = f"; the exporter cannot be loaded: {self.broken[name]}" if name in self.broken else ""
        raise ConfigError((f'--routing: no installed exporter offers "{name}"{reason}; known here: {known}',))


def installed_routings() -> Offers:
    """Ask every installed exporter. One that cannot be loaded does not keep the others from being used."""
    routings: list[InstalledRouting] = []
    broken: dict[str, str] = {}
    for exporter in exporter_names():
        try:
            spec = find_exporter(exporter)
        except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything while it is imported
            broken[exporter] = str(error)
        else:
            routings += [InstalledRouting(name, spec, lab) for name, lab in spec.lab.items()]
    return Offers(tuple(routings), broken)


def find_routing(name: str) -> InstalledRouting:
    """See `Offers.find`."""
    return installed_routings().find(name)
