"""Frames of our own making, on links that come, change and go."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from roamroute.linux.frame_sender import FrameSender
from roamroute.values import Mac
from roamroute.wire import ethernet

from .linux_namespaces import Bed, Logged, inside, make_bed

pytestmark = pytest.mark.requires_root
KIND = 0x88B5  # IEEE 802 local experimental


@pytest.fixture
def bed() -> Iterator[Bed]:
    yield from make_bed()


def test_a_frame_arrives_as_it_was_made(bed: Bed) -> None:
    with inside(bed.sta):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(KIND))
        wire.bind(("eth0", KIND))
        wire.settimeout(5)
    sender = FrameSender(Logged())
    mac = sender.mac_of("wlan0")
    assert mac is not None
    frame = ethernet.header(ethernet.octets(Bed.MAC), ethernet.octets(mac), KIND) + bytes(range(50))
    assert sender.send("wlan0", frame)
    assert wire.recv(200) == frame
    assert (sender.sent_frames, sender.failed_frames) == (1, 0)
    sender.close()
    wire.close()


def test_a_thousand_frames_in_a_row_are_taken(bed: Bed) -> None:
    sender = FrameSender(Logged())
    frame = ethernet.header(ethernet.octets(Bed.MAC), ethernet.octets(Bed.MAC), KIND) + bytes(60)
    assert all(sender.send("wlan0", frame) for _ in range(1000))
    sender.close()


def test_what_cannot_be_sent_is_told_once_and_counted(bed: Bed) -> None:
    log = Logged()
    sender = FrameSender(log)
    frame = ethernet.header(ethernet.BROADCAST, ethernet.octets(Bed.MAC), KIND) + bytes(60)
    assert sender.mac_of("wlan9") is None
    assert sender.addresses_of("wlan9") == ()
    assert not log.lines
    assert not any(sender.send("wlan9", frame) for _ in range(3))
    bed.on_ap("ip link set wlan0 down")
    assert not sender.send("wlan0", frame)
    assert (sender.sent_frames, sender.failed_frames) == (0, 4)
    assert [line.split(" because")[0] for line in log.lines] == [
        "warning frame not sent link=wlan9",
        "warning frame not sent link=wlan0",
    ]
    bed.on_ap("ip link set wlan0 up")
    assert sender.send("wlan0", frame)
    sender.close()


def test_a_link_that_changes_or_comes_back_is_known_as_it_is(bed: Bed) -> None:
    sender = FrameSender(Logged())
    assert ip_address("10.44.0.1") in sender.addresses_of("wlan0")
    bed.on_ap("ip link set wlan0 address 02:00:00:00:00:31")
    assert sender.mac_of("wlan0") == Mac("02:00:00:00:00:31")
    bed.on_ap("ip addr add 10.44.0.9/32 dev wlan0")
    assert ip_address("10.44.0.9") in sender.addresses_of("wlan0")
    bed.unplug()
    assert sender.mac_of("wlan0") is None
    bed.plug()
    assert sender.mac_of("wlan0") not in (None, Mac("02:00:00:00:00:31"))
    sender.close()
