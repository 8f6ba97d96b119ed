"""Photos sorted by person: clusters, known people, once per photo."""

import numpy as np
import pytest
from albums import DIMENSIONS, SCORE, embedding_of, faces_of

from facelib.cli.album import assign_people, by_person, measure_distances
from facelib.cli.album_builder import face_offsets, with_condition
from facelib.cli.album_state import AlbumState
from facelib.embedding.similarity import unit_vectors
from facelib.recognition.cohort import Cohort
from facelib.recognition.names import LOW_QUALITY


def test_faces_are_sorted_and_those_of_low_quality_kept_apart():
    faces = faces_of([0, 0, 1, 0, 1, -1])
    assign_people(faces, SCORE)
    measure_distances(faces)
    assert [face.person for face in faces] == ["Person 1", "Person 1", "Person 2", "Person 1", "Person 2", LOW_QUALITY]
    assert all(0 <= face.distance < 0.2 for face in faces[:5])


def test_two_faces_of_one_photo_are_two_people():
    faces = faces_of([0, 0, 0])
    faces[1].photo = faces[0].photo
    assign_people(faces, SCORE)
    assert faces[0].person != faces[1].person


def test_only_one_face_of_a_new_photo_joins_a_known_person():
    faces = faces_of([0, 0, 0])
    faces[0].person = "Ann"
    faces[2].photo = faces[1].photo  # twins
    assign_people(faces, SCORE)
    assert sorted(face.person for face in faces[1:]) == ["Ann", "Person 1"]
    nearest = max(faces[1:], key=lambda face: float(face.embedding @ faces[0].embedding))
    assert nearest.person == "Ann"


def test_twins_in_many_photos_are_two_people_and_each_photo_has_both():
    """The distances between photos outweigh those within one, so that clustering alone would join them."""
    faces = faces_of([0] * 12)
    for face in faces[6:]:
        face.photo = faces[int(face.aligned[:-4]) - 6].photo
    assign_people(faces, SCORE)
    for _, members in by_person(faces):
        assert len({face.photo for face in members}) == len(members)
    assert len(by_person(faces)) == 2


def test_a_name_that_was_taken_back_does_not_come_back():
    faces = faces_of([0, 0, 0, 0])
    faces[0].person, faces[1].taken_back = "Ann", frozenset({"Ann"})
    assign_people(faces, SCORE)
    assert [face.person for face in faces] == ["Ann", "Person 1", "Ann", "Ann"]


def test_numbers_are_not_given_twice():
    faces = faces_of([0, 1])
    assert assign_people(faces, SCORE, {"Person 7", "Person 007", "Ann"}, highest=4) == 9
    assert sorted(face.person for face in faces) == ["Person 8", "Person 9"]


def test_people_are_ordered_as_people_count():
    faces = faces_of([0, 1, 2])
    for face, number in zip(faces, (10, 7, 100)):
        face.person = f"Person {number}"
    assert [name for name, _ in by_person(faces)] == ["Person 7", "Person 10", "Person 100"]


def test_embeddings_that_cancel_out_are_measured(tmp_path):
    faces = faces_of([0, 1])
    for face, sign in zip(faces, (1, -1)):
        face.embedding, face.person = sign * embedding_of(0, np.random.default_rng(0), 0), "Ann"
    measure_distances(faces)
    assert np.isfinite([face.distance for face in faces]).all()


@pytest.mark.parametrize("known", [False, True])
def test_scores_decide_and_not_cosines(known):
    """Two people whose cosine is above the threshold; in a crowd it takes a higher one."""
    for offset, people in ((0, 1), (0.1, 2)):
        faces = faces_of([0, 0, 1, 1])
        middle = unit_vectors(faces[0].embedding + faces[2].embedding)
        for face in faces:
            face.embedding, face.offset = unit_vectors(face.embedding + 0.7 * middle), offset
        for face in faces[:2] if known else ():
            face.person = "Ann"
        assert faces[0].embedding @ faces[2].embedding > SCORE.single
        assign_people(faces, SCORE)
        assert len({face.person for face in faces}) == people


def test_scores_with_the_mean_are_measured():
    faces = faces_of([0, 0])
    for face in faces:
        face.person = "Ann"
    centres = unit_vectors(np.random.default_rng(0).normal(size=(4, DIMENSIONS)))
    cohort = Cohort("abc", centres, 1, 0.5)
    offsets = 0.25 * cohort.similarity(np.stack([face.embedding for face in faces]))
    for face, offset in zip(faces, offsets.tolist()):
        face.offset = offset
    measure_distances(faces, cohort)
    mean = unit_vectors(faces[0].embedding + faces[1].embedding)
    for face in faces:
        assert face.distance == pytest.approx(1 - face.embedding @ mean, abs=1e-5)
        expected = face.embedding @ mean - face.offset - 0.25 * cohort.similarity(mean[None])[0]
        assert face.score == pytest.approx(expected, abs=1e-5)
    assert [face.score for face in by_person(faces)[0][1]] == sorted([face.score for face in faces], reverse=True)


def test_the_condition_of_an_album_is_kept():
    """One studio: all embeddings share a direction, of which half is taken from each face."""

    def expected(faces):
        return face_offsets(faces, cohort)[-1] + state.condition / 2

    cohort = Cohort("abc", unit_vectors(np.random.default_rng(1).normal(size=(300, DIMENSIONS))), 5, 0.8)

    def studio(people):
        faces = faces_of(people)
        for face in faces:
            face.embedding = unit_vectors(face.embedding + 0.7 * np.eye(DIMENSIONS, dtype=np.float32)[0])
        return faces

    faces = studio(range(30))
    state = with_condition(AlbumState(), faces, SCORE, cohort)
    assert state.condition > 0.1
    assert faces[-1].offset == pytest.approx(expected(faces))
    grown = studio([*range(30), *range(35, 39)])
    assert with_condition(state, grown, SCORE, cohort).condition == state.condition
    assert grown[-1].offset == pytest.approx(expected(grown))
    few = studio(range(3))
    assert with_condition(AlbumState(), few, SCORE, cohort).condition is None
    assert few[-1].offset == pytest.approx(face_offsets(few, cohort)[-1])
    measure_distances(faces[:1], None, state.condition)
    assert faces[0].score == pytest.approx(1 - faces[0].offset - state.condition / 2, abs=1e-5)
