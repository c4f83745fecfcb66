"""Who holds a host: claims between the peers. Pure; part of the engine.

Order is (sequence, peer), RFC 7432 §7.7: no clocks are compared, and the greatest claim that reaches everybody wins
everywhere. A claim by association is followed at once. One that rests on neighbour discovery, for a host associated
here, is put on *trial*: we probe the host, and follow or keep it by what we hear. An address that the claim names and
that another host holds here is tested in the same way, and denied when it answers; the claimed host does not wait for
that. The claimant drives: it repeats its claim until it is answered, so an answer is never repeated by us.

Order alone may pick the wrong one: the two claims of a host that moves on within milliseconds, while messages are
lost, may end with the greater number at the place that it has left. So an access point that loses a host which is
associated with it asks the host, once, some time after: what answers then is there, and is claimed anew.
"""

from __future__ import annotations

from typing import assert_never

from roamroute.book import Book
from roamroute.effects import Deauthenticate, DropClaim, Note, SendAnswer, SendClaim
from roamroute.hosts import Entry, Host, Trial
from roamroute.schedule import Budget
from roamroute.values import Address, Answer, Basis, Claim, Instant, Mac, PeerId, Seconds, Verdict, is_group_mac

SEQUENCE_MAX = 2**32 - 1
_CLAIM_ADDRESSES = 32  # IPv6 addresses in one datagram of the peers' channel
_REFUSALS = 8  # a refused claim is repeated with the holder's number plus one, at most so often in a row
_GHOST_PAUSE_S: Seconds = 2.0  # a live AP-STA-CONNECTED may still be on its way when a claim takes the host
_FRESH_S: Seconds = 1.0  # an association younger than this, and lost: perhaps a race that the wrong one won,
_RACE_PAUSE_S: Seconds = 0.05  # so ask soon; two round trips and a repetition of the claims
_HANDOVER_S: Seconds = 10.0  # who held a host so long ago still tells its addresses: the one between may not know them
_GHOST_QUESTIONS = 2  # addresses of which a host that we lost is asked for; one answer is enough
_EXPEL_AFTER_S: Seconds = 5.0  # three unicast NS and two seconds
_TRIALS = 4096
_GATHER_S: Seconds = 0.05
"""New addresses of a host of which one waits for the peers go into one more claim, not each into one of its own."""
_ADDRESS_CLAIMS_PER_S = 200.0
"""Claims for addresses that only neighbour discovery vouches for: one forged solicitation is enough to cause one, and
each costs every peer two datagrams. Associations are not limited: each costs its station a 4-way handshake."""
_ADDRESS_CLAIMS_BURST = 500
_RETRY_S: Seconds = 5.0  # a claim that a living peer missed is repeated after this time, then after twice as much, …
_RETRIES = 5  # … so often: 155 s in all, after which its neighbour cache has told it
_BEFORE_PEER_S: Seconds = 5.0  # a station that connects right after our start has us claim it before a peer is known
_RETRY_PAUSE_S: Seconds = 0.02  # between the claims that a peer hears which comes back: 1,000 hosts take 20 s


class Claims:
    """The part of the engine that deals with peers."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._trials: dict[Mac, Trial] = {}
        self._tested_for: dict[Address, set[Mac]] = {}
        """Which trials wait for an address: the union of all `Trial.untested`."""
        self.peers: frozenset[PeerId] = frozenset()
        self._met_at: dict[PeerId, Instant] = {}  # when each was up for the first time since our start
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

    def claim(self, host: Host, basis: Basis, because: str, addresses: tuple[Address, ...] = ()) -> None:
        """Claim the host from all peers, with the addresses that have not been confirmed by them yet."""
        book = self._book
        if book.me is None:
            return
        unconfirmed = (entry.address for entry in host.entries.values() if not entry.is_wanted)
        named = tuple(dict.fromkeys((*addresses, *unconfirmed)))[:_CLAIM_ADDRESSES]
        host.sequence = min(host.sequence + 1, SEQUENCE_MAX)
        host.holder = book.me
        host.surrendered = ()
        host.claim = Claim(host.mac, host.sequence, book.me, basis, named)
        for entry in map(host.entries.get, named):
            if entry is not None and entry.named_at is None:
                entry.named_at = book.now
        host.awaited = self.peers
        host.accepted = host.missed = frozenset()
        host.retries = 0
        book.questions.end_all(host.mac)
        book.times.cancel(("ghost", host.mac))
        book.times.cancel(("expel", host.mac))
        book.times.cancel(("missed", host.mac))
        book.times.cancel(("claim", host.mac))
        book.ask(SendClaim(host.claim, because))
        if host.awaited:
            self._wait(host)
        else:
            self._settle(host, f"{because}, no peer to ask")

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
        self._met_at.setdefault(peer, book.now)
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
            self._lose(host, answer.sequence, holder, f"{holder} has claimed it since")
        elif not host.is_here:
            host.sequence = answer.sequence
            host.holder = holder
            self._end_claim(host, f"refused, and the host is not here: {holder} has number {answer.sequence}")
        elif host.refusals >= _REFUSALS:
            book.ask(Note(f"claim-refused {host.mac}", f"gave up claiming {host.mac} at number {host.sequence}"))
        else:
            refusals = host.refusals + 1
            host.sequence = max(host.sequence, answer.sequence)
            addresses = tuple(address for address in host.claim.addresses if address in host.entries)
            self.claim(
                host, host.claim.basis, f"claim refused, {answer.holder} has number {answer.sequence}", addresses
            )
            host.refusals = refusals

    def _kept(self, host: Host, peer: PeerId, answer: Answer) -> None:
        if host.claim is None or host.claim.basis is not Basis.NEIGHBOUR:
            return
        self._lose(
            host, max(host.sequence, answer.sequence), answer.holder or peer, f"the host still answers at {peer}"
        )

    def _accepted(self, host: Host, peer: PeerId, answer: Answer) -> None:
        for address in answer.denied[:_CLAIM_ADDRESSES]:
            self._denied(host, peer, address)
        self._take_over(host, peer, answer)
        host.accepted |= {peer}
        self._answered(host, peer, "the peers do not object")

    def _denied(self, host: Host, peer: PeerId, address: Address) -> None:
        book = self._book
        host.denied.pop(address, None)
        host.denied[address] = book.now + book.policy.denial_s
        while len(host.denied) > 4 * book.policy.addresses_per_host:
            del host.denied[next(iter(host.denied))]
        book.times.set(("denial", host.mac), next(iter(host.denied.values())))
        book.unbind(host, address)
        entry = host.entries.get(address)
        if entry is not None:
            book.ask(Note(f"denied {address}", f"{address} of {host.mac} is held by another host at {peer}"))
            book.forget(entry, f"another host holds it at {peer}")

    def _take_over(self, host: Host, peer: PeerId, answer: Answer) -> None:
        """Announce what the former holder knew of the host; only from one that had not answered yet."""
        if answer.addresses and peer not in host.accepted:
            link = host.station_link or next((entry.link for entry in host.entries.values()), None)
            if link is not None:
                addresses = answer.addresses[: self._book.policy.addresses_per_host]
                self._book.resume(host, link, addresses, f"handed over by {peer}")

    # -- their claims -----------------------------------------------------------------------------------------------

    def claim_came(self, claim: Claim) -> None:
        """A peer claims a host; the claim may be a repetition."""
        book = self._book
        if book.me is None or claim.peer == book.me:
            return
        if not 0 < claim.sequence <= SEQUENCE_MAX or is_group_mac(claim.mac):
            return
        host = book.host(claim.mac)
        trial = self._trials.get(claim.mac)
        if trial is not None and trial.claim == claim:
            self._answer(claim, Verdict.PENDING, host, "on trial")
            return
        if claim.order < host.order:
            self._answer(claim, Verdict.REFUSED, host, "a greater claim is known")
            return
        if claim.order == host.order:
            denied = tuple(entry.address for entry in self._doubtful(claim))
            self._answer(claim, Verdict.ACCEPTED, host, "known", denied)
            return
        if trial is not None:
            if claim.order < trial.claim.order:
                self._answer(claim, Verdict.PENDING, host, "a greater claim is on trial")
                return
            self._end_trial(trial)
        if self._is_older_than_association(host, claim):
            self._defend(host, claim)
        else:
            self._judge(host, claim)

    def _is_older_than_association(self, host: Host, claim: Claim) -> bool:
        """True, once for an association, when the station connected here before we first heard of the peer.

        We were just started, and the peer repeats what it held. If not so, the station answers it, and it claims anew.
        """
        book, since = self._book, host.associated_at
        if host.station_link is None or host.holder != book.me or since is None or host.is_defended:
            return False
        return self._met_at.get(claim.peer, book.now) >= since >= book.now - _BEFORE_PEER_S

    def _defend(self, host: Host, claim: Claim) -> None:
        host.is_defended, host.sequence = True, claim.sequence
        wanted = tuple(entry.address for entry in host.entries.values() if entry.is_wanted)
        self.claim(host, Basis.ASSOCIATION, f"connected here before {claim.peer} was heard of", wanted)
        self._answer(claim, Verdict.REFUSED, host, "connected here")

    def _judge(self, host: Host, claim: Claim) -> None:
        """The claim is the greatest one: follow it, or test it."""
        doubtful = self._doubtful(claim)
        has_room = len(self._trials) < _TRIALS
        if claim.basis is Basis.NEIGHBOUR and host.station_link is not None and host.entries and has_room:
            self._open_trial(claim, [*doubtful, *host.entries.values()])
            self._answer(claim, Verdict.PENDING, host, "on trial")
            return
        # Without an address of the host there is nothing to test. The station may be a ghost, or live and new.
        is_proof = claim.basis is Basis.ASSOCIATION
        self._lose(host, claim.sequence, claim.peer, f"claimed by {claim.peer}", may_expel=is_proof)
        denied = tuple(entry.address for entry in doubtful)
        for address in set(claim.addresses[:_CLAIM_ADDRESSES]).difference(denied):
            self._book.unbind_from_others(address, claim.mac)
        if doubtful and has_room:
            self._open_trial(claim, doubtful)
            self._answer(claim, Verdict.PENDING, host, "another host has one of its addresses here")
        else:
            self._answer(claim, Verdict.ACCEPTED, host, f"claimed by {claim.peer}", denied)

    def _doubtful(self, claim: Claim) -> list[Entry]:
        """Our entries of other hosts for addresses that the claim names."""
        entries = map(self._book.entries.get, claim.addresses[:_CLAIM_ADDRESSES])
        return [entry for entry in entries if entry is not None and entry.mac != claim.mac and entry.is_wanted]

    def _open_trial(self, claim: Claim, doubtful: list[Entry]) -> None:
        self._trials[claim.mac] = Trial(claim, untested={entry.address for entry in doubtful})
        self._book.times.set(("trial", claim.mac), self._book.now + self._book.policy.trial_s)
        for entry in doubtful:
            self._tested_for.setdefault(entry.address, set()).add(claim.mac)
            self._book.probe(entry, f"{claim.peer} claims it for {claim.mac}")

    def _end_trial(self, trial: Trial) -> None:
        mac = trial.claim.mac
        del self._trials[mac]
        self._book.times.cancel(("trial", mac))
        for address in list(trial.untested):
            self._is_tested(trial, address)

    def _is_tested(self, trial: Trial, address: Address) -> None:
        trial.untested.discard(address)
        waiting = self._tested_for[address]
        waiting.discard(trial.claim.mac)
        if not waiting:
            del self._tested_for[address]

    def is_on_trial(self, address: Address) -> bool:
        """True while an answer to a peer waits for this address: then one failure is enough."""
        return address in self._tested_for

    def tested(self, address: Address, is_answering: bool) -> None:
        """A probe ended: hand the result to the trials that wait for it."""
        for mac in tuple(self._tested_for.get(address, ())):
            trial = self._trials.get(mac)
            if trial is None or address not in trial.untested:
                continue  # the one before has decided it
            self._is_tested(trial, address)
            if is_answering:
                trial.answering.add(address)
            if not trial.untested or self._is_kept(trial):
                self.conclude(mac)

    def _is_kept(self, trial: Trial) -> bool:
        """True when the claimed host itself has answered here."""
        host = self._book.hosts.get(trial.claim.mac)
        return host is not None and any(address in host.entries for address in trial.answering)

    def conclude(self, mac: Mac) -> None:
        """End the trial of the claim for `mac` and answer."""
        trial = self._trials.get(mac)
        if trial is None:
            return
        self._end_trial(trial)
        book = self._book
        host = book.host(mac)
        claim = trial.claim
        denied = tuple(address for address in trial.answering if address in book.entries)
        if claim.order < host.order:
            self._answer(claim, Verdict.REFUSED, host, "overtaken")
            return
        if claim.order > host.order:
            if self._is_kept(trial):
                host.sequence = claim.sequence
                self.claim(host, Basis.ASSOCIATION, f"still here, although {claim.peer} claimed it")
                self._answer(claim, Verdict.KEPT, host, "the host still answers here")
                return
            self._lose(host, claim.sequence, claim.peer, f"claimed by {claim.peer}")
        for address in set(claim.addresses[:_CLAIM_ADDRESSES]).difference(denied):
            book.unbind_from_others(address, mac)
        self._answer(claim, Verdict.ACCEPTED, host, f"claimed by {claim.peer}", denied)

    def _lose(self, host: Host, sequence: int, holder: PeerId, because: str, may_expel: bool = True) -> None:
        """The host is the holder's: withdraw, forget, remember what goes with the answer."""
        book = self._book
        if host.holder == book.me or (host.holder is None and host.entries):
            here = [entry.address for entry in host.entries.values() if entry.is_wanted]
            host.surrendered = tuple(dict.fromkeys((*here, *book.live_binding(host))))
            host.surrendered_at = book.now
        elif host.holder != holder and book.now - host.surrendered_at > _HANDOVER_S:
            host.surrendered = ()
        for entry in list(host.entries.values()):
            book.forget(entry, because)
        self._end_claim(host, because)
        host.sequence = sequence
        host.holder = holder
        book.questions.end_all(host.mac)
        if may_expel and host.station_link is not None:
            is_fresh = host.associated_at is not None and book.now - host.associated_at < _FRESH_S
            book.times.set(("ghost", host.mac), book.now + (_RACE_PAUSE_S if is_fresh else _GHOST_PAUSE_S))
        if host.station_link is None or host.surrendered:
            book.unwatch(host, because)

    def _end_claim(self, host: Host, because: str) -> None:
        if host.claim is not None:
            self._book.ask(DropClaim(host.mac, because))
        host.claim = None
        host.accepted = host.awaited = host.missed = frozenset()
        host.pending_until = 0.0
        host.refusals = 0
        for kind in ("answers", "claim", "missed"):
            self._book.times.cancel((kind, host.mac))

    # -- ghosts -----------------------------------------------------------------------------------------------------

    def ask_ghost(self, host: Host) -> None:
        """A station that a peer has taken is still associated here: does it answer?"""
        book = self._book
        if host.station_link is None or not book.is_elsewhere(host):
            return
        known = tuple(dict.fromkeys((*host.surrendered, *book.live_binding(host))))
        for address in known[:_GHOST_QUESTIONS]:
            if address not in book.entries and book.admission.admits(host.station_link, address, host.mac):
                book.question(host.station_link, address, host.mac, f"still associated, but {host.holder} has the host")
        if not known:
            book.watch(host, host.station_link, f"still associated, but {host.holder} has the host")
        book.times.set(("expel", host.mac), book.now + _EXPEL_AFTER_S)

    def expel_ghost(self, host: Host) -> None:
        """A station that a peer has taken, and that does not answer, is removed from hostapd; no frame on the air."""
        if host.station_link is not None and self._book.is_elsewhere(host):
            self._book.ask(Deauthenticate(host.mac, host.station_link, f"ghost: {host.holder} has the host"))
            self._book.unwatch(host, "a ghost")
            host.station_link = None

    def _answer(
        self, claim: Claim, verdict: Verdict, host: Host, because: str, denied: tuple[Address, ...] = ()
    ) -> None:
        is_handed_over = host.holder == claim.peer and verdict in (Verdict.ACCEPTED, Verdict.PENDING)
        addresses = host.surrendered[:_CLAIM_ADDRESSES] if is_handed_over else ()
        answer = Answer(claim.mac, claim.sequence, verdict, host.sequence, host.holder, addresses, denied)
        self._book.ask(SendAnswer(claim.peer, answer, because))


def is_less(answer: Answer, claim: Claim) -> bool:
    """True when a refusal names nothing greater than the claim that it refuses."""
    if answer.holder is None:
        return answer.sequence <= claim.sequence
    return (answer.sequence, answer.holder.version, int(answer.holder)) <= claim.order
