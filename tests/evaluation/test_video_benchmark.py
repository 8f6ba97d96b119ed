"""Tracking metrics on an example computed by hand, the trackers that are compared, and what is timed."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from generated_clips import flat_sources
from people import synthetic_embeddings

from facelib.evaluation.benchmarks.clip_people import ClipRecipe
from facelib.evaluation.benchmarks.clip_sources import ClipSources, make_portrait
from facelib.evaluation.benchmarks.clips import TrueFace, write_clip
from facelib.evaluation.benchmarks.video_metrics import (
    IdentifiedFaces,
    clip_results,
    combined_metrics,
    count_people,
    match_frames,
)
from facelib.types import Face

A, B, ELSEWHERE = ([0, 0, 10, 10], [100, 0, 110, 10], [50, 50, 60, 60])


def true_frames(*frames):
    """{person: box} of each frame; a third item of a person's tuple is the visible share."""
    return [[TrueFace(name, np.float32(box), 1.0) for name, box in frame.items()] for frame in frames]


def identified(*frames):
    """[(box, ID), ...] of each frame."""
    return [
        IdentifiedFaces(np.float32([box for box, _ in frame]).reshape(-1, 4), np.array([one for _, one in frame], int))
        for frame in frames
    ]


TRUTH = true_frames(*[{"a": A, "b": B}] * 5)
# The two IDs change places in the third frame; in the fourth b is missed, and something else is taken for a face.
FOUND = identified(
    [(A, 1), (B, 2)], [(A, 1), (B, 2)], [(A, 2), (B, 1)], [(A, 2), (ELSEWHERE, 3)], [(A, 2), (B, 1)]
)  # fmt: skip


def test_metrics_of_an_example_computed_by_hand():
    pytest.importorskip("trackeval")
    metrics = combined_metrics([clip_results(match_frames(TRUTH, FOUND))])
    assert (metrics["faces"], metrics["missed_faces"], metrics["false_faces"]) == (10, 1, 1)
    assert metrics["identity_switches"] == 2
    assert metrics["mota"] == pytest.approx(1 - (1 + 1 + 2) / 10)
    # Best one-to-one: a is 2 (3 frames), b is 1 (2 frames): 5 of 10 true and 10 found boxes.
    assert metrics["idf1"] == pytest.approx(2 * 5 / (10 + 10))
    # Of each match: frames in which both are, by frames in which either is. a-1: 2 of 7, a-2: 3 of 7, b-2: 2 of 8,
    # b-1: 2 of 7, over 9 matches; detection: 9 of 11.
    association = (2 * 2 / 7 + 3 * 3 / 7 + 2 * 2 / 8 + 2 * 2 / 7) / 9
    assert metrics["hota"] == pytest.approx((9 / 11 * association) ** 0.5)


def test_metrics_of_several_clips_are_pooled():
    pytest.importorskip("trackeval")
    right = identified(*[[(A, 7), (B, 8)]] * 5)
    results = [clip_results(match_frames(TRUTH, found)) for found in (FOUND, right)]
    metrics = combined_metrics(results)
    assert metrics["idf1"] == pytest.approx(2 * (5 + 10) / 40) and metrics["mota"] == pytest.approx(1 - 4 / 20)
    assert combined_metrics(results[1:])["hota"] == pytest.approx(1)


def test_metrics_without_any_box():
    pytest.importorskip("trackeval")
    metrics = combined_metrics([clip_results(match_frames(TRUTH, identified(*[[]] * 5)))])
    assert (metrics["missed_faces"], metrics["false_faces"], metrics["idf1"]) == (10, 0, 0)
    false = combined_metrics([clip_results(match_frames(true_frames({}, {}), identified([(A, 1)], [])))])
    assert (false["faces"], false["false_faces"]) == (0, 1)


def test_a_hidden_face_is_neither_missed_nor_wrong():
    hidden = [[TrueFace("a", np.float32(A), 0.4), TrueFace("b", np.float32(B), 1.0)]] * 2
    for found in (identified([(A, 1), (B, 2)], [(B, 2)]), identified([(B, 2)], [(B, 2)])):
        frames = match_frames(hidden, found)
        assert [frame.found_ids.tolist() for frame in frames] == [[frames[0].found_ids[0]]] * 2
        assert [len(frame.true_ids) for frame in frames] == [1, 1]


def test_frames_must_be_as_many():
    with pytest.raises(ValueError, match="5 frames and the faces of 4"):
        match_frames(TRUTH, FOUND[:4])


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([(1, 2)] * 6, (2, 0, 0, 0)),
        ([(1, 1)] * 4 + [(1, None)] * 2, (1, 1, 0, 0)),  # both are person 1, who is mostly a
        ([(1, None)] * 6, (1, 0, 1, 0)),
        ([(1, 2), (1, 2)] + [(1, None)] * 4, (1, 0, 1, 0)),  # two frames are too few
        ([(1, 2)] * 3 + [(3, 2)] * 3 + [(3, 2)], (2, 0, 0, 1)),  # a has two identities
    ],
)
def test_people_found_merged_and_missed(ids, expected):
    found = identified(*[[(box, one) for box, one in zip((A, B), pair) if one] for pair in ids])
    people = count_people(match_frames(true_frames(*[{"a": A, "b": B}] * len(ids)), found))
    assert people["people"] == 2
    names = ("people_found", "people_merged", "people_missed", "extra_people")
    assert tuple(people[name] for name in names) == expected


def face(box, embedding, score=0.9):
    nothing = np.zeros((5, 2), np.float32)
    return Face(np.float32(box), score, nothing, nothing, embedding, nothing[:, 0], 0.9)


@pytest.fixture
def moving():
    """Frames of two people who move slowly side by side, eight a second."""
    trackers = pytest.importorskip("facelib.evaluation.benchmarks.video_trackers")
    vectors = synthetic_embeddings(people=2, photos=20, spread=0.1)[0].reshape(2, 20, -1)
    frames = []
    for number in range(20):
        boxes = np.float32(
            [[50 + 3 * number, 50, 110 + 3 * number, 130], [300 - 2 * number, 60, 360 - 2 * number, 140]]
        )
        faces = [face(box, own[number]) for box, own in zip(boxes, vectors)]
        frames.append(trackers.AnalysedFrame(3 * number, number / 8, np.zeros((200, 400, 3), np.uint8), faces, False))
    return frames


@pytest.mark.parametrize("label", ["ByteTrack", "OC-SORT", "BoT-SORT"])
def test_trackers_of_the_package_follow_two_people(moving, label):
    pytest.importorskip("trackers")
    from facelib.evaluation.benchmarks.video_trackers import PACKAGE_TRACKERS, by_label, track_by_package

    tracks = track_by_package(*PACKAGE_TRACKERS[label], moving)
    assert [len(track.times) for track in tracks] in ([19, 19], [20, 20])  # some name a track from its second frame on
    found = by_label([frame.time for frame in moving], tracks, [track.number for track in tracks])
    for faces, frame in list(zip(found, moving))[1:]:
        assert len(set(faces.ids.tolist())) == 2
        assert {tuple(box) for box in faces.boxes.tolist()} == {tuple(one.box.tolist()) for one in frame.faces}


def test_each_frame_alone_compares_with_the_first_face_of_each_person(moving):
    from facelib.evaluation.benchmarks.video_trackers import identify_alone

    strict = identify_alone(moving, lambda a, b: a @ b.T - 0.999999)
    assert [faces.ids.tolist() for faces in strict[:3]] == [[0, 1], [2, 3], [4, 5]]
    usual = identify_alone(moving, lambda a, b: a @ b.T - 0.6)
    assert [faces.ids.tolist() for faces in usual] == [[0, 1]] * 20


@pytest.fixture(scope="module")
def video(pipeline):
    analysis = pytest.importorskip("facelib.video.analysis")
    return analysis.VideoPipeline(pipeline.detector, pipeline.landmarker, pipeline.embedder)


@pytest.fixture(scope="module")
def photo_sources(photo, pipeline):
    portraits = {str(number): make_portrait(photo, one.landmarks)[None] for number, one in enumerate(pipeline(photo))}
    return ClipSources(portraits, [np.full((90, 160, 3), 110, np.uint8)])


def test_trackers_are_compared_on_generated_clips(tmp_path, video, photo_sources):
    pytest.importorskip("trackeval")
    from facelib.evaluation.benchmarks.video import compare_trackers, follow_clip

    recipe = ClipRecipe(size=(480, 270), seconds=2, rate=8, people=2, face_heights=(80, 100), effects=())
    clip = follow_clip(video, photo_sources, "plain", recipe, tmp_path / "clip.mp4")
    rows = compare_trackers(video, [clip, clip])
    ours = {(row["clips"], row["identity"]): row for row in rows if row["method"] == "facelib"}
    assert ours["plain", "track"]["idf1"] == ours["all", "person"]["idf1"] == 1
    assert ours["plain", "person"]["people_found"] == ours["plain", "person"]["people"] == 4  # two in each clip
    assert ours["all", "person of all clips"]["people_found"] == ours["all", "person of all clips"]["people"] == 2
    assert ours["all", "person of all clips"]["extra_people"] == 0
    assert any(row["method"] == "each frame alone" and row["identity"] == "person" for row in rows)
    assert "people_found" not in ours["plain", "track"]


def test_speed_is_measured_by_stage(tmp_path, video, photo_sources):
    from facelib.evaluation.benchmarks.video_speed import measure_speed

    recipe = ClipRecipe(size=(320, 180), seconds=2, rate=10, people=1, face_heights=(60, 80), effects=())
    write_clip(tmp_path / "clip.mp4", recipe, photo_sources)
    row = measure_speed(video, tmp_path / "clip.mp4", every=5)
    shares = {name: value for name, value in row.items() if name.endswith("_share")}
    assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) > 0
    assert row["frames_per_second"] == pytest.approx(5 * row["analysed_per_second"])
    assert shares["detect_share"] > shares["associate_share"]


def test_a_clip_is_repeated(tmp_path):
    av = pytest.importorskip("av")
    from facelib.evaluation.benchmarks.video_speed import repeat_clip

    recipe = ClipRecipe(size=(64, 64), seconds=2, rate=10, people=0, effects=())
    write_clip(tmp_path / "short.mp4", recipe, flat_sources())
    repeat_clip(tmp_path / "short.mp4", tmp_path / "long.mp4", 3)
    with av.open(str(tmp_path / "long.mp4")) as clip:
        times = [frame.time for frame in clip.decode(video=0)]
    assert np.allclose(times, np.arange(60) / 10, atol=0.001)


def test_what_is_timed_keeps_its_other_attributes():
    from facelib.evaluation.benchmarks.video_speed import TimedStep

    step = TimedStep(SimpleNamespace(name="mine", detect=lambda image: image + 1))
    assert step.name == "mine" and step.detect(1) == 2 and step.seconds > 0
    assert not hasattr(step, "predict_with_confidence")


def test_face_recognition_is_asked_with_its_own_detector(moving, monkeypatch):
    from facelib.evaluation.benchmarks.video_trackers import alone_with_face_recognition

    vectors = [np.array([0.0, 0.0]), np.array([0.5, 0.0]), np.array([0.0, 0.7])]
    monkeypatch.setitem(
        sys.modules,
        "face_recognition",
        SimpleNamespace(
            face_locations=lambda image: [
                (10, 40, 30, 20),
                (10, 80, 30, 60),
                (10, 99, 30, 90),
            ],  # top right bottom left
            face_encodings=lambda image, places: vectors[: len(places)],
        ),
    )
    first, second = alone_with_face_recognition(moving[:2])
    assert first.ids.tolist() == second.ids.tolist() == [0, 0, 1]  # nearer than 0.6 is the same person
    assert first.boxes.tolist()[0] == [20, 10, 40, 30]


def test_the_command_writes_tables_and_records(tmp_path, video, photo_sources, monkeypatch, capsys):
    pytest.importorskip("trackeval")
    from facelib.evaluation.benchmarks import video as benchmark
    from facelib.io.records import read_table

    tiny = ClipRecipe(size=(320, 180), seconds=1, rate=8, people=1, face_heights=(70, 80), effects=())
    monkeypatch.setattr(benchmark, "RECIPES", {"plain": tiny})
    monkeypatch.setattr(benchmark, "MEMORY_RECIPE", tiny)
    monkeypatch.setattr(benchmark, "load_clip_sources", lambda part: photo_sources)
    monkeypatch.setattr(benchmark.VideoPipeline, "from_pretrained", lambda device: video)
    monkeypatch.setattr(sys, "argv", ["video", "--only", "tracking", "memory", "--seeds", "1", "--out", str(tmp_path)])
    sys.argv += ["--minutes", "0.05"]
    benchmark.main()
    assert {row["clips"] for row in read_table(tmp_path / "video_tracking.csv")} == {"plain", "all"}
    memory = json.loads((tmp_path / "video_memory.json").read_text())
    assert memory["minutes"] == pytest.approx(0.05, abs=0.01) and memory["peak_memory_mb"] > 50
    assert "IDF1 1.000" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_peak_memory_is_that_of_the_process_alone():
    large = np.ones(500 * 2**17)  # 500 MB, of the process that starts the other
    code = "from facelib.evaluation.benchmarks.video_speed import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert large.nbytes == 500 * 2**20 and 20 < float(done.stdout) < 450
