"""Albums without networks: faces with made-up embeddings, and results that hold them."""

import hashlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from facelib.cli.album import AlbumFace
from facelib.cli.album_builder import make_album
from facelib.cli.album_table import read_people, table_bytes
from facelib.recognition.calibration import Calibration
from facelib.recognition.clustering import MergeScores

CALIBRATION = Calibration("abc", [-1, 0, 0.5, 1], [1, 0.5, 1e-3, 1e-6], [], [1, 1, 0.8, 0], {}, 1e-6, "none")
SCORE = MergeScores(0.6, 0.6)  # above which these faces are one person's
LEFT, RIGHT = (10, 10, 60, 60), (110, 10, 160, 60)  # boxes
DIMENSIONS = 64
CENTRES = np.random.default_rng(9).normal(size=(40, DIMENSIONS))


def embedding_of(person, rng, noise=0.1):
    vector = CENTRES[person] + noise * rng.normal(size=DIMENSIONS)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def faces_of(people, folder=Path(), seed=0, photo="photo{}.jpg"):
    """One face a photo, of people given by number; -1: a face with a quality issue."""
    rng = np.random.default_rng(seed)
    faces = []
    for number, person in enumerate(people):
        embedding, name = embedding_of(max(person, 0), rng), photo.format(number)
        issue = "too blurred" * (person < 0)
        faces.append(AlbumFace(str(folder / name), 0, embedding, 0.9, issue, f"{number}.png", name, (0, 0, 50, 50)))
        if folder != Path():
            Image.new("RGB", (112, 112), (40 * number % 255, 90, 90)).save(folder / f"{number}.png")
            Image.new("RGB", (300, 200), (9, 9, 40 * number % 255)).save(folder / name)
            faces[-1].sha256 = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return faces


def results_of(photos, out, cohort=None):
    """What `make_album` reads of `Results`.

    Args:
        photos: path -> [(embedding, box), ...]; the content of the file is hashed.
    """
    out.mkdir(exist_ok=True)
    aligned = out / "any_face0.png"
    if not aligned.exists():
        Image.new("RGB", (8, 8), (90, 90, 90)).save(aligned)
    records, embeddings = [], {}
    for photo, faces in photos.items():
        rows = [
            {"quality": 0.9, "quality_issue": "", "aligned": aligned.name, "box": [float(x) for x in box]}
            for _, box in faces
        ]
        sha256 = hashlib.sha256(Path(photo).read_bytes()).hexdigest()
        record = {"photo": str(photo), "path": os.path.abspath(photo), "annotated": "a.jpg", "sha256": sha256}
        records.append(record | {"faces": rows})
        embeddings[str(photo)] = np.array([vector for vector, _ in faces], np.float32).reshape(len(faces), DIMENSIONS)
    return SimpleNamespace(folder=out, pipeline_id="p", cohort=cohort, ordered=lambda: records, embeddings=embeddings)


class Library:
    """A folder of made-up photos, and an album of it."""

    def __init__(self, folder):
        self.folder, self.out, self.photos, self.rng = folder, folder / "album", {}, np.random.default_rng(0)

    def add(self, name, *people, boxes=(LEFT, RIGHT)):
        """A photo of people, given by number."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.rng.bytes(20))
        self.photos[path] = [(embedding_of(person, self.rng), box) for person, box in zip(people, boxes)]
        return path

    def move(self, name, to):
        before, after = self.folder / name, self.folder / to
        after.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(before, after)
        self.photos[after] = self.photos.pop(before)

    def save_anew(self, name, boxes=None, kept=None):
        """Other bytes, embeddings that differ a little, other boxes, and only some of the faces."""
        path = self.folder / name
        path.write_bytes(self.rng.bytes(20))
        faces = [(self.near(vector), box) for vector, box in self.photos[path]]
        faces = faces if boxes is None else [(vector, box) for (vector, _), box in zip(faces, boxes)]
        self.photos[path] = faces if kept is None else [faces[number] for number in kept]

    def near(self, vector):
        other = vector + 0.02 * self.rng.normal(size=DIMENSIONS)
        return other / np.linalg.norm(other)

    def album(self, only="", **options):
        photos = {path: faces for path, faces in self.photos.items() if only in str(path)}
        return make_album(results_of(photos, self.out), SCORE, **options)

    def edit(self, changes):
        """Names by photo and x of the box: {("a.jpg", 10): "Ann"}; by "Person 1" otherwise."""
        table = read_people(self.out)
        rows = []
        for row in table.rows:
            name = changes.get((row.photo.rsplit("/", 1)[1], row.box[0]), changes.get(row.person, row.person))
            rows.append(type(row)(row.photo, row.face, name, row.box, row.cells, row.own))
        (self.out / "people.csv").write_bytes(table_bytes(rows, table.own_columns))

    def people(self):
        """(photo, x of the box) -> person, of the rows that are matched."""
        return {
            (row.photo.rsplit("/", 1)[1], row.box[0]): row.person
            for row in read_people(self.out).rows
            if row.cells["matched"] != "no"
        }

    def unmatched(self):
        return sorted(row.person for row in read_people(self.out).rows if row.cells["matched"] == "no")
