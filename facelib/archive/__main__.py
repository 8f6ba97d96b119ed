"""Process an archive of photos into a table of faces: `python -m facelib.archive SOURCE --out ARCHIVE`.

Running the same command again resumes it, and adds new photos.
"""

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
    parser.add_argument("source", help="a folder, a .txt list, .parquet, .tar shards, or a folder of an object store")
    parser.add_argument(
        "--out", required=True, metavar="ARCHIVE", help="folder or address; resumes an existing archive"
    )
    parser.add_argument("--workers", type=int, help="processes with a pipeline each; default: one for two cores")
    parser.add_argument("--batch-size", type=int, default=16, help="photos that a worker processes together")
    parser.add_argument("--write-every", type=float, default=60.0, metavar="SECONDS", help="time between two writes")
    parser.add_argument("--detector", choices=DETECTORS, default="auto")
    parser.add_argument("--embedder", help="name or path for load_embedder; default: the default embedder")
    parser.add_argument("--device", help="of each worker: cpu or cuda")
    parser.add_argument("--address", help="address of a Ray cluster; default: this machine alone")
    parser.add_argument(
        "--in-progress-dir", metavar="FOLDER", help="a folder that all machines see, where workers mark their batches"
    )
    parser.add_argument("--marks", dest="in_progress_dir", help=argparse.SUPPRESS)  # the option's name in version 0.2
    parser.add_argument("--retry", action="store_true", help="process photos again that had an error")
    options = parser.parse_args()
    if options.address and not options.in_progress_dir:
        parser.error("--address: name a folder with --in-progress-dir that all machines of the cluster see")
    if options.in_progress_dir and ADDRESS.match(options.in_progress_dir):
        parser.error(f"--in-progress-dir {options.in_progress_dir}: expected a folder, not an address")
    if options.batch_size < 1 or (options.workers is not None and options.workers < 1):
        parser.error("--batch-size and --workers: at least 1")
    return options


def start_ray(address: str | None) -> None:
    """Join the Ray cluster at `address`, or start Ray on this machine."""
    # This process belongs to the command, so Ray's warnings about itself are hidden, and its usage report is off.
    os.environ |= {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray

    folders = {key: value for key, value in os.environ.items() if key.startswith("FACELIB_")}
    local = {} if address else {"include_dashboard": False}
    ray.init(
        address or "local",
        log_to_driver=False,
        logging_level="warning",
        runtime_env={"env_vars": folders},  # the same folders on all machines
        **local,
    )
    logging.getLogger("ray.data").setLevel("WARNING")


@one_line_errors
def main() -> int:
    options = parse_arguments()
    start_ray(options.address)
    import ray

    from facelib.archive.run import Job, run

    with tempfile.TemporaryDirectory(prefix="facelib-archive-") as temporary:
        job = Job(
            source=options.source,
            out=options.out,
            settings={"detector": options.detector, "embedder": options.embedder, "device": options.device},
            in_progress_dir=options.in_progress_dir or temporary,
            workers=options.workers,
            batch_size=options.batch_size,
            write_every=options.write_every,
            retry=options.retry,
        )
        started = time.time()
        photos = faces = errors = duplicates = 0
        try:
            for written in run(job):
                photos += written.photos
                faces += written.faces
                errors += written.errors
                duplicates += written.duplicates
                rate = photos / (time.time() - started)
                print(f"{photos:,} photos, {faces:,} faces, {rate:.1f} photos/s", flush=True)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise RuntimeError((str(cause).strip() or type(cause).__name__).splitlines()[-1]) from None
    print(f"{photos:,} photos ({errors:,} with an error) and {faces:,} faces added to {options.out}")
    if duplicates:
        print(f"{duplicates:,} photos have the name of another one in the archive, and were not added")
    return 0


if __name__ == "__main__":
    sys.exit(main())
