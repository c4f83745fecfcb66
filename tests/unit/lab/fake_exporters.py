"""Exporters as entry points would name them, for tests of what the lab makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from roamroute.export import ExporterSpec, LabDaemon, LabRouter
from roamroute.lab import installed


class NoDaemon:
    """A routing whose daemon is a program that ends at once."""

    def version(self, options: Mapping[str, str]) -> str:
        return "nothing 1.0"

    def prepare(self, router: LabRouter) -> LabDaemon:
        return LabDaemon((("true",),))


def spec(name: str, *routings: str) -> ExporterSpec:
    """An exporter that offers these routings, and exports nothing."""

    def parse(settings: Mapping[str, Any]) -> None:
        return None

    def create(settings: Any, context: Any) -> Any:
        raise NotImplementedError

    return ExporterSpec(name, parse=parse, create=create, lab=dict.fromkeys(routings, NoDaemon()))


def install(monkeypatch: pytest.MonkeyPatch, **exporters: ExporterSpec | Exception) -> None:
    """Let these be the only installed exporters; an exception is what loading one raises."""

    def find(name: str) -> ExporterSpec:
        found = exporters[name]
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(installed, "exporter_names", lambda: tuple(exporters))
    monkeypatch.setattr(installed, "find_exporter", find)
