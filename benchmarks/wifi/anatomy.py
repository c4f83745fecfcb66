"""Where the milliseconds of a roam go: what is seen on the backbone and in the routing tables, by the recorder's clock.

Independent of what roamroute says of itself. Packets carry the kernel's stamps (with netem, of when they left it);
changes of routes and neighbours are stamped when the recorder, which goes before everything else, reads them.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address

from bench import CLIENT_ADDRESS, Bench
from namespaces import Namespace
from recorder import stamped, take

PEERS_PORT = 4544
FORWARDING_TABLE = 4544

_CLIENT = IPv6Address(CLIENT_ADDRESS).packed
_MAIN_TABLE = 254
_ETH_P_ALL, _ETH_P_IPV6 = 3, 0x86DD
_PACKET_OUTGOING = 4
_IPV6, _ROUTING_HEADER, _UDP = 41, 43, 17  # next headers
_SO_ATTACH_FILTER = 26
_ROUTE_CHANGES, _NEIGHBOUR_CHANGES = 0x400, 0x4  # RTMGRP_IPV6_ROUTE, RTMGRP_NEIGH
_NEWROUTE, _DELROUTE, _NEWNEIGH = 24, 25, 28
_RTA_DST, _RTA_TABLE, _NDA_DST = 1, 15, 1

# Ethernet, IPv6, and then a tunnel or a datagram between peers; 128 bytes of it
_FILTER = (
    (0x28, 0, 0, 12),
    (0x15, 0, 7, _ETH_P_IPV6),
    (0x30, 0, 0, 20),
    (0x15, 4, 0, _IPV6),
    (0x15, 3, 0, _ROUTING_HEADER),
    (0x15, 0, 3, _UDP),
    (0x28, 0, 0, 56),
    (0x15, 0, 1, PEERS_PORT),
    (0x06, 0, 0, 128),
    (0x06, 0, 0, 0),
)

Mark = tuple[float, str, str]
"""When, where (a router's name), what."""


class Anatomy:
    """Marks what happens for the client on the routers of a set-up."""

    def __init__(self, bench: Bench) -> None:
        """Before the recorder's start."""
        self._marks: list[Mark] = []
        self._gateway = bench.gateway.name
        for router in (bench.gateway, *(ap.namespace for ap in bench.access_points)):
            for link in bench.mesh_links[router.name]:
                self._tap(bench, router, link)
            self._monitor(bench, router)

    def forget(self) -> None:
        self._marks.clear()

    def steps(self, source: str, target: str, since: float, connected: float) -> Mapping[str, float | None]:
        """Seconds after `connected` of what happened first since `since`; None: it did not happen.

        `source` and `target` are the former and the new access point.
        """
        marks = [mark for mark in self._marks if mark[0] >= since]

        def first(where: str, what: str) -> float | None:
            return next((at - connected for at, place, kind in sorted(marks) if (place, kind) == (where, what)), None)

        return {
            "route_installed_s": first(target, "route"),
            "neighbour_installed_s": first(target, "neighbour"),
            "claim_sent_s": first(target, "claim sent"),
            "claim_received_s": first(source, "claim received"),
            "forward_installed_s": first(source, "forward"),
            "route_withdrawn_s": first(source, "route withdrawn"),
            "first_forwarded_s": first(source, "tunnelled"),
            "gateway_claim_received_s": first(self._gateway, "claim received"),
            "gateway_forward_installed_s": first(self._gateway, "forward"),
            "gateway_first_forwarded_s": first(self._gateway, "tunnelled"),
            "gateway_route_changed_s": first(self._gateway, "route"),
        }

    def _tap(self, bench: Bench, router: Namespace, link: str) -> None:
        with router.entered():
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        program = b"".join(struct.pack("=HBBI", *each) for each in _FILTER)
        held = ctypes.create_string_buffer(program)
        tap.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_FILTER), ctypes.addressof(held)))
        stamped(tap)
        tap.setblocking(False)
        tap.bind((link, _ETH_P_ALL))

        def handle() -> None:
            for data, at, origin in _datagrams(tap):
                is_outgoing = origin[2] == _PACKET_OUTGOING
                if data[20] != _UDP:
                    what = "tunnelled" if is_outgoing else "tunnel arrives"
                else:
                    what = "claim sent" if is_outgoing else "claim received"
                self._marks.append((at, router.name, what))

        bench.recorder.watch(tap, handle, is_stamped=True)

    def _monitor(self, bench: Bench, router: Namespace) -> None:
        with router.entered():
            monitor = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        monitor.bind((0, _ROUTE_CHANGES | _NEIGHBOUR_CHANGES))
        monitor.setblocking(False)

        def handle() -> None:
            for data, at, _ in _datagrams(monitor):
                self._marks += [(at, router.name, what) for what in _changes(data)]

        bench.recorder.watch(monitor, handle, is_stamped=False)


def _datagrams(end: socket.socket) -> Iterator[tuple[bytes, float, tuple[object, ...]]]:
    while True:
        try:
            yield take(end)
        except OSError:
            return


def _changes(data: bytes) -> Iterator[str]:
    """What a datagram of rtnetlink says about the client's address."""
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        body, data = data[16:length], data[(length + 3) & ~3 :]
        if kind in (_NEWROUTE, _DELROUTE):
            attributes = dict(_attributes(body[12:]))
            if attributes.get(_RTA_DST) != _CLIENT:
                continue
            table = int.from_bytes(attributes.get(_RTA_TABLE, body[4:5]), "little")
            if table == FORWARDING_TABLE and kind == _NEWROUTE:
                yield "forward"
            elif table == _MAIN_TABLE:
                yield "route" if kind == _NEWROUTE else "route withdrawn"
        elif kind == _NEWNEIGH and dict(_attributes(body[12:])).get(_NDA_DST) == _CLIENT:
            yield "neighbour"


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind, data[4:length]
        data = data[max(4, (length + 3) & ~3) :]
