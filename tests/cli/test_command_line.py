import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from facelib import sample_photo
from facelib.cli.main import main
from facelib.io.files import unique_names
from facelib.settings import SPIN_COUNT


def run(*arguments):
    return main([*map(str, arguments), "--detector", "retinaface", "--device", "cpu"])


def test_sample(tmp_path, capsys):
    assert run("--sample", "--out", tmp_path) == 0
    table = capsys.readouterr().out
    assert table.count("t1.jpg") >= 6
    assert "6 faces in 1 of 1 photos" in table
    records = json.loads((tmp_path / "faces.json").read_text())
    assert len(records) == 1
    assert len(records[0]["faces"]) == 6
    assert np.array(records[0]["faces"][0]["landmarks"]).shape == (5, 2)
    saved = np.load(tmp_path / "embeddings.npz")
    assert saved["embeddings"].shape[0] == 6
    np.testing.assert_allclose(np.linalg.norm(saved["embeddings"], axis=1), 1, atol=1e-5)
    assert saved["face"].tolist() == list(range(6))
    for number in range(6):
        assert Image.open(tmp_path / f"t1_face{number}.png").size == (112, 112)
    for name in ("t1_annotated.jpg", "distances.png"):
        assert min(Image.open(tmp_path / name).size) > 200


def test_folder_with_bad_photos(tmp_path, capsys):
    photos = tmp_path / "photos"
    for name in ("a/one.jpg", "b/one.jpg"):
        (photos / name).parent.mkdir(parents=True)
        (photos / name).write_bytes(sample_photo().read_bytes())
    (photos / "text.jpg").write_text("no picture")
    Image.new("RGB", (200, 100)).save(photos / "blank.png")
    assert run(photos, tmp_path / "gone.jpg", "--out", tmp_path / "out", "--batch-size", 2) == 1
    printed = capsys.readouterr()
    assert "text.jpg" in printed.err
    assert "gone.jpg: no such file" in printed.err
    assert "12 faces in 3 of 5 photos" in printed.out
    records = json.loads((tmp_path / "out/faces.json").read_text())
    assert [len(r["faces"]) for r in records] == [6, 6, 0, 0, 0]
    assert ["error" in r for r in records] == [False, False, False, True, True]
    assert (tmp_path / "out/one-2_face5.png").exists()


def test_nothing_to_do(tmp_path, capsys):
    assert run(tmp_path, "--out", tmp_path / "out") == 2
    assert "no photos in" in capsys.readouterr().err
    assert run("--out", tmp_path) == 2
    assert "give photos or folders, or --sample" in capsys.readouterr().err
    assert run(tmp_path / "gone.jpg", "--out", tmp_path / "out") == 2
    assert "gone.jpg: no such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_photos_without_faces(tmp_path, capsys):
    Image.new("RGB", (200, 100)).save(tmp_path / "blank.png")
    assert run(tmp_path / "blank.png", "--out", tmp_path / "out") == 0
    assert "0 faces in 1 of 1 photos" in capsys.readouterr().out
    assert len(np.load(tmp_path / "out/embeddings.npz")["embeddings"]) == 0


def test_out_is_a_file(tmp_path, capsys):
    (tmp_path / "out").touch()
    assert run("--sample", "--out", tmp_path / "out") == 2
    assert "out" in capsys.readouterr().err


HEAVY = {"torch", "numpy", "cv2", "PIL", "onnxruntime", "sklearn", "matplotlib"}


@pytest.mark.parametrize("arguments", [["--help"], ["detect", "--help"], ["detect"], ["compare", "a.jpg", ""]])
def test_help_and_wrong_arguments_answer_at_once(arguments):
    """Nothing heavy is imported before it is needed."""
    code = f"import sys\nfrom facelib.cli.main import main\ncode = main({arguments})\n"
    code += f"assert not {HEAVY} & set(sys.modules)\nsys.exit(code)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == (0 if "--help" in arguments else 2), done.stderr
    assert "Traceback" not in done.stderr
    if "detect" in arguments and "--help" in arguments:
        assert "--detector" in done.stdout


def test_threads_do_not_spin(tmp_path):
    """The command line and the tests set the variable before PyTorch is loaded."""
    assert os.environ["GOMP_SPINCOUNT"] == SPIN_COUNT
    code = "import runpy, sys, os\nsys.argv = ['facelib', '--help']\n"
    code += (
        "try: runpy.run_module('facelib', run_name='__main__')\nexcept SystemExit: print(os.environ['GOMP_SPINCOUNT'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == SPIN_COUNT


def test_one_face_is_one_face(tmp_path, capsys, photo):
    Image.fromarray(photo[:, :300]).save(tmp_path / "one.png")
    assert run(tmp_path / "one.png", "--out", tmp_path / "out") == 0
    assert "1 face in 1 of 1 photos" in capsys.readouterr().out


def test_names_never_collide(tmp_path):
    names = unique_names([tmp_path / n for n in ("a/x.jpg", "b/x.jpg", "x-2.jpg", "x.png")])
    assert len(set(names)) == 4
