import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from facelib import load_embedder, load_landmarker
from facelib.alignment.hourglass import StackedHourglass
from facelib.alignment.landmarker import SHIPPED
from facelib.embedding.network import EmbeddingNetwork
from facelib.runtime.batching import batches
from facelib.runtime.manifest import (
    embedder_networks,
    file_hash,
    find_onnx,
    named_embedders,
    read_manifest,
    short_hashes,
    write_manifest,
)
from facelib.runtime.onnx import resolve_device
from facelib.runtime.weights import load_weights, save_weights
from facelib.settings import MODELS, select_torch_device

PREPROCESSING = {
    "input_size": 32,
    "crop_scale": 1.4,
    "range": [-1, 1],
    "colour": "RGB",
    "activation": "none",
    "decoder": "gaussian",
}


@pytest.fixture
def weights(tmp_path):
    model = StackedHourglass(stacks=1, channels=16, depth=1).eval()
    save_weights(model, tmp_path / "small.pt", arguments=model.arguments, preprocessing=PREPROCESSING)
    return tmp_path / "small.pt", model


def rewrite(path, **changes):
    manifest = read_manifest(path.parent)
    manifest[path.name].update(changes)
    (path.parent / "manifest.json").write_text(json.dumps(manifest))


def test_save_and_load(weights):
    path, model = weights
    loaded, entry = load_weights(path, StackedHourglass, "cpu")
    assert entry["preprocessing"] == PREPROCESSING
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(loaded(image), model(image), atol=0.02, rtol=0.02)
    assert load_landmarker(path, "cpu").predict_crops(torch.zeros(2, 32, 32, 3).byte().numpy()).shape == (2, 5, 2)


def test_missing(tmp_path):
    for load in (load_landmarker, load_embedder):
        with pytest.raises(FileNotFoundError, match=r"gone\.pt.*restore"):
            load(tmp_path / "gone.pt")


def test_truncated_and_replaced(weights):
    path, _ = weights
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"small\.pt.*SHA-256"):
        load_landmarker(path)
    # Also where the manifest has the hash of the truncated file.
    rewrite(path, sha256=file_hash(path))
    with pytest.raises(ValueError, match=r"small\.pt is not a state dict"):
        load_landmarker(path)


def test_other_architecture(weights):
    path, model = weights
    rewrite(path, arguments={**model.arguments, "channels": 32})
    with pytest.raises(ValueError, match=r"small\.pt holds weights of another architecture"):
        load_landmarker(path)
    rewrite(path, arguments={"embedding_size": 8})
    with pytest.raises(ValueError, match=r"small\.pt holds weights of another architecture"):
        load_embedder(path)
    with pytest.raises(ValueError, match=r"small\.pt"):
        load_landmarker(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sha256": None}, "sha256"),
        ({"arguments": None}, "arguments"),
        ({"arguments": {"stacks": 1, "channels": 10**9}}, "another architecture"),
        ({"arguments": {"stacks": -1}}, "another architecture"),
        ({"arguments": {"pretrained": True}}, "arguments > pretrained: remove it"),
        ({"preprocessing": None}, "preprocessing is 'None', expected dict"),
        ({"preprocessing": {**PREPROCESSING, "input_size": 10**9}}, "expected 32 to 1024"),
        ({"preprocessing": {**PREPROCESSING, "input_size": True}}, "input_size"),
        ({"preprocessing": {**PREPROCESSING, "decoder": "guess"}}, "expected one of argmax"),
        ({"preprocessing": {"input_size": 32}}, "crop_scale"),
        ({"preprocessing": {**PREPROCESSING, "colour": "BGR"}}, "colour is 'BGR', expected one of RGB"),
        ({"preprocessing": {**PREPROCESSING, "range": [0, 1]}}, r"range is '\[0, 1\]'"),
        ({"preprocessing": {**PREPROCESSING, "crop_scale": 1.2}}, "crop_scale is '1.2'"),
        ({"preprocessing": {**PREPROCESSING, "gamma": 2}}, "gamma is not known here"),
    ],
)
def test_missing_or_absurd_entries(weights, changes, says):
    path, _ = weights
    rewrite(path, **changes)
    with pytest.raises(ValueError, match=says) as caught:
        load_landmarker(path)
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 600


def test_invalid_manifest(tmp_path):
    for text in ("[]", '{"a.pt": 5}', "null", "{", '{"a.pt": {"x": NaN}}', "[" * 100_000):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=r"manifest\.json"):
            read_manifest(tmp_path)


def test_saving_again_keeps_what_is_still_true(weights):
    """The threshold and the ONNX file of unchanged weights stay in the manifest; those of other weights do not."""
    path, model = weights
    rewrite(path, threshold={"cosine_distance": 0.4})
    digest = read_manifest(path.parent)[path.name]["sha256"]
    exported = {"sha256": "0" * 64, "from": path.name, "from_sha256": digest}
    write_manifest(read_manifest(path.parent) | {"small.onnx": exported}, path.parent)
    save_weights(model, path)
    manifest = read_manifest(path.parent)
    assert manifest[path.name]["threshold"] == {"cosine_distance": 0.4}
    assert manifest["small.onnx"] == exported
    torch.nn.init.ones_(model.heads[0].weight)
    save_weights(model, path)
    assert set(read_manifest(path.parent)) == {path.name}
    assert "threshold" not in read_manifest(path.parent)[path.name]


def test_networks_of_an_embedder(weights):
    path, _ = weights
    write_manifest(read_manifest(path.parent) | {"default": {"networks": [path.name, "another.pt"]}}, path.parent)
    assert embedder_networks(path.parent) == [path, path.with_name("another.pt")]
    assert named_embedders(path.parent) == ["default"]


@pytest.mark.parametrize("networks", [None, [], "a.pt", [3], ["../a.pt"], ["/a.pt"], ["\\\\host\\a.pt"], [""]])
def test_a_manifest_without_networks(tmp_path, networks):
    (tmp_path / "manifest.json").write_text(json.dumps({"default": {"networks": networks}}))
    with pytest.raises(ValueError, match="default > networks"):
        embedder_networks(tmp_path)


def test_an_interrupted_save_leaves_the_old_weights(weights, monkeypatch):
    path, model = weights
    before = path.read_bytes()

    def stop(state, file):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.save", stop)
    with pytest.raises(KeyboardInterrupt):
        save_weights(model, path, arguments=model.arguments, preprocessing=PREPROCESSING)
    assert path.read_bytes() == before
    load_landmarker(path, "cpu")


def test_batches_come_in_few_sizes():
    for size in (1, 10, 32):
        sizes = set()
        for count in range(100):
            parts = list(batches(count, size))
            assert [i for part in parts for i in range(part.start, part.stop)] == list(range(count))
            sizes |= {part.stop - part.start for part in parts}
        assert max(sizes) == size
        assert len(sizes) <= 6


def test_a_device_may_be_a_torch_device():
    assert select_torch_device(torch.device("cpu")) == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == "cpu"
    assert load_landmarker(device=torch.device("cpu"), runtime="torch").model.training is False


IN_A_FORK = """
import multiprocessing, sys
from facelib import FacePipeline, sample_photo
pipeline = FacePipeline.from_pretrained("retinaface", device="cpu")
pipeline(sample_photo())

def use():
    return len(pipeline(sample_photo()))

def load():
    FacePipeline.from_pretrained("retinaface", device="cpu")

def child(job, answers):
    try:
        answers.put(job())
    except RuntimeError as error:
        answers.put(str(error))

fork = multiprocessing.get_context("fork")
for job in (use, load):
    answers = fork.Queue()
    worker = fork.Process(target=child, args=(job, answers))
    worker.start()
    assert "forked" in answers.get(timeout=60)
    worker.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_gets_an_error_instead_of_hanging():
    done = subprocess.run([sys.executable, "-c", IN_A_FORK], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_not_listed_and_bad_manifest(weights):
    path, _ = weights
    shutil.copy(path, path.with_name("other.pt"))
    with pytest.raises(ValueError, match=r"other\.pt is not listed"):
        load_landmarker(path.with_name("other.pt"))
    (path.parent / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json is not valid JSON"):
        load_landmarker(path)


def test_pickled_code_and_other_content_are_refused(weights):
    path, model = weights
    for content in (model, [1, 2], torch.zeros(3)):
        torch.save(content, path)
        rewrite(path, sha256=file_hash(path))
        with pytest.raises(ValueError, match=r"small\.pt is not a state dict"):
            load_landmarker(path)


def test_loading_asks_no_hub(tmp_path, monkeypatch):
    """Whatever a manifest says: ImageNet weights would be replaced by those of the file anyway."""
    model = EmbeddingNetwork(embedding_size=8)
    fields = {"input_size": 32, "alignment": "five_points", "range": [-1, 1], "colour": "RGB"}
    save_weights(model, tmp_path / "a.pt", arguments=model.arguments, preprocessing=fields)

    def ask(*_, **__):
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.socket.connect", ask)
    load_embedder(tmp_path / "a.pt", "cpu")
    for changed in (
        {"backbone": "resnet18", "pretrained": True},
        {"pretrained": True},
        {"backbone": "hf_hub:timm/resnet18.a1_in1k"},
    ):
        rewrite(tmp_path / "a.pt", arguments=model.arguments | changed)
        with pytest.raises(ValueError, match=r"pretrained|another architecture") as caught:
            load_embedder(tmp_path / "a.pt", "cpu")
        assert "asked the network" not in str(caught.value)


def test_the_manifest_describes_the_shipped_files():
    """A few kilobytes: every weights file with its hash and configuration, its ONNX form, and no measurements."""
    manifest = read_manifest()
    assert (MODELS / "manifest.json").stat().st_size < 8_000
    named = {name: manifest.pop(name) for name in named_embedders()}
    assert set(named) == {"default", "arcface", "triplet", "accurate"}
    exported = {name: manifest.pop(name) for name in list(manifest) if name.endswith(".onnx")}
    assert {file.name for file in MODELS.glob("*.pt")} == set(manifest)
    assert {file.name for file in MODELS.glob("*.onnx")} == set(exported)
    for name, entry in exported.items():
        assert set(entry) == {"sha256", "date", "from", "from_sha256"}
        assert entry["from_sha256"] == manifest[entry["from"]]["sha256"]
        assert file_hash(MODELS / name) == entry["sha256"]
        assert (MODELS / name).stat().st_size < 25e6
        assert find_onnx(MODELS / entry["from"]) == MODELS / name
    default_networks = {path.name for name in named for path in embedder_networks(name=name)}
    assert {entry["from"] for entry in exported.values()} == default_networks | {SHIPPED}
    for embedder in named.values():
        assert set(embedder["networks"]) <= set(manifest)
        assert embedder["threshold"]["weights"] == short_hashes(manifest, embedder["networks"])
    # What learned from labels only contains nothing that learned from a teacher.
    assert {manifest[name]["learned_from"] for name in named["arcface"]["networks"]} == {"labels"}
    assert [name for name, e in manifest.items() if e.get("learned_from") not in (None, "labels")] == [
        "model_distilled.pt"
    ]
    known = {
        "sha256",
        "date",
        "architecture",
        "arguments",
        "preprocessing",
        "configuration",
        "threshold",
        "learned_from",
    }
    for name, entry in manifest.items():
        assert set(entry) <= known
        assert file_hash(MODELS / name) == entry["sha256"]
        assert (MODELS / entry.get("configuration", name)).is_file()
        assert (MODELS / name).stat().st_size < 25e6


@pytest.mark.parametrize("select", [select_torch_device, resolve_device])
def test_device(select):
    assert str(select("cpu")) == "cpu"
    for wrong in ("tpu", "cpu:x", "cuda:-1", True):
        with pytest.raises(ValueError, match=str(wrong)):
            select(wrong)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="cuda"):
            select("cuda")
