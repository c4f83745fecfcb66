"""roamroute.lab.losses and .relay: what the lab does to packets between routers, seen from both ends."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

import pytest

from roamroute.errors import DaemonGone
from roamroute.lab import addresses
from roamroute.lab.losses import lose_messages
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.lab.stamps import receive_stamped, stamp_arrivals
from roamroute.lab.topology import Mesh

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


DELAY_S = 0.03
PACKETS = 50
STAMP = struct.Struct("q1000x")


def sent_and_arrived(sender: Namespace, receiver: Namespace, address: object, count: int) -> list[tuple[int, int]]:
    """When each of `count` datagrams was sent and when it arrived, in nanoseconds, in the order of arrival."""
    source = sender.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sink = receiver.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with source, sink:
        stamp_arrivals(sink)
        sink.bind((str(address), PORT))
        sink.settimeout(10.0)
        for _ in range(count):
            source.sendto(STAMP.pack(time.monotonic_ns()), (str(address), PORT))
            time.sleep(0.002)
        arrivals = [receive_stamped(sink, 2000) for _ in range(count)]
    return [(STAMP.unpack(data)[0], arrived_ns) for data, arrived_ns in arrivals]


def test_a_delayed_link_takes_its_time_and_keeps_every_packet_in_order() -> None:
    with Sandbox() as sandbox:
        mesh = Mesh(sandbox, delay_s=DELAY_S)
        gateway, router = mesh.gateway, mesh.routers[0]
        target = addresses.link_local(router.number)
        gateway.namespace.ip(f"route add {router.address} via {target} dev {router.name}")
        sent_and_arrived(gateway.namespace, router.namespace, router.address, 1)  # neighbour discovery passes twice
        found = sent_and_arrived(gateway.namespace, router.namespace, router.address, PACKETS)
        assert found == sorted(found)
        delays_ns = sorted(arrived_ns - sent_ns for sent_ns, arrived_ns in found)
        assert delays_ns[0] >= DELAY_S * 1e9
        assert delays_ns[PACKETS // 2] < (DELAY_S + 0.005) * 1e9
        mesh.raise_if_ended()


def test_a_relay_that_has_ended_is_said() -> None:
    with Sandbox() as sandbox:
        mesh = Mesh(sandbox, delay_s=DELAY_S)
        assert mesh.relay is not None
        mesh.relay.kill()
        mesh.relay.wait()
        with pytest.raises(DaemonGone, match="the relay of the links ended with exit code -9"):
            mesh.raise_if_ended()
