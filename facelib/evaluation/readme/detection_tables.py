"""The tables of landmarks and detectors in models/README.md."""

from collections.abc import Callable

from facelib.datasets.face_list import POINT_NAMES
from facelib.evaluation.detection import DEFAULT_RULE
from facelib.evaluation.readme.formatting import marked_runs, percent, table
from facelib.io.records import read_record, read_table

LABEL_SETS = ("celeba", "helen", "afw", "ytf", "net", "lfpw", "odata")  # of comparisons; infants stand apart
LANDMARK_SETS = {"celeba": "CelebA in the wild", "helen": "HELEN", "ytf": "YouTube Faces", "aflw": "AFLW (MTFL test)"}


def landmarks(name: str = "hourglass_keypoints") -> str:
    """Landmark errors of a hourglass and of other systems.

    Args:
        name: path of its record without the ending, relative to models/results.
    """
    metrics = read_record(f"{name}.json")
    peers = read_table("peers_landmarks.csv")
    head = ["test set", "faces", "NME", "faces above 10 %", "label offset removed", "with flip averaging", "both"]
    rows = [head + [peer["system"] for peer in peers]]
    for key in sorted(metrics.keys() - {"measured"}, key=[*LANDMARK_SETS, *metrics].index):
        ours = metrics[key]
        row = [
            LANDMARK_SETS.get(key, key),
            f"{ours['faces']:,}",
            f"**{percent(ours['nme'])}**",
            percent(ours["above_10"], 1),
        ]
        row += [percent(ours.get(column)) for column in ("nme_offset", "nme_flip", "nme_flip_offset")]
        rows.append(row + [percent(peer.get(key), 2) for peer in peers])
    sources = "; ".join(f"{peer['system']}: {peer['source']}" for peer in peers)
    return f"{table(rows)}\n\nOther systems: {sources}."


def celeba_landmarks() -> str:
    """Landmark errors of the hourglass that was trained on CelebA alone, beside the shipped one."""
    rows = [["", *LANDMARK_SETS.values()]]
    names = {"hourglass_celeba": "CelebA alone, 120,000 faces seen", "hourglass_keypoints": "shipped, eight label sets"}
    for name, title in names.items():
        metrics = read_record(f"{name}.json")
        rows.append([title, *(percent(metrics[key]["nme"]) for key in LANDMARK_SETS)])
    data = read_record("hourglass_celeba_training.json")["measured"]["data"]
    return f"{table(rows)}\n\nNME, without flip averaging. Trained on {data}."


def landmark_comparison(comparison_name: str) -> str:
    """NME on validation faces of runs that are equal except for one setting; the mean leaves the infants out."""
    runs = read_table(f"comparison_{comparison_name}.csv")
    sets = [label_set for label_set in LABEL_SETS if f"nme_{label_set}" in runs[0]]
    infants = ["nme_infanface"] if "nme_infanface" in runs[0] else []
    rows = [["run", *sets, *(["infants"] if infants else []), "mean"]]
    names, notes = marked_runs(runs)
    for name, run in zip(names, runs):
        errors = [run[f"nme_{label_set}"] for label_set in sets]
        cells = [*errors, *(run[key] for key in infants), sum(errors) / len(errors)]
        rows.append([name, *(percent(value) for value in cells)])
    return table(rows) + notes


def label_offsets() -> str:
    """How far the labels of each set lie from the predictions, in per cent of the inter-ocular distance."""
    metrics = read_record("hourglass_keypoints.json")
    rows = [["set", *(name.replace("_", " ") for name in POINT_NAMES)]]
    for key, name in LANDMARK_SETS.items():
        if "label_offsets" in metrics[key]:
            rows.append([name, *(f"{100 * x:.1f}, {100 * y:.1f}" for x, y in metrics[key]["label_offsets"])])
    return table(rows)


def detection() -> str:
    """True and false positives of both detectors."""
    counts = {
        (row["detector"], row["rule"], row["version"]): f"{row['true_positives']} / {row['false_positives']}"
        for row in read_table("detection.csv")
    }
    rows = [["photos", "RetinaFace, threshold 0.8", "threshold 0.5", "**default**"]]
    rows[0] += ["SCRFD, threshold 0.5", "**default**"]
    for version in dict.fromkeys(version for _, _, version in counts):
        retinaface = [counts["retinaface", f"score from {threshold}", version] for threshold in (0.8, 0.5)]
        scrfd = counts["insightface", "score from 0.5", version]
        defaults = [f"**{counts[detector, DEFAULT_RULE, version]}**" for detector in ("retinaface", "insightface")]
        rows.append([version, *retinaface, defaults[0], scrfd, defaults[1]])
    return table(rows)


def crowds() -> str:
    """Detection on large photos, with and without tiling, and its cost."""
    by_run = {(row["picture"], row["detector"], row["rule"]): row for row in read_table("crowds.csv")}
    runs = [(detector, rule) for detector in ("insightface", "retinaface") for rule in ("whole", "tiled")]
    titles = {"insightface": "SCRFD", "retinaface": "RetinaFace"}
    rows = [["picture", "faces", *(f"{titles[detector]}, {rule}" for detector, rule in runs), "peak memory"]]
    for picture in dict.fromkeys(picture for picture, _, _ in by_run):
        measured = [by_run[picture, detector, rule] for detector, rule in runs]
        cells = [f"{row['true_positives']} / {row['false_positives']}, {row['seconds']:.2f} s" for row in measured]
        title = f"{picture} ({measured[0]['width']:,} x {measured[0]['height']:,})"
        memory = max(row["peak_memory_mb"] for row in measured)
        rows.append([title, str(measured[0]["faces"]), *cells, f"{memory:,.0f} MB"])
    return f"{table(rows)}\n\nTrue / false positives, and the detector's time."


TABLES: dict[str, Callable[[], str]] = {
    "landmarks": landmarks,
    "label_offsets": label_offsets,
    "celeba_landmarks": celeba_landmarks,
    "comparison_landmarks": lambda: landmark_comparison("landmarks"),
    "comparison_landmark_sets": lambda: landmark_comparison("landmark_sets"),
    "comparison_landmarks_more": lambda: landmark_comparison("landmarks_more"),
    "detection": detection,
    "crowds": crowds,
}
