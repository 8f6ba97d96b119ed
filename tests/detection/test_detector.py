import dataclasses
import functools
import http.server
import io
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from facelib import load_detector
from facelib.detection import detector as detection
from facelib.detection.nms import box_iou
from facelib.evaluation.benchmarks.crowds import crowd
from facelib.evaluation.detection import count_faces, rotated
from facelib.io import downloads
from facelib.settings import data_folder


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """No detector in the cache, and empty data and home folders; yields the real path of SCRFD's file."""
    real = data_folder() / "models/buffalo_sc/det_500m.onnx"
    detection._load_detector.cache_clear()
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    yield real
    detection._load_detector.cache_clear()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("facelib.io.downloads.fetch", refuse)


@pytest.fixture
def model_host(tmp_path, monkeypatch):
    """A local stand-in for insightface's download host; yields the folder that it serves."""
    folder = tmp_path / "host"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr("facelib.io.downloads.PACKAGES_URL", url)
    yield folder
    server.shutdown()
    server.server_close()


def variants(photo):
    height, width = photo.shape[:2]
    turned = cv2.getRotationMatrix2D((width / 2, height / 2), 20, 1)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    return {
        "unchanged": photo,
        "mirrored": np.ascontiguousarray(photo[:, ::-1]),
        "rotated by 20 degrees": cv2.warpAffine(photo, turned, (width, height)),
        "320 px": cv2.resize(photo, (320, round(320 * height / width)), interpolation=cv2.INTER_AREA),
        "grey": np.repeat(grey[..., None], 3, axis=2),
    }


def test_all_six_faces_are_found_in_variants_of_the_photo(photo, detector):
    for name, image in variants(photo).items():
        boxes, scores = detector.detect(image)
        assert boxes.shape == (6, 4), name
        assert boxes.dtype == scores.dtype == np.float32
        assert ((scores > 0.5) & (scores <= 1)).all()
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        assert (np.diff(areas) <= 0).all()


def test_boxes_of_a_mirrored_photo_are_mirrored(photo, detector):
    boxes, _ = detector.detect(photo)
    mirrored, _ = detector.detect(np.ascontiguousarray(photo[:, ::-1]))
    mirrored = np.stack(
        [photo.shape[1] - mirrored[:, 2], mirrored[:, 1], photo.shape[1] - mirrored[:, 0], mirrored[:, 3]], 1
    )
    side = (boxes[:, 2:] - boxes[:, :2]).max()
    for box in boxes:
        assert np.abs(mirrored - box).max(1).min() < 0.12 * side


def test_tight_crops_are_searched_inside_a_border(photo, detector):
    boxes, _ = detector.detect(photo)
    x1, y1, x2, y2 = boxes[0].round().astype(int)
    tight = photo[y1:y2, x1:x2]
    found, _ = detector.detect(np.ascontiguousarray(tight))
    assert len(found) == 1
    middle = (found[0, :2] + found[0, 2:]) / 2
    assert np.abs(middle - np.array(tight.shape[1::-1]) / 2).max() < 0.2 * max(tight.shape)


def test_blank_images_show_no_face(detector):
    for shape in ((1, 1, 3), (5, 300, 3), (480, 640, 3)):
        boxes, scores = detector.detect(np.full(shape, 127, np.uint8))
        assert boxes.shape == (0, 4)
        assert scores.shape == (0,)


def test_bad_input(detector):
    with pytest.raises(ValueError, match="expected RGB uint8"):
        detector.detect(np.zeros((100, 100), np.uint8))
    with pytest.raises(ValueError, match="detector 'haar'"):
        load_detector("haar")


def test_fallback_logs_the_reason_once(fresh, no_network, photo, caplog):
    found = load_detector("auto")
    load_detector("auto")
    lines = [record.getMessage() for record in caplog.records]
    assert found.name == "retinaface"
    assert len(lines) == 2
    assert "FACELIB_TIMEOUT" in lines[0] and "retinaface" in lines[0]  # what is tried, and how to avoid it
    assert "RetinaFace" in lines[1]
    assert "no network" in lines[1]
    assert "nearly as accurate" in lines[1]
    assert len(found.detect(photo)[0]) == 6


def test_messages_reach_standard_error_of_programs_without_logging(tmp_path):
    """Python prints warnings of loggers without a handler, so that users see the choice of the detector."""
    code = "from facelib import load_detector; load_detector('auto', 'cpu')"
    environment = os.environ | {
        "FACELIB_DATA": str(tmp_path),
        "HOME": str(tmp_path),
        "https_proxy": "http://127.0.0.1:9",
    }
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    lines = [line for line in done.stderr.splitlines() if line.startswith(("Downloading", "Detector"))]
    assert [line.split()[:2] for line in lines] == [
        ["Downloading", "https://github.com/deepinsight/insightface/releases/download/model-zoo/buffalo_sc.zip,"],
        ["Detector:", "RetinaFace"],
    ]


def test_unavailable_insightface_says_what_to_do(fresh, no_network):
    with pytest.raises(RuntimeError, match=r"no network.*det_500m\.onnx"):
        load_detector("insightface")


def test_a_damaged_download_falls_back_and_is_tried_again(fresh, model_host, tmp_path, caplog):
    (model_host / "buffalo_sc.zip").write_bytes(b"this is no zip")
    assert load_detector("auto").name == "retinaface"
    assert "not a valid zip archive" in caplog.text
    detection._load_detector.cache_clear()
    # Nothing of the first download remains, so the next call downloads again.
    assert not list(tmp_path.rglob("*.onnx"))
    with pytest.raises(RuntimeError, match="not a valid zip archive"):
        load_detector("insightface")


def test_a_model_with_another_hash_is_refused(fresh, model_host, tmp_path):
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("det_500m.onnx", b"something else")
    (model_host / "buffalo_sc.zip").write_bytes(package.getvalue())
    with pytest.raises(RuntimeError, match=r"another det_500m\.onnx than expected"):
        load_detector("insightface")
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.fixture
def silent_host():
    """The address of a server that accepts connections and never answers, like a broken proxy."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("by", ["host", "proxy"])
def test_a_host_that_never_answers_times_out(fresh, silent_host, by, monkeypatch, caplog):
    monkeypatch.setenv("FACELIB_TIMEOUT", "0.5")
    if by == "host":
        monkeypatch.setattr("facelib.io.downloads.PACKAGES_URL", silent_host + "/")
    else:
        monkeypatch.setenv("https_proxy", silent_host)
    start = time.perf_counter()
    assert load_detector("auto").name == "retinaface"
    assert time.perf_counter() - start < 10
    text = caplog.text
    assert "waits 0.5 s" in text
    assert "no answer within 0.5 seconds" in text


def test_an_invalid_timeout_is_an_error(monkeypatch):
    for text in ("soon", "-1", "0", "nan", "inf"):
        monkeypatch.setenv("FACELIB_TIMEOUT", text)
        with pytest.raises(ValueError, match="FACELIB_TIMEOUT"):
            downloads.timeout()
    monkeypatch.setenv("FACELIB_TIMEOUT", "")
    assert downloads.timeout() == 10


def test_recheck_finds_tilted_faces(photo):
    """The sample photo rotated, on a larger canvas: without the recheck RetinaFace misses faces."""
    retinaface = load_detector("retinaface", "cpu")
    without_recheck = dataclasses.replace(retinaface, recheck_threshold=retinaface.threshold)
    found = 0
    missed = 0
    for degrees in (-30, -25, -20, 18, 19, 20, 21):
        image, _ = rotated(photo, degrees)
        found += len(retinaface.detect(image)[0])
        missed += 6 - len(without_recheck.detect(image)[0])
    assert found == 7 * 6
    assert missed > 0


def test_recheck_finds_no_face_twice(photo):
    sensitive = dataclasses.replace(
        load_detector("retinaface", "cpu"), threshold=0.9999, recheck_threshold=0.05, confirm_threshold=0.5
    )
    boxes, _ = sensitive.detect(photo)
    assert detection.box_iou(boxes, boxes)[~np.eye(len(boxes), dtype=bool)].max() < 0.3
    assert len(boxes) == 6


def test_a_long_photo_needs_little_memory(photo, detector):
    """A blank strip that is 150 times as long as wide."""
    strip = np.full((200, 30_000, 3), 90, np.uint8)
    tracemalloc.start()
    boxes, _ = detector.detect(strip)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(boxes) == 0
    assert peak < 60e6  # a border of half the longer side around it would be 2.7 GB


def test_a_damaged_model_file_falls_back(fresh, tmp_path, caplog):
    folder = tmp_path / "data/models/buffalo_sc"
    folder.mkdir(parents=True)
    (folder / "det_500m.onnx").write_bytes(b"truncated")
    assert load_detector("auto").name == "retinaface"
    assert "because" in caplog.text


def test_insightface_is_downloaded_and_its_terms_are_logged(fresh, model_host, photo, caplog):
    if not fresh.is_file():
        pytest.skip("det_500m.onnx is not under FACELIB_DATA")
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.write(fresh, "det_500m.onnx")
    (model_host / "buffalo_sc.zip").write_bytes(package.getvalue())
    found = load_detector("auto")
    assert found.name == "insightface"
    assert "non-commercial" in caplog.text
    assert len(found.detect(photo)[0]) == 6


def test_large_photos_are_searched_in_tiles(detector, photo):
    """Faces of 50 pixels and more in wide, high and large images; the sample photo needs no tiles."""
    for width, height in ((7680, 900), (900, 5000), (4000, 3000)):
        picture, boxes = crowd(width, height)
        found, _ = detector.detect(picture)
        true_positives, false_positives = count_faces(found, boxes, np.ones(len(boxes), bool), np.eye(2, 3))
        assert true_positives >= 0.9 * len(boxes)
        assert false_positives <= 0.1 * len(boxes) + 2  # faces truncated by the border of the image count as false
        assert detector.min_detectable_face(picture) <= 40
    assert detector.min_detectable_face(photo) == pytest.approx(16 * 1280 / 640)
    without_tiles = replace(detector, smallest_face=float("inf"))
    assert without_tiles.min_detectable_face(picture) == pytest.approx(16 * 4000 / 640)
    assert len(without_tiles.detect(picture)[0]) < 0.95 * len(found)


def test_tiles_find_no_face_twice(detector):
    picture, _ = crowd(4000, 3000)
    found, _ = detector.detect(picture)
    overlap = box_iou(found, found)
    np.fill_diagonal(overlap, 0)
    assert overlap.max() < 0.4


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (960, 960), (1001, 333)])
def test_a_larger_input_finds_smaller_faces_without_tiles(detector, photo, size):
    """Faces of 25 pixels and more, in frames of any shape."""
    large = replace(detector, input_size=960)
    picture, boxes = crowd(2 * size[0], 2 * size[1])
    picture, boxes = cv2.resize(picture, size, interpolation=cv2.INTER_AREA), boxes / 2
    everywhere = np.ones(len(boxes), bool), np.eye(2, 3)
    found = [count_faces(one.detect(picture)[0], boxes, *everywhere)[0] for one in (large, detector)]
    assert found[0] >= max(0.9 * len(boxes), found[1])
    assert large.min_detectable_face(picture) == pytest.approx(16 * max(size) / 960)
    small = np.ascontiguousarray(photo[::4, ::4])  # not enlarged to more than photos are
    np.testing.assert_array_equal(large.detect(small)[0], detector.detect(small)[0])


def test_boxes_lie_inside_the_photo(detector, photo):
    for part in (photo[300:], photo[:, :135], photo[:, 1155:]):
        boxes, _ = detector.detect(np.ascontiguousarray(part))
        assert len(boxes)
        assert (boxes >= 0).all()
        assert (boxes <= np.tile(part.shape[1::-1], 2)).all()


def test_threshold_and_smallest_face(photo):
    strict = load_detector("retinaface", "cpu", threshold=0.999)
    assert (strict.threshold, strict.recheck_threshold) == (0.999, 0.999)
    assert (strict.detect(photo)[1] >= 0.999).all()
    fine = load_detector("retinaface", "cpu", smallest_face=20)
    assert fine.min_detectable_face(np.zeros((2000, 3000, 3), np.uint8)) == pytest.approx(20)
    again = pickle.loads(pickle.dumps(fine))
    assert (again.name, again.smallest_face) == ("retinaface", 20)
    np.testing.assert_array_equal(again.detect(photo)[0], fine.detect(photo)[0])
    for options, says in (
        ({"threshold": 0.0}, r"threshold=0\.0: expected a score"),
        ({"threshold": 2.0}, r"threshold=2\.0: expected a score"),
        ({"smallest_face": 3}, "smallest_face=3: expected at least 8"),
        ({"smallest_face": float("nan")}, "smallest_face=nan: expected"),
        ({"input_size": 320}, "input_size=320: expected at least 640"),
    ):
        with pytest.raises(ValueError, match=says):
            load_detector("retinaface", "cpu", **options)


def test_the_address_of_packages_is_insightfaces():
    from insightface.utils.storage import MODEL_ZOO_RELEASE_DOWNLOAD_URL

    from facelib.io.downloads import PACKAGES_URL

    assert PACKAGES_URL == MODEL_ZOO_RELEASE_DOWNLOAD_URL
