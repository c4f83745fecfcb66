"""`roamroute check`: what access points need to do things for each other. Looks only; part of check.py.

Nothing here is an error unless the peers themselves cannot be reached: what is missing costs a handover some of its
speed, and the rest works.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from roamroute.config import HANDOVER_TABLES, Config, PeersSection
from roamroute.errors import RoamrouteError
from roamroute.export import Finding
from roamroute.linux import machine, surroundings
from roamroute.segments import segment_prefix, segments_of
from roamroute.sysctl import sysctl_key
from roamroute.values import Address, PeerId

_SUBJECT = "handover"
_RULES = 5
"""So many priorities in a row are ours (linux/forward_rules.py)."""
_ENCAPSULATION_BYTES = 40
"""One IPv6 header: a single segment needs no routing header (H.Encaps.Red, RFC 8986 §5.2), from Linux 6.0 on; …"""
_OLD_ENCAPSULATION_BYTES = 64
"""… before that there is one with a segment list of one entry."""
_NEEDED = "CONFIG_IPV6_SEG6_LWTUNNEL"
_IPV6_MINIMUM_MTU = 1280
_UNSET = IPv6Address("::")


def check_handover(config: Config) -> Iterator[Finding]:
    """The key, our mesh address, and whether packets can be sent on.

    Raises: MachineUnfit when netlink does not answer.
    """
    section = config.peers
    if section is None:
        yield Finding(
            "warning",
            "peers",
            "no [peers]: the access points do not talk to each other, and a roam takes 20 to 34 s",
            "add a [peers] table; see docs/tutorial.md",
        )
        return
    yield from _keys(section)
    if all(section.address not in {address for address, _ in machine.addresses(link)} for link in machine.links()):
        yield Finding(
            "error",
            "peers",
            f"{section.address} is on no interface of this machine",
            f"ip address add {section.address}/{section.address.max_prefixlen} dev lo, or correct peers.address",
        )
    if config.handover.forwarding:
        yield from _segments(config, section)
        yield from _kernel(config, section)
        yield from _mtu(config)
        yield from _reverse_path(config)
    else:
        yield Finding("ok", _SUBJECT, "nothing is sent on for hosts that have moved: switched off")


def _keys(section: PeersSection) -> Iterator[Finding]:
    from roamroute.peers import read_keys  # PyNaCl: only who has peers pays

    file = shlex.quote(section.key_file)
    try:
        keys = read_keys(Path(section.key_file))
    except RoamrouteError as error:
        remedy = f"(umask 077; head -c 32 /dev/urandom | xxd -p -c 64 > {file}); the same on all access points"
        yield Finding("error", "peers", str(error), remedy)
        return
    if len(keys) == 1:
        yield Finding("ok", "peers", "the key can be read")
    else:
        text = f"the file has {len(keys)} keys: the first is used, all are accepted"
        yield Finding("ok", "peers", f'{text}; when status says "another key" of no peer, remove the others')


def _segments(config: Config, section: PeersSection) -> Iterator[Finding]:
    """What the addresses under which packets are taken need: room for them, and no two that are the same."""
    prefixes = config.roaming.prefixes
    if segment_prefix(prefixes) is None:
        text = "no roaming prefix is IPv6 and a /64 or shorter: packets cannot be sent on"
        yield Finding("warning", _SUBJECT, text, "add one to roaming.prefixes, the same on all access points")
        return
    if not isinstance(section.address, IPv6Address):
        text = f"our mesh address {section.address} is IPv4: packets are sent on over IPv6"
        yield Finding("warning", _SUBJECT, text, "set an IPv6 address in peers.address, on all access points")
    has_ipv4 = any(prefix.version == 4 for prefix in prefixes)
    if has_ipv4 and len(config.roaming.interfaces) > 1:
        text = "several client links: packets to IPv4 addresses are not taken from peers"
        yield Finding("warning", _SUBJECT, text, "put the client links into one bridge, and name that")
    for one, other in _colliding({section.address, *section.addresses}, config):
        text = f"{one} and {other} have the same segment: what is sent on to one may reach the other"
        yield Finding("error", _SUBJECT, text, "give one of them another mesh address")


def _colliding(peers: Iterable[PeerId], config: Config) -> Iterator[tuple[PeerId, PeerId]]:
    seen: dict[Address, PeerId] = {}
    for peer in sorted(peers, key=lambda each: (each.version, int(each))):
        segment = segments_of(peer, config.roaming.prefixes).ipv6
        if segment is None:
            continue
        if segment in seen:
            yield seen[segment], peer
        seen[segment] = peer


def _kernel(config: Config, section: PeersSection) -> Iterator[Finding]:
    """Segment routing, and what others may have put where ours goes."""
    source, missing = surroundings.segment_source(), surroundings.missing_options()
    if source is None or _NEEDED in missing:
        text = "this kernel cannot do segment routing (SRv6): what arrives for a host that has moved is lost"
        yield Finding("warning", _SUBJECT, text, f"a kernel with {_NEEDED}; all else works without")
    elif source not in (_UNSET, section.address):
        text = f"another program has set the source of encapsulated packets to {source}: packets are not sent on"
        yield Finding("warning", _SUBJECT, text, "ip sr tunsrc set ::, if nobody needs it")
    else:
        how = f", without {', '.join(missing)}: from each peer by a rule of its own" if missing else ""
        yield Finding("ok", _SUBJECT, f"the kernel can do segment routing (SRv6){how}")
    protocol, handover = config.kernel.protocol, config.handover
    ours = range(handover.rule_priority, handover.rule_priority + _RULES)
    taken = sorted({rule.priority for rule in surroundings.policy_rules() if rule.protocol != protocol} & set(ours))
    if taken:
        text = f"other programs' policy rules have the priority {', '.join(map(str, taken))}, which is ours"
        yield Finding("error", _SUBJECT, text, "ip -6 rule; set handover.rule_priority to one where there is room")
    tables = range(handover.tables, handover.tables + HANDOVER_TABLES)
    others = sorted(surroundings.table_protocols(tables) - {protocol})
    if others:
        text = f"routes of protocol {', '.join(map(str, others))} are in the tables {tables[0]} to {tables[-1]}"
        yield Finding("error", _SUBJECT, f"{text}, which must be ours alone", "set handover.tables to others")


def _mtu(config: Config) -> Iterator[Finding]:
    """A packet that is sent on is longer by a header, and must still fit through the mesh."""
    client_links = config.roaming.interfaces
    clients = [mtu for link in client_links if (mtu := surroundings.mtu(link)) is not None]
    mesh = {link: mtu for link in surroundings.mesh_links(client_links) if (mtu := surroundings.mtu(link)) is not None}
    if not clients or not mesh:
        return
    header = _ENCAPSULATION_BYTES if machine.kernel_version() >= (6, 0) else _OLD_ENCAPSULATION_BYTES
    link, smallest = min(mesh.items(), key=lambda item: item[1])
    fits = smallest - header
    if fits >= max(clients):
        yield Finding(
            "ok", _SUBJECT, f"packets of {max(clients)} bytes can be sent on: the mesh has room for the header"
        )
        return
    text = (
        f"while packets are sent on, those longer than {fits} bytes do not fit through {link} (MTU {smallest}): "
        "their senders are told, and send shorter ones"
    )
    advice = f"ip link set {link} mtu {max(clients) + header}, on all routers of the mesh, where the links allow it"
    if fits >= _IPV6_MINIMUM_MTU:
        advice += f"; or tell the clients a shorter one: [ra] mtu_bytes = {fits}, DHCP option 26"
    yield Finding("warning", _SUBJECT, text, advice)


def _reverse_path(config: Config) -> Iterator[Finding]:
    """What is sent on may come in by another link than the one by which its sender is reached."""
    if all(prefix.version != 4 for prefix in config.roaming.prefixes):
        return
    links = (*config.roaming.interfaces, *surroundings.mesh_links(config.roaming.interfaces))
    strict = [link for link in links if surroundings.filters_reverse_path(link)]
    if strict:
        text = (
            f"rp_filter is strict on {', '.join(strict)}: IPv4 packets of and to hosts that have moved may be dropped"
        )
        settings = " ".join(f"net.ipv4.conf.{sysctl_key(link)}.rp_filter=2" for link in strict)
        yield Finding("warning", _SUBJECT, text, f"sysctl -w {settings}")


def check_running(status: Mapping[str, Any]) -> Iterator[Finding]:
    """What the running daemon knows: peers, keys, forwarding."""
    handover = status["handover"]
    if handover is None:
        return
    peers = status["peers"]["peers"]
    down = [peer["peer"] for peer in peers if not peer["is_up"]]
    segments = Counter(each["segment"] for peer in peers for each in peer["segments"]) + Counter(handover["segments"])
    for segment in sorted(segment for segment, count in segments.items() if count > 1):
        text = f"two access points have the segment {segment}: what is sent on to one may reach the other"
        yield Finding("error", _SUBJECT, text, "give one of them another mesh address")
    if down and len(down) == len(peers):
        yield Finding("error", "peers", "none of them answers", "roamroute status; is the mesh up, the key the same?")
    elif down:
        yield Finding("warning", "peers", f"{len(down)} of {len(peers)} do not answer: {', '.join(down[:4])}")
    elif peers:
        yield Finding("ok", "peers", f"all {len(peers)} answer")
    old = [peer["peer"] for peer in peers if peer["is_up"] and not peer["has_own_key"]]
    if old:
        text = f"{len(old)} peers do not use our first key: {', '.join(old[:4])}"
        yield Finding("warning", "peers", text, "put the same key first into the key file of each")
    if handover["why_not"] is not None and handover["segments"]:
        yield Finding("warning", _SUBJECT, f"packets are not sent on: {handover['why_not']}")
    unrouted = [
        peer["peer"]
        for peer in peers
        if peer["is_up"]
        and "segments" in peer["capabilities"]
        and not all(each["is_routed"] for each in peer["segments"])
    ]
    if unrouted:
        text = f"no route to the segments of {', '.join(unrouted[:4])}: nothing can be sent on to them"
        yield Finding("warning", _SUBJECT, text, "are their host routes exported? roamroute status there")
