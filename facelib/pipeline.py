"""Photo in, list of faces out: detection, landmarks, alignment, embedding."""

import contextlib
import functools
import importlib.util
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facelib.alignment import METHODS, warp_faces
from facelib.clustering import sort_by_person, sorting_rate
from facelib.decisions import Calibration, Decision, load_calibration
from facelib.detection import Detector, load_detector
from facelib.embedding import Embedder, cosine_distance, load_embedder
from facelib.inference import BATCH_BYTES, one_process
from facelib.inputs import Photo
from facelib.landmarks import Landmarker, load_landmarker
from facelib.quality import face_quality, why_doubtful
from facelib.reading import read_image
from facelib.settings import DIFFERENT, SAME
from facelib.upright import Finding, find_turned


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a photo. Two are equal when they are the same object.

    box: (4,) float32 x1 y1 x2 y2 in photo coordinates, inside the photo; score: the detector's, 0 to 1;
    landmarks: (5, 2) float32 in photo coordinates; aligned: (112, 112, 3) RGB uint8;
    embedding: (d,) float32 of length 1; landmark_confidence: (5,) float32, 0 to 1, how sure each landmark is (see
    `heatmap_confidence`); quality: 0 to 1, how much the face shows (see `face_quality`); embedder: whose vector it is
    (see `Embedder.key`), "" where that is not known.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray = field(repr=False)
    aligned: np.ndarray = field(repr=False)
    embedding: np.ndarray = field(repr=False)
    landmark_confidence: np.ndarray = field(repr=False)
    quality: float
    embedder: str = ""

    @property
    def doubt(self) -> str:
        """Why the face shows too little to be told from others, e.g. "too blurred"; "" where it shows enough."""
        return why_doubtful(self.aligned, self.landmark_confidence, self.landmarks)


class Faces(list[Face]):
    """The faces of one photo, the largest first.

    error: why a photo of a batch could not be read. searched_to: the smallest faces that were looked for, in pixels of
    the photo (see `Detector.searched_to`).
    """

    def __init__(self, faces: Sequence[Face] = (), error: Exception | None = None, searched_to: float | None = None):
        super().__init__(faces)
        self.error, self.searched_to = error, searched_to


class FacePipeline:
    """All steps in a row. `FacePipeline.from_pretrained()` loads them; any step can be replaced."""

    def __init__(
        self,
        detector: Detector,
        landmarker: Landmarker,
        embedder: Embedder,
        align: str | None = None,
    ):
        """Any step may be one's own.

        Args:
            embedder: anything with `embed(aligned)`: faces (n, 112, 112, 3) RGB uint8 -> vectors (n, d) of length 1.
                `alignment`, a method of `align_faces`, `align(image, landmarks)`, which cuts its faces otherwise, and
                `key`, by which its calibration and its galleries are known, are used where it has them.
            align: see `align_faces`; None: as the embedder's faces were in its training.
        """
        align = align or getattr(embedder, "alignment", METHODS[0])
        if align not in METHODS:
            raise ValueError(f"align={align!r}: expected one of {', '.join(METHODS)}")
        self.detector, self.landmarker, self.embedder, self.align = detector, landmarker, embedder, align

    @classmethod
    def from_pretrained(
        cls,
        detector: str | Detector = "auto",
        device: str | int | torch.device | None = None,
        align: str | None = None,
        embedder: str | Path | None = None,
        runtime: str = "auto",
    ):
        """The shipped weights. Arguments: see `load_detector`, `pick_device`, `align_faces`, `load_embedder`."""
        if not isinstance(detector, Detector):
            detector = load_detector(detector, device)
        landmarker = load_landmarker(device=device, runtime=runtime)
        return cls(detector, landmarker, load_embedder(embedder, device, runtime=runtime), align)

    @functools.cached_property
    def calibration(self) -> Calibration:
        """What distances of this pipeline's embedder mean, see `load_calibration`."""
        return load_calibration(self.key)

    @property
    def key(self) -> str:
        """What vectors of this pipeline are known by, see `Embedder.key`."""
        return getattr(self.embedder, "key", type(self.embedder).__name__)

    def compare(self, a: Face, b: Face, same: float = SAME, different: float = DIFFERENT) -> Decision:
        """Whether two faces are one person's, and how often that is wrong.

        Args:
            same, different: false positive rates that part "same", "unsure" and "different", see `Calibration.decide`.

        Raises:
            FileNotFoundError: the embedder's distances have not been measured, see `load_calibration`.
            ValueError: a face of another embedder.
        """
        for face in (a, b):
            if face.embedder not in ("", self.key):
                raise ValueError(f"a face of the embedder {face.embedder}, this pipeline has {self.key}: embed it anew")
        doubts = [f"the {which} face is {why}" for which, face in (("first", a), ("second", b)) if (why := face.doubt)]
        distance = cosine_distance(a.embedding, b.embedding)
        return self.calibration.decide(distance, same, different, " and ".join(doubts))

    def cluster(self, faces: Sequence[Face] | Sequence[Sequence[Face]], rate: float | None = None) -> np.ndarray:
        """Which faces are one person's: (n,) numbers from 0, that of most faces first; see `sort_by_person`.

        Args:
            faces: or what calling with several photos gives, a list of faces for each: then the numbers are of all
                faces in a row, and two faces of one photo are taken for two people.
            rate: of pairs of strangers that may come together, when judged by the mean of all distances between them;
                None: see `sorting_rate`.

        Raises:
            FileNotFoundError, ValueError: see `compare`.
        """
        lists = [faces] if isinstance(faces, Faces) else [[f] if isinstance(f, Face) else f for f in faces]
        if others := {face.embedder for one in lists for face in one} - {"", self.key}:
            raise ValueError(f"faces of the embedder {others.pop()}, this pipeline has {self.key}: embed them anew")
        photos = np.repeat(np.arange(len(lists)), [len(one) for one in lists])
        vectors = [face.embedding for one in lists for face in one]
        if not vectors:
            return np.zeros(0, int)
        rate = sorting_rate(len(vectors)) if rate is None else rate
        return sort_by_person(np.stack(vectors), self.calibration.distance_at(rate), photos)

    def __call__(self, photo: Photo | Iterable[Photo], batch_size: int = 8) -> Faces | list[Faces]:
        """Find, align and embed every face.

        Args:
            photo: see `read_image`; or several, in a list or whatever gives one after the other, such as a generator
                or an array of frames (n, H, W, 3).
            batch_size: photos held in memory at a time, fewer where they are large; their faces go through
                the networks together.

        Returns:
            For one photo its faces, an empty list when there is none. For several one such list per photo,
            in order; of a photo that cannot be read it is empty, its `error` is set and a warning names it.

        Raises:
            OSError, ValueError, TypeError: the one photo cannot be read, see `read_image`.
        """
        if not are_several(photo):
            return self._run([read_image(photo)])[0]
        results: list[Faces] = []
        for _, faces in self.stream(photo, batch_size):
            results.append(faces)
            if faces.error:
                warnings.warn(f"photo {len(results) - 1} is left out: {faces.error}", stacklevel=2)
        return results

    def stream(self, photos: Iterable[Photo], batch_size: int = 8) -> Iterator[tuple[np.ndarray | None, Faces]]:
        """As calling with several, but gives (image, faces) one after the other and keeps none of them.

        The image of a photo that cannot be read is None; there is no warning.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: at least 1")
        one_process()
        batch: list[np.ndarray | Exception] = []
        for image in read_ahead(photos if are_several(photos) else [photos], batch_size):
            batch.append(image)
            del image
            pixels = sum(image.size for image in batch if isinstance(image, np.ndarray))
            if len(batch) == batch_size or pixels > BATCH_BYTES:
                yield from self._results(batch)
                batch = []
        yield from self._results(batch)

    def _results(self, batch: list[np.ndarray | Exception]) -> Iterator[tuple[np.ndarray | None, Faces]]:
        """(image, faces) for each image of a batch, (None, faces with an error) for each error."""
        results = iter(self._run_apart([image for image in batch if isinstance(image, np.ndarray)]))
        for i, image in enumerate(batch):
            batch[i] = None  # whoever takes the result decides how long the image stays
            yield (image, next(results)) if isinstance(image, np.ndarray) else (None, Faces(error=image))

    def _run_apart(self, images: list[np.ndarray]) -> list[Faces]:
        """As `_run`; where a step fails over the batch, image by image, and the error is that image's."""
        with contextlib.suppress(Exception):
            return self._run(images)
        results = []
        for image in images:
            try:
                results += self._run([image])
            except Exception as error:
                words = f"a step failed ({type(error).__name__}: {error})"
                results.append(Faces(error=without_frames(RuntimeError(words))))
        return results

    def _run(self, images: list[np.ndarray]) -> list[Faces]:
        """The steps themselves, over several photos: all their faces go through the networks together."""
        detected = [self.detector.detect(image) for image in images]
        points = self.landmarker.predict_with_confidence(images, [boxes for boxes, _ in detected])
        found = [Finding(*of_detector, *of_landmarker) for of_detector, *of_landmarker in zip(detected, *points)]
        for i, one in enumerate(found):
            if one.is_doubtful:
                found[i] = find_turned(self.detector, self.landmarker, images[i], one)
        aligned = [warp_faces(image, one.landmarks, self.align) for image, one in zip(images, found)]
        own = getattr(self.embedder, "align", None)  # an embedder that wants to see more, or less, brings its own
        shown = [own(image, one.landmarks) for image, one in zip(images, found)] if own else aligned
        embeddings = iter(self.embedder.embed(np.concatenate(shown))) if images else iter(())
        results = []
        for image, one, faces in zip(images, found, aligned):
            quality = [face_quality(face, sure) for face, sure in zip(faces, one.confidence)]
            rows = zip(one.boxes, one.scores.tolist(), one.landmarks, faces, embeddings, one.confidence, quality)
            # Takes as many embeddings as there are boxes, which end first.
            found_here = sorted(
                (Face(*row, self.key) for row in rows), key=lambda face: -(face.box[2:] - face.box[:2]).prod()
            )
            results.append(Faces(found_here, searched_to=self.detector.searched_to(image)))
        return results


def read_ahead(photos: Iterable[Photo], most: int) -> Iterator[np.ndarray | Exception]:
    """Photos read one after the other, or why one could not be.

    While what was read is worked on, up to `most` more are read where they are files, fewer where they are large;
    arrays and streams, which may change meanwhile, are read when they are taken.
    """
    with ThreadPoolExecutor(1, "reader") as reader:
        waiting: deque[Future] = deque()
        ahead = 1
        for photo in photos:
            waiting.append(reader.submit(_read, photo))
            if not isinstance(photo, str | os.PathLike):
                waiting[-1].result()
            while len(waiting) > ahead:
                image = waiting.popleft().result()
                ahead = min(most, BATCH_BYTES // max(getattr(image, "size", 0), 1))
                yield image
                del image
        while waiting:
            yield waiting.popleft().result()


def _read(photo: Photo) -> np.ndarray | Exception:
    try:
        return read_image(photo)
    except Exception as error:  # whatever it is, it is this photo's alone
        return without_frames(error)


def without_frames(error: Exception) -> Exception:
    """An error that may be kept: what led to it would keep whole photos in memory."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


def are_several(photo: object) -> bool:
    """Whether this is a collection of photos rather than one: not text, a path, a picture or the content of a file.

    Raises:
        TypeError: a mapping.
    """
    if isinstance(photo, Mapping):
        raise TypeError(f"a {type(photo).__name__} is no photo and no list of photos: give list(it.values())")
    if isinstance(photo, np.ndarray):
        paths = photo.ndim == 1 and photo.dtype.kind in "OSU"
        return paths or (photo.ndim == 4 and photo.shape[3] in (1, 3, 4))
    if isinstance(photo, str | os.PathLike | Image.Image | bytes | bytearray | memoryview) or hasattr(photo, "read"):
        return False
    if hasattr(photo, "ndim") and getattr(photo, "ndim", 0) > 1:  # a tensor of whatever library
        return False
    return isinstance(photo, Iterable)


def sample_photo() -> Path:
    """insightface's sample photo with six people, from the installed package."""
    package = importlib.util.find_spec("insightface")
    path = Path(package.submodule_search_locations[0]) / "data" / "images" / "t1.jpg" if package else Path("t1.jpg")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the sample photo comes with the package insightface: pip install insightface")
    return path
