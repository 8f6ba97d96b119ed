"""The tables in facelib/archive/README.md, made from models/results, and what they mean for larger archives."""

from collections.abc import Callable

from facelib.evaluation.readme.tables import rate, table
from facelib.io.records import read_table

MACHINE = 64  # cores of the machine that times are told for
LARGER = (10**6, 10**7, 10**9)  # photos


def size_of(megabytes: float) -> str:
    """In the unit that reads best."""
    for unit in ("MB", "GB"):
        if megabytes < 1000:
            return f"{megabytes:,.3g} {unit}"
        megabytes /= 1000
    return f"{megabytes:,.3g} TB"


def time_of(hours: float) -> str:
    """In the unit that reads best."""
    if hours < 1 / 60:
        return f"{3600 * hours:.2g} s"
    if hours < 1:
        return f"{60 * hours:.2g} minutes"
    return f"{hours:,.2g} hours" if hours < 48 else f"{hours / 24:,.0f} days"


def search() -> str:
    """The index against comparing with all."""
    rows = [["faces", "exact, ms", "index, ms", "recall@1", "recall@10", "building it, s", "table", "index"]]
    rows[0].append("rows written a second")
    for row in read_table("archive_search.csv"):
        cells = [f"{row['faces']:,}", f"{row['exact_ms']:.1f}", f"{row['index_ms']:.1f}"]
        cells += [f"{row[f'recall_at_{k}']:.3f} ± {row[f'recall_at_{k}_error']:.3f}" for k in (1, 10)]
        cells += [f"{row['build_s']:.0f}", size_of(row["vectors_mb"]), size_of(row["index_mb"])]
        rows.append([*cells, f"{row['rows_written_a_second']:,.0f}"])
    return table(rows)


def people() -> str:
    """Sorting by person, beside the album's way."""
    rows = [["", "faces", "people", "groups", "BCubed precision", "recall", "F", "seconds", "peak memory"]]
    for row in read_table("archive_people.csv"):
        cells = [row["way"], *(f"{row[key]:,}" for key in ("faces", "people", "groups"))]
        cells += [rate(row[key]) for key in ("precision", "recall", "f")]
        memory = row.get("peak_memory_mb")
        rows.append([*cells, f"{row['seconds']:.3g}", size_of(memory) if memory else "-"])
    return table(rows)


def work() -> str:
    """Photos a second through Ray, and by the plain loop."""
    plain, *others = read_table("archive_work.csv")
    rows = [["", "photos a second", "against the plain loop", "seconds to start and to end", "memory of a process"]]
    for row in (plain, *others):
        beside = "-" if row is plain else f"{row['photos_a_second'] / plain['photos_a_second'] - 1:+.0%}"
        cells = [row["way"], f"{row['photos_a_second']:.1f}", beside, f"{row['start_s']:.0f}"]
        rows.append([*cells, size_of(row["memory_of_one_mb"])])
    return f"{table(rows)}\n\n{plain['faces'] / plain['photos']:.1f} faces a photo, as whole photos with people have."


def larger() -> str:
    """What more photos cost, computed in proportion."""
    one = max(read_table("archive_work.csv")[1:], key=lambda row: row["photos_a_second"])
    searched = read_table("archive_search.csv")
    found, small = searched[-1], searched[0]  # the small one has no files beside that will be gone in an hour
    sorting = [row for row in read_table("archive_people.csv") if row.get("peak_memory_mb")][-1]
    per_photo = one["faces"] / one["photos"]
    rows = [["photos", "faces", "core hours", f"on {MACHINE} cores", "table", "index"]]
    rows[0] += ["one search without the index", "sorting by person", "memory for it"]
    for photos in LARGER:
        faces, hours = photos * per_photo, 2 * photos / one["photos_a_second"] / 3600
        times, more = faces / found["faces"], faces / sorting["faces"]
        cells = [f"{photos:,}", f"{round(faces, -5):,.0f}", f"{hours:,.0f}", time_of(hours / MACHINE)]
        cells += [size_of(faces / small["faces"] * small["vectors_mb"]), size_of(times * found["index_mb"])]
        cells += [time_of(times * found["exact_ms"] / 3.6e6), time_of(more * sorting["seconds"] / 3600)]
        rows.append([*cells, size_of(more * sorting["peak_memory_mb"])])
    return table(rows)


TABLES: dict[str, Callable[[], str]] = {
    "archive_search": search,
    "archive_people": people,
    "archive_work": work,
    "archive_larger": larger,
}
