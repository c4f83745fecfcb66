"""The peers' channel on a real UDP socket: the asyncio shell around `Exchange`.

It reads what has come, sends what is due and re-arms one timer; what any of it means is the exchange's. Nothing here
waits: a datagram that the socket does not take is dropped and counted, because claims are repeated anyway.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address

import attrs

from roamroute.effects import DropClaim, SendAnswer, SendClaim, ShareHint, UnshareHint
from roamroute.events import Event, PeerJoined, PeerLost
from roamroute.peers.codec import DATAGRAM_BYTES_MAXIMUM, OURS, Capability
from roamroute.peers.exchange import PEERS_MAXIMUM, Exchange, Outcome
from roamroute.peers.relays import Reliability
from roamroute.peers.session import KEEPALIVE_S, SILENCE_S
from roamroute.peers.sieve import INSTRUCTION_BYTES, sieve
from roamroute.peers.status import PeerStatus
from roamroute.values import DadMessage, HandoverReport, PeerId, Seconds

DEFAULT_PORT = 4544

DATAGRAMS_PER_WAKEUP = 64
"""Read at most so many (10 to 20 µs each) before timers and other sources get their turn: about 1 ms."""
WAKEUP_S: Seconds = 0.001
"""And not for longer than this: a batch of hints takes 10 times as long."""
REST_S: Seconds = 0.002
"""When most of what a whole wakeup read was refused, nothing is read for so long. A flood then costs a third of a
processor, whatever its rate; the kernel drops the rest, of the peers' datagrams too, but those are repeated."""
RECEIVE_BUFFER_BYTES = 1 << 20
"""Holds some 1000 claims (the kernel counts about 1 KiB for a small datagram); it caps this at net.core.rmem_max."""
BIND_RETRY_S: Seconds = 1.0
"""Our mesh address may come after us; so often we look."""
KEYS_COMPARED_S: Seconds = 3.0
"""So soon the log says that a peer seems to have another key: who has just changed it may be waiting for that."""
SAID_PER_TURN = 32
"""Of what hosts said at the peers: so many go to the proxy (some 50 µs each) before others get their turn."""
SAID_MAXIMUM = 2048
"""What waits for that; each peer has an allowance, but there may be 255 of them."""
RELAYS_GATHERED = 256
"""What hosts say within one turn of the loop shares datagrams, but for the first; so much at most."""
REFUSALS_LOGGED_S: Seconds = 60.0
"""What was refused is summed up in the log this often, if anything was."""

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h

_REFUSALS = ("from_strangers", "malformed", "other_version", "forged", "replayed", "peers_refused", "claims_evicted")

Log = Callable[[str, str], None]


@attrs.frozen
class ChannelStatus:
    """The channel as `roamroute status` shows it; `counters` has every name at every time."""

    is_bound: bool
    peers: tuple[PeerStatus, ...]
    claims_outstanding: int
    counters: Mapping[str, int]


class PeerChannel:
    """Claims, answers, hints and reports between this access point and its peers.

    All methods are to be called from the loop's thread and none blocks. They may be called before `run` (what is
    claimed then is repeated once the socket is there) and from inside `emit`.

    `emit` takes `PeerJoined`, `PeerLost`, `HostClaimed`, `ClaimAnswered`, `ClaimUnanswered`, `HostHinted` and
    `HandoverReported`, synchronously.
    `dad_told` takes what hosts have said, and at which peer, each once; without it the peers are told that no proxy is
    on here, and relay nothing. It is called in a later turn of the loop, after the events of what was read at the same
    time.
    `log` takes a level name ("debug", "info", "warning", "error") and one line.
    """

    def __init__(
        self,
        address: PeerId,
        port: int,
        keys: Sequence[bytes],
        peers: Iterable[PeerId],
        emit: Callable[[Event], None],
        log: Log,
        *,
        is_router: bool = False,
        dad_told: Callable[[PeerId, DadMessage], None] | None = None,
        reliability: Reliability = Reliability.ACKNOWLEDGED,
    ) -> None:
        """`address` is ours in the mesh; it is what the peers know us by. `keys`: see `set_keys`. `is_router`: we have
        no client links and send on for every host, so that peers tell us first. `reliability`: of `relay_dad`."""
        self._address, self._port = address, port
        self._emit, self._log = emit, log
        self._dad_told = dad_told
        capabilities = OURS
        if is_router:
            capabilities |= Capability.ROUTER
        if dad_told is not None:
            capabilities |= Capability.DAD
        self._exchange = Exchange(address, keys, os.urandom, capabilities, reliability)
        self._initial_peers = frozenset(peers)
        self._places: dict[PeerId, tuple[str, int]] = {}
        self._names: dict[str, PeerId] = {}
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._resumption: asyncio.TimerHandle | None = None
        self._is_running = False
        self._relays: list[tuple[DadMessage, frozenset[PeerId] | None]] = []
        self._relaying: asyncio.Handle | None = None
        self._said: deque[tuple[PeerId, DadMessage]] = deque()
        self._said_dropped = 0
        self._saying: asyncio.Handle | None = None
        self._rests = 0
        self._send_failures = 0
        self._last_send_failure: dict[PeerId, str] = {}
        self._counters_logged: Mapping[str, int] = self._exchange.counters
        self._forged_logged: dict[PeerId, tuple[int, float]] = {}

    async def run(self) -> None:
        """Serve until cancelled. While our address is missing it waits for it, and says so once."""
        self._start()
        loop = asyncio.get_running_loop()
        self._is_running = True
        self._rearm()
        try:
            self._socket = await self._bind()
            self._sift()
            loop.add_reader(self._socket.fileno(), self._read)
            refusals_due = loop.time() + REFUSALS_LOGGED_S
            while True:
                await asyncio.sleep(KEYS_COMPARED_S)
                now = loop.time()
                self._log_other_keys(now)
                if now >= refusals_due:
                    self._log_refusals()
                    refusals_due = now + REFUSALS_LOGGED_S
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the socket and the timer; idempotent. Peers are not told: silence means the same."""
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._resumption is not None:
            self._resumption.cancel()
            self._resumption = None
        if self._saying is not None:
            self._saying.cancel()
            self._saying = None
        self._said.clear()
        if self._socket is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def send_claim(self, effect: SendClaim) -> None:
        """Send the claim to every peer and repeat it, for at most 5 s, until each has answered.

        With `first`, that peer's datagram is in the kernel on return, and the others follow after this callback.
        """
        hastened: tuple[bytes, ...] = ()
        if effect.first is not None:
            hastened = self._exchange.hasten_claim(effect.claim, effect.first)
            for datagram in hastened:
                self._send(effect.first, datagram)
        now = self._start()
        self._perform(self._exchange.send_claim(effect.claim, now, effect.first, is_hastened=bool(hastened)))

    def drop_claim(self, effect: DropClaim) -> None:
        """Stop repeating the claim for this MAC."""
        self._exchange.drop_claim(effect.mac)

    def send_answer(self, effect: SendAnswer) -> None:
        """Send the answer once; the claimant asks again if it gets lost."""
        self._perform(self._exchange.send_answer(effect.peer, effect.answer, self._start()))

    def share_hint(self, effect: ShareHint) -> None:
        """Let every peer that understands hints know this binding, in time, and again when it restarts."""
        self._exchange.share_hint(effect.hint, self._start())
        self._rearm()

    def unshare_hint(self, effect: UnshareHint) -> None:
        """Tell nobody of this host any more; what was told stands until somebody claims the host."""
        self._exchange.unshare_hint(effect.mac)

    def send_report(self, peer: PeerId, report: HandoverReport) -> None:
        """Send the report once, best effort."""
        self._start()
        self._perform(self._exchange.send_report(peer, report))

    def relay_dad(self, message: DadMessage, peers: Iterable[PeerId] | None) -> None:
        """Tell these peers (None: all) what a host has said, as far as their proxies are on.

        The first message of a turn of the loop is in the kernel on return; those that follow it in the same turn share
        datagrams, and are there before the loop reads anything else. Each is repeated until the peer has it, for a
        second at most.
        """
        self._relays.append((message, None if peers is None else frozenset(peers)))
        if self._relaying is None:
            self._relay()
            self._relaying = asyncio.get_running_loop().call_soon(self._end_turn)
        elif len(self._relays) == RELAYS_GATHERED:
            self._relay()

    def set_keys(self, keys: Sequence[bytes]) -> None:
        """State the keys that are accepted, 3 at most; the first is ours. Sessions go on, see `Exchange.set_keys`.

        Raises: ValueError for no key, too many, or one that is not 32 bytes; then nothing has changed.
        """
        self._perform(self._exchange.set_keys(keys, self._start()))

    def set_peers(self, peers: Iterable[PeerId]) -> None:
        """State the whole set of peers; idempotent. We ourselves do not count."""
        wanted = frozenset(peers)
        now = self._start()
        if len(wanted - {self._address}) > PEERS_MAXIMUM:
            self._log("warning", f"peers: {len(wanted)} peers are more than {PEERS_MAXIMUM}; the rest is left out")
        outcome = self._exchange.set_peers(wanted, now)
        self._places = {peer: (str(peer), self._port) for peer in self._exchange.peers}
        self._names = {place[0]: peer for peer, place in self._places.items()}
        self._sift()
        self._perform(outcome)

    def status(self) -> ChannelStatus:
        """How it stands now."""
        return ChannelStatus(
            is_bound=self._socket is not None,
            peers=self._exchange.status(),
            claims_outstanding=self._exchange.claims_outstanding,
            counters={
                **self._exchange.counters,
                "dad_dropped": self._said_dropped,
                "rests": self._rests,
                "send_failures": self._send_failures,
            },
        )

    def _relay(self) -> None:
        relays, self._relays = self._relays, []
        self._perform(self._exchange.relay_dad(relays, self._start()))

    def _end_turn(self) -> None:
        self._relaying = None
        if self._relays:
            self._relay()

    def _start(self) -> float:
        """The loop's time; the first call brings in the peers that were given at the beginning."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self.set_peers(self._initial_peers)
        return self._loop.time()

    async def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if self._address.version == 6 else socket.AF_INET
        has_complained = False
        while True:
            bound = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
                bound.bind((str(self._address), self._port))
            except OSError as error:
                bound.close()
                if not has_complained:
                    reason = (error.strerror or str(error)).lower()
                    place = f"{self._address} port {self._port}"
                    self._log("warning", f"peers: cannot listen on {place}: {reason}; trying again every second")
                    has_complained = True
                await asyncio.sleep(BIND_RETRY_S)
            else:
                self._log("info", f"peers: listening on {self._address} port {self._port}")
                return bound

    def _sift(self) -> None:
        """Let the kernel drop most of what comes from strangers."""
        if self._socket is None:
            return
        program = ctypes.create_string_buffer(sieve(self._places, self._address.version))
        instructions = (len(program) - 1) // INSTRUCTION_BYTES
        request = struct.pack("HP", instructions, ctypes.addressof(program))  # struct sock_fprog
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, request)
        except OSError as error:  # the exchange knows strangers as well
            self._log("debug", f"peers: cannot filter strangers: {error.strerror or error}")

    def _read(self) -> None:
        """Take what has come; what hosts have said waits for the next turn of the loop.

        After a stall the peers may be read before the client links and hostapd: one of these may know that the host has
        come here since, and it must not be handed its own question.
        """
        self._receive()
        self._say_later()

    def _receive(self) -> None:
        """Take what has come, but not for ever: the loop calls again while there is more."""
        if self._socket is None or self._loop is None:
            return
        began, refused_before = self._loop.time(), self._exchange.refused
        for _ in range(DATAGRAMS_PER_WAKEUP):
            try:
                datagram, source = self._socket.recvfrom(DATAGRAM_BYTES_MAXIMUM + 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # An ICMP error of an earlier datagram may surface here; it says nothing about the socket.
                self._log("debug", f"peers: receiving failed: {error.strerror or error}")
                return
            peer = self._names.get(source[0])
            if peer is None:
                peer = ip_address(source[0].partition("%")[0])
            now = self._loop.time()
            self._perform(self._exchange.receive(datagram, peer, now))
            if self._socket is None:  # closed by what an event led to
                return
            if now - began > WAKEUP_S:
                break
        if self._exchange.refused - refused_before > DATAGRAMS_PER_WAKEUP // 2:
            self._rests += 1
            self._loop.remove_reader(self._socket.fileno())
            self._resumption = self._loop.call_later(REST_S, self._resume)

    def _resume(self) -> None:
        self._resumption = None
        if self._socket is not None and self._loop is not None:
            self._loop.add_reader(self._socket.fileno(), self._read)

    def _say_later(self) -> None:
        if self._said and self._saying is None and self._loop is not None:
            self._saying = self._loop.call_soon(self._say)

    def _say(self) -> None:
        """Give the proxy some of what hosts have said at the peers, and the rest later."""
        self._saying = None
        for _ in range(min(len(self._said), SAID_PER_TURN)):
            peer, message = self._said.popleft()
            if self._dad_told is not None:
                self._dad_told(peer, message)
        self._say_later()

    def _perform(self, outcome: Outcome) -> None:
        """Send, tell, and re-arm the timer."""
        for peer, datagram in outcome.datagrams:
            self._send(peer, datagram)
        for event in outcome.events:
            match event:
                case PeerJoined(peer=peer):
                    self._log("info", f'peer joined peer={peer} because="a session stands"')
                case PeerLost(peer=peer):
                    is_silent = peer in self._exchange.peers
                    cause = f"not heard for {SILENCE_S:g} s" if is_silent else "it is no peer any more"
                    self._log("warning" if is_silent else "info", f'peer lost peer={peer} because="{cause}"')
                case _:
                    pass
            self._emit(event)
        for said in outcome.said:
            if len(self._said) == SAID_MAXIMUM:
                self._said.popleft()
                self._said_dropped += 1
            self._said.append(said)
        self._rearm()

    def _send(self, peer: PeerId, datagram: bytes) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(datagram, self._places[peer])
        except OSError as error:
            self._send_failures += 1
            reason = (error.strerror or str(error)).lower()
            if self._last_send_failure.get(peer) != reason:
                self._last_send_failure[peer] = reason
                self._log("info", f"peers: cannot send to {peer}: {reason}")
        else:
            if self._last_send_failure and self._last_send_failure.pop(peer, None) is not None:
                self._log("info", f"peers: can send to {peer} again")

    def _rearm(self) -> None:
        due = self._exchange.next_wakeup
        if self._timer is not None:
            if due is not None and self._timer.when() <= due:
                return  # early is safe, and cheaper than a new timer per datagram
            self._timer.cancel()
            self._timer = None
        if due is not None and self._loop is not None and self._is_running:
            self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._loop is not None:
            self._perform(self._exchange.tick(self._loop.time()))

    def _log_refusals(self) -> None:
        """Say what was refused since the last time."""
        counters = self._exchange.counters
        grown = {name: counters[name] - self._counters_logged[name] for name in _REFUSALS}
        self._counters_logged = counters
        told = " ".join(f"{name}={count}" for name, count in grown.items() if count)
        if told:
            self._log("warning", f"peers: refused in the last minute: {told}")

    def _log_other_keys(self, now: float) -> None:
        """Say from which peers nothing is authentic, for each at once and then now and then."""
        for peer in self._exchange.status() if self._exchange.counters["forged"] else ():
            seen, due = self._forged_logged.get(peer.peer, (0, now))
            is_silent = peer.heard is None or now - peer.heard > KEEPALIVE_S + KEYS_COMPARED_S
            if peer.forged > seen and (is_silent or not peer.is_up) and now >= due:
                self._log("warning", f"peers: nothing from {peer.peer} is authentic: is the key the same on both?")
                due = now + REFUSALS_LOGGED_S
            self._forged_logged[peer.peer] = peer.forged, due
