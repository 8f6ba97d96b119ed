import numpy as np
import pytest
import torch

from facelib.alignment import align_faces
from facelib.checkpoints import MODELS
from facelib.embedding import (
    LITE0,
    SIDE_BY_SIDE,
    Embedder,
    EmbeddingNetwork,
    WeightedPooling,
    face_to_tensor,
    load_embedder,
    make_backbone,
)
from facelib.face_data import AlignedDataset
from facelib.landmark_data import LandmarkDataset
from facelib.landmarks import image_to_tensor


class Recorder(torch.nn.Module):
    """Keeps what the network behind it is shown."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []
        self.arguments = getattr(model, "arguments", None)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.model, name)

    def forward(self, images):
        self.seen.append(images.clone())
        return self.model(images)


def test_one_preprocessing_path(photo, pipeline, tmp_path):
    """What training (without augmentation) and the pipeline show to both networks is the same, bit by bit."""
    from PIL import Image

    from facelib import FacePipeline
    from facelib.datasets import FaceList
    from facelib.landmarks import Landmarker

    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    embedder = pipeline.embedder.embedders[0]
    landmark_net, embed_net = Recorder(pipeline.landmarker.model), Recorder(embedder.model)
    size, embed_size = pipeline.landmarker.input_size, embedder.input_size
    recording = FacePipeline(
        pipeline.detector,
        Landmarker(landmark_net, size, pipeline.landmarker.activation),
        Embedder(embed_net, embed_size, flip=False),
    )
    faces = recording(path)
    assert len(faces) == 6

    boxes = np.stack([face.box for face in faces])
    points = np.stack([face.landmarks for face in faces])
    listed = FaceList([path] * 6, np.arange(6), np.full(6, "train"), boxes, points)
    training = LandmarkDataset(listed, size, augment=False)
    assert torch.equal(torch.stack([training[(i, 0)][0] for i in range(6)]), torch.cat(landmark_net.seen))

    training = AlignedDataset(align_faces(photo, points), np.arange(6), size=embed_size, strength=None)
    assert torch.equal(torch.stack([training[(i, 0)][0] for i in range(6)]), torch.cat(embed_net.seen))


def test_tensor_range_and_channel_order():
    image = np.zeros((112, 112, 3), np.uint8)
    image[..., 0] = 255
    tensor = face_to_tensor(image)
    assert tensor.shape == (3, 112, 112)
    assert (tensor[0] == 1).all()
    assert (tensor[1:] == -1).all()
    assert torch.equal(tensor, image_to_tensor(image))
    assert face_to_tensor(image, 64).shape == (3, 64, 64)
    with pytest.raises(ValueError, match=r"expected uint8 \(112, 112, 3\)"):
        face_to_tensor(np.zeros((112, 112, 3)))
    with pytest.raises(ValueError, match="100, 112, 3"):
        face_to_tensor(np.zeros((100, 112, 3), np.uint8))


def test_imagenet_weights_come_without_a_download(photo):
    """The backbone with its own classifier's package weights is no random one: features of a picture repeat."""
    import timm

    from facelib.embedding import _lite0_weights

    model = timm.create_model(LITE0, pretrained=False)
    model.load_state_dict(_lite0_weights(model))
    model.eval()
    # The sample photo shows people in suits: ImageNet's classes 834 (suit) and 906 (Windsor tie) must stand out.
    small = torch.nn.functional.interpolate(image_to_tensor(photo)[None], (224, 224), mode="area")
    with torch.inference_mode():
        best = model(small)[0].topk(20).indices.tolist()
    backbone, width = make_backbone(LITE0, pretrained=True)
    assert width == 1280
    assert backbone(torch.zeros(2, 3, 64, 64)).shape == (2, 1280)
    assert {834, 906, 617, 818, 982, 457} & set(best)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "regnet_y_400mf"])
def test_any_torchvision_classifier(name):
    network = EmbeddingNetwork(name, embedding_size=32).eval()
    assert network(torch.zeros(2, 3, 112, 112)).shape == (2, 32)
    assert network.arguments["backbone"] == name


def test_unknown_backbone():
    with pytest.raises(ValueError, match="resnet19"):
        EmbeddingNetwork("resnet19")


def test_finer_cells_before_pooling():
    """Output stride 16: twice as many cells each way; the choice is saved with the model."""
    with torch.inference_mode():
        coarse, fine = (
            make_backbone(LITE0, False, output_stride=stride)[0].forward_features(torch.zeros(1, 3, 64, 64))
            for stride in (32, 16)
        )
    assert (coarse.shape[2:], fine.shape[2:]) == ((2, 2), (4, 4))
    assert EmbeddingNetwork(output_stride=16).arguments["output_stride"] == 16
    with pytest.raises(ValueError, match="output_stride=16: expected 32"):
        EmbeddingNetwork("resnet18", output_stride=16)


def test_weighted_pooling_starts_as_the_average_and_tells_cells_apart():
    features = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    pooling = WeightedPooling(5)
    torch.testing.assert_close(pooling(features), features.mean((2, 3)))
    torch.testing.assert_close(pooling(features[:, :, :3, :2]), features[:, :, :3, :2].mean((2, 3)))
    mirrored = features.flip(3)
    torch.testing.assert_close(pooling(mirrored), pooling(features))
    pooling.weight.data[:, :, :, :2] = 0.0  # only the right half counts
    torch.testing.assert_close(pooling(features), features[..., 2:].sum((2, 3)) / 16)
    assert not torch.allclose(pooling(mirrored), pooling(features))
    network = EmbeddingNetwork(embedding_size=8, pooling="weighted").eval()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 8)
    assert network.arguments["pooling"] == "weighted"
    with pytest.raises(ValueError, match="pooling='weighted': expected 'average'"):
        EmbeddingNetwork("resnet18", pooling="weighted")


@pytest.fixture
def faces_of_noise():
    return np.random.default_rng(0).integers(0, 255, (5, 112, 112, 3), dtype=np.uint8)


def test_vectors_have_length_one_and_batches_do_not_matter(pipeline, faces_of_noise):
    embedder, faces = pipeline.embedder, faces_of_noise
    vectors = embedder.embed(faces)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    small = load_embedder(device="cpu", batch_size=2)
    np.testing.assert_allclose(small.embed(faces), vectors, atol=1e-4)
    assert embedder.embed(faces[:0]).shape == (0, vectors.shape[1])
    mirrored = embedder.embed(np.ascontiguousarray(faces[:, :, ::-1]))
    np.testing.assert_allclose(mirrored, vectors, atol=1e-4)  # flip averaging


def test_side_by_side_the_cosine_is_the_mean_of_both(pipeline, faces_of_noise):
    embedder = pipeline.embedder
    parts = [one.embed(faces_of_noise) for one in embedder.embedders]
    assert len(parts) == len(SIDE_BY_SIDE) == 2
    vectors = embedder.embed(faces_of_noise)
    np.testing.assert_allclose(vectors @ vectors.T, np.mean([p @ p.T for p in parts], axis=0), atol=1e-5)
    for name, part in zip(SIDE_BY_SIDE, parts):
        np.testing.assert_allclose(load_embedder(MODELS / name, device="cpu").embed(faces_of_noise), part, atol=1e-6)
