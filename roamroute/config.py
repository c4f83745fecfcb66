"""The configuration file: TOML to a frozen `Config`. All mistakes are reported at once, each with its dotted path.

`[exporters.NAME]` is handed to the exporter as it is: only the exporter knows its keys (`ExporterSpec.parse`).
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs.cols import list_structure_factory
from cattrs.errors import ForbiddenExtraKeysError, IterableValidationError, StructureHandlerNotFoundError

from roamroute.config_ra import RaSection, ra_contradictions
from roamroute.errors import ConfigError
from roamroute.export import ExporterContext, KernelNumbers
from roamroute.policy import WITHOUT_ASSOCIATIONS, Policy
from roamroute.values import Address, Prefix, is_interface_name

DEFAULT_PATH = Path("/etc/roamroute/roamroute.toml")
DEFAULT_SOCKET = "/run/roamroute/control.sock"

# zebra sweeps kernel routes that carry one of its own numbers (FRR 8.4.4 zebra/rt_netlink.c), babeld and BIRD ignore
# theirs (linux/rtnetlink.h, RTPROT_*).
_TAKEN_PROTOCOLS = {11: "zebra's", 12: "BIRD's", 42: "babel's", **dict.fromkeys(range(186, 199), "one of zebra's")}

HANDOVER_TABLES = 3
_Ipv6 = TypeVar("_Ipv6", IPv6Address, IPv6Network)
_KERNEL_TABLES = (253, 254, 255)  # default, main, local (linux/rtnetlink.h RT_TABLE_*)


@attrs.frozen
class RoamingSection:
    """`[roaming]`"""

    interfaces: tuple[str, ...]
    """Client links: Wi-Fi interfaces, or bridges above them. None: a gateway or mesh router, only a peer of others."""
    prefixes: tuple[Prefix, ...]
    """Host routes are made only inside these."""
    exporter: str = "kernel"
    """Who carries the routes: an installed exporter's name."""


@attrs.frozen
class KernelSection:
    """`[kernel]`: how our routes are marked."""

    protocol: int = 144
    """44 is sroamd's, 42 babel's, 186 to 198 zebra's."""
    withdrawing_protocol: int = 145
    """Marks a route that is being poisoned."""
    hidden_protocol: int = 146
    """Marks a route just before its deletion; must not be redistributed."""
    table: int = 254
    """Routing table; 254 is main."""
    metric: int = 8
    """Better than any routing daemon's own: babeld 1024, BIRD 32, FRR 20."""
    keep_on_stop: bool = False
    """Leave the routes in place when stopped."""

    @property
    def numbers(self) -> KernelNumbers:
        """The part that exporters need."""
        return KernelNumbers(
            self.protocol, self.withdrawing_protocol, self.hidden_protocol, table=self.table, metric=self.metric
        )


@attrs.frozen
class StationsSection:
    """`[stations]`: who says which station is associated."""

    source: Literal["hostapd", "nl80211", "none"] = "hostapd"
    """ "none": bridges behind us carry the Wi-Fi; what they learn and quicker probing stand in, and the defaults of
    `[policy]` are others (`policy.WITHOUT_ASSOCIATIONS`)."""
    hostapd_dir: str = "/var/run/hostapd"


@attrs.frozen
class PacketsSection:
    """`[packets]`: finding addresses that the neighbour cache cannot know."""

    enabled: bool = True


@attrs.frozen
class PeersSection:
    """`[peers]`: the channel between the access points."""

    address: Address
    """Ours; must be reachable through the mesh."""
    key_file: str
    """32 bytes in hexadecimal, the same on all access points; a line for each key, the first one is used to send."""
    port: int = 4544
    addresses: tuple[Address, ...] = ()
    """The other access points."""
    discover: Prefix | None = None
    """Or: every /128 of this prefix in the FIB is a peer."""


@attrs.frozen
class HandoverSection:
    """`[handover]`: what the access points do for each other when a host moves. Without `[peers]` nothing of it is."""

    hints: bool = True
    """Share the bindings of our hosts with the peers ahead of time."""
    forwarding: bool = True
    """Send on to the new access point what still arrives for a host that has moved there."""
    tables: int = 4544
    """The first of three routing tables that are ours alone: forwarded hosts, hosts that packets are taken for, and
    the segments."""
    rule_priority: int = 4544
    """Of our policy rules; before the main table's (32766)."""


@attrs.frozen
class DadSection:
    """`[dad]`: the proxy for duplicate address detection."""

    enabled: bool = True
    mode: Literal["all", "targeted"] = "all"
    """ "targeted": a question goes only to who is known to have the address, and to nobody if no one is."""
    isolated: bool = True
    """Stations of this access point do not hear each other (`ap_isolate=1`), and are served as well."""


@attrs.frozen
class NeighboursSection:
    """`[neighbours]`: for how many the kernel's neighbour table must have room."""

    stations: int = 100
    addresses_per_station: int = 8


@attrs.frozen
class ControlSection:
    """`[control]`: where `status`, `watch` and `drain` find the daemon."""

    socket: str = DEFAULT_SOCKET


@attrs.frozen
class LogSection:
    """`[log]`"""

    level: Literal["debug", "info", "warning", "error"] = "info"


@attrs.frozen
class MetricsSection:
    """`[metrics]`: a Prometheus endpoint; needs the extra `metrics`."""

    port: int
    address: Address = IPv6Address("::1")


@attrs.frozen
class Config:
    """A whole configuration; every value has been checked by itself and against the others."""

    roaming: RoamingSection
    kernel: KernelSection = KernelSection()
    exporters: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    stations: StationsSection = StationsSection()
    packets: PacketsSection = PacketsSection()
    peers: PeersSection | None = None
    handover: HandoverSection = HandoverSection()
    dad: DadSection = DadSection()
    ra: RaSection | None = None
    neighbours: NeighboursSection = NeighboursSection()
    policy: Policy = Policy()
    control: ControlSection = ControlSection()
    log: LogSection = LogSection()
    metrics: MetricsSection | None = None

    @property
    def exporter_settings(self) -> Mapping[str, Any]:
        """The table of the chosen exporter."""
        return self.exporters.get(self.roaming.exporter, {})

    @property
    def quiet_context(self) -> ExporterContext:
        """What an exporter may know when it only prints or checks: its events and lines go nowhere."""
        return ExporterContext(self.roaming.interfaces, self.roaming.prefixes, self.kernel.numbers)

    def printing_context(self, program: str) -> ExporterContext:
        """The same for the exporter that prints `program`'s configuration, perhaps with router advertisements."""
        if self.ra is None or self.ra.sender != program:
            return self.quiet_context
        return attrs.evolve(self.quiet_context, router=self.ra.router(self.roaming.prefixes))

    @property
    def gateway(self) -> IPv6Address:
        """The link-local address that clients have as their default router, the same on every access point."""
        return RaSection().source if self.ra is None else self.ra.source


def read_config(path: Path) -> Config:
    """Read and check the file.

    Raises: ConfigError with every mistake; the file's absence or a TOML error is one, with line and column.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError((f"cannot read {path}: {error.strerror} (name the file with -c FILE)",)) from None
    except UnicodeDecodeError as error:
        raise ConfigError((f"cannot read {path}: not UTF-8 at byte {error.start}",)) from None
    return parse_config(text, str(path))


def parse_config(text: str, name: str = "configuration") -> Config:
    """As `read_config`, from text; `name` stands in front of TOML errors."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((f"{name}: {error}",)) from None
    _apply_profile(document)
    try:
        config = _converter().structure(document, Config)
    except cattrs.BaseValidationError as error:
        raise ConfigError(tuple(_mistakes(error, ""))) from None
    mistakes = tuple(_contradictions(config))
    if mistakes:
        raise ConfigError(mistakes)
    return config


def _apply_profile(document: dict[str, Any]) -> None:
    """Fill in the policy that follows from the kind of stations; what `[policy]` says stands."""
    stations, policy = document.get("stations"), document.get("policy", {})
    if isinstance(stations, dict) and stations.get("source") == "none" and isinstance(policy, dict):
        document["policy"] = {**WITHOUT_ASSOCIATIONS, **policy}


# -- from TOML to values ------------------------------------------------------------------------------------------


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook_func(lambda kind: kind is Prefix, lambda value, _: _prefix(value))
    converter.register_structure_hook_func(lambda kind: kind == Prefix | None, lambda value, _: _prefix(value))
    converter.register_structure_hook_func(lambda kind: kind is Address, lambda value, _: _address(value))
    converter.register_structure_hook(IPv6Address, lambda value, _: _of_ipv6(_address(value), IPv6Address))
    converter.register_structure_hook(IPv6Network, lambda value, _: _of_ipv6(_prefix(value), IPv6Network))
    for kind, name in ((int, "a whole number"), (bool, "true or false"), (str, "text in quotes")):
        converter.register_structure_hook(kind, _strict(kind, name))
    converter.register_structure_hook(float, lambda value, _: _number(value))
    converter.register_structure_hook_func(lambda kind: _is_form(kind, Literal), _literal)
    converter.register_structure_hook_factory(
        lambda kind: _is_form(kind, tuple), lambda kind: _list(list_structure_factory(kind, converter))
    )
    return converter


def _is_form(kind: Any, origin: Any) -> bool:
    return get_origin(kind) is origin


def _literal(value: Any, kind: Any) -> Any:
    if value not in get_args(kind):
        allowed = ", ".join(f'"{choice}"' for choice in get_args(kind))
        raise ValueError(f"must be one of {allowed}, not {value!r}")
    return value


def _list(structure: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def checked(value: Any, kind: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError(f"must be a list in square brackets, not {value!r}")
        return tuple(structure(value, kind))

    return checked


def _strict(kind: type, name: str) -> Callable[[Any, type], Any]:
    def structure(value: Any, _: type) -> Any:
        if type(value) is not kind:
            raise ValueError(f"must be {name}, not {value!r}")
        return value

    return structure


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"must be a number, not {value!r}")
    if not value >= 0:
        raise ValueError(f"must be zero or more, not {value!r}")
    return float(value)


def _prefix(value: Any) -> Prefix:
    if not isinstance(value, str):
        raise ValueError(f"must be a prefix in quotes, not {value!r}")
    try:
        return ip_network(value)
    except ValueError as error:
        hint = ""
        if "host bits" in str(error):
            hint = f" (did you mean {ip_network(value, strict=False)}?)"
        raise ValueError(f"{value!r} is not a prefix: {error}{hint}") from None


def _address(value: Any) -> Address:
    if not isinstance(value, str):
        raise ValueError(f"must be an address in quotes, not {value!r}")
    try:
        return ip_address(value)
    except ValueError:
        raise ValueError(f"{value!r} is not an IP address") from None


def _of_ipv6(value: Address | Prefix, kind: type[_Ipv6]) -> _Ipv6:
    if not isinstance(value, kind):
        raise ValueError(f"must be of IPv6, not {str(value)!r}")
    return value


def _mistakes(error: BaseException, path: str) -> list[str]:
    """Flatten cattrs' tree of errors into lines with dotted paths."""
    if isinstance(error, cattrs.ClassValidationError):
        with_notes, without = error.group_exceptions()
        found = [
            line
            for inner, note in with_notes
            for line in _mistakes(inner, f"{path}.{note.name}" if path else note.name)
        ]
        return found + [line for inner in without for line in _mistakes(inner, path)]
    if isinstance(error, IterableValidationError):
        with_index, without = error.group_exceptions()
        found = [line for inner, note in with_index for line in _mistakes(inner, f"{path}[{note.index}]")]
        return found + [line for inner in without for line in _mistakes(inner, path)]
    if isinstance(error, ForbiddenExtraKeysError):
        known = [field.alias for field in attrs.fields(error.cl)]
        return [_unknown_key(key, known, path) for key in sorted(error.extra_fields)]
    where = f"{path}: " if path else ""
    if isinstance(error, KeyError):
        missing = str(error.args[0])
        if path.rsplit(".", 1)[-1] == missing:
            return [f"{path}: is missing"]
        return [f"{path}.{missing}: is missing" if path else f"[{missing}]: is missing"]
    if isinstance(error, StructureHandlerNotFoundError | TypeError | AttributeError):
        return [f"{where}has the wrong form (a table or a list where the other is expected)"]
    return [f"{where}{error}"]


def _unknown_key(key: str, known: list[str], path: str) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f'did you mean "{close[0]}"?' if close else "known keys: " + ", ".join(known)
    return f"{path + '.' if path else ''}{key}: is not known here ({hint})"


# -- what contradicts -----------------------------------------------------------------------------------------------


def _contradictions(config: Config) -> list[str]:
    found: list[str] = []
    roaming, kernel, peers = config.roaming, config.kernel, config.peers
    if not roaming.interfaces and peers is None:
        found.append('roaming.interfaces: name at least one client link, such as ["wlan0"]; only a peer has none')
    elif not roaming.interfaces and roaming.exporter != "kernel":
        found.append('roaming.exporter: without a client link there is nothing to export; leave it out, or "kernel"')
    found += [
        f"roaming.interfaces: {name!r} is not an interface name (1 to 15 characters, no space, quote, colon or slash)"
        for name in roaming.interfaces
        if not is_interface_name(name)
    ]
    if len(set(roaming.interfaces)) != len(roaming.interfaces):
        found.append("roaming.interfaces: an interface is named twice")
    if not roaming.prefixes:
        found.append('roaming.prefixes: name at least one roaming prefix, such as ["fd44:0:0:1::/64"]')
    for prefix in roaming.prefixes:
        if prefix.is_link_local or prefix.is_multicast:
            found.append(f"roaming.prefixes: {prefix} is link-local or multicast and cannot be routed")
        if prefix.prefixlen < (16 if prefix.version == 6 else 8):
            found.append(f"roaming.prefixes: {prefix} covers far more than one site; name the prefix of the clients")
    protocols = {
        "protocol": kernel.protocol,
        "withdrawing_protocol": kernel.withdrawing_protocol,
        "hidden_protocol": kernel.hidden_protocol,
    }
    for name, number in protocols.items():
        if not 5 <= number <= 255:
            found.append(f"kernel.{name}: must be 5 to 255 (0 to 4 are the kernel's own), not {number}")
        elif number in (kernel.numbers.dormant_protocol, kernel.numbers.lingering_protocol):
            found.append(f"kernel.{name}: {number} marks other routes of ours already")
        elif number in _TAKEN_PROTOCOLS:
            found.append(
                f"kernel.{name}: {number} is {_TAKEN_PROTOCOLS[number]}: that daemon would take our routes for its"
            )
    if len(set(protocols.values())) != len(protocols):
        found.append("kernel: protocol, withdrawing_protocol and hidden_protocol must differ")
    if not 1 <= kernel.table <= 2**32 - 1:
        found.append(f"kernel.table: must be 1 to 4294967295, not {kernel.table}")
    if not 1 <= kernel.metric < 2**31 - 1:
        found.append(f"kernel.metric: must be 1 to 2147483646, not {kernel.metric}")
    if peers is not None:
        found += _peer_contradictions(peers, roaming.prefixes)
        found += _handover_contradictions(config.handover, kernel.table)
    if config.ra is not None:
        found += ra_contradictions(config.ra, roaming.interfaces, roaming.prefixes)
    found += _policy_contradictions(config.policy)
    for name in ("stations", "addresses_per_station"):
        if getattr(config.neighbours, name) < 1:
            found.append(f"neighbours.{name}: must be at least 1")
    return found


def _peer_contradictions(peers: PeersSection, prefixes: tuple[Prefix, ...]) -> list[str]:
    found: list[str] = []
    if not 1 <= peers.port <= 65535:
        found.append(f"peers.port: must be 1 to 65535, not {peers.port}")
    if not peers.addresses and peers.discover is None:
        found.append('peers: name the others in addresses = ["…"], or a prefix in discover = "…"')
    if any(_is_inside(peers.address, prefix) for prefix in prefixes):
        found.append(f"peers.address: {peers.address} lies in a roaming prefix; use an address of the mesh itself")
    found += [
        f"peers.addresses: {address} is not of the same IP version as peers.address"
        for address in peers.addresses
        if address.version != peers.address.version
    ]
    if len(peers.addresses) > 256:
        found.append(f"peers.addresses: at most 256, not {len(peers.addresses)}")
    return found


def _handover_contradictions(handover: HandoverSection, main: int) -> list[str]:
    found: list[str] = []
    used = range(handover.tables, handover.tables + HANDOVER_TABLES)
    if not (handover.tables >= 1 and used[-1] <= 2**32 - 1):
        found.append(f"handover.tables: must be 1 to {2**32 - HANDOVER_TABLES}, not {handover.tables}")
    for number in (*_KERNEL_TABLES, main):
        if number in used:
            name = "kernel.table" if number == main else "one of the kernel's own"
            found.append(f"handover.tables: {used[0]} to {used[-1]} must be ours alone, and {number} is {name}")
            break
    if not 1 <= handover.rule_priority <= 32765:
        found.append(
            "handover.rule_priority: must be 1 to 32765, before the rule of the main table, "
            f"not {handover.rule_priority}"
        )
    return found


def _is_inside(address: Address, prefix: IPv4Network | IPv6Network) -> bool:
    return address.version == prefix.version and address in prefix


def _policy_contradictions(policy: Policy) -> list[str]:
    found = [
        f"policy.{name}: must be more than 0"
        for name in (
            "stale_probe_after_s",
            "probes_per_second",
            "urgent_probes_per_second",
            "new_addresses_per_s",
            "answer_wait_s",
            "trial_s",
            "forwarding_s",
            "oscillation_window_s",
            "oscillation_hold_s",
        )
        if not getattr(policy, name) > 0
    ]
    found += [
        f"policy.{name}: must be at least 1"
        for name in (
            "probe_burst",
            "sleep_rounds",
            "addresses_per_host",
            "addresses_total",
            "hosts_remembered",
            "forwards_total",
        )
        if getattr(policy, name) < 1
    ]
    if policy.oscillation_moves < 3:
        found.append("policy.oscillation_moves: must be at least 3: to go and to come back is no oscillation")
    if policy.forwarding_limit_s < policy.forwarding_s:
        found.append("policy.forwarding_limit_s: must not be less than forwarding_s")
    if not 0 <= policy.stale_probe_jitter < 1:
        found.append(f"policy.stale_probe_jitter: must be 0 to less than 1, not {policy.stale_probe_jitter}")
    return found
