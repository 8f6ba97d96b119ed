"""Faces with labels of origin, sex and age: groups, and parts that share nobody."""

import csv

import numpy as np
import pytest

from facelib.datasets.groups import group_faces, group_name, group_title, world_faces
from facelib.datasets.splits import group_part, in_world_val
from facelib.settings import data_folder


def add_labels(name, labels, test=()):
    """Columns origin, sex and group in faces.csv, by person; people of `test` are in that split."""
    path = data_folder() / name / "faces.csv"
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= dict(zip(("origin", "sex", "group"), labels[row["person"]]))
        row["split"] = "test" if row["person"] in test else "train"
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("labels", "group"),
    [
        (("black", "female", "18-60"), "black women"),
        (("white", "male", "20-29"), "white men"),
        (("asian", "male", "18-60"), "east asian men"),  # UTKFace has no finer label
        (("southeast asian", "female", "30-39"), "southeast asian women"),
        (("black", "female", "0-12"), "children to 12"),
        (("white", "male", "61+"), "over 60"),
        (("indian", "male", "10-19"), "10 to 19"),
    ],
)
def test_group_names(labels, group):
    assert group_name(*labels) == group


def test_parts_of_faces_groups_share_nobody(prepared, pipeline):
    people = [f"g{number}" for number in range(24)]
    prepared("faces_groups", {person: ("s1", 1) for person in people})
    labels = {p: (("black", "female", "18-60"), ("asian", "male", "0-12"))[i % 2] for i, p in enumerate(people)}
    add_labels("faces_groups", labels, test=people[:6])
    parts = {part: group_faces(part, pipeline.landmarker) for part in ("test", "cohort", "calibration", "train")}
    assert set(parts["test"].faces.people) == set(people[:6])  # whatever their hash
    for part in ("cohort", "calibration", "train"):
        assert set(parts[part].faces.people) == {person for person in people[6:] if group_part(person) == part}
    assert sum(len(part.groups) for part in parts.values()) == 24
    for part in parts.values():
        assert part.aligned.shape == (len(part.groups), 112, 112, 3)
        expected = ["black women" if labels[person][0] == "black" else "children to 12" for person in part.faces.people]
        assert part.groups.tolist() == expected
    chosen = parts["train"].select(np.array([1, 0]))
    assert chosen.faces.people.tolist() == parts["train"].faces.people[[1, 0]].tolist()
    assert chosen.groups.tolist() == parts["train"].groups[[1, 0]].tolist()


def test_parts_of_faces_world_share_nobody(prepared, pipeline):
    people = [f"world_{number}" for number in range(9)]
    prepared("faces_world", {person: ("s1", 2) for person in people})
    add_labels("faces_world", dict.fromkeys(people, ("black", "male", "")), test=people[:2])
    parts = {part: world_faces(part, pipeline.landmarker) for part in ("test", "val", "train")}
    assert set(parts["test"].faces.people) == set(people[:2])
    assert set(parts["val"].faces.people) == {person for person in people[2:] if in_world_val(person)}
    assert set(parts["train"].faces.people) == {person for person in people[2:] if not in_world_val(person)}
    assert set(parts["val"].groups) == {"black men"}
    assert len(parts["val"].aligned) == 2 * len(set(parts["val"].faces.people)) > 0


def test_sets_that_are_not_there(tmp_path, monkeypatch, pipeline):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    for load in (group_faces, world_faces):
        with pytest.raises(FileNotFoundError, match=r"faces\.csv: no face crops here"):
            load("test", pipeline.landmarker)


def test_titles_of_groups():
    groups = ("east asian women", "children to 12", "over 60", "middle eastern men", "10 to 19")
    titles = ["East Asian women", "children to 12", "over 60", "Middle Eastern men", "10 to 19"]
    assert [group_title(group) for group in groups] == titles
