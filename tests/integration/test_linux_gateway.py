"""A client whose questions nobody answers learns its gateway from what it is told unasked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from roamroute.linux.gateway import GatewayAdvertiser

from .linux_namespaces import Bed, Logged, eventually, make_bed

DEAF = """
table inet deaf {
    chain input {
        type filter hook input priority 0
        icmpv6 type nd-neighbor-solicit drop
    }
}
table arp deaf {
    chain input {
        type filter hook input priority 0
        drop
    }
}
"""


@pytest.fixture
def bed() -> Iterator[Bed]:
    yield from make_bed()


def gateway_of(bed: Bed, address: str) -> str | None:
    """The MAC that the client's kernel has for the gateway."""
    entries = json.loads(bed.on_sta(f"ip -j neigh show {address} dev eth0") or "[]")
    return next((str(entry["lladdr"]) for entry in entries if "lladdr" in entry), None)


@pytest.mark.requires_root
@pytest.mark.requires_programs("ip", "nft", "ping")
@pytest.mark.parametrize("address", ["fe80::1", "10.44.0.1"])
async def test_a_client_that_is_still_asking_is_told(bed: Bed, tmp_path: Path, address: str) -> None:
    rules = tmp_path / "deaf.nft"
    rules.write_text(DEAF)
    bed.on_ap(f"nft -f {rules}")
    bed.on_sta(f"ping -c 1 -W 1 {address}%eth0" if ":" in address else f"ping -c 1 -W 1 {address}", check=False)
    assert gateway_of(bed, address) is None
    mac = str(json.loads(bed.on_ap("ip -j link show wlan0"))[0]["address"])
    log = Logged()
    advertiser = GatewayAdvertiser(log)
    asking = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", bed.sta, "ping", "-c", "20", "-i", "0.2", "-W", "1"),
        f"{address}%eth0" if ":" in address else address,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:

        def is_told() -> bool:
            advertiser.advertise("wlan0", Bed.MAC)
            return gateway_of(bed, address) == mac

        await eventually(is_told, 10.0)
    finally:
        advertiser.close()
        asking.kill()
        await asking.wait()
    assert not log.lines


@pytest.mark.requires_root
async def test_a_link_that_is_not_there_is_no_error_and_one_that_is_down_is_told(bed: Bed) -> None:
    log = Logged()
    advertiser = GatewayAdvertiser(log)
    advertiser.advertise("wlan9", Bed.MAC)
    assert not log.lines
    bed.on_ap("ip link set wlan0 down")
    advertiser.advertise("wlan0", Bed.MAC)
    advertiser.close()
    assert [line for line in log.lines if line.startswith("warning")]


@pytest.mark.requires_root
async def test_what_was_asked_before_is_asked_again_when_it_has_changed(bed: Bed) -> None:
    advertiser = GatewayAdvertiser(Logged())
    bed.on_sta("sysctl -qw net.ipv4.conf.eth0.arp_accept=1 net.ipv6.conf.eth0.drop_unsolicited_na=0")
    bed.on_sta("ip neigh add 10.44.0.1 lladdr 02:00:00:00:00:99 dev eth0 nud stale")
    bed.on_sta("ip neigh add fe80::1 lladdr 02:00:00:00:00:99 dev eth0 nud stale")
    try:
        for mac in ("02:00:00:00:00:31", "02:00:00:00:00:32"):
            bed.on_ap(f"ip link set wlan0 address {mac}")
            bed.on_ap("ip addr replace 10.44.0.1/16 dev wlan0")

            def is_told(expected: str = mac) -> bool:
                advertiser.advertise("wlan0", Bed.MAC)
                return gateway_of(bed, "10.44.0.1") == gateway_of(bed, "fe80::1") == expected

            await eventually(is_told, 10.0)
    finally:
        advertiser.close()
