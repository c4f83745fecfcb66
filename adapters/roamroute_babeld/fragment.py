"""`roamroute config babeld`: a file for one more `-c`, in front of the operator's own configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from roamroute.adapter.programs import command_line, words_of
from roamroute.export import ExporterContext
from roamroute.values import Prefix
from roamroute_babeld.needs import RESERVED
from roamroute_babeld.settings import Settings
from roamroute_babeld.tables import DORMANT, LINGERING, POISON
from roamroute_babeld.version import Version, parse_version, quirks_of

DUPLICATES = 65534
"""The most that babeld takes; `redistribute` metrics below it do not keep a foreign route from being installed."""
KERNEL_PRIORITY = POISON
"""Makes babeld send a parked route's poison rather than another router's route. It is also the kernel metric of
babeld's routes: worse than ours, better than parked ones. (The default, 0, is better than ours for IPv4.)"""


def fragment(settings: Settings, context: ExporterContext) -> str:
    """The text for the version that `settings` or the installed program names."""
    return render(settings, context, settings.version or installed_version(command_line(settings.command)))


def installed_version(command: Sequence[str]) -> Version | None:
    """Ask the program; None where it is not here, or is something else."""
    return parse_version(words_of([*command, "-V"]) or "")


def render(settings: Settings, context: ExporterContext, version: Version | None) -> str:
    """The text for one version; None: for any, with the line that some do not bear left to the reader."""
    return "\n".join(_lines(settings, context, version)) + "\n"


def _lines(settings: Settings, context: ExporterContext, version: Version | None) -> Iterator[str]:
    numbers = context.kernel
    quirks = quirks_of(version)
    yield f"# Made by `roamroute config babeld` for babeld {version or 'of unknown version'}."
    yield "# babeld takes the first rule that matches: name this file before your own,"
    if quirks.aborts_on_duplicates:
        yield f"#     babeld -A {DUPLICATES} -c /etc/babeld.roamroute.conf -c /etc/babeld.conf ..."
    else:
        yield "#     babeld -c /etc/babeld.roamroute.conf -c /etc/babeld.conf ..."
    yield ""
    yield "# roamroute listens here; a later local-path or local-port wins, then set exporters.babeld.socket to it."
    if isinstance(settings.socket, int):
        yield f"local-port {settings.socket}"
    else:
        yield f"local-path {settings.socket}"
    yield ""
    yield "# A host that moved away is reached at its new access point while its route here is being withdrawn."
    if version is None:
        yield "# Up to babeld 1.12 this line ends babeld: leave it out and start babeld with -A instead."
        yield f"# allow-duplicates {DUPLICATES}"
    elif quirks.aborts_on_duplicates:
        yield f"# This version ends itself at `allow-duplicates` in a file: use -A {DUPLICATES} as above."
    else:
        yield f"allow-duplicates {DUPLICATES}"
    yield ""
    yield "# A withdrawal is sent even where babeld knows another way. babeld's routes get this metric in the kernel:"
    yield "# ours win, and so does any other, such as a default route from DHCP (give that a greater metric)."
    yield f"kernel-priority {KERNEL_PRIORITY}"
    if numbers.table != 254:
        yield ""
        yield "# Our routes are in a table of their own; 254 is babeld's default, which naming another one ends."
        yield "import-table 254"
        yield f"import-table {numbers.table}"
    yield ""
    yield "# Reserved routes: their changes make babeld send at once what it has buffered. Nobody else sees them."
    for block in RESERVED:
        for protocol in (numbers.protocol, numbers.withdrawing_protocol):
            yield f"redistribute ip {block} eq {block.max_prefixlen} proto {protocol} metric {DORMANT}"
        yield f"out ip {block} deny"
    for prefix in context.prefixes:
        yield ""
        yield from _prefix(prefix, context)


def _prefix(prefix: Prefix, context: ExporterContext) -> Iterator[str]:
    numbers = context.kernel
    hosts = f"redistribute ip {prefix} eq {prefix.max_prefixlen}"
    yield f"# Hosts in {prefix}: here, moved on, being withdrawn, withdrawn, and about to be deleted."
    yield f"{hosts} proto {numbers.protocol} allow"
    yield f"{hosts} proto {numbers.lingering_protocol} metric {LINGERING}"
    yield f"{hosts} proto {numbers.withdrawing_protocol} metric {POISON}"
    yield f"{hosts} proto {numbers.dormant_protocol} metric {DORMANT}"
    yield f"{hosts} proto {numbers.hidden_protocol} deny"
    yield "# The gateway's address is the same on all access points: it is nobody's host route."
    yield f"redistribute local ip {prefix} deny"
