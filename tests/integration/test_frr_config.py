"""What `roamroute config frr` prints: the vtysh of every generation of FRR takes it, and it comes into force."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from generations import FRR, Generation, parameters
from integration.frr_pair import FrrRouters

from roamroute.lab.namespaces import Sandbox

GOLDEN = sorted((Path(__file__).parents[1] / "data" / "frr").glob("config-*.conf"))
FOR_OTHERS = "!   "
"""Before the lines for the mesh's other routers."""


def taken(generation: Generation, path: Path, folder: Path) -> tuple[int, str]:
    """What FRR's own parser says of a file."""
    (folder / "vtysh.conf").touch()
    command = [generation.terminal, "--config_dir", str(folder), "-C", "-f", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, done.stdout + done.stderr


def for_others(text: str) -> Iterator[str]:
    """The configurations for the other routers, taken out of the comments."""
    code: list[str] = []
    for line in [*text.splitlines(), "! end"]:
        if line.startswith(FOR_OTHERS):
            code.append(line.removeprefix(FOR_OTHERS))
        elif code:
            yield "\n".join(code) + "\n"
            code = []


@pytest.mark.parametrize("generation", parameters(FRR))
def test_frr_takes_every_printed_configuration(generation: Generation, tmp_path: Path) -> None:
    assert GOLDEN
    for golden in GOLDEN:
        assert taken(generation, golden, tmp_path) == (0, ""), golden.name


@pytest.mark.parametrize("generation", parameters(FRR))
def test_frr_takes_what_is_printed_for_the_other_routers(generation: Generation, tmp_path: Path) -> None:
    for golden in GOLDEN:
        parts = list(for_others(golden.read_text(encoding="utf-8")))
        assert len(parts) == (2 if "ibgp" in golden.name else 1)
        for part in parts:
            path = tmp_path / "part.conf"
            path.write_text(part, encoding="utf-8")
            assert taken(generation, path, tmp_path) == (0, ""), golden.name


@pytest.mark.parametrize("generation", parameters(FRR))
def test_a_wrong_line_would_not_be_taken(generation: Generation, tmp_path: Path) -> None:
    path = tmp_path / "wrong.conf"
    path.write_text("router ospf6\n redistribute everything\n", encoding="utf-8")
    code, words = taken(generation, path, tmp_path)
    assert code != 0
    assert "redistribute everything" in words


@pytest.mark.requires_root
@pytest.mark.parametrize("generation", parameters(FRR))
@pytest.mark.parametrize("case", ["ospf-kernel", "ibgp-kernel", "ibgp-kernel-examples"])
def test_every_line_is_in_force_after_it_was_loaded(generation: Generation, case: str) -> None:
    (golden,) = (path for path in GOLDEN if path.stem == f"config-{case}")
    with Sandbox() as sandbox:
        routers = FrrRouters(sandbox, generation, "ibgp")
        routers.start("ap")
        routers.vtysh("ap", "configure terminal", "no router ospf", "no router ospf6", "no router bgp")
        command = [*routers.command("ap"), "-f", str(golden)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        in_force = {line.strip() for line in routers.vtysh("ap", "show running-config").splitlines()}
    wanted = {line.strip() for line in golden.read_text(encoding="utf-8").splitlines() if not line.startswith("!")}
    unseen = {"exit", "!", "ip forwarding", "ipv6 forwarding"}
    assert wanted - in_force - unseen == set()
