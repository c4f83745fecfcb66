"""What an access point does not use, it does not load."""

from __future__ import annotations

import subprocess
import sys

PEERS_ALONE = ("nacl", "roamroute.handovers", "roamroute.linux.forwarding", "roamroute.peering", "roamroute.peers")


def test_without_peers_nothing_of_them_is_loaded() -> None:
    script = "import sys, roamroute.daemon, roamroute.control; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert not [name for name in loaded.stdout.split() if name.startswith(PEERS_ALONE)]
