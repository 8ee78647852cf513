"""Refine the poses of frames so that the field agrees with their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError
from bodyfit.fields.casting.canonical import pose_bodies
from bodyfit.fields.casting.cast import cast_rays
from bodyfit.fields.casting.samples import RaySamples
from bodyfit.fields.casting.warp import pose_surrogate
from bodyfit.fields.radiance.field import RadianceField
from bodyfit.fields.radiance.views import View, body_rays, camera_numbers
from bodyfit.runtime.parallel import run

__all__ = ["PoseConfig", "field_loss", "refine_poses"]

_TURNED = ("global_orient", "body_pose")
_LEAST_THROUGH = 1e-3
_GREY = 0.5
_DECAYS = (0.8, 0.95)


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """How poses are refined."""

    steps: int = 8
    """Steps of Adam a round."""
    every_px: int = 3
    """Of a grid of so many pixels along each axis one ray is drawn."""
    rate_rad: float | int = 0.01
    """First step of a joint, radians."""
    rate_m: float | int = 0.004
    """First step of the translation, metres."""
    last_rate: float | int = 0.3
    """Part of the steps that is left at the end of a round."""
    prior_rad: float | int = 0.1
    """Standard deviation of the estimates' angles, radians; they pull back with it."""
    prior_m: float | int = 0.03
    """Standard deviation of the estimates' places, metres."""
    prior_weight: float | int = 0.01
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

    Adam on the loss of a subset of rays, whose derivative by the canonical places of samples goes through the warp
    (`casting/warp.py`), plus a pull to `start` (the estimates; `params` if left out) and, where there are keypoints of
    each view (x px, y px, confidence, in `layout`), their reprojection. Hands, face and shape stay. The masks are in
    the rays' loss. Raises `OptionError`.
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
    """Refine one frame."""
    moved = {name: params[name].detach().clone().requires_grad_(True) for name in (*_TURNED, "transl")}
    groups = [{"params": [moved[name]], "lr": config.rate_rad} for name in _TURNED]
    groups.append({"params": [moved["transl"]], "lr": config.rate_m})
    adam = torch.optim.Adam(groups, betas=_DECAYS)
    fall = torch.optim.lr_scheduler.ExponentialLR(adam, config.last_rate ** (1 / config.steps))
    for step in range(config.steps):
        adam.zero_grad()
        one = replace(params, **moved)
        loss = field_loss(field, [(view, number) for view, number, _ in views], one, config.every_px, seed + step)
        loss = loss + config.prior_weight * _deviation(one, start, config)
        for view, _, xyc in views:
            if xyc is not None and layout is not None:
                loss = loss + config.keypoint_weight / len(views) * _reprojection(field, view, one, xyc, layout, config)
        loss.backward()
        adam.step()
        fall.step()
    return replace(params, **{name: value.detach() for name, value in moved.items()})


def field_loss(
    field: RadianceField, views: Sequence[tuple[View, int]], params: BodyParams, every_px: int, seed: int
) -> Float[Tensor, ""]:
    """Compute the mean loss of the rays of one frame's views, whose gradient by the parameters goes through the warp.

    views: with their cameras' numbers. params: one row, with a graph. The value is the loss itself.
    """
    plain = BodyParams(**{name: value.detach() for name, value in params.items()})
    body = pose_bodies(field.canonical, field.model, plain)[0]
    cast = field.config.cast
    volume = cast.volume_of(body)
    total, points, vertices, gradients, count = 0.0, [], [], [], 0
    for k, (view, number) in enumerate(views):
        rays, pixel = body_rays(view.camera, view.size, body, cast.widest_m, seed=seed + 97 * k, every=every_px)
        samples = cast_rays(body, rays, cast, volume=volume)
        loss, by_place = _by_place(field, _Drawn(samples, samples.posed_m(rays), pixel, view, number))
        total, count = total + loss, count + len(rays)
        points.append(samples.posed_m(rays))
        vertices.append(samples.vertex)
        gradients.append(by_place)
    parts = (np.concatenate(points), np.concatenate(vertices), np.concatenate(gradients) / max(count, 1))
    surrogate = pose_surrogate(body, field.model, params, *parts)
    return surrogate - surrogate.detach() + total / max(count, 1)


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


def _deviation(params: BodyParams, start: BodyParams, config: PoseConfig) -> Float[Tensor, ""]:
    """Compute the mean squared deviation from the estimates, in their standard deviations."""
    squares = [((params[name] - start[name]) / config.prior_rad).square().sum() for name in _TURNED]
    squares.append(((params.transl - start.transl) / config.prior_m).square().sum())
    return torch.stack(squares).sum() / sum(params[name].numel() for name in (*_TURNED, "transl"))


def _reprojection(
    field: RadianceField,
    view: View,
    params: BodyParams,
    xyc: Float[np.ndarray, "K 3"],
    layout: str,
    config: PoseConfig,
) -> Float[Tensor, ""]:
    """Compute the mean squared distance of keypoints from where they are seen, robustly (Geman-McClure)."""
    points = field.model.keypoints(params, layout)[0]
    R, t = (torch.from_numpy(x).to(points) for x in (view.camera.R, view.camera.t))
    at = points @ R.T + t
    flat = torch.from_numpy(view.camera.normalised(xyc[:, :2])).to(points)
    weight = torch.from_numpy(xyc[:, 2]).to(points)
    weight = torch.where(torch.isfinite(at).all(1), weight, torch.zeros_like(weight))
    depth = torch.nan_to_num(at[:, 2:], nan=1.0).clamp_min(0.1)
    apart = (torch.nan_to_num(at[:, :2]) / depth - flat) * depth.detach() / config.keypoint_m
    square = apart.square().sum(1)
    return (weight * 9 * square / (9 + square)).sum() / weight.sum().clamp_min(1e-6)
