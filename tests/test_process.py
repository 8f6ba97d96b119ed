"""The process belongs to the program that uses the package: nothing of it is changed, and whatever it has set holds."""

import json
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

STATE = """
import decimal, json, locale, logging, os, random, signal, socket, sys, threading, warnings
import numpy as np, torch
from PIL import Image, ImageFile

def state():
    return {
        "streams": [id(sys.stdout), id(sys.stderr), id(sys.excepthook)],
        "environment": sorted(k for k in os.environ if not k.startswith(("KMP_", "OMP_", "CUDA_MODULE"))),
        "folder": os.getcwd(), "path": sys.path[:], "locale": locale.setlocale(locale.LC_ALL),
        # Those that packages add name their own warnings, or a module of theirs.
        "warnings": [str(f) for f in warnings.filters if f[2] in (Warning, UserWarning) and not f[1] and not f[3]],
        "logging": [logging.root.level, len(logging.root.handlers)],
        "numpy": [np.geterr(), np.get_printoptions()["precision"]], "random": hash(random.getstate()),
        "numpy_random": hash(np.random.get_state()[1].tobytes()),
        "torch": [str(torch.get_default_dtype()), str(torch.get_default_device()), torch.is_grad_enabled(),
                  torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
                  torch.is_autocast_enabled("cpu"), torch.initial_seed()],
        "pillow": [Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES], "timeout": socket.getdefaulttimeout(),
        "signals": [str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM)],
    }
"""
# Together where they do not hide each other; a process takes seconds.
CHANGED = (
    "torch.set_default_dtype(torch.float64); torch.autocast('cpu', torch.bfloat16).__enter__(); np.seterr(all='raise')",
    "torch.set_default_device('meta'); torch.set_grad_enabled(False); Image.MAX_IMAGE_PIXELS = 1000",
    "torch.use_deterministic_algorithms(True); warnings.simplefilter('error'); sys.stdout = None",
)


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", STATE + code], capture_output=True, text=True)


def test_nothing_of_the_process_is_changed():
    """On import, in use, and when a wing is imported."""
    done = run(
        """
before = state()
import facelib.training.landmark_data, facelib.evaluation.landmarks, facelib.datasets.sources
from facelib import FacePipeline, sample_photo
pipeline = FacePipeline.from_pretrained("retinaface", "cpu")
threads = [threading.Thread(target=FacePipeline.from_pretrained, args=("retinaface", "cpu")) for _ in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
assert len(pipeline(sample_photo())) == 6
after = state()
print(json.dumps({key: [before[key], after[key]] for key in before if before[key] != after[key]}, default=str))
"""
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == {}


@pytest.mark.parametrize("settings", CHANGED)
def test_what_the_program_has_set_breaks_nothing(settings, pipeline, photo, tmp_path):
    reference = np.stack([face.embedding for face in pipeline(photo)])
    done = run(
        f"""
from facelib import FacePipeline, sample_photo
import pickle
{settings}
faces = FacePipeline.from_pretrained("retinaface", "cpu")(sample_photo())
with open({str(tmp_path / "faces.pkl")!r}, "wb") as file:
    pickle.dump([face.embedding for face in faces], file)
"""
    )
    assert done.returncode == 0, done.stderr[-2000:]
    vectors = np.stack(pickle.loads((tmp_path / "faces.pkl").read_bytes()))
    assert np.abs(vectors - reference).max() < 1e-4


def test_a_pickled_pipeline_loads_itself_anew_in_a_worker(pipeline, photo):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        (faces,) = pool.map(pipeline, [photo])
    for ours, theirs in zip(pipeline(photo), faces):
        assert np.abs(ours.embedding - theirs.embedding).max() < 1e-4
