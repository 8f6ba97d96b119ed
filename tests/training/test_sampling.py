import numpy as np

from facelib.training.sampling import EpochSampler, rank_among_equals


def test_sampler():
    sampler = EpochSampler(100)
    first = list(sampler)
    assert list(sampler) == first
    sampler.start_epoch(1)
    assert list(sampler) != first
    assert sorted(first) == list(range(100))
    assert all(type(index) is int for index in first)


def test_what_is_shown_twice_has_two_indices():
    """Index modulo items is the item; so an epoch that shows it again augments it again."""
    indices = list(EpochSampler(3, length=8))
    assert len(set(indices)) == 8
    assert sorted(index % 3 for index in indices) in (
        [0, 0, 0, 1, 1, 1, 2, 2],
        [0, 0, 0, 1, 1, 2, 2, 2],
        [0, 0, 1, 1, 1, 2, 2, 2],
    )
    assert rank_among_equals(np.array([5, 7, 5, 5, 7])).tolist() == [0, 0, 1, 2, 1]


def test_photos_of_a_person_follow_each_other():
    labels = np.arange(100) % 7
    grouped = np.array(list(EpochSampler(100, labels=labels, samples_per_class=4)))
    assert sorted(grouped) == list(range(100))
    changes = (np.diff(labels[grouped]) != 0).sum()
    assert changes < 100 / 3  # at random it would be about 85


def test_photos_of_a_person_follow_each_other_also_where_sources_are_weighted():
    labels = np.arange(100) % 7
    weights = np.where(np.arange(100) < 50, 3.0, 1.0)
    drawn = np.array(list(EpochSampler(100, weights, 400, labels, 4)))
    assert len(set(drawn.tolist())) == len(drawn) == 400  # what is drawn twice has two indices
    assert 0.65 < (drawn % 100 < 50).mean() < 0.85
    assert (np.diff(labels[drawn % 100]) != 0).sum() < 400 / 3


def test_weights_of_zero_are_never_drawn():
    weighted = np.array(list(EpochSampler(100, weights=np.repeat([1.0, 0.0], 50), length=400)))
    assert len(weighted) == 400
    assert (weighted % 100 < 50).all()
    assert len(set(weighted.tolist())) == 400
