"""What systemd is told: one datagram for each change of state, nothing where it did not start us."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send `state`, such as READY=1, to $NOTIFY_SOCKET (sd_notify(3)). Never raises, does not wait."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.connect("\0" + path[1:] if path.startswith("@") else path)
        notifier.send(state.encode())
