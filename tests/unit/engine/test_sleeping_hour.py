"""A thousand addresses, nine hundred of them asleep, an hour of virtual time: none is lost, within the budget."""

from __future__ import annotations

from roamroute.policy import Policy
from roamroute.testing.sleepers import Night

BUDGET = Policy(probes_per_second=10.0, probe_burst=5)  # ten addresses for each probe a second, as 10,000 for 1,000
HOUR_S = 3600.0
DEATH_BOUND_S = 1000 / 10.0 + 45.0 + 3 * 3.07 + 2 * 1.0
"""Everybody else's turn, the longest REACHABLE, and three rounds with a pause between."""


def test_in_an_hour_nobody_living_is_lost_and_the_dead_go_in_bounded_time() -> None:
    night = Night(stations=200, addresses_each=5, awake=20, policy=BUDGET, seed=1)
    night.run(HOUR_S / 6)
    night.kill(night.stations[::50])
    night.run(HOUR_S * 5 / 6)
    assert night.lost == []
    assert len(night.withdrawn_after) == 4 * 5
    assert max(night.withdrawn_after) <= DEATH_BOUND_S
    assert len(night.engine.wanted) == 196 * 5
    routine = sum(night.probes.values()) / HOUR_S
    assert 0.9 * 10.0 <= routine <= 1.1 * 10.0, "the budget, and the second rounds of those that missed the first"


def test_who_misses_a_round_would_be_lost_if_one_were_enough() -> None:
    """The test above can fail."""
    night = Night(stations=200, addresses_each=5, awake=20, policy=Policy(probes_per_second=10.0, sleep_rounds=1))
    night.run(600.0)
    assert night.lost
