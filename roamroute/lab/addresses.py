"""The lab's address plan: who is where, in one place.

| what | IPv6 | IPv4 |
|---|---|---|
| roaming prefix | fd44:0:0:1::/64 | 10.44.0.0/24 |
| router N (access point N, the others from 101 on) | fd44:0:0:a::N | 10.44.200.N |
| link between server and gateway | fd44:0:0:f::/64 | 10.44.255.0/24 |
| gateway of every client | fe80::1 | 10.44.0.1 |
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

ROAMING_PREFIX = IPv6Network("fd44:0:0:1::/64")
ROAMING_PREFIX_IPV4 = IPv4Network("10.44.0.0/24")
MESH_PREFIX = IPv6Network("fd44:0:0:a::/64")
SERVER = IPv6Address("fd44:0:0:f::2")
SERVER_GATEWAY = IPv6Address("fd44:0:0:f::1")
SERVER_IPV4 = IPv4Address("10.44.255.2")
SERVER_GATEWAY_IPV4 = IPv4Address("10.44.255.1")
CLIENT_GATEWAY = IPv6Address("fe80::1")
CLIENT_GATEWAY_IPV4 = IPv4Address("10.44.0.1")
COMMON_MAC = "02:00:5e:44:00:01"
"""The same on the client link of every access point, so that a client's cached gateway stays right."""

FIRST_ROUTER_NUMBER = 101
GATEWAY_NUMBER = 200
CLIENT_LINK = "wlan0"
"""On the access points, and on the clients."""


def router_address(number: int) -> IPv6Address:
    """The /128 on lo of router `number`: what its peers reach it by."""
    return MESH_PREFIX[int(f"{number}", 16)]


def router_address_ipv4(number: int) -> IPv4Address:
    return IPv4Address(f"10.44.200.{number}")


def link_local(number: int) -> IPv6Address:
    """The link-local address of router `number` on all its mesh links."""
    return IPv6Address(f"fe80::a:{number}")


def host_mac(identity: int) -> str:
    """The MAC of client `identity` (1 to 65535)."""
    return f"02:00:00:01:{identity >> 8:02x}:{identity & 0xFF:02x}"


def host_addresses(identity: int, count: int) -> tuple[IPv6Address, ...]:
    """The roaming addresses of client `identity`; the first is the main one."""
    return tuple(ROAMING_PREFIX[(identity << 16) + number] for number in range(1, count + 1))


def host_address_ipv4(identity: int) -> IPv4Address:
    """The roaming IPv4 address of client `identity`; taken again after 250 clients."""
    return ROAMING_PREFIX_IPV4[2 + identity % 250]
