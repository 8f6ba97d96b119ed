"""Cost and accuracy of archives: `python -m facelib.evaluation.benchmarks.archive search | people | throughput`.

search: recall, time and size of the index among 10^4 to 10^6 synthetic embeddings. people: clustering by person,
compared with the album's. throughput: photos per second through Ray.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from lancedb.index import BTree

from facelib.archive.neighbours import cluster_archive
from facelib.archive.people import read_faces, read_people
from facelib.archive.table import Archive
from facelib.embedding.embedder import load_embedder
from facelib.evaluation.benchmarks.synthetic import fill_archive, photo_index, real_faces, synthetic_faces
from facelib.evaluation.timing import milliseconds
from facelib.io.records import RESULTS, read_table, write_table
from facelib.metrics import bcubed
from facelib.recognition.calibration_files import load_calibration
from facelib.recognition.clustering import cluster_faces, merge_scores
from facelib.recognition.cohort import score_offsets
from facelib.settings import data_folder, one_line_errors

SIZES = (10_000, 100_000, 1_000_000)  # faces of the synthetic archives
QUERIES = 1000
EXACT_QUERIES, INDEX_QUERIES = 20, 200  # of these, timed
COMPARED_TOGETHER = 100_000  # stored embeddings compared with queries at a time
REPEATS = (2, 12)  # times that each photo of photos/ is processed; the difference gives the throughput
PLAIN_LOOP = """
import sys
from pathlib import Path
from facelib import FacePipeline
names = Path(sys.argv[1]).read_text().split("\\n")
print(sum(len(faces) for _, faces in FacePipeline.from_pretrained().stream(names, 16)))
"""


def search(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Recall, time and size of the index: a row for each number of faces."""
    embedder = load_embedder(runtime="auto")
    embeddings, people = real_faces(embedder, "open_val", "open_test", "lfw")
    rows = []
    for size in sizes:
        sampled, owner = synthetic_faces(embeddings, people, size + QUERIES)
        # Queries are photos of the same people that are not in the archive.
        is_query = np.random.default_rng(1).permutation(len(sampled)) < QUERIES
        with tempfile.TemporaryDirectory(dir=data_folder()) as folder:
            row = search_row(Path(folder), sampled[~is_query], owner[~is_query], sampled[is_query], embedder.model_id)
        print(row, flush=True)
        rows.append(row)
    return rows


def search_row(
    folder: Path, stored: np.ndarray, owner: np.ndarray, queries: np.ndarray, model_id: str
) -> dict[str, Any]:
    """Measure an archive of the embeddings `stored` (n, d) of people `owner` (n,) with queries (m, d)."""
    archive, rows_per_second = fill_archive(folder / "archive", stored, model_id)
    table_size = folder_size(folder)
    start = time.perf_counter()
    archive.build_index()
    row = {"faces": len(stored), "rows_per_second": rows_per_second, "build_s": time.perf_counter() - start}
    row |= {"table_mb": table_size / 1e6, "index_mb": (folder_size(folder) - table_size) / 1e6}
    write_true_people(archive, owner)  # a search looks up the person too
    exact = (partial(archive.nearest, query, 10, exact=True) for query in queries[:EXACT_QUERIES])
    indexed = (partial(archive.nearest, query, 10, exact=False) for query in queries[:INDEX_QUERIES])
    row |= {"exact_ms": milliseconds(exact), "index_ms": milliseconds(indexed)}
    compared, offsets = stored.astype(np.float16), score_offsets(stored, archive.cohort)
    parts = np.array_split(queries, max(1, len(queries) // 50))
    nearest = np.concatenate([exact_nearest(compared, part, offsets) for part in parts])
    found = [[photo_index(face["photo"]) for face in archive.nearest(query, 10, exact=False)] for query in queries]
    for k in (1, 10):
        recall = [len(set(a[:k].tolist()) & set(b[:k])) / k for a, b in zip(nearest, found)]
        row |= {f"recall_at_{k}": np.mean(recall), f"recall_at_{k}_error": np.std(recall) / len(recall) ** 0.5}
    return row


def exact_nearest(stored: np.ndarray, queries: np.ndarray, offsets: np.ndarray, k: int = 10) -> np.ndarray:
    """Rows (m, k) of the stored embeddings (n, d) float16 with the highest scores with each query (m, d), by comparing
    all pairs; `offsets` (n,): see `score_offsets`."""
    best = np.empty((len(queries), 0), int)
    best_scores = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(stored), COMPARED_TOGETHER):
        part = slice(start, start + COMPARED_TOGETHER)
        scores = queries @ stored[part].astype(np.float32).T - offsets[part]  # all less the offset of the query
        nearest = min(k, scores.shape[1]) - 1
        candidates = np.argpartition(-scores, nearest, axis=1)[:, : nearest + 1]
        best = np.hstack([best, candidates + start])
        best_scores = np.hstack([best_scores, np.take_along_axis(scores, candidates, 1)])
        order = np.argsort(-best_scores, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(best, order, 1)
        best_scores = np.take_along_axis(best_scores, order, 1)
    return best


def write_true_people(archive: Archive, owner: np.ndarray) -> None:
    """Write the table `people` of a synthetic archive as a clustering without errors would."""
    faces = read_faces(archive)
    persons = [f"Person {owner[photo_index(name)]}" for name in faces.photos]
    columns = {"photo": faces.photos, "face": pa.array(faces.face_indices, pa.int32()), "person": persons}
    table = pa.table(columns | {"given": pa.array([False] * len(persons))})
    archive.database.create_table("people", table, mode="overwrite").create_index("photo", config=BTree())


def folder_size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def clustering(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Clustering of real faces (open_test and LFW; the settings were chosen on open_val) by the album and by the
    archive, then of synthetic ones by the archive's command: a row for each."""
    embedder = load_embedder(runtime="auto")
    embeddings, people = real_faces(embedder, "open_test", "lfw")
    calibration = load_calibration(embedder.model_id)
    scores, offsets = merge_scores(calibration, len(embeddings)), score_offsets(embeddings, calibration.cohort)
    photos = np.arange(len(embeddings))
    methods: dict[str, Callable[[], np.ndarray]] = {
        "all pairs (album; archive up to 30,000 faces)": lambda: cluster_faces(embeddings, scores, offsets=offsets),
        "neighbours in cells": lambda: cluster_archive(embeddings, scores, photos, offsets, exact_limit=0),
    }
    rows = []
    for method, cluster in methods.items():
        start = time.perf_counter()
        groups = cluster()
        rows.append(clustering_row(method, people, groups, time.perf_counter() - start))
    for size in sizes:
        sampled, owner = synthetic_faces(embeddings, people, size)
        with tempfile.TemporaryDirectory(dir=data_folder()) as folder:
            archive, _ = fill_archive(Path(folder) / "archive", sampled, embedder.model_id)
            seconds, peak_memory = run_people_command(archive)
            persons = {photo: label.person for (photo, _), label in read_people(archive).items()}
        groups = np.unique([persons[name] for name in sorted(persons)], return_inverse=True)[1]
        row = clustering_row("archive, synthetic people", owner, groups, seconds)
        rows.append(row | {"peak_memory_mb": peak_memory})
    return rows


def clustering_row(method: str, people: np.ndarray, groups: np.ndarray, seconds: float) -> dict[str, Any]:
    """Row of a clustering: groups (n,) of faces of people (n,)."""
    counts = {"faces": len(people), "people": len(np.unique(people)), "groups": len(np.unique(groups))}
    row = {"method": method, **counts, "seconds": seconds, **bcubed(people, groups)}
    print(row, flush=True)
    return row


def run_people_command(archive: Archive) -> tuple[float, float]:
    """Cluster an archive by `python -m facelib.archive.people`: seconds and peak memory in MB.

    Raises:
        RuntimeError: the command failed.
    """
    command = [sys.executable, "-m", "facelib.archive.people", archive.location]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {status}")
    return seconds, usage.ru_maxrss / 1024


def throughput() -> list[dict[str, Any]]:
    """Photos per second by a plain loop, and by one and two workers of Ray, over the same photos.

    The time of few photos is subtracted from that of many, so that starting and ending do not count.
    """
    photos = sorted((data_folder() / "photos").rglob("*.jpg"))
    few, many = (repeats * len(photos) for repeats in REPEATS)
    rows = []
    with tempfile.TemporaryDirectory(dir=data_folder()) as name:
        folder = Path(name)
        write_photo_lists(folder, photos)
        for method, workers in {"plain loop": None, "Ray, 1 worker": 1, "Ray, 2 workers": 2}.items():
            seconds_few, _, _ = run_pipeline(folder, REPEATS[0], workers)
            seconds_many, faces, memory = run_pipeline(folder, REPEATS[1], workers)
            rate = (many - few) / (seconds_many - seconds_few)
            row = {"method": method, "photos": many, "faces": faces, "photos_per_second": rate}
            row |= {"start_s": seconds_few - few / rate, "process_memory_mb": memory}
            print(row, flush=True)
            rows.append(row)
    return rows


def write_photo_lists(folder: Path, photos: list[Path]) -> None:
    """For each of `REPEATS` a list `<repeats>.txt` of links, under different names, to each photo."""
    for repeats in REPEATS:
        names = []
        for repeat in range(repeats):
            for photo in photos:
                link = folder / f"{repeat}-{photo.name}"
                if not link.is_symlink():
                    link.symlink_to(photo)
                names.append(str(link))
        (folder / f"{repeats}.txt").write_text("\n".join(names))


def run_pipeline(folder: Path, repeats: int, workers: int | None) -> tuple[float, int, float]:
    """Process the photos of a list in new processes.

    Args:
        folder: with the list `<repeats>.txt`.
        workers: of Ray; None: a plain loop.

    Returns:
        Seconds of the whole process, faces found, and peak memory in MB of one process with a pipeline.

    Raises:
        RuntimeError: the process failed.
    """
    names, out = folder / f"{repeats}.txt", folder / f"{repeats}-{workers}"
    command = [sys.executable, "-m", "facelib.archive", str(names), "--out", str(out), "--workers", str(workers)]
    if workers is None:
        command = [sys.executable, "-c", PLAIN_LOOP, str(names)]
    start = time.perf_counter()
    peak = 0.0
    with open(folder / "output.txt", "w+") as output:
        running = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        process = psutil.Process(running.pid)
        while running.poll() is None:
            time.sleep(0.2)
            with contextlib.suppress(psutil.Error):
                tree = [process]
                if workers is not None:
                    children = process.children(recursive=True)
                    tree = [child for child in [process, *children] if "MapWorker" in "".join(child.cmdline())]
                peak = max([peak, *(member.memory_info().rss / 2**20 for member in tree)])
        seconds = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if running.returncode:
        raise RuntimeError(f"{' '.join(command)}: {text[-500:]}")
    faces = int(text.split()[-1]) if workers is None else Archive(str(out)).faces.count_rows()
    return seconds, faces, peak


BENCHMARKS: dict[str, Callable[[tuple[int, ...]], list[dict[str, Any]]]] = {
    "search": search,
    "people": clustering,
    "throughput": lambda _: throughput(),
}


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.benchmarks.archive", description=__doc__)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="faces of the synthetic archives")
    options = parser.parse_args()
    path = RESULTS / f"archive_{options.benchmark}.csv"
    rows = BENCHMARKS[options.benchmark](tuple(options.sizes))
    if path.exists() and options.sizes != list(SIZES):  # rows of other sizes stay
        new = {(row.get("method"), row["faces"]) for row in rows}
        rows = [row for row in read_table(path) if (row.get("method"), row["faces"]) not in new] + rows
    write_table(path, rows)
    print(f"{path}: written")


if __name__ == "__main__":
    sys.exit(main())
