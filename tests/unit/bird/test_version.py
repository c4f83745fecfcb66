"""Which BIRD it is, and what is wrong with which."""

from __future__ import annotations

import pytest
from roamroute_bird.version import Version, installed_version


@pytest.mark.parametrize(
    ("older", "newer"), [("2.0.8", "2.0.12"), ("2.0.12", "2.17.5"), ("2.17.5", "3.1.7"), ("1.6.8", "2.0.8")]
)
def test_versions_are_compared_by_number(older: str, newer: str) -> None:
    assert Version(older) < Version(newer)
    assert Version(newer) >= Version(older)


def test_what_a_builder_has_appended_does_not_count() -> None:
    assert Version("2.0.12-17-g0123456").numbers == (2, 0, 12)


@pytest.mark.parametrize(
    ("text", "is_supported"), [("1.6.8", False), ("2.0.7", False), ("2.0.12", True), ("3.1.7", True)]
)
def test_versions_before_2_0_8_are_not_supported(text: str, is_supported: bool) -> None:
    assert Version(text).is_supported is is_supported


def test_only_version_3_forgets_kernel_routes_and_only_old_ones_send_late() -> None:
    assert [Version(text).forgets_kernel_routes for text in ("2.0.12", "2.17.5", "3.1.7")] == [False, False, True]
    assert [Version(text).sends_late for text in ("2.0.12", "2.13.1", "2.14", "3.1.7")] == [True, True, False, False]


def test_a_program_that_is_not_there_has_no_version() -> None:
    assert installed_version(("/nonexistent/bird",)) is None
    assert installed_version(("true",)) is None
