"""A third party's exporter, from the outside: built, installed beside roamroute, and used like those that come with it.

It is examples/openbgpd, a distribution of its own. Nothing here imports it; what is asked is asked of other processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "openbgpd"
CONFIGURATION = """
[roaming]
interfaces = ["wlan0"]
prefixes = ["fd44:0:0:1::/64", "10.44.0.0/16"]
exporter = "openbgpd"
[stations]
source = "none"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the example's wheel was installed; hatchling, which builds it, is one of our test tools."""
    folder = tmp_path_factory.mktemp("third-party") / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(folder), str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def outside(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module in a process that finds the example as if it were in site-packages."""
    paths = [str(installed), *(path for path in sys.path if path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("ROAMROUTE_TEST_WHEEL", None)
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=110, check=False, cwd=folder, env=environment
    )


@pytest.fixture
def configuration(tmp_path: Path) -> str:
    path = tmp_path / "roamroute.toml"
    path.write_text(CONFIGURATION, encoding="utf-8")
    return str(path)


def test_roamroute_knows_it_by_its_name(installed: Path, tmp_path: Path, configuration: str) -> None:
    done = outside(installed, tmp_path, "roamroute", "config", "openbgpd", "-c", configuration)
    assert (done.returncode, done.stderr) == (0, "")
    assert "allow to ibgp prefix fd44:0:0:1::/64 prefixlen = 128" in done.stdout


def test_check_asks_it(installed: Path, tmp_path: Path) -> None:
    path = tmp_path / "roamroute.toml"
    path.write_text(CONFIGURATION + '[exporters.openbgpd]\ncommand = ["/nonexistent/bgpctl"]\n', encoding="utf-8")
    done = outside(installed, tmp_path, "roamroute", "check", "-c", str(path), "--json")
    assert done.returncode == 1, done.stderr
    (finding,) = [each for each in json.loads(done.stdout)["findings"] if each["subject"] == "bgpd"]
    assert finding["level"] == "error"
    assert "/nonexistent/bgpctl cannot be run: No such file or directory" in finding["text"]
    assert "apt-get install openbgpd" in finding["remedy"]


def test_mistakes_in_its_table_are_told_as_ours_are(installed: Path, tmp_path: Path) -> None:
    path = tmp_path / "roamroute.toml"
    path.write_text(CONFIGURATION + '[exporters.openbgpd]\ncomand = "bgpctl"\n', encoding="utf-8")
    done = outside(installed, tmp_path, "roamroute", "config", "openbgpd", "-c", str(path))
    assert done.returncode == 2
    assert "exporters.openbgpd.comand: is not known here (known keys: command)" in done.stderr


def test_without_it_its_name_is_unknown(tmp_path: Path, configuration: str) -> None:
    done = outside(tmp_path, tmp_path, "roamroute", "check", "-c", configuration)
    assert done.returncode == 2
    assert 'no exporter is called "openbgpd"; known here: "babeld"' in done.stderr


@pytest.mark.requires_root
@pytest.mark.requires_programs("bgpd", "bgpctl")
def test_it_keeps_the_contract_with_a_real_daemon(installed: Path, tmp_path: Path) -> None:
    """Its own tests, which are roamroute's contract, by its own pytest configuration."""
    suite = tmp_path / "suite"
    suite.mkdir()
    for name in ("pyproject.toml", "test_openbgpd.py"):
        (suite / name).write_text((EXAMPLE / name).read_text(encoding="utf-8"), encoding="utf-8")
    done = outside(installed, suite, "pytest", "-q", f"--basetemp={tmp_path / 'its'}", ".")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_it_needs_nothing_of_roamroute_but_what_is_public() -> None:
    source = (EXAMPLE / "roamroute_openbgpd.py").read_text(encoding="utf-8")
    imported = {line.split()[1] for line in source.splitlines() if line.startswith("from roamroute")}
    assert imported
    public = {"values", "events", "effects", "delta", "export", "errors", "adapter", "testing"}
    assert {name.split(".")[1] for name in imported} <= public
