"""An album that people work with: who its faces are, and the steps that change that.

Every step is in the file of `AlbumStore` before it is seen here. A step names the version that it was made on, and is
refused on another one, so that two windows, or an edit of the table, do not undo each other.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from facelib.recognition.names import LOW_QUALITY, UNNAMED, is_named, natural_key, normalise_name, person_number
from facelib.server.faces import Members, Scores, ServedFace
from facelib.server.store import AlbumStore, FaceState, Step

MAX_NAME = 200  # characters
MESSAGES = 20  # of the last ones that are kept

# Faces with their people, of whom some have none, "" -> people of all of them.
Sort = Callable[[Sequence[FaceState]], list[str]]


class OutdatedError(Exception):
    """A change was made on a version of the album that is no longer the newest."""


class ServedAlbum:
    """An album, and what may be done with it. It may be used by several threads.

    faces: of the album, each with a key of its own.
    store: open file of the steps.
    scores: of the faces.
    lock: held while people change.
    people: person of each face.
    other_names: names that are offered beside those of the album.
    problem: why the table does not follow, "" while it does.
    messages: the last of what people should know.

    Args:
        start: who each face is at first, as the table has it. What differs from the end of the last session becomes a
            step, which can be undone.
        sort: gives faces without a person one.
    """

    def __init__(
        self, faces: Sequence[ServedFace], start: Sequence[FaceState], store: AlbumStore, scores: Scores, sort: Sort
    ):
        self.faces, self.store, self.scores, self._sort = faces, store, scores, sort
        self.lock = threading.RLock()
        self.other_names: Sequence[str] = ()
        self.problem = ""
        self.messages: list[str] = []
        self._places = {face.key: place for place, face in enumerate(faces)}
        numbers = [person_number(state.person) or 0 for state in start]
        store.add_faces({face.key: state for face, state in zip(faces, start)}, max(numbers, default=0))
        known = store.faces()
        self._states = [known[face.key] for face in faces]
        self.version = store.version
        self.apply("people.csv was edited, or new photos were sorted", dict(enumerate(start)))

    @property
    def states(self) -> list[FaceState]:
        """Who each face is."""
        return list(self._states)

    def tell(self, message: str) -> None:
        """Add to the messages."""
        self.messages = [*self.messages, message][-MESSAGES:]

    def members(self) -> dict[str, Members]:
        """Person -> faces: those with most faces first, faces that are nobody's last."""
        people: dict[str, list[int]] = {}
        for place, state in enumerate(self._states):
            people.setdefault(state.person, []).append(place)
        names = sorted(people, key=lambda name: (name == LOW_QUALITY, -len(people[name]), natural_key(name)))
        return {name: tuple(people[name]) for name in names}

    def content(self) -> dict[str, Any]:
        """What a page shows, without what never changes of the faces."""
        with self.lock:
            undo, redo = self.store.labels()
            people = self.scores.order(self.members())
            rows = [{"name": name, "named": is_named(name), "faces": list(faces)} for name, faces in people.items()]
            state = {"version": self.version, "people": rows, "undo": undo, "redo": redo, "problem": self.problem}
            return state | {"names": list(self.other_names), "messages": self.messages}

    def suggestions(self) -> dict[str, Any]:
        """People who may be one, see `Scores.suggestions`, and the version that this is of."""
        with self.lock:
            version, people, states = self.version, self.members(), self.states
            apart = {frozenset(self._people_of(pair)) for pair in self.store.apart()}
        refused: dict[str, set[str]] = {}
        for state in states:
            refused.setdefault(state.person, set()).update(state.refused)
        found = self.scores.suggestions(people, refused, apart)
        return {"version": version, "suggestions": [vars(each) for each in found]}

    def _people_of(self, keys: Iterable[str]) -> list[str]:
        return [self._states[self._places[key]].person for key in keys if key in self._places]

    def change(self, request: Mapping[str, Any]) -> None:
        """Do what a request of the page asks.

        Args:
            request: "version", "kind", and what it is about: "people", "faces" (indices), "name".

        Raises:
            OutdatedError: it was made on another version.
            LookupError: there is nothing to undo, or no such person or face. ValueError: it cannot be done.
            OSError: it cannot be kept, and is not done.
        """
        kinds: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "name": self._name,
            "move": self._move,
            "not_a_face": self._not_a_face,
            "not_this_person": self._not_this_person,
            "different": self._different,
            "undo": lambda _: self._take(self.store.undo()),
            "redo": lambda _: self._take(self.store.redo()),
        }
        with self.lock:
            if request.get("version") != self.version:
                raise OutdatedError("the album has changed meanwhile; nothing was done, look at it again")
            if (kind := str(request.get("kind"))) not in kinds:
                raise ValueError(f"unknown kind of change; expected one of {', '.join(kinds)}")
            kinds[kind](request)

    def apply(self, label: str, after: Mapping[int, FaceState], apart: Sequence[tuple[str, str]] = ()) -> None:
        """Do a step: index of a face -> what it is then."""
        with self.lock:
            changed = {place: state for place, state in after.items() if state != self._states[place]}
            if not changed and not apart:
                return
            numbers = [person_number(state.person) or 0 for state in changed.values()]
            keys = {self.faces[place].key: state for place, state in changed.items()}
            self.store.add(Step(label, keys, apart), max(numbers, default=0))
            self._take(keys)

    def _take(self, after: Mapping[str, FaceState]) -> None:
        """Show what the store has now."""
        for key, state in after.items():
            if key in self._places:  # a step of an earlier session may be about faces that are gone
                self._states[self._places[key]] = state
        self.version = self.store.version

    def _name(self, request: Mapping[str, Any]) -> None:
        """Name people; those who then have the name of another one are one person with them."""
        people, name = self._known_people(request), _new_name(request)
        members = self.members()
        after: dict[int, FaceState] = {}
        for place, state in enumerate(self._states):
            person = name if state.person in people else state.person
            refused = frozenset(name if other in people else other for other in state.refused)
            after[place] = FaceState(person, refused - {person})
        others = [person for person in people if person != name]
        if not others:
            raise ValueError(f"{name} is called so already")
        merged = len(others) > 1 or name in members
        self.apply(f"{_listed(others)} {'merged into' if merged else 'is'} {name}", after)

    def _move(self, request: Mapping[str, Any]) -> None:
        """Give faces to a person; without a name to a new one."""
        faces = self._known_faces(request)
        name = _new_name(request) if request.get("name") else self._new_person()
        self._set(f"{_count(faces)} to {name}", faces, name)

    def _not_a_face(self, request: Mapping[str, Any]) -> None:
        faces = self._known_faces(request)
        self._set(f"{_count(faces)}: not a face", faces, LOW_QUALITY)

    def _set(self, label: str, faces: Sequence[int], person: str) -> None:
        self.apply(label, {face: FaceState(person, self._states[face].refused - {person}) for face in faces})

    def _not_this_person(self, request: Mapping[str, Any]) -> None:
        """Take the names of faces back, for good, and sort the faces again."""
        faces = self._known_faces(request)
        if any(self._states[face].person == LOW_QUALITY for face in faces):
            raise ValueError("these faces are nobody's")
        states = self.states
        for face in faces:
            states[face] = FaceState("", states[face].refused | {states[face].person})
        names = _listed(sorted({self._states[face].person for face in faces}, key=natural_key))
        self.apply(f"{_count(faces)}: not {names}", self.sorted(states))

    def sorted(self, states: Sequence[FaceState]) -> dict[int, FaceState]:
        """Faces of which some have no person -> all of them with one."""
        return {
            place: FaceState(name, state.refused) for place, (name, state) in enumerate(zip(self._sort(states), states))
        }

    def _different(self, request: Mapping[str, Any]) -> None:
        """Two people are not the same, and are not suggested again."""
        people, members = self._known_people(request), self.members()
        if len(people) != 2:
            raise ValueError(f"{len(people)} people: expected two different ones")
        # The best faces stand for the people, whatever these are called later.
        first, second = (self.faces[self.scores.order(members)[person][0]].key for person in people)
        self.apply(f"{people[0]} is not {people[1]}", {}, [(first, second)])

    def _new_person(self) -> str:
        return f"{UNNAMED} {self.store.highest + 1}"

    def _known_people(self, request: Mapping[str, Any]) -> list[str]:
        people, members = request.get("people"), self.members()
        if not isinstance(people, list) or not people or not all(isinstance(name, str) for name in people):
            raise ValueError("no people: expected a list of names")
        if unknown := [name for name in people if name not in members or name == LOW_QUALITY]:
            raise LookupError(f"nobody is called {unknown[0][:MAX_NAME]!r}")
        return list(dict.fromkeys(people))

    def _known_faces(self, request: Mapping[str, Any]) -> list[int]:
        faces = request.get("faces")
        if not isinstance(faces, list) or not faces or not all(type(face) is int for face in faces):
            raise ValueError("no faces: expected a list of numbers")
        if not all(0 <= face < len(self.faces) for face in faces):
            raise LookupError("there is no such face")
        return list(dict.fromkeys(faces))


def _new_name(request: Mapping[str, Any]) -> str:
    name = request.get("name")
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise ValueError(f"expected a name of at most {MAX_NAME} characters")
    name = normalise_name(name)
    if name == LOW_QUALITY:
        raise ValueError(f"{LOW_QUALITY} is no name: use 'not a face'")
    return name


def _listed(names: Sequence[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more:,} more" if more > 0 else "")


def _count(faces: Sequence[int]) -> str:
    return f"{len(faces):,} face{'s' * (len(faces) != 1)}"
