"""roamroute.toml(5) names every key, with its default."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import attrs
import pytest

from roamroute import config, config_ra
from roamroute.policy import Policy

PAGE = (Path(__file__).parents[3] / "docs/man/roamroute.toml.5.md").read_text(encoding="utf-8")
SECTIONS = {
    "roaming": config.RoamingSection,
    "kernel": config.KernelSection,
    "stations": config.StationsSection,
    "packets": config.PacketsSection,
    "peers": config.PeersSection,
    "handover": config.HandoverSection,
    "dad": config.DadSection,
    "ra": config_ra.RaSection,
    "neighbours": config.NeighboursSection,
    "control": config.ControlSection,
    "log": config.LogSection,
    "policy": Policy,
}


def toml_of(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_of(each) for each in value) + "]"
    return f'"{value}"' if isinstance(value, str | IPv6Address) else repr(value)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_is_described_with_its_default(name: str) -> None:
    (text,) = re.findall(rf"^# \[{name}\]\n(.*?)(?=^# )", PAGE, re.DOTALL | re.MULTILINE)
    for field in attrs.fields(SECTIONS[name]):
        heading = f"**{field.name}**"
        if field.default is attrs.NOTHING:
            assert f"{heading} (required)" in text
        elif field.default is not None:
            assert f"{heading} = {toml_of(field.default)}\n: " in text
        else:
            assert f"{heading}\n: " in text
