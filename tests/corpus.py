"""Runs the scripts that make a corpus of hostile input."""

import json
import os
import subprocess
import sys
from pathlib import Path


def run_corpus(script: str, count: int, seed: int, folder: Path) -> list[dict]:
    """Rows that a script of this folder prints, one per case; the case that ended the process has no "got"."""
    command = [sys.executable, Path(__file__).with_name(script), str(count), str(seed), folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, env=os.environ | {"FACELIB_DATA": ""})
    rows: dict[int, dict] = {}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        rows.setdefault(row["case"], {}).update(row)
    assert rows, done.stderr
    assert len(rows) == count or "got" not in rows[max(rows)], done.stderr
    return list(rows.values())
