"""The exporter called `frr`: confirms what FRR announces, tells of foreign routes, in mode "inject" brings ours.

In mode "kernel" the routes are in the kernel whether FRR runs or not; a zebra that starts finds them there. In mode
"inject" they are FRR's static routes, lost when staticd or mgmtd restarts, and brought again.
"""

from __future__ import annotations

from roamroute.adapter.asking import AskingExporter
from roamroute.export import ExporterContext, Problem
from roamroute.values import Address
from roamroute_frr.confirmation import DAEMONS, Confirmation, Obstacle, Standing
from roamroute_frr.inject import Injector
from roamroute_frr.settings import Settings
from roamroute_frr.vtysh import Vtysh

FRAGMENT = "compare FRR's configuration with what `roamroute config frr` prints, or run `roamroute check`"


LINGERING_METRIC = 4096
"""The kernel's metric of a route whose host has moved on. zebra takes it over, bgpd makes it the MED: the new access
point's route is better. With the same MED a route reflector shares its load between both (maximum-paths, bgpd's
default) and tells others of one: half of the packets go in circles. A static route, in mode "inject", has no metric."""


class Frr(Confirmation):
    """See `roamroute.adapter.asking.Daemon` for the contract of the methods."""

    def __init__(self, settings: Settings, context: ExporterContext) -> None:
        self._vtysh = Vtysh(settings.command)
        super().__init__(settings, context, self._vtysh)

    async def remind(self) -> None:
        await self.number()

    def trouble(self) -> Problem | None:
        if self._settings.routing and self.absent_daemons:
            names = " and ".join(self.absent_daemons)
            return Problem(f"{names} not running", f"{names} = yes in /etc/frr/daemons; systemctl restart frr")
        if self._vtysh.no_terminal:
            text = f"vtysh cannot be kept open, every question starts one: {self._vtysh.no_terminal}"
            return Problem(text, "does vtysh show its prompt when you start it by hand? is /dev/pts mounted?")
        return None

    def problem(self, address: Address, standing: Standing) -> Problem:
        names = " or ".join(DAEMONS[name] for name in self.protocols)
        match standing.obstacle:
            case Obstacle.ABSENT if self._settings.injects:
                text = f"FRR's zebra does not have our static route for {address}"
                return Problem(text, "is the interface up, and staticd running? ip link; vtysh -c 'show daemons'")
            case Obstacle.ABSENT:
                text = f"FRR's zebra does not have our kernel route for {address}"
                return Problem(text, "zebra reads the main table only: is kernel.table 254, and the interface up?")
            case Obstacle.NO_DAEMON:
                return Problem(f"{names} not running", "switch it on in /etc/frr/daemons; systemctl restart frr")
            case Obstacle.NO_CARRIER:
                text = f"no routing protocol of FRR has `redistribute {self.source}` for IPv{address.version}"
                return Problem(text, f"{names}: {FRAGMENT}")
            case Obstacle.NO_SESSION:
                text = f"bgpd has our route for {address} and announces it to nobody"
                return Problem(text, "is a session up? vtysh -c 'show bgp summary'; the neighbour must be activated")
            case _:
                carriers = " and ".join(DAEMONS[name] for name in self.carriers(address.version))
                text = f"zebra has our route for {address}, and {carriers} does not announce it"
                return Problem(text, f"the route-map of `redistribute {self.source}` must permit it: {FRAGMENT}")

    async def close(self) -> None:
        await self._vtysh.close()


def create(settings: Settings, context: ExporterContext) -> AskingExporter[Standing]:
    """The exporter for one FRR."""
    frr = Frr(settings, context)
    injector = Injector(settings, context, frr.static_routes) if settings.injects else None
    remedy = (
        "systemctl start frr; roamroute must be in the group frrvty, or reach vtysh by sudo (exporters.frr.command); "
        f'try {" ".join(settings.command)} -c "show version"'
    )
    return AskingExporter(
        "frr",
        context,
        frr,
        injector,
        remedy=remedy,
        lingering_metric=LINGERING_METRIC,
        is_lingering=not settings.injects,
    )
