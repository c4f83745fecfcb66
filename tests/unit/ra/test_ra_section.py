"""`[ra]`: every wrong value is one clear mistake, and what is right becomes what is advertised."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest

from roamroute.config import Config, parse_config
from roamroute.config_ra import RaSection
from roamroute.errors import ConfigError
from roamroute.values import AdvertisedPrefix

HEAD = """
[roaming]
interfaces = ["wlan0"]
prefixes = ["fd44:0:0:1::/64", "10.44.0.0/16"]
"""


def config_of(section: str) -> Config:
    return parse_config(f"{HEAD}[ra]\n{section}")


def mistakes_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    return caught.value.mistakes


def test_without_the_table_nothing_is_advertised_and_the_gateway_is_the_usual_one() -> None:
    config = parse_config(HEAD)
    assert config.ra is None
    assert config.gateway == IPv6Address("fe80::1")


def test_an_empty_table_suffices() -> None:
    config = config_of("")
    assert config.ra == RaSection()
    router = RaSection().router(config.roaming.prefixes)
    assert router.source == IPv6Address("fe80::1")
    assert router.lifetime_s == 9000
    assert router.prefixes == (AdvertisedPrefix(IPv6Network("fd44:0:0:1::/64"), 86400, 14400),)
    assert (router.mtu_bytes, router.rdnss, router.dnssl, router.pref64) == (None, (), (), None)


def test_everything_can_be_said() -> None:
    section = config_of(
        """
        sender = "roamroute"
        source = "fe80::44"
        router_lifetime_s = 65535
        needs_route = ["::/0", "2000::/3"]
        valid_lifetime_s = 4294967295
        preferred_lifetime_s = 0
        rdnss = ["fd44:0:0:a::53", "fe80::44"]
        dnssl = ["mesh.example.org", "xn--bcher-kva.example", "3com.example", "local"]
        mtu_bytes = 1460
        pref64 = "64:ff9b::/96"
        retrans_timer_ms = 2000
        reachable_time_ms = 60000
        hop_limit = 0
        interval_min_s = 3
        interval_max_s = 4
        """
    ).ra
    assert section is not None
    router = section.router((IPv6Network("fd44:0:0:1::/64"),))
    assert router.lifetime_s == router.rdnss_lifetime_s == 65535
    assert router.pref64_lifetime_s == 16
    assert section.needs_route == (IPv6Network("::/0"), IPv6Network("2000::/3"))


def test_the_gateway_is_the_source() -> None:
    assert config_of('source = "fe80::44"').gateway == IPv6Address("fe80::44")


def test_resolvers_live_for_three_intervals_at_least() -> None:
    router = RaSection(router_lifetime_s=0).router(())
    assert router.rdnss_lifetime_s == 5400


def test_pref64_lives_no_longer_than_its_field_can_say() -> None:
    assert RaSection(interval_max_s=60_000).router(()).pref64_lifetime_s == 65528


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ('sender = "dnsmasq"', 'ra.sender: must be one of "roamroute", "radvd", "bird", "frr", not \'dnsmasq\''),
        (
            'source = "fd44::1"',
            'ra.source: must be a link-local address (RFC 4861 §4.2), such as "fe80::1", not fd44::1',
        ),
        ('source = "10.0.0.1"', "ra.source: must be of IPv6, not '10.0.0.1'"),
        ('source = "fe80::1%wlan0"', "ra.source: must be a link-local address"),
        ("router_lifetime_s = 1799", "ra.router_lifetime_s: must be 0, or interval_max_s (1800) to 65535"),
        ("router_lifetime_s = 65536", "ra.router_lifetime_s: must be 0, or interval_max_s (1800) to 65535"),
        ("router_lifetime_s = 1800.5", "ra.router_lifetime_s: must be a whole number, not 1800.5"),
        ('sender = "bird"\nrouter_lifetime_s = 9001', "interval_max_s (1800) to 9000 (bird does not know RFC 8319)"),
        (
            'sender = "radvd"\ninterval_max_s = 1801',
            "ra.interval_max_s: must be 4 to 1800 (radvd does not know RFC 8319)",
        ),
        ("interval_max_s = 3", "ra.interval_max_s: must be 4 to 65535"),
        ("interval_min_s = 2", "ra.interval_min_s: must be 3 to three quarters of interval_max_s (1350"),
        ("interval_min_s = 1351", "ra.interval_min_s: must be 3 to three quarters of interval_max_s (1350"),
        ("valid_lifetime_s = 0", "ra.valid_lifetime_s: must be interval_max_s (1800) to 4294967295"),
        (
            "preferred_lifetime_s = 1",
            "ra.preferred_lifetime_s: must be 0 (no new connections), or interval_max_s (1800)",
        ),
        ("preferred_lifetime_s = 86401", "ra.preferred_lifetime_s: must not be more than valid_lifetime_s"),
        ("retrans_timer_ms = 1", "ra.retrans_timer_ms: must be 0 (the client's own, 1 s), or 100 to 60000 ms, not 1"),
        ("reachable_time_ms = 30", "ra.reachable_time_ms: must be 0 (the client's own, 30 s), or 1000 to 3600000 ms"),
        ("hop_limit = 256", "ra.hop_limit: must be 0 to 255, not 256"),
        ("mtu_bytes = 1279", "ra.mtu_bytes: must be 1280 to 65535 (RFC 8200 §5), not 1279"),
        ('mtu_bytes = "1460"', "ra.mtu_bytes: must be a whole number, not '1460'"),
        ('pref64 = "64:ff9b::/95"', "ra.pref64: the length must be one of 96, 64, 56, 48, 40, 32"),
        ('pref64 = "64:ff9b::1/96"', "ra.pref64: '64:ff9b::1/96' is not a prefix"),
        ('rdnss = ["ff02::fb"]', "ra.rdnss[0]: ff02::fb is no resolver's address"),
        ('rdnss = ["fd44::53", "10.0.0.53"]', "ra.rdnss[1]: must be of IPv6, not '10.0.0.53'"),
        ('rdnss = ["fe80::1%wlan0"]', "ra.rdnss[0]: fe80::1%wlan0 names an interface of this machine"),
        ('rdnss = ["fd44::53", "fd44::53"]', "ra.rdnss: something is named twice"),
        ('dnssl = ["mesh..org"]', "ra.dnssl[0]: 'mesh..org' is not a domain name"),
        ('dnssl = ["_tcp.local"]', "ra.dnssl[0]: '_tcp.local' is not a domain name"),
        ('dnssl = ["example.org."]', "ra.dnssl[0]: 'example.org.' is not a domain name"),
        ('dnssl = ["bücher.example"]', "ra.dnssl[0]: 'bücher.example' is not a domain name"),
        (f'dnssl = ["{"a" * 64}.org"]', "is not a domain name"),
        ('needs_route = ["0.0.0.0/0"]', "ra.needs_route[0]: must be of IPv6, not '0.0.0.0/0'"),
        ('needs_route = "::/0"', "ra.needs_route: must be a list in square brackets"),
        (
            'needs_route = ["::/0"]\nsender = "radvd"',
            'ra.needs_route: with sender = "radvd" we cannot withdraw the router',
        ),
        (
            'needs_route = ["::/0"]\nrouter_lifetime_s = 0',
            "ra.needs_route: with router_lifetime_s = 0 there is nothing",
        ),
        ("lifetime = 9000", "ra.lifetime: is not known here"),
    ],
)
def test_a_wrong_value_is_one_clear_mistake(line: str, mistake: str) -> None:
    (found,) = mistakes_of(f"{HEAD}[ra]\n{line}")
    assert mistake in found


def test_what_would_be_fragmented_is_refused() -> None:
    names = ", ".join(f'"{"a" * 60}{number:02}.example.org"' for number in range(20))
    (found,) = mistakes_of(f"{HEAD}[ra]\ndnssl = [{names}]")
    assert "octets would be fragmented" in found


def test_the_size_is_that_of_the_frame() -> None:
    from roamroute.config_ra import _size_bytes
    from roamroute.values import Mac
    from roamroute.wire.router_advertisements import router_advertisement

    for count in range(1, 5):
        section = RaSection(
            mtu_bytes=1460,
            pref64=IPv6Network("64:ff9b::/96"),
            rdnss=tuple(IPv6Address(f"fd44::{number}") for number in range(1, count + 1)),
            dnssl=tuple(f"{'x' * number}.example.org" for number in range(1, count + 1)),
        )
        frame = router_advertisement(Mac("02:00:00:00:00:01"), None, section.router((IPv6Network("fd44::/64"),)))
        assert _size_bytes(section, 1) == len(frame) - 14 - 40


@pytest.mark.parametrize(
    ("interfaces", "prefixes", "mistake"),
    [
        ('["wlan0"]', '["10.44.0.0/16"]', "ra: router advertisements are for IPv6"),
        (
            '["wlan0"]',
            '["fd44::/56"]',
            "ra: clients make themselves addresses in a /64 only, and roaming.prefixes has fd44::/56",
        ),
    ],
)
def test_what_does_not_go_with_the_roaming_prefixes_is_a_mistake(interfaces: str, prefixes: str, mistake: str) -> None:
    (found,) = mistakes_of(f"[roaming]\ninterfaces = {interfaces}\nprefixes = {prefixes}\n[ra]\n")
    assert mistake in found


def test_without_client_links_there_is_nobody_to_tell() -> None:
    peers = '[peers]\naddress = "fd44:0:0:a::1"\nkey_file = "/k"\naddresses = ["fd44:0:0:a::2"]\n'
    (found,) = mistakes_of(f'[roaming]\ninterfaces = []\nprefixes = ["fd44:0:0:1::/64"]\n{peers}[ra]\n')
    assert "there is nobody to tell" in found


@pytest.mark.parametrize("program", ["bird", "frr"])
def test_only_the_sender_prints_them(program: str) -> None:
    config = config_of('sender = "bird"')
    assert (config.printing_context(program).router is not None) == (program == "bird")
    assert config.quiet_context.router is None
