"""`facelib export`: the shipped networks as ONNX files for other programs."""

import json
import shutil
from pathlib import Path
from typing import Any

import click

from facelib.cli.console import Console, ExitCode
from facelib.cli.options import PATH, command


@command("export", {0: "done"})
@click.argument("folder", type=PATH, metavar="FOLDER")
def export(folder: Path, console: Console) -> int:
    """Write the networks as ONNX files to FOLDER.

    FOLDER, which is made if missing, gets the hourglass and the networks of the default embedder, and beside each a
    JSON file that says what it expects and returns.
    """
    written = export_networks(folder)
    console.answer([str(path) for path in written], *(f"{path}: written" for path in written))
    return ExitCode.YES


def export_networks(folder: Path) -> list[Path]:
    """Write the shipped hourglass and the networks of the default embedder, each with a JSON file that describes it.

    Returns:
        The ONNX files.

    Raises:
        FileNotFoundError: a network has no ONNX file. WeightsError: it is damaged. FileExistsError: the folder has
        another file of that name. OSError: it cannot be written.
    """
    from facelib.alignment.landmarker import SHIPPED
    from facelib.io.files import atomic_write, file_hash, prepare_folder
    from facelib.runtime.manifest import embedder_networks, find_onnx
    from facelib.settings import MODELS

    sources: dict[Path, Path] = {}
    for weights in (MODELS / SHIPPED, *embedder_networks()):
        source = find_onnx(weights)
        if source is None:
            raise FileNotFoundError(
                f"{weights} has no ONNX file: python -m facelib.training.export {weights} writes it"
            )
        sources[weights] = source
    prepare_folder(folder)
    for weights, source in sources.items():
        path = folder / f"{weights.stem}.onnx"
        if path.exists() and file_hash(path) != file_hash(source):
            raise FileExistsError(f"{path} is another file and would be replaced: give another folder")
    written = []
    for weights, source in sources.items():
        path = folder / f"{weights.stem}.onnx"
        with atomic_write(path) as new:
            shutil.copyfile(source, new)
        with atomic_write(path.with_suffix(".json")) as new:
            new.write_text(json.dumps(_description(weights), indent=1) + "\n")
        written.append(path)
    return written


def _description(weights: Path) -> dict[str, Any]:
    """What a network expects and returns."""
    from facelib.alignment.landmarker import LANDMARKS, SHIPPED
    from facelib.runtime.manifest import manifest_value, weights_entry

    entry = weights_entry(weights)
    size = manifest_value(weights, entry, "preprocessing", "input_size", among=int)
    heatmaps = f"heatmaps (stacks, n, {len(LANDMARKS)}, {size // 4}, {size // 4}) of {', '.join(LANDMARKS)}"
    return {
        "weights": entry["sha256"],
        "preprocessing": entry["preprocessing"],
        "input": ["n", 3, size, size],
        "output": heatmaps if weights.name == SHIPPED else "embeddings (n, d); normalise them to unit length",
    }
