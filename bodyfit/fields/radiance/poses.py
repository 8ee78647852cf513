"""Refine the poses of frames so that the field agrees with their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError
from bodyfit.fields.casting.canonical import PosedBody, pose_bodies
from bodyfit.fields.casting.cast import cast_rays
from bodyfit.fields.casting.samples import RaySamples
from bodyfit.fields.casting.warp import pose_surrogate
from bodyfit.fields.radiance.field import RadianceField
from bodyfit.fields.radiance.pose_joints import PoseJoints
from bodyfit.fields.radiance.views import View, body_rays, camera_numbers
from bodyfit.runtime.parallel import run

__all__ = ["PoseConfig", "field_loss", "frame_loss", "refine_poses"]

_TURNED = ("global_orient", "body_pose")
_MOVED = (*_TURNED, "transl")
_JOBS = 2
_LEAST_THROUGH = 1e-3
_GREY = 0.5
_VOXEL_M = 0.02
"""Voxels of the volume here are at least so large: eight times quicker, and walking along edges mends the rest."""


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """How poses are refined."""

    steps: int = 8
    """Steps of Gauss and Newton a round, each with its own damping (Levenberg and Marquardt)."""
    every_px: int = 2
    """Of a grid of so many pixels along each axis one ray is drawn."""
    damping: float | int = 0.03
    """Part of the diagonal that is added to the matrix at first; a third after a step that helps, else four times."""
    longest_rad: float | int = 0.15
    """Longest step of a joint, radians."""
    longest_m: float | int = 0.05
    """Longest step of the translation, metres."""
    prior_rad: float | int = 0.1
    """Standard deviation of the estimates' angles, radians; they pull back with it."""
    prior_m: float | int = 0.03
    """Standard deviation of the estimates' places, metres."""
    prior_weight: float | int = 0.002
    """Weight of the squared deviation, a frame, beside the mean loss of its rays; divided by the number of angles."""
    keypoint_weight: float | int = 0.01
    """Weight of keypoints' mean squared distance in units of `keypoint_m`, where there are any."""
    keypoint_m: float | int = 0.03
    """Standard deviation of keypoints, metres at the body's distance."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.every_px < 1 or not (self.prior_rad > 0 and self.prior_m > 0):
            raise OptionError("refining poses needs steps >= 1, every_px >= 1, and positive prior_rad and prior_m")


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The rays of one view of a frame."""

    samples: RaySamples
    points: Float[np.ndarray, "N 3"]
    pixel: Int64[np.ndarray, "R"]
    view: View
    camera: int


def refine_poses(
    field: RadianceField,
    views: Sequence[View],
    params: BodyParams,
    *,
    config: PoseConfig | None = None,
    start: BodyParams | None = None,
    keypoints: Sequence[Float[np.ndarray, "K 3"]] | None = None,
    layout: str | None = None,
    seed: int = 0,
) -> BodyParams:
    """Refine the body's orientation, pose and place in each frame by the field's pictures; the field stays.

    Levenberg and Marquardt on the loss of a grid of rays, whose derivative by the canonical places of samples goes
    through the warp (`casting/warp.py`), plus a pull to `start` (the estimates; `params` if left out) and, where there
    are keypoints of each view (x px, y px, confidence, in `layout`), their reprojection. Hands, face and shape stay.
    The masks are in the rays' loss. Raises `OptionError`.
    """
    config = PoseConfig() if config is None else config
    if keypoints is not None and (layout is None or len(keypoints) != len(views)):
        raise OptionError("keypoints must be one array a view, with the name of their layout")
    start = params if start is None else start
    numbers = camera_numbers(views)
    if numbers.max() >= len(field.gains):
        raise OptionError(f"the field was trained on {len(field.gains)} cameras, the views have {numbers.max() + 1}")
    rows = []
    for frame in range(params.batch):
        here = [k for k, view in enumerate(views) if view.frame == frame]
        one = params.select([frame])
        if here:
            some = [(views[k], int(numbers[k]), None if keypoints is None else keypoints[k]) for k in here]
            one = _refined(field, some, one, start.select([frame]), config, layout, seed + 1009 * frame)
        rows.append(one)
    return BodyParams(**{name: torch.cat([one[name] for one in rows]) for name in params})


def _refined(
    field: RadianceField,
    views: Sequence[tuple[View, int, Float[np.ndarray, "K 3"] | None]],
    params: BodyParams,
    start: BodyParams,
    config: PoseConfig,
    layout: str | None,
    seed: int,
) -> BodyParams:
    """Refine one frame; only steps that lower the loss are taken."""
    here = [(view, number) for view, number, _ in views]

    def evaluated(at: BodyParams) -> tuple[float, Tensor, Tensor, BodyParams]:
        moved = {name: at[name].detach().clone().requires_grad_(True) for name in _MOVED}
        one = replace(at, **moved)
        loss, matrix = frame_loss(field, here, one, config.every_px, seed, curved=True)
        loss = loss + config.prior_weight * _deviation(one, start, config)
        matrix.diagonal().add_(2 * config.prior_weight * _per_deviation(one, config))
        for view, _, xyc in views:
            if xyc is not None and layout is not None:
                apart = partial(_apart, field, view, one, xyc, layout, config)
                share = config.keypoint_weight / len(views)
                loss = loss + share * apart().square().sum()
                by = torch.autograd.functional.jacobian(lambda *parts: apart(parts), tuple(moved.values()))  # noqa: B023
                by = torch.cat([part.flatten(1) for part in by], 1).double()
                matrix += 2 * share * by.T @ by
        gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(moved.values()))])
        return float(loss.detach()), gradient.double(), matrix, one

    best, damping = evaluated(params), float(config.damping)
    for _ in range(config.steps):
        _, gradient, matrix, one = best
        step = torch.linalg.solve(matrix + torch.diag(damping * matrix.diagonal() + 1e-9), -gradient)
        ahead = evaluated(_moved(one, step.to(one.transl), config))
        better = ahead[0] < best[0]
        best, damping = (ahead, damping / 3) if better else (best, damping * 4)
    return replace(params, **{name: best[3][name].detach() for name in _MOVED})


def _moved(params: BodyParams, step: Float[Tensor, "D"], config: PoseConfig) -> BodyParams:
    """Take a step, each joint's and the place's shortened to the longest allowed."""
    parts = step.split([params[name].numel() for name in _MOVED])
    out = {}
    for name, part in zip(_MOVED, parts, strict=True):
        most = config.longest_m if name == "transl" else config.longest_rad
        vectors = part.view(-1, 3)
        length = vectors.norm(dim=1, keepdim=True)
        out[name] = params[name].detach() + (vectors * (most / length.clamp_min(most))).view(1, -1)
    return replace(params, **out)


def field_loss(
    field: RadianceField, views: Sequence[tuple[View, int]], params: BodyParams, every_px: int, seed: int
) -> Float[Tensor, ""]:
    """Compute the mean loss of the rays of one frame's views, whose gradient by the parameters goes through the warp.

    views: with their cameras' numbers. params: one row, with a graph. The value is the loss itself.
    """
    return frame_loss(field, views, params, every_px, seed, curved=False)[0]


def frame_loss(
    field: RadianceField,
    views: Sequence[tuple[View, int]],
    params: BodyParams,
    every_px: int,
    seed: int,
    *,
    curved: bool,
) -> tuple[Float[Tensor, ""], Float[Tensor, "D D"]]:
    """Compute the loss of `field_loss` and, if `curved`, its Gauss-Newton matrix by orientation, pose and place.

    The matrix takes the warp of a place to be that of its nearest vertex, and a vertex to turn with its joints.
    """
    plain = BodyParams(**{name: value.detach() for name, value in params.items()})
    body = pose_bodies(field.canonical, field.model, plain)[0]
    joints = PoseJoints.of(field.model, plain) if curved else None
    cast = field.config.cast
    cast = replace(cast, voxel_m=min(max(cast.voxel_m, _VOXEL_M), cast.band_m))
    volume = cast.volume_of(body)
    total, points, vertices, gradients, count = 0.0, [], [], [], 0
    matrix = np.zeros(())
    for k, (view, number) in enumerate(views):
        rays, pixel = body_rays(view.camera, view.size, body, cast.widest_m, seed=seed + 97 * k, every=every_px)
        samples = cast_rays(body, rays, cast, volume=volume)
        at = samples.posed_m(rays)
        drawn = _Drawn(samples, at, pixel, view, number)
        loss, by_place = _by_place(field, drawn)
        total, count = total + loss, count + len(rays)
        points.append(at)
        vertices.append(samples.vertex)
        gradients.append(by_place)
        if joints is not None:
            matrix = matrix + _curvature(field, body, drawn, joints)
    parts = (np.concatenate(points), np.concatenate(vertices), np.concatenate(gradients) / max(count, 1))
    surrogate = pose_surrogate(body, field.model, params, *parts)
    loss = surrogate - surrogate.detach() + total / max(count, 1)
    if joints is None:
        return loss, torch.zeros(0, 0)
    return loss, 2 / max(count, 1) * joints.by_params(torch.from_numpy(matrix))


def _by_place(field: RadianceField, drawn: _Drawn) -> tuple[float, Float[np.ndarray, "N 3"]]:
    """Compute the summed loss of a view's rays and its derivatives by the samples' places."""
    from bodyfit.fields.radiance.pose_loops import place_gradients

    samples, config, view = drawn.samples, field.config, drawn.view
    rays = len(samples.ptr) - 1
    mask = view.mask.reshape(-1)[drawn.pixel]
    mask = mask if mask.dtype == np.uint8 else (255 * mask).astype(np.uint8)
    colors = view.picture.reshape(-1, 3)[drawn.pixel]
    by_place, losses = np.zeros((len(samples), 3)), np.zeros(rays)
    cameras = np.full(rays, drawn.camera)
    behind = _GREY if config.background is None else config.background
    backgrounds = np.full((rays, 3), behind, np.float32)
    weights_of = np.array([config.mask_weight, 0, config.background is None])
    run(
        place_gradients, rays, samples.ptr, samples.place, samples.normal, samples.origin_m, colors, mask, cameras,
        backgrounds, *field.grid.arrays, field.values, field.light, field.gains, field.offsets,
        field.opaque(_LEAST_THROUGH), weights_of, by_place, losses, grain=256,
    )  # fmt: skip
    return float(losses.sum()), by_place


def _curvature(field: RadianceField, body: PosedBody, drawn: _Drawn, joints: PoseJoints) -> Float[np.ndarray, "D D"]:
    """Compute the Gauss-Newton matrix of the summed loss of a view's rays by rotations of joints and a translation."""
    from bodyfit.fields.radiance.pose_loops import curvature

    samples, config = drawn.samples, field.config
    rays, size = len(samples.ptr) - 1, 3 * len(joints.places) + 3
    out = np.zeros((_JOBS, size, size))
    behind = np.full((rays, 3), _GREY if config.background is None else config.background, np.float32)
    run(
        curvature, _JOBS, samples.ptr, samples.place, samples.normal, samples.origin_m, drawn.points, samples.vertex,
        body.warp, joints.owner_ptr, joints.owner, joints.share, joints.places, behind, np.full(rays, drawn.camera),
        *field.grid.arrays, field.values, field.light, field.gains, field.offsets, field.opaque(_LEAST_THROUGH),
        float(config.mask_weight), out,
    )  # fmt: skip
    return out.sum(0)


def _deviation(params: BodyParams, start: BodyParams, config: PoseConfig) -> Float[Tensor, ""]:
    """Compute the mean squared deviation from the estimates, in their standard deviations."""
    squares = [((params[name] - start[name]) / config.prior_rad).square().sum() for name in _TURNED]
    squares.append(((params.transl - start.transl) / config.prior_m).square().sum())
    return torch.stack(squares).sum() / sum(params[name].numel() for name in (*_TURNED, "transl"))


def _per_deviation(params: BodyParams, config: PoseConfig) -> Float[Tensor, "D"]:
    """Return what `_deviation` has for the square of each number."""
    spreads = {"transl": config.prior_m}
    sizes = [(params[name].numel(), float(spreads.get(name, config.prior_rad))) for name in _MOVED]
    total = sum(size for size, _ in sizes)
    return torch.cat([torch.full((size,), 1 / (spread**2 * total), dtype=torch.float64) for size, spread in sizes])


def _apart(
    field: RadianceField,
    view: View,
    params: BodyParams,
    xyc: Float[np.ndarray, "K 3"],
    layout: str,
    config: PoseConfig,
    parts: Sequence[Tensor] | None = None,
) -> Float[Tensor, "N"]:
    """Compute how far keypoints lie from where they are seen, robustly: their squares are Geman and McClure's loss.

    parts: orientation, pose and place instead of those of `params`.
    """
    if parts is not None:
        params = replace(params, **dict(zip(_MOVED, parts, strict=True)))
    points = field.model.keypoints(params, layout)[0]
    R, t = (torch.from_numpy(x).to(points) for x in (view.camera.R, view.camera.t))
    at = points @ R.T + t
    flat = torch.from_numpy(view.camera.normalised(xyc[:, :2])).to(points)
    weight = torch.from_numpy(xyc[:, 2]).to(points)
    weight = torch.where(torch.isfinite(at).all(1), weight, torch.zeros_like(weight))
    depth = torch.nan_to_num(at[:, 2:], nan=1.0).clamp_min(0.1)
    apart = (torch.nan_to_num(at[:, :2]) / depth - flat) * depth.detach() / config.keypoint_m
    scale = (
        (weight / weight.sum().clamp_min(1e-6)).sqrt()[:, None] * 3 / (9 + apart.square().sum(1, keepdim=True)).sqrt()
    )
    return (scale * apart).flatten()
