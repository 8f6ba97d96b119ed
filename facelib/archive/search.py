"""Who of an archive is nearest to the faces of a photo: `python -m facelib.archive.search TABLE PHOTO`."""

import argparse
import sys

from facelib.settings import one_line_errors


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser("python -m facelib.archive.search", description=__doc__)
    parser.add_argument("table")
    parser.add_argument("photo")
    parser.add_argument("--nearest", type=int, default=5, metavar="K")
    parser.add_argument("--embedder", help="that the archive was made with; default: the shipped one")
    parser.add_argument("--index", action="store_true", help="build the index anew first")
    options = parser.parse_args()
    from facelib.archive.table import Archive
    from facelib.pipeline import FacePipeline

    pipeline = FacePipeline.from_pretrained(embedder=options.embedder)
    archive = Archive(options.table, pipeline.model_id)
    if options.index:
        with archive.writing():
            archive.index()
    count = archive.faces.count_rows()
    for number, face in enumerate(pipeline(options.photo)):
        print(f"face {number}" + (f" ({face.quality_issue}: do not rely on it)" if face.quality_issue else ""))
        for row in archive.nearest(face.embedding, options.nearest):
            impostors = count * pipeline.calibration.extrapolated_fmr(row["distance"])
            who = f", {row['person']}" if row["person"] else ""
            doubt = f" ({row['quality_issue']})" if row["quality_issue"] else ""
            print(
                f"  {row['distance']:.3f}  {row['photo']} face {row['face']}{who}{doubt}; of {count:,} faces of "
                f"strangers {impostors:.2g} would be as near"
            )


if __name__ == "__main__":
    sys.exit(main())
