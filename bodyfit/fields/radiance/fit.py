"""Train a radiance field on pictures of one person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError, ShapeError
from bodyfit.fields.casting.cast import PLACE_MARGIN_M
from bodyfit.fields.radiance.config import RadianceConfig
from bodyfit.fields.radiance.field import RadianceField, start_field
from bodyfit.fields.radiance.views import TrainingRays, View, camera_numbers, check_views, frames_of, training_rays
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.runtime.parallel import run

__all__ = ["fit_field", "fit_views", "train_field"]

_JOBS = 2
"""Parts of a batch, each with gradients of its own, so that the sum does not depend on the number of threads."""
_GRAIN = 8192
_DECAYS = (0.9, 0.99)
_LEAST_THROUGH = 1e-3


def fit_field(
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    masks: Sequence[Bool[np.ndarray, "_ _"] | UInt8[np.ndarray, "_ _"]],
    params: BodyParams | Sequence[BodyParams],
    cameras: Sequence[CalibratedCamera],
    model: BodyModel,
    *,
    config: RadianceConfig | None = None,
    unknown: Sequence[Bool[np.ndarray, "_ _"]] | None = None,
    numbers: Sequence[int] | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> RadianceField:
    """Train the radiance field of a person on pictures with masks, bodies and cameras.

    pictures: RGB. masks: of their sizes, the person; 8 bits where soft. params: the body of each picture, in the axes
    of its camera's world; pictures of equal bodies share the geometry. cameras: one a picture; pictures of equal
    cameras share a gain and an offset of colours. The body's shape is the mean of theirs. unknown: where somebody else
    may be before the person in each picture; such pixels are left out. numbers: which camera each picture is of, where
    equal cameras do not tell (pictures cut out of a camera's). progress: called after every
    step with the part that is done and the mean loss of the step's rays. Raises `OptionError` and `ShapeError`.
    """
    config = RadianceConfig() if config is None else config
    rows = [params.select([k]) for k in range(params.batch)] if isinstance(params, BodyParams) else list(params)
    if not len(pictures) == len(masks) == len(rows) == len(cameras):
        counts = f"{len(pictures)}, {len(masks)}, {len(rows)} and {len(cameras)}"
        raise ShapeError(f"pictures, masks, params and cameras must be as many, got {counts}")
    if not rows:
        raise OptionError("a radiance field needs at least one picture with a mask and a body")
    bodies, frames = frames_of(rows)
    empty = [None] * len(rows)
    parts = zip(pictures, masks, cameras, frames, unknown or empty, numbers or empty, strict=True)
    return fit_views([View(*part) for part in parts], bodies, model, config=config, progress=progress)


def fit_views(
    views: Sequence[View],
    params: BodyParams,
    model: BodyModel,
    *,
    config: RadianceConfig | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> RadianceField:
    """Train the radiance field of a person on views whose frames are rows of `params`, as `fit_field` does.

    Raises `OptionError` and `ShapeError`.
    """
    config = RadianceConfig() if config is None else config
    check_views(views, params)
    betas = params.betas.mean(0, keepdim=True).detach().cpu().numpy()
    field = start_field(model, betas, config, int(camera_numbers(views).max()) + 1)
    rays = training_rays(views, params, model, field.canonical, config.cast, config.seed)
    return train_field(field, rays, progress=progress)


def train_field(
    field: RadianceField, rays: TrainingRays, *, progress: Callable[[float, float], None] | None = None
) -> RadianceField:
    """Train a field further on rays; the field that is given stays as it is."""
    config = field.config
    field = replace(field, **{name: getattr(field, name).copy() for name in ("values", "light", "gains", "offsets")})
    trainer = _Trainer(field, rays)
    steps = max(1, round(config.passes * len(rays) / config.batch_rays))
    order = _Order(len(rays), config)
    for step in range(steps):
        loss = trainer.step(order.batch(), step / steps)
        if progress is not None:
            progress((step + 1) / steps, loss)
    return field


class _Order:
    """Draws batches of short runs of rays, each run once a pass."""

    def __init__(self, rays: int, config: RadianceConfig) -> None:
        self._rng = np.random.default_rng([config.seed, 1])
        self._rays, self._run = rays, config.run_rays
        self._runs = max(1, min(config.batch_rays, rays) // config.run_rays)
        self._waiting = np.zeros(0, np.int64)

    def batch(self) -> Int[np.ndarray, "B"]:
        """Draw the rays of one step."""
        while len(self._waiting) < self._runs:
            again = self._rng.permutation(-(-self._rays // self._run))
            self._waiting = np.concatenate([self._waiting, again])
        runs, self._waiting = self._waiting[: self._runs], self._waiting[self._runs :]
        rays = (runs[:, None] * self._run + np.arange(self._run)).ravel()
        return rays[rays < self._rays]


class _Trainer:
    """A field with the state of its optimiser."""

    def __init__(self, field: RadianceField, rays: TrainingRays) -> None:
        config = field.config
        self._field, self._rays, self._config = field, rays, config
        self._rng = np.random.default_rng([config.seed, 2])
        self._grads = np.zeros((_JOBS, *field.values.shape), np.float32)
        self._moments = np.zeros((2, *field.values.shape), np.float32)
        self._small = np.concatenate([field.light.ravel(), np.stack([field.gains, field.offsets], 1).ravel()])
        self._small = self._small.astype(np.float64)[:, None]
        self._small_moments = np.zeros((2, *self._small.shape))
        self._fine = field.grid.level_rows(len(config.nodes_m) - 1)
        self._neighbours = field.grid.neighbours()
        self._count = 0
        self._opaque = field.opaque(_LEAST_THROUGH)

    def step(self, batch: Int[np.ndarray, "B"], done: float) -> float:
        """Take one step of Adam on a batch; return its mean loss."""
        from bodyfit.fields.radiance.train_loops import adam, smooth, train

        field, config, rays = self._field, self._config, self._rays
        if config.background is None:
            greys = self._rng.random((len(batch), 1), np.float32)  # random colours leave specks where nothing is seen
            backgrounds = np.repeat(greys, 3, 1)
        else:
            backgrounds = np.full((len(batch), 3), config.background, np.float32)
        small_grads, losses = np.zeros((_JOBS, len(self._small), 1)), np.zeros(_JOBS)
        origin = field.canonical.vertices.min(0) - np.float32(PLACE_MARGIN_M)
        weights_of = np.array([config.mask_weight, config.haze_weight, config.background is None])
        run(
            train, _JOBS, batch, rays.ptr, rays.place, rays.normal, origin, rays.colors, rays.masks, rays.cameras,
            backgrounds, *field.grid.arrays, field.values, field.light, field.gains, field.offsets, self._opaque,
            weights_of, self._grads, small_grads[..., 0], losses,
        )  # fmt: skip
        weights = (config.density_variation, config.albedo_variation, config.fall)
        first, last = self._fine.start, self._fine.stop
        if any(weights):
            signed = field.grid.signed_m
            smooth(first, last, self._neighbours, signed, field.values, *(float(w) for w in weights), self._grads[0])
        self._count += 1
        fall = config.last_rate**done
        biases = tuple(1 - decay**self._count for decay in _DECAYS)
        rates = fall * np.array([config.density_rate, *[config.albedo_rate] * 3])
        run(adam, len(field.values), field.values, self._grads, *self._moments, rates, *_DECAYS, *biases, grain=_GRAIN)
        self._step_light(small_grads, fall, biases)
        return float(losses.sum()) / len(batch)

    def _step_light(self, grads: Float[np.ndarray, "J S 1"], fall: float, biases: tuple[float, ...]) -> None:
        """Step the light, gains and offsets; a gain and offset of all cameras alike is the light's to explain."""
        from bodyfit.fields.radiance.train_loops import adam

        field = self._field
        rates = np.array([fall * self._config.light_rate])
        adam(0, len(self._small), self._small, grads, *self._small_moments, rates, *_DECAYS, *biases)
        colors = self._small[27:, 0].reshape(-1, 2, 3)
        colors[:, 0] /= colors[:, 0].mean(0)
        colors[:, 1] -= colors[:, 1].mean(0)
        field.light[:] = self._small[:27, 0].reshape(9, 3)
        field.gains[:], field.offsets[:] = colors[:, 0], colors[:, 1]
