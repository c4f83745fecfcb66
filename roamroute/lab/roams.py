"""The run: a client joins, roams from access point to access point, and every roam is measured.

A *walk* is one client from its first appearance to its end. The access point that a client has not been at before is
a *first visit*, any other a *return*: returning clients may be known there, to roamroute and to hostapd.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import attrs

from roamroute.lab import addresses
from roamroute.lab.anatomy import Anatomy, find_anatomy
from roamroute.lab.gaps import FlowGap, flow_gap, worst
from roamroute.lab.laboratory import Laboratory
from roamroute.lab.modes import MODES
from roamroute.lab.radio import Client
from roamroute.lab.topology import Router
from roamroute.lab.traffic import DOWNLOAD_END_LIMIT_S, Download, DownloadResult
from roamroute.lab.waiting import NotReached, wait_until

JOIN_LIMIT_S = 20.0
OTHER_ADDRESSES_PER_SECOND = 50.0
CORRESPONDENTS_PER_SECOND = 100.0
"""What is sent to the client's other addresses, and by hosts on the access points: not more, whatever `--pps` says."""
SETTLING_S = 0.1
"""For so long after a roam the lab computes nothing: the machine is for what is measured."""
FIRST_WORDS_PER_SECOND = 10.0
TENTATIVE_LIMIT_S = 5.0
LOST_DOWNLOAD_LIMIT_S = 5.0
"""Where the last roam did not come back, nobody waits long for the end of the download."""

Progress = Callable[[str], None]


@attrs.frozen
class Roam:
    """One roam. `None`: not measured in this run. Gaps are from the layer-2 connection on."""

    mode: str
    behaviour: str
    number: int
    walk: int
    mac: str
    origin: str
    destination: str
    is_same_router: bool
    is_first_visit: bool
    connected_at: float
    layer_2_s: float
    downlink: FlowGap
    all_addresses: FlowGap
    correspondent: FlowGap
    downlink_ipv4: FlowGap | None = None
    uplink: FlowGap | None = None
    stall_s: float | None = None
    handover: Anatomy | None = None
    """None, too, where roamroute does not know of one."""

    @property
    def has_failed(self) -> bool:
        """Did a direction that must work not come back in time? The other addresses are not counted here."""
        gaps = (self.downlink, self.correspondent, self.downlink_ipv4, self.uplink)
        return any(math.isinf(gap.gap_s) for gap in gaps if gap is not None)


@attrs.frozen
class Walk:
    """One client: when its addresses were first reached after it had joined, and its download."""

    mode: str
    behaviour: str
    number: int
    joined_after_s: float
    """From the layer-2 connection to the first packet to the main address; includes duplicate address detection."""
    download: DownloadResult | None = None


@attrs.define
class _Moment:
    """What is known of a roam before its packets are counted."""

    number: int
    origin: Router
    destination: Router
    is_first_visit: bool
    left_at: float
    connected_at: float
    handover: Anatomy | None = None
    is_told: bool = False


@attrs.define
class _Flows:
    """The flow numbers of one walk. `uplink` is the main address's."""

    downlink: int = 0
    others: tuple[int, ...] = ()
    ipv4: int | None = None
    correspondents: dict[str, int] = attrs.field(factory=dict)
    uplink: int | None = None


class WalkRun:
    """One walk in a laboratory."""

    def __init__(
        self, lab: Laboratory, mode: str, behaviour: str, number: int, choice: random.Random, progress: Progress
    ) -> None:
        self._lab = lab
        self._mode = mode
        self._behaviour = behaviour
        self._number = number
        self._choice = choice
        self._progress = progress
        self._client: Client = lab.new_client()
        self._flows = _Flows()
        self._visited: set[str] = set()
        self._moments: list[_Moment] = []
        self._is_back = True

    def run(self, length: int, first_number: int, walks: list[Walk], roams: list[Roam]) -> None:
        """Join, roam `length` times, and count the packets."""
        joined_after = self._join()
        download = self._start_download() if self._behaviour == "talking" else None
        try:
            for number in range(first_number, first_number + length):
                self._roam(number)
        finally:
            ended = time.monotonic()
            limit_s = DOWNLOAD_END_LIMIT_S if self._is_back else LOST_DOWNLOAD_LIMIT_S
            result = download.finish(limit_s) if download is not None else None
            self._ask_for_handovers(is_last_time=True)
            if self._lab.options.log_directory is not None:
                self._lab.write_routes(f"{self._mode}-{self._behaviour}-walk-{self._number}.txt")
            self._stop_flows()
            self._client.leave()
            walks.append(Walk(self._mode, self._behaviour, self._number, joined_after, result))
            roams.extend(self._measured(ended, result))

    def _join(self) -> float:
        """The first appearance: the client speaks from every address until each has been reached."""
        lab, client = self._lab, self._client
        start = lab.mesh.access_points[0]
        self._attach(start)
        wait_until(lambda: not self._has_tentative_addresses(), "addresses have passed DAD", TENTATIVE_LIMIT_S)
        words = self._start_flows()
        wanted: tuple[int, ...] = (self._flows.downlink, *self._flows.correspondents.values())
        if MODES[self._mode].has_packet_source:
            wanted += self._flows.others
        what = f"client {self._number} is reached after it has joined {start.name}"
        try:
            wait_until(lab.traffic.have_reached(wanted, client.connected_at), what, JOIN_LIMIT_S)
        except NotReached:
            lab.write_routes(f"{self._mode}-{self._behaviour}-join.txt")
            lab.raise_if_ended()
            raise
        for flow in words:
            lab.traffic.far.stop(flow)
        first = lab.traffic.flows[self._flows.downlink].arrived[0][0]
        if self._behaviour == "talking":
            rate = lab.options.packets_per_second
            self._flows.uplink = lab.traffic.start_flow(
                lab.traffic.far, client.namespace, client.main_address, addresses.SERVER, rate
            )
        self._sleep_until(time.monotonic() + lab.options.dwell_s)
        return first - client.connected_at

    def _roam(self, number: int) -> None:
        origin = self._client.access_point
        assert origin is not None
        destination, is_first_visit = self._next_stop(origin)
        self._client.leave(is_polite=self._lab.options.is_polite)
        self._attach(destination)
        moment = _Moment(number, origin, destination, is_first_visit, self._client.left_at, self._client.connected_at)
        self._moments.append(moment)
        visit = "first visit" if is_first_visit else "return"
        self._is_back = True
        self._sleep_until(moment.connected_at + SETTLING_S)
        try:
            is_back = self._lab.traffic.have_reached(self._wanted_after(origin), moment.left_at)
            wait_until(is_back, "all came back", self._lab.options.limit_s, poll_s=0.05)
        except NotReached:
            self._is_back = False
            self._lab.write_routes(f"{self._mode}-{self._behaviour}-{number}.txt")
            self._lab.raise_if_ended()
        took = time.monotonic() - moment.connected_at
        came_back = "came back" if self._is_back else "did not come back"
        self._progress(
            f"{self._mode}, {self._behaviour}, roam {number}: {origin.name} to {destination.name} ({visit}): "
            f"{came_back} within {took:.1f} s"
        )
        pause = self._lab.options.dwell_s * self._choice.uniform(0.75, 1.25)  # not in step with anybody's timers
        self._sleep_until(moment.connected_at + pause - 2 * SETTLING_S)
        self._ask_for_handovers()
        self._sleep_until(max(moment.connected_at + pause, time.monotonic() + SETTLING_S))

    def _ask_for_handovers(self, *, is_last_time: bool = False) -> None:
        """Take what the access points know by now; of earlier roams too, for routing may have converged since.

        A handover is printed when nothing of it is awaited any more, or at the last time.
        """
        records = self._lab.handover_records()
        since_1970 = time.time() - time.monotonic()
        for moment in self._moments:
            connected_at = moment.connected_at + since_1970
            found = find_anatomy(records, moment.destination.name, self._client.mac, connected_at, self._lab.mesh.names)
            moment.handover = found or moment.handover
        for moment in self._moments:
            if moment.handover is None or moment.is_told:
                continue
            if is_last_time or moment.handover.outcome is not None:
                moment.is_told = True
                self._progress(f"    {self._mode}, {self._behaviour}, roam {moment.number}: {moment.handover.text()}")

    def _wanted_after(self, origin: Router) -> tuple[int, ...]:
        flows = self._flows
        wanted = [flows.downlink, flows.correspondents[origin.name]]
        wanted += [flow for flow in (flows.ipv4, flows.uplink) if flow is not None]
        if not MODES[self._mode].is_reference:
            wanted += flows.others
        return tuple(wanted)

    def _attach(self, access_point: Router) -> None:
        self._client.attach(access_point)
        self._visited.add(access_point.name)
        if self._lab.by_hand is not None:
            self._lab.by_hand.place(self._client_addresses(), access_point)

    def _client_addresses(self) -> list[object]:
        ipv4 = self._client.address_ipv4
        return [*self._client.addresses, *([ipv4] if ipv4 is not None else [])]

    def _next_stop(self, origin: Router) -> tuple[Router, bool]:
        others = [candidate for candidate in self._lab.mesh.access_points if candidate is not origin]
        unvisited = [candidate for candidate in others if candidate.name not in self._visited]
        return self._choice.choice(unvisited or others), bool(unvisited)

    def _has_tentative_addresses(self) -> bool:
        return "tentative" in self._client.namespace.run("ip", "-6", "addr", "show", "dev", addresses.CLIENT_LINK)

    def _start_flows(self) -> list[int]:
        """Start what goes to the client; returns the flows of its first words, which stop when it has been reached."""
        traffic, client, server = self._lab.traffic, self._client, self._lab.mesh.server
        rate = self._lab.options.packets_per_second
        self._flows.downlink = traffic.start_flow(traffic.near, server, addresses.SERVER, client.main_address, rate)
        self._flows.others = tuple(
            traffic.start_flow(
                traffic.near, server, addresses.SERVER, address, min(rate / 2, OTHER_ADDRESSES_PER_SECOND)
            )
            for address in client.addresses[1:]
        )
        for name, host in self._lab.correspondents.items():
            self._flows.correspondents[name] = traffic.start_flow(
                traffic.side, host.namespace, host.address, client.main_address, min(rate, CORRESPONDENTS_PER_SECOND)
            )
        words = [
            traffic.start_flow(traffic.far, client.namespace, address, addresses.SERVER, FIRST_WORDS_PER_SECOND)
            for address in client.addresses
        ]
        if client.address_ipv4 is not None:
            self._flows.ipv4 = traffic.start_flow(
                traffic.near, server, addresses.SERVER_IPV4, client.address_ipv4, rate
            )
            words.append(
                traffic.start_flow(
                    traffic.far, client.namespace, client.address_ipv4, addresses.SERVER_IPV4, FIRST_WORDS_PER_SECOND
                )
            )
        return words

    def _stop_flows(self) -> None:
        flows, traffic = self._flows, self._lab.traffic
        near = [flows.downlink, *flows.others, *([flows.ipv4] if flows.ipv4 is not None else [])]
        for flow in near:
            traffic.near.stop(flow)
        for flow in flows.correspondents.values():
            traffic.side.stop(flow)
        if flows.uplink is not None:
            traffic.far.stop(flows.uplink)

    def _start_download(self) -> Download:
        client, lab = self._client, self._lab
        download = Download(
            lab.sandbox,
            lab.mesh.server,
            addresses.SERVER,
            client.namespace,
            client.main_address,
            lab.options.download_bytes_per_second,
        )
        wait_until(download.has_begun, "the download has begun", JOIN_LIMIT_S)
        return download

    def _measured(self, ended: float, result: DownloadResult | None) -> Iterator[Roam]:
        self._lab.traffic.read()
        flows = self._lab.traffic.flows
        ends = [following.left_at for _, following in pairwise(self._moments)] + [ended]
        for moment, until in zip(self._moments, ends, strict=True):
            mesh = self._lab.mesh

            def gap(flow: int, moment: _Moment = moment, until: float = until, way_s: float = mesh.way_s) -> FlowGap:
                is_uplink = flow == self._flows.uplink
                return flow_gap(
                    flows[flow], moment.left_at, moment.connected_at, until, way_s=way_s, is_from_client=is_uplink
                )

            ipv4, uplink = self._flows.ipv4, self._flows.uplink
            yield Roam(
                mode=self._mode,
                behaviour=self._behaviour,
                number=moment.number,
                walk=self._number,
                mac=self._client.mac,
                origin=moment.origin.name,
                destination=moment.destination.name,
                is_same_router=mesh.router_of(moment.origin) is mesh.router_of(moment.destination),
                is_first_visit=moment.is_first_visit,
                connected_at=moment.connected_at,
                layer_2_s=moment.connected_at - moment.left_at,
                downlink=gap(self._flows.downlink),
                all_addresses=worst([gap(flow) for flow in (self._flows.downlink, *self._flows.others)]),
                correspondent=gap(self._flows.correspondents[moment.origin.name], way_s=mesh.longest_way_s),
                downlink_ipv4=gap(ipv4) if ipv4 is not None else None,
                uplink=gap(uplink) if uplink is not None else None,
                stall_s=result.longest_stall_s(moment.left_at, until) if result is not None else None,
                handover=moment.handover,
            )

    def _sleep_until(self, moment: float) -> None:
        time.sleep(max(0.0, moment - time.monotonic()))


def run_mode(lab: Laboratory, mode: str, progress: Progress, walks: list[Walk], roams: list[Roam]) -> None:
    """All walks of one mode, every behaviour in turn; they are added to `walks` and `roams` as they end.

    An interrupted walk is measured up to its last roam.
    """
    options = lab.options
    with lab.mode(mode):
        for behaviour in options.behaviours:
            # The same seed in every mode: what is compared are the same ways.
            choice = random.Random(f"{options.seed} {behaviour}")
            done = 0
            while done < options.roams_in(mode):
                left = options.roams_in(mode) - done
                # With first visits asked for: every access point once, then as many returns, then a fresh client.
                length = min(left, 2 * (options.access_points - 1)) if options.first_visits else left
                WalkRun(lab, mode, behaviour, len(walks) + 1, choice, progress).run(length, done + 1, walks, roams)
                done += length
