"""What one duplicate address detection costs a mesh of 10 access points with 50 stations each, and what it finds.

The real cores of the DAD proxy run in virtual time (`roamroute.testing.dad_network`); frames are counted where they
would go on the air, datagrams where they would go on the mesh. The octets of a datagram are those of the real channel,
acknowledgement included. Nothing is measured of this machine: the figures are the same everywhere.

Airtime is arithmetic (IEEE 802.11-2020, clauses 10.3, 15.3 and 17.4; 20 MHz, no aggregation, no collision):

    PSDU       MAC header 24 octets (26 with QoS) + CCMP 16 + LLC/SNAP 8 + IPv6 40 + NS or NA with one option 32 + FCS 4
    OFDM       20 us preamble and SIGNAL + 4 us for each begun symbol of 22 + 8 x PSDU bits (24 a symbol at 6 Mb/s, 216
               at 54 Mb/s)
    1 Mb/s     192 us long preamble and header + 8 us an octet
    multicast  DIFS 34 us + mean backoff 7.5 slots of 9 us + frame               at 6 Mb/s  294 us
               DIFS 50 us + mean backoff 7.5 slots of 20 us + frame              at 1 Mb/s 1384 us
    unicast    AIFS 43 us + 67.5 us + frame at 54 Mb/s + SIFS 16 us + ACK at 24 Mb/s 28 us      195 us

What the host itself sends, and what its access point repeats to its own hosts without isolation, is not counted: it
would be there without a proxy. A multicast frame also wakes every sleeping station at the next DTIM, and makes each of
them receive it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv6Address, IPv6Network
from random import Random

import attrs

from benchmarks.figure import Figure
from roamroute.dad import DadMode
from roamroute.peers.codec import OURS, Capability
from roamroute.peers.exchange import Exchange
from roamroute.peers.relays import Reliability
from roamroute.testing.dad_network import DadNetwork, Host
from roamroute.values import Address, DadKind, DadMessage, Mac, PeerId

MODES: tuple[DadMode, ...] = ("all", "targeted")
ACCESS_POINTS, STATIONS = 10, 50
QUESTIONS = 100
PAUSE_S = 30.0
"""Between two: no budget and no memory of one touches the next."""
PREFIX = IPv6Network("fd44:0:0:1::/64")
UDP_BYTES = 40 + 8

PAYLOAD_BYTES = 16 + 8 + 40 + 32 + 4


def ofdm_us(payload: int, bits_per_symbol: int) -> float:
    """One frame of so many octets."""
    return 20.0 + 4.0 * math.ceil((22 + 8 * payload) / bits_per_symbol)


MULTICAST_6_US = 34.0 + 7.5 * 9.0 + ofdm_us(24 + PAYLOAD_BYTES, 24)
MULTICAST_1_US = 50.0 + 7.5 * 20.0 + 192.0 + 8.0 * (24 + PAYLOAD_BYTES)
UNICAST_US = 43.0 + 7.5 * 9.0 + ofdm_us(26 + PAYLOAD_BYTES, 216) + 16.0 + ofdm_us(14, 96)


@attrs.define
class Cost:
    """Of `QUESTIONS` questions."""

    found: int = 0
    own_group_frames: int = 0
    own_unicast_frames: int = 0
    """At the access point of the host that asks."""
    other_group_frames: int = 0
    other_unicast_frames: int = 0
    relays: int = 0


def run() -> list[Figure]:
    """Each mode, each situation; half a minute."""
    octets = datagram_octets()
    figures = [
        Figure("DAD airtime: one multicast frame at 6 Mb/s", MULTICAST_6_US, "µs"),
        Figure("DAD airtime: one multicast frame at 1 Mb/s", MULTICAST_1_US, "µs"),
        Figure("DAD airtime: one unicast frame at 54 Mb/s", UNICAST_US, "µs"),
        Figure("DAD airtime: one message to one peer, with its acknowledgement", octets, "B"),
    ]
    for mode in MODES:
        for situation in ("nobody has it", "its own, after a roam", "a known host elsewhere has it"):
            figures += figures_of(mode, True, situation, octets)
        figures += figures_of(mode, False, "nobody has it", octets)
    for mode in MODES:
        bar = 100.0 if mode == "all" else None
        for situation, least in (
            ("a known host elsewhere has it", 100.0),
            ("a silent host elsewhere has it", bar),
            ("two ask at once on two access points", bar),
            ("two ask at once on one", 100.0),
        ):
            found = 100.0 * measure(mode, True, situation).found / QUESTIONS
            figures.append(Figure(f"DAD {mode}: found where {situation}", found, "%", least, "at least"))
    return figures


def figures_of(mode: DadMode, is_isolated: bool, situation: str, octets: float) -> Iterator[Figure]:
    """What one question costs on the air and on the mesh."""
    cost = measure(mode, is_isolated, situation)
    name = f"DAD {mode}, {'isolated' if is_isolated else 'not isolated'}, {situation}:"
    own = (cost.own_group_frames / QUESTIONS, cost.own_unicast_frames / QUESTIONS)
    others = (cost.other_group_frames / QUESTIONS, cost.other_unicast_frames / QUESTIONS)
    for place, frames, access_points in (("the asking", own, 1), ("each other", others, ACCESS_POINTS - 1)):
        group, unicast = (count / access_points for count in frames)
        note = f"{group:.2g} multicast, {unicast:.2g} unicast"
        for megabits, multicast_us in ((6, MULTICAST_6_US), (1, MULTICAST_1_US)):
            airtime_ms = (group * multicast_us + unicast * UNICAST_US) / 1000
            text = f"{name} airtime at {place} access point, multicast at {megabits} Mb/s"
            yield Figure(text, airtime_ms, "ms", note=note)
    yield Figure(f"{name} octets on the mesh", cost.relays * octets / QUESTIONS, "B")


def measure(mode: DadMode, is_isolated: bool, situation: str) -> Cost:
    """Let it happen `QUESTIONS` times, each time with other hosts, and count."""
    links = [f"{name}.wlan0" for name in "abcdefghij"[:ACCESS_POINTS]]
    network = DadNetwork(Random(1), [[link] for link in links], is_isolated=is_isolated, mode=mode)
    hosts = [[network.host(link) for _ in range(STATIONS)] for link in links]
    acquaint(network, hosts)
    cost = Cost()
    for number in range(QUESTIONS):
        asking = number % ACCESS_POINTS
        elsewhere = (asking + 1 + number // ACCESS_POINTS % (ACCESS_POINTS - 1)) % ACCESS_POINTS
        host = hosts[asking][number % STATIONS]
        other = hosts[elsewhere][(number + 7) % STATIONS]
        target = PREFIX[0x10000 + number]
        match situation:
            case "a known host elsewhere has it":
                other.take(target)
            case "a silent host elsewhere has it":
                other.take(target)
                other.is_known = False
            case "its own, after a roam":
                host.take(target)
                asking = elsewhere
                host.roam(links[asking], is_repeating=False)
                network.run(1.0)
                host.taken.discard(target)
            case "two ask at once on two access points":
                network.clock.after(0.2, partial(other.ask, target))
            case "two ask at once on one":
                other = hosts[asking][(number + 7) % STATIONS]
                network.clock.after(0.2, partial(other.ask, target))
            case _:  # nobody has it
                pass
        count(network, cost, asking, host, target)
        cost.found += target in host.lost or target in other.lost
        other.is_known = True
        for each in (host, other):
            each.taken.discard(target)
        if host.segment is not network.segment_of(links[number % ACCESS_POINTS]):
            host.roam(links[number % ACCESS_POINTS], is_repeating=False)
        network.run(PAUSE_S)
    return cost


def acquaint(network: DadNetwork, hosts: list[list[Host]]) -> None:
    """Let the access points have found out that they are on different layer 2s: one host of each has asked."""
    for place, access_point in enumerate(network.access_points.values()):
        message = DadMessage(DadKind.SOLICITATION, PREFIX[place + 1], hosts[place][0].mac)
        for other in network.access_points.values():
            if other is not access_point:
                other.told(access_point.peer, message)
    network.run(PAUSE_S)


def count(network: DadNetwork, cost: Cost, asking: int, host: Host, target: Address) -> None:
    """One question, and all that follows."""
    proxies = [access_point.proxy for access_point in network.access_points.values()]
    before = [attrs.asdict(proxy.counters) for proxy in proxies]
    relays = network.relays
    host.ask(target)
    network.run(3.0)
    cost.relays += network.relays - relays
    for place, proxy in enumerate(proxies):
        group = proxy.counters.group_frames - before[place]["group_frames"]
        unicast = proxy.counters.unicast_frames - before[place]["unicast_frames"]
        if place == asking:
            cost.own_group_frames += group
            cost.own_unicast_frames += unicast
        else:
            cost.other_group_frames += group
            cost.other_unicast_frames += unicast


def datagram_octets() -> float:
    """A question with a nonce and its acknowledgement between two real ends of the channel, with IPv6 and UDP."""
    random = Random(1)
    addresses: tuple[PeerId, ...] = (IPv6Address("fd44::a:1"), IPv6Address("fd44::a:2"))
    ends = {
        address: Exchange(address, (bytes(32),), random.randbytes, OURS | Capability.DAD, Reliability.ACKNOWLEDGED)
        for address in addresses
    }
    octets = 0
    wire: list[tuple[PeerId, PeerId, bytes]] = []
    now = 0.0

    def settle(until: float) -> None:
        nonlocal now, octets
        while now < until:
            for address, end in ends.items():
                wire.extend((address, peer, datagram) for peer, datagram in end.tick(now).datagrams)
            while wire:
                source, destination, datagram = wire.pop(0)
                octets += len(datagram) + UDP_BYTES
                outcome = ends[destination].receive(datagram, source, now)
                wire.extend((destination, peer, answer) for peer, answer in outcome.datagrams)
            now += 0.01

    for address, end in ends.items():
        wire.extend((address, peer, datagram) for peer, datagram in end.set_peers(addresses, now).datagrams)
    settle(3.0)
    octets = 0
    question = DadMessage(DadKind.SOLICITATION, PREFIX[5], Mac("02:00:5e:44:00:01"), b"nonce!")
    outcome = ends[addresses[0]].relay_dad([(question, None)], now)
    wire.extend((addresses[0], peer, datagram) for peer, datagram in outcome.datagrams)
    settle(3.5)
    return octets
