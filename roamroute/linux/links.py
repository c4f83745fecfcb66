"""What the kernel says of links and of our own addresses, kept up to date from messages.

Knows no socket: `NeighbourSource` feeds it. A roaming interface is *up* when it is administratively up and has a
carrier: the kernel evicts neighbours when either goes (net.ipv4.conf.*.arp_evict_nocarrier, ndisc_evict_nocarrier).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from roamroute.values import Address, Mac
from roamroute.wire.netlink import IFF_LOWER_UP, IFF_UP, AddressEntry, LinkEntry

_NO_MAC = Mac("00:00:00:00:00:00")
_IS_UP = IFF_UP | IFF_LOWER_UP


class LinkTable:
    """All links of this namespace by index, and which of the roaming ones are up under which index."""

    def __init__(self, roaming: Sequence[str]) -> None:
        self._roaming = frozenset(roaming)
        self._links: dict[int, LinkEntry] = {}
        self._addresses: set[tuple[int, Address]] = set()
        self.roaming: dict[int, str] = {}
        """Index -> name of the roaming interfaces that exist."""
        self._up: dict[str, int] = {}

    @property
    def up(self) -> frozenset[str]:
        """The roaming interfaces that exist and are up."""
        return frozenset(self._up)

    @property
    def addresses(self) -> frozenset[Address]:
        """Our addresses on every link."""
        return frozenset(address for _, address in self._addresses)

    @property
    def macs(self) -> frozenset[Mac]:
        """The link-layer addresses of every link."""
        return frozenset(link.mac for link in self._links.values() if link.mac and link.mac != _NO_MAC)

    def index(self, name: str) -> int | None:
        """The index of a roaming interface, or None while it does not exist."""
        return next((index for index, known in self.roaming.items() if known == name), None)

    def name(self, index: int) -> str:
        """The name of any link; "" for one that is not known."""
        link = self._links.get(index)
        return link.name if link else ""

    def kind(self, index: int) -> str:
        """The kind of a link as the kernel names it ("bridge", "veth", "" for hardware)."""
        link = self._links.get(index)
        return link.kind if link else ""

    def replace(self, links: Iterable[LinkEntry], addresses: Iterable[AddressEntry]) -> list[str]:
        """Take a whole dump; return the roaming interfaces that were up and are so no longer under the same index."""
        before = dict(self._up)
        self._links = {link.ifindex: link for link in links}
        self._addresses = {(entry.ifindex, entry.address) for entry in addresses}
        self._look()
        return [name for name, index in before.items() if self._up.get(name) != index]

    def update(self, link: LinkEntry) -> tuple[list[str], bool]:
        """Take RTM_NEWLINK; return the roaming interfaces that are lost, and whether one came up."""
        self._links[link.ifindex] = link
        return self._changed()

    def remove(self, index: int) -> tuple[list[str], bool]:
        """Take RTM_DELLINK; as `update`."""
        self._links.pop(index, None)
        self._addresses = {entry for entry in self._addresses if entry[0] != index}
        return self._changed()

    def add_address(self, entry: AddressEntry) -> bool:
        """Take RTM_NEWADDR; return whether it is new."""
        key = (entry.ifindex, entry.address)
        is_new = key not in self._addresses
        self._addresses.add(key)
        return is_new

    def remove_address(self, entry: AddressEntry) -> bool:
        """Take RTM_DELADDR; return whether it was known."""
        key = (entry.ifindex, entry.address)
        is_known = key in self._addresses
        self._addresses.discard(key)
        return is_known

    def _changed(self) -> tuple[list[str], bool]:
        before = dict(self._up)
        self._look()
        lost = [name for name, index in before.items() if self._up.get(name) != index]
        return lost, any(before.get(name) != index for name, index in self._up.items())

    def _look(self) -> None:
        self.roaming = {link.ifindex: link.name for link in self._links.values() if link.name in self._roaming}
        self._up = {name: index for index, name in self.roaming.items() if self._links[index].flags & _IS_UP == _IS_UP}
