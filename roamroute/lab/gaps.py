"""From packet records to gaps: what a roam cost one flow. Pure; times are seconds of one monotonic clock.

A *gap* is the time from the layer-2 connection at the new access point to the first packet delivered of those sent
since the client left; with packets every 2 ms it is known to within 2 ms. Older packets tell nothing about the way:
some may have waited at this access point since the client was here before. The *outage* is the time from the last
packet delivered before the client left to that first one: it includes the time without layer 2.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Container, Sequence

import attrs

from roamroute.lab.traffic import FlowRecord

IN_FLIGHT_S = 0.02
"""Less than the time that layer 2 is down, more than a packet needs through the mesh where links take no time."""
LATE_S = 5.0
"""A packet that comes so late is lost."""
SWAPPED_PACKETS = 100
"""A packet is not overtaken by more."""


@attrs.frozen
class FlowGap:
    """What one roam cost one flow. `gap_s` and `outage_s` are infinite when no packet arrived until `until`.

    `lost` counts packets sent from leaving on, `lost_after` those of them that were sent after the layer-2 connection;
    `last_lost_s` is when the last one of them was sent, after the connection: later than the gap means that packets
    got lost again after the first had arrived. `hole_s` is the longest time without a packet that arrives, by when they
    were sent, after the first that was sent after the connection and arrived; 0 where none was lost since.
    """

    gap_s: float
    outage_s: float
    lost: int
    lost_after: int
    last_lost_s: float
    hole_s: float = 0.0


def flow_gap(
    flow: FlowRecord,
    left_at: float,
    connected_at: float,
    until: float,
    *,
    way_s: float = 0.0,
    is_from_client: bool = False,
) -> FlowGap:
    """What the roam that left at `left_at` and connected at `connected_at` cost; `until`: just before the next one.

    `way_s`: what the links of the mesh take from a packet of this flow. Where the client sends, packets that left it in
    time still arrive for so long.
    """
    begin = bisect.bisect_left(flow.sent, (left_at, 0))
    first_sequence = flow.sent[begin][1] if begin < len(flow.sent) else math.inf
    quiet_from = left_at + IN_FLIGHT_S + (way_s if is_from_client else 0.0)
    first_index = bisect.bisect_left(flow.arrived, (quiet_from, 0))
    later = itertools.islice(flow.arrived, first_index, None)
    first = next((moment for moment, sequence in later if sequence >= first_sequence), math.inf)
    if first > until:
        first = math.inf
    last_before = flow.arrived[first_index - 1][0] if first_index else left_at
    last_index = bisect.bisect_left(flow.arrived, (until + LATE_S, 0))
    begin_index = max(0, bisect.bisect_left(flow.arrived, (left_at, 0)) - SWAPPED_PACKETS)
    arrived = {sequence for _, sequence in flow.arrived[begin_index:last_index]}
    end = bisect.bisect_left(flow.sent, (until - IN_FLIGHT_S - way_s, 0))
    lost = [moment for moment, sequence in flow.sent[begin:end] if sequence not in arrived]
    lost_after = [moment for moment in lost if moment >= connected_at]
    return FlowGap(
        gap_s=max(0.0, first - connected_at),
        outage_s=first - last_before,
        lost=len(lost),
        lost_after=len(lost_after),
        last_lost_s=lost_after[-1] - connected_at if lost_after else 0.0,
        hole_s=_longest_hole(flow.sent[bisect.bisect_left(flow.sent, (connected_at, 0)) : end], arrived),
    )


def worst(gaps: Sequence[FlowGap]) -> FlowGap:
    """One for many flows: the longest of each time, the sum of the losses."""
    return FlowGap(
        gap_s=max(gap.gap_s for gap in gaps),
        outage_s=max(gap.outage_s for gap in gaps),
        lost=sum(gap.lost for gap in gaps),
        lost_after=sum(gap.lost_after for gap in gaps),
        last_lost_s=max(gap.last_lost_s for gap in gaps),
        hole_s=max(gap.hole_s for gap in gaps),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; NaN for no values. Infinite values, roams that never came back, count."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two; NaN for no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _longest_hole(sent: Sequence[tuple[float, int]], arrived: Container[int]) -> float:
    """The longest time that lost packets of `sent` leave between two that arrived, or at the end."""
    longest, last, is_open = 0.0, math.inf, False
    for moment, sequence in sent:
        is_lost = sequence not in arrived
        if is_open or is_lost:
            longest = max(longest, moment - last)
        if not is_lost:
            last = moment
        is_open = is_lost
    return longest
