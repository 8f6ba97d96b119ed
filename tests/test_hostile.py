"""The corpus of hostile.py: each input gives an image or a clear error, in limited time and memory."""

from pathlib import Path

import pytest
from corpus import run_corpus

MAX_MEGABYTES = 1000  # for one input, above the loaded networks


def failures(rows: list[dict]) -> list[str]:
    """Descriptions of the rows with an unexpected outcome, no outcome, or too much memory."""
    texts = []
    for row in rows:
        case = f"case {row['case']} ({row['kind']}, {row['photo']})"
        allowed = ("image", "error") if row["expected"] == "either" else (row["expected"],)
        if "got" not in row:
            texts.append(f"{case}: the process crashed")
        elif row["got"] not in allowed:
            texts.append(f"{case}: expected {row['expected']}, got {row['got']}")
        elif row["MB"] > MAX_MEGABYTES:
            texts.append(f"{case}: took {row['MB']} MB")
    return texts


def test_failures_describes_the_rows():
    row = {"case": 0, "kind": "valid_image", "photo": "a.png", "expected": "image", "got": "image", "MB": 5}
    assert failures([row, row | {"expected": "either", "got": "error"}]) == []
    assert "the process crashed" in failures([{k: v for k, v in row.items() if k != "got"}])[0]
    assert "expected error, got image" in failures([row | {"expected": "error"}])[0]
    assert "TimeoutError" in failures([row | {"expected": "either", "got": "TimeoutError: took over"}])[0]
    assert "took 1001 MB" in failures([row | {"MB": 1001}])[0]


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak memory of one input is read from Linux's /proc"
)
def test_400_inputs(tmp_path):
    rows = run_corpus("hostile.py", 400, 1, tmp_path)
    assert failures(rows) == []
    assert {row["got"] for row in rows} == {"image", "error"}


@pytest.mark.hostile
def test_2000_inputs(tmp_path):
    rows = run_corpus("hostile.py", 2000, 2, tmp_path)
    assert failures(rows) == []
