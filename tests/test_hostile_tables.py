"""The attack of hostile_tables.py on albums: no error but those promised, and no silent change of a name."""

from pathlib import Path

import pytest
from hostile_tables import run_case

SHORT, LONG = 60, 600


def failures(seeds, folder: Path) -> list[str]:
    texts = []
    for seed in seeds:
        try:
            run_case(seed, folder / str(seed))
        except Exception as error:
            texts.append(f"seed {seed}: {type(error).__name__}: {str(error)[:500]}")
    return texts


def test_60_libraries(tmp_path):
    assert failures(range(SHORT), tmp_path) == []


@pytest.mark.hostile
def test_600_libraries(tmp_path):
    assert failures(range(1000, 1000 + LONG), tmp_path) == []


def test_the_attack_notices_a_name_that_moves(tmp_path, monkeypatch):
    """A control: an album that gives names by path alone, as it once did, fails."""
    from facelib.cli import album_matching

    monkeypatch.setattr(album_matching, "_match_copies", lambda *arguments: None)
    monkeypatch.setattr(album_matching, "_match_changed", lambda *arguments: None)
    assert failures(range(20), tmp_path)
