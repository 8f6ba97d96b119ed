"""Scores of an archive: cohort similarities beside the embeddings, their upgrade, and the search by score."""

import sys

import numpy as np
import pytest
from archive_rows import CALIBRATION, photo_rows
from people import calibration_with_cohort, synthetic_embeddings

from facelib.archive import cohorts, people, search, upgrade
from facelib.archive.schema import read_columns
from facelib.archive.table import Archive
from facelib.embedding.similarity import unit_vectors
from facelib.io.sample import sample_photo
from facelib.types import CalibrationMissingError, ModelMismatchError

COMMAND = "python -m facelib.archive.upgrade"


@pytest.fixture
def calibration(monkeypatch):
    """The calibration of the embedder "abc", whose cohort is near to some of the synthetic people."""
    centres, _ = synthetic_embeddings(20, 2)
    calibration = calibration_with_cohort("abc", centres)
    for module in (cohorts, people):
        monkeypatch.setattr(module, "load_calibration", lambda model_id: calibration)
    return calibration


@pytest.fixture
def embeddings():
    return synthetic_embeddings(60, 10)[0]


@pytest.fixture
def archive(tmp_path, calibration, embeddings):
    archive = Archive(str(tmp_path / "archive"), "abc", 32)
    archive.write(photo_rows({f"{i}.jpg": [vector] for i, vector in enumerate(embeddings)}, calibration.cohort))
    return archive


def without_column(archive):
    """Make the archive one of an earlier version."""
    table = archive.faces.to_arrow().drop_columns(["cohort_similarity"])
    metadata = {key: value for key, value in archive.faces.schema.metadata.items() if key != b"cohort"}
    archive.database.create_table("faces", table.replace_schema_metadata(metadata), mode="overwrite")


def upgraded(archive, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["upgrade", archive.location])
    upgrade.main()
    return capsys.readouterr().out


def test_a_search_finds_the_highest_scores(archive, calibration, embeddings):
    """Also where other faces are nearer by distance."""
    stored = unit_vectors(embeddings.astype(np.float16))
    for query in embeddings[:40:2]:
        scores = calibration.score_matrix(query[None], stored)[0]
        best = np.argsort(-scores)[:3]
        found = archive.nearest(query, 3)
        assert [row["photo"] for row in found] == [f"{i}.jpg" for i in best]
        np.testing.assert_allclose([row["score"] for row in found], scores[best], atol=2e-3)
        np.testing.assert_allclose([row["distance"] for row in found], 1 - stored[best] @ query, atol=2e-3)


def test_an_archive_without_the_column_is_refused_until_it_is_upgraded(archive, embeddings, monkeypatch, capsys):
    before = [row["photo"] for row in archive.nearest(embeddings[3])]
    archive.build_index()
    without_column(archive)
    old = Archive(archive.location, "abc", 32)
    for refused in (lambda: old.nearest(embeddings[3]), lambda: people.cluster_people(old)):
        with pytest.raises(ModelMismatchError, match=f"missing.*{COMMAND} {archive.location}"):
            refused()
    assert people.remove_photos(old, ["599.jpg"]) == 1  # what needs no scores still works
    old.build_index()
    assert "599 faces" in upgraded(archive, monkeypatch, capsys)
    new = Archive(archive.location, "abc", 32)
    assert [row["photo"] for row in new.nearest(embeddings[3])] == before
    assert new.faces.list_indices()
    new.write(photo_rows({"new.jpg": [embeddings[3]]}, new.cohort))
    assert new.nearest(embeddings[3], 2)[1]["photo"] in ("3.jpg", "new.jpg")


def test_another_cohort_is_noticed(archive, embeddings, monkeypatch, capsys):
    other = calibration_with_cohort("abc", synthetic_embeddings(20, 2, seed=1)[0])
    monkeypatch.setattr(cohorts, "load_calibration", lambda model_id: other)
    again = Archive(archive.location)
    with pytest.raises(ModelMismatchError, match=f"of another cohort.*{COMMAND}"):
        again.nearest(embeddings[0])
    assert other.cohort.id in upgraded(archive, monkeypatch, capsys)
    expected = other.score_matrix(embeddings[:1], embeddings[:1]).item()
    assert Archive(archive.location).nearest(embeddings[0], 1)[0]["score"] == pytest.approx(expected, abs=2e-3)


def test_an_interrupted_upgrade_is_noticed(archive, calibration, embeddings, monkeypatch):
    class Killed(cohorts.Cohort):
        def similarity(self, embeddings):
            raise RuntimeError("killed")

    cohort = calibration.cohort
    killed = Killed(cohort.model_id, cohort.centres, cohort.neighbours, cohort.weight)
    with pytest.raises(Exception, match="killed"):
        cohorts.compute_similarities(archive.faces, killed)
    with pytest.raises(ModelMismatchError, match=COMMAND):
        Archive(archive.location).nearest(embeddings[0])
    cohorts.compute_similarities(archive.faces, cohort)
    assert Archive(archive.location).nearest(embeddings[0], 1)[0]["photo"] == "0.jpg"


def test_an_embedder_without_a_cohort_or_a_calibration_has_cosines_as_scores(tmp_path, monkeypatch, embeddings):
    def missing(model_id):
        raise CalibrationMissingError

    monkeypatch.setattr(cohorts, "load_calibration", missing)
    archive = Archive(str(tmp_path / "archive"), "abc", 32)
    archive.write(photo_rows({"a.jpg": [embeddings[0]], "b.jpg": [embeddings[1]]}))
    for row in archive.nearest(embeddings[0]):
        assert row["score"] == pytest.approx(1 - row["distance"])
    monkeypatch.setattr(cohorts, "load_calibration", lambda model_id: CALIBRATION)
    cohorts.compute_similarities(archive.faces, None)
    assert read_columns(archive.faces, "cohort_similarity")["cohort_similarity"].to_pylist() == [0, 0]
    Archive(archive.location).check_cohort()


def test_people_near_to_the_cohort_are_kept_apart(tmp_path, monkeypatch):
    """Their cosine is as high as that of two photos of one person who is far from it."""
    rng = np.random.default_rng(0)
    first, other = np.eye(32, dtype=np.float32)[:2]

    def person(centre, spread):
        return unit_vectors(centre + spread * unit_vectors(rng.normal(size=(6, 32))))

    crowded = [person(first + shift, 0.1) for shift in 0.55 * np.eye(32, dtype=np.float32)[[2, 3]]]
    alone = person(other, 0.7)
    embeddings = np.concatenate([*crowded, alone]).astype(np.float32)
    cosines = embeddings @ embeddings.T
    assert cosines[:6, 6:12].min() > cosines[12:, 12:].min()
    near = unit_vectors(first + 0.2 * rng.normal(size=(20, 32)))
    calibration = calibration_with_cohort("abc", near)
    for module in (cohorts, people):
        monkeypatch.setattr(module, "load_calibration", lambda model_id: calibration)
    archive = Archive(str(tmp_path / "archive"), "abc", 32)
    rows = {f"{i:02d}.jpg": [vector] for i, vector in enumerate(embeddings)}
    archive.write(photo_rows(rows, calibration.cohort))
    assert people.cluster_people(archive, calibration.extrapolated_fmr(0.35)) == 3
    labels = [label.person for _, label in sorted(people.read_people(archive).items())]
    assert [len(set(labels[part : part + 6])) for part in (0, 6, 12)] == [1, 1, 1]


def test_what_all_faces_share_is_taken_from_their_scores(tmp_path, monkeypatch):
    """Thirty strangers in one studio: by their cosines they would be one person."""
    rng = np.random.default_rng(2)
    strangers = unit_vectors(unit_vectors(rng.normal(size=(30, 32))) + 1.2 * np.eye(32)[0])
    calibration = calibration_with_cohort("abc", unit_vectors(rng.normal(size=(200, 32))))
    for module in (cohorts, people):
        monkeypatch.setattr(module, "load_calibration", lambda model_id: calibration)
    archive = Archive(str(tmp_path / "archive"), "abc", 32)
    rows = {f"{i:02d}.jpg": [vector] for i, vector in enumerate(strangers)}
    archive.write(photo_rows(rows, calibration.cohort))
    fmr = calibration.extrapolated_fmr(0.4)
    found = people.cluster_people(archive, fmr)
    metadata = archive.people().schema.metadata
    assert float(metadata[people.CONDITION.encode()]) > 0.1
    monkeypatch.setattr(people, "measure_condition", lambda *_: None)
    assert people.cluster_people(archive, fmr) < found


def test_the_search_prints_score_distance_and_error_rate(pipeline, tmp_path, monkeypatch, capsys):
    faces = pipeline(sample_photo())
    monkeypatch.setattr("facelib.pipeline.FacePipeline.from_pretrained", lambda *_, **__: pipeline)
    archive = Archive(str(tmp_path / "archive"), pipeline.model_id, faces[0].embedding.size)
    archive.write(photo_rows({"a.jpg": [face.embedding for face in faces]}, archive.cohort))
    monkeypatch.setattr(sys, "argv", ["search", archive.location, str(sample_photo()), "--nearest", "2"])
    search.main()
    said = capsys.readouterr()
    first = archive.nearest(faces[0].embedding, 1)[0]
    fmr = pipeline.calibration.extrapolated_fmr(first["score"])
    line = said.out.splitlines()[1]
    assert f"score {first['score']:.3f}, distance {first['distance']:.3f}  a.jpg face 0; FMR {fmr:.2g}, " in line
    assert f"expected false matches among 6 faces: {6 * fmr:.2g}" in line
    assert said.err.count("has no cohort") == (pipeline.cohort is None)
