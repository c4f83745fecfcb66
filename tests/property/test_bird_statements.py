"""Whatever stands in BIRD's configuration file, reading it does no harm."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from roamroute_bird.statements import Statements, read_statements

WORDS = "protocol kernel { } ; learn off ipv6 ipv4 metric 5 scan time table \" ' # /* */ include import filter k6"
PIECES = st.sampled_from([*WORDS.split(), "\n", 'include "x";', "kernel table", "protocol kernel"])


@given(st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=60).map(" ".join)))
def test_any_text_is_read(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bird.conf"
        file.write_text(text, encoding="utf-8", errors="replace", newline="")
        found = read_statements(file)
        assert isinstance(found, Statements)
        assert all(statement.family in (6, 4) for statement in found.kernels)


@given(st.booleans(), st.integers(1, 999999), st.integers(0, 65535), st.integers(1, 99999))
def test_what_is_written_is_read(learns: bool, table: int, metric: int, scan_time_s: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bird.conf"
        file.write_text(
            f"protocol kernel k6 {{ {'learn;' if learns else ''} kernel table {table}; metric {metric};\n"
            f"scan time {scan_time_s}; ipv6 {{ import none; export all; }}; }}\n"
        )
        found = read_statements(file)
        assert isinstance(found, Statements)
        [statement] = found.kernels
        assert (statement.learns, statement.table, statement.metric, statement.scan_time_s) == (
            learns,
            table,
            metric,
            scan_time_s,
        )
