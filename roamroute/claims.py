"""Who holds a host: claims between the peers. Pure; part of the engine.

Order is (sequence, peer), RFC 7432 §7.7: no clocks are compared, and the greatest claim that reaches everybody wins
everywhere. A claim by association is followed at once. One that rests on neighbour discovery, for a host associated
here, or one that names an address which another host holds here, is put on *trial*: we probe, and answer by what we
hear. The claimant drives: it repeats its claim until it is answered, so an answer is never repeated by us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from roamroute.book import Book
from roamroute.effects import Deauthenticate, DropClaim, Note, SendAnswer, SendClaim
from roamroute.hosts import Entry, Host, Trial
from roamroute.values import Address, Answer, Basis, Claim, Mac, PeerId, Seconds, Verdict

SEQUENCE_MAX = 2**32 - 1
_CLAIM_ADDRESSES = 32  # IPv6 addresses in one datagram of the peers' channel
_REPEATED_CLAIMS = 8  # a refused claim is repeated with the holder's number plus one, at most so often in a row
_GHOST_PAUSE_S: Seconds = 2.0  # a live AP-STA-CONNECTED may still be on its way when a claim takes the host
_TRIALS = 4096


class Claims:
    """The part of the engine that deals with peers. `resume` announces addresses of a host that is here."""

    def __init__(self, book: Book, resume: Callable[[Host, str, tuple[Address, ...], str], None]) -> None:
        self._book = book
        self._resume = resume
        self._trials: dict[Mac, Trial] = {}
        self.peers: set[PeerId] = set()

    # -- our claims -------------------------------------------------------------------------------------------------

    def claim_address(self, host: Host, entry: Entry) -> None:
        """Ask the peers before the address, which only neighbour discovery vouches for, is announced."""
        basis = Basis.NEIGHBOUR if host.station_link is None else Basis.ASSOCIATION
        if self._book.me is None:
            self._book.want(entry, "a neighbour appeared")
        else:
            self.claim(host, basis, "a new address appeared")

    def claim(self, host: Host, basis: Basis, because: str, addresses: tuple[Address, ...] = ()) -> None:
        """Claim the host from all peers, with the addresses that have not been confirmed by them yet."""
        book = self._book
        if book.me is None:
            return
        unconfirmed = tuple(entry.address for entry in host.entries.values() if not entry.is_wanted)
        host.sequence = min(host.sequence + 1, SEQUENCE_MAX)
        host.holder = book.me
        host.surrendered = ()
        host.claim = Claim(host.mac, host.sequence, book.me, basis, (addresses + unconfirmed)[:_CLAIM_ADDRESSES])
        host.awaited = set(self.peers)
        book.ask(SendClaim(host.claim, because))
        if host.awaited:
            book.times.set(("answers", host.mac), book.now + book.policy.answer_wait_s)
        else:
            self.settle(host, f"{because}, no peer to ask")

    def settle(self, host: Host, because: str) -> None:
        """Everybody has answered, or time is up: announce what was waiting."""
        host.awaited.clear()
        self._book.times.cancel(("answers", host.mac))
        if host.holder == self._book.me:
            for entry in host.entries.values():
                if not entry.is_wanted:
                    self._book.bind(host, entry.address)
                    self._book.want(entry, because)

    def answered(self, host: Host, peer: PeerId, because: str) -> None:
        """`peer` is not waited for any more."""
        host.awaited.discard(peer)
        if not host.awaited:
            self.settle(host, because)

    def lost_peer(self, peer: PeerId) -> None:
        """Nobody waits for a dead peer."""
        self.peers.discard(peer)
        for host in [host for host in self._book.hosts.values() if peer in host.awaited]:
            self.answered(host, peer, "a peer was lost")

    def unanswered(self, peer: PeerId, mac: Mac, sequence: int) -> None:
        """The repetition of our claim ended without an answer."""
        host = self._book.hosts.get(mac)
        if host is not None and host.claim is not None and host.claim.sequence == sequence and peer in host.awaited:
            self.answered(host, peer, "a peer is silent")

    def answer_came(self, peer: PeerId, answer: Answer) -> None:
        """A peer answered one of our claims; answers to superseded claims are ignored."""
        book = self._book
        host = book.hosts.get(answer.mac)
        if host is None or host.claim is None or host.claim.sequence != answer.claimed or host.holder != book.me:
            return
        match answer.verdict:
            case Verdict.PENDING:
                if peer in host.awaited:
                    book.times.set(("answers", host.mac), book.now + book.policy.trial_s + 1.0)
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
        if (host.station_link is None and not host.entries) or host.claims_repeated >= _REPEATED_CLAIMS:
            book.ask(Note(f"claim-refused {host.mac}", f"gave up claiming {host.mac} at number {host.sequence}"))
            return
        host.claims_repeated += 1
        host.sequence = max(host.sequence, answer.sequence)
        addresses = tuple(address for address in host.claim.addresses if address in host.entries)
        self.claim(host, host.claim.basis, f"claim refused, {answer.holder} has number {answer.sequence}", addresses)

    def _kept(self, host: Host, peer: PeerId, answer: Answer) -> None:
        book = self._book
        host.claim = None
        host.sequence = max(host.sequence, answer.sequence)
        host.holder = answer.holder or peer
        host.awaited.clear()
        book.times.cancel(("answers", host.mac))
        book.ask(DropClaim(host.mac, f"the host still answers at {peer}"))
        for entry in list(host.entries.values()):
            book.forget(entry, f"the host still answers at {peer}")

    def _accepted(self, host: Host, peer: PeerId, answer: Answer) -> None:
        book = self._book
        for address in answer.denied:
            host.denied[address] = book.now + book.policy.denial_s
            while len(host.denied) > 4 * book.policy.addresses_per_host:
                del host.denied[next(iter(host.denied))]
            book.unbind(host, address)
            entry = host.entries.get(address)
            if entry is not None:
                book.ask(Note(f"denied {address}", f"{address} of {host.mac} is held by another host at {peer}"))
                book.forget(entry, f"another host holds it at {peer}")
        link = host.station_link or next((entry.link for entry in host.entries.values()), None)
        if answer.addresses and link is not None:
            self._resume(host, link, answer.addresses[: book.policy.addresses_per_host], f"handed over by {peer}")
        if peer in host.awaited:
            self.answered(host, peer, "the peers do not object")

    # -- their claims -----------------------------------------------------------------------------------------------

    def claim_came(self, claim: Claim) -> None:
        """A peer claims a host; the claim may be a repetition."""
        book = self._book
        if claim.peer == book.me or not 0 < claim.sequence <= SEQUENCE_MAX:
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
            self._answer(claim, Verdict.ACCEPTED, host, "known", denied=self._denied(claim))
            return
        doubtful = [
            entry
            for entry in map(book.entries.get, claim.addresses)
            if entry is not None and entry.mac != claim.mac and entry.is_wanted
        ]
        if claim.basis is Basis.NEIGHBOUR and host.station_link is not None:
            doubtful += [entry for entry in host.entries.values() if entry not in doubtful]
        if doubtful and len(self._trials) < _TRIALS:
            self._open_trial(claim, doubtful)
            self._answer(claim, Verdict.PENDING, host, "on trial")
        else:
            self._yield(host, claim, denied=tuple(entry.address for entry in doubtful))

    def _open_trial(self, claim: Claim, doubtful: list[Entry]) -> None:
        self._trials[claim.mac] = Trial(claim, untested={entry.address for entry in doubtful})
        self._book.times.set(("trial", claim.mac), self._book.now + self._book.policy.trial_s)
        for entry in doubtful:
            self._book.probe(entry, f"{claim.peer} claims it for {claim.mac}")

    def is_on_trial(self, address: Address) -> bool:
        """True while an answer to a peer waits for this address: then one failure is enough."""
        return any(address in trial.untested for trial in self._trials.values())

    def tested(self, address: Address, is_answering: bool) -> None:
        """A probe ended: hand the result to the trials that wait for it."""
        for mac, trial in list(self._trials.items()) if self._trials else ():
            if address in trial.untested:
                trial.untested.discard(address)
                if is_answering:
                    trial.answering.add(address)
                    self._book.bind(self._book.host(self._book.entries[address].mac), address)
                if not trial.untested or self._is_kept(trial):
                    self.conclude(mac)

    def _is_kept(self, trial: Trial) -> bool:
        """True when the claimed host itself has answered here."""
        host = self._book.hosts.get(trial.claim.mac)
        return (
            trial.claim.basis is Basis.NEIGHBOUR
            and host is not None
            and any(address in host.entries for address in trial.answering)
        )

    def conclude(self, mac: Mac) -> None:
        """End the trial of the claim for `mac` and answer."""
        trial = self._trials.pop(mac, None)
        if trial is None:
            return
        book = self._book
        book.times.cancel(("trial", mac))
        host = book.host(mac)
        claim = trial.claim
        if claim.order <= host.order:
            verdict = Verdict.ACCEPTED if claim.order == host.order else Verdict.REFUSED
            self._answer(claim, verdict, host, "overtaken")
        elif self._is_kept(trial):
            host.sequence = claim.sequence
            self.claim(host, Basis.ASSOCIATION, f"still here, although {claim.peer} claimed it")
            self._answer(claim, Verdict.KEPT, host, "the host still answers here")
        else:
            self._yield(host, claim, denied=tuple(trial.answering))

    def _denied(self, claim: Claim) -> tuple[Address, ...]:
        """Those of the claim's addresses that another host holds here."""
        entries = map(self._book.entries.get, claim.addresses)
        return tuple(entry.address for entry in entries if entry and entry.mac != claim.mac and entry.is_wanted)

    def _yield(self, host: Host, claim: Claim, denied: tuple[Address, ...]) -> None:
        """The host is the claimant's: withdraw, forget, remember, answer."""
        book = self._book
        because = f"claimed by {claim.peer}"
        if host.holder == book.me or (host.holder is None and host.entries):
            here = [entry.address for entry in host.entries.values() if entry.is_wanted]
            host.surrendered = tuple(dict.fromkeys((*here, *book.live_binding(host))))
        else:
            host.surrendered = ()
        for entry in list(host.entries.values()):
            book.forget(entry, because)
        if host.claim is not None:
            host.claim = None
            host.awaited.clear()
            book.times.cancel(("answers", host.mac))
            book.ask(DropClaim(host.mac, because))
        host.sequence = claim.sequence
        host.holder = claim.peer
        book.end_challenges(host)
        book.unwatch(host, because)
        if host.station_link is not None:
            book.times.set(("ghost", host.mac), book.now + _GHOST_PAUSE_S)
        for address in set(claim.addresses).difference(denied):
            book.unbind_from_others(address, claim.mac)
        self._answer(claim, Verdict.ACCEPTED, host, because, denied)

    def expel_ghost(self, host: Host) -> None:
        """A station that a peer has taken is removed from hostapd, without a frame on the air."""
        if host.station_link is not None and self._book.is_elsewhere(host):
            self._book.ask(Deauthenticate(host.mac, host.station_link, f"ghost: {host.holder} has the host"))
            host.station_link = None

    def _answer(
        self, claim: Claim, verdict: Verdict, host: Host, because: str, denied: tuple[Address, ...] = ()
    ) -> None:
        addresses = host.surrendered[:_CLAIM_ADDRESSES] if verdict is Verdict.ACCEPTED else ()
        answer = Answer(claim.mac, claim.sequence, verdict, host.sequence, host.holder, addresses, denied)
        self._book.ask(SendAnswer(claim.peer, answer, because))
