"""The landmarker and its training: sensible answers or clear errors, whatever comes in."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from facelib import load_landmarker
from facelib.benchmark import benchmark_embedder, benchmark_landmarks
from facelib.checkpoints import read_manifest
from facelib.datasets import FaceList
from facelib.heatmaps import DECODERS
from facelib.label_offsets import label_offsets, label_set_offsets, move_labels, move_points
from facelib.landmarks import Landmarker


@pytest.fixture(scope="module")
def faces(pipeline, photo):
    return pipeline(photo)


def test_a_twelve_pixel_face(pipeline, photo, faces):
    face = faces[0]
    scale = 12 / (face.box[2] - face.box[0])
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    factor = np.array([small.shape[1] / photo.shape[1], small.shape[0] / photo.shape[0]])
    found = pipeline.landmarker.predict([small], [face.box[None] * np.tile(factor, 2)])[0][0]
    expected = (face.landmarks + 0.5) * factor - 0.5
    assert np.linalg.norm(found - expected, axis=1).max() < 2.5  # pixels, of a face 12 wide


def test_a_face_half_outside_the_photo(pipeline, photo, faces):
    """The half that is seen keeps its landmarks; the other half gets finite ones near the border."""
    face = faces[0]
    x = round(float(face.landmarks[2, 0]))
    half = np.ascontiguousarray(photo[:, :x])
    found = pipeline.landmarker.predict([half], [face.box[None]])[0][0]
    eyes = np.linalg.norm(face.landmarks[0] - face.landmarks[1])
    assert np.isfinite(found).all()
    assert np.linalg.norm(found[[0, 3]] - face.landmarks[[0, 3]], axis=1).max() < 0.35 * eyes
    side = 1.4 * (face.box[2:] - face.box[:2]).max()
    assert np.abs(found - face.landmarks.mean(0)).max() < side


def test_empty_batches(pipeline, photo):
    landmarker = pipeline.landmarker
    side = landmarker.input_size
    assert landmarker.predict([], []) == []
    assert landmarker.predict([photo], [np.zeros((0, 4))])[0].shape == (0, 5, 2)
    assert landmarker.predict([photo], [[]])[0].shape == (0, 5, 2)
    assert landmarker.predict_crops(np.zeros((0, side, side, 3), np.uint8)).shape == (0, 5, 2)


@pytest.mark.parametrize(
    ("crops", "says"),
    [
        (np.zeros((2, 100, 100, 3), np.uint8), r"crops of shape \(2, 100, 100, 3\)"),
        (np.zeros((128, 128, 3), np.uint8), r"crops of shape \(128, 128, 3\)"),
        (np.full((1, 128, 128, 3), np.nan), "type float64: expected uint8"),
        (np.zeros((1, 128, 128, 1), np.uint8), r"crops of shape \(1, 128, 128, 1\)"),
    ],
)
def test_bad_crops(pipeline, crops, says):
    with pytest.raises(ValueError, match=says):
        pipeline.landmarker.predict_crops(crops)


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        ([0, 0, np.nan, 9], r"boxes 0 of shape \(4,\)"),
        ([[0, 0, np.nan, 9]], "box .*nan"),
        ([[9, 9, 3, 3]], "expected x1, y1, x2, y2 with x1 < x2"),
        ([[1, 2, 3]], r"boxes 0 of shape \(1, 3\)"),
    ],
)
def test_bad_boxes(pipeline, photo, boxes, says):
    with pytest.raises(ValueError, match=says):
        pipeline.landmarker.predict([photo], [boxes])


def test_bad_images(pipeline, photo):
    box = np.array([[10, 10, 50, 50]])
    with pytest.raises(ValueError, match="image 1 of shape"):
        pipeline.landmarker.predict([photo, photo / 255], [box, box])
    with pytest.raises(ValueError, match="image 0 is a str"):
        pipeline.landmarker.predict(["photo.jpg"], [box])
    with pytest.raises(ValueError, match="2 lists of boxes"):
        pipeline.landmarker.predict([photo], [box, box])


def test_flip_averaging_makes_a_mirror_harmless(pipeline, photo, faces):
    """With it, the landmarks of the mirrored photo are the mirrored landmarks."""
    flipped = load_landmarker(device="cpu", flip=True)
    boxes = np.stack([face.box for face in faces])
    points = flipped.predict([photo], [boxes])[0]
    width = photo.shape[1]
    mirrored_boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
    mirrored = flipped.predict([np.ascontiguousarray(photo[:, ::-1])], [mirrored_boxes])[0]
    back = mirrored[:, [1, 0, 2, 4, 3]] * [-1, 1] + [width - 1, 0]
    assert np.abs(back - points).max() < 0.5


def test_both_stacks_find_the_face_and_every_decoder_agrees(pipeline, photo, faces):
    boxes = np.stack([face.box for face in faces])
    points = np.stack([face.landmarks for face in faces])
    eyes = np.linalg.norm(points[:, 0] - points[:, 1], axis=1)[:, None]
    shipped = pipeline.landmarker
    for stack in range(shipped.model.arguments["stacks"]):
        found = shipped.predict([photo], [boxes], stack=stack)[0]
        assert (np.linalg.norm(found - points, axis=2) / eyes).mean() < 0.06
    for decoder in DECODERS:
        other = Landmarker(shipped.model, shipped.input_size, shipped.activation, decoder)
        found = other.predict([photo], [boxes])[0]
        assert (np.linalg.norm(found - points, axis=2) / eyes).mean() < 0.06, decoder


def test_label_offsets_are_measured_and_removed(pipeline, photo, faces, tmp_path):
    """Labels that lie a tenth of the eye distance below what the landmarker finds, on turned faces too."""
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    boxes = np.stack([face.box for face in faces])
    points = np.stack([face.landmarks for face in faces])
    below = np.tile(np.array([0.0, 0.1]), (5, 1))
    labels = move_points(points, below)
    listed = FaceList([path] * 6, np.arange(6), np.full(6, "train"), boxes, labels, np.full(6, "afw"))
    measured = label_offsets(pipeline.landmarker, listed)
    np.testing.assert_allclose(measured, below, atol=0.01)
    true = replace(listed, points=points, sets=np.full(6, "celeba"))
    both = FaceList.join([listed, true])
    offsets = label_set_offsets(pipeline.landmarker, both)
    assert list(offsets) == ["afw"]
    np.testing.assert_allclose(offsets["afw"], below, atol=1e-5)
    np.testing.assert_allclose(move_labels(both, offsets).points, np.concatenate([points, points]), atol=0.5)
    with pytest.raises(ValueError, match=r"'celeba'.*afw"):
        label_set_offsets(pipeline.landmarker, listed)


def test_training_command(faces, photo, tmp_path, monkeypatch, capsys):
    """Two stages with pseudo-labels and relabelling on a handful of faces; then again from the checkpoints."""
    from facelib import train_landmarks

    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    columns = [f"{n}_{c}" for n in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for c in "xy"]
    for folder in ("landmarks", "some"):
        (tmp_path / folder).mkdir()
        Image.fromarray(photo).save(tmp_path / folder / "photo.png")
    rows = [
        [f"photo.png,celeba,{'val' if i > 3 else 'train'},p{i}", *face.box, *face.landmarks.ravel()]
        for i, face in enumerate(faces)
    ]
    head = "file,dataset,split,person_or_photo,box_x1,box_y1,box_x2,box_y2," + ",".join(columns)
    table = "\n".join([head, *(",".join(map(str, row)) for row in rows)])
    (tmp_path / "landmarks/landmarks.csv").write_text(table)
    crops = [f"photo.png,q{i},train," + ",".join(map(str, faces[i].landmarks.ravel())) for i in range(6)]
    (tmp_path / "some/faces.csv").write_text("\n".join(["file,person,split," + ",".join(columns), *crops]))
    command = ["train_landmarks", "--stages", "32:1", "64:1", "--epoch-size", "8", "--batch-size", "4"]
    command += ["--pseudo", "some", "--pseudo-shares", "0.5", "0.5", "--relabel", "--channels", "16", "--device", "cpu"]
    command += ["--unify-labels"]
    command += [
        "--out",
        str(tmp_path / "models/out.pt"),
        "--stacks",
        "1",
        "--checkpoints",
        str(tmp_path / "checkpoints"),
    ]
    monkeypatch.setattr("sys.argv", command)
    train_landmarks.main()
    entry = read_manifest(tmp_path / "models")["out.pt"]
    assert [row["epoch"] for row in entry["training"]["history"]] == [1, 1]
    assert entry["preprocessing"]["input_size"] == 64
    assert "pseudo-labelled" in entry["training"]["data"]
    train_landmarks.main()  # both stages are done: nothing is trained again
    assert read_manifest(tmp_path / "models")["out.pt"]["training"]["history"] == entry["training"]["history"]

    # Going on from these weights keeps their size, and asks for their loss.
    going_on = [*command[:1], "--start", str(tmp_path / "models/out.pt"), "--stages", "64:1", *command[4:]]
    going_on[going_on.index("--pseudo-shares") + 1 : going_on.index("--relabel")] = ["0.5"]
    going_on += ["--learning-rates", "0.001", "--out", str(tmp_path / "models/more.pt"), "--stacks", "2"]
    monkeypatch.setattr("sys.argv", going_on)
    train_landmarks.main()
    more = read_manifest(tmp_path / "models")["more.pt"]
    assert more["arguments"] == entry["arguments"]
    monkeypatch.setattr("sys.argv", [*going_on, "--loss", "mse"])
    with pytest.raises(SystemExit):
        train_landmarks.main()
    alone = "train_landmarks --stages 32:1 --learning-rates 0.001 --pseudo-shares 0 --unify-labels"
    monkeypatch.setattr("sys.argv", alone.split())
    with pytest.raises(SystemExit):
        train_landmarks.main()
    assert "need a network" in capsys.readouterr().err
    assert load_landmarker(tmp_path / "models/out.pt", "cpu").predict([photo], [faces[0].box[None]])[0].shape == (
        1,
        5,
        2,
    )


@pytest.mark.parametrize("benchmark", [benchmark_landmarks, benchmark_embedder])
def test_benchmark(benchmark, monkeypatch):
    monkeypatch.setattr("facelib.benchmark.rate", lambda work, device: (work(), 2.0)[1])
    figures = benchmark("cpu", batch_size=4)
    assert figures["faces_per_second"] == 8
    assert figures["milliseconds_for_one_face"] == 500
    for network in figures.get("networks", [figures]):
        assert network["parameters"] > 1e5
        assert 0.01 < network["gflops"] < 10
    json.dumps(figures)
