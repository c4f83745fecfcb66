"""roamroute.lab.losses: what the lab does to packets between routers, seen from both ends."""

from __future__ import annotations

import contextlib
import socket

import pytest

from roamroute.lab.losses import lose_messages
from roamroute.lab.namespaces import Namespace, Sandbox

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs("ip", "nft", "nsenter", "setpriv", "sysctl")]

PORT = 4544
MESSAGES = 2000


def received(namespace: Namespace, port: int) -> int:
    """How many of `MESSAGES` datagrams to a port of its own a namespace receives."""
    receiver = namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sender = namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind(("::1", port))
        receiver.setblocking(False)
        count = 0
        for _ in range(MESSAGES):
            sender.sendto(b"message", ("::1", port))
            with contextlib.suppress(BlockingIOError):  # over the loopback it is there at once, or never
                count += bool(receiver.recv(100))
        return count


def test_a_part_of_the_peers_messages_is_lost_and_nothing_else() -> None:
    with Sandbox() as sandbox:
        namespace = sandbox.namespace("ap1")
        lose_messages(namespace, PORT, 20.0)
        assert 0.75 < received(namespace, PORT) / MESSAGES < 0.85  # five standard deviations
        assert received(namespace, PORT + 1) == MESSAGES
