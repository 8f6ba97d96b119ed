"""The figures of one record, of a shipped network or of one's own: verification, decisions, identification.

Records are named by their path without the ending, relative to models/results. What a record does not have is left out.
"""

from typing import Any

from facelib.evaluation.readme.formatting import percent, rate, table
from facelib.evaluation.verification import CORRUPTIONS
from facelib.io.records import read_record
from facelib.landmark_metrics import TURNS


def open_test(name: str) -> str:
    """The verification figures of an embedder, with intervals."""
    record = read_record(f"{name}.json")
    sentences = " ".join(filter(None, [_summary(record), _lfw(record), _relatives(record)]))
    return "\n\n".join(filter(None, [_rates(record), sentences, _as_scores(record), _robustness(record)]))


def _rates(record: dict[str, Any]) -> str:
    if "open_test" not in record:
        return ""
    test = record["open_test"]
    rows = [[f"identities not seen in training (open_test, {test['people']} people)", "TPR", "95 % interval"]]
    for row in test["identification_rate"]:
        low, high = row["interval_95"]
        rows.append([f"FPR {row['fpr']:g}", f"**{rate(row['tpr'])}**", f"{rate(low)} to {rate(high)}"])
    return table(rows)


def _summary(record: dict[str, Any]) -> str:
    if "open_test" not in record:
        return ""
    test = record["open_test"]
    return f"AUC {rate(test['auc'])}, EER {rate(test['eer'])}, rank-1 {rate(test['rank_1'])} (nearest other photo)."


def _lfw(record: dict[str, Any]) -> str:
    if "lfw" not in record:
        return ""
    lfw = record["lfw"]
    return (
        f"LFW View 2: {percent(lfw['accuracy'])} ± {percent(lfw['standard_error'])} (standard error over ten folds), "
        f"TPR {rate(lfw['tpr_at_fpr_0.001'])} at FPR 0.001."
    )


def _relatives(record: dict[str, Any]) -> str:
    if "relatives" not in record:
        return ""
    relatives = record["relatives"]
    return (
        "In the held-out families the threshold accepts "
        f"{percent(relatives['same_person'], 1)} of the genuine pairs (some decades apart), "
        f"{percent(relatives['relatives'])} of the pairs of relatives and {percent(relatives['impostors'])} of the "
        "impostor pairs."
    )


def _robustness(record: dict[str, Any]) -> str:
    if "robustness" not in record:
        return ""
    tpr = {condition: percent(row["tpr"], 1) for condition, row in record["robustness"].items()}
    corrupted, turned = (
        ", ".join(f"{condition} {tpr[condition]}" for condition in conditions if condition in tpr)
        for conditions in (CORRUPTIONS, TURNS)
    )
    return (
        f"Robustness: genuine pairs of open_test accepted at the threshold: {tpr['unmodified']} unmodified; one of the "
        f"two photos {corrupted}; by head pose (the face turned further): {turned or '-'}."
    )


def _as_scores(record: dict[str, Any]) -> str:
    """The figures of normalised scores, a paragraph; "" for a record without them."""
    parts = []
    if "open_test_scores" in record:
        tpr = {row["fpr"]: rate(row["tpr"]) for row in record["open_test_scores"]}
        shown = [fpr for fpr in (0.1, 0.01, 0.001) if fpr in tpr]
        rates, fprs = (", ".join(words) for words in ([tpr[fpr] for fpr in shown], [f"{fpr:g}" for fpr in shown]))
        parts.append(f"open_test {rates} at FPR {fprs}")
    if "lfw_scores" in record:
        parts.append(f"LFW View 2 {percent(record['lfw_scores']['accuracy'])}")
    if "families_scores" in record:
        parts.append(f"families {rate(record['families_scores'].get('0.01'))} at FPR 0.01")
    return f"These are figures of the cosine. As the product scores: {'; '.join(parts)}." if parts else ""


def decisions(name: str) -> str:
    """Target FMR and the FMR found on other identities."""
    rows = [["target FMR", "score", "found FMR, open_test", "95 % interval", "found FMR, LFW"]]
    rows[0].append("genuine pairs accepted, open_test / LFW")
    for target, row in read_record(f"{name}.json")["calibration"].items():
        test, lfw = row.get("open_test", {}), row.get("lfw", {})
        interval = " to ".join(rate(bound) for bound in test.get("interval_95", []))
        cells = [f"{float(target):g}", f"{score_of(row):.3f}", rate(test.get("false_match_rate")), interval or "-"]
        cells.append(rate(lfw.get("false_match_rate")))
        rows.append([*cells, " / ".join(percent(found.get("true_match_rate"), 1) for found in (test, lfw))])
    return table(rows)


def score_of(measured: dict[str, Any]) -> float:
    """The score of a record, which has a cosine distance where it was measured before scores were normalised."""
    if "score" in measured:
        return measured["score"]
    return 1 - measured.get("distance", measured.get("cosine_distance"))


def identification(name: str) -> str:
    """Open-set identification, clustering, and quality measures as predictors of missed matches."""
    record = read_record(f"{name}.json")
    rows = [["enrolled photos", "rank-1", "identified at FPIR 10 %", "1 %", "0.1 %"]]
    rows[0] += ["1 %, nearest photo instead of mean", "found FPIR, target 1 %"]
    for photos, row in record.get("identification", {}).get("open_test", {}).items():
        keys = ("rank_1", "dir_0.1", "dir_0.01", "dir_0.001", "nearest_photo_dir_0.01")
        rows.append([photos, *(rate(row[key]) for key in keys), percent(row["fpir_0.01"], 1)])
    clusters = [["clustering by person", "FMR of two faces", "people", "groups", "BCubed precision", "recall", "F"]]
    for key, title in {"open_test": "open_test", "lfw": "LFW", "orl": "ORL (one studio)"}.items():
        if key not in record["clustering"]:
            continue
        for fmr, row in record["clustering"][key].items():
            figures = [rate(row[part]) for part in ("precision", "recall", "f")]
            cells = [title, f"{float(fmr):.2g}", f"{row['people']:,}", f"{row['groups']:,}", *figures]
            clusters.append([f"**{cell}**" if row["default"] else cell for cell in cells])
    parts = [table(each) for each in (rows, clusters) if len(each) > 1]
    if "open_test" in record.get("rejection", {}):
        parts.append(_condition(record.get("condition", {})) + _rejection(record["rejection"]["open_test"]))
    return "\n\n".join(parts)


def _rejection(curves: dict[str, dict[str, float]]) -> str:
    rows = [["faces kept, best first", *(percent(float(share), 0) for share in next(iter(curves.values())))]]
    rows += [[measure, *(percent(missed, 1) for missed in curve.values())] for measure, curve in curves.items()]
    return (
        "Genuine pairs of open_test missed at FMR 0.001, when faces of low quality are rejected, by quality measure:"
        f"\n\n{table(rows)}"
    )


def _condition(measured: dict[str, dict[str, float]]) -> str:
    """How many impostor pairs of one studio pass, before and after its condition is taken from the scores."""
    if "orl" not in measured:
        return ""
    orl = measured["orl"]
    before_and_after = [
        f"{percent(orl[f'fmr_{target}_without'], 2)} before and {percent(orl[f'fmr_{target}'], 2)}"
        for target in ("0.01", "0.001")
    ]
    return (
        "Of ORL's impostor pairs, all photographed in one studio, "
        f"{before_and_after[0]} after what they share is taken off pass at target FMR 0.01, {before_and_after[1]} at "
        f"0.001. On open_test {measured['open_test']['condition']:.2g} is taken off.\n\n"
    )
