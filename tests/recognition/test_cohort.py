"""Score normalisation: by hand, what it is for, and that no centre is anybody's embedding."""

import numpy as np
import pytest
from people import synthetic_embeddings

from facelib.recognition.calibration import Calibration
from facelib.recognition.cohort import MIN_MEMBERS, Cohort, load_cohort, make_cohort, save_cohort, score_offsets
from facelib.recognition.match_rates import MeasuredFaces, calibrate, match_rates, split_pairs


def strangers(count, cone=0.0, seed=0, size=32):
    """Embeddings (count, size) of different people; `cone` above 0: near a common direction, so near to each other."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, size)) / np.sqrt(size)
    vectors[:, 0] += cone
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_score_by_hand():
    """Cosine less half the weight times how near each face is to its two nearest centres."""
    cohort = Cohort("abc", np.eye(3, dtype=np.float32), neighbours=2, weight=0.5)
    faces = np.array([[0.6, 0.8, 0], [0, 0, 1]], np.float32)
    np.testing.assert_allclose(cohort.similarity(faces), [0.7, 0.5])  # (0.6 + 0.8) / 2, (1 + 0) / 2
    np.testing.assert_allclose(score_offsets(faces, cohort), [0.175, 0.125])
    calibration = Calibration("abc", [-1, 1], [1, 0.001], [], [], {}, 0.001, "synthetic", cohort=cohort)
    scores = calibration.score_matrix(3 * faces, faces)  # of any length
    np.testing.assert_allclose(scores, [[1 - 0.35, -0.3], [-0.3, 1 - 0.25]], atol=1e-6)
    assert score_offsets(faces, None).tolist() == [0, 0]
    with pytest.raises(ValueError, match=r"embeddings of shape \(2, 2\), the cohort of abc has \(n, 3\)"):
        cohort.similarity(faces[:, :2])


def test_the_rates_of_a_dense_group_come_near_to_those_of_others():
    """Two groups, one in a cone: with the cosine its FMR is many times that of the other, with a cohort up to thrice."""
    both = [strangers(2000, seed=1), strangers(2000, cone=0.5, seed=2)]
    cohort = make_cohort("abc", np.concatenate([both[0][:1000], both[1][:1000]]))
    ratios = []
    for used in (None, cohort):
        sparse, dense = (split_pairs(MeasuredFaces("x", e[1000:], np.arange(1000)), used)[1]["x"] for e in both)
        score = np.quantile(sparse.scores, [0.999])
        ratios.append(float(match_rates(dense, score)[0] / 0.001))
    assert ratios[0] > 10
    assert 1 / 3 < ratios[1] < 3


def test_the_worst_group_counts():
    """A calibration by groups prints the rate of the dense one."""
    embeddings = np.concatenate([strangers(300, seed=1), strangers(300, cone=0.8, seed=2)])
    groups = np.repeat(["sparse", "dense"], 300)
    calibration = calibrate("abc", [MeasuredFaces("x", embeddings, np.arange(600), groups)], None, "synthetic")
    score = calibration.score_at(0.01)
    rates = calibration.group_rates(score)
    assert list(rates) == ["dense", "sparse"]
    assert rates["dense"] == pytest.approx(0.01, rel=0.05)
    assert rates["sparse"] == calibration.lowest_rate
    dense = split_pairs(MeasuredFaces("x", embeddings[300:], np.arange(300)), None)[1]["x"]
    assert match_rates(dense, np.array([score]))[0] == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("seed", range(20))
def test_no_centre_is_an_embedding(seed, tmp_path):
    """Not of faces of which some are there several times, not of very dense ones, nor after saving."""
    rng = np.random.default_rng(seed)
    size, number = int(rng.integers(2, 64)), int(rng.integers(20, 400))
    embeddings = strangers(number, cone=float(rng.uniform(0, 2)), seed=seed, size=size)
    copies = rng.integers(number, size=number // 2)
    noise = rng.normal(size=(len(copies), size)) * rng.choice([0, 1e-4, 0.01]) / np.sqrt(size)
    embeddings = np.concatenate([embeddings, embeddings[copies] + noise]).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    try:
        cohort = make_cohort("abc", embeddings, seed=seed)
    except ValueError as error:
        assert "faces form too few groups of 3 people for a cohort: give more people" in str(error)
        return
    save_cohort(cohort, tmp_path / "cohort.npz")
    loaded = load_cohort(tmp_path / "cohort.npz", cohort.id)
    np.testing.assert_array_equal(loaded.centres, cohort.centres)
    assert (loaded.id, loaded.neighbours, loaded.weight) == (cohort.id, cohort.neighbours, cohort.weight)
    cosines = embeddings @ cohort.centres.T
    own = cosines.argmax(1)
    assert cosines[np.arange(len(own)), own].max() < 0.985
    assert (np.bincount(own, minlength=len(cohort.centres)) >= MIN_MEMBERS - 1).all()


def test_too_few_people():
    with pytest.raises(ValueError, match="19 faces are too few for a cohort: at least 20 of different people are"):
        make_cohort("abc", strangers(19), neighbours=5)
    opposite = np.tile(np.array([[1, 0], [-1, 0]], np.float32), (20, 1))
    with pytest.raises(ValueError, match="40 faces form too few groups"):
        make_cohort("abc", opposite)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"centres": np.zeros((3, 2), np.float32)}, "centres are not of unit length"),
        ({"centres": np.full((3, 2), np.nan, np.float32)}, "centres are not of unit length"),
        ({"centres": 100 * np.eye(3, dtype=np.float32)}, "centres are not of unit length"),
        ({"centres": np.ones(3, np.float32)}, r"1 neighbours in centres of shape \(3,\)"),
        ({"neighbours": 4}, r"4 neighbours in centres of shape \(3, 3\)"),
        ({"neighbours": 0}, "0 neighbours"),
        ({"weight": 1.5}, "weight 1.5: expected 0 to 1"),
        ({"weight": float("nan")}, "weight nan"),
    ],
)
def test_impossible_cohorts(values, says):
    with pytest.raises(ValueError, match=says):
        Cohort(**{"model_id": "abc", "centres": np.eye(3, dtype=np.float32), "neighbours": 1, "weight": 0.5} | values)


def damaged(path, kind):
    """The file of a cohort as disks, hands and hostile people leave it."""
    content = path.read_bytes()
    stored = dict(np.load(path))
    if kind == "object":
        np.savez(path, **stored | {"centres": np.array([None] * 3, object)})
    elif kind == "compressed":
        np.savez_compressed(path, **stored)
        content = bytearray(path.read_bytes())
        content[60:90] = bytes(30)
        path.write_bytes(content)
    elif kind == "array":
        with open(path, "wb") as file:
            np.save(file, stored["centres"])
    elif kind in stored:
        del stored[kind]
        np.savez(path, **stored)
    elif kind == "infinite":
        np.savez(path, **stored | {"neighbours": np.inf})
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"no cohort" * 99}[kind])


KINDS = ("object", "compressed", "array", "centres", "neighbours", "weight", "infinite", "cut", "empty", "text")


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused(kind, tmp_path):
    cohort = make_cohort("abc", strangers(100))
    path = tmp_path / "cohort_abc.npz"
    save_cohort(cohort, path)
    damaged(path, kind)
    with pytest.raises(ValueError, match=r"cohort_abc\.npz is not a valid cohort \("):
        load_cohort(path, cohort.id)


def test_the_cohort_of_another_calibration(tmp_path):
    first, second = make_cohort("abc", strangers(100)), make_cohort("abc", strangers(100, seed=1))
    assert first.id != second.id
    save_cohort(first, tmp_path / "cohort.npz")
    with pytest.raises(ValueError, match=f"is the cohort {first.id}, the calibration was measured with {second.id}"):
        load_cohort(tmp_path / "cohort.npz", second.id)
    with pytest.raises(FileNotFoundError, match=r"none\.npz: the cohort of this embedder's calibration is missing"):
        load_cohort(tmp_path / "none.npz", first.id)


def test_photos_of_one_person_keep_a_higher_score():
    """Normalisation moves scores, but leaves those of genuine pairs above those of impostors."""
    embeddings, people = synthetic_embeddings(60, 4, spread=0.4)
    cohort = make_cohort("abc", strangers(400, seed=3))
    genuine, impostors = split_pairs(MeasuredFaces("x", embeddings, people), cohort)
    assert np.quantile(genuine.scores, 0.05) > np.quantile(impostors["x"].scores, 0.99)
