import json
import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
from people import calibration_with_cohort
from PIL import Image

from facelib import Face, FacePipeline, load_embedder, load_landmarker
from facelib.alignment.align import TEMPLATE
from facelib.embedding.similarity import cosine_distance, unit_vectors
from facelib.types import Faces, ImageError


@pytest.fixture(scope="module")
def faces(pipeline, photo):
    return pipeline(photo)


def test_what_a_face_is(faces):
    assert isinstance(faces, list)
    assert len(faces) == 6
    for face in faces:
        assert isinstance(face, Face)
        assert (face.box.shape, face.box.dtype) == ((4,), np.float32)
        assert 0 < face.score <= 1
        assert (face.landmarks.shape, face.landmarks.dtype) == ((5, 2), np.float32)
        assert (face.aligned.shape, face.aligned.dtype) == ((112, 112, 3), np.uint8)
        assert (face.embedding.ndim, face.embedding.dtype) == (1, np.float32)
        assert np.linalg.norm(face.embedding) == pytest.approx(1, abs=1e-5)


def test_landmarks_are_a_face(faces):
    """Left of right, eyes above nose above mouth, all inside the box."""
    for face in faces:
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert left_eye[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
        assert (face.landmarks > face.box[:2]).all()
        assert (face.landmarks < face.box[2:]).all()


def test_landmarks_follow_mirror_turn_and_size(pipeline, photo, faces):
    height, width = photo.shape[:2]

    def turn(degrees):
        """On a larger canvas, so that no head is cut off."""
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1) + [[0, 0, 200], [0, 0, 200]]
        turned = cv2.warpAffine(photo, matrix, (width + 400, height + 400))
        return turned, lambda p: p @ matrix[:, :2].T + matrix[:, 2]

    # To the left only so far that the detector still finds the face that leans to that side already.
    moves = {
        "turned to the left": turn(12),
        "turned to the right": turn(-20),
        "mirrored": (photo[:, ::-1], lambda p: np.array([width - 1, 0]) + p[[1, 0, 2, 4, 3]] * [-1, 1]),
        "half": (cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), lambda p: (p + 0.5) / 2 - 0.5),
        "grey": (cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), lambda p: p),
    }
    for name, (image, move) in moves.items():
        found = np.stack([face.landmarks for face in pipeline(np.ascontiguousarray(image))])
        assert len(found) == 6, name
        for face in faces:
            expected = move(face.landmarks)
            eyes = np.linalg.norm(expected[0] - expected[1])
            error = np.linalg.norm(found - expected, axis=2).mean(1).min() / eyes
            assert error < 0.06, f"{name}: {error:.3f} of the eye distance"


def test_same_person_is_closer_than_others(pipeline, photo, faces):
    """Each face of the mirrored, darkened photo is nearest to its own original."""
    other = pipeline((photo[:, ::-1] * 0.7).astype(np.uint8))
    a = np.stack([face.embedding for face in faces])
    b = np.stack([face.embedding for face in other])
    middle = np.array([face.landmarks.mean(0) for face in faces])
    mirrored = np.array([face.landmarks.mean(0) for face in other]) * [-1, 1] + [photo.shape[1] - 1, 0]
    partner = np.linalg.norm(middle[:, None] - mirrored, axis=2).argmin(1)
    assert ((a @ b.T).argmax(1) == partner).all()


def test_compare_wants_faces_not_lists(pipeline, faces):
    with pytest.raises(TypeError, match=r"faces\[0\], and got Faces"):
        pipeline.compare(faces, faces[0])


def test_two_calls_give_the_same_numbers(pipeline, photo, faces):
    for first, second in zip(faces, pipeline(photo)):
        for name in ("box", "landmarks", "aligned", "embedding"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_parts_on_their_own_agree(pipeline, photo, faces, detector):
    boxes, _ = pipeline.detector.detect(photo)
    landmarks = load_landmarker(device="cpu", runtime="auto").predict([photo], [boxes])[0]
    np.testing.assert_allclose(landmarks, [f.landmarks for f in faces], atol=1e-3)
    from facelib import align_faces

    aligned = align_faces(photo, landmarks)
    np.testing.assert_array_equal(aligned, [f.aligned for f in faces])
    vectors = load_embedder(device="cpu", runtime="auto").embed(aligned)
    np.testing.assert_allclose(vectors, [f.embedding for f in faces], atol=1e-5)
    in_torch = load_embedder(device="cpu").embed(aligned)
    np.testing.assert_allclose((in_torch * vectors).sum(1), 1, atol=1e-4)


def test_aligned_faces_have_their_landmarks_at_the_template(pipeline, photo):
    upright = FacePipeline(pipeline.detector, pipeline.landmarker, pipeline.embedder, align="eyes")(photo)
    aligned = np.stack([face.aligned for face in upright])
    # The landmarker, asked again about the aligned face, finds the eyes where they were put.
    box = np.array([[8, 2, 104, 110]], np.float32)
    again = np.stack([pipeline.landmarker.predict([face], [box])[0][0] for face in aligned])
    assert np.abs(again[:, :2] - TEMPLATE[:2]).mean() < 3


def test_batch_is_the_same_as_one_by_one(pipeline, photo, faces, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    blank = np.full((200, 300, 3), 99, np.uint8)
    results = pipeline([path, blank, Image.fromarray(photo)], batch_size=2)
    assert [len(r) for r in results] == [6, 0, 6]
    for result in (results[0], results[2]):
        for one, many in zip(faces, result):
            np.testing.assert_allclose(many.landmarks, one.landmarks, atol=0.02)
            np.testing.assert_allclose(many.embedding, one.embedding, atol=1e-3)
    assert pipeline([]) == []


def test_photos_without_a_face(pipeline):
    for image in (np.zeros((1, 1, 3), np.uint8), np.full((300, 300), 128, np.uint8)):
        result = pipeline(image)
        assert isinstance(result, list)
        assert result == []
        assert result.error is None


def test_one_bad_photo_does_not_lose_the_others(pipeline, photo, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    bad = [tmp_path / "text.jpg", tmp_path / "gone.jpg", np.zeros((9, 9, 3), np.float32), None]
    with pytest.warns(UserWarning) as caught:
        results = pipeline([photo, *bad, photo])
    assert [len(r) for r in results] == [6, 0, 0, 0, 0, 6]
    assert [type(r.error) for r in results[1:5]] == [ImageError, FileNotFoundError, ImageError, TypeError]
    assert any("text.jpg" in str(w.message) for w in caught)
    for one in bad[:2]:
        with pytest.raises((ValueError, FileNotFoundError), match=one.name):
            pipeline(one)
    with pytest.raises(ValueError, match="batch_size"):
        pipeline([photo], batch_size=0)


def test_settings_are_checked_before_the_first_face(pipeline):
    with pytest.raises(ValueError, match="align='nonsense'"):
        FacePipeline(pipeline.detector, pipeline.landmarker, pipeline.embedder, align="nonsense")


def test_a_photo_over_which_a_step_fails_costs_only_itself(pipeline, photo, monkeypatch):
    """Not the rest of its batch either."""
    real = pipeline.embedder.embed

    def fail(aligned):
        if any(face.max() < 60 for face in aligned):
            raise MemoryError("no room")
        return real(aligned)

    monkeypatch.setattr(pipeline.embedder, "embed", fail)
    with pytest.warns(UserWarning, match="photo 1 is skipped"):
        results = pipeline([photo, photo // 5, photo])
    assert [len(r) for r in results] == [6, 0, 6]
    assert isinstance(results[1].error, RuntimeError)
    with pytest.raises(MemoryError):
        pipeline(photo // 5)


def test_large_photos_make_small_batches(pipeline, photo, monkeypatch):
    held = []
    monkeypatch.setattr(pipeline, "_run", lambda images: held.append(len(images)) or [Faces() for _ in images])
    monkeypatch.setattr("facelib.pipeline.BATCH_BYTES", int(2.5 * photo.size))
    assert len(pipeline([photo] * 7, batch_size=5)) == 7
    assert held == [3, 3, 1]


def test_stream_keeps_nothing(pipeline, photo):
    results = pipeline.stream([photo, "gone.jpg"], batch_size=1)
    image, faces = next(results)
    assert image is not None
    assert isinstance(faces, Faces)
    image, faces = next(results)
    assert image is None
    assert isinstance(faces.error, FileNotFoundError)


def test_faces_at_the_edge(pipeline, photo, faces):
    """A photo cut through the middle of a face still gives sensible numbers for whatever is found."""
    x = int(faces[0].landmarks[2, 0])
    for part in (photo[:, :x], photo[:, x:]):
        for face in pipeline(np.ascontiguousarray(part)):
            assert np.isfinite(face.landmarks).all()
            assert np.isfinite(face.embedding).all()


def test_whatever_gives_several_photos(pipeline, photo, tmp_path):
    for name in "ab":
        Image.fromarray(photo[:400]).save(tmp_path / f"{name}.png")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    several = (iter(paths), tmp_path.glob("*.png"), tuple(paths), dict.fromkeys(paths).keys())
    for photos in (*several, np.stack([photo[:400], photo[:400]]), np.array(list(map(str, paths)))):
        assert len({len(faces) for faces in pipeline(photos)}) == 1
    assert [len(faces) > 0 for _, faces in pipeline.stream(iter(paths))] == [True, True]
    with pytest.raises(TypeError, match=r"a dict is not a photo.*list\(it\.values\(\)\)"):
        pipeline({"a": paths[0]})
    assert len(pipeline(paths[0].read_bytes())) == len(pipeline(paths[0]))


def test_results_are_ordinary_objects(faces):
    """Comparable, hashable, picklable, and single numbers go into JSON."""
    assert faces[1] in faces
    assert faces.index(faces[2]) == 2
    assert faces[0] != faces[1]
    assert len({*faces, *faces}) == 6
    again = pickle.loads(pickle.dumps(faces))
    assert np.array_equal(again[3].embedding, faces[3].embedding)
    assert again.min_detectable_face == faces.min_detectable_face == pytest.approx(32)
    distance = cosine_distance(faces[0].embedding, faces[1].embedding)
    json.dumps({"score": faces[0].score, "quality": faces[0].quality, "distance": distance})
    mean = (faces[0].embedding + faces[1].embedding) / 2
    expected = 1 - mean @ faces[0].embedding / np.linalg.norm(mean)
    assert cosine_distance(mean, faces[0].embedding) == pytest.approx(expected, abs=1e-5)
    for wrong in (np.zeros(1024), np.full(1024, np.nan)):
        with pytest.raises(ValueError, match="embedding 0 has no direction"):
            cosine_distance(wrong, faces[0].embedding)


def test_the_embedder_takes_mirrored_views(pipeline, faces):
    aligned = np.stack([face.aligned for face in faces])
    assert pipeline.embedder.embed(aligned[:, :, ::-1]).shape[0] == 6


def test_faces_carry_how_near_they_are_to_the_cohort(pipeline, photo, faces):
    other = FacePipeline(pipeline.detector, pipeline.landmarker, pipeline.embedder)
    centres = unit_vectors(np.random.default_rng(0).normal(size=(9, faces[0].embedding.size)))
    other.calibration = calibration_with_cohort(other.model_id, centres)
    a, b = other(photo)[:2]
    assert type(a.cohort_similarity) is float and a.cohort_similarity != b.cohort_similarity
    np.testing.assert_allclose(a.cohort_similarity, other.calibration.cohort_similarity(a.embedding[None]), atol=1e-6)
    expected = a.embedding @ b.embedding - 0.4 * (a.cohort_similarity + b.cohort_similarity)
    assert other.compare(a, b).score == pytest.approx(expected, abs=1e-5)
    assert other(np.full((300, 300), 128, np.uint8)) == []


def test_without_a_cohort_or_calibration_there_is_no_cohort_similarity(pipeline, photo):
    class Embedder:
        embed = staticmethod(pipeline.embedder.embed)

    other = FacePipeline(pipeline.detector, pipeline.landmarker, Embedder())
    assert other.cohort is None
    assert {face.cohort_similarity for face in other(photo)} == {None}
    same = FacePipeline(pipeline.detector, pipeline.landmarker, pipeline.embedder)
    same.calibration = replace(pipeline.calibration, cohort=None)
    assert {face.cohort_similarity for face in same(photo)} == {None}
