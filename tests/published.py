"""Archives and folders in the layout of the authors of data sets, made in the tests."""

import io
import tarfile
import zipfile

import numpy as np
from PIL import Image


def jpeg(value=128, side=100):
    """Content of a square photo of one colour with a brighter top left quarter."""
    pixels = np.full((side, side, 3), value, np.uint8)
    if value:
        pixels[: side // 2, : side // 2] += 60
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_files(folder, files):
    """Files {path: text or content} below a folder."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def write_archive(path, files):
    """A zip or tar.gz archive of files {path: text or content}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {name: content.encode() if isinstance(content, str) else content for name, content in files.items()}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
