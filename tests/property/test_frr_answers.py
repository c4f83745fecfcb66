"""Any text from vtysh gives values or the one named error."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from frr_transcripts import INJECT, KERNEL, VERSIONS, conversation
from hypothesis import given
from hypothesis import strategies as st
from roamroute_frr import answers
from roamroute_frr.vtysh import parse_json, refusal, without_warnings

from roamroute.errors import MalformedInput

READERS: list[Callable[[Any], object]] = [
    lambda answer: list(answers.rib(answer)),
    answers.external6,
    answers.redistributed6,
    answers.external4,
    answers.bgp_ways,
    answers.bgp_originated,
    answers.bgp_established,
]
RECORDED = [answer for version in VERSIONS for scene in (KERNEL, INJECT) for _, answer in conversation(version, scene)]
DOCUMENTS = [json.loads(answer) for answer in RECORDED if answer.startswith("{")]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["", "fd44::1/128", "10.0.0.1", "0.0.0.1", "kernel", "::", "(unspec)", "Established", "x" * 300]),
    st.text(max_size=10),
)
keys = sorted(
    {"routes", "paths", "peers", "peer", "peerId", "lsa", "lsaAge", "age", "id", "destination", "nexthops", "ip", "tag"}
    | {"asScopedLinkStateDb", "asExternalLinkStates", "AS External Link States", "linkStateId", "networkMask", "prefix"}
    | {"payload", "advertisedTo", "bestpath", "sourced", "protocol", "interfaceName", "fd44::1/128", "state"}
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(keys), inner, max_size=5)),
    max_leaves=25,
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A recorded answer in which something was replaced."""
    document = json.loads(json.dumps(draw(st.sampled_from(DOCUMENTS))))
    place = document
    while isinstance(place, dict | list) and place:
        key = draw(st.sampled_from(sorted(place))) if isinstance(place, dict) else draw(st.integers(0, len(place) - 1))
        if not isinstance(place[key], dict | list) or not place[key] or draw(st.integers(0, 4)) == 0:
            place[key] = draw(documents)
            break
        place = place[key]
    return document


@given(st.one_of(documents, damaged()), st.sampled_from(READERS))
def test_any_document_is_read_or_refused(document: Any, reader: Callable[[Any], object]) -> None:
    with contextlib.suppress(MalformedInput):
        reader(document)


lines = st.one_of(
    st.sampled_from([line for answer in RECORDED for line in answer.splitlines()]),
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.sampled_from(
        [
            "ip route 10.0.0.1/32 wlan0 tag",
            "ipv6 route x y z w",
            "router",
            "router bgp",
            " address-family",
            " redistribute",
        ]
    ),
)


@given(st.lists(lines, max_size=20))
def test_any_configuration_is_read(text: list[str]) -> None:
    configuration = "\n".join(text)
    assert all(static.prefix.prefixlen in (32, 128) and static.tag >= 0 for static in answers.statics(configuration))
    assert all(version in (4, 6) for _, version, _ in answers.redistributions(configuration))
    answers.version(configuration)
    answers.daemons(configuration)


@given(st.lists(lines, max_size=10))
def test_a_refusal_is_one_line_and_empty_only_when_there_is_none(text: list[str]) -> None:
    answer = "\n".join(text)
    assert "\n" not in refusal(answer)
    if any(line.startswith("% ") and line.strip("% \t") for line in answer.splitlines()):
        assert refusal(answer)
    assert "Warning: connecting to" not in without_warnings(answer)


@given(st.one_of(st.text(), st.sampled_from(RECORDED), st.sampled_from(["[" * 100_000, "1" * 5000, '{"a":NaN}'])))
def test_any_text_is_json_or_refused(text: str) -> None:
    with contextlib.suppress(MalformedInput):
        parse_json(text)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_answer_in_json_is_json_behind_the_warnings(version: str) -> None:
    for scene in (KERNEL, INJECT):
        for line, answer in conversation(version, scene):
            if line.endswith("json") and not refusal(without_warnings(answer)):
                assert isinstance(parse_json(without_warnings(answer)), dict)
