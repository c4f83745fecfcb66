"""What forwarding between access points finds on this machine: for `roamroute check`, read and never changed.

Plain values; None means that there is no such thing here. Everything raises MachineUnfit when netlink does not answer.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address
from pathlib import Path

from roamroute.errors import KernelRefused, MachineUnfit, MalformedInput
from roamroute.linux.rtnetlink import Requests
from roamroute.linux.tunnel_source import TunnelSource
from roamroute.wire import netlink, rules, segment_routes
from roamroute.wire.rules import Rule

_SIOCGIFMTU = 0x8921  # linux/sockios.h
_IFREQ = struct.Struct("16si20x")  # struct ifreq of linux/if.h with ifr_mtu, 40 octets
_UNSET = IPv6Address("::")
_NO_INTERFACE, _NO_TABLE = 0x7FFFFFFF, 0x7FFFFFFF


def mtu(link: str) -> int | None:
    """The greatest packet that the link takes, in bytes; None when there is no such link."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asker:
        try:
            answer = fcntl.ioctl(asker.fileno(), _SIOCGIFMTU, _IFREQ.pack(link.encode(), 0))
        except OSError:
            return None
    return int(_IFREQ.unpack(answer)[1])


def filters_reverse_path(link: str) -> bool | None:
    """Whether the link takes an IPv4 packet only if the way back leads out of it (rp_filter 1, "strict").

    What counts is the greater of the link's value and that of "all" (Linux, Documentation/networking/ip-sysctl.rst).
    """
    try:
        values = [
            int(Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").read_text(encoding="ascii")) for name in ("all", link)
        ]
    except (OSError, ValueError):
        return None
    return max(values) == 1


def mesh_links(client_links: Collection[str]) -> tuple[str, ...]:
    """The interfaces that may lead into the mesh: up, with an IPv6 address, neither loopback nor for clients."""
    with _requests() as requests:
        links = [netlink.decode_link(each) for each in requests.dump(netlink.RTM_GETLINK, netlink.link_body())]
        body = netlink.address_body(netlink.AF_INET6)
        addresses = [netlink.decode_address(each) for each in requests.dump(netlink.RTM_GETADDR, body)]
    speaking = {entry.ifindex for entry in addresses if entry is not None and entry.address.version == 6}
    return tuple(
        link.name
        for link in links
        if link.flags & netlink.IFF_UP
        and not link.flags & netlink.IFF_LOOPBACK
        and link.ifindex in speaking
        and link.name not in client_links
    )


def policy_rules() -> tuple[Rule, ...]:
    """All policy rules of both IP versions."""
    with _requests() as requests:
        return tuple(
            rules.decode_rule(message)
            for family in (netlink.AF_INET6, netlink.AF_INET)
            for message in requests.dump(rules.RTM_GETRULE, rules.rules_body(family))
        )


def table_protocols(tables: Collection[int]) -> frozenset[int]:
    """The protocols of the routes in these tables, of both IP versions."""
    found: set[int] = set()
    with _requests() as requests:
        for family in (netlink.AF_INET6, netlink.AF_INET):
            for table in tables:
                body = netlink.route_filter_body(family, table=table)
                for message in requests.dump(netlink.RTM_GETROUTE, body, none_if=errno.ENOENT):
                    entry = netlink.decode_route(message)
                    if entry.table == table:
                        found.add(entry.protocol)
    return frozenset(found)


def segment_source() -> IPv6Address | None:
    """The source address of packets that are encapsulated for segment routing, `::` when it is not set; None where the
    kernel has no segment routing over IPv6."""
    try:
        asker = TunnelSource(_UNSET)
    except KernelRefused as error:
        if error.errno == errno.ENOENT:
            return None
        raise MachineUnfit(f"the kernel does not answer over netlink: {error}") from error
    except OSError as error:
        raise MachineUnfit(f"the kernel does not answer over netlink: {error}") from error
    try:
        return asker.current()
    except (KernelRefused, MalformedInput, OSError) as error:
        raise MachineUnfit(f"the kernel does not answer over netlink: {error}") from error
    finally:
        asker.close()


def missing_options() -> tuple[str, ...]:
    """What this kernel was built without and forwarding needs; empty where it cannot be told (without CAP_NET_ADMIN).

    Asked by routes that no kernel makes, for there is no interface of that number: what is not built in is refused
    before the interface is looked for (Linux 6.1, 6.18 rtm_to_fib6_config, ip6_route_info_create).
    """
    nobody = IPv6Address("100::44")  # RFC 6666: discarded everywhere
    action = segment_routes.decapsulate6_action(_NO_TABLE)
    bodies = [segment_routes.forward_body(nobody, nobody, _NO_INTERFACE, table=_NO_TABLE, protocol=4, metric=1)]
    for source, encapsulation in ((None, action), (nobody, None)):
        body = segment_routes.segment_body(
            *(nobody, source, _NO_INTERFACE, encapsulation), table=_NO_TABLE, protocol=4, metric=1
        )
        bodies.append(body)
    with _requests() as requests:
        refusals = requests.transact([(netlink.RTM_NEWROUTE, netlink.NLM_F_CREATE, body) for body in bodies])
    why = {refusal.position: refusal.errno for refusal in refusals}
    missing = []
    if errno.EOPNOTSUPP in (why.get(0), why.get(1)):
        missing.append("CONFIG_IPV6_SEG6_LWTUNNEL")
    if why.get(2) == errno.EINVAL:
        missing.append("CONFIG_IPV6_SUBTREES")
    return tuple(missing)


@contextmanager
def _requests() -> Iterator[Requests]:
    try:
        requests = Requests()
        try:
            yield requests
        finally:
            requests.close()
    except (KernelRefused, MalformedInput, OSError) as error:
        raise MachineUnfit(f"the kernel does not answer over netlink: {error}") from error
