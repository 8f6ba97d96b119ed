import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facelib.checkpoints import read_manifest
from facelib.clean_people import own_cosines, same_people
from facelib.datasets import FaceList, load_orl
from facelib.embedding import load_embedder
from facelib.face_data import LISTS, AlignedDataset, clean_faces, cut_faces, family, own_faces, training_faces
from facelib.losses import margin_schedule
from facelib.train_embedder import main as train


def faces_of(*keys):
    files = [Path("crops") / key for key in keys]
    return FaceList(files, np.array([f.parent.name for f in files]), np.full(len(files), "train"))


def test_frozen_lists_are_applied(tmp_path):
    (tmp_path / "excluded_people.txt").write_text("bad\n")
    (tmp_path / "same_people.txt").write_text("anna anna_again\n")
    (tmp_path / "dropped_photos.txt").write_text("anna/2.webp\n")
    faces = faces_of("anna/1.webp", "anna/2.webp", "bad/1.webp", "anna_again/2.webp", "zoe/2.webp")
    clean = clean_faces(faces, tmp_path)
    assert [f"{f.parent.name}/{f.name}" for f in clean.files] == ["anna/1.webp", "anna_again/2.webp", "zoe/2.webp"]
    assert clean.people.tolist() == ["anna", "anna", "zoe"]


def test_the_shipped_lists_are_whole():
    """Every line has its form, nobody is merged with somebody excluded, and no chain of merges is left."""
    excluded = (LISTS / "excluded_people.txt").read_text().split()
    same = [line.split() for line in (LISTS / "same_people.txt").read_text().splitlines()]
    dropped = (LISTS / "dropped_photos.txt").read_text().split()
    assert len(excluded) == len(set(excluded))
    assert len(excluded) >= 14
    assert all(len(pair) == 2 and pair[0] != pair[1] for pair in same)
    kept, gone = {a for a, _ in same}, {b for _, b in same}
    assert len(gone) == len(same)
    assert not kept & gone
    assert not (kept | gone) & set(excluded)
    assert all(key.count("/") == 1 for key in dropped)
    assert len(dropped) == len(set(dropped))


def test_cuts_for_comparison(pipeline):
    orl = load_orl().where(np.arange(3))
    for how in ("box", "eyes", "five_points"):
        cut, kept = cut_faces(orl, how, pipeline.landmarker)
        assert cut.shape == (3, 112, 112, 3)
        assert len(kept) == 3
    with pytest.raises(ValueError, match="how='nose': expected 'box'"):
        cut_faces(orl, "nose", pipeline.landmarker)


def test_one_person_is_not_enough(pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("facelib.face_data.load_detector", lambda: pipeline.detector)
    (tmp_path / "mine/anna").mkdir(parents=True)
    Image.open(load_orl().files[0]).convert("RGB").resize((368, 448)).save(tmp_path / "mine/anna/1.png")
    with pytest.raises(ValueError, match="one person only"):
        own_faces(tmp_path / "mine", pipeline.landmarker)


def test_folders_of_one_name_do_not_share_their_faces(own_folder, pipeline, tmp_path):
    """The second of two folders called mine got the faces of the first, and a replaced photo kept its old face."""
    other = tmp_path / "elsewhere" / "mine"
    shutil.copytree(own_folder, other)
    for person in ("s1", "s2"):
        picture = Image.open(load_orl().files[200 if person == "s1" else 300]).convert("RGB").resize((368, 448))
        picture.save(other / person / "0.png")
    with pytest.warns(UserWarning, match="left out"):
        first, _ = own_faces(own_folder, pipeline.landmarker)
        second, _ = own_faces(other, pipeline.landmarker)
    assert len(first) == len(second)
    assert (first[0] != second[0]).any()
    shutil.copy(other / "s1" / "0.png", own_folder / "s1" / "0.png")
    with pytest.warns(UserWarning, match="left out"):
        replaced, _ = own_faces(own_folder, pipeline.landmarker)
    np.testing.assert_array_equal(replaced[0], second[0])


def test_training_people_are_warned_about_and_kept_apart(pipeline, prepared):
    prepared("some", {"s1": ("s1", 2), "s2": ("s2", 1)})
    prepared("more", {"s3": ("s3", 2)})
    with pytest.warns(UserWarning, match=r"1 people have a single photo, e.g. s2"):
        aligned, faces = training_faces(["some", "more"], pipeline.landmarker)
    assert aligned.shape == (5, 112, 112, 3)
    assert faces.people.tolist() == ["s1", "s1", "s2", "s3", "s3"]
    prepared("faces_unseen", {"s3": ("s3", 1)}, "open_val")
    with pytest.raises(ValueError, match=r"training and faces_unseen share 1 people.*s3"):
        training_faces(["some", "more"], pipeline.landmarker)


def test_family():
    assert family("fiw_0123_1") == family("fiw_0123_2") == "fiw_0123"
    assert family("pins_001") == "pins_001"


def test_one_person_under_two_keys_is_found():
    """Six people of five photos; one has two keys, two of one source look the same, one has a wrong photo."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 32))
    centres[5] = centres[4]
    names = ["a", "b", "c", "d", "fiw_1_1", "fiw_1_2"]
    vectors = centres.repeat(5, 0) + 0.3 * rng.normal(size=(30, 32))
    people = np.repeat(names, 5)
    people[3:5] = "e"  # two photos of a are too few to be sure
    vectors = np.concatenate([vectors, centres[[1, 1, 1, 3]] + 0.3 * rng.normal(size=(4, 32))])
    people = np.concatenate([people, ["other_b"] * 3, ["c"]])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    (pair,) = same_people(vectors, people, 0.7)
    assert pair[:2] == ("b", "other_b")
    assert pair[2] > 0.9
    own = own_cosines(vectors, people)
    assert np.nanargmin(own) == 33
    assert own[33] < 0.5
    assert np.isnan(own[people == "e"]).all()


@pytest.fixture
def own_folder(tmp_path, pipeline, monkeypatch):
    """Three people of ORL enlarged, two photos each, one of them broken, and an empty folder."""
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("facelib.face_data.load_detector", lambda: pipeline.detector)
    orl = load_orl()
    for person in ("s1", "s2", "s3"):
        (tmp_path / "mine" / person).mkdir(parents=True)
        for photo, i in enumerate(np.flatnonzero(orl.people == person)[:2]):
            picture = Image.open(orl.files[i]).convert("RGB").resize((368, 448))
            picture.save(tmp_path / "mine" / person / f"{photo}.png")
    (tmp_path / "mine/s3/1.png").write_bytes(b"not a picture")
    (tmp_path / "mine/empty").mkdir()
    return tmp_path / "mine"


@pytest.mark.filterwarnings("ignore:.*single photo")
def test_training_on_ones_own_folder(own_folder, tmp_path, monkeypatch, capsys):
    """One command: photos by person in, weights out, the broken photo named, and it can be loaded."""
    options = "--stages 32:1 40:1 --learning-rate 0.001 --margin 0.2 --batch-size 4 --workers 0 --device cpu"
    command = ["train_embedder", "--folder", str(own_folder), "--out", str(tmp_path / "my.pt"), *options.split()]
    monkeypatch.setattr("sys.argv", command)
    with pytest.warns(UserWarning, match=r"(?s)1 of 6 photos left out.*s3/1\.png"):
        train()
    said = capsys.readouterr().out
    assert "The margin rises to 0.2" in said
    assert "No photo is held out" in said
    entry = read_manifest(tmp_path)["my.pt"]
    assert "mine: 5 photos of 3 people" in entry["training"]["data"]
    assert [row["input_size"] for row in entry["training"]["history"]] == [32, 40]
    assert [row["margin"] for row in entry["training"]["history"]] == [0.2, 0.2]
    assert entry["preprocessing"]["input_size"] == 40
    vectors = load_embedder(tmp_path / "my.pt", device="cpu").embed(np.zeros((2, 112, 112, 3), np.uint8))
    assert vectors.shape == (2, 512)
    # Going on from weights has the full margin at once, and tells what those were trained with.
    margins = []
    monkeypatch.setattr(
        "facelib.train_embedder.margin_schedule",
        lambda *a, **k: margins.append(margin_schedule(*a, **k)) or margins[-1],
    )
    second = [*command, "--stages", "32:1", "--start", str(tmp_path / "my.pt"), "--out", str(tmp_path / "second.pt")]
    monkeypatch.setattr("sys.argv", second)
    with pytest.warns(UserWarning, match="1 folders .* hold no photo"):
        train()
    assert set(margins) == {0.2}
    training = read_manifest(tmp_path)["second.pt"]["training"]
    assert training["started_from"] == entry
    assert len(training["history"]) == 1
    monkeypatch.setattr("sys.argv", command)
    # A checkpoint of other photos is refused, and stays.
    (own_folder / "s2/1.png").unlink()
    with pytest.raises(ValueError, match=r"my\.pt is of another run"), pytest.warns(UserWarning):
        train()


def test_strength_of_the_augmentation():
    """None shows the faces as they are, 0 also mirrored; the stronger, the more of them are changed otherwise."""
    faces = np.random.default_rng(0).integers(0, 255, (60, 112, 112, 3), dtype=np.uint8)

    def shown(strength):
        dataset = AlignedDataset(faces, np.zeros(60, int), size=112, strength=strength)
        return [dataset[i, i][0].numpy() for i in range(60)]

    plain = shown(None)
    as_they_are, mirrored, changed = {}, {}, {}
    for strength in (0.0, 0.3, 1.0):
        pictures = shown(strength)
        as_they_are[strength] = sum((a == b).all() for a, b in zip(plain, pictures))
        mirrored[strength] = sum((a[..., ::-1] == b).all() for a, b in zip(plain, pictures))
        changed[strength] = 60 - as_they_are[strength] - mirrored[strength]
    assert changed[0.0] == 0
    assert 15 < mirrored[0.0] < 45
    assert 10 < changed[0.3] < changed[1.0]


def test_stages_that_cannot_be_read(own_folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train_embedder", "--folder", str(own_folder), "--stages", "64:5", "112"])
    with pytest.raises(SystemExit):
        train()
    assert "--stages 64:5 112: expected size:epochs" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("loss", "message"),
    [("cross_entropy", "cross_entropy has no class margins"), ("arcface", "no column source")],
)
def test_by_source_needs_a_margin_and_sources(own_folder, tmp_path, monkeypatch, loss, message):
    command = ["train_embedder", "--folder", str(own_folder), "--out", str(tmp_path / "my.pt"), "--device", "cpu"]
    monkeypatch.setattr("sys.argv", [*command, "--loss", loss, "--by-source"])
    with pytest.raises(ValueError, match=message):
        train()
    assert not (tmp_path / "my.pt").exists()
