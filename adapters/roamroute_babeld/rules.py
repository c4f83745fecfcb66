"""babeld's own configuration, as far as it decides over our routes: who redistributes what, in which order.

Read from how the running babeld was started (its arguments and `-c` files), since its socket does not tell. Later edits
of a file that the running babeld has not read are read all the same: `check` says where it looked.

Rules are appended over all `-c` and `-C`, the first that matches decides (configuration.c filter_match, babeld 1.12.1
to 1.14). A word that this module does not know makes its rule unreadable, and unreadable rules are left out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path

import attrs

from roamroute.values import Address, Prefix
from roamroute_babeld.protocol import INFINITY
from roamroute_babeld.tables import LINGERING

DEFAULT_FILE = "/etc/babeld.conf"
_FLAGS_WITH_VALUE = frozenset("mphHiktTdgGcCSzMLIA")
_FILE_LIMIT_BYTES = 1 << 20


@attrs.frozen
class Rule:
    """One `redistribute` statement. `where`: file and line. `metric`: INFINITY denies."""

    where: str
    text: str
    metric: int
    prefix: Prefix | None = None
    shortest: int = 0
    longest: int = 128
    protocol: int | None = None
    is_local: bool = False
    interface: str | None = None
    version: int | None = None

    def matches(self, address: Address, protocol: int, interface: str | None) -> bool:
        """Does this rule decide over the host route of `address`?"""
        if self.is_local or self.protocol not in (None, protocol):
            return False
        if self.version not in (None, address.version):
            return False
        if self.prefix is not None and address not in self.prefix:
            return False
        if self.interface is not None and self.interface != interface:
            return False
        return self.shortest <= address.max_prefixlen <= self.longest


@attrs.frozen
class Statements:
    """What was found of a babeld's configuration. `unreadable`: files that could not be read, with the reason."""

    rules: tuple[Rule, ...] = ()
    allow_duplicates: int | None = None
    kernel_priority: int | None = None
    reflects_metric: bool = False
    unreadable: tuple[str, ...] = ()

    def decide(self, address: Address, protocol: int, interface: str | None = None) -> Rule | None:
        """The rule that decides over a host route; None where none does, and babeld does not export it."""
        return next((rule for rule in self.rules if rule.matches(address, protocol, interface)), None)


def announces_lingering(statements: Statements, prefixes: Iterable[Prefix], protocol: int) -> bool:
    """Does babeld announce a route whose host has moved on, in each of these prefixes, and with the metric for it?"""
    if statements.unreadable:
        return False
    rules = [statements.decide(prefix.network_address + 2, protocol) for prefix in prefixes]
    return all(rule is not None and rule.metric == LINGERING for rule in rules)


def statements_of(process_id: int) -> Statements | None:
    """How the running babeld was configured; None where that cannot be seen from here."""
    root = Path(f"/proc/{process_id}")
    try:
        arguments = [part.decode("utf-8", "replace") for part in (root / "cmdline").read_bytes().split(b"\0")[:-1]]
        folder = os.readlink(root / "cwd")
    except OSError:
        return None
    return read_statements(arguments, Path(folder))


def read_statements(arguments: Sequence[str], folder: Path) -> Statements:
    """Read a command line (with the program's name in front) and the files that it names."""
    statements = Statements()
    names: list[str] = []
    for flag, value in _options(arguments):
        match flag:
            case "c":
                names.append(value)
                statements = _read_file(statements, folder / value)
            case "C":
                statements = _take(statements, "-C", [value])
            case "A" if value.isdigit():
                statements = attrs.evolve(statements, allow_duplicates=int(value))
            case "k" if value.isdigit():
                statements = attrs.evolve(statements, kernel_priority=int(value))
            case _:
                pass
    if not names and Path(DEFAULT_FILE).exists():
        statements = _read_file(statements, Path(DEFAULT_FILE))
    return statements


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """getopt(3), as far as babeld uses it; a loader or wrapper in front of the program is passed over."""
    waiting = iter(arguments)
    for word in waiting:
        if not word.startswith("-") or word.startswith("--") or len(word) < 2:
            continue
        for position, flag in enumerate(word[1:], start=1):
            if flag not in _FLAGS_WITH_VALUE:
                continue
            yield flag, word[position + 1 :] or next(waiting, "")
            break


def _read_file(statements: Statements, path: Path) -> Statements:
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_LIMIT_BYTES).decode("utf-8", "replace")
    except OSError as error:
        return attrs.evolve(statements, unreadable=(*statements.unreadable, f"{path}: {error.strerror}"))
    return _take(statements, str(path), text.splitlines())


def _take(statements: Statements, name: str, lines: Iterable[str]) -> Statements:
    rules = list(statements.rules)
    for number, line in enumerate(lines, start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if words[0] == "redistribute":
            with contextlib.suppress(ValueError, StopIteration):
                rules.append(_rule(f"{name}:{number}", " ".join(words), words[1:]))
        elif words[0] == "allow-duplicates" and len(words) == 2 and words[1].isdigit():
            statements = attrs.evolve(statements, allow_duplicates=int(words[1]))
        elif words[0] == "kernel-priority" and len(words) == 2 and words[1].isdigit():
            statements = attrs.evolve(statements, kernel_priority=int(words[1]))
        elif words[0] == "reflect-kernel-metric" and len(words) == 2:
            statements = attrs.evolve(statements, reflects_metric=words[1] in ("true", "yes"))
    return attrs.evolve(statements, rules=tuple(rules))


def _rule(where: str, text: str, words: Sequence[str]) -> Rule:
    rule = Rule(where, text, metric=0)
    waiting = iter(words)
    for word in waiting:
        match word:
            case "ip":
                prefix = ip_network(next(waiting), strict=False)
                rule = attrs.evolve(rule, prefix=prefix, version=prefix.version)
            case "eq":
                length = int(next(waiting))
                rule = attrs.evolve(rule, shortest=max(rule.shortest, length), longest=min(rule.longest, length))
            case "le":
                rule = attrs.evolve(rule, longest=min(rule.longest, int(next(waiting))))
            case "ge":
                rule = attrs.evolve(rule, shortest=max(rule.shortest, int(next(waiting))))
            case "proto":
                rule = attrs.evolve(rule, protocol=int(next(waiting)))
            case "local":
                rule = attrs.evolve(rule, is_local=True)
            case "if":
                rule = attrs.evolve(rule, interface=next(waiting))
            case "allow":
                rule = attrs.evolve(rule, metric=0)
            case "deny":
                rule = attrs.evolve(rule, metric=INFINITY)
            case "metric":
                rule = attrs.evolve(rule, metric=int(next(waiting)))
            case "src-ip":
                prefix = ip_network(next(waiting), strict=False)
                if prefix.prefixlen > 0:
                    raise ValueError("a source-specific rule never decides over a host route")
                rule = attrs.evolve(rule, version=prefix.version)
            case "src-prefix":
                next(waiting)
            case _:
                raise ValueError(f"unknown word {word!r}")
    if rule.version is None and (rule.shortest > 0 or rule.longest < 128):
        rule = attrs.evolve(rule, version=6)  # configuration.c: a length without an address means IPv6
    return rule
