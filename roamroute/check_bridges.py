"""`roamroute check` where bridges carry the Wi-Fi (`[stations] source = "none"`): can they tell what they learn?"""

from __future__ import annotations

from collections.abc import Iterator

from roamroute.export import Finding
from roamroute.linux.machine import Interface


def check_bridge(interface: Interface) -> Iterator[Finding]:
    """What speaks for and against a roaming interface of which no association is reported."""
    name = interface.name
    if not interface.is_bridge:
        text = "is no bridge: a client that comes is noticed by its neighbour discovery and layer-2 update frames only"
        remedy = (
            f"make it the port of a bridge, also where it is the only one: ip link add br-roam type bridge "
            f"mcast_snooping 0; ip link set {name} master br-roam; and name br-roam in roaming.interfaces"
        )
        yield Finding("warning", name, text, remedy)
    elif not interface.ports:
        yield Finding("error", name, "the bridge has no port", f"ip link set LINK master {name}")
    else:
        yield Finding("ok", name, f"what it learns on {', '.join(interface.ports)} is followed")
