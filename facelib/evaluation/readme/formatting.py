"""Markdown tables and the formats of figures in them."""

from collections.abc import Sequence
from typing import Any


def table(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is the head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def percent(value: float | None, digits: int | None = None) -> str:
    """A share in per cent: with four significant digits, as records have them, or `digits` after the point."""
    if value is None:
        return "-"
    return f"{100 * value:#.4g} %" if digits is None else f"{100 * value:.{digits}f} %"


def rate(value: float | None) -> str:
    """A share with four significant digits, as records have them."""
    return "-" if value is None else f"{value:#.4g}"


def size(megabytes: float) -> str:
    """A size with three significant digits, in MB, GB or TB."""
    for unit in ("MB", "GB"):
        if megabytes < 1000:
            return f"{megabytes:,.3g} {unit}"
        megabytes /= 1000
    return f"{megabytes:,.3g} TB"


def duration(hours: float) -> str:
    """A time with two significant digits, in seconds, minutes, hours or days."""
    if hours < 1 / 60:
        return f"{3600 * hours:.2g} s"
    if hours < 1:
        return f"{60 * hours:.2g} minutes"
    return f"{hours:,.2g} hours" if hours < 48 else f"{hours / 24:,.0f} days"


def marked_runs(runs: Sequence[dict[str, Any]]) -> tuple[list[str], str]:
    """What the runs of a comparison are, with a mark at those that cannot be made again as they were; and the footnote
    that explains the marks, "" without one."""
    marks = dict(zip(dict.fromkeys(run["note"] for run in runs if "note" in run), "†‡§"))
    names = [f"{run['what']} {marks[run['note']]}" if "note" in run else str(run["what"]) for run in runs]
    notes = "; ".join(f"{mark} {note}" for note, mark in marks.items())
    return names, f"\n\nMade by code, or with a network, that is gone: {notes}." if notes else ""
