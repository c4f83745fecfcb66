"""What adapters/README.md shows is built, installed and put to the contract as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "adapters" / "README.md"
PYTEST = '\n[tool.pytest.ini_options]\naddopts = ["-ra", "--import-mode=importlib"]\n'
"""Else pytest would look for a configuration further up."""


def test_the_smallest_adapter_is_complete_and_keeps_the_contract(tmp_path: Path) -> None:
    folder, installed = tmp_path / "project", tmp_path / "installed"
    folder.mkdir()
    blocks = re.findall(r"```(?:toml|python)\n# (\S+)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert [name for name, _ in blocks] == ["pyproject.toml", "roamroute_file.py", "test_file.py"]
    for name, text in blocks:
        (folder / name).write_text(text + (PYTEST if name == "pyproject.toml" else ""), encoding="utf-8")

    install = ["pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    run(folder, [], *install, "--no-build-isolation", "--target", str(installed), str(folder))
    said = run(folder, [str(installed)], "pytest", "-q", ".")
    assert "passed" in said
    assert "skipped" not in said


def run(folder: Path, first: list[str], *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*first, *(path for path in sys.path if path)])}
    environment.pop("ROAMROUTE_TEST_WHEEL", None)
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout
