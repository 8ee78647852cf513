"""RTMPose and RTMW (Jiang et al. 2023) as ONNX files, run by onnxruntime on the boxes that another detector finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8

from bodyfit.detect.base import Detector
from bodyfit.detect.networks.session import Network, import_onnxruntime
from bodyfit.detect.topdown import BoxFinder, layout_of, person_from
from bodyfit.errors import DetectorError
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D

__all__ = ["RtmposeDetector"]

# Of RGB from 0 to 255, by the configuration of every RTMPose model.
_MEAN = np.array((123.675, 116.28, 103.53), np.float32)
_STD = np.array((58.395, 57.12, 57.375), np.float32)
_ROOM = 1.25
"""The crop's side over the box's."""
_MODELS = {
    "lightweight": ("BodyWithFeet", "lightweight"),
    "balanced": ("BodyWithFeet", "balanced"),
    "performance": ("BodyWithFeet", "performance"),
    "wholebody": ("Wholebody", "balanced"),
}
"""Where rtmlib has the addresses of its models: the class and the mode."""
_WHERE = "OpenMMLab's RTMPose page links zips with such a file, end2end.onnx: detector='rtmpose:PATH/end2end.onnx'"


class RtmposeDetector:
    """Top-down keypoints by a SimCC network: for each person one distribution over x and one over y a keypoint."""

    def __init__(
        self, weights: str | Path | None = None, *, boxes: Detector | None = None, max_people: int | None = None
    ) -> None:
        """`weights` is the path of an ONNX file, or one of rtmlib's models, which it downloads: "lightweight",
        "balanced" (None means it) or "performance", of 26 keypoints, or "wholebody" of 133. `boxes` finds the people,
        by default bodyfit's own detector. Raises `DetectorError`.
        """
        self._name = str(weights or "balanced")
        path = Path(self._name) if self._name.endswith(".onnx") else _downloaded(self._name)
        self._network = _network(path)
        (entry, *others), outputs = self._network.inputs, self._network.outputs
        size = entry.shape[-2:]
        if others or len(entry.shape) != 4 or len(outputs) != 2 or not all(type(side) is int for side in size):
            raise DetectorError(f"{path}: not an RTMPose network, which takes (N, 3, H, W) and gives x and y; {_WHERE}")
        self._path, self._input, self._one_by_one = path, entry.name, type(entry.shape[0]) is int
        self._size = int(size[1]), int(size[0])
        self._boxes = BoxFinder(boxes, max_people=max_people)

    def detect(self, frames: Sequence[Frame]) -> list[list[Keypoints2D]]:
        """One list a frame with one entry a person, in the order of the boxes; no lift."""
        return [self._people(frame.image, found) for frame, found in zip(frames, self._boxes(frames), strict=True)]

    def _people(
        self, image: UInt8[np.ndarray, "H W 3"], found: list[tuple[Float[np.ndarray, "4"], float]]
    ) -> list[Keypoints2D]:
        if not found:
            return []
        windows = [_window(box, self._size) for box, _ in found]
        crops = np.stack([_crop(image, window, self._size) for window in windows])
        x, y = self._run(crops)
        people = []
        for i, ((box, score), (corner, scale)) in enumerate(zip(found, windows, strict=True)):
            # A bin's place in the crop, whose pixels and the picture's are counted alike, from the middle of the first.
            at = np.stack([x[i].argmax(1) * self._size[0] / x.shape[2], y[i].argmax(1) * self._size[1] / y.shape[2]], 1)
            sure = np.minimum(x[i].max(1), y[i].max(1))
            people.append(person_from(layout_of(x.shape[1], str(self._path)), corner + at * scale, sure, box, score))
        return people

    def _run(self, crops: Float32[np.ndarray, "N 3 h w"]) -> tuple[np.ndarray, np.ndarray]:
        """(N, K, bins) over x and over y."""
        batches = [crops[i : i + 1] for i in range(len(crops))] if self._one_by_one else [crops]
        outputs = [self._network.run(None, {self._input: batch}) for batch in batches]
        x, y = (np.concatenate(part) for part in zip(*outputs, strict=True))
        if x.ndim != 3 or x.shape[:2] != y.shape[:2] or len(x) != len(crops):
            raise DetectorError(f"{self._path}: not an RTMPose network, it gives {x.shape} and {y.shape}; {_WHERE}")
        return x, y


def _window(box: Float[np.ndarray, "4"], size: tuple[int, int]) -> tuple[Float[np.ndarray, "2"], float]:
    """The first pixel's middle, and picture pixels a pixel, of the crop about a box, in COCO's pixels."""
    centre = (box[:2] + box[2:]) / 2 - 0.5
    scale = max(1e-3, _ROOM * float(max((box[2:] - box[:2]) / size)))
    return centre - scale * np.array(size) / 2, scale


def _crop(
    image: UInt8[np.ndarray, "H W 3"], window: tuple[Float[np.ndarray, "2"], float], size: tuple[int, int]
) -> Float32[np.ndarray, "3 h w"]:
    """The window of the picture at the network's size, normalised; black beyond the picture's edge."""
    import cv2

    (x, y), scale = window
    to_picture = np.array([[scale, 0, x], [0, scale, y]])
    crop = cv2.warpAffine(image, to_picture, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return ((crop.astype(np.float32) - _MEAN) / _STD).transpose(2, 0, 1)


def _network(path: Path) -> Network:
    if not path.is_file():
        raise DetectorError(f"{path} is no file; {_WHERE}")
    try:
        return Network(path, providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    except DetectorError as error:
        raise DetectorError(f"{error}; {_WHERE}") from None


def _downloaded(name: str) -> Path:
    """One of rtmlib's models, from its cache or its server."""
    if name not in _MODELS:
        raise DetectorError(f"rtmpose takes the path of an .onnx file or one of {', '.join(_MODELS)}, got {name!r}")
    import_onnxruntime()  # before rtmlib does, with its telemetry on
    try:
        import rtmlib  # pyright: ignore[reportMissingImports]
        from rtmlib.tools.file import download_checkpoint  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DetectorError(
            f"rtmpose without a file needs rtmlib to fetch one: pip install 'bodyfit[rtmpose]'; or {_WHERE}"
        ) from None
    kind, mode = _MODELS[name]
    url = getattr(rtmlib, kind).MODE[mode]["pose"]
    try:
        return Path(download_checkpoint(url))
    except Exception as error:  # of the network, the disk or the archive
        raise DetectorError(f"rtmpose cannot fetch its weights from {url} ({error}); offline, {_WHERE}") from error
