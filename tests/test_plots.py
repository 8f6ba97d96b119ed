"""Figures of the notebooks."""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest

from facelib.io.files import printable
from facelib.plots import annotated_photo, distance_matrix, name_text, rates_by_group, show_image


@pytest.mark.parametrize("name", ["$x_{$", "王小明", "a\nb\x1b[31m", "\udcff", "100% ^_\\frac", "😀" * 300])
def test_any_name_can_be_drawn(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of characters that the font lacks
        figure = annotated_photo(np.full((40, 60, 3), 99, np.uint8), [], name)
        figure.savefig(tmp_path / "a.jpg")
        plt.close(figure)
    assert len(name_text(name)["label"]) <= 100
    assert name_text("é and ß")["label"] == "é and ß"
    assert "\n" not in printable(name)


def test_large_photos_are_downscaled():
    axes = show_image(np.zeros((9, 30_000, 3), np.uint8), axes=plt.figure().gca())
    assert axes.images[0].get_array().shape == (1, 2000, 3)
    assert axes.get_xlim() == (-0.5, 29_999.5)
    plt.close()


def test_faces_of_the_matrix_have_labels():
    faces = [np.zeros((112, 112, 3), np.uint8)] * 3
    figure = distance_matrix(faces, np.ones((3, 3)), labels=["a 0", "a 1", "b$ 0"])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("b$ 0") == 2
    figure = distance_matrix(faces, np.ones((3, 3)))
    assert [text.get_text() for text in figure.axes[0].texts].count("2") == 2
    plt.close("all")


def test_rates_of_groups_are_sorted_and_zero_is_drawn_at_the_end():
    cosine = {"a": (0.2, 0.1, 0.3), "b": (0.001, 0.0005, 0.002)}
    score = {"a": (0.002, 0.001, 0.004), "b": (0.0, 0.0, 0.0)}
    axes = rates_by_group(plt.figure().gca(), {"cosine": cosine, "score": score}, 0.001)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    drawn = [container.lines[0].get_xdata().tolist() for container in axes.containers]
    assert drawn == [[0.001, 0.2], [1e-4, 0.002]]
    assert axes.get_xscale() == "log" and axes.get_xlim()[0] == 1e-4
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["target, 0.1%", "cosine", "score"]
    plt.close()
