"""The protocol opens nothing and reads no clock: only channel.py and key.py may."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import roamroute.peers

FORBIDDEN = frozenset({"asyncio", "socket", "time", "logging", "os", "random", "secrets", "subprocess", "threading"})


@pytest.mark.parametrize(
    "module",
    ["allowance", "codec", "fields", "sealing", "session", "courier", "hints", "relays", "sieve", "status", "exchange"],
)
def test_the_pure_parts_import_nothing_that_acts(module: str) -> None:
    path = Path(roamroute.peers.__file__).with_name(f"{module}.py")
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert not imported & FORBIDDEN
