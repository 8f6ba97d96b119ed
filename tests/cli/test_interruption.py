"""A run of the command line that is interrupted, killed or out of disk space resumes where it stopped."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from facelib.cli import results
from facelib.cli.main import main
from facelib.io.files import atomic_write
from facelib.io.photo_search import find_photos

PHOTOS = 9


@pytest.fixture(scope="module")
def photos(tmp_path_factory, photo):
    """The sample photo in several sizes, a file that is no photo, and odd names."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(PHOTOS - 3):
        small = cv2.resize(photo, None, fx=0.2 + 0.02 * i, fy=0.2 + 0.02 * i, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{i}.jpg"), small[:, :, ::-1])
    for name in (b"$x_{$.jpg", b"\xff\xfe \n.jpg"):
        shutil.copy(folder / "0.jpg", os.fsdecode(os.fsencode(folder) + b"/" + name))
    (folder / "none.jpg").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, photos):
    out = tmp_path_factory.mktemp("undisturbed")
    assert run(photos, out) == 1
    return out


def run(photos, out):
    arguments = [photos, "--out", out, "--detector", "retinaface", "--device", "cpu", "--batch-size", 2]
    return main([*map(str, arguments)])


def start(photos, out):
    arguments = [photos, "--out", out, "--detector", "retinaface", "--device", "cpu", "--batch-size", "1"]
    return subprocess.Popen(
        [sys.executable, "-m", "facelib", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"FACELIB_DATA": ""},
        # Background jobs of a shell ignore Ctrl-C, and so would processes that these tests start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def lines(out):
    path = out / "faces.part.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_lines(process, out, count):
    until = time.monotonic() + 120
    while process.poll() is None and lines(out) < count and time.monotonic() < until:
        time.sleep(0.02)


def assert_equal(out, undisturbed):
    """The same files, rows and embeddings."""
    assert sorted(os.listdir(out)) == sorted(os.listdir(undisturbed))
    assert (out / "faces.json").read_text() == (undisturbed / "faces.json").read_text()
    ours, theirs = (np.load(folder / "embeddings.npz") for folder in (out, undisturbed))
    for name in ("photo", "face"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    np.testing.assert_allclose(ours["embeddings"], theirs["embeddings"], atol=1e-3)


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_signals(photos, undisturbed, tmp_path, how):
    process = start(photos, tmp_path / "out")
    wait_for_lines(process, tmp_path / "out", 3)
    process.send_signal(getattr(signal, how))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if line.startswith("interrupted")]
    assert f"of {PHOTOS} photos are done" in line
    records = json.loads((tmp_path / "out/faces.json").read_text())
    assert 3 <= len(records) < PHOTOS
    assert len(np.load(tmp_path / "out/embeddings.npz")["embeddings"]) == sum(len(r["faces"]) for r in records)
    assert not (tmp_path / "out/faces.part.jsonl").exists()
    assert run(photos, tmp_path / "out") == 1
    assert_equal(tmp_path / "out", undisturbed)


def test_killed_three_times(photos, undisturbed, tmp_path, capsys):
    out, done = tmp_path / "out", 0
    for _ in range(3):
        process = start(photos, out)
        wait_for_lines(process, out, done + 2)
        process.kill()
        process.communicate(timeout=60)
        rows = [json.loads(line) for line in (out / "faces.part.jsonl").read_bytes().splitlines()]
        assert len(rows) > done  # each call resumes where the last one was killed
        done = len(rows)
    assert run(photos, out) == 1
    assert f"of {PHOTOS} photos are done already" in capsys.readouterr().out
    assert_equal(out, undisturbed)


def test_interrupted_before_anything(photos, tmp_path):
    process = start(photos, tmp_path / "out")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)  # the latter while Python itself still starts
    assert process.returncode == -signal.SIGINT or "interrupted" in said.splitlines()[-1]
    assert "Traceback" not in said or process.returncode == -signal.SIGINT


def test_a_truncated_line(photos, undisturbed, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    rows = results.Results(out, "other", "retinaface", find_photos([photos])).resume()  # other weights: nothing is done
    assert rows.pending() == find_photos([photos])
    assert (out / "faces.part.jsonl").read_bytes() == b""
    rows.close()
    (out / "faces.part.jsonl").write_bytes(
        b'{"record": {"photo": "x", "faces": []}, "embeddings": ""}\n{"record": {"pho'
    )
    assert run(photos, out) == 1
    assert_equal(out, undisturbed)


def test_another_detector(photos, undisturbed, tmp_path):
    """A named detector processes the photos again; "auto", whose choice may change with the network, does not."""
    shutil.copytree(undisturbed, tmp_path / "out")
    files = find_photos([photos])
    pipeline_id = json.loads((undisturbed / "faces.json").read_text())[0]["pipeline_id"]
    kept = results.Results(tmp_path / "out", pipeline_id, "insightface", files, any_detector=True).resume()
    assert [file.name for file in kept.pending()] == ["none.jpg"]
    kept.close()
    again = results.Results(tmp_path / "out", pipeline_id, "insightface", files).resume()
    assert again.pending() == files


def test_full_disk(photos, undisturbed, tmp_path, monkeypatch, capsys):
    out, written = tmp_path / "out", []

    def full(path):
        written.append(path)
        if len(written) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return atomic_write(path)

    monkeypatch.setattr(results, "atomic_write", full)
    assert run(photos, out) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said
    assert "run the same command again to resume" in said
    assert 1 < lines(out) < PHOTOS  # closing the tables failed too: the lines stay
    monkeypatch.undo()
    assert run(photos, out) == 1
    assert_equal(out, undisturbed)


def test_an_output_that_cannot_be_written_concerns_its_photo_only(photos, tmp_path, capsys):
    (tmp_path / "out" / "3_annotated.jpg").mkdir(parents=True)
    assert run(photos, tmp_path / "out") == 1
    assert "its results cannot be written" in capsys.readouterr().err
    records = json.loads((tmp_path / "out/faces.json").read_text())
    assert [r["name"] for r in records if "error" in r] == ["3", "none"]


def test_results_are_no_photos(photos, undisturbed, tmp_path, capsys):
    inside = tmp_path / "photos"
    shutil.copytree(photos, inside)
    for out in ("results", "more"):  # the second call finds the results of the first
        assert run(inside, inside / out) == 1
        assert f"of {PHOTOS} photos" in capsys.readouterr().out
    assert run(inside / "results", tmp_path / "out") == 2
    assert "is a folder of results" in capsys.readouterr().err
    assert run(inside, inside) == 2
    assert "is a folder of results" in capsys.readouterr().err


def test_photos_are_not_overwritten_by_results(photos, tmp_path, capsys):
    """Photos named one by one that lie where the results would go."""
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "0_annotated.jpg").write_bytes((folder / "1.jpg").read_bytes())
    assert run(folder / "0.jpg", folder) == 2
    assert "lies in the folder of the results" in capsys.readouterr().err
    assert (folder / "0_annotated.jpg").read_bytes() == (folder / "1.jpg").read_bytes()


def test_two_runs_do_not_write_at_once(photos, undisturbed, tmp_path):
    files = find_photos([photos])
    first = results.Results(tmp_path, "weights", "retinaface", files).resume()
    with pytest.raises(OSError, match="another run is writing"):
        results.Results(tmp_path, "weights", "retinaface", files).resume()
    first.close()
    results.Results(tmp_path, "weights", "retinaface", files).resume().close()


def test_the_reader_of_a_pipe_may_leave_early(photos, undisturbed, tmp_path):
    """`| head`: the results are complete all the same."""
    command = f"{sys.executable} -m facelib {photos} --out {tmp_path}/out --detector retinaface 2>&1 | true"
    subprocess.run(["bash", "-c", command], env=os.environ | {"FACELIB_DATA": ""}, timeout=120)
    assert len(json.loads((tmp_path / "out/faces.json").read_text())) == PHOTOS


def test_a_table_that_names_the_users_files_removes_none(photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("holiday.jpg", "notes.png"):
        (out / name).write_text("the user's own")
    record = {"photo": "gone.jpg", "annotated": "holiday.jpg", "faces": [{"aligned": "notes.png"}, {"aligned": "../x"}]}
    (out / "faces.part.jsonl").write_text(json.dumps({"record": record, "embeddings": "AAAAAAAAAAA="}))
    results.Results(out, "weights", "retinaface", find_photos([photos])).resume().close()
    assert sorted(path.name for path in out.iterdir()) == ["embeddings.npz", "faces.json", "holiday.jpg", "notes.png"]


def test_links_are_not_written_through(photos, tmp_path):
    original = tmp_path / "original.jpg"
    original.write_text("the user's own")
    out = tmp_path / "out"
    out.mkdir()
    for name in ("0_annotated.jpg", "0_face0.png", "faces.json", "embeddings.npz", "faces.part.jsonl", "distances.png"):
        (out / name).symlink_to(original)
    assert run(photos, out) == 1
    assert original.read_text() == "the user's own"


def test_changed_photos_are_processed_again_and_results_of_missing_ones_removed(photos, tmp_path, photo, capsys):
    folder, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(photos, folder)
    run(folder, out)
    cv2.imwrite(str(folder / "0.jpg"), photo[:, : photo.shape[1] // 3, ::-1])  # the same name, fewer people
    (folder / "1.jpg").unlink()
    assert (out / "1_face0.png").exists()
    assert (out / "0_face5.png").exists()
    run(folder, out)
    assert f"{PHOTOS - 3} of {PHOTOS - 1} photos are done already" in capsys.readouterr().out
    assert not (out / "1_face0.png").exists()
    assert not (out / "0_face5.png").exists()
    records = {r["name"]: r for r in json.loads((out / "faces.json").read_text())}
    assert "1" not in records
    assert 0 < len(records["0"]["faces"]) < 6
