"""The networks that ship with bodyfit, loaded by onnxruntime."""

from __future__ import annotations

from typing import Any

from bodyfit.body.assets import asset_path
from bodyfit.detect.threads import asked_threads
from bodyfit.errors import DetectorError

__all__ = ["shipped_network"]


def shipped_network(name: str, threads: int | None = None) -> Any:
    """An onnxruntime session of assets/detector/NAME.onnx, which threads may share.

    `threads` are those of one run; None asks OMP_NUM_THREADS, and without it takes a thread for each core.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise DetectorError(
            f"the detector movenet cannot import onnxruntime ({error}); install it with: pip install onnxruntime"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = asked_threads() if threads is None else threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores alone
    options.log_severity_level = 3
    path = str(asset_path("detector", f"{name}.onnx"))
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base
        raise DetectorError(f"onnxruntime {onnxruntime.__version__} cannot load {path}: {error}") from None
