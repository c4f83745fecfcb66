"""BIRD in the lab: how its files look and how it is started on a router.

Options: `command` (the program, default bird), `mode` ("kernel" or "inject"), `hello-interval` and `update-interval`
(seconds; default BIRD's own), `link-type` (Babel, default wireless), `tick` (OSPF, whole seconds), `scan-time` (s).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv6Network

import attrs

from roamroute.adapter.programs import command_line
from roamroute.errors import ConfigError, MachineUnfit
from roamroute.export import ExporterContext, LabDaemon, LabRouter
from roamroute_bird import blocks, config
from roamroute_bird.blocks import Conditions, Site
from roamroute_bird.settings import Settings
from roamroute_bird.version import Version, installed_version


@attrs.frozen
class BirdLab:
    """See `roamroute.export.LabRouting`. `routing`: "babel", "ospf" or "ibgp"."""

    routing: str

    def version(self, options: Mapping[str, str]) -> str:
        command = _command(options)
        version = installed_version(command)
        if version is None:
            raise MachineUnfit(f"{' '.join(command)} is not BIRD, or is not installed: apt-get install bird2")
        return f"BIRD {version.text}"

    def prepare(self, router: LabRouter) -> LabDaemon:
        mode = router.options.get("mode", "kernel")
        command = _command(router.options)
        socket, include = router.directory / "bird.ctl", router.directory / "hosts.conf"
        settings = Settings(socket=str(socket), mode=mode, include=str(include), routing=self.routing)
        configuration = router.directory / "bird.conf"
        socket.unlink(missing_ok=True)
        include.touch()
        lines = self._lines(router, settings, installed_version(command))
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        daemon = (*command, "-f", "-c", str(configuration), "-s", str(socket))
        table = {"socket": settings.socket, "mode": mode, "include": settings.include, "routing": self.routing}
        return LabDaemon((daemon,), table, (socket,))

    def _lines(self, router: LabRouter, settings: Settings, version: Version | None) -> Iterator[str]:
        context = ExporterContext(router.client_links, router.roaming_prefixes, router.kernel)
        yield f'log "{router.directory / "bird.log"}" {{ info, remote, warning, error, auth, fatal, bug }};'
        yield f"router id {router.router_address_ipv4};"
        yield "protocol device { }"
        if router.client_links:
            site = _site(router, config.SCAN_TIME_S)
            yield from config.host_lines(settings, context, site)
            yield from config.routing_lines(self.routing, context, site)
            return
        site = _site(router, blocks.NEVER_S if version is not None and version.forgets_kernel_routes else None)
        for family in site.families:
            yield from blocks.kernel(family, site, learns=False, exported="source !~ [ RTS_DEVICE, RTS_STATIC ]")
        yield from _uplink(router)
        yield from self._routing_lines(router, site)

    def _routing_lines(self, router: LabRouter, site: Site) -> Iterator[str]:
        """A router without clients: as an operator would write it."""
        announced = _announced(router)
        yield from blocks.loopback(site)
        match self.routing:
            case "babel":
                yield from blocks.babel(site, announced)
            case "ospf":
                yield from blocks.ospf(site, announced)
            case _:
                yield from blocks.ospf_instance("mesh6", 6, site, {})
                if router.role == "gateway":
                    yield from blocks.reflector(site, _network_of(router), router.router_address, announced)
                else:
                    yield from blocks.bgp(site, announced)


LAB = {f"bird-{routing}": BirdLab(routing) for routing in ("babel", "ospf", "ibgp")}


def _site(router: LabRouter, scan_time_s: int | None) -> Site:
    options = router.options
    babel = [f"type {options.get('link-type', 'wireless')}"]
    ospf = ["type ptp", blocks.RETRANSMIT]  # as printed
    if "hello-interval" in options:
        milliseconds = _milliseconds(options, "hello-interval")
        babel.append(f"hello interval {milliseconds} ms")
        ospf.append(f"hello {max(1, round(milliseconds / 1000))}")  # OSPF has whole seconds only
    if "update-interval" in options:
        babel.append(f"update interval {_milliseconds(options, 'update-interval')} ms")
    return Site(
        mesh=", ".join(f'"{link}"' for link in router.mesh_links),
        reflectors=tuple(str(peer.router_address) for peer in router.others if peer.role == "gateway"),
        babel_options=tuple(babel),
        ospf_options=tuple(ospf),
        scan_time_s=_whole_seconds(options, "scan-time") or scan_time_s,
        tick_s=_whole_seconds(options, "tick"),
    )


def _milliseconds(options: Mapping[str, str], name: str) -> int:
    """Raises: ConfigError for what is no time."""
    try:
        return max(10, round(float(options[name]) * 1000))
    except (ValueError, OverflowError):
        raise ConfigError((f"{name}: must be seconds such as 0.5, not {options[name]!r}",)) from None


def _whole_seconds(options: Mapping[str, str], name: str) -> int | None:
    """None where it is not given. Raises: ConfigError."""
    if name not in options:
        return None
    if not options[name].isdecimal() or not 0 < int(options[name]) <= blocks.NEVER_S:
        raise ConfigError((f"{name}: must be whole seconds from 1 on, not {options[name]!r}",))
    return int(options[name])


def _command(options: Mapping[str, str]) -> tuple[str, ...]:
    return command_line(options.get("command", "bird"))


def _uplink(router: LabRouter) -> Iterator[str]:
    """Static routes only to be announced, in a protocol of their own; the kernel has the real ones."""
    for family in blocks.FAMILIES:
        prefixes = [prefix for prefix in router.announces if prefix.version == family]
        if prefixes:
            routes = " ".join(f"route {prefix} unreachable;" for prefix in prefixes)
            yield f"protocol static uplink{family} {{ ipv{family}; {routes} }}"


def _announced(router: LabRouter) -> Conditions:
    return {
        family: f'proto = "uplink{family}"'
        for family in blocks.FAMILIES
        if any(prefix.version == family for prefix in router.announces)
    }


def _network_of(router: LabRouter) -> IPv6Network:
    """The /64 in which all routers' addresses lie."""
    return IPv6Network((int(router.router_address) >> 64 << 64, 64))
