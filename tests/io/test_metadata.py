"""Regions in sidecars and photos: where they are looked for, how EXIF orientation turns them, what stays as it is."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from facelib.io.images import read_header, read_image
from facelib.io.metadata import read_metadata, sidecar_path, stored_area, upright_box, write_regions
from facelib.io.xmp import EMPTY_PACKET, Region, with_own_regions

SIZE = (60, 40)
BOX = (6, 4, 18, 20)  # x1 y1 x2 y2 in the upright photo
needs_exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="ExifTool is not installed")


def save(path, orientation=1, size=SIZE, **options):
    """A photo that is stored as the orientation asks, with a white box at BOX once it is upright."""
    height, width = size[::-1] if orientation < 5 else size
    upright = np.zeros((height, width, 3), np.uint8)
    upright[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    methods = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    image = Image.fromarray(upright)
    if orientation in methods:
        image = image.transpose(Image.Transpose(methods[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_the_upright_photo_become_areas_of_the_stored_one(tmp_path, orientation, suffix):
    path = save(tmp_path / f"photo.{suffix}", orientation)
    header = read_header(path)
    upright = read_image(path)
    assert upright[BOX[1] + 1 : BOX[3] - 1, BOX[0] + 1 : BOX[2] - 1].min() > 200, "the test's photo is right"
    area = stored_area(BOX, header)
    assert np.allclose(upright_box(Region("", area), header), BOX)
    with Image.open(path) as image:
        stored = np.asarray(image) if suffix != "tif" else None
    if stored is None:  # Pillow applies the orientation of a TIFF
        assert header.size == SIZE
        return
    assert header.size == stored.shape[1::-1]
    x, y, width, height = np.array(area) * [*header.size, *header.size]
    inside = stored[round(y - height / 2) : round(y + height / 2), round(x - width / 2) : round(x + width / 2)]
    assert inside.min() > 128 and inside.size == 3 * 12 * 16


def packet(name, size=SIZE):
    return with_own_regions(EMPTY_PACKET, [Region(name, (0.5, 0.5, 0.25, 0.25))], size)


def test_sidecars_and_the_photo_are_read(tmp_path):
    photo = save(tmp_path / "photo.jpg", xmp=packet("Inside"))
    assert [region.name for region in read_metadata(photo).others] == ["Inside"]
    (tmp_path / "photo.xmp").write_bytes(packet("Beside"))
    (tmp_path / "photo.jpg.xmp").write_bytes(packet("Own"))
    found = read_metadata(photo)
    assert [region.name for region in found.own] == ["Own"]
    assert [region.name for region in found.others] == ["Beside", "Inside"]


def test_regions_of_another_shape_are_left_out(tmp_path):
    photo = save(tmp_path / "photo.jpg")
    sidecar_path(photo).write_bytes(packet("Ann", (300, 200)))
    assert read_metadata(photo).own
    sidecar_path(photo).write_bytes(packet("Ann", (200, 300)))
    assert not read_metadata(photo).own


def test_a_damaged_sidecar_is_named_and_left_alone(tmp_path):
    photo = save(tmp_path / "photo.jpg")
    sidecar_path(photo).write_bytes(b"<x:xmpmeta")
    assert list(read_metadata(photo).problems) == [sidecar_path(photo)]
    with pytest.raises(ValueError, match="it is no XMP"):
        write_regions(photo, SIZE, [Region("Ann", (0.5, 0.5, 0.1, 0.1))])
    assert sidecar_path(photo).read_bytes() == b"<x:xmpmeta"


def test_rights_and_links(tmp_path):
    photo, sidecar = save(tmp_path / "photo.jpg"), tmp_path / "photo.jpg.xmp"
    before = photo.read_bytes()
    photo.chmod(0o640)
    regions = [Region("Ann", (0.5, 0.5, 0.1, 0.1))]
    write_regions(photo, SIZE, regions)
    assert sidecar.stat().st_mode & 0o777 == 0o640, "who may read the photo may read the names"
    sidecar.chmod(0o604)
    write_regions(photo, SIZE, [*regions, *regions])
    assert sidecar.stat().st_mode & 0o777 == 0o604
    (tmp_path / "elsewhere").mkdir()
    sidecar.rename(tmp_path / "elsewhere/x.xmp")
    sidecar.symlink_to(tmp_path / "elsewhere/x.xmp")
    write_regions(photo, SIZE, regions)
    assert sidecar.is_symlink() and [region.name for region in read_metadata(photo).own] == ["Ann"]
    sidecar.unlink()
    write_regions(photo, SIZE, regions)
    write_regions(photo, SIZE, [])
    assert not sidecar.exists(), "it held nothing but our regions"
    assert photo.read_bytes() == before


def test_a_full_disk_leaves_the_sidecar(tmp_path, monkeypatch):
    photo = save(tmp_path / "photo.jpg")
    sidecar_path(photo).write_bytes(packet("Ann"))

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_regions(photo, SIZE, [Region("Bob", (0.5, 0.5, 0.1, 0.1))])
    assert sidecar_path(photo).read_bytes() == packet("Ann")


def exiftool(*arguments):
    done = subprocess.run(["exiftool", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stdout + done.stderr
    return done.stdout


@needs_exiftool
@pytest.mark.parametrize("orientation", [1, 6])
def test_exiftool_reads_what_is_written(tmp_path, orientation):
    photo = save(tmp_path / "photo.jpg", orientation)
    header = read_header(photo)
    write_regions(photo, header.size, [Region("Ann Müller", stored_area(BOX, header))])
    assert "Ann Müller" in exiftool("-validate", "-warning", "-a", "-RegionName", sidecar_path(photo))
    info = json.loads(exiftool("-json", "-struct", "-RegionInfo", sidecar_path(photo)))[0]["RegionInfo"]
    assert info["AppliedToDimensions"] == {"W": header.size[0], "H": header.size[1], "Unit": "pixel"}
    (region,) = info["RegionList"]
    assert (region["Name"], region["Type"], region["Area"]["Unit"]) == ("Ann Müller", "Face", "normalized")
    area = [float(region["Area"][key]) for key in "XYWH"]
    assert np.allclose(area, stored_area(BOX, header), atol=1e-6)
    assert np.allclose(area, (0.2, 0.3, 0.2, 0.4) if orientation == 1 else (12 / 60, 28 / 40, 16 / 60, 12 / 40))


@needs_exiftool
def test_what_exiftool_writes_is_read_and_kept(tmp_path):
    photo = save(tmp_path / "photo.jpg")
    struct = (
        "{AppliedToDimensions={W=60,H=40,Unit=pixel},RegionList=["
        "{Area={X=0.2,Y=0.3,W=0.2,H=0.4,Unit=normalized},Name=Ann Müller,Type=Face},"
        "{Area={X=0.7,Y=0.7,W=0.1,H=0.1,Unit=normalized},Type=Focus}]}"
    )
    arguments = (f"-RegionInfo={struct}", "-Subject=Öland", "-Rating=4", "-q")
    exiftool(*arguments, sidecar_path(photo))
    exiftool(*arguments, "-overwrite_original", photo)
    found = read_metadata(photo)
    assert [(region.name, region.kind) for region in found.own] == [("Ann Müller", "Face"), ("", "Focus")]
    assert found.others == found.own, "inside the photo too"
    assert np.allclose(upright_box(found.own[0], found.header), BOX)
    before = sidecar_path(photo).read_bytes()
    write_regions(photo, SIZE, [Region("Bob", (0.5, 0.5, 0.1, 0.1))])
    read = json.loads(exiftool("-json", "-RegionName", "-RegionType", "-Subject", "-Rating", sidecar_path(photo)))[0]
    assert (read["Subject"], read["Rating"]) == ("Öland", 4)
    assert read["RegionName"] == ["Ann Müller", "Bob"] and read["RegionType"] == ["Face", "Focus", "Face"]
    # ExifTool writes the file anew: ours are still known, and everything else stays.
    exiftool("-Rating=5", "-q", "-overwrite_original", sidecar_path(photo))
    assert [region.is_ours for region in read_metadata(photo).own] == [False, False, True]
    write_regions(photo, SIZE, [])
    exiftool("-Rating=4", "-q", "-overwrite_original", sidecar_path(photo))
    assert sidecar_path(photo).read_bytes() == before
