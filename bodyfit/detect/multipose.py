"""MoveNet MultiPose Lightning: up to 24 people and their 17 keypoints in one pass, by onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.body.assets import asset_path
from bodyfit.detect.regions import Box
from bodyfit.detect.threads import asked_threads
from bodyfit.errors import DetectorError

__all__ = ["Multipose", "Proposal"]

_STRIDE = 32
"""Sides of the input are multiples of it."""


@dataclass(frozen=True)
class Proposal:
    """A person that MoveNet sees."""

    xyc: Float[np.ndarray, "17 3"]
    """COCO's keypoints, pixels of the whole picture and confidence; hidden ones are guessed, with low confidence."""
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1, pixels."""
    score: float
    """In [0, 1]."""
    zoom: float
    """Pixels of the network's input for one of the picture: how closely was looked."""
    looks: int = 1
    """How many looks at the picture saw this person."""
    cut: bool = False
    """Whether the look ended at the person, who may go on beyond."""

    @property
    def height_px(self) -> float:
        """The longer side of the box, pixels of the picture; at least 1."""
        return max(1.0, self.box[2] - self.box[0], self.box[3] - self.box[1])


class Multipose:
    """The network, loaded. Safe to share between threads.

    `threads` are those of one pass; None asks OMP_NUM_THREADS, and without it takes a thread for each core.
    """

    def __init__(self, threads: int | None = None) -> None:
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
        path = str(asset_path("detector", "movenet_multipose.onnx"))
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no base
            raise DetectorError(f"onnxruntime {onnxruntime.__version__} cannot load {path}: {error}") from None

    def people(self, image: UInt8[np.ndarray, "H W 3"], box: Box, side_px: int) -> list[Proposal]:
        """Who is in a box of the picture, shown to the network with its longer side `side_px` long; best first."""
        from PIL import Image

        x0, y0, x1, y1 = box
        zoom = side_px / max(x1 - x0, y1 - y0)
        w, h = (max(1, round(zoom * n)) for n in (x1 - x0, y1 - y0))
        part = Image.fromarray(np.ascontiguousarray(image[y0:y1, x0:x1])).resize((w, h), Image.Resampling.BILINEAR)
        padded = np.zeros((1, *(-(-n // _STRIDE) * _STRIDE for n in (h, w)), 3), np.int32)
        padded[0, :h, :w] = np.asarray(part)
        (rows,) = np.asarray(self._session.run(None, {"input": padded})[0])
        # Places are parts of the padded sides.
        back = np.array([padded.shape[2] * (x1 - x0) / w, padded.shape[1] * (y1 - y0) / h])
        found = []
        for row in rows:
            yxc = row[:51].reshape(17, 3)
            xyc = np.concatenate([yxc[:, 1::-1] * back + (x0, y0), yxc[:, 2:]], 1)
            ymin, xmin, ymax, xmax, score = (float(v) for v in row[51:])
            left, top, right, bottom = (
                np.array((xmin, ymin, xmax, ymax)) * np.tile(back, 2) + (x0, y0, x0, y0)
            ).tolist()
            found.append(Proposal(xyc, (left, top, right, bottom), score, zoom))
        return sorted(found, key=lambda person: -person.score)
