"""The tables of facelib/archive/README.md."""

from collections.abc import Callable

from facelib.evaluation.readme.formatting import duration, rate, size, table
from facelib.io.records import read_table

CORES = 64  # of the machine that times are estimated for
PHOTOS = (10**6, 10**7, 10**9)  # that costs are estimated for


def search() -> str:
    """Search by the index and by comparing all faces."""
    rows = [["faces", "exact, ms", "index, ms", "recall@1", "recall@10", "building it, s", "table", "index"]]
    rows[0].append("rows written per second")
    for row in read_table("archive_search.csv"):
        cells = [f"{row['faces']:,}", f"{row['exact_ms']:.1f}", f"{row['index_ms']:.1f}"]
        cells += [f"{row[f'recall_at_{k}']:.3f} ± {row[f'recall_at_{k}_error']:.3f}" for k in (1, 10)]
        cells += [f"{row['build_s']:.0f}", size(row["table_mb"]), size(row["index_mb"])]
        rows.append([*cells, f"{row['rows_per_second']:,.0f}"])
    return table(rows)


def people() -> str:
    """Clustering by person, compared with the album's."""
    rows = [["", "faces", "people", "groups", "BCubed precision", "recall", "F", "seconds", "peak memory"]]
    for row in read_table("archive_people.csv"):
        cells = [row["method"], *(f"{row[key]:,}" for key in ("faces", "people", "groups"))]
        cells += [rate(row[key]) for key in ("precision", "recall", "f")]
        memory = row.get("peak_memory_mb")
        rows.append([*cells, f"{row['seconds']:.3g}", size(memory) if memory else "-"])
    return table(rows)


def throughput() -> str:
    """Photos per second through Ray and in a plain loop."""
    plain, *others = read_table("archive_throughput.csv")
    rows = [["", "photos per second", "relative to the plain loop", "seconds to start and end", "memory per process"]]
    for row in (plain, *others):
        relative = "-" if row is plain else f"{row['photos_per_second'] / plain['photos_per_second'] - 1:+.0%}"
        cells = [row["method"], f"{row['photos_per_second']:.1f}", relative, f"{row['start_s']:.0f}"]
        rows.append([*cells, size(row["process_memory_mb"])])
    return f"{table(rows)}\n\n{plain['faces'] / plain['photos']:.1f} faces per photo."


def larger() -> str:
    """Cost of larger archives, in proportion to what was measured."""
    best = max(read_table("archive_throughput.csv")[1:], key=lambda row: row["photos_per_second"])
    searches = read_table("archive_search.csv")
    largest = searches[-1]
    smallest = searches[0]  # its table has no old files, which are deleted after an hour
    clustered = [row for row in read_table("archive_people.csv") if row.get("peak_memory_mb")][-1]
    rows = [["photos", "faces", "core hours", f"on {CORES} cores", "table", "index"]]
    rows[0] += ["one search without the index", "clustering by person", "memory for it"]
    for photos in PHOTOS:
        faces = photos * best["faces"] / best["photos"]
        hours = 2 * photos / best["photos_per_second"] / 3600  # it was measured on two cores
        of_search, of_clustering = faces / largest["faces"], faces / clustered["faces"]
        cells = [f"{photos:,}", f"{round(faces, -5):,.0f}", f"{hours:,.0f}", duration(hours / CORES)]
        cells += [size(faces / smallest["faces"] * smallest["table_mb"]), size(of_search * largest["index_mb"])]
        cells.append(duration(of_search * largest["exact_ms"] / 3.6e6))
        cells.append(duration(of_clustering * clustered["seconds"] / 3600))
        rows.append([*cells, size(of_clustering * clustered["peak_memory_mb"])])
    return table(rows)


TABLES: dict[str, Callable[[], str]] = {
    "archive_search": search,
    "archive_people": people,
    "archive_throughput": throughput,
    "archive_larger": larger,
}
