"""This repository beside other libraries, on the same photos: `python -m facelib.evaluation.benchmarks.libraries`.

Every library runs in a process of its own. What is not installed, or whose weights cannot be had here, gets a row that
says so, or keeps the figures of an earlier run with the version that they are of.
"""

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import facelib
from facelib.datasets.sources import load_orl
from facelib.evaluation.benchmarks.pipeline_speed import many_photos, milliseconds, same_photo
from facelib.io.images import read_image
from facelib.io.records import RESULTS, read_table, write_record, write_table
from facelib.settings import LISTS, MODELS, one_line_errors

FILE, MODULE = "libraries.csv", "facelib.evaluation.benchmarks.libraries"
# A library: photo -> vectors of its faces (n, d); and two sets of vectors -> which pairs it calls one person (n, m).
Look = Callable[[np.ndarray], np.ndarray]
Same = Callable[[np.ndarray, np.ndarray], np.ndarray]


def within(limit: float) -> Same:
    """Cosine distance up to a limit, of vectors of length 1."""
    return lambda a, b: 1 - a @ b.T <= limit if len(a) and len(b) else np.zeros((len(a), len(b)), bool)


def stacked(vectors: list[np.ndarray]) -> np.ndarray:
    """(n, d), also of none."""
    return np.stack(vectors) if len(vectors) else np.zeros((0, 1), np.float32)


def ours(embedder: str | None) -> tuple[Look, Same]:
    """The pipeline, at the distance of 1 in 1,000 pairs of strangers."""
    from facelib.pipeline import FacePipeline

    pipeline = FacePipeline.from_pretrained(device="cpu", embedder=embedder)

    def look(image: np.ndarray) -> np.ndarray:
        return stacked([face.embedding for face in pipeline(image)])

    return look, within(pipeline.calibration.distance_at(0.001))


def insightface_library() -> tuple[Look, Same]:
    """buffalo_l; it names no threshold: a cosine of 0.32 is what others use with it."""
    from insightface.app import FaceAnalysis

    app = FaceAnalysis("buffalo_l", providers=["CPUExecutionProvider"])
    app.prepare(-1)
    return lambda image: stacked([face.normed_embedding for face in app.get(image[:, :, ::-1])]), within(0.68)


def face_recognition_library() -> tuple[Look, Same]:
    """dlib's own code, HOG detector, its tolerance of 0.6."""
    import face_recognition

    def look(image: np.ndarray) -> np.ndarray:
        return stacked(face_recognition.face_encodings(image, face_recognition.face_locations(image)))

    return look, lambda a, b: np.linalg.norm(a[:, None] - b[None], axis=2) <= 0.6


def facenet_library() -> tuple[Look, Same]:
    """MTCNN and the network of VGGFace2; a distance of 1.1 between vectors of length 1, as FaceNet's paper has it."""
    from facenet_pytorch import MTCNN, InceptionResnetV1
    from PIL import Image

    detector, network = MTCNN(keep_all=True), InceptionResnetV1(pretrained="vggface2").eval()

    def look(image: np.ndarray) -> np.ndarray:
        faces = detector(Image.fromarray(image))
        return stacked([]) if faces is None else network(faces).detach().numpy()

    return look, within(1.1**2 / 2)


@dataclass(frozen=True)
class Library:
    """How it is loaded, and what is known of it: landmarks of a face, what installing takes, terms of its weights, the
    package whose version is told, and others of its own."""

    load: Callable[[], tuple[Look, Same]]
    landmarks: str
    installing: str
    terms: str
    package: str
    others: tuple[str, ...] = ()


OURS = "non-commercial research (what it learned from)"
LIBRARIES = {
    "ours, labels only": Library(lambda: ours("arcface"), "5", "pip install -e .", OURS, "facelib"),
    "ours, labels and a teacher": Library(lambda: ours(None), "5", "pip install -e .", OURS, "facelib"),
    "dlib's network in ours": Library(
        lambda: ours("dlib"),
        "5",
        "pip install -e .[teacher]",
        "public domain (the embedder)",
        "facelib",
        ("face_recognition_models",),
    ),
    "face_recognition": Library(
        face_recognition_library,
        "68",
        "pip install face_recognition 'setuptools<81'; compiles dlib, minutes (the package dlib-bin: seconds)",
        "public domain; its landmarks: not for commercial use",
        "face_recognition",
        ("face_recognition_models", "dlib", "dlib-bin"),
    ),
    "insightface, buffalo_l": Library(
        insightface_library,
        "5, 68, 106",
        "pip install insightface onnxruntime; 280 MB from its release page",
        "non-commercial research",
        "insightface",
    ),
    "facenet-pytorch": Library(
        facenet_library,
        "5",
        "pip install facenet-pytorch; 107 MB from its release page",
        "MIT",
        "facenet-pytorch",
    ),
}


def measure(name: str) -> dict[str, Any]:
    """In this process: faces of the sample photo and of many photos, strangers within one photo that are called one
    person; pairs of photos of ten people of ORL that are found; milliseconds, peak memory, disk."""
    import resource

    look, same = LIBRARIES[name].load()
    image = same_photo()
    vectors = look(image)
    collages = (LISTS / "one_person_photos.txt").read_text().split()
    photos, faces, pairs, wrong = many_photos(), 0, 0, 0
    for photo in photos:
        found = look(read_image(photo))
        faces += len(found)
        if photo.name not in collages:
            first, second = np.triu_indices(len(found), 1)
            pairs += len(first)
            wrong += int(same(found, found)[first, second].sum())
    orl = load_orl()
    orl = orl.select(orl.splits == "unseen")
    ones = [look(read_image(file))[:1] for file in orl.files]
    first, second = np.nonzero(np.triu(orl.people[:, None] == orl.people, 1))
    hits = sum(bool(same(ones[i], ones[j]).any()) for i, j in zip(first, second))
    return {
        "faces of 6": len(vectors),
        f"boxes in {len(photos)} photos": faces,
        "strangers called one person": f"{wrong} of {pairs} pairs",
        "one person found (ORL)": f"{hits} of {len(first)} pairs",
        "ms a photo of 6": round(milliseconds(lambda: look(image)), 1),
        "memory (MB)": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "disk (MB)": round(disk_of(LIBRARIES[name])),
    }


def disk_of(library: Library) -> float:
    """MB of its own packages, weights inside them included; PyTorch, ONNX Runtime and the like are not counted."""
    files = [*MODELS.glob("*.pt"), *Path(facelib.__file__).parent.rglob("*.py")] if library.package == "facelib" else []
    for package in (library.package, *library.others):
        with contextlib.suppress(metadata.PackageNotFoundError):
            files += [Path(file.locate()) for file in metadata.files(package) or []]
    return sum(file.stat().st_size for file in set(files) if file.is_file()) / 1e6


def row_of(name: str, earlier: dict[str, Any]) -> dict[str, Any]:
    """What is measured here, or why not, with what was measured before."""
    library = LIBRARIES[name]
    about = {"landmarks": library.landmarks, "installing": library.installing, "licence": library.terms}
    code = f"import json; from {MODULE} import measure; print(json.dumps(measure({name!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 0:
        version = f"{library.package} {metadata.version(library.package)}"
        return {"library": name, **json.loads(done.stdout.splitlines()[-1]), **about, "measured": version}
    if "measured" in earlier and "not here" not in earlier["measured"]:
        return {"library": name, **earlier, **about}
    last = (done.stderr.strip().splitlines() or ["it ended"])[-1]
    no_network = "its weights could not be downloaded"
    known = {"No module named": "not installed", "Connection": no_network, "urlopen": no_network}
    why = next((words for sign, words in known.items() if sign in last), last[:80])
    return {"library": name, **about, "measured": f"not here: {why}"}


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.benchmarks.libraries", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / FILE)
    options = parser.parse_args()
    before = {row["library"]: row for row in read_table(options.out)} if options.out.exists() else {}
    rows = [row_of(name, before.get(name, {})) for name in LIBRARIES]
    write_table(options.out, rows)
    write_record(
        options.out.with_suffix(".json"),
        {},
        command="python -m facelib.evaluation.benchmarks.libraries",
        weights={},
        data={},
    )
    print(f"{options.out}: written")


if __name__ == "__main__":
    sys.exit(main())
