"""Every knob of the engine, with its unit and its reason.

Pure data; the `[policy]` table of the configuration sets the fields by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from roamroute.values import Seconds, Segments

_NO_SEGMENTS = Segments()


@attrs.frozen
class Policy:
    """The defaults suit an access point with up to a thousand hosts."""

    stale_probe_after_s: Seconds = 45.0
    """A STALE entry is probed after this time; earlier where the kernel collects (the table is above gc_thresh1), so
    that it is asked 10 s before its gc_stale_time ends, which counts from its last answer (Linux 6.18 neighbour.c)."""

    stale_probe_jitter: float = 0.25
    """Each such delay is shortened by up to this fraction, so that hosts that came together do not stay together."""

    probes_per_second: float = 100.0
    """Budget of routine probes. A probe and its answer are two short frames: 100 a second are about 1 % of the air
    at 6 Mb/s. 10,000 sleeping addresses are then probed every 100 s in the worst case."""

    probe_burst: int = 50
    """So many routine probes may go out at once after a quiet time."""

    urgent_probes_per_second: float = 1000.0
    """Budget of probes that confirm a claim, a candidate or a conflict; a flood cannot make us send more."""

    sleep_rounds: int = 3
    """An associated station may be asleep (802.11 power save): its address is retracted after so many failed rounds of
    the kernel (3 unicast NS each), not after the first."""

    sleep_rounds_unassociated: int = 1
    """The same for a host that no association event vouches for. Where there are such events it is no station, or one
    that has gone: one round. Where there are none nobody knows."""

    sleep_pause_s: Seconds = 1.0
    """Time between two such rounds: a listen interval of 10 beacons is 1.02 s."""

    addresses_per_host: int = 16
    """A host with SLAAC has one stable and up to 7 temporary addresses (RFC 8981) per prefix; the draft asks for at
    least 2. When a host has more, its least recently confirmed one goes."""

    new_addresses_per_s: float = 0.1
    """A host may come with twice as many addresses as it may have; after that each that it never had before counts
    against this. So one station cannot have the mesh learn and forget routes as fast as it can send."""

    addresses_total: int = 16384
    """Host routes of this access point. Above it new addresses are refused; those that are here stay."""

    hosts_remembered: int = 20000
    """Hosts whose binding and sequence number are kept after they have gone; the least recently seen goes first.
    About 1.3 KiB each with 3 addresses when a peer has told of it, 2.8 KiB when it has been here."""

    hints_per_peer: int = 5000
    """Hosts that one peer may tell us of ahead: what a peer says cannot push out what the others have said."""

    binding_lifetime_s: Seconds = 3600.0
    """How long the addresses of a host that has gone are remembered: the default valid lifetime of a walk."""

    answer_wait_s: Seconds = 0.5
    """An address that no peer has vouched for waits at most so long for the peers' answers before it is announced.
    A claim is repeated after 20, 60, 140 and 300 ms, so five losses in a row on one link are needed to miss it."""

    trial_s: Seconds = 4.0
    """How long a holder probes before it answers a claim that rests on neighbour discovery: three unicast NS with the
    default retransmission timer (RFC 4861 §10, 1 s), and one to spare."""

    arrival_trial_s: Seconds = 0.0
    """How long a holder probes before it gives up a host of which no association is known to a claim that rests on
    neighbour discovery; 0: not at all. The host has just answered the claimant, so it is awake, and answers here too
    within this time if it hears us: then two routers share one layer 2, and nothing must move to and fro. Meanwhile
    what arrives is sent on to the claimant, so that nobody waits for the end of it."""

    is_following_bridges: bool = False
    """Bridges behind us carry the Wi-Fi: what they learn and forget, and other routers' routes that end, are reasons to
    look for a host; a station's bridge forgets it when a peer has taken it, so that its return is noticed."""

    is_trusting_update_frames: bool = False
    """Take a layer-2 update frame, by which a bridge tells others that a station has associated with it, for an
    association: the host is claimed and announced at once, also from an access point that has it associated. Anybody on
    the wired side can forge one; a Wi-Fi client cannot, but for itself."""

    denial_s: Seconds = 30.0
    """An address that another host holds is not asked for again before this."""

    is_announcing_unassociated: bool = True
    """Announce hosts that no association event vouches for (wired ports on the bridge, `stations.source = "none"`)."""

    is_advertising_gateway: bool = True
    """Tell a station its gateway's MAC when it connects. A Linux station else waits a second for it (6.1, RFC 4861
    §10 RetransTimer); three frames of 86 octets, to the station alone."""

    watch_after_association_s: Seconds = 2.0
    """So long the source addresses of a station's data are looked at after each association, also when addresses of it
    are known: one that it made just before it came may be known to nobody yet, and with a gateway that it knows it
    sends data from it, and no neighbour discovery. At most 100 frames a second of a station, 15 us each."""

    forwarding_s: Seconds = 60.0
    """What still arrives for a host that a peer took is sent on for so long: BIRD's Babel was seen to keep a dead route
    for 56 s (docs/bird-facts.md), and a route more in a table of our own costs nothing."""

    forwarding_limit_s: Seconds = 300.0
    """Longer, while packets still arrive; not longer than this."""

    handover_linger_s: Seconds = 10.0
    """Make before break: where what still arrives is sent on, the route of the former access point is withdrawn only so
    much later, when every router knows the new one. Else the withdrawal outruns the new route, and the routers between
    have none (BIRD's Babel, OSPF: 1 to 3 s). OSPF: MinLSInterval 5 s (RFC 2328), a tick of 1 s, flooding."""

    forwards_total: int = 8192
    """Addresses that are sent on at the same time; above it the oldest goes."""

    oscillation_moves: int = 12
    """More changes of the holder within `oscillation_window_s`, between access points of which each has had the host
    before in that time, are an oscillation (two devices with one MAC, a looped bridge), not walking: RFC 7432 §15.1."""

    oscillation_window_s: Seconds = 4.0
    """A walk of a change every 0.35 s is still followed."""

    oscillation_hold_s: Seconds = 10.0
    """So long the host stays where it is then, doubled each time it begins again at once, up to sixteen times this; or
    until it has stayed associated with one access point for `oscillation_window_s`."""


WITHOUT_ASSOCIATIONS: Mapping[str, Any] = {
    "is_following_bridges": True,
    "arrival_trial_s": 0.25,
    "sleep_rounds_unassociated": 2,
    "stale_probe_after_s": 10.0,
}
"""What `[stations] source = "none"` changes of the defaults: bridges carry the Wi-Fi, and nobody tells who is there.
Four times as many routine probes as long as the budget lasts: 1,000 addresses are asked every 10 s."""


@attrs.frozen
class Handover:
    """Which parts of the handover this access point takes part in; `[handover]` of the configuration decides.

    `is_forwarding_all`: send on what arrives for any host that a peer claims, not only for those that were here, until
    the former holder's withdrawal is known everywhere. So traffic that enters the mesh at a peer (a gateway above all)
    goes to the new access point whatever the routers between believe meanwhile. `segments` are our own.
    """

    is_sharing_hints: bool = True
    is_forwarding: bool = True
    is_forwarding_all: bool = False
    segments: Segments = _NO_SEGMENTS
