"""Find the faces of an archive that are most like the faces of a photo: `python -m facelib.archive.search`."""

import argparse
import sys

from facelib.io.files import private_files
from facelib.settings import DETECTORS, one_line_errors


@one_line_errors
@private_files()  # embeddings are biometric data
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.archive.search", description=__doc__)
    parser.add_argument("archive", help="folder or address of the archive")
    parser.add_argument("photo", help="path of the photo")
    parser.add_argument("--nearest", type=int, default=5, metavar="K", help="faces shown for each face of the photo")
    parser.add_argument("--detector", choices=DETECTORS, default="auto")
    parser.add_argument("--embedder", help="embedder that the archive was made with; default: the default embedder")
    parser.add_argument("--index", action="store_true", help="build the index again first")
    options = parser.parse_args()
    from facelib.archive.table import Archive  # takes seconds, which `--help` should not wait for
    from facelib.pipeline import FacePipeline

    pipeline = FacePipeline.from_pretrained(options.detector, embedder=options.embedder)
    archive = Archive(options.archive, pipeline.model_id)
    if options.index:
        with archive.write_lock():
            archive.build_index()
    if archive.cohort is None:
        print("this embedder has no cohort (facelib calibrate makes one): the score is the cosine", file=sys.stderr)
    count = archive.faces.count_rows()
    for number, face in enumerate(pipeline(options.photo)):
        print(f"face {number}" + (f" ({face.quality_issue}: do not rely on it)" if face.quality_issue else ""))
        for row in archive.nearest(face.embedding, options.nearest):
            fmr = pipeline.calibration.extrapolated_fmr(row["score"])
            person = f", {row['person']}" if row["person"] else ""
            issue = f" ({row['quality_issue']})" if row["quality_issue"] else ""
            print(
                f"  score {row['score']:.3f}, distance {row['distance']:.3f}  {row['photo']} face {row['face']}{person}"
                f"{issue}; FMR {fmr:.2g}, expected false matches among {count:,} faces: {count * fmr:.2g}"
            )


if __name__ == "__main__":
    sys.exit(main())
