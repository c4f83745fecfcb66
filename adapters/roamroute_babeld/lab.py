"""babeld in the lab: how its files look and how it is started on a router.

Options: `command` (the program, default babeld), `hello-interval` (seconds, default babeld's own 4 s).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from roamroute.adapter.programs import command_line
from roamroute.errors import MachineUnfit
from roamroute.export import ExporterContext, LabDaemon, LabRouter
from roamroute.values import Prefix
from roamroute_babeld.fragment import DUPLICATES, installed_version, render
from roamroute_babeld.settings import Settings
from roamroute_babeld.version import quirks_of


class BabeldLab:
    """See `roamroute.export.LabRouting`."""

    def version(self, options: Mapping[str, str]) -> str:
        command = _command(options)
        version = installed_version(command)
        if version is None:
            raise MachineUnfit(f"{' '.join(command)} is not babeld, or is not installed: apt-get install babeld")
        return f"babeld {version}"

    def prepare(self, router: LabRouter) -> LabDaemon:
        command = _command(router.options)
        version = installed_version(command)
        quirks = quirks_of(version)
        socket = str(router.directory / "babeld.sock")
        (router.directory / "babeld.sock").unlink(missing_ok=True)
        (router.directory / "babeld.pid").unlink(missing_ok=True)
        files = []
        if router.client_links:
            context = ExporterContext(router.client_links, router.roaming_prefixes, router.kernel)
            files.append(router.directory / "babeld.roamroute.conf")
            files[-1].write_text(render(Settings(socket=socket, version=version), context, version), encoding="utf-8")
        files.append(router.directory / "babeld.conf")
        files[-1].write_text("\n".join(_own_lines(router, socket)) + "\n", encoding="utf-8")
        duplicates = ("-A", str(DUPLICATES)) if quirks.aborts_on_duplicates and router.client_links else ()
        arguments = [word for file in files for word in ("-c", str(file))]
        files_of_state = ("-S", str(router.directory / "babeld.state"), "-I", str(router.directory / "babeld.pid"))
        daemon = (*command, *files_of_state, *duplicates, *arguments, *router.mesh_links)
        return LabDaemon((daemon,), {"socket": socket})


def _command(options: Mapping[str, str]) -> tuple[str, ...]:
    return command_line(options.get("command", "babeld"))


def _own_lines(router: LabRouter, socket: str) -> Iterator[str]:
    """What an operator would write for this router, with a last rule that denies, as many do."""
    hello = router.options.get("hello-interval")
    if hello is not None:
        yield f"default hello-interval {hello}"
    yield f"default type {router.options.get('link-type', 'wireless')}"
    yield f"local-path {socket}"
    yield f"redistribute local ip {router.router_address}/{router.router_address.max_prefixlen} allow"
    yield "redistribute local deny"
    for prefix in router.announces:
        yield f"redistribute {_exactly(prefix)} allow"
    yield "redistribute deny"


def _exactly(prefix: Prefix) -> str:
    return f"ip {prefix} eq {prefix.prefixlen}"
