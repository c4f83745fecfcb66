"""Clients whose own kernels do duplicate address detection, one interface each, and the bridges that they hang on."""

from __future__ import annotations

import itertools
import socket
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Literal

import attrs

from roamroute.lab import addresses
from roamroute.lab.namespaces import Namespace, Sandbox
from roamroute.lab.topology import Router
from roamroute.lab.waiting import wait_until

LIMIT_S = 40.0
State = Literal["absent", "tentative", "usable", "duplicate"]
Wiring = Literal["alone", "ports", "trunk"]
"""A client alone in its namespace, with wlan0; several, each with a port of its own in the cell; all behind one port,
where the kernel gives a frame to a group only to those that have joined it (macvlan), as the filter of a radio does."""
_TENTATIVE, _DADFAILED = 0x40, 0x08  # IFA_F_*, linux/if_addr.h
_FIRST_INDEX = itertools.count(1000)
"""Of interfaces: with the same index at both ends of a pair the kernel tells its carrier late (lab/topology.py)."""


@attrs.frozen
class End:
    """A client link of an access point."""

    access_point: Router
    link: str


@attrs.define(eq=False)
class Cell:
    """A bridge whose ports are clients, and the client links that hang on it: two of them are one layer 2."""

    namespace: Namespace
    name: str
    ends: tuple[End, ...]
    is_isolating: bool = True
    """Its clients do not hear each other, as with `ap_isolate=1`."""

    @property
    def access_point(self) -> Router:
        return self.ends[0].access_point

    def port_lines(self, port: str) -> list[str]:
        """`ip` lines that join a client's port."""
        return [
            f"link set {port} master {self.name}",
            f"link set {port} type bridge_slave isolated {'on' if self.is_isolating else 'off'}",
            f"link set {port} up",
        ]


@attrs.define(eq=False)
class Client:
    """A client; several may share a namespace, where nothing but DAD is asked of them."""

    namespace: Namespace = attrs.field(repr=False)
    link: str
    port: str
    number: int
    cell: Cell = attrs.field(repr=False)

    @property
    def mac(self) -> str:
        return addresses.host_mac(self.number)

    @property
    def address(self) -> IPv6Address:
        """One that no other client has by the lab's plan of addresses."""
        return addresses.host_addresses(self.number, 1)[0]

    @property
    def address_ipv4(self) -> IPv4Address:
        return addresses.host_address_ipv4(self.number)

    def ask(self, address: object) -> State:
        """Configure an address, whereupon the kernel asks whether anybody has it; return what came of it."""
        return ask({self: address})[self]

    def state(self, address: object) -> State:
        return states(self.namespace).get((self.link, _spelled(address)), "absent")

    def drop(self, *own: object) -> None:
        self.namespace.ip(*(f"addr del {_with_length(address)} dev {self.link}" for address in own))

    def speak(self, address: object) -> None:
        """Send a packet from the address to the gateway of every client, whom the kernel has to solicit for it."""
        gateway = addresses.CLIENT_GATEWAY if ":" in str(address) else addresses.CLIENT_GATEWAY_IPV4
        family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
        with self.namespace.entered(), socket.socket(family, socket.SOCK_DGRAM) as wire:
            wire.bind((str(address), 0))
            scope = (0, socket.if_nametoindex(self.link)) if family == socket.AF_INET6 else ()
            wire.sendto(b"", (str(gateway), 9, *scope))


def make_clients(
    sandbox: Sandbox, label: str, cell: Cell, numbers: Sequence[int], settings: Mapping[str, int], wiring: Wiring
) -> list[Client]:
    """Clients in one namespace of that label. `settings`: net.ipv6.conf.*, other than the kernel's defaults."""
    namespace = sandbox.namespace(label)
    if settings.get("enhanced_dad") == 0:
        namespace.sysctl({"net.ipv6.conf.all.enhanced_dad": 0})  # either of the two switches it on
    namespace.sysctl({f"net.ipv6.conf.default.{name}": value for name, value in settings.items()})
    namespace.sysctl({"net.ipv4.conf.all.arp_ignore": 1, "net.ipv4.conf.all.arp_announce": 2})
    trunk = f"trunk{numbers[0]:x}"
    made = [
        Client(
            namespace,
            addresses.CLIENT_LINK if wiring == "alone" else f"wlan{number:x}",
            trunk if wiring == "trunk" else f"client{number:x}",
            number,
            cell,
        )
        for number in numbers
    ]
    if wiring == "trunk":
        namespace.ip(
            veth_line("trunk", cell.namespace, trunk),
            "link set trunk addrgenmode none up",
            *(f"link add {each.link} link trunk address {each.mac} type macvlan mode private" for each in made),
        )
        cell.namespace.ip(*cell.port_lines(trunk))
    else:
        namespace.ip(*(veth_line(client.link, cell.namespace, client.port, client.mac) for client in made))
        cell.namespace.ip(*(line for client in made for line in cell.port_lines(client.port)))
    namespace.ip(*(line for client in made for line in _up_lines(client)))
    return made


def bounce(clients: Iterable[Client]) -> None:
    """Take the interfaces of these clients down and up again: their kernels forget every IPv6 address."""
    lines: dict[Namespace, list[str]] = defaultdict(list)
    for client in clients:
        lines[client.namespace] += [f"link set {client.link} down", *_up_lines(client)]
    for namespace, batch in lines.items():
        namespace.ip(*batch)


def _up_lines(client: Client) -> list[str]:
    """The way to the gateway is one that a link-local address would bring; the metric tells it from the others'."""
    way = f"route add {addresses.CLIENT_GATEWAY} dev {client.link} metric {client.number}"
    return [f"link set {client.link} up", way]


def veth_line(link: str, there: Namespace, peer: str, mac: str = "") -> str:
    """The `ip` line that makes a pair, whose other end is in another namespace."""
    address = f" address {mac}" if mac else ""
    return (
        f"link add name {link} index {next(_FIRST_INDEX)}{address} type veth "
        f"peer name {peer} index {next(_FIRST_INDEX)} netns {there.name}"
    )


def states(namespace: Namespace) -> dict[tuple[str, str], State]:
    """What the kernel of a namespace says of each IPv6 address: (link, address) to its state."""
    with namespace.entered():
        lines = Path("/proc/thread-self/net/if_inet6").read_text().splitlines()
    found: dict[tuple[str, str], State] = {}
    for line in lines:
        address, _, _, _, flags, link = line.split()
        bits = int(flags, 16)
        state: State = "duplicate" if bits & _DADFAILED else "tentative" if bits & _TENTATIVE else "usable"
        found[link, str(IPv6Address(bytes.fromhex(address)))] = state
    return found


def begin(wanted: Mapping[Client, object]) -> None:
    """Configure an address on each of these clients, as nearly at once as `ip -batch` can."""
    lines: dict[Namespace, list[str]] = defaultdict(list)
    for client, address in wanted.items():
        lines[client.namespace].append(f"addr add {_with_length(address)} dev {client.link}")
    for namespace, batch in lines.items():
        namespace.ip(*batch)


def outcome(wanted: Mapping[Client, object], limit_s: float = LIMIT_S) -> dict[Client, State]:
    """Wait until the kernels have done with these addresses, and return what came of each.

    "absent" where the kernel has given it up, as it does with an address from an advertisement.
    """
    namespaces = {client.namespace for client in wanted}
    found: dict[Client, State] = {}

    def are_done() -> bool:
        seen = {namespace: states(namespace) for namespace in namespaces}
        for client, address in wanted.items():
            found[client] = seen[client.namespace].get((client.link, _spelled(address)), "absent")
        return "tentative" not in found.values()

    wait_until(are_done, f"the kernels of {len(wanted)} clients have done with their addresses", limit_s)
    return found


def ask(wanted: Mapping[Client, object], limit_s: float = LIMIT_S) -> dict[Client, State]:
    """Configure an address on each of these clients and return what came of it."""
    begin(wanted)
    return outcome(wanted, limit_s)


def forget(wanted: Mapping[Client, object]) -> None:
    """Take the addresses from the clients again."""
    lines: dict[Namespace, list[str]] = defaultdict(list)
    for client, address in wanted.items():
        lines[client.namespace].append(f"addr del {_with_length(address)} dev {client.link}")
    for namespace, batch in lines.items():
        namespace.ip(*batch)


def speak(wanted: Mapping[Client, object]) -> None:
    """Let each of these clients send something from its address."""
    for client, address in wanted.items():
        client.speak(address)


def own_addresses(clients: Iterable[Client]) -> dict[Client, object]:
    """Each client's own address."""
    return {client: client.address for client in clients}


def _spelled(address: object) -> str:
    return str(ip_address(str(address)))


def _with_length(address: object) -> str:
    return f"{address}/{ip_address(str(address)).max_prefixlen}"
