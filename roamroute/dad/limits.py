"""What bounds the DAD proxy: every number with its reason."""

from __future__ import annotations

import attrs

from roamroute.values import Seconds


@attrs.frozen
class Limits:
    """Rates are messages (or frames) a second; a burst is what may come at once after a quiet time."""

    station_rate: float = 4.0
    station_burst: float = 64.0
    """Of one station and kind. 16 addresses (Policy.addresses_per_host), DAD twice (a roam at once after an
    association), each heard twice at most."""

    known_rate: float = 100.0
    known_burst: float = 1000.0
    """From all hosts that the access point knows: 250 of them with four addresses at once."""

    unknown_rate: float = 100.0
    unknown_burst: float = 500.0
    """From all others: new ones, or invented MACs, which so cannot use up what the known have."""

    peer_rate: float = 100.0
    peer_burst: float = 1000.0
    """From one peer: what it may itself have heard from those it knows."""

    told_rate: float = 200.0
    told_burst: float = 2000.0
    """From all peers: 500 stations with four addresses come back after a power cut. A group frame takes 0.3 ms of the
    air at 6 Mb/s and 1.4 ms at 1 Mb/s, so this rate is 6 or 28 % of it."""

    unicast_rate: float = 500.0
    unicast_burst: float = 2000.0
    """Frames to single stations. One takes 0.2 ms of the air at 54 Mb/s with all that belongs to it (channel access,
    acknowledgement), so this is a tenth of it; the burst is 40 questions on an access point with 50 stations. What it
    does not allow is not begun: known holders and those who have asked are served outside it."""

    unicast_portion: int = 16
    unicast_pause_s: Seconds = 0.005
    """Frames at a time, and the time between: what comes meanwhile waits for a portion (0.3 ms) only."""

    unicast_late_s: Seconds = 0.8
    """RetransTimer is 1 s (RFC 4861 §10); the answer has to come back as well."""

    defended_rate: float = 20.0
    defended_burst: float = 100.0

    targets_per_station: int = 16
    targets_s: Seconds = 600.0
    """A station may stand in the way of others by so many different addresses in this time: advertise them without a
    host route, or ask for what another has just asked for. One that claims every address it hears solicited
    (RFC 3756 §4.1.3) stops the others of its mesh from getting any: after 16 it is not believed."""

    stations_remembered: int = 4096
    messages_remembered: int = 8192
    targets_remembered: int = 4096
    """Memories are bounded whatever comes; the oldest goes. About 0.3 KiB each."""
