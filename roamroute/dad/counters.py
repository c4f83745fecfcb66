"""What the DAD proxy has done, and what it has refused and why; only ever growing."""

from __future__ import annotations

import attrs


@attrs.define
class DadCounters:
    """Messages; but frames in `group_frames`, `unicast_frames` and `late`."""

    heard_solicitations: int = 0
    """From hosts here."""
    heard_advertisements: int = 0
    told_solicitations: int = 0
    """From peers."""
    told_advertisements: int = 0
    relayed: int = 0
    """Given to the peers."""
    group_frames: int = 0
    """Handed out as one multicast or broadcast frame."""
    unicast_frames: int = 0
    """Handed out to single stations."""
    defended: int = 0
    """Answered by us: addresses of ours and segments."""
    refused_outside: int = 0
    """The target is in no roaming prefix, or can be no host's (subnet-router anycast, network, broadcast)."""
    refused_own: int = 0
    """The sender has a MAC of ours (a frame of ours that came back, or somebody borrows it) or a group's; or it
    advertises an address of ours or a segment."""
    refused_echo: int = 0
    """The nonce of one host from another MAC: something on the layer 2 repeats solicitations in its own name."""
    refused_station_limit: int = 0
    """More from one station than `Limits.station_*`."""
    refused_target_limit: int = 0
    """A station stands in the way of others by more addresses than a host has (`Limits.targets_per_station`)."""
    refused_total_limit: int = 0
    """More from all stations than `Limits.known_*` or `Limits.unknown_*`."""
    refused_peer_limit: int = 0
    """More from one peer, or from all, than `Limits.peer_*` and `Limits.told_*`."""
    repeats: int = 0
    """The same again, or a copy that the link had heard by itself (two links, or two access points, on one layer 2)."""
    unasked: int = 0
    """Advertisements that nobody was waiting for, in mode `targeted`."""
    late: int = 0
    """Copies to single stations given up: the host would have stopped waiting before (`Limits.unicast_*`)."""
