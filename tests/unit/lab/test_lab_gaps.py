"""roamroute.lab.gaps: from packet records to gaps."""

from __future__ import annotations

import math

import pytest

from roamroute.lab.gaps import flow_gap, median, percentile, worst
from roamroute.lab.traffic import FlowRecord


def flow(*, lost_from: float, lost_until: float, packets: int = 300, interval_s: float = 0.01) -> FlowRecord:
    """A flow from 0 s on, each packet 1 ms under way; those sent in [lost_from, lost_until) never arrive."""
    record = FlowRecord()
    for sequence in range(packets):
        sent = sequence * interval_s
        record.sent.append((sent, sequence))
        if not lost_from <= sent < lost_until:
            record.arrived.append((sent + 0.001, sequence))
    return record


def test_the_gap_runs_from_the_connection_to_the_first_packet_delivered() -> None:
    gap = flow_gap(flow(lost_from=1.0, lost_until=1.2), left_at=0.995, connected_at=1.05, until=3.0)
    assert gap.gap_s == pytest.approx(0.151)


def test_the_outage_runs_from_the_last_packet_before_to_the_first_after() -> None:
    gap = flow_gap(flow(lost_from=1.0, lost_until=1.2), left_at=0.995, connected_at=1.05, until=3.0)
    assert gap.outage_s == pytest.approx(1.201 - 0.991)


def test_losses_are_split_at_the_connection() -> None:
    gap = flow_gap(flow(lost_from=0.995, lost_until=1.195), left_at=0.996, connected_at=1.045, until=3.0)
    assert (gap.lost, gap.lost_after) == (20, 15)


def test_a_packet_that_arrives_late_is_not_lost() -> None:
    record = flow(lost_from=1.0, lost_until=1.2)
    queued = [(1.2005, sequence) for sequence in range(100, 120)]
    record.arrived = sorted(record.arrived + queued)
    gap = flow_gap(record, left_at=0.996, connected_at=1.05, until=3.0)
    assert gap.lost == 0


def test_packets_that_have_waited_since_before_the_client_left_do_not_end_the_gap() -> None:
    record = flow(lost_from=0.9, lost_until=1.2)
    record.arrived = sorted([*record.arrived, (1.06, 95), (1.06, 96)])
    gap = flow_gap(record, left_at=0.996, connected_at=1.05, until=3.0)
    assert gap.gap_s == pytest.approx(0.151)
    assert gap.lost_after == 15


def test_a_roam_that_never_came_back_has_an_infinite_gap() -> None:
    gap = flow_gap(flow(lost_from=1.0, lost_until=9.0), left_at=0.995, connected_at=1.05, until=2.5)
    assert math.isinf(gap.gap_s)
    assert math.isinf(gap.outage_s)
    assert gap.lost_after == 143  # 1.05 to 2.47: what was sent just before the end may have been under way


def test_what_comes_back_after_the_next_roam_began_does_not_count_for_this_one() -> None:
    gap = flow_gap(flow(lost_from=1.0, lost_until=2.0), left_at=0.995, connected_at=1.05, until=1.5)
    assert math.isinf(gap.gap_s)


def test_a_second_interruption_shows_in_the_last_loss() -> None:
    record = flow(lost_from=1.0, lost_until=1.1)
    record.arrived = [(at, sequence) for at, sequence in record.arrived if not 150 <= sequence < 160]
    gap = flow_gap(record, left_at=0.995, connected_at=1.05, until=3.0)
    assert gap.gap_s == pytest.approx(0.051)
    assert gap.last_lost_s == pytest.approx(1.59 - 1.05)


def test_the_worst_of_many_flows_has_the_longest_times_and_all_losses() -> None:
    short = flow_gap(flow(lost_from=1.0, lost_until=1.1), left_at=0.995, connected_at=1.05, until=3.0)
    long = flow_gap(flow(lost_from=1.0, lost_until=1.5), left_at=0.995, connected_at=1.05, until=3.0)
    both = worst([short, long])
    assert (both.gap_s, both.lost) == (long.gap_s, short.lost + long.lost)


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 95) == 95.0
    assert percentile([7.0], 95) == 7.0


def test_a_roam_that_never_came_back_counts_in_the_percentile() -> None:
    assert math.isinf(percentile([0.1] * 10 + [math.inf], 95))


def test_the_median_of_an_even_number_is_between_the_two_in_the_middle() -> None:
    assert median([3.0, 1.0, 2.0, 10.0]) == 2.5


def test_no_values_have_no_median() -> None:
    assert math.isnan(median([]))
    assert math.isnan(percentile([], 95))


def test_where_links_take_time_what_the_client_sent_before_it_left_does_not_end_the_gap() -> None:
    record = flow(lost_from=1.0, lost_until=1.05)
    record.arrived = [(at + 0.06, sequence) for at, sequence in record.arrived]  # the last one before: sent at 0.99
    before = flow_gap(record, left_at=0.985, connected_at=1.035, until=3.0, way_s=0.06)
    assert before.gap_s == pytest.approx(1.051 - 1.035)
    uplink = flow_gap(record, left_at=0.985, connected_at=1.035, until=3.0, way_s=0.06, is_from_client=True)
    assert uplink.gap_s == pytest.approx(1.111 - 1.035)


def test_where_links_take_time_what_is_under_way_at_the_end_is_not_lost() -> None:
    record = flow(lost_from=2.93, lost_until=9.0)
    assert flow_gap(record, left_at=0.995, connected_at=1.05, until=2.99, way_s=0.06).lost_after == 0
    assert flow_gap(record, left_at=0.995, connected_at=1.05, until=2.99).lost_after == 4


def test_a_hole_is_the_longest_time_without_packets_after_the_first_has_arrived() -> None:
    record = flow(lost_from=1.0, lost_until=1.1)
    record.arrived = [(at, number) for at, number in record.arrived if number != 130 and not 150 <= number < 160]
    gap = flow_gap(record, left_at=0.995, connected_at=1.05, until=3.0)
    assert gap.hole_s == pytest.approx(0.11)


def test_a_hole_may_last_until_the_next_roam() -> None:
    gap = flow_gap(flow(lost_from=2.5, lost_until=9.0), left_at=0.995, connected_at=1.05, until=2.905)
    assert gap.hole_s == pytest.approx(2.88 - 2.49)


def test_without_further_losses_there_is_no_hole() -> None:
    assert flow_gap(flow(lost_from=1.0, lost_until=1.1), left_at=0.995, connected_at=1.05, until=3.0).hole_s == 0.0
