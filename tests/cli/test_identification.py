"""Faces identified by a target false match rate, or by a score."""

import numpy as np
import pytest
from albums import embedding_of
from people import calibration_with_cohort

from facelib.cli.identification import identify_faces, is_measured, open_gallery
from facelib.cli.options import DecisionOptions
from facelib.recognition.gallery import Gallery


@pytest.mark.parametrize("near", [True, False])
def test_a_threshold_is_on_the_score(tmp_path, near):
    """Ann is in a crowd or not: the same cosine is another score."""
    rng = np.random.default_rng(0)
    ann, other = embedding_of(0, rng), embedding_of(0, rng, 0.8)
    cohort = np.stack([embedding_of(0 if near else 3, rng, 0.3) for _ in range(5)])
    with Gallery(tmp_path / "g", "abc", calibration_with_cohort("abc", cohort)) as gallery:
        gallery.enrol("Ann", ann)
        (answer,) = identify_faces(gallery, [other], DecisionOptions(threshold=0.4))
    assert answer.distance == pytest.approx(1 - ann @ other, abs=1e-5) and answer.distance < 0.5
    assert answer.name == (None if near else "Ann")
    assert (answer.score >= 0.4) == (not near)


def test_an_embedder_that_was_not_measured(tmp_path):
    decision = DecisionOptions(threshold=0.5)
    with open_gallery(tmp_path / "g", "never measured", decision) as gallery:
        gallery.enrol("Ann", embedding_of(0, np.random.default_rng(0)))
        probes = [embedding_of(person, np.random.default_rng(1)) for person in (0, 1)]
        answers = identify_faces(gallery, probes, decision)
        assert not is_measured(gallery)
    assert [answer.name for answer in answers] == ["Ann", None]
    assert answers[0].score == pytest.approx(1 - answers[0].distance, abs=1e-5)
    assert {answer.false_match_rate for answer in answers} == {1}
