"""What an archive costs, and what it finds: `python -m facelib.evaluation.benchmarks.archive search | people | work`.

search: recall, time, size and building of the index among 10^4 to 10^6 vectors that are drawn around made-up people as
real photos lie around real ones. people: sorting by person, beside the album's. work: photos a second through Ray.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from lancedb.index import BTree

from facelib.alignment.landmarker import load_landmarker
from facelib.archive.communities import communities, link_fmr, with_left_over
from facelib.archive.people import faces_of, persons_of
from facelib.archive.table import PHOTO, Archive
from facelib.datasets.aligned_faces import aligned_open_set, aligned_set
from facelib.embedding.embedder import NetworkEmbedder, load_embedder
from facelib.io.records import RESULTS, read_table, write_table
from facelib.metrics import bcubed
from facelib.recognition.calibration import load_calibration
from facelib.recognition.clustering import cluster_faces, clustering_fmr
from facelib.settings import data_folder, one_line_errors

SIZES = (10_000, 100_000, 1_000_000)
QUERIES = 1000
MOST_OF_ONE = 5_000  # photos of a made-up person
WRITTEN = 20_000  # rows in a part
TIMES = (2, 12)  # that the photos of photos/ are looked at, under other names; the difference gives the speed
LOOP = """
import sys
from pathlib import Path
from facelib import FacePipeline
names = Path(sys.argv[1]).read_text().split("\\n")
print(sum(len(faces) for _, faces in FacePipeline.from_pretrained().stream(names, 16)))
"""


def real_faces(embedder: NetworkEmbedder, *splits: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and people of "open_val", "open_test" and "lfw"."""
    landmarker = load_landmarker(runtime="auto")
    sets = [aligned_set(s, landmarker) if s == "lfw" else aligned_open_set(s, landmarker) for s in splits]
    vectors = np.concatenate([embedder.embed(aligned) for aligned, _ in sets])
    return vectors, np.concatenate([faces.people for _, faces in sets])


def synthetic_faces(
    vectors: np.ndarray, people: np.ndarray, count: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """`count` vectors of made-up people, and whose they are.

    Centres are drawn from the normal distribution of real people's centres, as far as their few photos tell it. To each
    centre is added, for each photo, a direction from the normal distribution of what photos differ by from their
    person's centre, as long as for some real photo. Most people have few photos, some have very many (Zipf's law).
    """
    _, who, photos = np.unique(people, return_inverse=True, return_counts=True)
    centres = np.zeros((len(photos), vectors.shape[1]))
    np.add.at(centres, who, vectors)
    centres /= photos[:, None]
    several = photos[who] >= 4
    # A mean of n photos lies nearer to its photos than their person's centre does: what is missing is put back.
    apart = (vectors - centres[who])[several] * np.sqrt(photos[who] / (photos[who] - 1 + 1e-9))[several][:, None]
    within, known = np.cov(apart.T), centres[photos >= 4]
    between = np.cov(known.T) - (1 / photos[photos >= 4]).mean() * within
    values, axes = np.linalg.eigh(between)
    rng = np.random.default_rng(seed)
    sizes = rng.zipf(1.8, count).clip(max=max(1, min(MOST_OF_ONE, count // 20)))
    sizes = sizes[: np.searchsorted(sizes.cumsum(), count) + 1]
    owner = np.repeat(np.arange(len(sizes)), sizes)[:count]
    made = known.mean(0) + rng.normal(size=(len(sizes), len(values))) * np.sqrt(values.clip(min=0)) @ axes.T
    lengths, root = np.linalg.norm(apart, axis=1), np.linalg.cholesky(within + 1e-9 * np.eye(len(within)))
    result = np.empty((count, vectors.shape[1]), np.float32)
    for rows in np.array_split(np.arange(count), -(-count // 50_000)):
        moved = rng.normal(size=(len(rows), len(root))) @ root.T
        moved *= (rng.choice(lengths, len(rows)) / np.linalg.norm(moved, axis=1))[:, None]
        drawn = made[owner[rows]] + moved
        result[rows] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return result, owner


def filled(place: Path, vectors: np.ndarray, model_id: str) -> tuple[Archive, float]:
    """An archive of these vectors, one a photo, and rows written a second."""
    archive, seconds = Archive(str(place), model_id, vectors.shape[1]), 0.0
    rest = dict(box=[10.0, 20.0, 110.0, 140.0], score=0.9, landmarks=list(map(float, range(10))))
    rest |= dict(landmark_confidence=0.9, quality=0.9, quality_issue="")
    for rows in np.array_split(np.arange(len(vectors)), -(-len(vectors) // WRITTEN)):
        names = [f"/photos/of/a/library/{n:09d}.jpg" for n in rows]
        faces = [
            [dict(photo=name, face=0, vector=vectors[n].astype(np.float16), **rest)] for n, name in zip(rows, names)
        ]
        photos = [dict(photo=name, width=1, height=1, error="", faces=own) for name, own in zip(names, faces)]
        table, start = pa.Table.from_pylist(photos, PHOTO), time.perf_counter()
        archive.write(table)
        seconds += time.perf_counter() - start
    archive.compact()
    return archive, len(vectors) / seconds


def number_of(face: dict) -> int:
    """Of a made-up photo."""
    return int(face["photo"][-13:-4])


def milliseconds(work: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    """Of one query, the median."""
    times = []
    for query in queries:
        start = time.perf_counter()
        work(query)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def search(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for each size."""
    embedder = load_embedder(runtime="auto")
    vectors, people = real_faces(embedder, "open_val", "open_test", "lfw")
    rows = []
    for size in sizes:
        every, owner = synthetic_faces(vectors, people, size + QUERIES)
        asked = (
            np.random.default_rng(1).permutation(len(every)) < QUERIES
        )  # photos of the same people, not in the table
        made, queries, owner = every[~asked], every[asked], owner[~asked]
        with tempfile.TemporaryDirectory(dir=data_folder()) as folder:
            archive, written = filled(Path(folder) / "archive", made, embedder.model_id)
            before, start = size_of(folder), time.perf_counter()
            archive.index()
            row = {"faces": size, "rows_written_a_second": written, "build_s": time.perf_counter() - start}
            row |= {"vectors_mb": before / 1e6, "index_mb": (size_of(folder) - before) / 1e6}
            sorted_as(archive, owner)  # "who is this?" asks for the person too
            row["exact_ms"] = milliseconds(lambda q, a=archive: a.nearest(q, 10, exact=True), queries[:20])
            row["index_ms"] = milliseconds(lambda q, a=archive: a.nearest(q, 10, exact=False), queries[:200])
            stored = made.astype(np.float16)
            right = np.concatenate([exact_nearest(stored, part) for part in np.array_split(queries, QUERIES // 50)])
            found = [[number_of(face) for face in archive.nearest(query, 10, exact=False)] for query in queries]
            for k in (1, 10):
                hits = [len(set(a[:k].tolist()) & set(b[:k])) / k for a, b in zip(right, found)]
                row |= {f"recall_at_{k}": np.mean(hits), f"recall_at_{k}_error": np.std(hits) / len(hits) ** 0.5}
        print(row, flush=True)
        rows.append(row)
    return rows


def exact_nearest(stored: np.ndarray, queries: np.ndarray, k: int = 10) -> np.ndarray:
    """Numbers (m, k) of the stored float16 vectors nearest to each query (m, d), by comparing with all."""
    best, near = np.empty((len(queries), 0), int), np.empty((len(queries), 0), np.float32)
    for start in range(0, len(stored), 100_000):
        part = queries @ stored[start : start + 100_000].astype(np.float32).T
        numbers = np.argpartition(-part, k, axis=1)[:, :k] if part.shape[1] > k else np.argsort(-part, axis=1)
        best = np.hstack([best, numbers + start])
        near = np.hstack([near, np.take_along_axis(part, numbers, 1)])
        order = np.argsort(-near, axis=1, kind="stable")[:, :k]
        best, near = np.take_along_axis(best, order, 1), np.take_along_axis(near, order, 1)
    return best


def sorted_as(archive: Archive, owner: np.ndarray) -> None:
    """As if the faces of a made-up archive had been sorted by person without an error."""
    faces = faces_of(archive)
    persons = [f"Person {owner[int(name[-13:-4])]}" for name in faces.names]
    columns = {"photo": faces.names, "face": pa.array(faces.numbers, pa.int32()), "person": persons}
    table = pa.table(columns | {"given": pa.array([False] * len(persons))})
    archive.database.create_table("people", table, mode="overwrite").create_index("photo", config=BTree())


def size_of(folder: str | Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def sorting(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Real faces of open_test and LFW by the album's way and by the archive's (whose settings were chosen on open_val);
    then made-up ones by the archive's command."""
    embedder = load_embedder(runtime="auto")
    vectors, people = real_faces(embedder, "open_test", "lfw")
    meaning = load_calibration(embedder.model_id)
    rows: list[dict[str, Any]] = []

    def row(way: str, whose: np.ndarray, groups: np.ndarray, seconds: float, **more: float) -> None:
        counts = {"faces": len(whose), "people": len(np.unique(whose)), "groups": len(np.unique(groups))}
        rows.append({"way": way, **counts, "seconds": seconds, **bcubed(whose, groups), **more})
        print(rows[-1], flush=True)

    def timed(way: str, work: Callable[[], np.ndarray]) -> None:
        start = time.perf_counter()
        groups = work()
        row(way, people, groups, time.perf_counter() - start)

    tie = meaning.distance_at(link_fmr(len(vectors)))
    timed("album", lambda: cluster_faces(vectors, meaning.distance_at(clustering_fmr(len(vectors)))))
    timed("archive, neighbours by comparing", lambda: with_left_over(vectors, communities(vectors, tie), meaning))
    timed(
        "archive, neighbours in cells", lambda: with_left_over(vectors, communities(vectors, tie, compared=0), meaning)
    )
    for size in sizes:
        made, owner = synthetic_faces(vectors, people, size)
        with tempfile.TemporaryDirectory(dir=data_folder()) as folder:
            archive, _ = filled(Path(folder) / "archive", made, embedder.model_id)
            command, start = [sys.executable, "-m", "facelib.archive.people", archive.place], time.perf_counter()
            running = subprocess.Popen(command)
            _, code, used = os.wait4(running.pid, 0)
            seconds = time.perf_counter() - start
            if code:
                raise RuntimeError(f"{' '.join(command)} ended with {code}")
            found = {photo: whose.person for (photo, _), whose in persons_of(archive).items()}
            groups = np.unique([found[name] for name in sorted(found)], return_inverse=True)[1]
            row("archive, made-up people", owner, groups, seconds, peak_memory_mb=used.ru_maxrss / 1024)
    return rows


def work() -> list[dict[str, Any]]:
    """Photos a second: the plain loop, and one and two workers of Ray, over the same photos."""
    photos = sorted((data_folder() / "photos").rglob("*.jpg"))
    ways = {"the plain loop": None, "Ray, 1 worker": 1, "Ray, 2 workers": 2}
    rows = []
    with tempfile.TemporaryDirectory(dir=data_folder()) as folder:
        place = Path(folder)
        for times in TIMES:
            names = [place / f"{number}-{photo.name}" for number in range(times) for photo in photos]
            for name, photo in zip(names, photos * times):
                if not name.is_symlink():
                    name.symlink_to(photo)
            (place / f"{times}.txt").write_text("\n".join(map(str, names)))
        for name, workers in ways.items():
            (few, _, _), (many, faces, memory) = (worked(place, times, workers) for times in TIMES)
            count = (TIMES[1] - TIMES[0]) * len(photos)
            rate = count / (many - few)
            row = {"way": name, "photos": TIMES[1] * len(photos), "faces": faces, "photos_a_second": rate}
            rows.append(row | {"start_s": few - TIMES[0] * len(photos) / rate, "memory_of_one_mb": memory})
            print(rows[-1], flush=True)
    return rows


def worked(place: Path, times: int, workers: int | None) -> tuple[float, int, float]:
    """Over the photos of the list `times`.txt: seconds of the whole process, faces, and the most MB that a process with
    a pipeline held. workers: of Ray; None: the plain loop."""
    names, out = place / f"{times}.txt", place / f"{times}-{workers}"
    command = [sys.executable, "-m", "facelib.archive", names, "--out", out, "--workers", workers]
    if workers is None:
        command = [sys.executable, "-c", LOOP, names]
    start, most = time.perf_counter(), 0.0
    with open(place / "said.txt", "w+") as said:
        running = subprocess.Popen([*map(str, command)], stdout=said, stderr=subprocess.STDOUT)
        own = psutil.Process(running.pid)
        while running.poll() is None:
            time.sleep(0.2)
            with contextlib.suppress(psutil.Error):
                tree = [own, *own.children(recursive=True)] if workers else [own]
                these = [p for p in tree if workers is None or "MapWorker" in "".join(p.cmdline())]
                most = max([most, *(p.memory_info().rss / 2**20 for p in these)])
        seconds = time.perf_counter() - start
        said.seek(0)
        text = said.read()
    if running.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {text[-500:]}")
    return seconds, int(text.split()[-1]) if workers is None else Archive(str(out)).faces.count_rows(), most


WAYS: dict[str, Callable[[tuple[int, ...]], list[dict[str, Any]]]] = {
    "search": search,
    "people": sorting,
    "work": lambda _: work(),
}


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.evaluation.benchmarks.archive", description=__doc__)
    parser.add_argument("what", choices=WAYS)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="faces of the made-up archives")
    options = parser.parse_args()
    path = RESULTS / f"archive_{options.what}.csv"
    rows = WAYS[options.what](tuple(options.sizes))
    if path.exists() and options.sizes != list(SIZES):  # rows of other sizes stay
        new = {(row.get("way"), row["faces"]) for row in rows}
        rows = [row for row in read_table(path) if (row.get("way"), row["faces"]) not in new] + rows
    write_table(path, rows)
    print(f"{path}: written")


if __name__ == "__main__":
    sys.exit(main())
