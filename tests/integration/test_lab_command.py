"""`roamroute lab` as a user runs it, with the babeld of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from integration import third_party_lab

from roamroute.lab.laboratory import PROGRAMS
from roamroute.lab.namespaces import NETNS_DIRECTORY, SANDBOX_DIRECTORY

pytestmark = [pytest.mark.requires_root, pytest.mark.requires_programs(*PROGRAMS, "babeld")]

LAB = [sys.executable, "-m", "roamroute.lab", "--routing", "babeld"]


def left_overs(pid: int) -> list[str]:
    """Namespaces and directories of a lab that ran in process `pid`."""
    paths = [*NETNS_DIRECTORY.iterdir(), *SANDBOX_DIRECTORY.iterdir()]
    return [path.name for path in paths if path.name.startswith(f"rl-{pid}-")]


def test_every_roam_comes_back_and_is_in_the_json(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    # hello-interval 0.5: with this machine's babeld 1.12.1 the bar is a median of 0.5 s
    command = [*LAB, "--roams", "4", "--talk", "--hello-interval", "0.5", "--json", str(report), "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["schema"] == 1
    assert found["versions"]["routing"].startswith("babeld 1.")
    assert [roam["number"] for roam in found["roams"]] == [1, 2, 3, 4]
    gaps = sorted(roam["downlink"]["gap_s"] for roam in found["roams"])
    assert gaps[1] <= 0.5
    assert gaps[-1] <= 6.0
    assert found["walks"][0]["download"]["is_verified"]
    assert "TCP download" in done.stdout


def test_ctrl_c_ends_it_cleanly_in_the_middle() -> None:
    lab = subprocess.Popen(
        [*LAB, "--roams", "50", "--silent"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert lab.stderr is not None
    for line in lab.stderr:
        if "roam 1:" in line:
            break
    assert left_overs(lab.pid)
    lab.send_signal(signal.SIGINT)
    said, _ = lab.communicate(timeout=30)
    assert lab.returncode == 1
    assert "interrupted" in said
    assert not left_overs(lab.pid)


def test_an_unknown_routing_daemon_is_a_wrong_option() -> None:
    done = subprocess.run([*LAB[:-1], "nonsense"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert 'no installed exporter offers "nonsense"; known here: ' in done.stderr
    assert '"babeld"' in done.stderr


def test_a_missing_routing_daemon_is_said_in_one_line() -> None:
    command = [*LAB, "--daemon", "/nowhere/babeld"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "/nowhere/babeld" in done.stderr
    assert "Traceback" not in done.stderr


def test_several_routings_a_third_partys_among_them_are_compared_and_one_that_fails_is_said(tmp_path: Path) -> None:
    third_party_lab.install(tmp_path)
    folders = [str(tmp_path), str(Path(third_party_lab.__file__).parent), os.environ.get("PYTHONPATH", "")]
    found, logs = tmp_path / "found.json", tmp_path / "logs"
    command = [*LAB, "--routing", "babeld,command=/nowhere/babeld", "--routing", "rumours", "--roams", "2"]
    command += ["--silent", "--hello-interval", "0.5", "--json", str(found), "--keep-logs", str(logs)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = json.loads(found.read_text())["routings"]
    assert [row["routing"] for row in rows] == ["babeld", "babeld", "rumours"]
    assert [row["is_well"] for row in rows] == [True, False, True]
    assert [row["daemon"] is None for row in rows] == [False, True, False]
    assert "/nowhere/babeld" in rows[1]["error"]
    assert [len(row["report"]["roams"]) for row in (rows[0], rows[2])] == [2, 2]
    assert done.stdout.count("not measured") == 1
    assert "rumours 1.0" in done.stdout
    assert "babeld,hello-interval=0.5,command=/nowhere/babeld: /nowhere/babeld is not" in done.stdout
    assert sorted(path.name for path in logs.iterdir()) == ["1-babeld", "3-rumours"]


def test_handovers_are_compared_on_one_mesh_with_losses_delays_and_the_anatomy_of_every_roam(tmp_path: Path) -> None:
    found, logs = tmp_path / "found.json", tmp_path / "logs"
    command = [*LAB, "--handover", "full", "--handover", "claim", "--roams", "2", "--silent", "--ipv4", "--pps", "500"]
    command += ["--peer-loss", "5", "--delay", "5", "--hello-interval", "0.5", "--limit", "60"]
    command += ["--json", str(found), "--keep-logs", str(logs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(found.read_text())
    assert report["options"]["modes"] == ["roamroute", "roamroute-claim"]
    roams = report["roams"]
    assert [(roam["mode"], roam["number"]) for roam in roams] == [
        ("roamroute", 1),
        ("roamroute", 2),
        ("roamroute-claim", 1),
        ("roamroute-claim", 2),
    ]
    assert all(roam["handover"]["former"] == roam["origin"] for roam in roams)
    assert [roam["handover"]["is_hinted"] for roam in roams] == [True, True, False, False]
    assert all({"connected", "announced", "claimed"} <= roam["handover"]["steps"].keys() for roam in roams)
    # To the old access point's side and back: two links at least in each direction.
    assert all(roam["handover"]["steps"]["claimed"] >= 0.02 for roam in roams)
    assert "hinted, from ap1: connected 0" in done.stderr
    assert "side by side" in done.stdout
    tables = (logs / "routes" / "roamroute-silent-walk-1.txt").read_text()
    assert "encap seg6local action End.DT6" in tables
    assert "encap seg6local action End.DX4" in tables
