"""Our networks as ONNX files for other programs: `python -m facelib.cli.export FOLDER`."""

import argparse
import json
import sys
from pathlib import Path

from facelib.io.files import atomic_write
from facelib.settings import one_line_errors


def export(folder: Path) -> list[Path]:
    """Write the shipped hourglass and the networks of the shipped embedder, and beside each a JSON file that says what
    it expects and gives.

    Raises:
        OSError: it cannot be written.
    """
    from facelib.alignment.landmarker import LANDMARKS, SHIPPED, load_landmarker
    from facelib.embedding.embedder import load_embedder
    from facelib.runtime.manifest import embedder_networks, read_manifest
    from facelib.runtime.onnx import export_onnx
    from facelib.settings import MODELS

    landmarker, embedder, manifest = load_landmarker(device="cpu"), load_embedder(device="cpu"), read_manifest()
    networks = [(MODELS / SHIPPED, landmarker.model, landmarker.input_size)]
    networks += [(path, one.model, one.input_size) for path, one in zip(embedder_networks(), embedder.networks)]
    written = []
    for weights, model, size in networks:
        path = folder / f"{weights.stem}.onnx"
        export_onnx(model, size, path)
        entry = manifest[weights.name]
        about = {"weights": entry["sha256"], "preprocessing": entry["preprocessing"], "input": ["n", 3, size, size]}
        about["output"] = (
            f"heatmaps (stacks, n, {len(LANDMARKS)}, {size // 4}, {size // 4}) of {', '.join(LANDMARKS)}"
            if model is landmarker.model
            else "vectors (n, d); make their length 1"
        )
        with atomic_write(path.with_suffix(".json")) as new:
            new.write_text(json.dumps(about, indent=1) + "\n")
        written.append(path)
    return written


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.cli.export", description=__doc__)
    parser.add_argument("folder", type=Path, help="made if missing")
    for path in export(parser.parse_args().folder):
        print(f"{path}: written")


if __name__ == "__main__":
    sys.exit(main())
