"""The tap on a bridge: with multicast snooping the bridge keeps solicitations from itself unless it is asked."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from roamroute.linux import taps
from roamroute.linux.discovery import DiscoveryTap, Heard
from roamroute.values import DadKind, DadMessage, Mac
from roamroute.wire import ethernet, icmpv6

from .linux_namespaces import Logged, eventually, inside, sh

pytestmark = pytest.mark.requires_root
TARGET = IPv6Address("fd44:0:0:1::99")
ASKER = Mac("02:00:00:00:00:51")


class BridgeBed:
    """A bridge `wlan0` in `ap`, on its ports the clients `one`, which asks, and `two`, which has the address."""

    def __init__(self) -> None:
        self.ap, self.one, self.two = (f"rrlb{os.getpid()}{name}" for name in ("ap", "one", "two"))

    def build(self, *, has_snooping: bool, has_querier: bool) -> None:
        for namespace in (self.ap, self.one, self.two):
            sh(f"ip netns add {namespace} && ip -n {namespace} link set lo up")
            sh(f"ip netns exec {namespace} sysctl -qw net.ipv6.conf.default.accept_dad=0")
        sh(f"ip -n {self.ap} link add wlan0 type bridge mcast_query_response_interval 10")
        for namespace, port in ((self.one, "p1"), (self.two, "p2")):
            sh(f"ip -n {self.ap} link add {port} type veth peer name eth0 netns {namespace}")
            sh(f"ip -n {self.ap} link set {port} master wlan0 up && ip -n {namespace} link set eth0 up")
        sh(f"ip -n {self.ap} link set wlan0 type bridge mcast_snooping {int(has_snooping)}")
        sh(f"ip -n {self.ap} link set wlan0 up && ip -n {self.ap} addr add fe80::1/64 dev wlan0 nodad")
        # A querier needs an address when it starts, else it tries again after half a minute.
        sh(f"ip -n {self.ap} link set wlan0 type bridge mcast_querier {int(has_querier)}")
        sh(f"ip -n {self.two} addr add {TARGET}/64 dev eth0 nodad")

    def remove(self) -> None:
        for namespace in (self.ap, self.one, self.two):
            sh(f"ip netns del {namespace}", check=False)

    def ask(self) -> None:
        """Solicit the address that `two` has, from `one`."""
        group = icmpv6.solicited_node(TARGET.packed)
        message = bytes([135, *bytes(7)]) + TARGET.packed
        hardware = ethernet.group_of(group), ethernet.octets(ASKER)
        with inside(self.one), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
            wire.bind(("eth0", 0))
            wire.send(icmpv6.compose(*hardware, icmpv6.UNSPECIFIED, group, message))

    async def until_solicitations_are_kept_back(self) -> None:
        """Until one who asks for nothing does not hear the solicitation any more: the bridge's querier has started."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as plain:
            plain.setblocking(False)
            plain.bind(("wlan0", ethernet.ETH_P_ALL))

            def is_kept_back() -> bool:
                self.ask()
                end = time.monotonic() + 0.1
                while time.monotonic() < end:
                    try:
                        frame = plain.recv(200)
                    except BlockingIOError:
                        time.sleep(0.005)
                        continue
                    if frame[6:12] == ethernet.octets(ASKER):
                        return False
                return True

            await eventually(is_kept_back, 30.0)


@pytest.fixture
def bed() -> Iterator[BridgeBed]:
    made = BridgeBed()
    try:
        yield made
    finally:
        made.remove()


@pytest.mark.parametrize(
    ("has_snooping", "has_querier", "version"),
    [(False, False, (6, 18)), (True, False, (6, 18)), (True, True, (6, 18)), (True, True, (6, 1))],
)
async def test_a_solicitation_of_an_address_that_a_port_has_is_heard(
    bed: BridgeBed, monkeypatch: pytest.MonkeyPatch, has_snooping: bool, has_querier: bool, version: tuple[int, int]
) -> None:
    if version >= (6, 16) > taps.kernel_version():
        pytest.skip("this kernel's bridge yields to the promiscuous mode only (Linux 6.16)")
    monkeypatch.setattr(taps, "kernel_version", lambda: version)
    bed.build(has_snooping=has_snooping, has_querier=has_querier)
    heard: list[Heard] = []
    with inside(bed.ap):
        if has_querier:
            await bed.until_solicitations_are_kept_back()
        log = Logged()
        tap = DiscoveryTap(("wlan0",), lambda link, message: heard.append(message), log)
        task = asyncio.create_task(tap.run())
        await asyncio.sleep(0)
        try:
            bed.ask()
            await eventually(lambda: DadMessage(DadKind.SOLICITATION, TARGET, ASKER) in heard)
            # The client that has it defends it, and is heard.
            await eventually(lambda: any(getattr(each, "kind", None) is DadKind.ADVERTISEMENT for each in heard))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert not log.lines
