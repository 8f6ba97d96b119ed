"""ONNX Runtime sends usage events to its makers unless a variable of the environment forbids it before its import."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from types import ModuleType

logger = logging.getLogger(__name__)

TELEMETRY_VARIABLE = "ORT_DISABLE_TELEMETRY"  # ONNX Runtime reads it while it is imported
_is_imported = False  # whether `import_onnxruntime` has been called, so that its warning is logged once


def import_onnxruntime() -> ModuleType:
    """The module `onnxruntime`, imported at first use with its telemetry disabled.

    Disabling it later is too late: where somebody else has imported the module, a warning is logged, once.
    """
    global _is_imported
    if not _is_imported and "onnxruntime" in sys.modules and os.environ.get(TELEMETRY_VARIABLE) != "1":
        logger.warning(
            "onnxruntime was imported before facelib, and may send usage data to its makers: load facelib's networks "
            f"first, or set {TELEMETRY_VARIABLE}=1 before Python starts"
        )
    _is_imported = True
    with telemetry_disabled():
        import onnxruntime
    return onnxruntime


@contextlib.contextmanager
def telemetry_disabled() -> Iterator[None]:
    """Context manager to import ONNX Runtime in, or a package that imports it, without its usage events.

    The environment is as before afterwards: insightface would leave the variable set.
    """
    before = os.environ.get(TELEMETRY_VARIABLE)
    os.environ[TELEMETRY_VARIABLE] = "1"
    try:
        yield
    finally:
        os.environ.pop(TELEMETRY_VARIABLE, None)
        if before is not None:
            os.environ[TELEMETRY_VARIABLE] = before
