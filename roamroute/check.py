"""`roamroute check`: what is missing or wrong on this machine, each with the command that mends it.

Looks only; changes nothing. What an adapter knows of its routing daemon comes from its `ExporterSpec.check`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from roamroute import control
from roamroute.check_bridges import check_bridge
from roamroute.check_dad import check_dad
from roamroute.check_handover import check_handover, check_running
from roamroute.check_neighbours import check_neighbours
from roamroute.check_ra import check_heard, check_ra
from roamroute.config import Config
from roamroute.errors import RoamrouteError
from roamroute.export import ExporterSpec, Finding
from roamroute.hostapd import check_hostapd, roaming_link_of
from roamroute.linux import machine
from roamroute.redirects import are_forbidden
from roamroute.sysctl import versions
from roamroute.values import Seconds

_EXPORTER_LIMIT_S: Seconds = 15.0


async def check_machine(config: Config, spec: ExporterSpec) -> tuple[Finding, ...]:
    """Every finding, good and bad, in the order in which an operator should mend them.

    Raises: ConfigError for mistakes in the exporter's table.
    """
    findings = [*_privilege(), *_interfaces(config), *_forwarding(config), *_redirects(config)]
    findings += check_neighbours(config)
    if config.stations.source == "hostapd" and config.roaming.interfaces:
        link_of = roaming_link_of(config.roaming.interfaces)
        findings += await check_hostapd(Path(config.stations.hostapd_dir), link_of, config.roaming.interfaces)
    findings += check_handover(config)
    findings += await _exporter(config, spec)
    findings += await check_ra(config)
    findings += _daemon(config)
    return tuple(dict.fromkeys(findings))


def _privilege() -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield Finding("error", "privilege", "not root: netlink changes and packet sockets are refused", "run as root")


def _interfaces(config: Config) -> Iterator[Finding]:
    for name in config.roaming.interfaces:
        interface = machine.interface(name)
        if interface is None:
            yield Finding(
                "error", name, "the roaming interface does not exist", "ip link show; correct roaming.interfaces"
            )
            continue
        if not interface.is_up:
            yield Finding("error", name, "the roaming interface is down", f"ip link set {name} up")
        else:
            yield Finding("ok", name, "exists and is up")
        if interface.is_bridge and interface.multicast_snooping:
            yield Finding(
                "error",
                name,
                "multicast snooping is on: it can swallow neighbour solicitations of clients",
                f"ip link set {name} type bridge mcast_snooping 0",
            )
        if config.stations.source == "none":
            yield from check_bridge(interface)
        yield from _addresses(config, name)
    for prefix, link in machine.onlink_routes(config.roaming.prefixes):
        if link in config.roaming.interfaces:
            yield Finding(
                "error",
                link,
                f"{prefix} is on-link: hosts elsewhere in the roaming prefix would be looked for on this link",
                f"ip {'-6 ' if prefix.version == 6 else ''}route del {prefix} dev {link}; give the address with a "
                f"prefix length of {prefix.max_prefixlen}",
            )


def _addresses(config: Config, name: str) -> Iterator[Finding]:
    present = {address for address, _ in machine.addresses(name)}
    if 6 in versions(config):
        if config.gateway in present:
            yield Finding("ok", name, f"has the fixed gateway address {config.gateway}")
        else:
            yield Finding(
                "error",
                name,
                f"{config.gateway} is missing: a client's default route would end when it roams",
                f"ip -6 address add {config.gateway}/64 dev {name} nodad",
            )
    if 4 in versions(config) and all(address.version != 4 for address in present):
        gateway = next(prefix for prefix in config.roaming.prefixes if prefix.version == 4).network_address + 1
        yield Finding(
            "error",
            name,
            "no IPv4 gateway address for the clients",
            f"ip address add {gateway}/32 dev {name} (the same on every access point)",
        )


def _forwarding(config: Config) -> Iterator[Finding]:
    for version in versions(config):
        switch = "net.ipv6.conf.all.forwarding" if version == 6 else "net.ipv4.ip_forward"
        for link in (None, *config.roaming.interfaces):
            is_on = machine.forwarding(version, link)
            where = f"ipv{version} forwarding" + ("" if link is None else f" on {link}")
            if is_on is False:
                name = switch if link is None else f"net.ipv{version}.conf.{link}.forwarding"
                yield Finding("error", where, "is off: this machine is no router", f"sysctl -w {name}=1")
            elif is_on and link is None:
                yield Finding("ok", where, "is on")


def _redirects(config: Config) -> Iterator[Finding]:
    if 6 not in versions(config):
        return
    is_forbidden = are_forbidden()
    subject, remedy = "ICMPv6 redirects", "roamroute config nftables -c FILE | nft -f -; the same on all mesh routers"
    if is_forbidden is None:
        yield Finding("unknown", subject, "cannot tell whether they are dropped: nft cannot be asked", remedy)
    elif is_forbidden:
        yield Finding("ok", subject, "are not sent")
    else:
        text = "are sent: clients and hosts that are told a way in the middle of a move miss a client for some seconds"
        yield Finding("warning", subject, text, remedy)


async def _exporter(config: Config, spec: ExporterSpec) -> Iterable[Finding]:
    if spec.check is None:
        return [Finding("ok", spec.name, "has nothing to check")]
    settings = spec.parse(config.exporter_settings)
    try:
        async with asyncio.timeout(_EXPORTER_LIMIT_S):
            return tuple(await spec.check(settings, config.quiet_context))
    except TimeoutError:
        return [
            Finding("error", spec.name, f"the check did not end within {_EXPORTER_LIMIT_S:g} s", "is the daemon hung?")
        ]
    except RoamrouteError as error:
        return [Finding("error", spec.name, str(error))]


def _daemon(config: Config) -> Iterator[Finding]:
    """What the running daemon knows: routes that are wanted and not exported."""
    try:
        status = control.ask(Path(config.control.socket), "status", limit_s=5.0)
    except RoamrouteError as error:
        yield Finding("warning", "roamroute", str(error), "roamroute run -c FILE")
        return
    yield from check_running(status)
    yield from check_dad(status)
    yield from check_heard(config, status)
    routes = status["routes"]
    yield Finding(
        "ok", "roamroute", f"is running: {routes['wanted']} host routes wanted, {routes['installed']} installed"
    )
    for address, why in routes["refused"].items():
        yield Finding("error", "kernel", f"refused the route for {address}: {why}")
    for problem in status["exporter"]["problems"]:
        yield Finding("error", config.roaming.exporter, problem["text"], problem["remedy"])
    if routes["exported"] is not None and routes["exported"] < routes["wanted"] and not status["exporter"]["problems"]:
        missing = routes["wanted"] - routes["exported"]
        yield Finding("error", config.roaming.exporter, f"{missing} host routes are not exported", "roamroute status")
