"""FRR in the lab: its files, and how its daemons are started on a router, each router with sockets of its own.

FRR's daemons look for each other in /run/frr, and 10's mgmtd does so whatever its options say: each router has a mount
namespace in which its own folder lies there. Options: `command`, the folder with the programs (default /usr/lib/frr;
`vtysh` from there, or else from the search path), `mode` ("kernel" or "inject"), `hello-interval` (OSPF's, whole
seconds; FRR's own is 10). In iBGP the gateway is the route reflector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import attrs

from roamroute.adapter.programs import with_path, words_of
from roamroute.errors import MachineUnfit
from roamroute.export import LabDaemon, LabPeer, LabRouter
from roamroute.values import Address
from roamroute_frr.config import Site, lines

DEFAULT_FOLDER = "/usr/lib/frr"
USER = ("-u", "root", "-g", "frrvty")
"""FRR gives up the right to write into other users' folders, and the lab's are root's."""
NETLINK_BUFFER = ("-s", "90000000")
"""As Debian starts zebra, which ends itself when a burst of routes overruns the buffer."""
PREPARE = """\
mkdir -p /run/frr
mount --bind "$1" /run/frr
for place in etc var/lib; do test ! -d "/$place/frr" || mount --bind "$1/$place" "/$place/frr"; done
shift
exec "$@"
"""
LOAD = '"$@" && : >loaded'


@attrs.frozen
class FrrLab:
    """See `roamroute.export.LabRouting`. `routing`: "ospf" or "ibgp"."""

    routing: str

    def version(self, options: Mapping[str, str]) -> str:
        folder = _folder(options)
        return f"FRR {'.'.join(str(number) for number in _installed_version(folder))}"

    def prepare(self, router: LabRouter) -> LabDaemon:
        folder = _folder(router.options)
        mode = router.options.get("mode", "kernel")
        directory = router.directory
        names = ["zebra", *(("staticd",) if mode == "inject" else ()), "ospf6d", "ospfd"]
        if self.routing == "ibgp":
            names.append("bgpd")
        if _installed_version(folder)[0] >= 10:
            names.insert(0, "mgmtd")
        for left_over in (*directory.glob("*.vty"), *directory.glob("*.pid"), *directory.glob("*.sock")):
            left_over.unlink()
        (directory / "loaded").unlink(missing_ok=True)
        (directory / "zserv.api").unlink(missing_ok=True)
        etc = directory / "etc"
        etc.mkdir(exist_ok=True)
        (directory / "var/lib").mkdir(parents=True, exist_ok=True)
        (etc / "vtysh.conf").write_text("", encoding="utf-8")
        text = "\n".join(["frr defaults traditional", *lines(self._site(router, mode))])
        (etc / "frr.conf").write_text(text + "\n", encoding="utf-8")
        vtysh = (_vtysh(folder), "--vty_socket", str(directory), "--config_dir", str(etc))
        commands = [daemon_command(folder, name, directory) for name in names]
        commands.append(("sh", "-c", f'cd "$1" && shift && {LOAD}', "sh", str(directory), *vtysh, "-b"))
        return LabDaemon(
            tuple(commands),
            {"command": list(vtysh), "routing": self.routing, "mode": mode},
            (*(directory / f"{name}.vty" for name in names), directory / "loaded"),
        )

    def _site(self, router: LabRouter, mode: str) -> Site:
        reflectors = [peer for peer in router.others if peer.role == "gateway"]
        reflected = router.others if router.role == "gateway" else ()
        hello = router.options.get("hello-interval")
        return Site(
            routing=self.routing,
            mesh_links=router.mesh_links,
            hosts=router.roaming_prefixes if router.client_links else (),
            source="static" if mode == "inject" else "kernel",
            router_id=router.router_address_ipv4 if isinstance(router.router_address_ipv4, IPv4Address) else None,
            originates_default=bool(router.announces),
            reflectors=_addresses(reflectors),
            clients=tuple(ip_network(address) for address in _addresses(reflected)),
            hello_s=max(1, round(float(hello))) if hello is not None else None,
        )


def _addresses(peers: Sequence[LabPeer]) -> tuple[Address, ...]:
    return tuple(address for peer in peers for address in (peer.router_address, peer.router_address_ipv4))


def daemon_command(folder: Path, name: str, directory: Path) -> tuple[str, ...]:
    """How one of FRR's daemons is started with `directory` as its /run/frr: no TCP port, its log on standard output."""
    options = (*USER, "-P", "0", "--log", "stdout", *(NETLINK_BUFFER if name == "zebra" else ()))
    privately = ("unshare", "--mount", "--propagation", "private", "sh", "-ec", PREPARE, "sh", str(directory))
    return (*privately, str(folder / name), *options)


def _folder(options: Mapping[str, str]) -> Path:
    return Path(options.get("command", DEFAULT_FOLDER)).expanduser()


def _vtysh(folder: Path) -> str:
    beside = folder / "vtysh"
    return with_path(str(beside) if beside.exists() else "vtysh")


def _installed_version(folder: Path) -> tuple[int, ...]:
    """Raises: MachineUnfit where there is no FRR."""
    program = folder / "zebra"
    words = words_of([str(program), "--version"])
    found = re.search(r"zebra version (\d+)\.(\d+)(?:\.(\d+))?", words or "")
    if found is None:
        said = "cannot be run" if words is None else f"says {words.strip()[:100]!r}"
        raise MachineUnfit(f"{program} is not FRR's zebra, or is not installed (it {said}): apt-get install frr")
    return tuple(int(number) for number in found.groups() if number is not None)
