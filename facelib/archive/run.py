"""One run of an archive: reads the source with Ray Data, processes new photos in workers and writes their rows."""

import logging
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

from facelib.alignment.align import SIZE, TEMPLATE
from facelib.archive.missing import remove_missing
from facelib.archive.source import BLOCK_SIZE, photo_dataset
from facelib.archive.table import EXACT_ROWS, Archive
from facelib.archive.worker import KnownPhotos, Worker, rows_id_of
from facelib.pipeline import FacePipeline

logger = logging.getLogger(__name__)

MAX_BUFFERED = 20_000  # photos whose rows are held in memory before they are written
COMPACT_EVERY = 50  # parts after which the files of the tables are merged and older versions deleted


@dataclass(frozen=True)
class Job:
    """What a run processes, and how."""

    source: str  # see `photo_dataset`
    out: str  # location of the archive
    settings: dict[str, Any]  # arguments of `FacePipeline.from_pretrained`
    in_progress_dir: str  # a folder that all machines see, see `Worker`
    workers: int | None = None  # processes; None: one for two cores, or for each GPU
    batch_size: int = 16  # photos that a worker processes together
    write_every: float = 60.0  # seconds between two writes, each of which makes a version of the tables
    retry: bool = False  # whether photos that had an error are processed again


@dataclass(frozen=True)
class Written:
    """What one write added."""

    photos: int
    faces: int
    errors: list[str]  # photo and reason of each one that could not be read
    duplicates: int  # photos that were not added, because one of the same name had been


def run(job: Job) -> Iterator[Written]:
    """Process all photos of the source that are not in the archive yet; yields what each write added.

    At the end, photos that are no longer in the folder are removed from the archive, see `remove_missing`.

    Raises:
        FileNotFoundError, ValueError: see `photo_dataset`, `Archive` and `Archive.check_cohort`.
        OSError: the archive cannot be written.
    """
    dataset, messages = photo_dataset(job.source)
    for message in messages:
        logger.warning(message)
    pipeline = FacePipeline.from_pretrained(**job.settings | {"device": "cpu"})
    rows_id = rows_id_of(pipeline)
    # All machines use the detector of this one, whatever "auto" would choose there.
    settings = job.settings | {"detector": pipeline.detector_name}
    rows_made_by = f"{pipeline.pipeline_id} {pipeline.detector_name}"
    archive = Archive(job.out, pipeline.model_id, embedding_dim(pipeline), rows_made_by)
    archive.check_cohort()
    del pipeline  # the workers have their own
    in_progress_dir = Path(job.in_progress_dir) / f"facelib-{uuid.uuid4().hex}"
    with archive.write_lock():
        archive.repair()
        known = KnownPhotos(archive.processed(without_errors=job.retry), archive.deleted_ids())
        rows = process_photos(dataset, job, settings, rows_id, str(in_progress_dir), known)
        tables = rows.iter_batches(batch_size=None, batch_format="pyarrow")
        try:
            yield from write_tables(tables, archive, known.processed, job.write_every)
        finally:
            shutil.rmtree(in_progress_dir, ignore_errors=True)
        for message in remove_missing(archive, job.source):
            logger.warning(message)
        archive.compact()
        if archive.faces.count_rows() > EXACT_ROWS and not archive.faces.list_indices():
            archive.build_index()


def embedding_dim(pipeline: FacePipeline) -> int:
    """Dimensions of the embeddings of a pipeline, found by embedding a black image."""
    align = getattr(pipeline.embedder, "align", None)
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    faces = align(black, TEMPLATE[None]) if align else black[None]
    return pipeline.embedder.embed(faces).shape[1]


def process_photos(
    dataset: ray.data.Dataset,
    job: Job,
    settings: dict[str, Any],
    rows_id: str,
    in_progress_dir: str,
    known: KnownPhotos,
) -> ray.data.Dataset:
    """Rows of `PHOTO_SCHEMA` of all photos that are not known.

    Args:
        settings, rows_id, in_progress_dir, known: arguments of `Worker`.
    """
    resources = ray.cluster_resources()
    cores = resources.get("CPU", os.cpu_count() or 1)
    gpus = int(resources.get("GPU", 0))
    device = str(job.settings.get("device") or ("cuda" if gpus else "cpu"))
    on_gpu = device.startswith("cuda")
    workers = job.workers or max(1, gpus if on_gpu else int(cores // 2))
    if on_gpu and workers > gpus:
        raise ValueError(f"--workers {workers}: at most one for each GPU that Ray has, which are {gpus}")
    cores_of_largest_node = max(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"])
    threads = int(max(1, min(cores // workers, cores_of_largest_node)))
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Small blocks: Ray processes a whole block again when a worker dies.
    return dataset.repartition(target_num_rows_per_block=min(BLOCK_SIZE, 4 * job.batch_size)).map_batches(
        Worker,
        fn_constructor_args=(settings | {"device": device}, rows_id, in_progress_dir, threads, ray.put(known)),
        batch_format="pyarrow",
        batch_size=job.batch_size,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=threads * 0.5,  # half of the cores, in Ray's accounts; its tasks that read photos need the others
        num_gpus=1 if on_gpu else None,
    )


def write_tables(
    tables: Iterator[pa.Table], archive: Archive, processed: set[str], write_every: float
) -> Iterator[Written]:
    """Write rows of `PHOTO_SCHEMA` in large parts as they come; yields what each write added.

    Of photos of one name only the first is written. Whatever ends this early, except a kill, the rows that have come
    are written; a write that was itself interrupted is not repeated, because its rows may be in the archive.

    Args:
        processed: names of the photos that have a row. write_every: seconds between two writes.
    """
    buffered: list[pa.Table] = []
    seen = set(processed)
    duplicates = parts = 0
    last_write = time.monotonic()
    try:
        for table in tables:
            new = []
            for i, name in enumerate(table["photo"].to_pylist()):
                if name not in seen:
                    seen.add(name)
                    new.append(i)
            buffered.append(table.take(new))
            duplicates += len(table) - len(new)
            if time.monotonic() - last_write > write_every or sum(map(len, buffered)) >= MAX_BUFFERED:
                part, buffered = buffered, []
                part_duplicates, duplicates = duplicates, 0
                yield write_part(part, archive, part_duplicates)
                last_write = time.monotonic()
                parts += 1
                if parts % COMPACT_EVERY == 0:
                    archive.compact()
    except BaseException:
        if any(map(len, buffered)):
            write_part(buffered, archive, duplicates)
        raise
    if any(map(len, buffered)) or duplicates:
        yield write_part(buffered, archive, duplicates)


def write_part(tables: list[pa.Table], archive: Archive, duplicates: int = 0) -> Written:
    """Write tables of `PHOTO_SCHEMA` as one part."""
    rows = pa.concat_tables(tables)
    archive.write(rows)
    faces = pc.sum(pc.list_value_length(rows["faces"])).as_py() or 0
    errors = [error for error in rows["error"].to_pylist() if error]
    return Written(len(rows), faces, errors, duplicates)
