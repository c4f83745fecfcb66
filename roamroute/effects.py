"""What the engine asks for, in imperatives. Every effect carries its cause in a few words: `because`."""

from __future__ import annotations

from ipaddress import IPv6Address

import attrs

from roamroute.values import Address, Answer, Claim, Hint, HostRoute, Mac, PeerId


@attrs.frozen
class Announce:
    """Want this host route. It replaces a wanted route for the same address on another link."""

    route: HostRoute
    because: str


@attrs.frozen
class Withdraw:
    """Stop wanting this host route."""

    route: HostRoute
    because: str


@attrs.frozen
class Probe:
    """Put the address into NUD_PROBE in the kernel with this MAC: a unicast NS (or ARP request) goes out at once.

    The answer comes back as a neighbour event: REACHABLE within milliseconds, or FAILED.
    """

    link: str
    address: Address
    mac: Mac
    because: str


@attrs.frozen
class Forget:
    """Delete the neighbour entry, so that a cached state does not speak for a host that has gone."""

    link: str
    address: Address
    because: str


@attrs.frozen
class SendClaim:
    """Send the claim to every peer and repeat it until each has answered, or 5 s have passed.

    A newer claim for the same MAC replaces an older one that is still being repeated. `first`: the peer that held the
    host until now, as far as we know; it is told before all others, and more insistently.
    """

    claim: Claim
    because: str
    first: PeerId | None = None


@attrs.frozen
class DropClaim:
    """Stop repeating the claim for this MAC: it was lost."""

    mac: Mac
    because: str


@attrs.frozen
class SendAnswer:
    """Answer a claim, once; the claimant repeats the claim if the answer is lost."""

    peer: PeerId
    answer: Answer
    because: str


@attrs.frozen
class Forward:
    """Send on to `segment` of `peer` what still arrives for `address`; it replaces a `Forward` for the same address."""

    address: Address
    segment: IPv6Address
    peer: PeerId
    because: str


@attrs.frozen
class EndForward:
    """Do not send on what arrives for `address` any more."""

    address: Address
    because: str


@attrs.frozen
class ShareHint:
    """Let the peers know this binding, in time; it replaces an earlier one for the same MAC."""

    hint: Hint
    because: str


@attrs.frozen
class UnshareHint:
    """The host is not ours any more: nothing is to be told of it to peers that join from now on."""

    mac: Mac
    because: str


@attrs.frozen
class Deauthenticate:
    """Make hostapd drop a ghost station without a frame on the air."""

    mac: Mac
    link: str
    because: str


@attrs.frozen
class Watch:
    """Look at the source addresses of this station's packets: its addresses are not known. Ends by `Unwatch`."""

    link: str
    mac: Mac
    because: str


@attrs.frozen
class Unwatch:
    """Stop looking at this station's packets."""

    link: str
    mac: Mac
    because: str


@attrs.frozen
class Unlearn:
    """Let the bridge forget on which port it has learnt the MAC: so its next frame is told of (`MacLearned`), and what
    is sent to it goes out of every port. `link` None: all bridges."""

    mac: Mac
    link: str | None
    because: str


@attrs.frozen
class AdvertiseGateway:
    """Tell a station that has just connected the gateway's MAC, unasked: it need not wait for an answer of its own."""

    link: str
    mac: Mac
    because: str


@attrs.frozen
class Note:
    """Tell the operator (a limit was hit, a conflict was seen). `key` identifies repetitions, which are counted."""

    key: str
    because: str


Effect = (
    Announce
    | Withdraw
    | Probe
    | Forget
    | SendClaim
    | DropClaim
    | SendAnswer
    | Forward
    | EndForward
    | ShareHint
    | UnshareHint
    | Deauthenticate
    | Watch
    | Unwatch
    | Unlearn
    | AdvertiseGateway
    | Note
)
