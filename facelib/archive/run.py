"""An archive made, or gone on with: what Ray Data is given, and what is written when."""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from facelib.alignment.align import SIZE
from facelib.archive.source import BLOCK, photos_of
from facelib.archive.table import EXACT_ROWS, Archive
from facelib.archive.worker import Worker
from facelib.pipeline import FacePipeline

MOST = 20_000  # photos that are held before they are written
TIDIED = 50  # parts after which their files are joined and the tables' older versions left behind


@dataclass(frozen=True)
class Job:
    """What is asked for.

    settings: arguments of `FacePipeline.from_pretrained`. marks: a folder that all machines see. workers: None: one for
    two cores, or for each GPU. batch: photos that a worker looks at together. every: seconds between two writes, each
    of which makes a version of the table. retry: whether photos that had an error are tried again.
    """

    source: str
    out: str
    settings: dict[str, Any]
    in_progress_dir: str
    workers: int | None = None
    batch: int = 16
    every: float = 60.0
    retry: bool = False


@dataclass(frozen=True)
class Written:
    """What a write has added; again: photos of a name that was there already."""

    photos: int
    faces: int
    errors: int
    again: int


def run(job: Job) -> Iterator[Written]:
    """Look at every photo of the source that the table does not know yet; gives what each write has added.

    Raises:
        FileNotFoundError, ValueError: see `photos_of` and `Archive`. OSError: the table cannot be written.
    """
    source, lines = photos_of(job.source)
    print(*lines, sep="\n", end="\n" * bool(lines), flush=True)
    pipeline = FacePipeline.from_pretrained(**job.settings | {"device": "cpu"})
    made, size = pipeline.pipeline_id, vector_size(pipeline)
    # Every machine has the detector that is here, whatever "auto" would be there.
    settings = job.settings | {"detector": pipeline.detector_name}
    archive = Archive(job.out, pipeline.model_id, size, f"{made} {pipeline.detector_name}")
    del pipeline
    in_progress_dir = Path(job.in_progress_dir) / f"facelib-{uuid.uuid4().hex}"
    with archive.writing():
        archive.repair()
        seen = archive.done(job.retry)
        rows = process_photos(source, job, settings, made, str(in_progress_dir), seen, archive.deleted_ids())
        try:
            yield from written(rows.iter_batches(batch_size=None, batch_format="pyarrow"), archive, seen, job.every)
        finally:
            shutil.rmtree(in_progress_dir, ignore_errors=True)
        archive.compact()
        if archive.faces.count_rows() > EXACT_ROWS and not archive.faces.list_indices():
            archive.index()


def vector_size(pipeline: FacePipeline) -> int:
    """Numbers in the vectors of its embedder."""
    own = getattr(pipeline.embedder, "align", None)
    points = np.array([[[40, 50], [70, 50], [55, 70], [42, 90], [68, 90]]], np.float32)
    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    return pipeline.embedder.embed(own(blank, points) if own else blank[None]).shape[1]


def process_photos(
    source: ray.data.Dataset,
    job: Job,
    settings: dict[str, Any],
    made: str,
    in_progress_dir: str,
    seen: set[str],
    deleted_ids: set[str],
) -> ray.data.Dataset:
    """Rows of `PHOTO` of all whose name is not in `seen`, nor its digest in `deleted_ids`."""
    kinds = ray.cluster_resources()
    cores, cards = kinds.get("CPU", os.cpu_count() or 1), int(kinds.get("GPU", 0))
    device = str(job.settings.get("device") or ("cuda" if cards else "cpu"))
    on_card = device.startswith("cuda")
    workers = job.workers or max(1, cards if on_card else int(cores // 2))
    if on_card and workers > cards:
        raise ValueError(f"--workers {workers}: one for each GPU that Ray knows of, {cards}")
    largest = max(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"])
    threads = int(max(1, min(cores // workers, largest)))
    ray.data.DataContext.get_current().enable_progress_bars = False
    return source.repartition(target_num_rows_per_block=min(BLOCK, 4 * job.batch)).map_batches(
        Worker,
        fn_constructor_args=(
            settings | {"device": device},
            made,
            in_progress_dir,
            threads,
            ray.put((seen, deleted_ids)),
        ),
        batch_format="pyarrow",
        batch_size=job.batch,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=threads * 0.5,  # as Ray counts; the other half is for what brings the photos
        num_gpus=1 if on_card else None,
    )


def written(tables: Iterator[pa.Table], archive: Archive, seen: set[str], every: float) -> Iterator[Written]:
    """Write rows as they come, in large parts; of photos of one name the first alone. What ends it early, but a kill,
    leaves what has come by then; what was being written then is not tried again, for it may be there."""
    held: list[pa.Table] = []
    last, again, parts, seen = time.monotonic(), 0, 0, set(seen)
    try:
        for table in tables:
            names = table["photo"].to_pylist()
            fresh = [i for i, name in enumerate(names) if not (name in seen or seen.add(name))]
            held.append(table.take(fresh))
            again += len(names) - len(fresh)
            if time.monotonic() - last > every or sum(map(len, held)) >= MOST:
                part, count, held, again = held, again, [], 0
                yield write(part, archive, count)
                last, parts = time.monotonic(), parts + 1
                if parts % TIDIED == 0:
                    archive.compact()
    except BaseException:
        if any(map(len, held)):
            write(held, archive, again)
        raise
    if any(map(len, held)) or again:
        yield write(held, archive, again)


def write(held: list[pa.Table], archive: Archive, again: int = 0) -> Written:
    """One part."""
    rows = pa.concat_tables(held)
    archive.write(rows)
    faces = pc.sum(pc.list_value_length(rows["faces"])).as_py() or 0
    return Written(len(rows), faces, pc.sum(pc.not_equal(rows["error"], "")).as_py() or 0, again)
