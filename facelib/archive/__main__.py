"""Process an archive of photos into a table of faces: `python -m facelib.archive SOURCE --out ARCHIVE`.

Running the same command again resumes it, and adds new photos.
"""

import argparse
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facelib.io.files import private_files
from facelib.io.inputs import ADDRESS
from facelib.settings import DETECTORS, one_line_errors

if TYPE_CHECKING:
    from facelib.archive.run import Job

ERRORS_SHOWN = 100


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


def start_ray(address: str | None, folder: str) -> None:
    """Join the Ray cluster at `address`, or start Ray on this machine, where nobody else can connect to it.

    Args:
        folder: for the logs and sockets of Ray on this machine; Ray must be shut down before it is removed.
    """
    # This process belongs to the command, so Ray's warnings about itself are hidden, and its usage report is off.
    os.environ |= {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_DATA_LOG_LEVEL": "WARNING", "RAY_USAGE_STATS_ENABLED": "0"}
    variables = {key: value for key, value in os.environ.items() if key.startswith("FACELIB_")}
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    before = os.environ.get("HOME")
    if not address:
        os.environ |= local_environment(folder)  # before Ray is imported, which reads it
        variables |= {"HOME": before} if before else {}
        settings |= {"include_dashboard": False, "_temp_dir": folder}
    import ray

    try:
        # Workers have the same folders on all machines.
        ray.init(address or "local", runtime_env={"env_vars": variables}, **settings)
    finally:
        if before:
            os.environ["HOME"] = before  # the workers have it as well


def local_environment(folder: str) -> dict[str, str]:
    """Environment in which Ray on this machine is closed to others, sends nothing and leaves nothing behind.

    Also with its usage report off, Ray asks the metadata service of clouds where it runs, unless a file in the home
    folder says so. So for its services the home folder is `folder`, with such a file.
    """
    Path(folder, "ray_bootstrap_config.yaml").write_text("provider: {type: local}\n")
    return {
        "HOME": folder,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # every service listens on 127.0.0.1 only, on Linux too
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else Ray writes one to ~/.ray
    }


@one_line_errors
@private_files()  # embeddings are biometric data
def main() -> int:
    options = parse_arguments()
    from facelib.archive.stores import check_address  # takes half a second, which `--help` should not wait for

    check_address(options.source)  # an object store that cannot be reached is reported before Ray starts
    with tempfile.TemporaryDirectory(prefix="facelib-", ignore_cleanup_errors=True) as folder:
        start_ray(options.address, folder)
        import ray

        from facelib.archive.run import Job

        job = Job(
            source=options.source,
            out=options.out,
            settings={"detector": options.detector, "embedder": options.embedder, "device": options.device},
            in_progress_dir=options.in_progress_dir or folder,
            workers=options.workers,
            batch_size=options.batch_size,
            write_every=options.write_every,
            retry=options.retry,
        )
        try:
            process(job)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise RuntimeError((str(cause).strip() or type(cause).__name__).splitlines()[-1]) from None
        finally:
            ray.shutdown()
    return 0


def process(job: "Job") -> None:
    """Run a job, and print what was added and what could not be read."""
    from facelib.archive.run import run

    started = time.time()
    photos = faces = duplicates = 0
    errors: list[str] = []
    for written in run(job):
        photos += written.photos
        faces += written.faces
        errors += written.errors
        duplicates += written.duplicates
        rate = photos / (time.time() - started)
        print(f"{photos:,} photos, {faces:,} faces, {rate:.1f} photos/s", flush=True)
    for error in errors[:ERRORS_SHOWN]:
        print(f"error: {error}", file=sys.stderr)
    if len(errors) > ERRORS_SHOWN:
        print(f"and {len(errors) - ERRORS_SHOWN:,} more, in the column `error` of the table `photos`", file=sys.stderr)
    print(f"{photos:,} photos ({len(errors):,} with an error) and {faces:,} faces added to {job.out}")
    if duplicates:
        print(f"{duplicates:,} photos have the name of another one in the archive, and were not added")


if __name__ == "__main__":
    sys.exit(main())
