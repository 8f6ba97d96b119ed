"""`facelib album --serve`: the album's page on this machine, until somebody stops it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from facelib.cli.album_session import AlbumSession
from facelib.cli.console import Console
from facelib.cli.results import Results
from facelib.io.lock import lock_folder
from facelib.recognition.calibration import Calibration
from facelib.recognition.clustering import MergeScores
from facelib.recognition.gallery import Gallery
from facelib.server.run import Server
from facelib.server.store import STORE_FILE, AlbumStore

INTERVAL = 1.0  # seconds after which table and gallery follow


def serve_album(
    results: Results,
    scores: MergeScores,
    calibration: Calibration | None,
    gallery: Gallery | None,
    opened: socket.socket,
    console: Console,
) -> bool:
    """Serve the page of an album until the process is interrupted.

    Args:
        results: of which table and state are written.
        scores, calibration, gallery: see `AlbumSession`.
        opened: socket that listens.

    Returns:
        Whether people have changed.

    Raises:
        ValueError: table or log are damaged. OSError: they cannot be read, or another run works in the folder.
    """
    with lock_folder(results.folder), closing(AlbumStore(results.folder / STORE_FILE)) as store:
        before = store.version
        session = AlbumSession(results, scores, store, calibration, gallery)
        server = Server(session.album, opened)
        console.answer(
            {"address": server.address},
            f"open {server.address}",
            "only this machine reaches it; Ctrl-C ends it, and what is done is kept at once",
        )
        with _following(session):
            server.run()
        if session.album.problem:
            console.error(session.album.problem)
        for message in session.album.messages:
            console.notice(message)
        return store.version != before


@contextmanager
def _following(session: AlbumSession) -> Iterator[None]:
    """Context manager: table and gallery follow the page in a thread, and once more at the end."""
    stopped = threading.Event()

    def follow() -> None:
        while not stopped.wait(INTERVAL):
            session.follow()

    thread = threading.Thread(target=follow, name="album table")
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        session.follow(at_once=True)
