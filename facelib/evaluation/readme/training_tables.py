"""The tables of single networks, their training, and comparisons of losses and hyperparameters in models/README.md."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import t as student_t

from facelib.evaluation.readme.formatting import marked_runs, percent, rate, table
from facelib.io.records import read_record, read_table

QUARTERS = (1, 2, 3)  # of CelebA, by their `people_seed`

# Record -> what the training of the network starts from.
LABELS_ONLY = {
    "arcface": "label-only weights of an earlier trial, not shipped",
    "triplet": "`arcface`",
    "model_arcface_cpu": "ImageNet, by model_arcface_cpu.toml",
    "model_arcface_all_sources": "ImageNet, by the recipe of its card",
}


def network(name: str) -> str:
    """Open-set, LFW and closed-set figures of a network in one paragraph."""
    metrics = read_record(f"{name}.json")
    training_record = read_record(f"{name}_training.json")
    test, lfw = metrics["open_test"], metrics["lfw"]
    tpr = {row["fpr"]: rate(row["tpr"]) for row in test["identification_rate"]}
    return (
        f"open_test: TPR {tpr[0.1]}, {tpr[0.01]}, {tpr[0.001]} at FPR 0.1, 0.01, 0.001; "
        f"AUC {rate(test['auc'])}, EER {rate(test['eer'])}, rank-1 {rate(test['rank_1'])}. "
        f"LFW View 2: {percent(lfw['accuracy'])} ± {percent(lfw['standard_error'])}. "
        "Closed set, held-out photos of the training identities, at the end of training: "
        f"top-1 {rate(training_record['closed_set_top1'])}, top-5 {rate(training_record['closed_set_top5'])}."
    )


def training(name: str) -> str:
    """Training data, epochs and closed-set accuracy of a network."""
    record = read_record(f"{name}_training.json")
    history = read_table(f"{name}_history.csv")
    input_sizes = [row["input_size"] for row in history]
    epochs = ", ".join(f"{input_sizes.count(size)} at {size} px" for size in dict.fromkeys(input_sizes))
    accuracy = []
    if "closed_set_top1" in record:  # absent after a triplet loss, which has no class weights
        accuracy.append(f"{_top_1_and_5(record, 'closed_set_top')} by its own class weights")
    by_centres = {row["networks"]: row for row in read_table("closed_set.csv")}.get(f"{name}.pt")
    if by_centres:
        accuracy.append(f"{_top_1_and_5(by_centres, 'top')} by the nearest class centre")
    return (
        f"{record['measured']['data']}; {len(history)} epochs ({epochs}, by the size at the end of each). Closed set, "
        f"held-out photos of these people: {'; '.join(accuracy)}."
    )


def celeba_quarters() -> str:
    """Networks trained by the recipe for CelebA alone on random quarters of it, and where another one is expected."""
    rows = [["people_seed", "photos and people", "open_test, TPR at FPR 0.1", "0.01", "0.001", "LFW View 2"]]
    figures = []
    for seed in QUARTERS:
        record, training_record = (
            read_record(f"celeba_quarter_{seed}.json"),
            read_record(f"celeba_quarter_{seed}_training.json"),
        )
        tpr = {row["fpr"]: row["tpr"] for row in record["open_test"]["identification_rate"]}
        figures.append([tpr[0.1], tpr[0.01], tpr[0.001], record["lfw"]["accuracy"]])
        data = training_record["measured"]["data"].split(" of celeba_crops")[0]
        rows.append([str(seed), data, *_cells(figures[-1])])
    means, spread = np.mean(figures, 0), np.std(figures, 0, ddof=1)
    factor = student_t.ppf(0.975, len(figures) - 1) * np.sqrt(1 + 1 / len(figures))
    low, high = (_cells(means + sign * factor * spread) for sign in (-1, 1))
    rows.append(["mean", "", *_cells(means)])
    rows.append(["range", "", *(f"{a} to {b}" for a, b in zip(_cells(np.min(figures, 0)), _cells(np.max(figures, 0))))])
    rows.append(["another run (95 %)", "", *(f"{a} to {b}" for a, b in zip(low, high))])
    return table(rows)


def labels_only() -> str:
    """The networks that learned from labels only, by what their training starts from."""
    rows = [["network", "starts from", "open_test, TPR at FPR 0.1", "0.01", "0.001", "LFW View 2", "families, 0.01"]]
    for name, start in LABELS_ONLY.items():
        record = read_record(f"{name}.json")
        tpr = {row["fpr"]: row["tpr"] for row in record["open_test"]["identification_rate"]}
        cells = _cells([tpr[0.1], tpr[0.01], tpr[0.001], record["lfw"]["accuracy"]])
        rows.append([f"`{name}`", start, *cells, rate(record.get("families", {}).get("0.01"))])
    return table(rows)


def _cells(figures: Sequence[float]) -> list[str]:
    *tprs, accuracy = map(float, figures)
    return [*map(rate, tprs), percent(accuracy)]


def _top_1_and_5(row: dict, prefix: str) -> str:
    return f"top-1 {rate(row[f'{prefix}1'])}, top-5 {rate(row[f'{prefix}5'])}"


def comparison(comparison_name: str) -> str:
    """Runs that are equal except for one hyperparameter."""
    runs = read_table(f"comparison_{comparison_name}.csv")
    head = ["run", "TPR at FPR 0.1", "0.01", "95 % interval", "0.001", "families, 0.01"]
    rows = [head + ["closed-set top-1", "triplet accuracy"]]
    names, notes = marked_runs(runs)
    for name, run in zip(names, runs):
        low, high = (rate(run[f"open_val_flip_0.01_{end}"]) for end in ("low", "high"))
        row = [name, *(rate(run[f"open_val_flip_{fpr}"]) for fpr in ("0.1", "0.01"))]
        row += [f"{low} to {high}", rate(run["open_val_flip_0.001"]), rate(run.get("families_0.01"))]
        rows.append([*row, rate(run.get("top1") or None), rate(run["triplets"])])
    return f"{table(rows)}\n\nEach run saw {int(runs[0]['photos_seen']):,} photos.{notes}"


def group_comparison() -> str:
    """Runs with and without faces of different people: what they gain and lose by group."""
    groups = {"white women": "white women", "black women": "Black women", "east asian women": "East Asian women"}
    groups |= {"children to 12": "children to 12"}
    head = ["run", "open_val TPR at FPR 0.01", "0.001", "families, 0.01", "faces_world, 0.01", "0.001"]
    rows = [[*head, *(f"FMR, {name}" for name in groups.values())]]
    for run in read_table("comparison_embedder_groups.csv"):
        keys = ("open_val_flip_0.01", "open_val_flip_0.001", "families_0.01", "world_0.01", "world_0.001")
        rates = [rate(run[f"fmr_{group.replace(' ', '_')}"]) for group in groups]
        rows.append([str(run["what"]), *(rate(run[key]) for key in keys), *rates])
    return table(rows)


TABLES: dict[str, Callable[[], str]] = {
    "comparison_groups": group_comparison,
    "celeba_quarters": celeba_quarters,
    "training_distilled": lambda: training("model_distilled"),
    "training_arcface": lambda: training("model_arcface"),
    "training_triplet": lambda: training("model_triplet"),
    "training_arcface_cpu": lambda: training("model_arcface_cpu"),
    "labels_only": labels_only,
    "model_arcface_all_sources": lambda: network("model_arcface_all_sources"),
    "model_cross_entropy": lambda: network("model_cross_entropy"),
    "comparison_distilled": lambda: comparison("embedder_distilled"),
    "comparison_go_on": lambda: comparison("embedder_go_on"),
    "comparison_margins": lambda: comparison("embedder_margins"),
    "comparison_teacher": lambda: comparison("embedder_teacher"),
    "comparison_imagenet": lambda: comparison("embedder_from_imagenet"),
}
