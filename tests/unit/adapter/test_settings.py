"""Reading an exporter's table."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roamroute.adapter.settings import (
    Check,
    addresses,
    choice,
    flag,
    interfaces,
    number,
    read_table,
    text,
    texts,
    whole_number,
)
from roamroute.errors import ConfigError

CHECKS: dict[str, Check] = {
    "socket": text('a path such as "/run/mine.sock"'),
    "quiet": flag,
    "mode": choice("kernel", "inject"),
    "limit_s": number(0.1, 60, "s"),
    "command": texts('a command in parts such as ["mine", "-v"]'),
    "as_number": whole_number(1, 65535),
    "others": addresses,
    "links": interfaces,
}


def test_what_is_right_comes_back_as_the_adapter_wants_it() -> None:
    table = {"socket": "/run/x", "quiet": True, "mode": "inject", "limit_s": 3, "command": ["mine", "-v"]}
    table |= {"as_number": 65000, "others": ["fd44::1", "10.0.0.1"]}
    assert read_table("mine", table, CHECKS) == {
        **table,
        "command": ("mine", "-v"),
        "others": (ip_address("fd44::1"), ip_address("10.0.0.1")),
    }
    assert read_table("mine", {}, CHECKS) == {}


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ({"sokcet": 1}, f"exporters.mine.sokcet: is not known here (known keys: {', '.join(CHECKS)})"),
        ({"socket": " "}, "exporters.mine.socket: must be a path such as \"/run/mine.sock\", not ' '"),
        ({"socket": 7}, 'exporters.mine.socket: must be a path such as "/run/mine.sock", not 7'),
        ({"quiet": "yes"}, "exporters.mine.quiet: must be true or false, not 'yes'"),
        ({"mode": "both"}, 'exporters.mine.mode: must be "kernel" or "inject", not \'both\''),
        ({"mode": ["kernel"]}, 'exporters.mine.mode: must be "kernel" or "inject", not [\'kernel\']'),
        ({"limit_s": 61}, "exporters.mine.limit_s: must be 0.1 to 60 s, not 61"),
        ({"as_number": 6.5}, "exporters.mine.as_number: must be a whole number, not 6.5"),
        ({"as_number": 0}, "exporters.mine.as_number: must be 1 to 65535, not 0"),
        (
            {"others": ["fd44::1/64"]},
            "exporters.mine.others: must be a list of addresses, but "
            "'fd44::1/64' does not appear to be an IPv4 or IPv6 address",
        ),
        (
            {"command": ["mi\0ne"]},
            'exporters.mine.command: must be a command in parts such as ["mine", "-v"], not [\'mi\\x00ne\']',
        ),
        (
            {"links": ["mesh0\nexit"]},
            "exporters.mine.links: must be a list of interfaces such as [\"mesh0\"], not ['mesh0\\nexit']",
        ),
        ({"links": ['me"sh']}, "exporters.mine.links: 'me\"sh' is not an interface name"),
        ({"others": ["fe80::1%e0"]}, "exporters.mine.others: must be addresses without a zone, not 'fe80::1%e0'"),
        ({"limit_s": True}, "exporters.mine.limit_s: must be 0.1 to 60 s, not True"),
        (
            {"command": "mine -v"},
            'exporters.mine.command: must be a command in parts such as ["mine", "-v"], not \'mine -v\'',
        ),
    ],
)
def test_a_mistake_says_what_is_expected(table: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_table("mine", table, CHECKS)
    assert caught.value.mistakes == (mistake,)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read_table("mine", {"socket": 1, "quiet": 2, "mode": "kernel", "none": 3}, CHECKS)
    assert [mistake.partition(":")[0] for mistake in caught.value.mistakes] == [
        "exporters.mine.socket",
        "exporters.mine.quiet",
        "exporters.mine.none",
    ]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*CHECKS, "other"]), anything))
def test_whatever_toml_holds_gives_values_or_mistakes(table: dict[str, Any]) -> None:
    mistakes: tuple[str, ...] = ()
    values: dict[str, Any] = {}
    try:
        values = read_table("mine", table, CHECKS)
    except ConfigError as error:
        mistakes = error.mistakes
    assert bool(mistakes) == (values.keys() != table.keys())
    assert len(mistakes) <= len(table)
    assert all(mistake.startswith("exporters.mine.") for mistake in mistakes)
