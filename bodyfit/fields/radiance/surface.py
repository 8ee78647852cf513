"""Fit a surface field to masks and depths alone, by the implicit gradient of depth along rays (DVR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError, ShapeError
from bodyfit.fields.casting.cast import PLACE_MARGIN_M
from bodyfit.fields.radiance.config import RadianceConfig
from bodyfit.fields.radiance.field import RadianceField, start_field
from bodyfit.fields.radiance.mesh import surface_logit
from bodyfit.fields.radiance.views import TrainingRays, View, check_views, training_rays
from bodyfit.runtime.parallel import run

__all__ = ["SurfaceConfig", "fit_surface", "ray_depths"]

_JOBS = 2
_DECAYS = (0.9, 0.99)
_GRAIN = 8192


@dataclass(frozen=True, kw_only=True)
class SurfaceConfig:
    """How a surface field is fitted."""

    width_m: float | int = 0.01
    """The field begins as the signed distance to the body over this, positive inside."""
    passes: float | int = 4.0
    """How often each ray is looked at."""
    batch_rays: int = 4096
    """Rays of a step."""
    rate: float | int = 0.05
    """Adam's rate; it falls to a tenth."""
    depth_weight: float | int = 10.0
    """Weight of |depth error|, a metre."""
    free_weight: float | int = 1.0
    """Weight of cross-entropy with empty, of rays of the background that meet the surface."""
    occupancy_weight: float | int = 1.0
    """Weight of cross-entropy with full, of rays of the person that miss it."""
    variation: float | int = 1e-2
    """Weight of differences of neighbouring nodes, beside the losses of a batch: the surface's smoothness."""
    seed: int = 0
    """Of the order of rays."""

    def __post_init__(self) -> None:
        if not (self.width_m > 0 and self.passes > 0 and self.batch_rays > 0):
            raise OptionError("fitting a surface needs positive width_m, passes and batch_rays")


def ray_depths(view: View, depth_m: Float[np.ndarray, "_ _"]) -> Float32[np.ndarray, "P"]:
    """Turn a map of depths along the optical axis into distances along the pixels' rays; NaN where it is not finite."""
    height, width = view.size
    if depth_m.shape != (height, width):
        raise ShapeError(f"a depth map must be of the picture's size {view.size}, got {depth_m.shape}")
    xy = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1).reshape(-1, 2)
    along = np.concatenate([view.camera.normalised(xy), np.ones((len(xy), 1))], 1)
    depth = np.where(np.isfinite(depth_m.ravel()), depth_m.ravel(), np.nan)
    return (depth * np.linalg.norm(along, axis=1)).astype(np.float32)


def fit_surface(
    views: Sequence[View],
    params: BodyParams,
    model: BodyModel,
    *,
    depths_m: Sequence[Float[np.ndarray, "_ _"]] | None = None,
    config: SurfaceConfig | None = None,
    radiance: RadianceConfig | None = None,
) -> RadianceField:
    """Fit the surface of a dressed person to masks, and depth maps where there are some; colours stay grey.

    views: pictures with masks (`View`), in rows of params. depths_m: along the optical axis, one map a view, not finite
    where unknown. Returns a field whose surface (`field_mesh`) is the one that was found. Raises `OptionError` and
    `ShapeError`.
    """
    config = SurfaceConfig() if config is None else config
    radiance = RadianceConfig() if radiance is None else radiance
    check_views(views, params)
    if depths_m is not None and len(depths_m) != len(views):
        raise ShapeError(f"depths_m must be one map a view, {len(views)}, got {len(depths_m)}")
    betas = params.betas.mean(0, keepdim=True).detach().cpu().numpy()
    field = start_field(model, betas, radiance, 1)
    rays = training_rays(views, params, model, field.canonical, radiance.cast, radiance.seed)
    targets = np.full(len(rays), np.nan, np.float32)
    for number, depth_m in enumerate(depths_m or ()):
        own = rays.views == number
        targets[own] = ray_depths(views[number], depth_m)[rays.pixels[own]]
    values = np.zeros((len(field.values), 1), np.float32)
    fine = field.grid.level_rows(len(radiance.nodes_m) - 1)
    values[fine, 0] = np.clip(-field.grid.signed_m[fine] / config.width_m, -4, 4)
    _descend(field, rays, targets, values, config)
    solid = field.values.copy()
    solid[:, 0] = values[:, 0]
    solid[fine, 0] += surface_logit(radiance)
    return replace(field, values=solid)


def _descend(
    field: RadianceField,
    rays: TrainingRays,
    targets: Float32[np.ndarray, "R"],
    values: Float32[np.ndarray, "V 1"],
    config: SurfaceConfig,
) -> None:
    """Step the field's values by Adam over batches of rays."""
    from bodyfit.fields.radiance.surface_loops import meet
    from bodyfit.fields.radiance.train_loops import adam, smooth

    rng, t_m = np.random.default_rng(config.seed), rays.t_m
    grads, moments = np.zeros((_JOBS, *values.shape), np.float32), np.zeros((2, *values.shape), np.float32)
    neighbours = field.grid.neighbours()
    fine = field.grid.level_rows(len(field.config.nodes_m) - 1)
    weights = np.array([config.depth_weight, config.free_weight, config.occupancy_weight], float)
    origin = field.canonical.vertices.min(0) - np.float32(PLACE_MARGIN_M)
    steps = max(1, round(config.passes * len(rays) / config.batch_rays))
    for step in range(steps):
        batch = rng.choice(len(rays), min(config.batch_rays, len(rays)), replace=False)
        found, losses = np.full(len(batch), np.nan), np.zeros(_JOBS)
        run(
            meet, _JOBS, batch, rays.ptr, rays.place, t_m, origin, rays.masks, targets, *field.grid.arrays, values,
            weights, 1.5 * field.config.cast.step_m, grads, losses, found,
        )  # fmt: skip
        smooth(
            fine.start, fine.stop, neighbours, field.grid.signed_m, values, float(config.variation), 0.0, 0.0, grads[0]
        )
        rates = np.array([config.rate * 0.1 ** (step / steps)])
        biases = tuple(1 - decay ** (step + 1) for decay in _DECAYS)
        run(adam, len(values), values, grads, *moments, rates, *_DECAYS, *biases, grain=_GRAIN)
