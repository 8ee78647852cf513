"""The mask of one person by our own network: it sees the picture, the person's limbs, and those of others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, UInt8

from bodyfit.detect.networks.crops import averaged, from_picture
from bodyfit.detect.regions import Roi
from bodyfit.keypoints import SoftMask
from bodyfit.skeleton import layout_edges, layout_names

__all__ = ["CHANNELS", "SIDE", "around", "limbs_map", "network_input", "to_mask"]

SIDE = 192
"""Of the network's input and output, pixels."""
CHANNELS = 6
"""Red, green, blue, the person's limbs, other people's limbs, the coarse mask; all in [0, 1]."""
_MARGIN = 1.35
"""The region's side in parts of the longer side of the box about the keypoints, which end at eyes and ankles."""
_TRUNKS = 2.5
"""The region's least side in lengths of the trunk, where only that is visible."""
_VISIBLE = 0.2
"""Confidence from which on a keypoint is drawn."""
_THICK = 0.03
"""Of a limb, parts of the region's side."""

_COCO = layout_names("coco17")
_EDGES = np.array(layout_edges("coco17"))
_SHOULDERS = [_COCO.index("left_shoulder"), _COCO.index("right_shoulder")]
_HIPS = [_COCO.index("left_hip"), _COCO.index("right_hip")]


def around(xyc: Float[np.ndarray, "17 3"]) -> Roi | None:
    """The upright square in which the network looks at a person; None where fewer than two keypoints are visible."""
    at = xyc[xyc[:, 2] >= _VISIBLE, :2].astype(float)
    if len(at) < 2:
        return None
    low, high = at.min(0), at.max(0)
    trunk = float(np.linalg.norm(xyc[_SHOULDERS, :2].mean(0) - xyc[_HIPS, :2].mean(0)))
    side = max(_MARGIN * float((high - low).max()), _TRUNKS * trunk, 16.0)
    x, y = (low + high) / 2
    return Roi(float(x), float(y), side, 0.0)


def limbs_map(
    people: Sequence[Float[np.ndarray, "17 3"]], to_input: Float[np.ndarray, "2 3"]
) -> Float32[np.ndarray, "S S"]:
    """Draw people's limbs, soft lines as bright as their keypoints are sure; `to_input` maps pixels to the input's."""
    import cv2

    drawn = np.zeros((SIDE, SIDE), np.uint8)
    for xyc in people:
        xy = xyc[:, :2] @ to_input[:, :2].T + to_input[:, 2]
        sure = np.where(xyc[:, 2] >= _VISIBLE, xyc[:, 2], 0.0)
        lines = [(xy[a], xy[b], min(sure[a], sure[b])) for a, b in _EDGES]
        head = xy[0], xy[_SHOULDERS].mean(0), min(sure[0], *sure[_SHOULDERS])
        for start, stop, bright in sorted([*lines, head], key=lambda line: line[2]):
            if bright > 0 and max(np.abs(start).max(), np.abs(stop).max()) < 16 * SIDE:
                ends = [tuple(np.round(16 * end).astype(int).tolist()) for end in (start, stop)]
                cv2.line(drawn, *ends, int(255 * min(bright, 1.0)), round(_THICK * SIDE), cv2.LINE_AA, 4)
    return cv2.GaussianBlur(drawn, (0, 0), 0.012 * SIDE).astype(np.float32) / 255


def network_input(
    image: UInt8[np.ndarray, "H W 3"],
    roi: Roi,
    person: Float[np.ndarray, "17 3"],
    others: Sequence[Float[np.ndarray, "17 3"]],
    coarse: SoftMask | None = None,
) -> Float32[np.ndarray, "6 S S"]:
    """The input for one person in a region about them; `coarse` is the mask that the landmark network gives."""
    import cv2

    box = roi.box((image.shape[1], image.shape[0]))
    matrix = from_picture(roi, SIDE)
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    if box[2] > box[0] and box[3] > box[1]:
        part, factor = averaged(image, box, roi.size, SIDE)
        own = from_picture(roi, SIDE, (box[0], box[1])) @ np.diag([factor, factor, 1.0])
        pixels = cv2.warpAffine(part, own, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rough = np.zeros((SIDE, SIDE), np.float32)
    if coarse is not None and coarse.alpha.size:
        own = from_picture(roi, SIDE, coarse.corner_px)  # it is smooth, and need not be averaged
        alpha = np.ascontiguousarray(coarse.alpha)
        rough = cv2.warpAffine(alpha, own, (SIDE, SIDE), flags=cv2.INTER_LINEAR).astype(np.float32) / 255
    limbs = [limbs_map([person], matrix), limbs_map(others, matrix)]
    return np.concatenate([pixels.transpose(2, 0, 1).astype(np.float32) / 255, np.stack([*limbs, rough])])


def to_mask(logits: Float32[np.ndarray, "S S"], roi: Roi, image_size: tuple[int, int]) -> SoftMask:
    """The mask of a region at the picture's own resolution; nobody is outside of the region."""
    import cv2

    x0, y0, x1, y1 = roi.box(image_size)
    alpha = 255 / (1 + np.exp(-np.clip(logits, -30, 30)))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    whole = cv2.warpAffine(alpha, from_picture(roi, SIDE, (x0, y0)), (max(x1 - x0, 0), max(y1 - y0, 0)), flags=flags)
    return SoftMask(whole.round().astype(np.uint8), (x0, y0))
