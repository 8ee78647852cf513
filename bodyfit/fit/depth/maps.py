"""Depth maps as evidence: what users give, checked, as points in camera axes and as what the camera sees through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import maximum_filter, minimum_filter
from torch import Tensor

from bodyfit.errors import OptionError, ShapeError
from bodyfit.fit.silhouette.masks import PersonMask
from bodyfit.geometry.camera import CalibratedCamera, Camera
from bodyfit.geometry.cloud import PointCloud
from bodyfit.keypoints import SoftMask

__all__ = ["DepthEvidence", "DepthInput", "DepthView", "check_depth", "depth_points", "in_metres"]

_JUMP_M = 0.04
"""Depths differ by more than this where one surface hides another: pixels there are a mixture of both."""
_INWARD_M = {"hip": 0.09, "shoulder": 0.06, "knee": 0.05, "elbow": 0.04, "ankle": 0.04, "wrist": 0.025}
"""How far joints lie below the skin that a camera sees in front of them."""
_SURE = 0.5
"""Confidence from which on a keypoint is where its joint is seen."""
_LEAST_KEYPOINTS = 4
"""Keypoints on measured depth that place a body."""
_DEPTHS_M = (0.2, 12.0)


def in_metres(depth_m: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Set holes of a depth map (0, negative, not finite) to NaN.

    Raises `OptionError` where nothing is measured, and for depths of no unit that depth cameras have.
    """
    depth = np.where(np.isfinite(depth_m) & (depth_m > 0), depth_m, np.nan)
    if not np.isfinite(depth).any():
        raise OptionError("the depth map has no depth: all of it is 0 or not finite")
    middle = float(np.nanmedian(depth))
    if not _DEPTHS_M[0] <= middle <= 100:
        raise OptionError(
            f"half of the depths are beyond {middle:g} m; depth is in metres (16-bit PNG: millimetres), between"
            f" {_DEPTHS_M[0]} and {_DEPTHS_M[1]} m for people"
        )
    return depth


def depth_points(
    depth_m: Float[np.ndarray, "H W"],
    focal_px: float,
    principal_point_px: tuple[float, float],
    mask: Bool[np.ndarray, "h w"] | None = None,
) -> PointCloud:
    """Convert a depth map to points in camera axes, metres; 0 and NaN are holes.

    Pixels at jumps of the depth are left out. Raises `OptionError` for depths of no unit that depth cameras have, and
    `ShapeError` for a mask of another size.
    """
    depth = in_metres(depth_m)
    highest = maximum_filter(np.nan_to_num(depth, nan=-np.inf), 3)
    lowest = minimum_filter(np.nan_to_num(depth, nan=np.inf), 3)
    good = np.isfinite(depth) & (highest - lowest < _JUMP_M) & (depth > _DEPTHS_M[0]) & (depth < _DEPTHS_M[1])
    if mask is not None:
        if mask.shape != depth.shape:
            raise ShapeError(f"mask must have the size of the depth map, {depth.shape}, got {mask.shape}")
        good &= mask
    y, x = np.nonzero(good)
    z = depth[y, x]
    (cx, cy), f = principal_point_px, focal_px
    return PointCloud(np.stack([(x + 0.5 - cx) * z / f, (y + 0.5 - cy) * z / f, z], 1))


@dataclass(frozen=True, eq=False)
class DepthView:
    """The depth map of one person's picture."""

    depth_m: Float[np.ndarray, "H W"]
    """Metres along the optical axis; NaN in holes."""
    focal_px: float
    principal_point_px: tuple[float, float]
    mask: Bool[np.ndarray, "H W"] | None = None
    """Pixels of the person; None where they are not known."""

    def cloud(self) -> PointCloud:
        """Convert to the points that may be the person's, metres, in camera axes."""
        return depth_points(self.depth_m, self.focal_px, self.principal_point_px, self.mask)

    def pixels(self, points_m: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
        """Project points, pixels."""
        z = np.maximum(points_m[:, 2:], 1e-6)
        return self.focal_px * points_m[:, :2] / z + np.array(self.principal_point_px)

    def measured(self, xy_px: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N"]:
        """Look the depth up at pixels, metres; NaN in holes and beyond the picture."""
        height, width = self.depth_m.shape
        column, row = np.floor(np.nan_to_num(xy_px, nan=-1.0)).clip(-1, max(height, width)).astype(np.int64).T
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found = self.depth_m[row.clip(0, height - 1), column.clip(0, width - 1)]
        return np.where(inside, found, np.nan)

    def keypoints(self, xyc: Float[np.ndarray, "K 3"], names: Sequence[str]) -> Float[np.ndarray, "K 3"]:
        """Place the keypoints of joints that lie on measured depth, a little below the skin, metres; NaN for others.

        All are NaN where they are too few to place a body.
        """
        (cx, cy), f = self.principal_point_px, self.focal_px
        points = np.full((len(names), 3), np.nan)
        for row, (name, (x, y, confidence)) in enumerate(zip(names, xyc, strict=True)):
            inward = next((value for part, value in _INWARD_M.items() if name.endswith(part)), None)
            if inward is None or not confidence >= _SURE or not np.isfinite((x, y)).all():
                continue
            column, line = int(np.floor(x)), int(np.floor(y))
            patch = self.depth_m[max(line - 2, 0) : max(line + 3, 0), max(column - 2, 0) : max(column + 3, 0)]
            patch = patch[np.isfinite(patch)]
            if len(patch) >= 5 and np.ptp(patch) < 2 * _JUMP_M:
                z = float(np.median(patch)) + inward
                points[row] = ((x - cx) * z / f, (y - cy) * z / f, z)
        if np.isfinite(points).all(1).sum() < _LEAST_KEYPOINTS:
            points[:] = np.nan
        return points


DepthInput: TypeAlias = DepthView | Tensor | np.ndarray | None
"""The depth map of one person's picture, (H, W) metres along the optical axis, of the evidence's camera; 0 or NaN is a
hole; or a map with its camera and the person's pixels; None without one."""


@dataclass(frozen=True)
class DepthEvidence:
    """Checked depth maps of B people."""

    views: tuple[DepthView | None, ...]
    """None for whom there is none."""

    def __len__(self) -> int:
        return len(self.views)

    def select(self, rows: Tensor) -> DepthEvidence:
        """Select people by index or mask."""
        index = (rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows).tolist()
        return DepthEvidence(tuple(self.views[i] for i in index))

    def keypoints(self, xyc: Float[Tensor, "B K 3"], names: Sequence[str]) -> Float[Tensor, "B K 3"]:
        """Place each person's keypoints (`DepthView.keypoints`)."""
        values = xyc.cpu().double().numpy()
        none = np.full((len(names), 3), np.nan)
        points = [none if v is None else v.keypoints(k, names) for v, k in zip(self.views, values, strict=True)]
        return torch.as_tensor(np.stack(points)).to(xyc) if points else xyc.new_zeros(0, len(names), 3)


def check_depth(
    depth: Any, masks: Any, camera: Camera, cameras: Sequence[CalibratedCamera] | None, batch: int
) -> DepthEvidence:
    """Check the depth maps of B people (`Evidence.depth`), whose masks tell which pixels are theirs.

    Raises `ShapeError` and `OptionError`.
    """
    if cameras is not None:
        raise OptionError("depth is of one camera's picture: give its image_size and focal_px in place of cameras")
    if not camera.has_picture:
        raise OptionError("depth is of a picture: give its image_size")
    if len(depth) != batch:
        raise ShapeError(f"depth must have one map a person, {batch}, got {len(depth)}; None for whom there is none")
    views = []
    for b in range(batch):
        mask = None if masks is None else masks[b]
        views.append(None if depth[b] is None else _view(depth[b], mask, camera, b))
    return DepthEvidence(tuple(views))


def _view(depth: Any, mask: Any, camera: Camera, person: int) -> DepthView:
    """Check one map. Raises `ShapeError` and `OptionError`."""
    if isinstance(depth, DepthView):
        return depth
    values = depth.detach().cpu().numpy() if isinstance(depth, Tensor) else np.asarray(depth)
    size = camera.image_size
    if values.ndim != 2 or values.dtype.kind not in "fiu" or values.shape != size[::-1]:
        raise ShapeError(
            f"a depth map must be as large as the picture, ({size[1]}, {size[0]}), in metres, got {values.dtype}"
            f" {values.shape}"
        )
    values = in_metres(values.astype(np.float32))
    centre = camera.principal_point_px[person].tolist()
    return DepthView(values, float(camera.focal_px[person]), (centre[0], centre[1]), _pixels(mask, values.shape))


def _pixels(mask: Any, shape: tuple[int, ...]) -> Bool[np.ndarray, "H W"] | None:
    """Return the pixels of a mask that has some; None for others, of outlines, say."""
    if isinstance(mask, PersonMask):
        mask = mask.mask
    if isinstance(mask, SoftMask):
        return mask.full((shape[1], shape[0])) > 127
    if not isinstance(mask, Tensor | np.ndarray):
        return None
    values = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else mask
    return values > 127 if values.dtype == np.uint8 else values > 0.5
