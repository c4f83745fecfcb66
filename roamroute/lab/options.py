"""What a run of the lab is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from roamroute.lab.dumb import Stations


@attrs.frozen
class LabOptions:
    """Defaults are those of the command line. Times in seconds.

    `behaviours`: "silent" (the client only receives) and "talking" (it sends too, and downloads by TCP), in this order.
    """

    modes: tuple[str, ...] = ("roamroute",)
    """Of `modes.MODES`."""
    behaviours: tuple[str, ...] = ("silent", "talking")
    roams: int = 20
    compare_roams: int | None = None
    """Roams in every mode but the first, None: as many as in the first. Roams of the plain idea take half a minute."""
    access_points: int = 3
    stations: Stations = Stations.HOSTAPD
    """Who tells roamroute which stations are there; with `NONE` dumb access points carry the Wi-Fi."""
    has_update_frames: bool = True
    """Dumb access points send a layer-2 update frame for a station that has associated."""
    are_update_frames_trusted: bool = False
    """roamroute takes such a frame for an association."""
    has_loop: bool = False
    """Link the two routers, so that the mesh has a loop."""
    addresses: int = 8
    routing: str = ""
    """The routing daemon and protocol that carry the routes (`installed.Offers.find`); empty: the first installed."""
    routing_options: Mapping[str, str] = attrs.field(factory=dict)
    """For the adapter's lab hooks, as they are."""
    packets_per_second: float = 100.0
    download_bytes_per_second: float = 400_000.0
    dwell_s: float = 2.0
    limit_s: float = 30.0
    """A roam that did not come back within this time has failed."""
    link_delay_s: float = 0.0
    """What every link between two routers takes, in each direction; from the server to a client there are two."""
    has_gateway_peer: bool = False
    """The gateway runs roamroute too, as a peer without clients."""
    peer_loss_percent: float = 0.0
    """So much of what the access points' daemons tell each other is lost."""
    client_mtu_bytes: int = 1500
    """Of the client's link: what the MTU option of a router advertisement (RFC 4861 §4.6.4) or DHCP would set."""
    is_polite: bool = False
    has_ipv4: bool = False
    first_visits: bool = False
    seed: int = 1
    json_file: Path | None = None
    log_directory: Path | None = None

    def roams_in(self, mode: str) -> int:
        if mode == self.modes[0] or self.compare_roams is None:
            return self.roams
        return self.compare_roams
