"""A body in motion from points measured in 3D: markers of motion capture, or triangulated keypoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.body.points.posed import Points, pose_tree
from bodyfit.errors import OptionError
from bodyfit.fit.config import FitConfig
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.result import FitResult, FitStatus, join
from bodyfit.fit.sequence.continuity import between, unwrapped
from bodyfit.fit.sequence.track import Track
from bodyfit.io.points3d import BodyPoints, Points3D
from bodyfit.skeleton import correspondence

__all__ = ["fit_points3d", "marker_error_m"]

_SHAPE_FRAMES = 64
"""Frames, spread over the motion, whose median the shape is."""
_POINTS = 2.0
"""Weight of a centimetre from a measured point: more makes up for other definitions of joints with odd shapes."""
_TO_CAMERA = np.array((1.0, -1.0, -1.0))
"""From y up to a camera's axes."""


def fit_points3d(
    points: Points3D | BodyPoints,
    *,
    fps: float | None = None,
    model: BodyModel | None = None,
    config: FitConfig | None = None,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Track:
    """The body that moves as measured points do: one shape, a pose a frame.

    points: what `load_points3d` read, or points of a layout with `fps`. The shape is the median of fits of frames
    spread over the motion; with it each frame is fitted on its own, then again from what was found for the one before,
    which also holds what no point tells (twists, the head). Frames with too few points between others are filled by the
    motion (`seen` is False), those before the first and after the last are left out. The result is in camera axes (x
    right, y down, z forward) and metres. config: by default `FitConfig()` with `points=2`, half a centimetre.
    Raises `OptionError` where no frame can be fitted, and `KeypointFileError` for markers that are not understood.
    """
    body = points.keypoints() if isinstance(points, Points3D) else points
    times, fps = (points.times_s, points.fps) if isinstance(points, Points3D) else _clock(len(body.xyz_m), fps)
    # Points in space leave no doubt of sides or of what lies behind what.
    config = replace(_exact() if config is None else config, uncertainty=False, swaps=False, components=False)
    fitter = Fitter(layout=body.layout, model=model, config=config, device=device)
    xyz = torch.from_numpy(body.xyz_m * _TO_CAMERA).to(fitter.model.v_template)
    enough = (torch.isfinite(xyz).all(2).sum(1) >= config.min_keypoints).nonzero()[:, 0]
    if len(enough) == 0:
        raise OptionError(f"no frame has {config.min_keypoints} points of a body, which a fit needs")
    rows = torch.arange(int(enough[0]), int(enough[-1]) + 1, device=xyz.device)
    steps = _Steps(fitter, xyz[rows], progress)
    betas = steps.shape()
    filled, result = steps.poses(betas, None)
    filled, result = steps.poses(betas, result.params)
    frames = rows.cpu().numpy()
    return Track(0, frames, times[frames], fps, ~filled.cpu().numpy(), result)


def marker_error_m(points: Points3D | BodyPoints, track: Track, model: BodyModel) -> Float[np.ndarray, "K"]:
    """How far measured keypoints are from the body's own, root mean square over the frames; NaN where there is none."""
    body = points.keypoints() if isinstance(points, Points3D) else points
    places = Points(model, correspondence(body.layout))
    params = track.result.params
    with torch.no_grad():
        tree = pose_tree(model, params.betas, model.full_pose(params)[:, : model.body_joints])
        ours = (places.place(tree, params.betas).positions + params.transl[:, None]).cpu().numpy()
    off = ours - body.xyz_m[track.frames] * _TO_CAMERA
    off[:, ~np.array(places.known)] = np.nan
    square = (off**2).sum(2)
    count = np.isfinite(square).sum(0)
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.nansum(square, 0) / count)


@dataclass(frozen=True)
class _Steps:
    """The fits of a motion, one after the other."""

    fitter: Fitter
    xyz: Float[Tensor, "T K 3"]
    """Camera axes, metres, NaN where there is none."""
    progress: Callable[[int, int], None] | None

    def shape(self) -> Float[Tensor, "S"]:
        """The median of the betas of frames spread over the motion, of those that show most."""
        visible = torch.isfinite(self.xyz).all(2).sum(1)
        often = (visible >= max(self.fitter.config.min_keypoints, int(visible.max()) - 2)).nonzero()[:, 0]
        some = often[torch.linspace(0, len(often) - 1, min(len(often), _SHAPE_FRAMES)).round().long()]
        alone = self.fitter(points3d=self.xyz[some])
        good = torch.isfinite(alone.params.betas).all(1)
        if not good.any():
            raise OptionError("no frame of these points can be fitted with a body")
        return alone.params.betas[good].median(0).values

    def poses(self, betas: Float[Tensor, "S"], guess: BodyParams | None) -> tuple[Bool[Tensor, "T"], FitResult]:
        """Every frame with this shape, near to what `guess` has for its neighbours; and which are filled."""
        parts, n, size = [], len(self.xyz), self.fitter.config.batch_size
        for start in range(0, n, size):
            rows = torch.arange(start, min(start + size, n), device=self.xyz.device)
            near = None if guess is None else guess.select((rows - 1).clamp_min(0))
            parts.append(self.fitter(points3d=self.xyz[rows], betas=betas, previous=near))
            if self.progress is not None:
                self.progress(len(rows) + start + (0 if guess is None else n), 2 * n)
        return self._filled(join(parts))

    def _filled(self, result: FitResult) -> tuple[Bool[Tensor, "T"], FitResult]:
        """The frames that could not be fitted from those before and after."""
        p = result.params
        layout = self.fitter.variables
        x = layout.pack(p)
        good = torch.isfinite(x).all(1) & torch.tensor([s.ok for s in result.status], device=x.device)
        at, rows = good.nonzero()[:, 0], torch.arange(len(x), device=x.device)
        if len(at) == 0:
            raise OptionError("no frame of these points can be fitted with a body")
        x = torch.where(good[:, None], x, between(x[at], at, rows, layout))
        turned = layout["global_orient"]
        x[:, turned] = unwrapped(x[:, None, turned])[:, 0]
        model, betas = self.fitter.model, p.betas[at[:1]].expand(len(x), -1)
        params = model.params(**{**layout.params(x), "betas": betas})
        status = tuple(s if ok else FitStatus.FILLED for s, ok in zip(result.status, good.tolist(), strict=True))
        joints = torch.cat([model.joints(params.select(some)) for some in rows.split(1024)])
        return ~good, replace(result, params=params, status=status, joints=joints)


def _exact() -> FitConfig:
    """Settings for points that are off by half a centimetre, not the two that triangulated keypoints are."""
    config = FitConfig()
    return replace(config, stages=tuple(replace(stage, points=_POINTS) for stage in config.stages))


def _clock(frames: int, fps: float | None) -> tuple[Float[np.ndarray, "T"], float]:
    if fps is None or not (np.isfinite(fps) and fps > 0):
        raise OptionError(f"fps must be the frames a second of the points, a positive number, got {fps}")
    return np.arange(frames) / fps, fps
