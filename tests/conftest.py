"""What the tests share. They run on photos that come inside pip packages, without network."""

import os

from facelib.settings import SPIN_COUNT

os.environ["FACELIB_SIZE"] = "embedded"  # for the notebooks, which pytest runs in the same go
# Inherited by the kernels of the notebooks and by every process that a test starts.
os.environ["PIP_NO_INDEX"] = "1"  # notebook 3 would fetch photos by pip
os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    # Two that each compute with two threads on two cores are half as fast as two with one thread each.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for its newest version

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from PIL import Image

from facelib import FacePipeline, load_detector, read_image, sample_photo
from facelib.datasets.sources import load_orl
from facelib.settings import data_folder


@pytest.fixture(scope="session")
def photo():
    """insightface's sample photo, six people, RGB uint8 (886, 1280, 3)."""
    return read_image(sample_photo())


@pytest.fixture(scope="session", params=["retinaface", "insightface"])
def detector(request):
    """Both detectors; insightface's only where its file is, so that no test needs the network."""
    if request.param == "insightface" and not (data_folder() / "models/buffalo_sc/det_500m.onnx").is_file():
        pytest.skip("det_500m.onnx is not under FACELIB_DATA")
    return load_detector(request.param, "cpu")


@pytest.fixture(scope="session")
def pipeline():
    """The shipped weights with the packaged detector, on the CPU."""
    return FacePipeline.from_pretrained("retinaface", device="cpu")


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """prepared(name, {person: (ORL person, photos)}, split): crops under a FACELIB_DATA of the test's own."""
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))

    def prepare(name, people, split="train"):
        orl, rows = load_orl(), ["file,person,source,split"]
        for person, (known_as, photos) in people.items():
            (tmp_path / name / person).mkdir(parents=True)
            for photo, i in enumerate(np.flatnonzero(orl.people == known_as)[:photos]):
                picture = Image.open(orl.files[i]).convert("RGB").resize((144, 144))
                picture.save(tmp_path / name / person / f"{photo}.webp")
                rows.append(f"{person}/{photo}.webp,{person},orl,{split}")
        (tmp_path / name / "faces.csv").write_text("\n".join(rows))

    return prepare


@pytest.fixture
def own_folder(tmp_path, pipeline, monkeypatch):
    """Three people of ORL enlarged, two photos each, one of them broken, and an empty folder."""
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("facelib.datasets.training_crops.load_detector", lambda: pipeline.detector)
    orl = load_orl()
    for person in ("s1", "s2", "s3"):
        (tmp_path / "mine" / person).mkdir(parents=True)
        for photo, i in enumerate(np.flatnonzero(orl.people == person)[:2]):
            picture = Image.open(orl.files[i]).convert("RGB").resize((368, 448))
            picture.save(tmp_path / "mine" / person / f"{photo}.png")
    (tmp_path / "mine/s3/1.png").write_bytes(b"not a picture")
    (tmp_path / "mine/empty").mkdir()
    return tmp_path / "mine"


@pytest.fixture
def people(tmp_path, photo, detector):
    """A folder of three people, cut out of the sample photo, with one broken file."""
    boxes, _ = detector.detect(photo)
    for person, box in enumerate(boxes[:3].round().astype(int)):
        folder = tmp_path / "people" / f"person{person}"
        folder.mkdir(parents=True)
        x1, y1, x2, y2 = box + [-60, -60, 60, 60]
        crop = photo[max(y1, 0) : y2, max(x1, 0) : x2]
        Image.fromarray(crop).save(folder / "one.png")
        Image.fromarray(crop[:, ::-1]).save(folder / "two.jpg", quality=95)
    (tmp_path / "people" / "person0" / "broken.jpg").write_text("no picture")
    return tmp_path / "people"


@pytest.fixture(scope="module")
def portraits(tmp_path_factory, photo, pipeline):
    """Two faces of the sample photo as photos of their own, and a photo without a face."""
    folder = tmp_path_factory.mktemp("portraits")
    for number, face in enumerate(pipeline(photo)[:2]):
        x1, y1, x2, y2 = (face.box + [-60, -60, 60, 60]).round().astype(int).tolist()
        Image.fromarray(photo[max(y1, 0) : y2, max(x1, 0) : x2]).save(folder / f"{number}.png")
    Image.new("RGB", (200, 100)).save(folder / "blank.png")
    return folder
