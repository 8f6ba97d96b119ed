"""Single faces of a gallery: moved from one person to another, or removed."""

import numpy as np

from facelib.recognition.gallery import Gallery
from facelib.recognition.gallery_store import DUPLICATE_DISTANCE, add_embeddings


def move_faces(gallery: Gallery, name: str, embeddings: np.ndarray, to: str | None) -> int:
    """Give those photos of a person whose embeddings are named to another one, who may be new.

    Someone who is left without a photo is no longer in the gallery.

    Args:
        embeddings: (n, d) of unit length.
        to: name of the other person, as `normalise_name` returns it; None: the photos are removed.

    Returns:
        The number of photos.

    Raises:
        OSError: see `Gallery.remove`.
    """
    store = gallery._store
    with store.transaction() as connection:
        select = "SELECT vectors.id, vector, quality FROM vectors JOIN people ON person = people.id WHERE name = ?"
        rows = [row for row in connection.execute(select, (name,)) if _is_among(row[1], embeddings)]
        connection.executemany("DELETE FROM vectors WHERE id = ?", [(number,) for number, *_ in rows])
        if to and rows:
            connection.execute("INSERT OR IGNORE INTO people (name) VALUES (?)", (to,))
            (person,) = connection.execute("SELECT id FROM people WHERE name = ?", (to,)).fetchone()
            vectors = np.stack([np.frombuffer(vector, np.float32) for _, vector, _ in rows])
            add_embeddings(connection, person, vectors, [quality for *_, quality in rows])
        connection.execute("DELETE FROM people WHERE id NOT IN (SELECT person FROM vectors)")
    if rows and not to:
        store.erase_deleted()
    return len(rows)


def _is_among(vector: bytes, embeddings: np.ndarray) -> bool:
    return bool((1 - embeddings @ np.frombuffer(vector, np.float32) <= DUPLICATE_DISTANCE).any())
