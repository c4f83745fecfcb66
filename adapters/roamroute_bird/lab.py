"""BIRD in the lab: how its files look and how it is started on a router.

Options: `command` (the program, default bird), `mode` ("kernel" or "inject"), `hello-interval` and `update-interval`
(seconds; default BIRD's own), `tick` (OSPF, whole seconds).
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Network, ip_network
from pathlib import Path

import attrs

from roamroute.errors import MachineUnfit
from roamroute.export import LabDaemon, LabRouter
from roamroute_bird import blocks
from roamroute_bird.blocks import Site


@attrs.frozen
class BirdLab:
    """See `roamroute.export.LabRouting`. `routing`: "babel", "ospf" or "ibgp"."""

    routing: str

    def version(self, options: Mapping[str, str]) -> str:
        command = _command(options)
        version = installed_version(command)
        if version is None:
            raise MachineUnfit(f"{' '.join(command)} is not BIRD, or is not installed: apt-get install bird2")
        return f"BIRD {version}"

    def prepare(self, router: LabRouter) -> LabDaemon:
        mode = router.options.get("mode", "kernel")
        socket, include = router.directory / "bird.ctl", router.directory / "hosts.conf"
        configuration = router.directory / "bird.conf"
        socket.unlink(missing_ok=True)
        include.touch()
        lines = self._lines(router, mode, include)
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        daemon = (*_command(router.options), "-f", "-c", str(configuration), "-s", str(socket))
        settings = {"socket": str(socket), "mode": mode, "include": str(include), "routing": self.routing}
        return LabDaemon((daemon,), settings, (socket,))

    def _lines(self, router: LabRouter, mode: str, include: Path) -> Iterator[str]:
        site = self._site(router)
        has_hosts = router.role == "access-point"
        exported = blocks.hosts_condition(router.roaming_prefixes) if has_hosts else _exactly(router)
        yield f'log "{router.directory / "bird.log"}" {{ info, remote, warning, error, auth, fatal, bug }};'
        yield blocks.router_id(router.router_address_ipv4 or f"0.0.0.{router.number}")
        yield "protocol device { }"
        yield from blocks.host_sets(router.roaming_prefixes)
        learns = mode == "kernel" or bool(router.announces)
        for family in blocks.FAMILIES:
            import_filter = "none"
            if router.announces:
                import_filter = exported.get(family, "none")
                import_filter = f"where {import_filter}" if family in exported else "none"
            elif has_hosts and mode == "kernel" and family in exported:
                yield from blocks.learn_filter(family, router.kernel)
                import_filter = f"filter {blocks.learn_filter_name(family)}"
            yield from blocks.kernel(family, learns=learns and import_filter != "none", import_filter=import_filter)
        if mode == "inject" and has_hosts:
            yield f'include "{include}";'
        yield from self._routing_lines(router, site, exported)

    def _routing_lines(self, router: LabRouter, site: Site, exported: dict[int, str]) -> Iterator[str]:
        if self.routing == "babel":
            yield from blocks.babel(site, exported)
        elif self.routing == "ospf":
            yield from blocks.ospf(site, exported)
        elif router.role == "gateway":
            yield from blocks.reflector(site, _site_prefix(router), router.router_address, exported)
        else:
            yield from blocks.bgp_over_ospf(site, exported)

    def _site(self, router: LabRouter) -> Site:
        options = router.options
        hello = f"hello {options['hello-interval']}" if "hello-interval" in options else ""
        babel = [f"type {options.get('link-type', 'wireless')}"]
        if "hello-interval" in options:
            babel.append(f"hello interval {options['hello-interval']} s")
        if "update-interval" in options:
            babel.append(f"update interval {options['update-interval']} s")
        return Site(
            mesh=", ".join(f'"{link}"' for link in router.mesh_links),
            reflectors=tuple(str(peer.router_address) for peer in router.others if peer.role == "gateway"),
            ospf_options=tuple(filter(None, ("type ptp", hello))),
            babel_options=tuple(babel),
            tick=int(options["tick"]) if "tick" in options else None,
        )


LAB = {f"bird-{routing}": BirdLab(routing) for routing in ("babel", "ospf", "ibgp")}


def installed_version(command: tuple[str, ...]) -> str | None:
    """Ask the program; None where it is not here. BIRD prints its version on stderr."""
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"BIRD version (\S+)", done.stderr + done.stdout)
    return found[1] if found else None


def _command(options: Mapping[str, str]) -> tuple[str, ...]:
    program, *arguments = shlex.split(options.get("command", "bird")) or [""]
    program = str(Path(program).expanduser())
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")
    return (found or program, *arguments)


def _exactly(router: LabRouter) -> dict[int, str]:
    """The condition for the static prefixes that this router announces, for each family."""
    return {
        family: f"net ~ [ {', '.join(str(prefix) for prefix in router.announces if prefix.version == family)} ]"
        for family in blocks.FAMILIES
        if any(prefix.version == family for prefix in router.announces)
    }


def _site_prefix(router: LabRouter) -> IPv6Network:
    """The /64 in which all routers' addresses lie."""
    prefix = ip_network((int(router.router_address) >> 64 << 64, 64))
    assert isinstance(prefix, IPv6Network)
    return prefix
