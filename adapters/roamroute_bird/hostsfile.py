"""The file of static routes that BIRD includes in mode "inject": written by us alone, as a whole and at once.

It holds one static protocol for each address family, so that it stands at the top level of BIRD's configuration, and a
configuration that does not include it shows: the protocols are missing. An empty file is valid, too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from roamroute.errors import KernelRefused
from roamroute.values import Address, HostRoute, Prefix

STATIC_PROTOCOLS: Mapping[int, str] = {4: "roamroute4", 6: "roamroute6"}
"""The names of our static protocols, by the version of IP; filters match them with `proto = "roamroute6"`."""
PREFERENCE = 250
"""Above that of every other protocol of BIRD (direct: 240): our route wins while another router still announces one."""

HEAD = "# written by roamroute at every change; what is changed here is lost\n"
_MODE = 0o644


def line_of(route: HostRoute) -> str:
    """The statement for one route.

    Raises: ValueError when BIRD has no way to write that interface's name.
    """
    if not route.link.isprintable() or '"' in route.link or not route.link:
        raise ValueError(f"BIRD cannot name the interface {route.link!r}")
    return f'\troute {route} via "{route.link}";\n'


def render(lines: Mapping[int, Mapping[Address, str]]) -> str:
    """The whole file: for each version of IP a protocol, and in it the lines of its addresses."""
    parts = [HEAD]
    for version in sorted(lines):
        parts.append(
            f"protocol static {STATIC_PROTOCOLS[version]} {{\n\tipv{version} {{ preference {PREFERENCE}; }};\n"
        )
        parts.extend(lines[version].values())
        parts.append("}\n")
    return "".join(parts)


def versions_of(prefixes: Sequence[Prefix]) -> tuple[int, ...]:
    """The versions of IP that need a protocol."""
    return tuple(sorted({prefix.version for prefix in prefixes}))


def read(path: str) -> str | None:
    """What the file holds; None when there is none.

    Raises: KernelRefused.
    """
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused("read", path, error) from None


def write(path: str, text: str) -> None:
    """Replace the file: BIRD, at any moment, reads the old one or the new one. Owner and mode stay; a new one is 0644.

    Blocks for as long as the disk takes. Raises: KernelRefused.
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    draft = os.path.join(folder, f".{name}.new")  # no pattern of an include matches a name with a dot in front
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        try:
            with contextlib.suppress(FileNotFoundError):
                there = os.stat(target)
                os.fchown(descriptor, there.st_uid, there.st_gid)
                os.fchmod(descriptor, there.st_mode & 0o7777)
            data = memoryview(text.encode())
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(draft, target)
        _sync_folder(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise _refused("write", path, error) from None


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(what: str, path: str, error: OSError) -> KernelRefused:
    return KernelRefused(f"cannot {what} {path}: {error.strerror or error}", error.errno or 0)
