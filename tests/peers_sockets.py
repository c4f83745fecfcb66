"""Peers' channels on real UDP sockets, as tests need them: an access point without an engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from peers_network import KEY, claim_of

from roamroute.effects import SendAnswer, SendClaim
from roamroute.events import ClaimAnswered, Event, HostClaimed
from roamroute.lab.namespaces import Namespace
from roamroute.peers import DEFAULT_PORT, PeerChannel
from roamroute.values import Answer, DadMessage, PeerId, Verdict

LIMIT_S = 60.0


class AccessPoint:
    """A running channel that accepts every claim from inside `emit`, and what it was told."""

    def __init__(self, address: PeerId, *peers: PeerId, keys: Sequence[bytes] = (KEY,), is_proxy: bool = False) -> None:
        self.address = address
        self.events: list[Event] = []
        self.log: list[str] = []
        self.verdict: Verdict | None = Verdict.ACCEPTED
        self.told: list[Event | DadMessage] = []
        """Events and what hosts said, in their order."""
        dad_told = self._dad_told if is_proxy else None
        self.channel = PeerChannel(address, DEFAULT_PORT, keys, peers, self._emit, self._log, dad_told=dad_told)
        self._running = asyncio.create_task(self.channel.run())

    def claim(self, number: int, sequence: int = 1) -> None:
        self.channel.send_claim(SendClaim(claim_of(number, self.address, sequence), "a test"))

    @property
    def answered(self) -> set[str]:
        return {event.answer.mac for event in self.events if isinstance(event, ClaimAnswered)}

    async def until(self, condition: Callable[[], bool], what: str, look_s: float = 0.001) -> float:
        started = time.monotonic()
        try:
            async with asyncio.timeout(LIMIT_S):
                while not condition():  # noqa: ASYNC110 - the condition is about a socket's other end
                    await asyncio.sleep(look_s)
        except TimeoutError:
            raise AssertionError(f"not within {LIMIT_S} s: {what}; {self.events}; {self.channel.status()}") from None
        return time.monotonic() - started

    async def end(self) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self.told.append(event)
        if isinstance(event, HostClaimed) and self.verdict is not None:
            claim = event.claim
            answer = Answer(claim.mac, claim.sequence, self.verdict, claim.sequence, claim.peer, claim.addresses)
            self.channel.send_answer(SendAnswer(claim.peer, answer, "a test"))

    @property
    def said(self) -> list[DadMessage]:
        return [told for told in self.told if isinstance(told, DadMessage)]

    def _dad_told(self, peer: PeerId, message: DadMessage) -> None:
        self.told.append(message)

    def _log(self, level: str, line: str) -> None:
        self.log.append(f"{level}: {line}")


def perform(mesh: Namespace, script: Callable[[], Awaitable[None]]) -> None:
    """Run the script in the namespace; channels that it leaves running end with the loop."""

    async def main() -> None:
        await script()

    with mesh.entered():
        asyncio.run(main())
