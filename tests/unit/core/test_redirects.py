"""The rule that keeps ICMPv6 redirects in, as nft prints it back."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from roamroute.redirects import has_rule, nftables_fragment

# nft 1.0.6 --json list ruleset, after `roamroute config nftables | nft -f -`
LISTED: dict[str, Any] = {
    "nftables": [
        {"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
        {"table": {"family": "ip6", "name": "roamroute", "handle": 1}},
        {
            "chain": {
                "family": "ip6",
                "table": "roamroute",
                "name": "output",
                "handle": 1,
                "type": "filter",
                "hook": "output",
                "prio": 0,
                "policy": "accept",
            }
        },
        {
            "rule": {
                "family": "ip6",
                "table": "roamroute",
                "chain": "output",
                "handle": 2,
                "expr": [
                    {
                        "match": {
                            "op": "==",
                            "left": {"payload": {"protocol": "icmpv6", "field": "type"}},
                            "right": "nd-redirect",
                        }
                    },
                    {"drop": None},
                ],
            }
        },
    ]
}


def test_our_own_rule_is_found() -> None:
    assert has_rule(LISTED)


def test_a_rule_elsewhere_or_for_something_else_does_not_count() -> None:
    elsewhere, accepting, other = (copy.deepcopy(LISTED) for _ in range(3))
    elsewhere["nftables"][2]["chain"]["hook"] = "forward"
    accepting["nftables"][3]["rule"]["expr"][1] = {"accept": None}
    other["nftables"][3]["rule"]["expr"][0]["match"]["right"] = "nd-router-advert"
    assert not any(map(has_rule, (elsewhere, accepting, other)))


@pytest.mark.parametrize("odd", [None, [], {}, {"nftables": [None, {"rule": None}, {"rule": {"expr": [None]}}]}])
def test_what_is_no_ruleset_has_no_rule(odd: object) -> None:
    assert not has_rule(odd)


def test_the_fragment_says_where_it_goes() -> None:
    assert nftables_fragment().startswith("# for roamroute, on access points")
