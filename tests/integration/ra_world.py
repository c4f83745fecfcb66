"""An access point and a client on one link, for tests of router advertisements: what is on the air, read by scapy."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6NDOptDNSSL,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPREF64,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether

from roamroute.values import Mac
from roamroute.wire import ethernet, icmpv6

from .linux_namespaces import inside, sh

AP_MAC, CLIENT_MAC = Mac("02:00:00:00:00:01"), Mac("02:00:00:00:00:02")
AP_OWN = "fe80::ff:fe00:1"
CLIENT_OWN = IPv6Address("fe80::ff:fe00:2")
LIMIT_S = 20.0
_ETH_P_IPV6 = 0x86DD
_NUMBERS = itertools.count()


def wait_for(is_true: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait until it holds, or fail with `what`."""
    end = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < end, f"not within {limit_s:g} s: {what}"
        time.sleep(0.05)


def router_solicitation() -> bytes:
    """The client's question, with its link-layer address (RFC 4861 §4.1)."""
    hardware = ethernet.octets(CLIENT_MAC)
    message = bytes([icmpv6.ROUTER_SOLICITATION, *bytes(7)])
    message += icmpv6.option(icmpv6.SOURCE_LINK_LAYER_ADDRESS, hardware)
    group = ethernet.group_of(icmpv6.ALL_ROUTERS)
    return icmpv6.compose(group, hardware, CLIENT_OWN.packed, icmpv6.ALL_ROUTERS, message)


class Cell:
    """`ap` with wlan0 (fe80::1 and, unless told, another link-local address), `sta` with eth0, whose kernel decides."""

    def __init__(self, ap: str | None = None, *, has_own_address: bool = True) -> None:
        """`ap`: a namespace that is there already, and stays."""
        number = next(_NUMBERS)
        self.ap = ap or f"rrra{os.getpid()}ap{number}"
        self.sta = f"rrra{os.getpid()}sta{number}"
        self._made = [self.sta] if ap else [self.ap, self.sta]
        self._has_own_address = has_own_address
        self._programs: list[subprocess.Popen[bytes]] = []

    def build(self) -> None:
        for namespace in self._made:
            sh(f"ip netns add {namespace} && ip -n {namespace} link set lo up")
        quick = "net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0"
        sh(f"ip netns exec {self.sta} sysctl -qw {quick} net.ipv6.conf.default.router_solicitation_delay=0")
        sh(f"ip netns exec {self.ap} sysctl -qw {quick} net.ipv6.conf.all.forwarding=1")
        ends = f"wlan0 address {AP_MAC} type veth peer name eth0 address {CLIENT_MAC} netns {self.sta}"
        sh(f"ip -n {self.ap} link add {ends}")
        if not self._has_own_address:
            sh(f"ip -n {self.ap} link set wlan0 addrgenmode none")
        sh(f"ip -n {self.ap} address add fe80::1/64 dev wlan0 nodad && ip -n {self.ap} link set wlan0 up")

    def connect(self) -> None:
        """The client comes: its carrier is there from now on."""
        sh(f"ip -n {self.sta} link set eth0 up")

    def start(self, *command: str, namespace: str | None = None, log: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a program, in the access point's namespace unless told; ended with the cell, at the latest."""
        with (log or Path(os.devnull)).open("ab") as output:
            words = ["ip", "netns", "exec", namespace or self.ap, *command]
            self._programs.append(subprocess.Popen(words, stdout=output, stderr=output))
        return self._programs[-1]

    def advertised(self, is_wanted: Callable[[Ether], bool] = lambda _: True, limit_s: float = LIMIT_S) -> list[Ether]:
        """Solicit as a client does, again and again until a wanted advertisement is heard; return all heard by then."""
        heard: list[Ether] = []
        with inside(self.sta):
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IPV6))
            tap.bind(("eth0", 0))
        with contextlib.closing(tap):
            tap.settimeout(0.5)
            end = time.monotonic() + limit_s
            while not any(is_wanted(each) for each in heard):
                assert time.monotonic() < end, f"no such advertisement: {heard}"
                tap.send(router_solicitation())
                with contextlib.suppress(TimeoutError):
                    while not any(is_wanted(each) for each in heard):
                        packet = Ether(tap.recv(2048))
                        if ICMPv6ND_RA in packet:
                            heard.append(packet)
        return heard

    def routes(self, *which: str) -> list[dict[str, Any]]:
        """The client's IPv6 routes that match."""
        found = json.loads(sh(f"ip -j -6 -n {self.sta} route show {' '.join(which)}") or "[]")
        assert isinstance(found, list)
        return found

    def addresses(self) -> list[dict[str, Any]]:
        """The client's global addresses, as `ip` tells of them."""
        found = json.loads(sh(f"ip -j -6 -n {self.sta} address show dev eth0 scope global") or "[]")
        return [each for link in found for each in link.get("addr_info", []) if each]

    def remove(self) -> None:
        for program in self._programs:
            if program.poll() is None:
                program.terminate()
        for program in self._programs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(5)
            program.kill()
            program.wait()
        for namespace in self._made:
            sh(f"ip netns del {namespace}", check=False)


@contextlib.contextmanager
def cell(ap: str | None = None, *, has_own_address: bool = True) -> Iterator[Cell]:
    """A cell with the client connected; gone afterwards."""
    made = Cell(ap, has_own_address=has_own_address)
    try:
        made.build()
        made.connect()
        yield made
    finally:
        made.remove()


def said(packet: Ether) -> dict[str, Any]:
    """An advertisement, option by option, as scapy reads it; what is not said is not there. Order means nothing."""
    ra = packet[ICMPv6ND_RA]
    found: dict[str, Any] = {
        "source": packet[IPv6].src,
        "IP hop limit": packet[IPv6].hlim,
        "hop limit": ra.chlim,
        "managed": ra.M,
        "other": ra.O,
        "preference": ra.prf,
        "router lifetime": ra.routerlifetime,
        "reachable time": ra.reachabletime,
        "retrans timer": ra.retranstimer,
    }
    option = ra.payload
    while option:
        match option:
            case ICMPv6NDOptPrefixInfo():
                prefix = (option.prefix, option.prefixlen, option.L, option.A, option.validlifetime)
                found.setdefault("prefixes", set()).add((*prefix, option.preferredlifetime))
            case ICMPv6NDOptRDNSS():
                found.setdefault("RDNSS", set()).update((server, option.lifetime) for server in option.dns)
            case ICMPv6NDOptDNSSL():
                found.setdefault("DNSSL", set()).update((name, option.lifetime) for name in option.searchlist)
            case ICMPv6NDOptMTU():
                found["MTU"] = option.mtu
            case ICMPv6NDOptSrcLLAddr():
                found["link-layer address"] = option.lladdr
            case ICMPv6NDOptPREF64():
                found["PREF64"] = (option.prefix, option.plc, 8 * option.scaledlifetime)
            case _:
                found[f"option {option.name}"] = bytes(option)
        option = option.payload
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """The names of what is not the same in both."""
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
