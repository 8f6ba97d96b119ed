import albumentations as A
import numpy as np
import pytest
import torch

from facelib.datasets import FaceList, load_orl
from facelib.embedding import Embedder, EmbeddingNetwork
from facelib.landmarks import MIRRORED
from facelib.losses import ArcFace
from facelib.metrics import identification_rate, top_k_accuracy
from facelib.preparation import align_photos
from facelib.train_embedder import AlignedDataset, EmbeddingClassifier, closed_set_logits, train_embedder
from facelib.train_landmarks import LandmarkDataset, jitter_box
from facelib.training import EpochSampler, fit


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
    assert second == history
    for a, b in zip(whole.state_dict().values(), parts.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


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


def test_sampler():
    sampler = EpochSampler(100, seed=3)
    first = list(sampler)
    assert list(sampler) == first
    sampler.epoch = 1
    assert list(sampler) != first
    assert sorted(i for i, _ in first) == list(range(100))
    weighted = EpochSampler(100, weights=torch.tensor([1.0] * 50 + [0.0] * 50), length=40)
    assert len(list(weighted)) == 40
    assert all(i < 50 for i, _ in weighted)


def test_augmented_landmarks_stay_on_the_face(photo, pipeline):
    """The landmarker, shown a turned and mirrored crop, finds the labels where the dataset puts them."""
    from facelib.heatmaps import cells_to_image, heatmaps_to_points

    faces = pipeline(photo)
    from facelib import sample_photo

    listed = FaceList(
        [sample_photo()] * 6,
        np.arange(6),
        np.full(6, "train"),
        np.stack([f.box for f in faces]),
        np.stack([f.landmarks for f in faces]),
    )
    dataset = LandmarkDataset(listed, pipeline.landmarker.input_size)
    dataset.augment = A.Compose([])  # moves only
    errors = []
    for item in range(48):
        image, heatmaps = dataset[(item % 6, item)]
        crop = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        found = pipeline.landmarker.predict_crops(crop[None])[0]
        drawn = cells_to_image(heatmaps_to_points(heatmaps), 4).numpy()
        errors.append(np.linalg.norm(found - drawn, axis=1).mean() / np.linalg.norm(drawn[0] - drawn[1]))
    assert np.median(errors) < 0.08
    assert dataset[(0, 5)][0].equal(dataset[(0, 5)][0])
    assert MIRRORED == [1, 0, 2, 4, 3]


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
    model = EmbeddingClassifier(EmbeddingNetwork(embedding_size=64, pretrained=True), ArcFace(64, 12))
    dataset = AlignedDataset(aligned, labels, np.flatnonzero(train), size=64)
    history = train_embedder(model, dataset, epochs=8, batch_size=16, learning_rate=0.02, margin=0.3, progress=False)
    assert history[-1]["loss"] < history[0]["loss"]
    accuracy = top_k_accuracy(closed_set_logits(model, aligned[test], 64), labels[test])
    assert accuracy > 0.7
    rate = identification_rate(Embedder(model.network, 64).embed(unseen_faces), unseen.people, fprs=[0.1])[0]["tpr"]
    assert rate > 0.4
