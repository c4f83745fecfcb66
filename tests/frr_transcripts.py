"""Recorded conversations with FRR by vtysh, as lines and answers."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parent / "data" / "frr"
VERSIONS = ("8.4.4", "10.3")
KERNEL, INJECT = "ospf, mode kernel", "ibgp, mode inject"


def conversation(version: str, scene: str) -> list[tuple[str, str]]:
    """What was typed, and what was answered."""
    pairs: list[tuple[str, str]] = []
    is_here = False
    for line in (DATA / f"vtysh-{version}.txt").read_text(encoding="utf-8").splitlines(keepends=True):
        if line.startswith("# "):
            is_here = line[2:].strip() == scene
        elif not is_here:
            continue
        elif line.startswith("> "):
            pairs.append((line[2:].strip(), ""))
        else:
            typed, answered = pairs[-1]
            pairs[-1] = (typed, answered + line)
    return pairs


def answered(version: str, scene: str, line: str, *, nth: int = 0) -> str:
    """What was answered to this line, the nth time."""
    return [answer for typed, answer in conversation(version, scene) if typed == line][nth]
