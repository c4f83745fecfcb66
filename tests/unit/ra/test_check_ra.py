"""What `check` makes of the router advertisements that were heard; tests/integration/test_ra_check.py has real ones."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from typing import Any

import attrs
import pytest

from roamroute.check_ra import check_heard, check_ra, findings
from roamroute.config import Config, parse_config
from roamroute.export import Finding
from roamroute.linux.router_survey import Advertised
from roamroute.values import Mac
from roamroute.wire.router_advertisements import HeardPrefix, HeardRouter

HEAD = '[roaming]\ninterfaces = ["wlan0"]\nprefixes = ["fd44:0:0:1::/64", "10.44.0.0/16"]\n'
PREFIX = HeardPrefix(IPv6Network("fd44:0:0:1::/64"), False, True, 86400, 14400)
SAME = HeardRouter(Mac("02:00:00:00:00:09"), IPv6Address("fe80::1"), lifetime_s=9000, hop_limit=64, prefixes=(PREFIX,))
STRANGER = attrs.evolve(SAME, source=IPv6Address("fe80::9"))
OUTSIDE = HeardPrefix(IPv6Network("2001:db8::/64"), False, True, 86400, 14400)


def config_of(section: str) -> Config:
    return parse_config(HEAD + section)


def levels(section: str, *heard: Advertised) -> list[tuple[str, str]]:
    return [(each.level, each.text) for each in findings(config_of(section), "wlan0", heard)]


def from_another(router: HeardRouter) -> Advertised:
    return Advertised(router, is_ours=False)


def from_a_program(router: HeardRouter) -> Advertised:
    return Advertised(attrs.evolve(router, mac=Mac("00:00:00:00:00:00")), is_ours=True)


def test_our_own_frames_are_nothing_to_tell_of() -> None:
    assert levels("[ra]", Advertised(SAME, is_ours=True)) == []


def test_a_drained_access_point_on_the_same_link_is_nothing_to_tell_of() -> None:
    assert levels("[ra]", from_another(attrs.evolve(SAME, lifetime_s=0))) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"lifetime_s": 1800}, "a router lifetime of 1800 s, not 9000 s"),
        ({"prefixes": ()}, "no addresses in fd44:0:0:1::/64"),
        ({"prefixes": (attrs.evolve(PREFIX, is_autonomous=False),)}, "no addresses in fd44:0:0:1::/64"),
        (
            {"prefixes": (attrs.evolve(PREFIX, valid_lifetime_s=1),)},
            "valid for 1 s and preferred for 14400 s, not 86400 s",
        ),
    ],
)
def test_another_access_point_that_says_something_else_is_an_error(change: dict[str, Any], text: str) -> None:
    ((level, found),) = levels("[ra]", from_another(attrs.evolve(SAME, **change)))
    assert level == "error"
    assert text in found


@pytest.mark.parametrize("section", ["", "[ra]", '[ra]\nsender = "radvd"'])
def test_a_stranger_is_an_error_whoever_advertises_here(section: str) -> None:
    told = levels(section, from_another(STRANGER), from_a_program(SAME))
    assert ("error", f"{STRANGER.mac} (fe80::9) advertises itself as a default router, too: clients that take it lose "
            "it when they move") in told  # fmt: skip


def test_an_on_link_prefix_that_only_covers_the_roaming_one_is_an_error() -> None:
    wide = HeardPrefix(IPv6Network("fd44::/32"), True, False, 86400, 14400)
    told = levels("[ra]", from_another(attrs.evolve(STRANGER, prefixes=(wide,), lifetime_s=0)))
    assert [level for level, text in told if "fd44::/32 is on-link (L=1)" in text] == ["error"]


def test_an_on_link_prefix_elsewhere_is_not() -> None:
    told = levels("[ra]", from_another(attrs.evolve(STRANGER, prefixes=(attrs.evolve(OUTSIDE, is_on_link=True),))))
    assert not [text for _, text in told if "on-link" in text]


def test_another_flag_for_dhcpv6_is_told_apart() -> None:
    told = levels("[ra]", from_another(attrs.evolve(STRANGER, is_other=True)))
    assert [text for _, text in told if "(O=1)" in text]


def test_a_program_may_list_resolvers_in_any_order() -> None:
    section = '[ra]\nsender = "frr"\nrdnss = ["fd44::1", "fd44::2"]'
    said = attrs.evolve(SAME, rdnss=(IPv6Address("fd44::2"), IPv6Address("fd44::1")))
    assert levels(section, from_a_program(said)) == [("ok", "frr says what is needed")]


def test_without_the_table_a_program_that_does_well_is_well() -> None:
    assert levels("", from_a_program(SAME)) == [("ok", "a program of this machine says what is needed")]


def test_without_the_table_the_gateways_address_still_counts() -> None:
    ((level, text),) = levels("", from_a_program(STRANGER))
    assert (level, text) == ("error", "they come from fe80::9 and not from fe80::1")


def test_each_level_is_one_finding_with_all_its_differences() -> None:
    section = '[ra]\nsender = "radvd"\nmtu_bytes = 1460\nretrans_timer_ms = 1000'
    told = levels(section, from_a_program(attrs.evolve(SAME, lifetime_s=0, source=IPv6Address("fe80::2"))))
    assert told == [
        ("error", "source fe80::2, not fe80::1; router lifetime 0 s, not 9000 s"),
        ("warning", "retrans timer 0, not 1000; MTU none, not 1460"),
    ]


async def test_ipv4_alone_needs_none() -> None:
    config = parse_config('[roaming]\ninterfaces = ["wlan0"]\nprefixes = ["10.44.0.0/16"]\n')
    assert list(await check_ra(config)) == []
    assert list(check_heard(config, {})) == []


async def test_without_root_it_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (finding,) = await check_ra(config_of("[ra]"))
    assert (finding.level, finding.remedy) == ("unknown", "run as root")


# -- what the daemon has heard --------------------------------------------------------------------------------------


def status_of(*routers: HeardRouter, reason: str = "") -> dict[str, Any]:
    """The part of the status that counts here, as docs/json.md has it."""
    return {
        "ra": {"reason": reason, "lifetime_s": 0 if reason else 9000},
        "routers": [
            {
                "link": "wlan0",
                "mac": router.mac,
                "source": str(router.source),
                "lifetime_s": router.lifetime_s,
                "is_managed": router.is_managed,
                "is_other": router.is_other,
                "prefixes": [{**attrs.asdict(each), "prefix": str(each.prefix)} for each in router.prefixes],
                "age_s": 12.3,
            }
            for router in routers
        ],
    }


def heard_by_the_daemon(*routers: HeardRouter, reason: str = "") -> list[Finding]:
    return list(check_heard(config_of("[ra]"), status_of(*routers, reason=reason)))


def test_what_the_daemon_heard_is_the_same_finding_as_what_is_heard_now() -> None:
    assert heard_by_the_daemon(STRANGER) == list(findings(config_of("[ra]"), "wlan0", (from_another(STRANGER),)))


def test_a_daemon_that_heard_nobody_has_nothing_to_tell() -> None:
    assert heard_by_the_daemon() == []


@pytest.mark.parametrize(("reason", "remedy"), [("drained", "roamroute drain --resume"), ("no route", "ip -6 route")])
def test_a_withdrawn_router_is_told_with_its_reason(reason: str, remedy: str) -> None:
    (finding,) = heard_by_the_daemon(reason=reason)
    assert finding.level == "warning"
    assert reason in finding.text
    assert remedy in finding.remedy


def test_a_daemon_that_does_not_advertise_says_so_by_null() -> None:
    assert list(check_heard(config_of(""), {"ra": None, "routers": []})) == []
