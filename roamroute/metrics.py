"""A Prometheus endpoint, loaded only when `[metrics]` is configured (prometheus_client: +40 ms, +4.5 MiB)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

import attrs

from roamroute.config import MetricsSection
from roamroute.errors import MachineUnfit
from roamroute.records import BUCKETS_S
from roamroute.values import Address

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from roamroute.daemon import Daemon
    from roamroute.discovery import Discovery
    from roamroute.linux.table_watch import TableWatch
    from roamroute.peering import Peering


async def serve_metrics(daemon: Daemon, section: MetricsSection) -> None:
    """Serve `/metrics` until cancelled.

    Raises: MachineUnfit when prometheus_client is not installed, or the address cannot be used.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    except ImportError:
        raise MachineUnfit("[metrics] needs prometheus_client: pip install 'roamroute[metrics]'") from None

    class Collector:
        def collect(self) -> Iterator[Metric]:
            report = daemon.exporter.report()
            for name, text, value in (
                ("wanted", "host routes the engine wants", len(daemon.engine.wanted)),
                ("installed", "host routes in the kernel", _count(daemon.installed)),
                ("exported", "host routes the routing daemon confirms", _count(report.exported)),
                ("parked", "withdrawn routes that are still announced as unreachable", len(daemon.fib.parked)),
            ):
                yield GaugeMetricFamily(f"roamroute_routes_{name}", text, value=value)
            yield GaugeMetricFamily("roamroute_hosts", "hosts that are here or remembered", len(daemon.engine.hosts))
            yield GaugeMetricFamily("roamroute_exporter_up", "1 when the routing daemon answers", report.is_connected)
            if daemon.peering is not None:
                up = sum(peer.is_up for peer in daemon.peering.channel.status().peers)
                yield GaugeMetricFamily("roamroute_peers_up", "peers with a session", up)
                yield from self._handovers(daemon.peering)
            yield from self._neighbour_table(daemon.neighbours.watch)
            if daemon.discovery is not None:
                yield from self._discovery(daemon.discovery)
            counted = CounterMetricFamily("roamroute_handled", "events and effects by kind", labels=["kind"])
            for kind, count in daemon.onlookers.counters.copy().items():
                counted.add_metric([kind], count)
            yield counted

        def _handovers(self, peering: Peering) -> Iterator[Metric]:
            forwarding = peering.why_not is None
            yield GaugeMetricFamily("roamroute_forwarding", "1 when packets can be sent on to peers", value=forwarding)
            handovers = peering.handovers
            text = "from the beginning of a handover to each step, as either side saw it"
            steps = HistogramMetricFamily("roamroute_handover_seconds", text, labels=["side", "step"])
            for (side, step), histogram in () if handovers is None else handovers.histograms.copy().items():
                limits = [*map(str, BUCKETS_S), "+Inf"]
                buckets = list(zip(limits, accumulate(histogram.counts), strict=True))
                steps.add_metric([side.value, step], buckets, histogram.sum_s)
            yield steps

        def _neighbour_table(self, watch: TableWatch) -> Iterator[Metric]:
            entries = GaugeMetricFamily("roamroute_neighbour_table_entries", "of the whole machine", labels=["version"])
            limit = GaugeMetricFamily("roamroute_neighbour_table_limit", "gc_thresh3", labels=["version"])
            for version, table in sorted(watch.tables.items()):
                entries.add_metric([str(version)], table.entries)
                limit.add_metric([str(version)], table.hard_limit)
            yield entries
            yield limit
            text = "times in which the kernel refused new neighbours"
            yield CounterMetricFamily("roamroute_neighbour_table_overflows", text, value=watch.episodes)

        def _discovery(self, discovery: Discovery) -> Iterator[Metric]:
            tap = discovery.tap
            heard = {
                "heard": tap.heard_messages,
                "malformed": tap.malformed_frames,
                "dropped": tap.dropped_frames,
                "muted": tap.muted_stations,
            }
            parts = [("tap", "frames of neighbour discovery on the client links; stations muted", heard)]
            if discovery.dad is not None:
                parts.append(("dad", "what the DAD proxy has done", attrs.asdict(discovery.dad.counters)))
            if discovery.advertiser is not None:
                text = "the router lifetime that is advertised; 0: this is no default router now"
                yield GaugeMetricFamily("roamroute_ra_lifetime_seconds", text, value=discovery.advertiser.lifetime_s)
                parts.append(("ra", "router advertisements by reason", discovery.advertiser.counters))
            for name, text, counters in parts:
                counted = CounterMetricFamily(f"roamroute_{name}", text, labels=["what"])
                for what, count in dict(counters).items():
                    counted.add_metric([what], count)
                yield counted

    registry = CollectorRegistry()
    registry.register(Collector())
    try:
        server, thread = start_http_server(section.port, str(section.address), registry)
    except OSError as error:
        where = f"[{section.address}]:{section.port}"
        raise MachineUnfit(f"cannot serve metrics on {where}: {error.strerror} (see [metrics])") from None
    try:
        await asyncio.Event().wait()
    finally:
        server.shutdown()
        thread.join()


def _count(addresses: Collection[Address] | None) -> float:
    return float("nan") if addresses is None else len(addresses)
