"""Who holds a host: our claims on the peers. Pure; part of the engine.

Order is (sequence, peer), RFC 7432 §7.7: no clocks are compared, and the greatest claim that reaches everybody wins
everywhere. An association claims at once, with the addresses that are known; an address that only neighbour discovery
vouches for waits for the peers' answers. What the peers' claims do here is in trials.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import assert_never

import attrs

from roamroute.book import Book
from roamroute.effects import DropClaim, Note, SendClaim
from roamroute.ghosts import Ghosts
from roamroute.hosts import Entry, Host
from roamroute.schedule import Budget
from roamroute.values import Address, Answer, Basis, Claim, Instant, Mac, PeerId, Seconds, Segments, Verdict

SEQUENCE_MAX = 2**32 - 1
CLAIM_ADDRESSES = 32  # IPv6 addresses in one datagram of the peers' channel
_REFUSALS = 8  # a refused claim is repeated with the holder's number plus one, at most so often in a row
_HANDOVER_S: Seconds = 10.0  # who held a host so long ago still tells its addresses: the one between may not know them
_GATHER_S: Seconds = 0.05
"""New addresses of a host of which one waits for the peers go into one more claim, not each into one of its own."""
_ADDRESS_CLAIMS_PER_S = 200.0
"""Claims for addresses that only neighbour discovery vouches for: one forged solicitation is enough to cause one, and
each costs every peer two datagrams. Associations are not limited: each costs its station a 4-way handshake."""
_ADDRESS_CLAIMS_BURST = 500
_RETRY_S: Seconds = 5.0  # a claim that a living peer missed is repeated after this time, then after twice as much, …
_RETRIES = 5  # … so often: 155 s in all, after which its neighbour cache has told it
_REST_S: Seconds = 5.0  # a host that a peer kept although it answers here is not asked for so long, twice as long …
_RESTS = 4  # … the next time, at most so often: 80 s
_RETRY_PAUSE_S: Seconds = 0.02  # between the claims that a peer hears which comes back: 1,000 hosts take 20 s


class Claims:
    """The part of the engine that asks peers."""

    def __init__(self, book: Book, ghosts: Ghosts) -> None:
        self._book = book
        self._ghosts = ghosts
        self.peers: frozenset[PeerId] = frozenset()
        self.met_at: dict[PeerId, Instant] = {}  # when each was up for the first time since our start
        self._budget = Budget(_ADDRESS_CLAIMS_PER_S, _ADDRESS_CLAIMS_BURST)

    # -- our claims -------------------------------------------------------------------------------------------------

    def claim_address(self, host: Host, entry: Entry) -> None:
        """Ask the peers before the address, which only neighbour discovery vouches for, is announced."""
        book = self._book
        is_waiting = ("answers", host.mac) in book.times
        if book.me is not None and not is_waiting and (book.is_elsewhere(host) or self._budget.take(book.now)):
            self.claim(host, self._basis(host), "a new address appeared")
        elif book.me is None or not self.peers:
            book.bind(host, entry.address)
            book.want(entry, "a neighbour appeared")
        elif ("claim", host.mac) not in book.times:
            book.times.set(("claim", host.mac), book.now + _GATHER_S)

    def claim_rest(self, host: Host) -> None:
        """Claim with the addresses that have appeared since the last claim."""
        book = self._book
        if any(not entry.is_wanted and not self._is_named(host, entry) for entry in host.entries.values()):
            if self._budget.take(book.now):
                self.claim(host, self._basis(host), "more addresses appeared")
            else:
                book.times.set(("claim", host.mac), book.now + _GATHER_S)

    def reclaim(self, host: Host, because: str) -> None:
        """Let the peers know, and object to, what was announced without asking them; not too many hosts at once."""
        if self._budget.take(self._book.now):
            wanted = tuple(entry.address for entry in host.entries.values() if entry.is_wanted)
            self.claim(host, self._basis(host), because, wanted)

    def is_asked_for(self, host: Host, entry: Entry) -> bool:
        """True while the address waits for the peers' answers to our claim."""
        return self._is_named(host, entry) and ("answers", host.mac) in self._book.times

    def _is_named(self, host: Host, entry: Entry) -> bool:
        claim = host.claim
        return claim is not None and host.holder == self._book.me and entry.address in claim.addresses

    def claim(
        self,
        host: Host,
        basis: Basis,
        because: str,
        addresses: tuple[Address, ...] = (),
        former: PeerId | None = None,
    ) -> None:
        """Claim the host from all peers, with the addresses that have not been confirmed by them yet.

        `former` has the host until now, when that is not the holder that we know.
        """
        book = self._book
        if book.me is None:
            return
        unconfirmed = (entry.address for entry in host.entries.values() if not entry.is_wanted)
        named = tuple(dict.fromkeys((*addresses, *unconfirmed)))[:CLAIM_ADDRESSES]
        if former is None and book.is_elsewhere(host):
            former = host.holder
        self._follow(host, min(host.sequence + 1, SEQUENCE_MAX), book.me)
        book.set_hinter(host, None)
        book.forwards.end_all(host.mac, because)
        host.sent_on_to = None
        host.surrendered = ()
        host.held_since = host.proven_at if basis is Basis.ASSOCIATION else None
        host.claimed_at = book.now
        host.claim = Claim(host.mac, host.sequence, book.me, basis, named, self._segments(), self._age(host))
        for entry in map(host.entries.get, named):
            if entry is not None and entry.named_at is None:
                entry.named_at = book.now
        host.awaited = self.peers
        host.accepted = host.missed = host.testing = frozenset()
        host.retries = 0
        book.questions.end_all(host.mac)
        book.times.cancel(("ghost", host.mac))
        book.times.cancel(("expel", host.mac))
        book.times.cancel(("missed", host.mac))
        book.times.cancel(("claim", host.mac))
        book.ask(SendClaim(host.claim, because, None if former == book.me else former))
        if host.awaited:
            self._wait(host)
        else:
            self._settle(host, f"{because}, no peer to ask")

    def _segments(self) -> Segments:
        # While drained our segments are not announced: what is sent there goes nowhere.
        return (
            Segments()
            if self._book.is_drained or not self._book.handover.is_forwarding
            else self._book.handover.segments
        )

    def _age(self, host: Host) -> Seconds | None:
        return None if host.held_since is None else self._book.now - host.held_since

    def _follow(self, host: Host, sequence: int, holder: PeerId) -> None:
        """Believe in a greater claim, and count it when the host has moved by it."""
        book = self._book
        book.changed[host.mac] = None
        host.sequence = sequence
        former, host.holder = host.holder, holder
        if former is None or former == holder:
            return
        until = book.oscillations.moved(host.mac, former, holder, book.now)
        if until is not None:
            book.times.set(("hold", host.mac), until)
            book.ask(
                Note(
                    f"oscillating {host.mac}",
                    f"{host.mac} moves to and fro too fast (two devices with one MAC, or a loop of bridges?): "
                    f"it stays at {holder} for {until - book.now:.0f} s",
                )
            )

    def _basis(self, host: Host) -> Basis:
        return Basis.NEIGHBOUR if host.station_link is None else Basis.ASSOCIATION

    def _deadline(self, host: Host, entry: Entry) -> Instant:
        named_at = self._book.now if entry.named_at is None else entry.named_at
        return max(named_at + self._book.policy.answer_wait_s, host.pending_until)

    def _wait(self, host: Host) -> None:
        """Set the time at which the first address that waits has waited enough."""
        waiting = [entry for entry in host.entries.values() if not entry.is_wanted and self._is_named(host, entry)]
        if waiting:
            due = min(self._deadline(host, entry) for entry in waiting)
            self._book.times.set(("answers", host.mac), max(due, self._book.now))
        else:
            self._book.times.cancel(("answers", host.mac))

    def waited(self, host: Host) -> None:
        """Time is up for some addresses that wait for the peers; a later address still has its own time."""
        if host.holder != self._book.me:
            return
        for entry in list(host.entries.values()):
            if self._deadline(host, entry) <= self._book.now:
                self._vouch(host, entry, "no peer objected in time")
        self._wait(host)

    def _settle(self, host: Host, because: str) -> None:
        """Everybody has answered: announce what was waiting."""
        host.refusals = 0
        host.pending_until = 0.0
        self._book.times.cancel(("answers", host.mac))
        for entry in list(host.entries.values()):
            self._vouch(host, entry, because)
        if ("claim", host.mac) in self._book.times:
            self._book.times.cancel(("claim", host.mac))
            self.claim_rest(host)

    def _vouch(self, host: Host, entry: Entry, because: str) -> None:
        if not entry.is_wanted and self._is_named(host, entry):
            self._book.bind(host, entry.address)
            self._book.want(entry, because)

    def _answered(self, host: Host, peer: PeerId, because: str) -> None:
        """`peer` is not waited for any more."""
        host.missed -= {peer}
        if peer in host.awaited:
            host.awaited -= {peer}
            if not host.awaited:
                self._settle(host, because)

    def _missed(self, host: Host, peer: PeerId, because: str) -> None:
        """`peer` does not know our claim; it is to be told when it can hear."""
        self._answered(host, peer, because)
        host.missed |= {peer}

    def joined_peer(self, peer: PeerId) -> None:
        """Tell a peer that comes back what it missed, not everything at once."""
        book = self._book
        if peer == book.me:
            return
        self.peers |= {peer}
        self.met_at.setdefault(peer, book.now)
        delay: Seconds = 0.0
        for host in book.hosts.values():
            if peer in host.missed and host.holder == book.me and host.is_here:
                delay += _RETRY_PAUSE_S
                host.retries = 0
                book.times.set(("missed", host.mac), book.now + delay)

    def lost_peer(self, peer: PeerId) -> None:
        """Nobody waits for a dead peer."""
        self.peers -= {peer}
        for host in self._book.hosts.values():
            if peer in host.awaited:
                self._missed(host, peer, "a peer was lost")

    def unanswered(self, peer: PeerId, mac: Mac, sequence: int) -> None:
        """The repetition of our claim ended without an answer."""
        host = self._book.hosts.get(mac)
        if host is None or host.claim is None or host.claim.sequence != sequence or host.holder != self._book.me:
            return
        self._missed(host, peer, "a peer is silent")
        if peer in self.peers and host.retries < _RETRIES:
            self._book.times.set(("missed", mac), self._book.now + _RETRY_S * 2**host.retries)

    def retry(self, host: Host) -> None:
        """Send our claim again, for the peers that have missed it and may hear it now."""
        audience = host.missed & self.peers
        if audience and host.claim is not None and host.holder == self._book.me and host.is_here:
            host.retries += 1
            host.missed -= audience
            host.awaited |= audience
            host.claim = attrs.evolve(host.claim, age_s=self._age(host), segments=self._segments())
            self._book.ask(SendClaim(host.claim, f"{len(audience)} peers have not heard it"))

    def answer_came(self, peer: PeerId, answer: Answer) -> None:
        """A peer answered one of our claims; answers to superseded claims are ignored."""
        book = self._book
        host = book.hosts.get(answer.mac)
        if host is None or host.claim is None or host.claim.sequence != answer.claimed or host.holder != book.me:
            return
        match answer.verdict:
            case Verdict.PENDING:
                if peer in host.awaited:
                    host.testing |= {peer}
                    host.pending_until = max(host.pending_until, book.now + book.policy.trial_s + 1.0)
                    self._wait(host)
                    self._take_over(host, peer, answer)
            case Verdict.REFUSED:
                self._refused(host, answer)
            case Verdict.KEPT:
                self._kept(host, peer, answer)
            case Verdict.ACCEPTED:
                self._accepted(host, peer, answer)
            case _:
                assert_never(answer.verdict)

    def _refused(self, host: Host, answer: Answer) -> None:
        book = self._book
        assert host.claim is not None  # answer_came looked
        holder = answer.holder
        if not 0 < answer.sequence <= SEQUENCE_MAX or is_less(answer, host.claim):
            return
        if holder in host.accepted:
            # It had heard our claim before it made the greater one: the host has moved on to it.
            self.lose(host, answer.sequence, holder, f"{holder} has claimed it since")
        elif not host.is_here and holder is not None:
            self._follow(host, answer.sequence, holder)
            self.end_claim(host, f"refused, and the host is not here: {holder} has number {answer.sequence}")
        elif holder is not None and self._is_older(host, answer):
            self.lose(host, answer.sequence, holder, f"its station came to {holder} later than here")
        elif host.refusals >= _REFUSALS:
            book.ask(Note(f"claim-refused {host.mac}", f"gave up claiming {host.mac} at number {host.sequence}"))
        else:
            refusals = host.refusals + 1
            host.sequence = max(host.sequence, answer.sequence)
            addresses = tuple(address for address in host.claim.addresses if address in host.entries)
            because = f"claim refused, {holder} has number {answer.sequence}"
            self.claim(host, host.claim.basis, because, addresses, former=holder)
            host.refusals = refusals

    def _is_older(self, host: Host, answer: Answer) -> bool:
        """True when the station was at the refusing holder later than here, however long the answer took."""
        if answer.age_s is None or answer.holder == self._book.me:
            return False
        return host.is_proven_before(host.claimed_at - answer.age_s)

    def _kept(self, host: Host, peer: PeerId, answer: Answer) -> None:
        if host.claim is None or host.claim.basis is not Basis.NEIGHBOUR:
            return
        self.lose(host, max(host.sequence, answer.sequence), answer.holder or peer, f"the host still answers at {peer}")

    def _asked_of(self, host: Host, peer: PeerId) -> tuple[Address, ...]:
        """The addresses of which the peer was testing one: it has the host, and says that it keeps it, or claims it."""
        claim = host.claim
        if claim is None or claim.basis is not Basis.NEIGHBOUR or peer not in host.testing:
            return ()
        return tuple(dict.fromkeys((*claim.addresses, *host.entries)))

    def _rest(self, host: Host, peer: PeerId, addresses: Iterable[Address]) -> None:
        """Do not ask the host for a while: it answers here, and at a peer whose layer 2 is ours too."""
        book = self._book
        host.rests += 1
        until = book.now + _REST_S * 2 ** min(host.rests - 1, _RESTS)
        for address in (*host.denied, *addresses):
            host.denied[address] = max(until, host.denied.get(address, until))
        self._trim_denied(host)
        text = f"{host.mac} answers here and at {peer}: is one layer 2 behind both?"
        book.ask(Note(f"shared {host.mac}", text))

    def _accepted(self, host: Host, peer: PeerId, answer: Answer) -> None:
        for address in answer.denied[:CLAIM_ADDRESSES]:
            self._denied(host, peer, address)
        self._take_over(host, peer, answer)
        host.accepted |= {peer}
        host.testing -= {peer}
        host.rests = 0
        self._answered(host, peer, "the peers do not object")

    def _denied(self, host: Host, peer: PeerId, address: Address) -> None:
        book = self._book
        host.denied.pop(address, None)
        host.denied[address] = book.now + book.policy.denial_s
        self._trim_denied(host)
        book.unbind(host, address)
        entry = host.entries.get(address)
        if entry is not None:
            book.ask(Note(f"denied {address}", f"{address} of {host.mac} is held by another host at {peer}"))
            book.forget(entry, f"another host holds it at {peer}")

    def _trim_denied(self, host: Host) -> None:
        book = self._book
        while len(host.denied) > 4 * book.policy.addresses_per_host:
            del host.denied[next(iter(host.denied))]
        if host.denied:
            book.times.set(("denial", host.mac), min(host.denied.values()))

    def _take_over(self, host: Host, peer: PeerId, answer: Answer) -> None:
        """Announce what the former holder knew of the host; only from one that had not answered yet."""
        if answer.addresses and peer not in host.accepted:
            link = host.station_link or next((entry.link for entry in host.entries.values()), host.watched_link)
            if link is not None:
                addresses = answer.addresses[: self._book.policy.addresses_per_host]
                self._book.resume(host, link, addresses, f"handed over by {peer}")
                for entry in filter(None, map(host.entries.get, addresses)):
                    self._vouch(host, entry, f"handed over by {peer}")

    # -- the end ------------------------------------------------------------------------------------------------------

    def lose(
        self,
        host: Host,
        sequence: int,
        holder: PeerId,
        because: str,
        claim: Claim | None = None,
        may_expel: bool = True,
    ) -> None:
        """The host is the holder's, by this claim: send on, withdraw, forget, remember what goes with the answer."""
        book = self._book
        kept = self._asked_of(host, holder) if book.policy.is_following_bridges else ()
        if host.holder == book.me or (host.holder is None and host.entries):
            here = [entry.address for entry in host.entries.values() if entry.is_wanted]
            host.surrendered = tuple(dict.fromkeys((*here, *book.live_binding(host))))
            host.surrendered_at = book.now
        elif host.holder != holder and book.now - host.surrendered_at > _HANDOVER_S:
            host.surrendered = ()
        if claim is not None:
            self.send_on(host, claim, because)
        may_linger = book.policy.handover_linger_s > 0.0 and not book.is_drained
        for entry in list(host.entries.values()):
            is_lingering = may_linger and entry.is_wanted and entry.address in book.forwards
            book.forget(entry, because, is_lingering)
        for address in book.lingering.of_host(host.mac):
            if address not in book.forwards:
                book.end_lingering(address, because)
        self.end_claim(host, because)
        self._follow(host, sequence, holder)
        if claim is not None:
            self.bind_named(host, claim)
        elif host.hinted_by != holder:
            book.set_hinter(host, None)
        host.held_since = None if claim is None or claim.age_s is None else book.now - claim.age_s
        book.questions.end_all(host.mac)
        if may_expel and host.station_link is not None:
            self._ghosts.expect(host)
        if host.station_link is None or host.surrendered:
            book.unwatch(host, because)
        if kept:
            self._rest(host, holder, kept)
        elif host.station_link is None:
            book.unlearn(host.mac, because)

    def send_on(self, host: Host, claim: Claim, because: str) -> None:
        """Forward what still arrives for the host to who has claimed it.

        Where the host was not, only by proof, and only what a holder has told before: what a claim merely names may be
        another host's, which a forged packet must not divert.
        """
        if not self._book.handover.is_forwarding:
            return
        book = self._book
        forwards = book.forwards
        ours = dict.fromkeys(forwards.of_host(host.mac))
        others: tuple[Address, ...] = ()
        if host.sent_on_to != claim.peer:
            ours |= dict.fromkeys((*host.surrendered, *host.entries))
            if book.handover.is_forwarding_all and claim.basis is Basis.ASSOCIATION:
                others = tuple(address for address in book.live_binding(host) if address not in ours)
        host.sent_on_to = claim.peer
        may_be_sent = partial(self._may_forward, host, claim)
        forwards.begin(filter(may_be_sent, ours), claim, book.now, True, because)
        forwards.begin(filter(may_be_sent, others), claim, book.now, False, because)

    def divert(self, host: Host, claim: Claim, because: str) -> None:
        """Send on what arrives for the addresses that are here, while the claim is on trial: it ends with that."""
        if self._book.handover.is_forwarding:
            addresses = (entry.address for entry in host.entries.values() if entry.is_wanted)
            may_be_sent = partial(self._may_forward, host, claim)
            self._book.forwards.begin(filter(may_be_sent, addresses), claim, self._book.now, True, because)

    def bind_named(self, host: Host, claim: Claim) -> None:
        """Remember what the new holder names, like a hint; but what others vouch for is not taken from them by it."""
        book = self._book
        if not claim.addresses or not self._book.handover.is_sharing_hints:
            if host.hinted_by != claim.peer:
                book.set_hinter(host, None)
            return
        if host.hinted_by != claim.peer:
            book.set_hinter(host, claim.peer if book.has_room_for_hint(claim.peer) else None)
        for address in claim.addresses[: book.policy.addresses_per_host]:
            if address not in host.binding and book.is_free(address) and book.admission.admits_address(address):
                book.bind(host, address)

    def _may_forward(self, host: Host, claim: Claim, address: Address) -> bool:
        entry = self._book.entries.get(address)
        if entry is not None and entry.mac != host.mac:
            return False  # it is here, another host's
        if self._book.bound_host(address) not in (None, host):
            return False
        segment = claim.segments.for_address(address)
        admission = self._book.admission
        return (segment is None or admission.is_segment(segment)) and admission.admits_address(address)

    def end_claim(self, host: Host, because: str) -> None:
        if host.claim is not None:
            self._book.ask(DropClaim(host.mac, because))
        host.claim = None
        host.accepted = host.awaited = host.missed = frozenset()
        host.pending_until = 0.0
        host.refusals = 0
        for kind in ("answers", "claim", "missed"):
            self._book.times.cancel((kind, host.mac))


def is_less(answer: Answer, claim: Claim) -> bool:
    """True when a refusal names nothing greater than the claim that it refuses."""
    if answer.holder is None:
        return answer.sequence <= claim.sequence
    return (answer.sequence, answer.holder.version, int(answer.holder)) <= claim.order
