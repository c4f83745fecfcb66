"""babeld's configuration as far as it decides over our routes: the first rule that matches wins."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from roamroute_babeld.protocol import INFINITY
from roamroute_babeld.rules import Statements, announces_lingering, read_statements

HOST, HOST4 = ip_address("fd44:0:0:1::7"), ip_address("10.44.0.7")


def statements(tmp_path: Path, *files: str, arguments: tuple[str, ...] = ()) -> Statements:
    words = ["babeld", *arguments]
    for number, text in enumerate(files):
        (tmp_path / f"{number}.conf").write_text(text)
        words += ["-c", f"{number}.conf"]
    return read_statements([*words, "e0"], tmp_path)


@pytest.mark.parametrize(
    ("text", "metric", "metric4"),
    [
        ("", None, None),
        ("redistribute proto 144 allow", 0, 0),
        ("redistribute deny\nredistribute proto 144 allow", INFINITY, INFINITY),
        ("redistribute local deny\nredistribute proto 144 allow", 0, 0),
        ("redistribute ip fd44:0:0:1::/64 eq 128 proto 144 metric 7", 7, None),
        ("redistribute ip 10.44.0.0/16 ge 32 proto 144 allow", None, 0),
        ("redistribute ge 128 proto 144 allow", 0, None),
        ("redistribute ip ::/0 le 64 deny\nredistribute proto 144 allow # ours", 0, 0),
        ("redistribute if eth7 deny\nredistribute proto 144 allow", 0, 0),
        ("redistribute ip fd44::/16 allow", 0, None),
        ("redistribute from the moon\nredistribute proto 144 allow", 0, 0),
    ],
)
def test_the_first_rule_that_matches_decides(
    tmp_path: Path, text: str, metric: int | None, metric4: int | None
) -> None:
    found = statements(tmp_path, text)
    decided = [found.decide(host, 144, "wlan0") for host in (HOST, HOST4)]
    assert [rule and rule.metric for rule in decided] == [metric, metric4]


def test_files_count_in_their_order_and_say_where_a_rule_stands(tmp_path: Path) -> None:
    found = statements(tmp_path, "\nredistribute deny\n", "redistribute proto 144 allow\n")
    rule = found.decide(HOST, 144)
    assert rule is not None
    assert (rule.where, rule.text) == (f"{tmp_path}/0.conf:2", "redistribute deny")


def test_options_are_seen_on_the_command_line_and_in_files(tmp_path: Path) -> None:
    found = statements(tmp_path, "allow-duplicates 65534\nkernel-priority 65532\nreflect-kernel-metric true\n")
    assert (found.allow_duplicates, found.kernel_priority, found.reflects_metric) == (65534, 65532, True)
    found = statements(tmp_path, arguments=("-S", "state", "-DA65534", "-C", "redistribute proto 144 allow"))
    assert found.allow_duplicates == 65534
    assert found.decide(HOST, 144) is not None


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    found = read_statements(["babeld", "-c", "nowhere.conf"], tmp_path)
    assert found.unreadable == (f"{tmp_path}/nowhere.conf: No such file or directory",)


@pytest.mark.parametrize(
    ("text", "is_announced"),
    [
        ("redistribute proto 148 metric 49152", True),
        ("redistribute ip fd44::/16 proto 148 metric 49152\nredistribute deny", False),
        ("redistribute proto 144 allow\nredistribute deny", False),
        ("redistribute proto 144 allow", False),
        ("redistribute proto 148 metric 1000", False),
        ("redistribute deny\nredistribute proto 148 metric 49152", False),
    ],
)
def test_a_route_lingers_only_where_babeld_announces_that_in_every_prefix(
    tmp_path: Path, text: str, is_announced: bool
) -> None:
    prefixes = (ip_network("fd44:0:0:1::/64"), ip_network("10.44.0.0/16"))
    assert announces_lingering(statements(tmp_path, text), prefixes, 148) is is_announced
    unreadable = read_statements(["babeld", "-c", "nowhere.conf", "-C", text], tmp_path)
    assert not announces_lingering(unreadable, prefixes, 148)
