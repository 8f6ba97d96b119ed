"""Faces of an archive of photos into a table: `python -m facelib.archive SOURCE --out TABLE`."""

import argparse
import logging
import os
import sys
import tempfile
import time

from facelib.io.inputs import ADDRESS
from facelib.settings import DETECTORS, one_line_errors


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m facelib.archive", description=__doc__)
    parser.add_argument("source", help="a folder, a .txt list, .parquet, .tar shards, or an object store's folder")
    parser.add_argument("--out", required=True, metavar="TABLE", help="folder or address of the table; goes on in it")
    parser.add_argument("--workers", type=int, help="processes with a pipeline each; default: one for two cores")
    parser.add_argument("--batch-size", type=int, default=16, help="photos that a worker looks at together")
    parser.add_argument("--write-every", type=float, default=60.0, metavar="SECONDS", help="what a kill may cost")
    parser.add_argument("--detector", choices=DETECTORS, default="auto")
    parser.add_argument("--embedder", help="what load_embedder takes; default: the shipped one")
    parser.add_argument("--device", help="cpu or cuda; of each worker")
    parser.add_argument("--address", help="of a Ray cluster; default: this machine")
    parser.add_argument("--marks", help="a folder that all machines of a cluster see, for notes of what is worked on")
    parser.add_argument("--retry", action="store_true", help="try photos again that had an error")
    options = parser.parse_args()
    if options.address and not options.in_progress_dir:
        parser.error("--address: name a folder with --marks that all machines of the cluster see")
    if options.in_progress_dir and ADDRESS.match(options.in_progress_dir):
        parser.error(f"--marks {options.marks}: expected a folder, not an address")
    if options.batch_size < 1 or (options.workers is not None and options.workers < 1):
        parser.error("--batch-size and --workers: at least 1")
    return options


@one_line_errors
def main() -> int:
    options = parse_arguments()
    # This process is ours; Ray's inner warnings are no news, and nothing is reported to anybody.
    os.environ |= {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray

    from facelib.archive.run import Job, run

    own = {key: value for key, value in os.environ.items() if key.startswith("FACELIB_")}  # folders, on every machine
    about = dict(log_to_driver=False, logging_level="warning", runtime_env={"env_vars": own})
    ray.init(options.address or "local", **about, **({} if options.address else {"include_dashboard": False}))
    logging.getLogger("ray.data").setLevel("WARNING")
    settings = {"detector": options.detector, "embedder": options.embedder, "device": options.device}
    started, photos, faces, errors, again = time.time(), 0, 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="facelib-archive-") as own:
        job = Job(
            options.source, options.out, settings, options.in_progress_dir or own, options.workers, options.batch_size,
            options.write_every, options.retry,
        )  # fmt: skip
        try:
            for written in run(job):
                photos, faces = photos + written.photos, faces + written.faces
                errors, again = errors + written.errors, again + written.again
                print(
                    f"{photos:,} photos, {faces:,} faces, {photos / (time.time() - started):.1f} photos/s", flush=True
                )
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise RuntimeError((str(cause).strip() or type(cause).__name__).splitlines()[-1]) from None
    print(f"{photos:,} photos ({errors:,} with an error) and {faces:,} faces added to {options.out}")
    if again:
        print(f"{again:,} photos came under a name that was there already, and were not added")
    return 0


if __name__ == "__main__":
    sys.exit(main())
