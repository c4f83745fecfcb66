"""hostapd as the source of association events: docs/howto-hostapd.md."""

from roamroute.hostapd.machine import check_hostapd, hostapd_fragment, roaming_link_of
from roamroute.hostapd.source import BssStatus, HostapdSource

__all__ = ["BssStatus", "HostapdSource", "check_hostapd", "hostapd_fragment", "roaming_link_of"]
