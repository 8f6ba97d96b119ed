"""Synthetic embeddings are distributed like the real ones that they were fitted to."""

import numpy as np
import pytest
from people import calibration_with_cohort, synthetic_embeddings

pytest.importorskip("lancedb")
from facelib.evaluation.benchmarks.archive import exact_nearest, search_row
from facelib.evaluation.benchmarks.synthetic import photo_index, photo_name, synthetic_faces


def quantiles(embeddings, people):
    i, j = np.triu_indices(len(embeddings), 1)
    distances = 1 - (embeddings @ embeddings.T)[i, j]
    genuine = people[i] == people[j]
    return np.r_[np.quantile(distances[genuine], [0.1, 0.5, 0.9]), np.quantile(distances[~genuine], [0.001, 0.01, 0.5])]


def test_synthetic_distances_match_real_ones():
    real, names = synthetic_embeddings(300, 8, spread=0.5)
    sampled, owner = synthetic_faces(real, np.unique(names, return_inverse=True)[1], 4000)
    np.testing.assert_allclose(quantiles(sampled, owner), quantiles(real, names), atol=0.06)
    sizes = np.bincount(owner)
    assert len(owner) == 4000 and sizes.max() > 100 and np.median(sizes) < 4


def test_exact_nearest_equals_comparing_all_pairs():
    stored, _ = synthetic_embeddings(40, 8)
    queries = stored[::50] + 0.01
    offsets = np.random.default_rng(0).uniform(0, 0.3, len(stored)).astype(np.float32)
    expected = np.argsort(-(queries @ stored.astype(np.float16).astype(np.float32).T - offsets), axis=1)[:, :10]
    np.testing.assert_array_equal(exact_nearest(stored.astype(np.float16), queries, offsets), expected)


@pytest.mark.parametrize("with_cohort", [False, True])
def test_a_search_is_measured(tmp_path, monkeypatch, with_cohort):
    if with_cohort:
        calibration = calibration_with_cohort("abc", synthetic_embeddings(20, 2)[0])
        monkeypatch.setattr("facelib.archive.cohorts.load_calibration", lambda model_id: calibration)
    real, names = synthetic_embeddings(60, 8, spread=0.5)
    sampled, owner = synthetic_faces(real, np.unique(names, return_inverse=True)[1], 600)
    row = search_row(tmp_path, sampled[:500], owner[:500], sampled[500:], "abc")
    assert row["faces"] == 500
    assert 0.5 < row["recall_at_10"] <= row["recall_at_1"] <= 1
    assert min(row[key] for key in ("rows_per_second", "build_s", "table_mb", "index_mb", "exact_ms", "index_ms")) > 0


def test_photo_names_hold_the_index():
    assert photo_index(photo_name(123_456)) == 123_456
