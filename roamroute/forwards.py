"""What still arrives here for hosts that a peer has taken, and where it is sent on to. Pure.

A forward points to the peer whose claim took the host, and only a greater claim may turn it elsewhere. The peer at its
end, when it loses the host in turn, forwards by a greater claim again: along any chain of forwards for one host the
order strictly grows, so that no packet comes by the same access point twice.

Nothing follows such a chain, or a circle that restarts might make of it: what has been sent on once goes out of a
client link at its end, or nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from roamroute.effects import EndForward, Forward, Note
from roamroute.policy import Policy
from roamroute.schedule import Timetable
from roamroute.values import Address, Claim, Instant, Mac, Seconds

_USED_S: Seconds = 10.0  # without a packet for so long, after `forwarding_s`, nobody sends packets our way any more

_SPREADING_S: Seconds = 6.0  # the former holder's withdrawal is known everywhere so long after it


@attrs.define(eq=False)
class Sending:
    """Why an address is sent on. `is_extended`: as long as packets come. On a router that all packets pass anyway it
    would never end, and what it knows of the routing it knows at first hand."""

    forward: Forward
    mac: Mac
    order: tuple[int, int, int]
    began_at: Instant
    is_extended: bool
    used_at: Instant


class Forwards(Mapping[Address, Forward]):
    """At most one for each address, `forwards_total` in all. `ask` takes the effects, `times` holds the ends."""

    def __init__(
        self,
        policy: Policy,
        times: Timetable[tuple[str, Address | Mac]],
        ask: Callable[[Forward | EndForward | Note], None],
    ) -> None:
        self._policy = policy
        self._times = times
        self._ask = ask
        self._sending: dict[Address, Sending] = {}  # the oldest claim first
        self._of_host: dict[Mac, dict[Address, None]] = {}

    def __getitem__(self, address: Address) -> Forward:
        return self._sending[address].forward

    def __iter__(self) -> Iterator[Address]:
        return iter(self._sending)

    def __len__(self) -> int:
        return len(self._sending)

    def __contains__(self, address: object) -> bool:
        return address in self._sending

    def of_host(self, mac: Mac) -> tuple[Address, ...]:
        """The addresses that are sent on for this host."""
        return tuple(self._of_host.get(mac, ()))

    def begin(self, addresses: Iterable[Address], claim: Claim, now: Instant, is_extended: bool, because: str) -> None:
        """Send the addresses on to who made the claim; one that it takes no packets for is not sent on any more."""
        order = claim.order
        for address in addresses:
            sending = self._sending.get(address)
            is_same_host = sending is not None and sending.mac == claim.mac
            segment = claim.segments.for_address(address)
            if segment is None:
                self.end(address, f"{claim.peer} has the host, and takes no packets for it")
                continue
            if sending is not None and is_same_host and sending.forward.segment == segment:
                sending.order = order  # it has claimed again: nothing is new
                continue
            duration = min(self._policy.forwarding_s, self._policy.forwarding_limit_s)
            is_followed = is_extended if sending is None or not is_same_host else sending.is_extended
            if not is_followed:
                duration = min(duration, self._policy.handover_linger_s + _SPREADING_S)
            forward = Forward(address, segment, claim.peer, because)
            self._add(Sending(forward, claim.mac, order, now, is_followed, now), now + duration)

    def _add(self, sending: Sending, until: Instant) -> None:
        address = sending.forward.address
        self._remove(address)
        if len(self._sending) >= self._policy.forwards_total:
            self._ask(Note("forwards-total", f"more than {self._policy.forwards_total} addresses are sent on"))
            self.end(next(iter(self._sending)), "too many others are sent on")
        self._sending[address] = sending
        self._of_host.setdefault(sending.mac, {})[address] = None
        self._times.set(("forward", address), until)
        self._ask(sending.forward)

    def end(self, address: Address, because: str) -> None:
        """Do not send it on any more."""
        if self._remove(address):
            self._ask(EndForward(address, because))

    def end_all(self, mac: Mac, because: str) -> None:
        """Do not send on anything for this host."""
        for address in self.of_host(mac):
            self.end(address, because)

    def end_other(self, address: Address, mac: Mac) -> None:
        """This host has the address now, somewhere: do not send it on for another."""
        sending = self._sending.get(address)
        if sending is not None and sending.mac != mac:
            self.end(address, f"{mac} has it")

    def used(self, address: Address, now: Instant) -> None:
        """A packet was sent on."""
        sending = self._sending.get(address)
        if sending is not None:
            sending.used_at = now

    def is_due(self, address: Address, now: Instant) -> None:
        """Its time is up, or longer when packets still come."""
        sending = self._sending.get(address)
        if sending is None:
            return
        longer = min(sending.used_at + _USED_S, sending.began_at + self._policy.forwarding_limit_s)
        if sending.is_extended and sending.used_at > sending.began_at and longer > now:
            self._times.set(("forward", address), longer)
        else:
            self.end(address, "its time is up")

    def _remove(self, address: Address) -> bool:
        sending = self._sending.pop(address, None)
        if sending is None:
            return False
        of_host = self._of_host[sending.mac]
        del of_host[address]
        if not of_host:
            del self._of_host[sending.mac]
        self._times.cancel(("forward", address))
        return True
