"""Our codec and pyroute2, the field's library, read each other's messages alike."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from roamroute.values import Nud, mac
from roamroute.wire import netlink

MAC = mac("02:00:5e:44:00:01")


def whole(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


@pytest.mark.parametrize("text", ["fd44:0:0:1::5", "10.44.0.5"])
def test_pyroute2_reads_our_host_route(text: str) -> None:
    body = netlink.host_route_body(ip_address(text), 7, protocol=144, metric=8, table=254)
    message = rtmsg(whole(netlink.RTM_NEWROUTE, body))
    message.decode()
    assert message["dst_len"] == ip_address(text).max_prefixlen
    assert message["proto"] == 144
    assert ip_address(message.get_attr("RTA_DST")) == ip_address(text)
    assert message.get_attr("RTA_OIF") == 7
    assert message.get_attr("RTA_PRIORITY") == 8
    assert message["table"] == 254


@pytest.mark.parametrize("text", ["fd44:0:0:1::5", "10.44.0.5"])
def test_pyroute2_reads_our_probe(text: str) -> None:
    message = ndmsg(whole(netlink.RTM_NEWNEIGH, netlink.neighbour_body(7, ip_address(text), MAC, Nud.PROBE)))
    message.decode()
    assert message["ifindex"] == 7
    assert message["state"] == Nud.PROBE
    assert ip_address(message.get_attr("NDA_DST")) == ip_address(text)
    assert message.get_attr("NDA_LLADDR") == MAC


@pytest.mark.parametrize("text", ["fd44:0:0:1::5", "10.44.0.5"])
def test_we_read_pyroute2_s_neighbour(text: str) -> None:
    address = ip_address(text)
    message = ndmsg()
    message["header"]["type"] = netlink.RTM_NEWNEIGH
    message["family"] = netlink.AF_INET6 if address.version == 6 else netlink.AF_INET
    message["ifindex"] = 7
    message["state"] = int(Nud.STALE)
    message["attrs"] = [("NDA_DST", text), ("NDA_LLADDR", str(MAC))]
    message.reset()
    message.encode()
    (read,) = netlink.split(bytes(message.data))
    entry = netlink.decode_neighbour(read)
    assert (entry.address, entry.mac, entry.state, entry.ifindex) == (address, MAC, Nud.STALE, 7)
