"""Photos sorted by person: clusters, known people, once per photo."""

import numpy as np
from albums import DISTANCE, embedding_of, faces_of

from facelib.cli.album import assign_people, by_person, measure_distances
from facelib.cli.album_table import LOW_QUALITY


def test_faces_are_sorted_and_those_of_low_quality_kept_apart():
    faces = faces_of([0, 0, 1, 0, 1, -1])
    assign_people(faces, DISTANCE)
    measure_distances(faces)
    assert [face.person for face in faces] == ["Person 1", "Person 1", "Person 2", "Person 1", "Person 2", LOW_QUALITY]
    assert all(0 <= face.distance < 0.2 for face in faces[:5])


def test_two_faces_of_one_photo_are_two_people():
    faces = faces_of([0, 0, 0])
    faces[1].photo = faces[0].photo
    assign_people(faces, DISTANCE)
    assert faces[0].person != faces[1].person


def test_only_one_face_of_a_new_photo_joins_a_known_person():
    faces = faces_of([0, 0, 0])
    faces[0].person = "Ann"
    faces[2].photo = faces[1].photo  # twins
    assign_people(faces, DISTANCE)
    assert sorted(face.person for face in faces[1:]) == ["Ann", "Person 1"]
    nearest = max(faces[1:], key=lambda face: float(face.embedding @ faces[0].embedding))
    assert nearest.person == "Ann"


def test_twins_in_many_photos_are_two_people_and_each_photo_has_both():
    """The distances between photos outweigh those within one, so that clustering alone would join them."""
    faces = faces_of([0] * 12)
    for face in faces[6:]:
        face.photo = faces[int(face.aligned[:-4]) - 6].photo
    assign_people(faces, DISTANCE)
    for _, members in by_person(faces):
        assert len({face.photo for face in members}) == len(members)
    assert len(by_person(faces)) == 2


def test_a_name_that_was_taken_back_does_not_come_back():
    faces = faces_of([0, 0, 0, 0])
    faces[0].person, faces[1].taken_back = "Ann", frozenset({"Ann"})
    assign_people(faces, DISTANCE)
    assert [face.person for face in faces] == ["Ann", "Person 1", "Ann", "Ann"]


def test_numbers_are_not_given_twice():
    faces = faces_of([0, 1])
    assert assign_people(faces, DISTANCE, {"Person 7", "Person 007", "Ann"}, highest=4) == 9
    assert sorted(face.person for face in faces) == ["Person 8", "Person 9"]


def test_embeddings_that_cancel_out_are_measured(tmp_path):
    faces = faces_of([0, 1])
    for face, sign in zip(faces, (1, -1)):
        face.embedding, face.person = sign * embedding_of(0, np.random.default_rng(0), 0), "Ann"
    measure_distances(faces)
    assert np.isfinite([face.distance for face in faces]).all()
