"""A virtual network for the peers' channel: time, loss, duplication, reordering and replay are the test's to choose."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv6Address

from roamroute.events import ClaimAnswered, ClaimUnanswered, Event, HandoverReported, HostClaimed, HostHinted
from roamroute.peers.codec import OURS, Capability
from roamroute.peers.exchange import Exchange, Outcome
from roamroute.values import Answer, Basis, Claim, DadKind, DadMessage, HandoverReport, Hint, Mac, PeerId, Verdict

KEY = bytes(range(32))
FIRST = IPv6Address("fd44::a:1")
SECOND = IPv6Address("fd44::a:2")
THIRD = IPv6Address("fd44::a:3")


def station(number: int) -> Mac:
    return Mac(f"02:00:5e:44:{number >> 8 & 255:02x}:{number & 255:02x}")


def claim_of(number: int, peer: PeerId = FIRST, sequence: int = 1) -> Claim:
    return Claim(station(number), sequence, peer, Basis.ASSOCIATION, (IPv6Address((0xFD44 << 112) + number),))


def said_of(number: int, kind: DadKind = DadKind.SOLICITATION) -> DadMessage:
    return DadMessage(kind, IPv6Address((0xFD44 << 112) + number), station(number), number.to_bytes(6, "big"))


class Node:
    """An access point: its exchange, what it was told, and whether it answers claims."""

    def __init__(self, address: PeerId, keys: Sequence[bytes], seed: int, capabilities: Capability = OURS) -> None:
        self.address, self.seed = address, seed
        self.exchange = Exchange(address, keys, random.Random(seed).randbytes, capabilities)
        self.events: list[Event] = []
        self.said: list[tuple[PeerId, DadMessage]] = []
        self.verdict: Callable[[Claim], Verdict | None] = lambda _: Verdict.ACCEPTED
        self.believed: dict[tuple[PeerId, Mac], Hint] = {}
        """Who has which host, with which addresses, by hint or by an accepted claim: the later sequence number wins."""

    def believe(self, told: Hint, is_claimed: bool = False) -> None:
        """Note what was told. A copy of a claim may come after the hint that followed the claim."""
        known = self.believed.get((told.peer, told.mac))
        if known is None or told.sequence > known.sequence or (told.sequence == known.sequence and not is_claimed):
            self.believed[told.peer, told.mac] = told

    @property
    def claims(self) -> list[Claim]:
        return [event.claim for event in self.events if isinstance(event, HostClaimed)]

    @property
    def answers(self) -> list[ClaimAnswered]:
        return [event for event in self.events if isinstance(event, ClaimAnswered)]

    @property
    def hints(self) -> list[Hint]:
        return [event.hint for event in self.events if isinstance(event, HostHinted)]

    @property
    def reports(self) -> list[HandoverReport]:
        return [event.report for event in self.events if isinstance(event, HandoverReported)]

    @property
    def unanswered(self) -> list[ClaimUnanswered]:
        return [event for event in self.events if isinstance(event, ClaimUnanswered)]


class Network:
    """Delivers datagrams after `delay_s`, unless `fate` says otherwise: a list of delays, one for each copy."""

    def __init__(
        self,
        *addresses: PeerId,
        keys: Sequence[bytes] = (KEY,),
        delay_s: float = 0.005,
        capabilities: Capability = OURS,
    ) -> None:
        self.now = 1000.0
        self.capabilities = capabilities
        self.delay_s = delay_s
        self.fate: Callable[[PeerId, PeerId, bytes], list[float]] = lambda *_: [self.delay_s]
        self.nodes: dict[PeerId, Node] = {}
        self.sent: list[tuple[float, PeerId, PeerId, bytes]] = []
        self.traffic: Counter[PeerId] = Counter()
        self._wire: list[tuple[float, int, PeerId, PeerId, bytes]] = []
        self._serial = 0
        self._seed = 0
        for address in addresses:
            self.start(address, keys)

    def start(self, address: PeerId, keys: Sequence[bytes] = (KEY,)) -> Node:
        """Start a node, or start it again with nothing remembered."""
        self._seed += 1
        previous = self.nodes.get(address)
        node = Node(address, keys, self._seed, self.capabilities)
        if previous is not None:
            node.verdict = previous.verdict
        self.nodes[address] = node
        for known in self.nodes.values():
            if previous is None or known is node:
                self.perform(known, known.exchange.set_peers(self.nodes, self.now))
        return node

    def perform(self, node: Node, outcome: Outcome) -> None:
        """Put datagrams on the wire; record events; answer claims as the node's `verdict` says."""
        for peer, datagram in outcome.datagrams:
            assert len(datagram) <= 1200
            self.sent.append((self.now, node.address, peer, datagram))
            self.traffic[node.address] += 1
            for delay in self.fate(node.address, peer, datagram):
                self.inject(node.address, peer, datagram, delay)
        node.said += outcome.said
        for event in outcome.events:
            node.events.append(event)
            if isinstance(event, HostHinted):
                node.believe(event.hint)
            if isinstance(event, HostClaimed):
                claim = event.claim
                verdict = node.verdict(claim)
                if verdict is Verdict.ACCEPTED:
                    node.believe(Hint(claim.mac, claim.sequence, claim.peer, claim.addresses), is_claimed=True)
                if verdict is not None:
                    answer = Answer(claim.mac, claim.sequence, verdict, claim.sequence, claim.peer, claim.addresses)
                    self.perform(node, node.exchange.send_answer(claim.peer, answer, self.now))

    def relay(self, node: Node, *messages: DadMessage, peers: Collection[PeerId] | None = None) -> None:
        self.perform(node, node.exchange.relay_dad([(message, peers) for message in messages], self.now))

    def inject(self, source: PeerId, destination: PeerId, datagram: bytes, delay: float = 0.0) -> None:
        """Let a datagram arrive that claims to come from `source`."""
        self._serial += 1
        heapq.heappush(self._wire, (self.now + delay, self._serial, source, destination, datagram))

    def claim(self, node: Node, claim: Claim) -> None:
        self.perform(node, node.exchange.send_claim(claim, self.now))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Let time pass, at most `seconds`; return how much passed until `until` was true."""
        started, steps = self.now, 0
        while not until():
            steps += 1
            assert steps < 200_000, "the network does not come to rest"
            due = [node.exchange.next_wakeup for node in self.nodes.values()]
            instants = [instant for instant in due if instant is not None]
            instants += [self._wire[0][0]] if self._wire else []
            if not instants or min(instants) > started + seconds:
                self.now = started + seconds
                break
            self.now = max(self.now, min(instants))
            if self._wire and self._wire[0][0] <= self.now:
                _, _, source, destination, datagram = heapq.heappop(self._wire)
                node = self.nodes.get(destination)
                if node is not None:
                    self.perform(node, node.exchange.receive(datagram, source, self.now))
                continue
            for node in tuple(self.nodes.values()):
                wakeup = node.exchange.next_wakeup
                if wakeup is not None and wakeup <= self.now:
                    self.perform(node, node.exchange.tick(self.now))
        return self.now - started

    def settle(self) -> None:
        """Let every session come to stand."""
        self.run(5.0, lambda: all(peer.is_up for node in self.nodes.values() for peer in node.exchange.status()))
        self.run(0.1)
