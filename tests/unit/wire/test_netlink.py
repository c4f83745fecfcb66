"""The rtnetlink codec: it reads what it wrote and what the kernel wrote, and any bytes give values or one error."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roamroute.errors import MalformedInput
from roamroute.values import Address, Mac, Nud
from roamroute.wire import netlink
from roamroute.wire.netlink import AddressEntry, LinkEntry, Message, NeighbourEntry, RouteEntry

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
macs = st.binary(min_size=6, max_size=6).map(lambda octets: Mac(octets.hex(":")))
indexes = st.integers(1, 2**31 - 1)

# RTM_NEWNEIGH as Linux 6.18 dumped it for fd44:0:0:1::2 on a veth, REACHABLE, with NDA_PROBES and NDA_CACHEINFO
FROM_KERNEL = bytes.fromhex(
    "580000001c00020001000000a07500000a000000020000000200000114000100fd440000000000010000000000000002"
    "0a000200020000000002000008000400000000001400030000000000000000000000000001000000"
)


def one(datagram: bytes) -> Message:
    (message,) = netlink.split(datagram)
    return message


def test_a_neighbour_as_the_kernel_sends_it() -> None:
    message = one(FROM_KERNEL)
    assert message.kind == netlink.RTM_NEWNEIGH
    assert netlink.interface_of(message) == 2
    assert netlink.decode_neighbour(message) == NeighbourEntry(
        netlink.AF_INET6, 2, Nud.REACHABLE, 0, IPv6Address("fd44:0:0:1::2"), Mac("02:00:00:00:00:02"), None
    )


@given(indexes, addresses, st.none() | macs, st.sampled_from(Nud), st.integers(0, 255), st.none() | indexes)
def test_a_neighbour_comes_back_as_it_went(
    index: int, address: Address, mac: Mac | None, state: Nud, flags: int, master: int | None
) -> None:
    body = netlink.neighbour_body(index, address, mac, state, flags=flags, master=master)
    message = one(netlink.encode(netlink.RTM_NEWNEIGH, 0, 7, body))
    family = netlink.AF_INET6 if address.version == 6 else netlink.AF_INET
    assert netlink.decode_neighbour(message) == NeighbourEntry(family, index, state, flags, address, mac, master)
    assert message.sequence == 7


@given(indexes, macs, indexes)
def test_a_bridge_entry_comes_back_as_it_went(port: int, mac: Mac, bridge: int) -> None:
    body = netlink.neighbour_body(port, None, mac, Nud.REACHABLE, family=netlink.AF_BRIDGE, master=bridge)
    entry = netlink.decode_neighbour(one(netlink.encode(netlink.RTM_DELNEIGH, 0, 1, body)))
    assert entry == NeighbourEntry(netlink.AF_BRIDGE, port, Nud.REACHABLE, 0, None, mac, bridge)


@given(addresses, indexes, st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1))
@example(IPv6Address("fd44::1"), 2, 144, 8, 254)
@example(IPv4Address("10.44.0.1"), 2, 144, 8, 1000)
def test_a_host_route_comes_back_as_it_went(
    address: Address, index: int, protocol: int, metric: int, table: int
) -> None:
    body = netlink.host_route_body(address, index, protocol=protocol, metric=metric, table=table)
    entry = netlink.decode_route(one(netlink.encode(netlink.RTM_NEWROUTE, 0, 1, body)))
    family = netlink.AF_INET6 if address.version == 6 else netlink.AF_INET
    assert entry == RouteEntry(
        family, address.max_prefixlen, address, table, protocol, netlink.RTN_UNICAST, index, metric, None
    )


@given(addresses, st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1))
def test_an_unreachable_route_comes_back_as_it_went(address: Address, protocol: int, metric: int, table: int) -> None:
    body = netlink.unreachable_route_body(address, protocol=protocol, metric=metric, table=table)
    entry = netlink.decode_route(one(netlink.encode(netlink.RTM_NEWROUTE, 0, 1, body)))
    assert (entry.destination, entry.kind, entry.ifindex) == (address, netlink.RTN_UNREACHABLE, None)
    assert (entry.protocol, entry.metric, entry.table) == (protocol, metric, table)


def test_a_default_route_has_no_destination() -> None:
    body = netlink.route_filter_body(netlink.AF_INET6, table=254, protocol=42)
    entry = netlink.decode_route(one(netlink.encode(netlink.RTM_NEWROUTE, 0, 1, body)))
    assert (entry.destination, entry.prefix_length, entry.table, entry.protocol) == (None, 0, 254, 42)


def test_a_bridge_tells_its_kind_and_its_snooping() -> None:
    data = netlink.attribute(23, b"\x00")
    body = netlink.link_body(index=3) + netlink.attribute(3, b"br0\0") + netlink.attribute(1, bytes(6))
    body += netlink.attribute(18, netlink.attribute(1, b"bridge\0") + netlink.attribute(2 | 0x8000, data))
    entry = netlink.decode_link(one(netlink.encode(netlink.RTM_NEWLINK, 0, 1, body)))
    assert entry == LinkEntry(0, 3, 0, "br0", Mac("00:00:00:00:00:00"), None, "bridge", False)


def test_our_end_of_a_point_to_point_link_is_ours() -> None:
    here, there = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    body = b"\x02\x20\0\0\x05\0\0\0" + netlink.attribute(1, there.packed) + netlink.attribute(2, here.packed)
    assert netlink.decode_address(one(netlink.encode(netlink.RTM_NEWADDR, 0, 1, body))) == AddressEntry(5, 32, here)


def test_several_messages_share_a_datagram() -> None:
    datagram = netlink.join([FROM_KERNEL, netlink.encode(netlink.NLMSG_DONE, 0, 9, b"\0\0\0\0"), FROM_KERNEL])
    assert [message.kind for message in netlink.split(datagram)] == [28, netlink.NLMSG_DONE, 28]


@given(st.integers(0, 4095))
def test_an_error_carries_its_number(number: int) -> None:
    body = (-number).to_bytes(4, "little", signed=True) + bytes(16)
    assert netlink.decode_error(one(netlink.encode(netlink.NLMSG_ERROR, 0, 1, body))) == number


@pytest.mark.parametrize("length", [0, 15, 17, 0xFFFF, 0xFFFFFFFF])
def test_a_message_length_that_does_not_fit_is_an_error(length: int) -> None:
    with pytest.raises(MalformedInput):
        list(netlink.split(length.to_bytes(4, "little") + bytes(12)))


def everything(datagram: bytes) -> None:
    """Read it as whatever it might be."""
    for message in netlink.split(datagram):
        for decode in (
            netlink.decode_neighbour,
            netlink.decode_route,
            netlink.decode_link,
            netlink.decode_address,
            netlink.decode_error,
            netlink.interface_of,
        ):
            try:
                decode(message)
            except MalformedInput:
                continue


@given(st.binary(max_size=512))
@example(FROM_KERNEL)
def test_any_bytes_give_values_or_one_error(datagram: bytes) -> None:
    with contextlib.suppress(MalformedInput):
        everything(datagram)


@given(st.integers(0, len(FROM_KERNEL) - 1), st.integers(0, 255), st.integers(0, len(FROM_KERNEL)))
def test_a_message_with_a_wrong_byte_or_cut_short_gives_values_or_one_error(
    position: int, value: int, length: int
) -> None:
    mutated = bytearray(FROM_KERNEL)
    mutated[position] = value
    for datagram in (bytes(mutated), bytes(mutated[:length])):
        with contextlib.suppress(MalformedInput):
            everything(datagram)


@given(st.binary(max_size=200), st.sampled_from([16, 20, 24, 28]))
def test_any_body_gives_values_or_one_error(body: bytes, kind: int) -> None:
    everything(netlink.encode(kind, 0, 1, body))
