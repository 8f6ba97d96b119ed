"""Parts of the report: Markdown of the tables as HTML, and pictures of curves inside the page."""

import base64
import html
import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np


def to_html(markdown: str) -> str:
    """HTML of what the tables of the pages consist of: tables, paragraphs, bold text and code; links become text."""
    return "\n".join(_block(block) for block in markdown.strip().split("\n\n"))


def _block(block: str) -> str:
    if not block.startswith("|"):
        return f"<p>{_inline(block)}</p>"
    rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in block.splitlines()]
    head, *body = [_row(row, "td" if number else "th") for number, row in enumerate(rows) if number != 1]
    return f"<div><table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table></div>"


def _row(cells: list[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{_inline(cell)}</{tag}>" for cell in cells) + "</tr>"


def _inline(text: str) -> str:
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", html.escape(text))
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)


def curves(records: Mapping[str, dict[str, Any]]) -> str:
    """ROC and DET curves of embedders on open_test, by cosine and, where it was measured, by score.

    Args:
        records: name -> record with "open_test", and "open_test_scores" or not; drawn at the FPRs that it has.
    """
    kinds = {"cosine": {name: record["open_test"]["identification_rate"] for name, record in records.items()}}
    kinds["score"] = {name: of["open_test_scores"] for name, of in records.items() if "open_test_scores" in of}
    colours = {name: f"C{number % 10}" for number, name in enumerate(records)}
    return "".join(_roc_and_det(rates, kind, colours) for kind, rates in kinds.items() if rates)


def _roc_and_det(rates: Mapping[str, list[dict[str, Any]]], kind: str, colours: Mapping[str, str]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    roc, det = figure.subplots(1, 2)
    for name, rows in rates.items():
        fpr, tpr = (np.array([row[key] for row in rows]) for key in ("fpr", "tpr"))
        low, high = np.array([row["interval_95"] for row in rows]).T
        errors = np.maximum([tpr - low, high - tpr], 0)
        roc.errorbar(fpr, tpr, yerr=errors, marker=".", capsize=2, label=name, color=colours[name])
        det.plot(fpr, np.maximum(1 - tpr, 1e-4), marker=".", label=name, color=colours[name])
    roc.set(xscale="log", ylim=(0, 1.02), ylabel="true positive rate", title=f"ROC by {kind}, 95 % intervals")
    det.set(xscale="log", yscale="log", ylabel="false negative rate", title=f"DET by {kind}")
    for axes in (roc, det):
        axes.set_xlabel("false positive rate")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return _picture(figure, f"ROC and DET curves by {kind} of {', '.join(rates)}")


def group_picture(rows: list[dict[str, Any]]) -> str:
    """False match rates by group at target 0.001, of all embedders; "" without rows of fairness.csv."""
    if not rows:
        return ""
    from matplotlib.figure import Figure

    from facelib.plots import rates_by_group

    keys = ("fmr_0.001", "fmr_0.001_low", "fmr_0.001_high")
    rates: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row in rows:
        first, low, high = (row[key] for key in keys)
        rates.setdefault(row["embedder"], {})[f"{row['collection']}, {row['group']}"] = (first, low, high)
    figure = Figure(figsize=(9, 1.5 + 0.32 * len(next(iter(rates.values())))), layout="constrained")
    rates_by_group(figure.subplots(), rates, 0.001, lowest=1e-5)
    return _picture(figure, "False match rates by group of people at target 0.001")


def _picture(figure: Any, words: str) -> str:
    """The picture inside the page, as PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    data = base64.b64encode(out.getvalue()).decode()
    return f'<p><img alt="{html.escape(words)}" src="data:image/png;base64,{data}"></p>'
