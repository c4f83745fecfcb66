"""One measured number, the bar it is held against, and the verdict. What a benchmark returns; see README.md."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import attrs


def _as_tuple(numbers: Iterable[float]) -> tuple[float, ...]:
    return tuple(numbers)


class Comparison(str, Enum):
    """On which side of the bar a good value lies."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


class Verdict(str, Enum):
    """What the runner prints behind a figure."""

    PASS = "PASS"
    FAIL = "FAIL"
    INFO = "INFO"  # no bar: reported only


@attrs.frozen
class Figure:
    """A number with its unit and its bar.

    ``bar`` is in the unit of ``value``; None reports the figure without judging it. ``comparison`` may be given as
    text ("at most", "at least"). ``note`` says in a few words what the number is to be compared with, for instance
    "the plain idea: 20 s". ``samples`` are the raw data, kept in the result file and not printed.

    Raises: ValueError for another ``comparison``.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    comparison: Comparison = attrs.field(default=Comparison.AT_MOST, converter=Comparison)
    note: str = ""
    samples: tuple[float, ...] = attrs.field(default=(), converter=_as_tuple, repr=False)

    @property
    def verdict(self) -> Verdict:
        """Hold the value against the bar; a value equal to the bar passes, one that is not a number fails."""
        if self.bar is None:
            return Verdict.INFO
        if self.comparison is Comparison.AT_MOST:
            return Verdict.PASS if self.value <= self.bar else Verdict.FAIL
        return Verdict.PASS if self.value >= self.bar else Verdict.FAIL
