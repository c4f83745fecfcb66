"""Router advertisements at the connection, and the DAD proxy, with real stations; prints a line for each fact.

Two stations of two access points (one channel, ap_isolate=1) whose kernels do the asking: "client" asks and roams,
"owner" has what it asks for. Exit code 1 when a fact is not so; with `--without-proxy` the duplicates must be missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from bench import GATEWAY_ADDRESS, ROAMING_PREFIX, AccessPoint, Bench
from facts import exit_code, fact, spread
from mesh import RoutedMesh, RoutedOptions
from namespaces import ControlSocket, Namespace, NotReached, wait_until
from recorder import Recorder, stamped, take

from roamroute.values import DadKind, DadMessage, Mac
from roamroute.wire import discovery

LOGS = Path("/shared")
IPV4_PREFIX = "10.44.0.0/16"
OWNED, OWNED_IPV4 = "fd44:0:0:1::d", "10.44.0.13"
_ETH_P_ALL = 3
_ROUTER_ADVERTISEMENT, _SOLICITATION, _ADVERTISEMENT = 134, 135, 136
_IS_PERMANENT, _IS_TENTATIVE, _HAS_FAILED = 0x80, 0x40, 0x08  # linux/if_addr.h
Verdict = Literal["duplicate", "usable"]


@dataclass(frozen=True)
class Frame:
    """One frame at an interface; `at` by the monotonic clock, as the kernel stamped it."""

    at: float
    is_outgoing: bool
    octets: bytes

    @property
    def message(self) -> tuple[int, str] | None:
        """Of neighbour discovery: ICMPv6 type, and the target (an RA has none)."""
        if self.octets[12:14] != b"\x86\xdd" or self.octets[20] != socket.IPPROTO_ICMPV6:
            return None
        kind = self.octets[54]
        return kind, str(IPv6Address(self.octets[62:78])) if kind in (_SOLICITATION, _ADVERTISEMENT) else ""


class Tap:
    """A packet socket that joins nothing: what it hears the interface passes up by itself."""

    def __init__(self, namespace: Namespace | None, link: str = "wlan0") -> None:
        if namespace is None:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        else:
            with namespace.entered():
                self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.bind((link, _ETH_P_ALL))
        self._socket.setblocking(False)
        stamped(self._socket)
        self._frames: list[Frame] = []

    def send(self, octets: bytes) -> None:
        self._socket.send(octets)

    def frames(self, since: float) -> list[Frame]:
        try:
            while True:
                octets, moment, origin = take(self._socket)
                self._frames.append(Frame(moment, origin[2] == socket.PACKET_OUTGOING, octets))
        except BlockingIOError:
            return [frame for frame in self._frames if frame.at >= since]

    def moments(self, kind: int, target: str, since: float, *, is_outgoing: bool) -> list[float]:
        return [
            frame.at
            for frame in self.frames(since)
            if frame.is_outgoing == is_outgoing and frame.message == (kind, target)
        ]


class Station:
    """A client: where it is, its addresses, and what its interface sends and receives."""

    def __init__(self, name: str, namespace: Namespace, supplicant: ControlSocket, recorder: Recorder) -> None:
        self.name = name
        self.namespace = namespace
        self.mac = namespace.run("cat", "/sys/class/net/wlan0/address").strip()
        self.tap = Tap(namespace)
        self._supplicant = supplicant
        self._recorder = recorder
        self._is_connected = False

    def join(self, ap: AccessPoint) -> float:
        """Connect, or roam there; when its hostapd said AP-STA-CONNECTED."""
        since = time.monotonic()
        if self._is_connected:
            self._supplicant.request("SCAN freq=2412")
            scanned = "CTRL-EVENT-SCAN-RESULTS"
            wait_until(lambda: self._recorder.first(self.name, scanned, since) is not None, "a scan", 10)
            since = time.monotonic()
            answer = self._supplicant.request(f"ROAM {ap.bssid}")
        else:
            self._supplicant.request(f"BSSID 0 {ap.bssid}")
            self._supplicant.request("SELECT_NETWORK 0")
            answer = "OK"
        if answer != "OK":
            raise NotReached(f"{self.name} does not roam to {ap.name}: {answer}")
        said = f"AP-STA-CONNECTED {self.mac}"
        wait_until(lambda: self._recorder.first(ap.name, said, since) is not None, f"{ap.name} says {said}", 20, 0.002)
        if not self._is_connected:
            self._supplicant.request("BSSID 0 00:00:00:00:00:00")  # only a preference from here on
        self._is_connected = True
        moment = self._recorder.first(ap.name, said, since)
        assert moment is not None
        return moment

    def state(self, address: str) -> int | None:
        """The kernel's flags of an address; None when the station has not got it."""
        wanted = IPv6Address(address).packed.hex()
        return next((flags for found, flags in self._addresses() if found == wanted), None)

    def made_address(self) -> str | None:
        """What it has made itself of an advertised prefix."""
        return next(
            (
                str(IPv6Address(bytes.fromhex(found)))
                for found, flags in self._addresses()
                if not found.startswith("fe80") and not flags & _IS_PERMANENT
            ),
            None,
        )

    def default_router(self) -> str | None:
        for line in self._table("ipv6_route"):
            destination, length, *_, gateway = line.split()[:5]
            if destination == "0" * 32 and length == "00" and gateway != "0" * 32:
                return str(IPv6Address(bytes.fromhex(gateway)))
        return None

    def forget(self) -> None:
        """Be without global addresses and default route."""
        self.namespace.run("ip", "-6", "address", "flush", "dev", "wlan0", "scope", "global")
        self.namespace.run("ip", "-6", "route", "flush", "default")

    def begin(self, address: str) -> float:
        """Take an address; the kernel asks within a second whether somebody has it."""
        moment = time.monotonic()
        self.namespace.run("ip", "-6", "address", "add", f"{address}/128", "dev", "wlan0")
        return moment

    def verdict(self, address: str) -> Verdict:
        def is_decided() -> bool:
            flags = self.state(address)
            return flags is not None and (flags & _HAS_FAILED != 0 or flags & _IS_TENTATIVE == 0)

        wait_until(is_decided, f"{self.name} knows whether {address} is unique", 10)
        flags = self.state(address)
        self.namespace.run("ip", "-6", "address", "delete", f"{address}/128", "dev", "wlan0")
        return "duplicate" if flags is not None and flags & _HAS_FAILED else "usable"

    def reach_gateway(self, source: str) -> None:
        ping = f"ping -c1 -W1 -I {source} {GATEWAY_ADDRESS} || true"
        what = f"{self.name} reaches the gateway from {source}"
        wait_until(lambda: "1 received" in self.namespace.run("sh", "-c", ping), what, 30)

    def has_nonce(self, address: str, since: float) -> bool | None:
        asked = [frame for frame in self.tap.frames(since) if frame.message == (_SOLICITATION, address)]
        return len(asked[0].octets) > 78 if asked else None

    def _addresses(self) -> list[tuple[str, int]]:
        return [(line.split()[0], int(line.split()[4], 16)) for line in self._table("if_inet6")]

    def _table(self, name: str) -> list[str]:
        with self.namespace.entered():
            return Path(f"/proc/thread-self/net/{name}").read_text().splitlines()


def what_the_radios_do(ap: AccessPoint, client: Station, owner: Station, air: Tap) -> None:
    """Before roamroute runs: multicast solicitations of isolated stations, and the marks of the proxy's frames."""
    heard = Tap(ap.namespace)
    address = "fd44:0:0:1::aaaa"
    since = client.begin(address)
    client.verdict(address)
    flags = int(ap.namespace.run("cat", "/sys/class/net/wlan0/flags"), 16)
    fact(
        bool(heard.moments(_SOLICITATION, address, since, is_outgoing=False)) and not flags & 0x300,
        "a packet socket hears solicitations to groups that nobody joined there, without PACKET_MR_ALLMULTI",
        f"the interface's flags: 0x{flags:x}",
    )
    fact(
        not owner.tap.moments(_SOLICITATION, address, since, is_outgoing=False),
        "ap_isolate=1 keeps them from the other station",
    )
    group = bytes.fromhex("3333ff00aaaa")
    to_access_point, to_group = 0, 0
    for frame in air.frames(since):
        (radiotap,) = struct.unpack_from("<H", frame.octets, 2)
        header = frame.octets[radiotap:]
        to_access_point += header[1] & 3 == 1 and header[16:22] == group and header[4:10].hex(":") == ap.bssid
        to_group += header[4:10] == group
    fact(
        to_access_point > 0 and to_group == 0,
        "on the air they are addressed to the access point's MAC: no filter for multicast is asked",
        f"{to_access_point} frames to the access point, {to_group} to the group",
    )

    messages: Sequence[DadMessage] = (
        DadMessage(DadKind.SOLICITATION, IPv6Address(address), Mac("02:00:00:00:00:09"), bytes(range(6))),
        DadMessage(DadKind.ADVERTISEMENT, IPv6Address(address), Mac("02:00:00:00:00:09")),
        DadMessage(DadKind.SOLICITATION, IPv4Address(OWNED_IPV4), Mac("02:00:00:00:00:09")),
        DadMessage(DadKind.ADVERTISEMENT, IPv4Address(OWNED_IPV4), Mac("02:00:00:00:00:09")),
    )
    for sender, receiver, source, station, way in (
        (heard, owner.tap, ap.bssid, owner.mac, "access point to station"),
        (owner.tap, heard, owner.mac, ap.bssid, "station to access point"),
    ):
        arrived = []
        for message, addressee in itertools.product(messages, (Mac(station), None)):
            (octets,) = discovery.handed_out(Mac(source), message, (addressee,))
            since = time.monotonic()
            sender.send(octets)
            time.sleep(0.05 if addressee else 0.3)
            arrived.append(any(frame.octets == octets and not frame.is_outgoing for frame in receiver.frames(since)))
        fact(
            all(arrived),
            f"flow label, padding behind ARP, and all other octets arrive as sent: {way}",
            f"{sum(arrived)} of {len(arrived)} frames (NS, NA, ARP probe and announcement or reply, to one and to all)",
        )


def tell_who_connects(client: Station, aps: Sequence[AccessPoint], count: int) -> None:
    """Router advertisements: a client that has forgotten everything connects."""
    taps = {ap.name: Tap(ap.namespace) for ap in aps}
    first_sent, first_come, routed, addressed, copies = [], [], [], [], []
    arrived, sent = 0, 0
    routers, addresses = set(), set()
    for number in range(count):
        ap = aps[1 - number % 2]
        client.forget()
        connected = client.join(ap)
        moments: dict[str, float] = {}
        while len(moments) < 2 and time.monotonic() < connected + 5:
            if "route" not in moments and (router := client.default_router()):
                moments["route"] = time.monotonic() - connected
                routers.add(router)
            if "address" not in moments and (address := client.made_address()):
                moments["address"] = time.monotonic() - connected
                addresses.add(address)
            time.sleep(0.002)
        time.sleep(0.5)
        went = taps[ap.name].moments(_ROUTER_ADVERTISEMENT, "", connected - 0.1, is_outgoing=True)
        came = client.tap.moments(_ROUTER_ADVERTISEMENT, "", connected - 0.1, is_outgoing=False)
        sent, arrived = sent + len(went), arrived + len(came)
        if went:
            first_sent.append(went[0] - connected)
        if came:
            first_come.append(came[0] - connected)
            copies.append(sum(moment <= came[0] for moment in went))
        if len(moments) == 2:
            routed.append(moments["route"])
            addressed.append(moments["address"])
    fact(
        len(routed) == count and routers == {"fe80::1"},
        "who connects has a default router, fe80::1, and makes an address",
        f"{sorted(addresses)}; route there at the latest {spread(routed)}, "
        f"address {spread(addressed)} after AP-STA-CONNECTED",
    )
    fact(
        len(first_come) == count,
        "the advertisement comes unasked",
        f"sent {spread(first_sent)}, received {spread(first_come)}; which copy came first: "
        f"{[copies.count(each) for each in (1, 2, 3)]} times the 1st, 2nd, 3rd; {arrived} of {sent} copies received",
    )
    routes = client.namespace.run("ip", "-6", "route", "show")
    (LOGS / "client-routes.txt").write_text(routes)
    fact(ROAMING_PREFIX not in routes, "nobody in the prefix is on its link: it has no route for it")


def ask(client: Station, count: int, expected: Verdict, text: str) -> None:
    """The client takes what the owner has."""
    verdicts, answered = [], []
    for _ in range(count):
        since = client.begin(OWNED)
        verdicts.append(client.verdict(OWNED))
        asked = client.tap.moments(_SOLICITATION, OWNED, since, is_outgoing=True)
        told = client.tap.moments(_ADVERTISEMENT, OWNED, since, is_outgoing=False)
        if asked and told:
            answered.append(told[0] - asked[0])
    fact(
        verdicts == [expected] * count,
        text,
        f"{verdicts.count('duplicate')} of {count} duplicate; NS to NA at the client: {spread(answered)}",
    )


def ask_without_nonce(client: Station, aps: Sequence[AccessPoint], count: int) -> None:
    """A client that cannot tell its own solicitation from another's roams, and asks again."""
    for scope in ("all", "wlan0"):
        client.namespace.sysctl(**{f"ipv6__conf__{scope}__enhanced_dad": 0})
    address = "fd44:0:0:1::cccc"
    client.join(aps[0])
    tap = Tap(aps[0].namespace)
    since = client.begin(address)
    way = {"is_outgoing": False}
    wait_until(lambda: bool(tap.moments(_SOLICITATION, address, since, **way)), "the client asks", 5, 0.005)
    itself = DadMessage(DadKind.SOLICITATION, IPv6Address(address), Mac(client.mac))
    tap.send(discovery.solicitation(Mac(aps[0].bssid), itself, None))
    fact(
        client.verdict(address) == "duplicate",
        "a client without RFC 7527 takes a copy of its own question for somebody else's (we send it one)",
    )
    choice = random.Random(3)
    for is_asking_before, text in (
        (False, "a client without RFC 7527 that asks again as soon as it has roamed keeps its address"),
        (True, "… and one that roams in the middle of its question, and then asks again"),
    ):
        verdicts, nonces = [], set()
        for number in range(count):
            address = f"fd44:0:0:1::{0xB000 + number + count * is_asking_before:x}"
            since = client.begin(address)
            if is_asking_before:
                time.sleep(choice.uniform(0, 1))
            else:
                verdicts.append(client.verdict(address))
            client.join(aps[1 - number % 2])
            if is_asking_before:
                verdicts.append(client.verdict(address))
            client.begin(address)
            verdicts.append(client.verdict(address))
            nonces.add(client.has_nonce(address, since))
        fact(
            verdicts == ["usable"] * (2 * count) and nonces == {False},
            text,
            f"{verdicts.count('usable')} of {2 * count} questions, {count} roams, no nonce",
        )


def probe(client: Station, count: int) -> tuple[int, int]:
    """How often RFC 5227's probes of arping find the owner's address taken, and one that nobody has."""
    found = []
    for address in (OWNED_IPV4, "10.44.0.77"):
        command = f"arping -D -q -c 2 -w 3 -I wlan0 {address} && echo free || echo taken"
        found.append(sum("taken" in client.namespace.run("sh", "-c", command) for _ in range(count)))
    return found[0], found[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10, help="how often each is tried (10)")
    parser.add_argument("--mode", choices=("all", "targeted"), default="all")
    parser.add_argument("--ft", action="store_true", help="802.11r: the stations install their keys later")
    parser.add_argument("--without-proxy", action="store_true", help="duplicates must be missed then")
    options = parser.parse_args()
    count: int = options.n
    subprocess.run(["ip", "link", "set", "hwsim0", "up"], check=True)
    bench = Bench(LOGS, channels=(1, 1), has_ft=options.ft)
    recorder = bench.recorder
    another = bench.another_client("owner", 3)
    recorder.start()
    client = Station("client", bench.client, bench.supplicant, recorder)
    owner = Station("owner", *another, recorder)
    client.forget()
    ap1, ap2 = aps = bench.access_points
    for station in (client, owner):
        station.join(ap1)
    what_the_radios_do(ap1, client, owner, Tap(None, "hwsim0"))

    proxy = f"[dad]\nenabled = {json.dumps(not options.without_proxy)}\nmode = {json.dumps(options.mode)}\n"
    mesh = RoutedMesh(bench, RoutedOptions(prefixes=(ROAMING_PREFIX, IPV4_PREFIX), more_tables=f"[ra]\n{proxy}"))
    tell_who_connects(client, aps, count)

    expected: Verdict = "usable" if options.without_proxy else "duplicate"
    owner.begin(OWNED)
    wait_until(lambda: owner.state(OWNED) == _IS_PERMANENT, "the owner has its address", 10)
    owner.namespace.run("ip", "address", "add", f"{OWNED_IPV4}/16", "dev", "wlan0")
    owner.reach_gateway(OWNED)
    for there, text in ((ap2, "at the other access point"), (ap1, "at the same access point, isolated")):
        client.join(ap1)
        owner.join(there)
        # "targeted" asks who is known: by a host route for IPv6, by its announcement for IPv4
        owner.reach_gateway(OWNED)
        owner.namespace.run("sh", "-c", f"arping -q -c 2 -U -I wlan0 {OWNED_IPV4} || true")
        ask(client, count, expected, f"the kernel finds a duplicate whose owner is {text}")
        taken, in_vain = probe(client, count)
        fact(
            (taken, in_vain) == (0 if options.without_proxy else count, 0),
            f"arping -D finds it for IPv4, too: {text}",
            f"{taken} of {count}; of an address that nobody has {in_vain} of {count}",
        )
    ask_without_nonce(client, aps, count)
    ask(client, count, expected, "… and it finds a duplicate all the same")
    for ap in aps:
        (LOGS / f"status-{ap.name}.json").write_text(json.dumps(mesh.status(ap.namespace), indent=1))
    return exit_code()


if __name__ == "__main__":
    sys.exit(main())
