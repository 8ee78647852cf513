"""One person's 33 landmarks and mask in a region: MediaPipe's networks by onnxruntime, without their graph.

What is done before and after the network is what MediaPipe's graph `PoseLandmarkByRoiCpu` does (its
`ImageToTensorCalculator`, `TensorsToLandmarksCalculator`, `RefineLandmarksFromHeatmapCalculator` and
`LandmarkProjectionCalculator`); the graph takes longer, for it always makes the mask as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, UInt8

from bodyfit.detect.networks.crops import crop, from_picture, to_picture, turned
from bodyfit.detect.networks.lift import MAPS, POOLED_MAP, LiftHead
from bodyfit.detect.networks.session import shipped_network
from bodyfit.detect.regions import Roi
from bodyfit.keypoints import Keypoints2D, SoftMask

__all__ = ["Landmarker", "Landmarks", "RegionOutputs", "keypoints_from", "same_person"]

_FILES = {"full": ("pose_landmarks", "pose_mask"), "heavy": ("pose_landmarks_heavy", "pose_mask_heavy")}
"""The networks of landmarks and masks by size."""
_LIMBS = range(11, 29)
"""Landmarks from the shoulders to the ankles."""
_APART = 0.05
"""Mean distance of limbs, in parts of the region, from which on two looks show them otherwise."""
_SIDE = 256
"""Of the network's input, pixels."""
_REACH = 3
"""A landmark moves to the middle of the heat so many pixels about it on the 64x64 map."""
_SURE = 0.5
"""The probability from which on there is a person, and that the heat about a landmark has to reach."""


@dataclass(frozen=True)
class Landmarks:
    """What the landmark network says of one region."""

    xy_px: Float[np.ndarray, "33 2"]
    """Pixels of the whole picture; points beyond its edge are extrapolated."""
    visibility: Float[np.ndarray, "33"]
    """Probability that the point is in view and not hidden."""
    presence: Float[np.ndarray, "33"]
    """Probability that the point is within the region."""
    world_m: Float[np.ndarray, "33 3"]
    """Metres from the middle of the hips: x right, y down, z away, of a camera that looks at the region's centre."""
    roi: Roi
    """The region that was looked at."""
    next_roi: Roi
    """The region that these landmarks suggest, for a second look."""
    mask: SoftMask | None = None
    """The person's pixels, if asked for."""
    world_scale_m: Float[np.ndarray, "33 2"] | None = None
    """Scales of the errors of `world_m` across the view and along it, metres (`Keypoints2D.lift_scale_m`); None for the
    landmark network's own lift."""


@dataclass(frozen=True)
class RegionOutputs:
    """What the network makes of a region."""

    points: Float32[np.ndarray, "39 5"]
    """x, y, depth (pixels of the input), logits of visibility and presence."""
    presence: float
    """Probability that there is a person."""
    xy: Float[np.ndarray, "39 2"]
    """The points in parts of the region's side, moved to the middle of the heat about them."""
    world: Float32[np.ndarray, "39 3"]
    """The network's lift: metres in the axes of the region."""
    maps: Mapping[str, Float32[np.ndarray, "1 C h w"]]
    """Maps of features by name, those that were asked for."""


class Landmarker:
    """The network, loaded. Safe to share between threads; each run takes one."""

    def __init__(
        self,
        size: Literal["full", "heavy"] = "full",
        *,
        masks: bool = False,
        lift: bool = False,
        maps: Sequence[str] = (),
    ) -> None:
        """The heavy network errs less and takes about four times as long. With `masks` each look also says which pixels
        are the person's. With `lift` the lift is made by what the picture shows about the landmarks (`LiftHead`), of
        maps of the full network, which looks beside the heavy one. `maps` are given by `outputs` as well."""
        landmarks, mask = _FILES[size]
        self._network = shipped_network(landmarks, 1)
        self._mask = shipped_network(mask, 1) if masks else None
        self._lift = LiftHead() if lift and size == "full" else None
        self._lifter = Landmarker("full", lift=True) if lift and size != "full" else None
        read = (*MAPS, POOLED_MAP) if self._lift is not None else ()
        needed = (*maps, *(("coarse", "fine") if masks else ()), *read)
        self._maps = tuple(dict.fromkeys(needed))

    def outputs(self, image: UInt8[np.ndarray, "H W 3"], roi: Roi) -> RegionOutputs | None:
        """Run the network on a region; None where it sees nobody there."""
        pixels = crop(image, roi, _SIDE)
        if pixels is None:
            return None
        names = ["points", "presence", "heat", "world", *self._maps]
        points, presence, heat, world, *maps = self._network.run(names, {"input": pixels})
        if presence.item() <= _SURE:
            return None
        points = points.reshape(39, 5)
        xy = _refined(points[:, :2] / _SIDE, heat[0])
        found = dict(zip(self._maps, maps, strict=True))
        return RegionOutputs(points, presence.item(), xy, world.reshape(39, 3), found)

    def landmarks(self, image: UInt8[np.ndarray, "H W 3"], roi: Roi) -> Landmarks | None:
        """The landmarks of the person in a region; None where the network sees nobody there."""
        seen = self.outputs(image, roi)
        if seen is None:
            return None
        xy = to_picture(seen.xy, roi)
        sure = 1 / (1 + np.exp(-seen.points[:33, 3:].astype(float)))
        world, scale = seen.world[:33], None
        if self._lift is not None:
            world, scale = self._lift(seen.points, seen.world, seen.xy, seen.maps)
        metres = turned(world.astype(float), roi)
        look = None if self._lifter is None else self._lifter.landmarks(image, roi)
        if look is not None and same_person(look.xy_px, xy[:33], roi.size):
            metres, scale = look.world_m, look.world_scale_m
        mask = None
        if self._mask is not None:
            (logits,) = self._mask.run(["mask"], {name: seen.maps[name] for name in ("coarse", "fine")})
            mask = _soft_mask(logits[0, :, :, 0], roi, (image.shape[1], image.shape[0]))
        # After the body's points come the middle of the hips and the top of the circle that holds the person.
        (cx, cy), (ex, ey) = xy[33:35].tolist()
        next_roi = Roi.from_body_circle((cx, cy), (ex, ey))
        return Landmarks(xy[:33], sure[:, 0], sure[:, 1], metres, roi, next_roi, mask, scale)


def same_person(one_px: Float[np.ndarray, "33 2"], other_px: Float[np.ndarray, "33 2"], side_px: float) -> bool:
    """Tell whether two networks see one person's limbs in the same places, and so the same way round."""
    apart = np.linalg.norm(one_px - other_px, axis=1)[list(_LIMBS)]
    return bool(apart.mean() < _APART * side_px)


def keypoints_from(
    landmarks: Landmarks, image_size: tuple[int, int], score: float, agreement: Float[np.ndarray, "33"]
) -> Keypoints2D:
    """Turn landmarks into keypoints of the layout mediapipe33.

    The confidence is the probability of being visible and within the region, times the agreement between looks, less
    for what lies beyond the picture's edge: none from a twentieth of the region outside. The lift of a point outside
    of the region is a guess, so NaN.
    """
    w, h = image_size
    xy = landmarks.xy_px
    outside = np.maximum(np.maximum(-xy, xy - (w, h)), 0).max(1)
    inside = np.clip(1 - outside / (0.05 * landmarks.roi.size), 0, 1)
    confidence = np.clip(landmarks.visibility * landmarks.presence * agreement * inside, 0, 1)
    present = landmarks.presence[:, None] >= 0.5
    lift, scale = np.where(present, landmarks.world_m, np.nan), landmarks.world_scale_m
    xyc = np.concatenate([xy, confidence[:, None]], 1).astype(np.float32)
    return Keypoints2D(
        "mediapipe33",
        xyc,
        lift.astype(np.float32),
        (landmarks.roi.x, landmarks.roi.y),
        min(1.0, max(0.0, score)),
        lift_scale_m=None if scale is None else np.where(present, scale, np.nan).astype(np.float32),
    )


def _refined(xy: Float[np.ndarray, "39 2"], heat: Float32[np.ndarray, "64 64 39"]) -> Float[np.ndarray, "39 2"]:
    """Landmarks in parts of the input, each moved to the middle of the heat about it where that is sure."""
    size = np.array(heat.shape[1::-1])
    at = (xy * size).astype(int)
    inside = ((at >= 0) & (at < size)).all(1)
    near = at[:, None] + np.arange(-_REACH, _REACH + 1)[:, None]  # (landmarks, along a side, x and y)
    there = (near >= 0) & (near < size)
    x, y = np.clip(near, 0, size - 1).transpose(2, 0, 1)
    warm = 1 / (1 + np.exp(-heat[y[:, :, None], x[:, None], np.arange(len(xy))[:, None, None]].astype(float)))
    warm *= there[:, :, None, 1] & there[:, None, :, 0]
    across, down = warm.sum(1), warm.sum(2)
    middle = np.stack([(across * x).sum(1), (down * y).sum(1)], 1) / (
        np.maximum(warm.sum((1, 2)), 1e-9)[:, None] * size
    )
    sure = inside & (warm.max((1, 2)) >= _SURE)
    return np.where(sure[:, None], middle, xy)


def _soft_mask(logits: Float32[np.ndarray, "256 256"], roi: Roi, image_size: tuple[int, int]) -> SoftMask:
    """The mask of a region at the picture's own resolution, within the box about the region; no person outside."""
    import cv2

    x0, y0, x1, y1 = roi.box(image_size)
    alpha = 255 / (1 + np.exp(-np.clip(logits, -30, 30)))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    whole = cv2.warpAffine(alpha, from_picture(roi, _SIDE, (x0, y0)), (x1 - x0, y1 - y0), flags=flags)
    return SoftMask(whole.round().astype(np.uint8), (x0, y0))
