"""What is known of a babeld, when a deletion is harmless, and which kick fits."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roamroute_babeld.needs import RESERVED, kick_of, needs_of
from roamroute_babeld.protocol import Line, parse_line
from roamroute_babeld.tables import DORMANT, POISON, Tables
from roamroute_babeld.version import parse_version, quirks_of

OLD, NEW = quirks_of(parse_version("1.12.1")), quirks_of(parse_version("1.13.1"))
HOST6, HOST4 = ip_network("fd44:0:0:1::77/128"), ip_network("10.44.0.77/32")


def xroute(prefix: str, metric: int = 0, change: str = "add") -> Line:
    source = "0.0.0.0/0" if "." in prefix else "::/0"
    return parse_line(f"{change} xroute {prefix}-{source} prefix {prefix} from {source} metric {metric}")


def route(identity: str, prefix: str, metric: int = 96, change: str = "add", router: str = "aa") -> Line:
    source = "0.0.0.0/0" if "." in prefix else "::/0"
    return parse_line(
        f"{change} route {identity} prefix {prefix} from {source} installed yes id {router} metric {metric} "
        "refmetric 0 via fe80::1 if e0"
    )


def tables(*lines: Line) -> Tables:
    filled = Tables()
    for line in lines:
        filled.apply(line)
    return filled


@pytest.mark.parametrize(
    ("exported", "is_harmless6", "is_harmless4"),
    [
        ([], True, True),
        (["fd44:0:0:9::/64"], True, True),
        (["fd44:0:0:1::/64"], False, True),
        (["::/0"], False, True),
        (["0.0.0.0/0"], True, False),
        (["10.44.0.0/16"], True, False),
        (["::/0", "0.0.0.0/0"], False, True),
        (["2000::/3"], True, True),
    ],
)
def test_a_deletion_is_harmless_where_nobody_has_what_is_retracted(
    exported: list[str], is_harmless6: bool, is_harmless4: bool
) -> None:
    """Each was tried with babeld 1.13.1, on the far router (docs/babeld-facts.md)."""
    known = tables(xroute(str(HOST6)), xroute(str(HOST4)), *map(xroute, exported))
    assert known.is_deletion_harmless(HOST6) is is_harmless6
    assert known.is_deletion_harmless(HOST4) is is_harmless4


def test_a_prefix_that_is_only_passed_on_is_harmed_as_well() -> None:
    known = tables(xroute(str(HOST6)), xroute("fd44:0:0:9::/64"), route("1", "fd44:0:0:1::/64"))
    assert not known.is_deletion_harmless(HOST6)


def test_a_host_route_that_ended_is_not_foreign_any_more() -> None:
    known = tables(route("1", str(HOST6)), route("2", str(HOST6), router="bb"))
    assert known.originators(HOST6.network_address) == {("aa", 96), ("bb", 96)}
    known.apply(route("1", str(HOST6), metric=65535, change="change"))
    known.apply(route("2", str(HOST6), change="flush"))
    assert not known.originators(HOST6.network_address)
    assert not list(known.foreign_hosts())


def test_a_parked_host_is_settled_when_another_router_s_usable_route_is_installed() -> None:
    address = HOST6.network_address
    known = tables(xroute(str(HOST6), POISON))
    assert not known.is_settled(address)
    known.apply(route("1", str(HOST6), metric=65535))  # a retracted route stays installed for a while
    assert not known.is_settled(address)
    known.apply(route("1", str(HOST6), change="change"))
    assert known.is_settled(address)
    known.apply(xroute(str(HOST6), DORMANT, change="change"))
    assert not known.is_settled(address)


def test_a_kick_fills_the_buffer_of_1_13() -> None:
    few = kick_of(tables(xroute("fd44::1/128")), NEW)
    assert (len(few.addresses), few.pause_s, few.deletes) == (1, 0, False)
    assert 90 < few.rounds < 110
    assert kick_of(tables(*(route(str(number), f"fd44::{number:x}/128") for number in range(500))), NEW).rounds > 504
    assert kick_of(tables(), NEW, mtu=9000).rounds > 9000 // 16 - 10


def test_a_large_table_is_kicked_by_a_deletion() -> None:
    many = [route(str(number), f"fd44::{number:x}/128") for number in range(5000)]
    for quirks in (OLD, NEW):
        kick = kick_of(tables(*many), quirks)
        assert kick.deletes
        assert kick.pause_s > 0


def test_a_kick_of_1_12_changes_many_routes_at_several_looks() -> None:
    kick = kick_of(tables(), OLD)
    assert len(set(kick.addresses)) == 64
    assert kick.rounds >= 2
    assert kick.pause_s > 0


@pytest.mark.parametrize(
    "exported", ["::/0", "0.0.0.0/0", "fd44:0:0:1::/64", "10.44.0.0/16", "fd44::1/128", "10.0.0.1/32"]
)
def test_the_reserved_route_of_a_kick_can_be_deleted_without_harm(exported: str) -> None:
    known = tables(xroute(exported))
    (address,) = kick_of(known, NEW).addresses
    known.apply(xroute(str(ip_network(address)), 65533))
    assert known.is_deletion_harmless(ip_network(address))
    assert any(address.version == block.version and address in block for block in RESERVED)


def test_without_duplicates_parking_is_short() -> None:
    kick = kick_of(tables(), OLD)
    assert needs_of(kick, frozenset(), has_duplicates=False, demotes=False).parked_for_s < 0.1
    assert needs_of(kick, frozenset(), has_duplicates=False, demotes=False).dormant_after_s is None
    assert needs_of(kick, frozenset(), has_duplicates=True, demotes=False).parked_for_s >= 60


PREFIXES = st.sampled_from(
    ["::/0", "0.0.0.0/0", "fd44::/64", "fd44::1/128", "fd44::2/128", "10.0.0.1/32", "10.0.0.0/8"]
)
CHANGES = st.sampled_from(["add", "change", "flush"])
LINES = st.one_of(
    st.builds(xroute, PREFIXES, st.integers(0, 65535), CHANGES),
    st.builds(route, st.sampled_from("123"), PREFIXES, st.sampled_from([96, 65535]), CHANGES),
)


@given(st.lists(LINES, max_size=40))
def test_what_is_counted_along_the_way_is_what_is_there(lines: Iterable[Line]) -> None:
    known = tables(*lines)
    assert known.slots == len({(line.prefix, line.source) for line in known.routes.values()})
    for address in (ip_address("fd44::1"), ip_address("10.0.0.1")):
        there = {
            (line.router_id, line.metric)
            for line in known.routes.values()
            if line.prefix == ip_network(address) and line.metric < 65535
        }
        assert known.originators(address) == there
    head = known.head()
    assert (head is None) == (not known.xroutes)
    if head is not None:
        lengths = {prefix.prefixlen + (96 if prefix.version == 4 else 0) for prefix, _ in known.xroutes}
        assert head.prefixlen + (96 if head.version == 4 else 0) == min(lengths)
