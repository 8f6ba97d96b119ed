"""Albums and metadata: names of other programs are taken over, names of the table are written to sidecars."""

import numpy as np
import pytest
from albums import LEFT, RIGHT, Library
from PIL import Image

from facelib.cli.album_table import read_people
from facelib.io.metadata import read_metadata, sidecar_path, stored_area, upright_box
from facelib.io.xmp import EMPTY_PACKET, Region, with_own_regions

SIZE = (200, 100)
# Of another program, which draws the face on the left with all the hair.
WIDE = (0, 0, 75, 75)


class PhotoLibrary(Library):
    """A library whose photos can be opened."""

    def add(self, name, *people, boxes=(LEFT, RIGHT), **options):
        path = super().add(name, *people, boxes=boxes)
        pixels = self.rng.integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
        Image.fromarray(pixels).save(path, "JPEG", **options)
        return path

    def sidecar(self, name):
        """Name -> box of the regions in a sidecar."""
        metadata = read_metadata(self.folder / name)
        return {
            region.name: tuple(round(value) for value in upright_box(region, metadata.header))
            for region in metadata.own
        }


@pytest.fixture
def library(tmp_path):
    return PhotoLibrary(tmp_path)


def foreign(*people, kind="Face"):
    """A packet of another program: (name, box), ..."""
    header = type("Header", (), {"size": SIZE, "orientation": 1})
    regions = [Region(name, stored_area(box, header), kind) for name, box in people]
    return with_own_regions(EMPTY_PACKET, regions, SIZE).replace(b"writtenName", b"other")


def test_names_of_the_table_are_written(library):
    library.add("a.jpg", 1, 2)
    library.add("b.jpg", 1)
    library.add("c.jpg", 3)
    before = (library.folder / "a.jpg").read_bytes()
    library.album(write_xmp=True)
    assert not list(library.folder.glob("*.xmp")), "nobody has a name"
    library.edit({("a.jpg", 10): "Ann", ("b.jpg", 10): "Ann"})
    library.album()
    assert not list(library.folder.glob("*.xmp")), "it was not asked for"
    assert not library.album(write_xmp=True).notices
    assert library.sidecar("a.jpg") == library.sidecar("b.jpg") == {"Ann": LEFT}
    assert not sidecar_path(library.folder / "c.jpg").exists()
    assert (library.folder / "a.jpg").read_bytes() == before
    library.edit({("a.jpg", 10): "Anna"})
    library.album(write_xmp=True)
    assert library.sidecar("a.jpg") == {"Anna": LEFT} and library.sidecar("b.jpg") == {"Ann": LEFT}
    library.edit({("b.jpg", 10): "?"})
    library.album(write_xmp=True)
    assert not sidecar_path(library.folder / "b.jpg").exists(), "with the name its own sidecar is gone"


def test_a_sidecar_of_another_program_is_kept(library):
    path = sidecar_path(library.add("a.jpg", 1, 2))
    before = foreign(("Rob", RIGHT), ("Rex", (80, 60, 100, 80)), kind="Pet").replace(
        b"<rdf:RDF", b"<!-- mine --><rdf:RDF"
    )
    path.write_bytes(before)
    library.album()
    library.edit({("a.jpg", 10): "Ann", ("a.jpg", 110): "Bob"})
    library.album(write_xmp=True)
    assert b"<!-- mine -->" in path.read_bytes()
    assert set(library.sidecar("a.jpg")) == {"Rob", "Rex", "Ann", "Bob"}, "a pet is nobody"
    library.edit({("a.jpg", 10): "", ("a.jpg", 110): ""})
    library.album(write_xmp=True)
    assert path.read_bytes() == before


def test_a_damaged_sidecar_is_named_once(library):
    path = sidecar_path(library.add("a.jpg", 1, 2))
    path.write_bytes(b"<broken")
    library.album()
    library.edit({("a.jpg", 10): "Ann"})
    notices = library.album(write_xmp=True).notices
    assert len([line for line in notices if "a.jpg.xmp" in line and "it is no XMP" in line]) == 1
    assert path.read_bytes() == b"<broken"


def test_a_name_of_another_program_is_left_to_it(library):
    path = sidecar_path(library.add("a.jpg", 1))
    path.write_bytes(foreign(("Ann", WIDE)))
    library.album()
    assert library.people() == {("a.jpg", 10): "Ann"}
    library.album(write_xmp=True)
    assert path.read_bytes() == foreign(("Ann", WIDE)), "the same name is there already"
    library.edit({("a.jpg", 10): "Anna"})
    notices = library.album(write_xmp=True).notices
    assert any("another program calls a face Ann that is Anna here" in line for line in notices)
    assert path.read_bytes() == foreign(("Ann", WIDE))
    assert library.people() == {("a.jpg", 10): "Anna"}, "the table comes first"


@pytest.mark.parametrize("place", ["a.jpg.xmp", "a.xmp", "inside"])
def test_names_that_are_there_already_are_taken_over(library, place):
    packet = foreign(("Ann", WIDE), ("Rex", (80, 60, 100, 80)))
    library.add("a.jpg", 1, 2, **({"xmp": packet} if place == "inside" else {}))
    library.add("b.jpg", 1)
    if place != "inside":
        (library.folder / place).write_bytes(packet)
    notices = library.album().notices
    assert library.people() == {("a.jpg", 10): "Ann", ("a.jpg", 110): "Person 1", ("b.jpg", 10): "Ann"}
    assert notices == ["names from the metadata of the photos: Ann"]
    assert not library.album().notices, "they are in the table now"


def test_a_person_gets_the_name_that_one_photo_has_later(library):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        library.add(name, 1)
    library.album()
    sidecar_path(library.folder / "b.jpg").write_bytes(foreign(("Ann", LEFT)))
    library.album()
    assert set(library.people().values()) == {"Ann"}


def test_metadata_that_disagree_name_their_own_faces_only(library):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        library.add(name, 1)
    library.album()
    sidecar_path(library.folder / "a.jpg").write_bytes(foreign(("Ann", LEFT)))
    sidecar_path(library.folder / "b.jpg").write_bytes(foreign(("Bea", LEFT)))
    library.album()
    assert library.people() == {("a.jpg", 10): "Ann", ("b.jpg", 10): "Bea", ("c.jpg", 10): "Person 1"}


def test_metadata_put_nobody_into_a_photo_twice_and_bring_no_name_back(library):
    library.add("a.jpg", 1, 2)
    library.album()
    library.edit({("a.jpg", 10): "Ann"})
    library.album(write_xmp=True)
    library.edit({("a.jpg", 10): "", ("a.jpg", 110): "Ann"})
    library.album()
    assert library.people()[("a.jpg", 110)] == "Ann" and library.people()[("a.jpg", 10)].startswith("Person")
    path = sidecar_path(library.folder / "a.jpg")
    path.write_bytes(foreign(("Ann", LEFT)))
    library.album()
    assert library.people()[("a.jpg", 10)].startswith("Person")


@pytest.mark.parametrize("name", ["?", "Person 3", "a\u202eb", " "])
def test_names_that_an_album_cannot_have_are_passed_over(library, name):
    sidecar_path(library.add("a.jpg", 1)).write_bytes(foreign((name, LEFT)))
    library.album()
    assert library.people() == {("a.jpg", 10): "Person 1"}


def test_a_new_sidecar_hides_nothing_that_the_photo_has(library):
    inside = foreign(("Rob", RIGHT), ("Zoe", (80, 60, 100, 80)))
    library.add("a.jpg", 1, 2, xmp=inside)
    library.album()
    library.album(write_xmp=True)
    assert not list(library.folder.glob("*.xmp")), "the photo names everybody who has a name"
    library.edit({("a.jpg", 10): "Ann"})
    library.album(write_xmp=True)
    assert set(library.sidecar("a.jpg")) == {"Ann", "Rob", "Zoe"}
    library.edit({("a.jpg", 110): ""})
    library.album(write_xmp=True)
    assert set(library.sidecar("a.jpg")) == {"Ann", "Zoe"}, "a name that was taken back is not carried over"


def test_an_album_of_photos_with_sidecars_begins_with_their_names(library):
    library.add("a.jpg", 1, 2)
    library.album()
    library.edit({("a.jpg", 10): "Ann", ("a.jpg", 110): "Bob"})
    library.album(write_xmp=True)
    library.out = library.folder / "another"
    library.album()
    assert library.people() == {("a.jpg", 10): "Ann", ("a.jpg", 110): "Bob"}
    assert all(row.cells["matched"] == "yes" for row in read_people(library.out).rows)


def test_a_folder_without_rights(library, monkeypatch):
    from facelib.cli import album_metadata

    for name in ("a.jpg", "b.jpg"):
        library.add(name, 1)
    library.album()
    library.edit({"Person 1": "Ann"})

    def fail(*arguments):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(album_metadata, "write_regions", fail)
    notices = library.album(write_xmp=True).notices
    assert len(notices) == 1 and "a.jpg.xmp" in notices[0] and "(Permission denied)" in notices[0]
    assert set(library.people().values()) == {"Ann"}


def test_a_name_that_is_taken_over_is_no_face_of_somebody_else(library):
    path = library.add("a.jpg", 1)
    library.album()
    sidecar_path(path).write_bytes(foreign(("Ann", LEFT)))
    library.add("b.jpg", 2)
    made = library.album()
    assert library.people()["a.jpg", 10] == "Ann"
    assert not [line for line in made.notices if "went to somebody else" in line]
