"""What this machine is like: small facts for `roamroute check`, read and never changed.

Plain values; None means that it cannot be told here (a namespace hides some settings), or that it does not exist.
Reads /proc where that suffices, and asks netlink for the rest (not /sys, which may show another network namespace).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from pathlib import Path

import attrs

from roamroute.errors import KernelRefused, MachineUnfit, MalformedInput
from roamroute.linux.rtnetlink import Requests
from roamroute.linux.table_watch import NeighbourTables, read_tables
from roamroute.values import Address, Mac, Prefix
from roamroute.wire import netlink
from roamroute.wire.netlink import Message


@attrs.frozen
class Interface:
    """A network interface; `ports` and `multicast_snooping` are a bridge's."""

    name: str
    is_up: bool
    has_carrier: bool
    mac: Mac | None
    is_bridge: bool
    ports: tuple[str, ...] = ()
    multicast_snooping: bool | None = None


def links() -> tuple[str, ...]:
    """The names of all interfaces. Raises: MachineUnfit when netlink does not answer."""
    return tuple(entry.name for entry in _links())


def interface(name: str) -> Interface | None:
    """The interface of this name. Raises: MachineUnfit when netlink does not answer."""
    entries = _links()
    found = next((entry for entry in entries if entry.name == name), None)
    if found is None:
        return None
    is_bridge = found.kind == "bridge"
    return Interface(
        name=name,
        is_up=bool(found.flags & netlink.IFF_UP),
        has_carrier=bool(found.flags & netlink.IFF_LOWER_UP),
        mac=found.mac,
        is_bridge=is_bridge,
        ports=tuple(entry.name for entry in entries if is_bridge and entry.master == found.ifindex),
        multicast_snooping=found.has_snooping if is_bridge else None,
    )


def addresses(link: str) -> tuple[tuple[Address, int], ...]:
    """The addresses on an interface, each with its prefix length. Raises: MachineUnfit when netlink does not answer."""
    index = next((entry.ifindex for entry in _links() if entry.name == link), None)
    if index is None:
        return ()
    decoded = [netlink.decode_address(each) for each in _dump(netlink.RTM_GETADDR, netlink.address_body())]
    return tuple((entry.address, entry.prefix_length) for entry in decoded if entry and entry.ifindex == index)


def onlink_routes(prefixes: Sequence[Prefix]) -> tuple[tuple[Prefix, str], ...]:
    """Routes without a gateway that lie in or cover a roaming prefix and are no host routes: (prefix, link).

    With such a route the kernel looks for every address of the prefix on that link, also for hosts that are elsewhere.
    Raises: MachineUnfit when netlink does not answer.
    """
    names = {entry.ifindex: entry.name for entry in _links()}
    found: list[tuple[Prefix, str]] = []
    for family in sorted({prefix.version for prefix in prefixes}):
        body = netlink.route_filter_body(netlink.AF_INET6 if family == 6 else netlink.AF_INET, table=254)
        for message in _dump(netlink.RTM_GETROUTE, body, none_if=errno.ENOENT):  # IPv4: no table while it has no route
            entry = netlink.decode_route(message)
            if (
                entry.table != 254
                or entry.kind != netlink.RTN_UNICAST
                or entry.gateway is not None
                or entry.destination is None
                or entry.prefix_length in (0, entry.destination.max_prefixlen)
                or entry.ifindex not in names
            ):
                continue
            prefix = ip_network((entry.destination, entry.prefix_length))
            if any(_overlaps(prefix, roaming) for roaming in prefixes):
                found.append((prefix, names[entry.ifindex]))
    return tuple(found)


def forwarding(family: int, link: str | None = None) -> bool | None:
    """Whether IP version `family` (4 or 6) is forwarded, in all or by what comes in on `link`."""
    return _flag(Path(f"/proc/sys/net/ipv{family}/conf/{link or 'all'}/forwarding"))


def neighbour_tables() -> NeighbourTables:
    """The neighbour tables, which are the whole machine's, and the times of this namespace's links.

    Raises: MachineUnfit when netlink does not answer.
    """
    try:
        requests = Requests()
        try:
            return read_tables(requests)
        finally:
            requests.close()
    except (KernelRefused, MalformedInput, OSError) as error:
        raise MachineUnfit(f"the kernel does not answer over netlink: {error}") from error


def answers_arp_for_others(link: str) -> bool | None:
    """Whether ARP requests on the link for addresses that are routed elsewhere are answered (proxy_arp)."""
    return _flag(Path(f"/proc/sys/net/ipv4/conf/{link}/proxy_arp"))


def link_indexes(names: Iterable[str]) -> dict[int, str]:
    """The names by interface index, of those that exist."""
    found: dict[int, str] = {}
    for name in names:
        with contextlib.suppress(OSError):
            found[socket.if_nametoindex(name)] = name
    return found


def kernel_version() -> tuple[int, int]:
    """The first two numbers of the running kernel's version."""
    parts = os.uname().release.split(".")
    digits = ["".join(character for character in part if character.isdecimal()) or "0" for part in (*parts, "0")[:2]]
    return int(digits[0]), int(digits[1])


def has_seg6() -> bool:
    """Whether the kernel can do segment routing over IPv6 (CONFIG_IPV6_SEG6_LWTUNNEL)."""
    return Path("/proc/sys/net/ipv6/conf/all/seg6_enabled").exists()


def _links() -> list[netlink.LinkEntry]:
    decoded = [netlink.decode_link(each) for each in _dump(netlink.RTM_GETLINK, netlink.link_body())]
    return [entry for entry in decoded if entry.family == netlink.AF_UNSPEC]


def _dump(kind: int, body: bytes, none_if: int | None = None) -> list[Message]:
    try:
        requests = Requests()
        try:
            return requests.dump(kind, body, none_if=none_if)
        finally:
            requests.close()
    except (KernelRefused, MalformedInput, OSError) as error:
        raise MachineUnfit(f"the kernel does not answer over netlink: {error}") from error


def _overlaps(prefix: Prefix, other: Prefix) -> bool:
    return prefix.version == other.version and prefix.overlaps(other)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None


def _flag(path: Path) -> bool | None:
    text = _read(path)
    return None if text is None else text != "0"
