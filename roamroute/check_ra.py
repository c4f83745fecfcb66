"""`roamroute check`: what router advertisements say on the client links, and who else sends some. Part of check.py.

Looks by asking: a solicitation on each link, which wakes nobody but routers. What a link has heard since the daemon's
start comes from its status. A client believes whoever sends an advertisement, so another router there is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from roamroute.config import Config
from roamroute.export import Finding
from roamroute.linux import machine
from roamroute.linux.router_survey import LISTEN_S, Advertised, survey
from roamroute.sysctl import sysctl_key
from roamroute.values import AdvertisedRouter, Mac, Seconds
from roamroute.wire.router_advertisements import HeardPrefix, HeardRouter

_NOWHERE = Mac("00:00:00:00:00:00")
"""What came over the loopback interface: another program of this machine has answered us."""
_LEVELS = ("error", "warning")


async def check_ra(config: Config, listen_s: Seconds = LISTEN_S) -> Iterable[Finding]:
    """Ask on all client links at once, listen for `listen_s`, and say what is wrong with the answers.

    Raises: MachineUnfit when netlink does not answer.
    """
    if not _roaming(config):
        return ()
    links = config.roaming.interfaces
    found = [finding for link in links for finding in _believes(link)]
    if os.geteuid() != 0:
        text = "cannot tell who advertises: only root may listen"
        return [*found, *(Finding("unknown", _subject(link), text, "run as root") for link in links)]
    asked = await asyncio.gather(*(_ask(config, link, listen_s) for link in links))
    return [*found, *(finding for each in asked for finding in each)]


def _believes(link: str) -> Iterator[Finding]:
    """A router takes no advertisements (net.ipv6.conf.*.accept_ra 0 or 1), unless it is told to (2)."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/sys/net/ipv6/conf/{link}/accept_ra").read_text(encoding="ascii").strip() == "2":
            text = "this machine believes them on the clients' link (accept_ra is 2): a client can become its router"
            yield Finding("error", _subject(link), text, f"sysctl -w net.ipv6.conf.{sysctl_key(link)}.accept_ra=0")


async def _ask(config: Config, link: str, listen_s: Seconds) -> Iterable[Finding]:
    addresses = [each for each, _ in machine.addresses(link) if isinstance(each, IPv6Address)]
    # BIRD does not answer the address that it sends from itself, and another access point has the gateway's, too.
    ours = sorted((each for each in addresses if each.is_link_local), key=lambda each: each == config.gateway)
    why = ""
    for source in (*ours, None):
        try:
            return findings(config, link, await survey(link, source, listen_s))
        except OSError as error:  # an address that is tentative cannot be used
            why = why or str(error.strerror)
    return [Finding("unknown", _subject(link), f"cannot tell who advertises: {why}", f"ip link show {link}")]


def check_heard(config: Config, status: Mapping[str, Any]) -> Iterator[Finding]:
    """What the running daemon says of itself as a router, and whom it has heard within the last hour."""
    if not _roaming(config):
        return
    ours = status["ra"]
    if ours is not None and ours["reason"]:
        text = f"clients are told not to use this router: {ours['reason']}"
        remedy = "roamroute drain --resume" if ours["reason"] == "drained" else "ip -6 route; see ra.needs_route"
        yield Finding("warning", "router advertisements", text, remedy)
    for each in status["routers"]:
        router = HeardRouter(
            mac=Mac(each["mac"]),
            source=IPv6Address(each["source"]),
            lifetime_s=each["lifetime_s"],
            is_managed=each["is_managed"],
            is_other=each["is_other"],
            prefixes=tuple(
                HeardPrefix(**{**prefix, "prefix": IPv6Network(prefix["prefix"])}) for prefix in each["prefixes"]
            ),
        )
        yield from _of_another(config, each["link"], router)


def findings(config: Config, link: str, heard: tuple[Advertised, ...]) -> Iterator[Finding]:
    """What is to be said of the answers on one link. Pure."""
    section = config.ra
    is_heard = False
    for each in heard:
        if not each.is_ours:
            yield from _of_another(config, link, each.router)
        elif section is None or section.sender != "roamroute":
            is_heard = True
            yield from _of_our_program(config, link, each.router)
        elif each.router.mac == _NOWHERE:
            text = f"another program of this machine advertises as well as roamroute, from {each.router.source}"
            yield Finding("error", _subject(link), text, "stop radvd, or name the sender in ra.sender")
    if section is None and not heard:
        text = "nobody advertises: clients make themselves no address, and have no default router"
        yield Finding("warning", _subject(link), text, "add a table [ra]; see docs/howto-nd.md")
    elif section is not None and section.sender != "roamroute" and not is_heard:
        text = f"{section.sender} does not answer: clients make themselves no address, and have no default router"
        yield Finding("error", _subject(link), text, _print_again(section.sender))


def _of_our_program(config: Config, link: str, router: HeardRouter) -> Iterator[Finding]:
    """radvd, BIRD or FRR on this machine."""
    found = [*_strange(config, link, router)]
    expected, remedy = None, "roamroute config radvd, or bird, or frr prints what is needed; name the one in ra.sender"
    if config.ra is not None:
        expected, remedy = config.ra.router(config.roaming.prefixes), _print_again(config.ra.sender)
        differences = _differences(router, expected)
    elif router.source != config.gateway:
        differences = [("error", f"they come from {router.source} and not from {config.gateway}")]
    else:
        differences = []
    for level in _LEVELS:
        texts = [text for at, text in differences if at == level]
        if texts:
            found.append(Finding(level, _subject(link), "; ".join(texts), remedy))
    yield from found
    if not found:
        who = "a program of this machine" if config.ra is None else config.ra.sender
        yield Finding("ok", _subject(link), f"{who} says what is needed")


def _of_another(config: Config, link: str, router: HeardRouter) -> Iterator[Finding]:
    """A router on the client link that is not this machine: by accident, another access point, or an attack."""
    who = f"{router.mac} ({router.source})"
    yield from _strange(config, link, router)
    if router.source == config.gateway:
        yield from _of_another_access_point(config, link, router)
    elif router.lifetime_s:
        text = f"{who} advertises itself as a default router, too: clients that take it lose it when they move"
        remedy = "end that there, or drop it where it is plugged in (RA guard, RFC 6105)"
        yield Finding("error", _subject(link), text, remedy)
    else:
        text = f"{who} sends router advertisements, too, without being a default router"
        yield Finding("warning", _subject(link), text, "is it meant to be on the clients' link?")


def _of_another_access_point(config: Config, link: str, router: HeardRouter) -> Iterator[Finding]:
    """On one layer 2 with ours. A lifetime of 0 is a drained one."""
    if config.ra is None:
        return
    expected = config.ra.router(config.roaming.prefixes)
    differences: list[str] = []
    if router.lifetime_s not in (0, expected.lifetime_s):
        differences.append(f"a router lifetime of {router.lifetime_s} s, not {expected.lifetime_s} s")
    differences += [text for _, text in _prefix_differences(router, expected)]
    if differences:
        text = f"{router.mac}, which has the gateway's address {router.source} as well, says {'; '.join(differences)}"
        yield Finding("error", _subject(link), text, "the same [ra] on all access points")


def _strange(config: Config, link: str, router: HeardRouter) -> Iterator[Finding]:
    """What no router may say to roaming clients, whoever it is."""
    who = f"{router.mac} ({router.source})" if router.mac != _NOWHERE else "a program of this machine"
    roaming = _roaming(config)
    for each in router.prefixes:
        if each.is_on_link and any(each.prefix.overlaps(prefix) for prefix in roaming):
            text = f"{who} says that {each.prefix} is on-link (L=1): clients miss hosts at other access points"
            yield Finding("error", _subject(link), text, "the prefix with L=0: radvd AdvOnLink off, or end it there")
        if each.is_autonomous and each.prefix not in roaming:
            text = f"{who} gives clients addresses in {each.prefix}, which does not roam"
            yield Finding("warning", _subject(link), text, "take the prefix away there, or add it to roaming.prefixes")
    if router.is_managed or router.is_other:
        flag = "M=1" if router.is_managed else "O=1"
        text = f"{who} tells clients to ask DHCPv6 ({flag})"
        yield Finding("warning", _subject(link), text, "M=0 and O=0, unless there is a DHCPv6 server for all of them")


def _differences(router: HeardRouter, expected: AdvertisedRouter) -> list[tuple[str, str]]:
    """Level and text for each; RDNSS and DNSSL may come in any order."""
    found = [
        ("error", f"{name} {heard}, not {wanted}")
        for name, heard, wanted in (
            ("source", router.source, expected.source),
            ("router lifetime", f"{router.lifetime_s} s", f"{expected.lifetime_s} s"),
        )
        if heard != wanted
    ]
    found += _prefix_differences(router, expected)
    found += [
        ("warning", f"{name} {_shown(heard)}, not {_shown(wanted)}")
        for name, heard, wanted in (
            ("hop limit", router.hop_limit, expected.hop_limit),
            ("reachable time", router.reachable_time_ms, expected.reachable_time_ms),
            ("retrans timer", router.retrans_timer_ms, expected.retrans_timer_ms),
            ("MTU", router.mtu_bytes, expected.mtu_bytes),
            ("RDNSS", sorted(router.rdnss), sorted(expected.rdnss)),
            ("DNSSL", sorted(router.dnssl), sorted(expected.dnssl)),
            ("PREF64", router.pref64, expected.pref64),
        )
        if heard != wanted
    ]
    return found


def _prefix_differences(router: HeardRouter, expected: AdvertisedRouter) -> Iterator[tuple[str, str]]:
    said = {each.prefix: each for each in router.prefixes}
    for wanted in expected.prefixes:
        heard = said.get(wanted.prefix)
        if heard is None or not heard.is_autonomous:
            yield "error", f"no addresses in {wanted.prefix}"
            continue
        lifetimes = (heard.valid_lifetime_s, heard.preferred_lifetime_s)
        if lifetimes != (wanted.valid_lifetime_s, wanted.preferred_lifetime_s):
            yield (
                "warning",
                f"{wanted.prefix} valid for {lifetimes[0]} s and preferred for {lifetimes[1]} s, not "
                f"{wanted.valid_lifetime_s} s and {wanted.preferred_lifetime_s} s",
            )


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _roaming(config: Config) -> tuple[IPv6Network, ...]:
    return tuple(prefix for prefix in config.roaming.prefixes if isinstance(prefix, IPv6Network))


def _subject(link: str) -> str:
    return f"router advertisements on {link}"


def _print_again(sender: str) -> str:
    return f"roamroute config {sender} -c FILE prints what is needed; is {sender} running?"
