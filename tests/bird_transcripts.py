"""Recorded conversations with BIRD, as commands and replies."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parent / "data" / "bird"
VERSIONS = ("2.0.12", "2.17", "3.1")


def conversation(kind: str, version: str) -> list[tuple[str, bytes]]:
    """The commands and what came back. `kind`: "socket" or "birdc"."""
    pairs: list[tuple[str, bytes]] = []
    for line in (DATA / f"{kind}-{version}.txt").read_bytes().splitlines(keepends=True):
        if line.startswith(b"> "):
            pairs.append((line[2:].decode().strip(), b""))
        else:
            command, said = pairs[-1]
            pairs[-1] = (command, said + line)
    return pairs


def said(kind: str, version: str, command: str, *, nth: int = 0) -> bytes:
    """What came back for the nth of these commands."""
    return [said for asked, said in conversation(kind, version) if asked == command][nth]
