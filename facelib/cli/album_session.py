"""Table and gallery of an album follow what people do on its page, and the page follows edits of the table."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from facelib.cli.album import AlbumFace, assign_people, measure_distances, table_rows
from facelib.cli.album_builder import album_faces, new_state, with_condition, write_names
from facelib.cli.album_gallery import correct_gallery, enrol_named, left_in_gallery
from facelib.cli.album_matching import match_rows
from facelib.cli.album_state import read_state, unique_keys, with_lost_characters
from facelib.cli.album_table import PEOPLE_FILE, PeopleTable, TableRow, read_people, table_bytes
from facelib.cli.results import Results
from facelib.io.files import as_text
from facelib.recognition.calibration import Calibration
from facelib.recognition.clustering import MergeScores
from facelib.recognition.gallery import Gallery
from facelib.recognition.gallery_store import DUPLICATE_DISTANCE
from facelib.recognition.names import is_named
from facelib.server.album import ServedAlbum
from facelib.server.faces import Scores, ServedFace
from facelib.server.store import STORE_FILE, AlbumStore, FaceState


class AlbumSession:
    """An album while its page is open.

    album: what the page shows.

    Args:
        results: of a run, with a table that is written.
        scores: from which two groups of faces are one person's.
        store: open log of the album.
        calibration: error rates; None: not known.
        gallery: gets the people who have a name; None: no gallery.

    Raises:
        ValueError: the table or the log is damaged. OSError: they cannot be read.
    """

    def __init__(
        self,
        results: Results,
        scores: MergeScores,
        store: AlbumStore,
        calibration: Calibration | None,
        gallery: Gallery | None = None,
    ):
        self._results, self._scores, self._store, self._gallery = results, scores, store, gallery
        self._folder = results.folder
        self._faces = album_faces(results)
        state = read_state(self._folder, results.pipeline_id)
        self._state = with_condition(state, self._faces, scores, results.cohort)
        self._condition = self._state.condition or 0.0
        self._keys = unique_keys([(face.sha256, face.box, as_text(face.photo)) for face in self._faces])
        self._table, self._others = PeopleTable(), list[TableRow]()
        self._own_content: bytes | None = None  # of the table as this session has written it
        self._changing: bytes | None = None  # of a table that somebody may be writing just now
        start = self._read_table(read_people(self._folder))
        served = self._served_faces()
        pair_scores = Scores(served, calibration, self._condition)
        self.album = ServedAlbum(served, start, store, pair_scores, self._sorted)
        self._written = [state.person for state in start]
        self._written_version = self.album.version
        if gallery:
            self.album.other_names = [name for name in gallery.people() if is_named(name)]

    def _served_faces(self) -> list[ServedFace]:
        return [
            ServedFace(
                key,
                as_text(face.photo),
                face.face,
                face.embedding,
                face.offset,
                face.quality_issue,
                self._folder / face.aligned,
                self._folder / face.annotated,
            )
            for key, face in zip(self._keys, self._faces)
        ]

    def _read_table(self, table: PeopleTable) -> list[FaceState]:
        """Take over a table; who each face is by it, "" where it does not say."""
        faces = [replace(face) for face in self._faces]
        processed = {as_text(record["path"]) for record in self._results.ordered() if "error" not in record}
        rows = with_lost_characters(table, self._state)
        self._others = match_rows(faces, rows, processed, self._state, self._scores)
        self._table = table
        for face, read in zip(self._faces, faces):
            face.own = read.own
        return self._with_people([FaceState(face.person, frozenset(face.taken_back)) for face in faces])

    def _with_people(self, states: Sequence[FaceState]) -> list[FaceState]:
        return [FaceState(name, state.refused) for name, state in zip(self._sorted(states), states)]

    def _sorted(self, states: Sequence[FaceState]) -> list[str]:
        """People of all faces, of which some have none."""
        if all(state.person for state in states):
            return [state.person for state in states]
        faces = self._faces_of(states)
        highest = max(self._state.highest_number, self._store.highest)
        assign_people(faces, self._scores, {row.person for row in self._others}, highest)
        return [face.person for face in faces]

    def _faces_of(self, states: Sequence[FaceState]) -> list[AlbumFace]:
        return [
            replace(face, person=state.person, taken_back=state.refused, in_table=bool(state.person))
            for face, state in zip(self._faces, states)
        ]

    def follow(self, at_once: bool = False) -> None:
        """Bring table, gallery and page together; what prevents it becomes the album's `problem`.

        Args:
            at_once: also take over a table that has changed only just now, and may be incomplete.
        """
        try:
            self._take_edits(at_once)
            if self.album.version != self._written_version:
                self._write()
            self.album.problem = ""
        except (OSError, ValueError) as error:
            self.album.problem = f"{PEOPLE_FILE} does not follow: {error}. What you do is kept in {STORE_FILE}"

    def _take_edits(self, at_once: bool) -> None:
        """Make a step of what somebody has changed in the table."""
        path = self._folder / PEOPLE_FILE
        content = path.read_bytes() if path.exists() else None
        if content == self._table.content:
            return
        if content != self._changing and not at_once:
            self._changing = content
            return
        if content is None:  # removed: it is written again
            self._table, self._written_version = PeopleTable(), -1
            return
        known = self._table, self._others
        try:
            with self.album.lock:
                self.album.apply(f"{PEOPLE_FILE} was edited", self._edits(read_people(self._folder)))
        except BaseException:
            self._table, self._others = known  # so that the edits are read again, and not written over
            raise
        self._written_version = -1

    def _edits(self, table: PeopleTable) -> dict[int, FaceState]:
        """Index of each face that somebody has edited in the table -> what it is by it."""
        now, read = self.album.states, self._read_table(table)
        before = self._nearest_version([state.person for state in read])
        return {
            place: FaceState(new.person, (new.refused | now[place].refused) - {new.person})
            for place, (new, old) in enumerate(zip(read, before))
            if new.person != old
        }

    def _nearest_version(self, people: Sequence[str]) -> list[str]:
        """The people of all faces after that step from which a table differs least: a spreadsheet may have opened the
        table some steps ago, and what was done since is no edit."""
        places = {key: place for place, key in enumerate(self._keys)}
        version = [state.person for state in self.album.states]
        different = sum(old != new for old, new in zip(version, people))
        nearest, least = list(version), different
        for step in self._store.people_before():
            for key, person in step.items():
                if (place := places.get(key)) is not None:
                    different += (person != people[place]) - (version[place] != people[place])
                    version[place] = person
            if different < least:
                nearest, least = list(version), different
        return nearest

    def _write(self) -> None:
        with self.album.lock:
            states, version, highest = self.album.states, self.album.version, self._store.highest
        faces = self._faces_of(states)
        if self._gallery:
            for line in self._correct_gallery(faces, self._gallery):
                self.album.tell(line)
        measure_distances(faces, self._results.cohort, self._condition)
        rows = [*table_rows(faces), *self._others]
        moved = {name for face, old in zip(faces, self._written) if face.person != old for name in (face.person, old)}
        state = new_state(self._state, faces, rows, max(highest, self._state.highest_number))
        state = replace(state, edited=state.edited | moved)
        back_up = self._table.content != self._own_content
        notices = write_names(self._folder, self._table, rows, state, self._results.pipeline_id, back_up)
        self._state = state
        if notices:  # somebody has saved the table in this moment: it is read the next time
            return
        self._own_content = table_bytes(rows, self._table.own_columns)
        self._table = replace(self._table, content=self._own_content)
        people = [state.person for state in states]
        self._store.mark_written({key: new for key, new, old in zip(self._keys, people, self._written) if new != old})
        self._written, self._written_version = people, version

    def _correct_gallery(self, faces: Sequence[AlbumFace], gallery: Gallery) -> list[str]:
        """Bring what has changed since the table was written into the gallery; a line for each correction."""
        changed = [place for place, face in enumerate(faces) if face.person != self._written[place]]
        if not changed:
            return []
        embeddings = np.stack([face.embedding for face in faces])
        copies = (1 - embeddings @ embeddings[changed].T <= DUPLICATE_DISTANCE).any(1)
        lost = [
            replace(face, taken_back=face.taken_back | {before} - {face.person})
            for face, before, is_copy in zip(faces, self._written, copies.tolist())
            if is_copy
        ]
        lines = correct_gallery(lost, gallery)
        enrol_named(faces, gallery)
        lines += left_in_gallery(set(self._written), {face.person for face in faces}, gallery)
        self.album.other_names = [name for name in gallery.people() if is_named(name)]
        return lines
