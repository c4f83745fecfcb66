"""Every configuration that `roamroute config bird` prints is taken by the parser of every generation of BIRD."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from generations import BIRD, Generation, parameters

GOLDEN = sorted((Path(__file__).parents[1] / "data" / "bird").glob("config-*.conf"))


@pytest.mark.parametrize("generation", parameters(BIRD))
def test_bird_takes_every_printed_configuration(generation: Generation, tmp_path: Path) -> None:
    assert GOLDEN
    include = tmp_path / "roamroute-hosts.conf"
    include.touch()
    for golden in GOLDEN:
        text = golden.read_text(encoding="utf-8").replace("/etc/bird/roamroute-hosts.conf", str(include))
        (tmp_path / "bird.conf").write_text(text, encoding="utf-8")
        done = subprocess.run(
            [generation.command, "-p", "-c", str(tmp_path / "bird.conf")],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), golden.name


@pytest.mark.parametrize("generation", parameters(BIRD))
def test_each_of_the_protocols_that_are_commented_out_is_whole(generation: Generation, tmp_path: Path) -> None:
    text = (GOLDEN[0].parent / "config-all-kernel.conf").read_text(encoding="utf-8")
    head, *parts = text.split("\n# ---- ")
    assert len(parts) == 3
    for part in parts:
        lines = part.splitlines()[1:]
        code = [line.removeprefix("# ") for line in lines if line.startswith(("# protocol", "#   ", "# }"))]
        (tmp_path / "bird.conf").write_text("\n".join([head, *code]) + "\n", encoding="utf-8")
        done = subprocess.run(
            [generation.command, "-p", "-c", str(tmp_path / "bird.conf")],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), part.splitlines()[0]
