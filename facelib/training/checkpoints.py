"""The file that a training is resumed from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from facelib.io.files import atomic_write


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint of a run.

    file: where it lies; None for a run without checkpoints.
    run: text that identifies the run; a checkpoint of another run is refused.
    parts: name -> object with a state_dict.
    """

    file: Path | None
    run: str
    parts: dict[str, Any]

    def resume(self) -> list[dict[str, float]]:
        """Load the parts from the file, where there is one; returns its history, [] for a new run.

        Raises:
            ValueError: the file is of another run, or damaged.
        """
        if not self.file or not self.file.exists():
            return []
        saved = read_checkpoint(self.file)
        if saved["run"] != self.run:
            raise ValueError(
                f"{self.file} is of another run: photos or settings changed. Move it away to start again "
                f"(it was: {saved['run']}; it is now: {self.run})"
            )
        for name, part in self.parts.items():
            part.load_state_dict(saved[name])
        return saved["history"]

    def save(self, history: list[dict[str, float]]) -> None:
        """Write the file atomically."""
        if not self.file:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        states = {name: part.state_dict() for name, part in self.parts.items()}
        with atomic_write(self.file) as path:
            torch.save({"run": self.run, "history": history, **states}, path)


def completed_epochs(checkpoint: str | Path) -> int:
    """Epochs that the run of a checkpoint has completed; 0 where there is no such file."""
    return len(read_checkpoint(checkpoint)["history"]) if Path(checkpoint).exists() else 0


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What `Checkpoint.save` wrote.

    Raises:
        ValueError: another kind of file, or damaged.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if {"run", "history", "model"} <= set(saved):
            return saved
    except Exception as error:  # a broken file fails in many ways
        reason = str(error)[:80]
        raise ValueError(f"{path} is no checkpoint, or damaged ({reason}): remove it to start again") from None
    raise ValueError(f"{path} is no checkpoint but another file: remove it to start again")
