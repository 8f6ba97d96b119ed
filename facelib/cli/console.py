"""What commands print: answers on standard output, errors and notices on standard error, as text or as JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TextIO

import click

from facelib.io.files import printable

if TYPE_CHECKING:
    from tqdm import tqdm


class ExitCode(IntEnum):
    """The exit codes of all commands; the help of a command says what they mean there."""

    YES = 0
    NO = 1
    ERROR = 2
    UNSURE = 3
    INTERRUPTED = 130  # as shells report a command that Ctrl-C ended


@dataclass(frozen=True)
class Console:
    """How a command prints.

    json: answers, errors and notices are JSON; nothing else is printed, and there is no progress bar.
    quiet: no notices and no progress bar.
    """

    json: bool = False
    quiet: bool = False

    def answer(self, value: Any, *lines: str) -> None:
        """Print the answer of a command: `value` as JSON, or lines of text."""
        for line in [json.dumps(value)] if self.json else lines:
            _write(line if self.json else printable(line), sys.stdout)

    def notice(self, text: str) -> None:
        """Print what is good to know and no error."""
        if not self.quiet:
            self._write_beside_bars(json.dumps({"notice": text}) if self.json else printable(text))

    def status(self, text: str) -> None:
        """Print how far a run is. As text it belongs to the report on standard output."""
        if self.json:
            self.notice(text)
        elif not self.quiet:
            _write(printable(text), sys.stdout)

    def error(self, text: str) -> None:
        """Print an error."""
        self.failure(text, f"error: {text}")

    def failure(self, text: str, line: str) -> None:
        """Print an error, which as text is worded as `line`."""
        self._write_beside_bars(json.dumps({"error": text}) if self.json else printable(line))

    def progress(self, items: Sequence[Any], unit: str) -> tqdm:
        """A progress bar over items on standard error, unless there is a single one."""
        from tqdm import tqdm

        hidden = self.json or self.quiet or len(items) == 1 or sys.stderr is None
        return tqdm(items, unit=unit, disable=hidden)

    def _write_beside_bars(self, line: str) -> None:
        bars = sys.modules.get("tqdm")  # without the module there is no progress bar to interrupt
        beside = bars.tqdm.external_write_mode(file=sys.stderr) if bars else contextlib.nullcontext()
        with beside:
            _write(line, sys.stderr)


def _write(line: str, stream: TextIO | None) -> None:
    # None where a service or a closed terminal left no stream.
    if stream is not None:
        click.echo(line, file=stream)


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 face", "1,200 faces"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
