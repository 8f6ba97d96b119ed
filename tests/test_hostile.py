"""The corpus of hostile.py: each input ends right or in a clear error that names the file, in time and memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTES = 1000  # above the loaded networks, for one input


def run_corpus(count: int, seed: int, folder: Path) -> list[dict]:
    """The rows of hostile.py by case; one that ended the process has no "got"."""
    command = [sys.executable, Path(__file__).with_name("hostile.py"), str(count), str(seed), folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, env=os.environ | {"FACELIB_DATA": ""})
    rows: dict[int, dict] = {}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        rows.setdefault(row["case"], {}).update(row)
    assert rows, done.stderr
    assert len(rows) == count or "got" not in rows[max(rows)], done.stderr
    return list(rows.values())


def complaints(rows: list[dict]) -> list[str]:
    """What is wrong with the rows: another outcome than expected, none at all, too much memory."""
    found = []
    for row in rows:
        what = f"case {row['case']} ({row['kind']}, {row['photo']})"
        allowed = ("image", "error") if row["expected"] == "either" else (row["expected"],)
        if "got" not in row:
            found.append(f"{what}: the process died")
        elif row["got"] not in allowed:
            found.append(f"{what}: expected {row['expected']}, got {row['got']}")
        elif row["MB"] > MEGABYTES:
            found.append(f"{what}: took {row['MB']} MB")
    return found


def test_what_would_be_complained_of():
    row = {"case": 0, "kind": "sound", "photo": "a.png", "expected": "image", "got": "image", "MB": 5}
    assert complaints([row, row | {"expected": "either", "got": "error"}]) == []
    assert "the process died" in complaints([{k: v for k, v in row.items() if k != "got"}])[0]
    assert "expected error, got image" in complaints([row | {"expected": "error"}])[0]
    assert "TimeoutError" in complaints([row | {"expected": "either", "got": "TimeoutError: took over"}])[0]
    assert "took 1001 MB" in complaints([row | {"MB": 1001}])[0]


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peak memory of one input is read from Linux's /proc"
)
def test_four_hundred(tmp_path):
    rows = run_corpus(400, 1, tmp_path)
    assert complaints(rows) == []
    assert {row["got"] for row in rows} == {"image", "error"}


@pytest.mark.hostile
def test_two_thousand(tmp_path):
    rows = run_corpus(2000, 2, tmp_path)
    assert complaints(rows) == []
