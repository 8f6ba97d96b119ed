"""Albums with their local page, on made-up faces."""

import contextlib
import threading
from contextlib import closing

from albums import CALIBRATION, SCORE, Library, results_of

from facelib.cli.album_session import AlbumSession
from facelib.server.run import Server, local_port
from facelib.server.store import STORE_FILE, AlbumStore


@contextlib.contextmanager
def session_of(library, gallery=None, calibration=CALIBRATION):
    """A session of a library whose album is made."""
    with closing(AlbumStore(library.out / STORE_FILE)) as store:
        yield AlbumSession(results_of(library.photos, library.out), SCORE, store, calibration, gallery)


@contextlib.contextmanager
def served(album):
    """The album at a port of this machine, in a thread; its address."""
    with local_port(0) as opened:
        server = Server(album, opened)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server.address
        finally:
            server.stop()
            thread.join(10)
            assert not thread.is_alive()


def library_of(folder, *people):
    """A library with an album, one photo for each of the people, by number: 0.jpg, 1.jpg and so on."""
    library = Library(folder)
    for number, person in enumerate(people):
        library.add(f"{number}.jpg", person)
    library.album()
    return library


def do(album, kind, **about):
    """Ask for a change as the newest page would."""
    album.change({"version": album.version, "kind": kind, **about})


def people_of(album):
    """Person of each face, in the order of the photos."""
    return [state.person for state in album.states]
