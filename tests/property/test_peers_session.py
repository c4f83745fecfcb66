"""The replay window against its plain meaning."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roamroute.peers.allowance import Allowance
from roamroute.peers.sealing import WINDOW, ReplayWindow


@given(counters=st.lists(st.integers(0, 3 * WINDOW) | st.integers(2**64 - WINDOW - 5, 2**64 - 1), max_size=100))
def test_a_counter_is_taken_once_and_only_within_the_window(counters: list[int]) -> None:
    window, seen = ReplayWindow(), set[int]()
    for counter in counters:
        is_fresh = counter not in seen and counter > max(seen, default=-1) - WINDOW
        assert window.is_fresh(counter) == is_fresh
        if is_fresh:
            window.mark(counter)
            seen.add(counter)


@given(pauses=st.lists(st.floats(0, 10, allow_subnormal=False), min_size=1, max_size=200))
def test_an_allowance_never_gives_more_than_its_rate_and_burst(pauses: list[float]) -> None:
    allowance, now, taken = Allowance(rate=2.0, burst=5.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += allowance.take(now)
        assert taken <= 5.0 + 2.0 * now + 1e-6
