"""Photo in, list of faces out: detection, landmarks, alignment, embedding."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import cast, overload

import numpy as np

from facelib.detection.rotation import DetectedFaces, detect_rotated, find_boxes, predict_with_confidence
from facelib.embedding.similarity import cosine_distance
from facelib.io.images import read_image
from facelib.io.inputs import Photo, is_batch
from facelib.io.prefetch import read_ahead, strip_traceback
from facelib.recognition.calibration import Decision
from facelib.recognition.clustering import cluster_faces, merge_scores
from facelib.recognition.cohort import score_offsets
from facelib.recognition.condition import measure_condition
from facelib.runtime.batching import forbid_fork
from facelib.settings import BATCH_BYTES, DIFFERENT, SAME
from facelib.steps import FaceSteps
from facelib.types import Face, Faces, ModelMismatchError


class FacePipeline(FaceSteps):
    """All steps in a row, for photos. `FacePipeline.from_pretrained()` loads them; each step can be replaced.

    Arguments and errors: see `FaceSteps`.
    """

    def compare(self, a: Face, b: Face, same: float = SAME, different: float = DIFFERENT) -> Decision:
        """Whether two faces show one person, and how often such an answer is wrong.

        Args:
            same, different: false match rates that separate "same", "unsure" and "different", see
                `Calibration.decide`.

        Raises:
            CalibrationMissingError: the embedder's error rates have not been measured, see `load_calibration`.
            ModelMismatchError: a face has the embedding of another model.
            TypeError: not two faces, but the lists that the pipeline returns.
        """
        for face in (a, b):
            if not isinstance(face, Face):
                raise TypeError(f"compare takes two faces, such as faces[0], and got {type(face).__name__}")
        self._check_model(a, b)
        issues = [
            f"the {which} face is {face.quality_issue}"
            for which, face in (("first", a), ("second", b))
            if face.quality_issue
        ]
        distance = float(cosine_distance(a.embedding, b.embedding))
        score = float(self.calibration.score_matrix(a.embedding[None], b.embedding[None])[0, 0])
        return self.calibration.decide(score, same, different, " and ".join(issues), distance=distance)

    def cluster(self, faces: Sequence[Face] | Sequence[Sequence[Face]], rate: float | None = None) -> np.ndarray:
        """Group faces by person: (n,) int, the number of each face's person from 0, most faces first.

        Args:
            faces: faces, or the lists of faces of several photos; then two faces of one photo are two people.
            rate: target FMR of two single faces, see `merge_scores`; None: by their number.

        Raises:
            CalibrationMissingError, ModelMismatchError: see `compare`.
        """
        photos: list[Sequence[Face]] = (
            [faces] if isinstance(faces, Faces) else [[one] if isinstance(one, Face) else one for one in faces]
        )
        flat = [face for photo in photos for face in photo]
        self._check_model(*flat)
        if not flat:
            return np.zeros(0, int)
        embeddings = np.stack([face.embedding for face in flat])
        numbers = np.repeat(np.arange(len(photos)), [len(photo) for photo in photos])
        scores, cohort = merge_scores(self.calibration, len(flat), rate), self.calibration.cohort
        condition = measure_condition(embeddings, scores, numbers, cohort) or 0.0
        return cluster_faces(embeddings, scores, numbers, offsets=score_offsets(embeddings, cohort) + condition / 2)

    def _check_model(self, *faces: Face) -> None:
        for face in faces:
            if face.model_id not in ("", self.model_id):
                raise ModelMismatchError(
                    f"a face has an embedding of the model {face.model_id}, this pipeline has {self.model_id}: "
                    "embed it again with this pipeline"
                )

    @overload  # an array is both: it is typed as one photo
    def __call__(self, photo: Photo, batch_size: int = 8) -> Faces: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, photo: Iterable[Photo], batch_size: int = 8) -> list[Faces]: ...
    def __call__(self, photo: Photo | Iterable[Photo], batch_size: int = 8) -> Faces | list[Faces]:
        """Find, align and embed every face.

        Args:
            photo: see `read_image`; or several, in a list or any other iterable, such as a generator or an array of
                frames (n, H, W, 3).
            batch_size: photos that go through the networks together, fewer where they are large.

        Returns:
            For one photo its faces, an empty list where there is none. For several, one such list per photo, in
            order; for a photo that cannot be read it is empty, its `error` is set, and a warning names it.

        Raises:
            ImageError, OSError, TypeError: the one photo cannot be read, see `read_image`.
            EmbeddingError: see `check_embeddings`.
        """
        if not is_batch(photo):
            return self._run([read_image(cast(Photo, photo))])[0]
        results: list[Faces] = []
        for _, faces in self.stream(photo, batch_size):
            results.append(faces)
            if faces.error:
                warnings.warn(f"photo {len(results) - 1} is skipped: {faces.error}", stacklevel=2)
        return results

    def stream(self, photos: Iterable[Photo], batch_size: int = 8) -> Iterator[tuple[np.ndarray | None, Faces]]:
        """As calling with several photos, but yields (image, faces) one after the other and keeps none of them.

        The image of a photo that cannot be read is None; there is no warning.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: at least 1")
        forbid_fork()
        batch: list[np.ndarray | Exception | None] = []
        for image in read_ahead(photos if is_batch(photos) else [cast(Photo, photos)], batch_size):
            batch.append(image)
            del image
            pixels = sum(image.size for image in batch if isinstance(image, np.ndarray))
            if len(batch) == batch_size or pixels > BATCH_BYTES:
                yield from self._results(batch)
                batch = []
        yield from self._results(batch)

    def _results(self, batch: list[np.ndarray | Exception | None]) -> Iterator[tuple[np.ndarray | None, Faces]]:
        """(image, faces) for each image of a batch, (None, faces with an error) for each error."""
        results = iter(self._run_one_by_one([image for image in batch if isinstance(image, np.ndarray)]))
        for i, image in enumerate(batch):
            batch[i] = None  # the caller decides how long the image stays in memory
            if isinstance(image, np.ndarray):
                yield image, next(results)
            else:
                yield None, Faces(error=image)

    def _run_one_by_one(self, images: list[np.ndarray]) -> list[Faces]:
        """As `_run`; where a step fails for the batch, image by image, so that the error concerns one image alone."""
        with contextlib.suppress(Exception):
            return self._run(images)
        results = []
        for image in images:
            try:
                results += self._run([image])
            except Exception as error:
                reason = f"a step failed ({type(error).__name__}: {error})"
                results.append(Faces(error=strip_traceback(RuntimeError(reason))))
        return results

    def _run(self, images: list[np.ndarray]) -> list[Faces]:
        """The steps, for several photos: all their faces go through the networks together."""
        detected = self._detect(images)
        least = getattr(self.detector, "min_detectable_face", None)
        results = []
        for image, faces in zip(images, self.embed_detected(images, detected)):
            faces.sort(key=lambda face: -(face.box[2:] - face.box[:2]).prod())
            results.append(Faces(faces, min_detectable_face=least(image) if least else None))
        return results

    def _detect(self, images: list[np.ndarray]) -> list[DetectedFaces]:
        """Boxes and landmarks; a photo that seems to lie on its side is tried in the other orientations."""
        boxes, scores = zip(*(find_boxes(self.detector, image) for image in images)) if images else ((), ())
        landmarks, confidence = predict_with_confidence(self.landmarker, images, list(boxes))
        detected = [DetectedFaces(*found) for found in zip(boxes, scores, landmarks, confidence)]
        return [
            detect_rotated(self.detector, self.landmarker, image, found) if found.may_be_rotated else found
            for image, found in zip(images, detected)
        ]
