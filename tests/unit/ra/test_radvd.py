"""`roamroute config radvd`, against a file that tests/integration/test_ra_programs.py shows to the real radvd."""

from __future__ import annotations

from pathlib import Path

import pytest

from roamroute.config import Config, parse_config
from roamroute.errors import ConfigError
from roamroute.radvd import radvd_fragment

GOLDEN = Path(__file__).parents[2] / "data" / "radvd.conf"
HEAD = """
[roaming]
interfaces = ["wlan0", "wlan1"]
prefixes = ["fd44:0:0:1::/64", "10.44.0.0/16"]
"""
WHOLE = """
[ra]
sender = "radvd"
rdnss = ["fd44:0:0:a::53", "fd44:0:0:a::54"]
dnssl = ["mesh.example.org", "example.org"]
mtu_bytes = 1460
pref64 = "64:ff9b::/96"
retrans_timer_ms = 1000
"""


def whole() -> Config:
    return parse_config(HEAD + WHOLE)


def test_the_printed_configuration_is_the_golden_one() -> None:
    assert radvd_fragment(whole()) == GOLDEN.read_text(encoding="utf-8"), f"if this is meant: write it to {GOLDEN}"


def test_what_need_not_be_said_is_left_out() -> None:
    text = radvd_fragment(parse_config(f'{HEAD}[ra]\nsender = "radvd"'))
    assert not [word for word in ("AdvLinkMTU", "RDNSS {", "DNSSL {", "nat64prefix") if word in text]


def test_who_sends_them_himself_is_warned() -> None:
    assert 'sender is "roamroute": with radvd as well, clients hear two' in radvd_fragment(
        parse_config(f"{HEAD}[ra]\n")
    )


def test_without_the_table_there_is_nothing_to_print() -> None:
    with pytest.raises(ConfigError, match="ra: is missing"):
        radvd_fragment(parse_config(HEAD))
