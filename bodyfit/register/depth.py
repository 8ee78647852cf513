"""Bodies in the frame of a depth camera: from a fit to keypoints to one that lies on the measured surface."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import maximum_filter, minimum_filter
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError, ShapeError
from bodyfit.fit.config import FitConfig
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.observations import Observations
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.geometry.mesh_tree import MeshTree
from bodyfit.register.cloud import PointCloud, estimated_normals, thinned
from bodyfit.register.descent import LEVELS, ScanFitter
from bodyfit.skeleton import layout_names, mirrored_rows

__all__ = ["DepthFitter", "depth_points"]

_JUMP_M = 0.04
"""Depths differ by more than this where one surface hides another: pixels there are a mixture of both."""
_POINTS = 12_000
_NEIGHBOURS = 48
_GATE_M, _GATE_MASKED_M = 0.12, 0.3
"""Points farther than this from the body of the keypoints are not its own; with a mask the second."""
_LEAST_POINTS = 300
_INWARD_M = {"hip": 0.09, "shoulder": 0.06, "knee": 0.05, "elbow": 0.04, "ankle": 0.04, "wrist": 0.025}
"""How far joints lie below the skin that a camera sees in front of them."""
_FAR_M, _LEAST_EXPLAINED = 0.03, 0.85
"""Points are explained within this distance of the body; fits that explain less than this share of them are poor."""
_DEPTHS_M = (0.2, 12.0)


def depth_points(
    depth_m: Float[np.ndarray, "H W"],
    focal_px: float,
    principal_point_px: tuple[float, float],
    mask: Bool[np.ndarray, "h w"] | None = None,
) -> PointCloud:
    """Convert a depth map to points in camera axes, metres, with normals towards the camera; 0 and NaN are holes.

    Pixels at jumps of the depth are left out. Raises `OptionError` for depths of no unit that depth cameras have.
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
    points = np.stack([(x + 0.5 - cx) * z / f, (y + 0.5 - cy) * z / f, z], 1)
    return PointCloud(points)


class DepthFitter:
    """Fitter of bodies to keypoints and depth, for one model and layout."""

    def __init__(self, model: BodyModel, layout: str) -> None:
        config = FitConfig(uncertainty=False, quality=False)
        self.fitter = Fitter(layout=layout, model=model, config=config)
        self.scans = ScanFitter(model, layout=layout)
        self.model, self.layout = model, layout

    @torch.no_grad()
    def __call__(
        self, result: FitResult, depth_m: Float[np.ndarray, "H W"], mask: Bool[np.ndarray, "h w"] | None = None
    ) -> FitResult:
        """Fit one person to a depth map of the picture's own camera and size; metres, 0 or NaN for holes.

        result: the fit to the picture's keypoints. mask: pixels of the person; without, points near the fit are taken.
        The status is `poor` if too few points are the person's. Raises `OptionError` and `ShapeError`.
        """
        width, height = result.camera.image_size
        if depth_m.shape != (height, width):
            raise ShapeError(f"the depth map must be of the picture's size, {(height, width)}, got {depth_m.shape}")
        if not result.status[0].ok:
            return result
        focal, centre = float(result.camera.focal_px[0]), tuple(result.camera.principal_point_px[0].tolist())
        cloud = depth_points(depth_m, focal, centre, mask)
        placed = self._placed(result, depth_m, focal, centre)
        person = self._own(cloud, placed, _GATE_M if mask is None else _GATE_MASKED_M)
        if len(person) < _LEAST_POINTS:
            reason = f"only {len(person)} points of the depth map are the person's"
            return replace(result, status=(FitStatus.POOR,), reason=(reason,))
        x, explained = self._descended(placed, person)
        if explained < _LEAST_EXPLAINED:  # the detector may have taken a back for a front
            rows = mirrored_rows(layout_names(self.layout))
            other = replace(result, keypoints=result.keypoints[:, rows])
            placed = self._placed(other, depth_m, focal, centre, always=True)
            y, better = self._descended(placed, self._own(cloud, placed, _GATE_M if mask is None else _GATE_MASKED_M))
            if better > explained + 0.05:
                x, explained = y, better
        params = self.model.params(**(dict(result.params) | dict(self.scans.layout.params(x))))
        found = _with(result, params, self.model, self.layout)
        if explained < _LEAST_EXPLAINED:
            share = 100 * (1 - explained)
            reason = f"{share:.0f} % of the person's depth lies more than {100 * _FAR_M:.0f} cm from the body"
            return replace(found, status=(FitStatus.POOR,), reason=(reason,))
        return found

    def _descended(self, placed: FitResult, person: PointCloud) -> tuple[Float[Tensor, "1 D"], float]:
        """Fit to points and keypoints; return the variables and the share of the points that they explain."""
        x = self.scans.layout.pack(placed.params)
        if len(person) < _LEAST_POINTS:
            return x, 0.0
        x, _ = self.scans.descend(x, person, LEVELS[1:3], keypoints=self._keypoints(placed))
        vertices = self.model(**self.scans.layout.params(x)).vertices[0].double().numpy()
        away = MeshTree(vertices, self.model.faces.numpy()).nearest(person.points).distance
        return x, float((away < _FAR_M).mean())

    def _placed(
        self,
        result: FitResult,
        depth_m: Float[np.ndarray, "H W"],
        focal: float,
        centre: tuple[float, float],
        *,
        always: bool = False,
    ) -> FitResult:
        """Fit again to the keypoints and to those on measured depth as points, if they are four, or `always`."""
        xyc = result.keypoints[0].double().cpu().numpy()
        names = layout_names(self.layout)
        points = np.full((len(names), 3), np.nan)
        for row, (name, (x, y, confidence)) in enumerate(zip(names, xyc, strict=True)):
            inward = next((value for part, value in _INWARD_M.items() if name.endswith(part)), None)
            if inward is None or confidence < 0.5:
                continue
            column, line = int(np.floor(x)), int(np.floor(y))
            patch = depth_m[max(line - 2, 0) : line + 3, max(column - 2, 0) : column + 3]
            patch = patch[np.isfinite(patch) & (patch > 0)]
            if len(patch) >= 5 and np.ptp(patch) < 2 * _JUMP_M:
                z = float(np.median(patch)) + inward
                points[row] = ((x - centre[0]) * z / focal, (y - centre[1]) * z / focal, z)
        if np.isfinite(points).all(1).sum() < 4 and not always:
            return result
        evidence = Evidence(
            keypoints=result.keypoints,
            layout=self.layout,
            image_size=result.camera.image_size,
            focal_px=result.camera.focal_px,
            principal_point_px=result.camera.principal_point_px,
            points3d=points[None],
        )
        found = self.fitter.fit(evidence)
        return found if found.status[0].ok else result

    def _own(self, cloud: PointCloud, placed: FitResult, gate_m: float) -> PointCloud:
        """Select and thin the person's points, and estimate normals towards the camera."""
        points = cloud.points
        low, high = placed.joints[0].amin(0).numpy() - 0.5, placed.joints[0].amax(0).numpy() + 0.5
        points = points[((points > low) & (points < high)).all(1)]
        if len(points) < _LEAST_POINTS:
            return PointCloud(points)
        chosen = points[thinned(points, _POINTS)]
        vertices = self.model(**placed.params).vertices[0].double().numpy()
        away = MeshTree(vertices, self.model.faces.numpy()).nearest(chosen).distance
        chosen = chosen[away < gate_m]
        if len(chosen) < _LEAST_POINTS:
            return PointCloud(chosen)
        normals = estimated_normals(points, chosen, neighbours=_NEIGHBOURS)
        normals = normals * -np.sign((normals * chosen).sum(1, keepdims=True))
        return PointCloud(chosen, normals)

    def _keypoints(self, placed: FitResult) -> Observations:
        """Make the observations of the keypoints, in centimetres at the body's distance."""
        evidence = Evidence(
            keypoints=placed.keypoints,
            layout=self.layout,
            image_size=placed.camera.image_size,
            focal_px=placed.camera.focal_px,
            principal_point_px=placed.camera.principal_point_px,
        )
        checked, _, present = self.fitter.checked(evidence)
        observer = self.fitter.observer
        observed = observer.observations(checked, present)
        return replace(observed, scale_cm=observer.scale_cm(placed.joints[:, :1, 2], checked))


def _with(result: FitResult, params: BodyParams, model: BodyModel, layout: str) -> FitResult:
    """Return a result with other parameters; what was computed from the old ones is computed anew or left out."""
    points = model.keypoints(params, layout)
    xy: Tensor = result.camera.project(torch.nan_to_num(points))
    sure = (result.keypoints[..., 2] >= 0.5) & torch.isfinite(points).all(2)
    error = (xy - result.keypoints[..., :2]).norm(dim=2)
    mean = torch.where(sure, error, 0).sum(1) / sure.sum(1)
    return replace(
        result,
        params=params,
        joints=model.joints(params),
        reprojection_error_px=mean,
        covariance=None,
        joints_sd_m=None,
        joints_sd_rel_m=None,
    )
