"""What the engine remembers of a host, and of each of its addresses here. Records only; engine.py moves them."""

from __future__ import annotations

import attrs

from roamroute.values import Address, Claim, HostRoute, Instant, Mac, Nud, PeerId

_UNCERTAIN = frozenset({Nud.NONE, Nud.STALE, Nud.FAILED})


@attrs.define(eq=False)
class Entry:
    """An address of a host on one of our links.

    `nud` is the kernel's last word; NUD_NONE while we have asked for a probe and heard nothing yet. `is_wanted`: a host
    route is wanted (it may still be held back by a drain). `failed_rounds` counts the kernel's failures in a row while
    the station is associated. `is_doubted`: another router or another host claims the address, so a failure counts at
    once. `rival` is that other host, as (link, MAC): it is asked when the owner has failed.
    """

    address: Address
    link: str
    mac: Mac
    since: Instant
    nud: Nud = Nud.NONE
    is_wanted: bool = False
    is_doubted: bool = False
    failed_rounds: int = 0
    confirmed_at: Instant | None = None
    rival: tuple[str, Mac] | None = None
    named_at: Instant | None = None
    """When a claim named it first: from then on the peers may object."""
    told_of: Mac | None = None
    """A host of a peer's that has the address, by that peer: it is remembered for it again when this does not hold."""

    @property
    def is_unconfirmed(self) -> bool:
        """True when the kernel will not find out by itself whether it still answers."""
        return self.nud in _UNCERTAIN or (self.nud is Nud.REACHABLE and self.confirmed_at is None)

    @property
    def route(self) -> HostRoute:
        """The host route for this address."""
        return HostRoute(self.address, self.link)


@attrs.define(eq=False)
class Forgotten:
    """A neighbour whose deletion we asked for. `is_confirmed`: the kernel has told of it; what comes later is new."""

    link: str
    mac: Mac
    asked_at: Instant
    is_confirmed: bool = False


@attrs.define(eq=False)
class Trial:
    """A claim of a peer that we test before we answer: do our hosts still answer for their addresses?

    `untested` are addresses whose probe is out; `answering` those that have answered.
    """

    claim: Claim
    untested: set[Address]
    answering: set[Address] = attrs.field(factory=set)


@attrs.define(eq=False)
class Host:
    """A roaming device: one MAC and its addresses.

    `sequence` and `holder` are the greatest claim known; `holder` is None for a host that nobody has claimed yet.
    `station_link` is the roaming interface on which it is associated, if it is. `entries` are its addresses here,
    `binding` all addresses it had here or at a peer, with the time at which each was last true; they do not age while
    `hinted_by`, the peer that told us of them ahead, vouches for them. `surrendered` are the
    addresses that go with the answer to the claim that took the host from us, at `surrendered_at`. `associated_at`: the
    last live association.

    Of our own claim: `awaited` are the peers that have not answered it, `missed` those that did not within the time for
    which it is repeated, `testing` those that test the host before they answer, `accepted` those that have agreed, one
    that came up since among them; `retries` counts the repetitions for the sake of those that missed it, `refusals`
    those after a refusal in a row.
    No address that waits for the peers is announced before `pending_until`, while one of them tests its own hosts.
    """

    mac: Mac
    seen_at: Instant
    sequence: int = 0
    holder: PeerId | None = None
    station_link: str | None = None
    entries: dict[Address, Entry] = attrs.field(factory=dict)
    binding: dict[Address, Instant] = attrs.field(factory=dict)
    new_until: Instant = 0.0
    """Its new addresses are paid for until then, at `policy.new_addresses_per_s`."""
    claim: Claim | None = None
    refusals: int = 0
    accepted: frozenset[PeerId] = frozenset()
    awaited: frozenset[PeerId] = frozenset()
    missed: frozenset[PeerId] = frozenset()
    testing: frozenset[PeerId] = frozenset()
    retries: int = 0
    pending_until: Instant = 0.0
    surrendered: tuple[Address, ...] = ()
    surrendered_at: Instant = 0.0
    associated_at: Instant | None = None
    proven_at: Instant | None = None
    """The last live association, or the answer to a question after a loss: then it was here."""
    held_since: Instant | None = None
    """`proven_at` of the holder by our clock, or some milliseconds later; None when nobody told us."""
    claimed_at: Instant = 0.0
    """When our own claim was first sent."""
    sent_on_to: PeerId | None = None
    """The peer whose claim has had us send on what still arrives; that it claims again prolongs nothing."""
    hinted_by: PeerId | None = None
    is_defended: bool = False
    """Since this association a greater claim has been answered by one of ours once."""
    denied: dict[Address, Instant] = attrs.field(factory=dict)
    """Addresses that another host holds at a peer, with the time until which we believe so."""
    rests: int = 0
    """How often in a row a peer has kept it although it answered here."""
    lost_link: str | None = None
    """The link on which it was when that went down; it is looked for there when the link is back."""
    searches: int = 0
    """So many times more."""
    watched_link: str | None = None
    """Where we look at the source addresses of its packets, if we do."""
    watched_until: Instant = 0.0
    """Not to be ended earlier because an address is known: others may not be."""

    @property
    def is_here(self) -> bool:
        """True when something speaks for its being on one of our links."""
        return self.station_link is not None or bool(self.entries)

    def is_proven_before(self, instant: Instant) -> bool:
        """True when its station is associated here and it certainly came before that."""
        return self.station_link is not None and self.proven_at is not None and self.proven_at < instant

    def is_proven_after(self, instant: Instant) -> bool:
        """True when its station is associated here and it certainly came after that."""
        return self.station_link is not None and self.proven_at is not None and self.proven_at > instant

    @property
    def order(self) -> tuple[int, int, int]:
        """Comparable with `Claim.order`."""
        if self.holder is None:
            return (self.sequence, 0, 0)
        return (self.sequence, self.holder.version, int(self.holder))
