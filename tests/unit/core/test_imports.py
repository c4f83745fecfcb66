"""What an access point does not use, it does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PEERS_ALONE = ("nacl", "roamroute.handovers", "roamroute.linux.forwarding", "roamroute.peering", "roamroute.peers")
DISCOVERY_ALONE = ("roamroute.dad", "roamroute.discovery", "roamroute.linux.default_route", "roamroute.linux.discovery")
ADVERTISING_ALONE = ("roamroute.linux.default_route", "roamroute.radvd")
CONFIGURATION = '[roaming]\ninterfaces = ["wlan0"]\nprefixes = ["fd44:0:0:1::/64"]\n'
SCRIPT = """
import sys
from pathlib import Path
import roamroute.control
from roamroute.config import read_config
from roamroute.daemon import Daemon
from roamroute.export import find_exporter
Daemon(read_config(Path(sys.argv[1])), find_exporter("kernel"))
print(*sys.modules)
"""


def loaded_by(script: str, *arguments: str) -> list[str]:
    """The modules that a Python has after this script."""
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()


def test_without_peers_nothing_of_them_is_loaded() -> None:
    loaded = loaded_by("import sys, roamroute.daemon, roamroute.control; print(*sys.modules)")
    assert not [name for name in loaded if name.startswith(PEERS_ALONE)]


@pytest.mark.parametrize(
    ("more", "absent"),
    [
        ("[dad]\nenabled = false\n", (*PEERS_ALONE, *DISCOVERY_ALONE, *ADVERTISING_ALONE)),
        ("[dad]\nenabled = false\n[ra]\nsender = 'radvd'\n", (*PEERS_ALONE, *DISCOVERY_ALONE, *ADVERTISING_ALONE)),
        ("[ra]\n", (*PEERS_ALONE, *ADVERTISING_ALONE, "scapy", "pyroute2", "rich")),
    ],
    ids=["nothing of it", "another advertises", "all of it"],
)
def test_what_is_off_is_not_loaded(tmp_path: Path, more: str, absent: tuple[str, ...]) -> None:
    file = tmp_path / "roamroute.toml"
    file.write_text(CONFIGURATION + more)
    assert not [name for name in loaded_by(SCRIPT, str(file)) if name.startswith(absent)]
