import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from facelib.datasets import FaceList, load_orl
from facelib.embedding import Embedder, EmbeddingNetwork
from facelib.face_data import AlignedDataset, TightCrop
from facelib.landmark_data import LandmarkDataset, jitter_box, pseudo_labelled_faces, spoil_augmentation
from facelib.landmarks import MIRRORED
from facelib.losses import ArcFace
from facelib.metrics import identification_rate, top_k_accuracy
from facelib.preparation import align_photos, decode_photos
from facelib.train_embedder import EmbeddingClassifier, closed_set_logits, train_embedder
from facelib.training import EpochSampler, ShareOfBatches, fit


def small_model(classes=4):
    torch.manual_seed(0)
    return EmbeddingClassifier(EmbeddingNetwork(embedding_size=16), ArcFace(16, classes))


@pytest.fixture(scope="module")
def noise():
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (16, 112, 112, 3), dtype=np.uint8), np.arange(16) % 4


def test_resume_continues_exactly(noise, tmp_path):
    """Two epochs of two steps at once equal one and one."""
    options = dict(epochs=2, batch_size=8, progress=False)
    whole, parts = small_model(), small_model()
    dataset = AlignedDataset(*noise, size=32)
    history = train_embedder(whole, dataset, **options)
    first = train_embedder(parts, dataset, checkpoint=tmp_path / "run.pt", stop_after=1, **options)
    assert len(first) == 1
    torch.manual_seed(99)  # a new process starts anywhere
    parts = small_model()
    second = train_embedder(parts, dataset, checkpoint=tmp_path / "run.pt", **options)
    for row in (*second, *history):
        del row["images_per_s"], row["waiting"]  # times differ
    assert second == history
    for a, b in zip(whole.state_dict().values(), parts.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_size_for_each_epoch(noise):
    """Each epoch trains at its own input size, and a run must say one for each."""
    model, seen = small_model(), []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    dataset = AlignedDataset(*noise, size=112)
    train_embedder(model, dataset, epochs=3, sizes=[32, 32, 48], batch_size=8, progress=False)
    assert seen == [(32, 32)] * 4 + [(48, 48)] * 2
    with pytest.raises(ValueError, match="2 sizes for 3 epochs"):
        train_embedder(model, dataset, epochs=3, sizes=[32, 48], batch_size=8, progress=False)


def test_checkpoint_of_another_run_is_refused(noise, tmp_path):
    dataset = AlignedDataset(*noise, size=32)
    train_embedder(small_model(), dataset, epochs=1, batch_size=8, progress=False, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"run\.pt is of another run"):
        train_embedder(small_model(), dataset, epochs=3, batch_size=8, progress=False, checkpoint=tmp_path / "run.pt")
    other = EmbeddingClassifier(EmbeddingNetwork(embedding_size=16), ArcFace(16, 9))
    with pytest.raises(ValueError, match=r"run\.pt is of another"):
        train_embedder(other, dataset, epochs=1, batch_size=8, progress=False, checkpoint=tmp_path / "run.pt")


def test_nan_stops_with_the_step_and_keeps_the_checkpoint(tmp_path):
    model = torch.nn.Linear(1, 1)

    class Numbers(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, item):
            return (torch.ones(1),)

    def loss_of(batch, progress):
        return model(batch[0]).mean() * (float("nan") if progress > 0.7 else 1.0)

    with pytest.raises(FloatingPointError, match=r"epoch 2, step 2, at learning rate"):
        fit(
            model,
            Numbers(),
            loss_of,
            epochs=2,
            batch_size=4,
            learning_rate=0.1,
            progress=False,
            checkpoint=tmp_path / "run.pt",
        )
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    assert len(saved["history"]) == 1
    assert torch.isfinite(saved["model"]["weight"]).all()


def test_too_few_photos_for_a_batch(noise):
    with pytest.raises(ValueError, match="16 items are fewer than one batch of 64"):
        train_embedder(small_model(), AlignedDataset(*noise), epochs=1, batch_size=64, progress=False)


def test_class_weights_learn():
    """The mistake that spoils many ArcFace trainings: class vectors that no optimizer holds."""
    model = small_model()
    held = {id(p) for group in model.parameter_groups(0.1) for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["network.head.3.bias"]


def test_sampler():
    sampler = EpochSampler(100, seed=3)
    first = list(sampler)
    assert list(sampler) == first
    sampler.epoch = 1
    assert list(sampler) != first
    assert sorted(i for i, _ in first) == list(range(100))
    assert sorted(i for i, _ in EpochSampler(3, length=6)) == [0, 0, 1, 1, 2, 2]
    labels = np.arange(100) % 7
    grouped = [i for i, _ in EpochSampler(100, labels=labels, together=4)]
    assert sorted(grouped) == list(range(100))
    changes = (np.diff(labels[grouped]) != 0).sum()
    assert changes < 100 / 3  # at random it would be about 85
    weighted = EpochSampler(100, weights=torch.tensor([1.0] * 50 + [0.0] * 50), length=40)
    assert len(list(weighted)) == 40
    assert all(i < 50 for i, _ in weighted)


def test_processes_share_every_batch():
    """Two processes see together exactly what one sees, batch by batch."""
    one, first, second = (list(ShareOfBatches(EpochSampler(22), 8, *who)) for who in ((0, 1), (0, 2), (1, 2)))
    assert [len(batch) for batch in one] == [8, 8]
    assert [a + b for a, b in zip(first, second)] == one


TWO_PROCESSES = """
import sys, torch
torch.set_num_threads(1)
from facelib.training import fit, start_processes
device = start_processes("cpu")
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
inputs = torch.randn(64, 6)

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, item):
        return inputs[item[0]], item[0] % 3

def loss_of(batch, progress):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

history = fit(model, Rows(), loss_of, epochs=4, batch_size=16, learning_rate=0.05, progress=False, checkpoint=sys.argv[1])
"""


def test_torchrun_on_two_processes_gives_the_same_curve(tmp_path):
    (tmp_path / "job.py").write_text(TWO_PROCESSES)
    curves = []
    for count in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        target = tmp_path / f"{count}.pt"
        done = subprocess.run([*command, tmp_path / "job.py", target], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        curves.append([row["loss"] for row in torch.load(target, weights_only=True)["history"]])
    assert curves[0][-1] < curves[0][0]
    np.testing.assert_allclose(*curves, rtol=1e-4)


def test_a_batch_that_cannot_be_shared(noise, monkeypatch):
    monkeypatch.setattr("facelib.training.dist.is_initialized", lambda: True)
    monkeypatch.setattr("facelib.training.dist.get_rank", lambda: 0)
    monkeypatch.setattr("facelib.training.dist.get_world_size", lambda: 3)
    with pytest.raises(ValueError, match="batch of 8 cannot be shared equally by 3"):
        train_embedder(small_model(), AlignedDataset(*noise), epochs=1, batch_size=8, progress=False)


def test_history_tells_the_speed(noise):
    row = train_embedder(small_model(), AlignedDataset(*noise, size=32), epochs=1, batch_size=8, progress=False)[0]
    assert row["images_per_s"] > 0
    assert 0 < row["waiting"] < 1


def test_tight_crops_repeat_the_border():
    face = np.random.default_rng(1).integers(0, 255, (112, 112, 3), dtype=np.uint8)
    crop = TightCrop(p=1.0)
    heights = []
    for seed in range(20):
        crop.set_random_seed(seed)
        cut = crop(image=face)["image"]
        assert cut.shape == face.shape
        assert (cut[40:95, 25:87] == face[40:95, 25:87]).all()  # eyes, nose and mouth are never cut
        top = int(np.argmax((cut[:, 56] == face[:, 56]).all(1)))
        assert (cut[:top, 56] == face[top, 56]).all()
        heights.append(top)
    assert max(heights) > 20
    assert min(heights) < 10


def test_augmentation_moves_image_and_points_together(tmp_path):
    """A spot of its own colour at each landmark is still there after turning, scaling and mirroring."""
    from facelib.heatmaps import cells_to_image

    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [0, 250, 250]])
    points = np.array([[80.3, 85.1], [112.2, 80.0], [97.5, 100.7], [85.0, 115.5], [112.8, 112.2]], np.float32)
    y, x = np.mgrid[:192, :192]
    spots = np.exp(-((x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2) / (2 * 3.0**2))
    image = np.einsum("phw,pc->hwc", spots, colours).clip(0, 255).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "spots.png")
    box = np.array([[53, 50, 139, 142]], np.float32)
    listed = FaceList([tmp_path / "spots.png"], np.zeros(1), np.full(1, "train"), box, points[None])
    dataset = LandmarkDataset(listed, 128)
    dataset.spoil = None
    mirrored = 0
    for seed in range(40):
        tensor, cells = dataset[(0, seed)]
        crop, found = ((tensor + 1) * 127.5).permute(1, 2, 0).numpy(), cells_to_image(cells, 4).numpy()
        at = np.array([crop[round(float(py)), round(float(px))] for px, py in found])
        nearest = np.abs(at[:, None] - colours).sum(2).argmin(1).tolist()
        assert nearest in ([0, 1, 2, 3, 4], MIRRORED)
        mirrored += nearest == MIRRORED
        assert np.abs(at - colours[nearest]).max() < 40  # the middle of the spot, not its slope
    assert 10 <= mirrored <= 30
    assert dataset[(0, 5)][0].equal(dataset[(0, 5)][0])


def test_spoiling_moves_nothing(photo):
    """What is meant to change no landmark keeps the picture where it is."""
    spoil = spoil_augmentation()
    face = np.ascontiguousarray(photo[:128, :128])
    before = cv2.cvtColor(cv2.resize(face, (16, 16), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).ravel()
    alike = []
    for seed in range(30):
        spoil.set_random_seed(seed)
        after = cv2.resize(spoil(image=face)["image"], (16, 16), interpolation=cv2.INTER_AREA)
        alike.append(np.corrcoef(before, cv2.cvtColor(after, cv2.COLOR_RGB2GRAY).ravel())[0, 1])
    assert np.median(alike) > 0.9


def test_pseudo_labels_leave_out_forbidden_people(tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    (tmp_path / "some").mkdir()
    points = ",".join(f"{n}_{c}" for n in ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth") for c in "xy")
    rows = [f"{person}/{i}.webp,{person},train," + ",".join(map(str, range(10))) for person in "abc" for i in range(6)]
    (tmp_path / "some/faces.csv").write_text("\n".join([f"file,person,split,{points}", *rows]))
    faces = pseudo_labelled_faces(["some"], {"b"}, per_person=4)
    assert sorted(set(faces.people.tolist())) == ["a", "c"]
    assert len(faces) == 8
    assert faces.points.shape == (8, 5, 2)
    assert set(faces.sets.tolist()) == {"detector"}
    (tmp_path / "some/faces.csv").write_text("file,person,split\na/1.webp,a,train")
    with pytest.raises(ValueError, match="no columns left_eye_x"):
        pseudo_labelled_faces(["some"], set())


def test_decoded_photos_are_kept(tmp_path):
    for name, side in (("a.png", 8), ("b.png", 5)):
        Image.fromarray(np.full((side, side + 1, 3), side, np.uint8)).save(tmp_path / name)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    images = decode_photos(files, tmp_path / "cache.bin")
    assert [image.shape for image in images] == [(8, 9, 3), (5, 6, 3)]
    before = (tmp_path / "cache.bin").stat().st_ino
    again = decode_photos(files, tmp_path / "cache.bin")
    assert (tmp_path / "cache.bin").stat().st_ino == before
    assert [int(image.mean()) for image in again] == [8, 5]
    assert len(decode_photos(files[1:], tmp_path / "cache.bin")) == 1  # another list is not answered from it
    assert [int(image.mean()) for image in again] == [8, 5]  # and does not pull the file from under the first
    # A photo replaced under its name, a note that is none, an array that is cut short: made anew.
    Image.fromarray(np.full((8, 9, 3), 77, np.uint8)).save(tmp_path / "a.png")
    assert [int(image.mean()) for image in decode_photos(files, tmp_path / "cache.bin")] == [77, 5]
    (tmp_path / "cache.json").write_text('{"key"')
    assert [int(image.mean()) for image in decode_photos(files, tmp_path / "cache.bin")] == [77, 5]
    (tmp_path / "cache.bin").write_bytes(b"short")
    assert [int(image.mean()) for image in decode_photos(files, tmp_path / "cache.bin")] == [77, 5]


def test_jitter_stays_close():
    rng = np.random.default_rng(0)
    box = np.array([10.0, 10, 110, 90])
    for _ in range(50):
        moved = jitter_box(box, rng)
        assert np.abs((moved[:2] + moved[2:]) / 2 - [60, 50]).max() <= 8
        assert 80 <= moved[2] - moved[0] <= 125


def test_arcface_learns_orl_and_tells_unseen_people_apart(pipeline):
    """Twelve people, a minute on two cores: held-out photos above 0.7, unseen people far above chance."""
    faces = load_orl()
    few = [f"s{i}" for i in range(1, 13)]
    known = faces.where(np.isin(faces.people, few))
    unseen = faces.where(faces.splits == "unseen")
    aligned, known = align_photos(known, pipeline.landmarker, progress=False)
    unseen_faces, unseen = align_photos(unseen, pipeline.landmarker, progress=False)
    _, labels = np.unique(known.people, return_inverse=True)
    train, test = known.splits == "train", known.splits == "test"
    torch.manual_seed(0)
    model = EmbeddingClassifier(EmbeddingNetwork(embedding_size=64, pretrained=True), ArcFace(64, 12, scale=16))
    dataset = AlignedDataset(aligned, labels, np.flatnonzero(train), size=64)
    history = train_embedder(
        model, dataset, epochs=45, batch_size=16, optimizer="sgd", learning_rate=0.01, margin=0.3, progress=False
    )
    # The loss rises while the margin does, and falls once the margin stays.
    assert history[-1]["loss"] < history[0]["loss"] / 2
    accuracy = top_k_accuracy(closed_set_logits(model, aligned[test], 64), labels[test])
    assert accuracy > 0.7
    rate = identification_rate(Embedder(model.network, 64).embed(unseen_faces), unseen.people, fprs=[0.1])[0]["tpr"]
    assert rate > 0.4
