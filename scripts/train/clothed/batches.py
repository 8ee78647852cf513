"""Samples to train clothed surfaces on: drawn people, their bodies and masks made to err as fits and detectors do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

import bodyfit
from bodyfit.body.params import BodyParams
from bodyfit.clothed.inputs import SIDE, BodyView, body_view, network_image, region_about, sampled
from bodyfit.clothed.mesh import SurfaceMesh
from bodyfit.detect.regions import Roi

__all__ = ["Batch", "Sampler", "read_shards"]

_EXACT = 0.35
"""Share of samples with exact bodies, and of those with exact masks."""
_SHAPE, _TURN_RAD, _ROOT_RAD, _SHIFT_M = 0.6, 0.1, 0.06, 0.012
"""Most deviation of betas, joints' angles, the root's and the place in the picture."""
_NAMES = ("betas", "body_pose", "global_orient", "transl")


@dataclass(frozen=True, eq=False)
class Shard:
    """Drawn people of a file."""

    params: BodyParams
    R: Float32[np.ndarray, "N K 3 3"]
    t: Float32[np.ndarray, "N K 3"]
    lens: Float32[np.ndarray, "N K 3"]
    points: Float32[np.ndarray, "N P 3"]
    normals: Float32[np.ndarray, "N P 3"]
    pictures: UInt8[np.ndarray, "N K S S 4"]
    trees: dict[int, KDTree]
    """Of the points of people met so far."""

    def tree(self, person: int) -> KDTree:
        """Return the search tree of a person's points."""
        if person not in self.trees:
            self.trees[person] = KDTree(self.points[person])
        return self.trees[person]


def read_shards(paths: Sequence[Path]) -> list[Shard]:
    """Read files of `scripts.train.clothed.people`."""
    shards = []
    for path in paths:
        with np.load(path, allow_pickle=False) as data:
            params = BodyParams(**{name: torch.from_numpy(data[name]) for name in _NAMES})
            points, normals = data["points"].astype(np.float32), data["normals"].astype(np.float32) / 127
            shards.append(Shard(params, data["R"], data["t"], data["lens"], points, normals, data["pictures"], {}))
    return shards


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of the network, and what it is judged by."""

    image: Float[Tensor, "B 9 S S"]
    points: Float[Tensor, "B A 3"]
    features: Float[Tensor, "B A 4"]
    lens: Float[Tensor, "B 3"]
    medium: Float[Tensor, "B M 3"]
    """The body's medium vertices, camera axes."""
    normals: Float[Tensor, "B M 3"]
    R: Float[Tensor, "B 3 3"]
    t: Float[Tensor, "B 3"]
    scale: Float[Tensor, "B"]
    """x_room = R^T (x / scale - t): how the truth, seen by a body of another size, is found again."""
    truth: list[tuple[Shard, int]]
    """Whose surface it is."""


class Sampler:
    """Makes samples; those of a step and seed are always the same."""

    def __init__(self, shards: Sequence[Shard], mesh: SurfaceMesh, seed: int) -> None:
        self._shards, self._mesh, self._seed = shards, mesh, seed
        self._model = bodyfit.load_model()
        self._rows = np.array([(s, i) for s, shard in enumerate(shards) for i in range(len(shard.points))])

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, step: int, size: int, *, plain: bool = False) -> Batch:
        """Make the batch of a step; `plain` ones have exact bodies and masks, the first people in order."""
        rng = np.random.default_rng([self._seed, 73, step])
        rows = [(step * size + k) % len(self._rows) for k in range(size)]
        if not plain:
            rows = rng.integers(len(self._rows), size=size).tolist()
        own = [(self._shards[s], int(i)) for s, i in self._rows[rows]]
        cameras = [int(rng.integers(shard.R.shape[1])) for shard, _ in own]
        exact = np.array([plain or rng.random() < _EXACT for _ in own])
        true = BodyParams(**{n: torch.cat([s.params[n][[i]] for s, i in own]) for n in _NAMES})
        params = self._model.params(**_erring(true, np.where(exact, 0, rng.uniform(0, 1, size)), rng))
        with torch.no_grad():
            body = self._model(**params).vertices.double().numpy()
            real = self._model(**true).vertices.double().numpy()
        samples = [
            self._sample(shard, i, camera, body[k], real[k], rng, exact=bool(exact[k]), plain=plain)
            for k, ((shard, i), camera) in enumerate(zip(own, cameras, strict=True))
        ]
        images, views, medium, scale = zip(*samples, strict=True)

        def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.stack(arrays).astype(np.float32))

        return Batch(
            image=stacked(images),
            points=stacked([view.points for view in views]),
            features=stacked([view.features for view in views]),
            lens=stacked([view.lens for view in views]),
            medium=stacked(medium),
            normals=stacked([view.normals for view in views]),
            R=stacked([s.R[i, c] for (s, i), c in zip(own, cameras, strict=True)]),
            t=stacked([s.t[i, c] for (s, i), c in zip(own, cameras, strict=True)]),
            scale=torch.tensor(scale, dtype=torch.float32),
            truth=own,
        )

    def _sample(
        self,
        shard: Shard,
        person: int,
        camera: int,
        body: Float[np.ndarray, "V 3"],
        real: Float[np.ndarray, "V 3"],
        rng: np.random.Generator,
        *,
        exact: bool,
        plain: bool,
    ) -> tuple[Float32[np.ndarray, "9 S S"], BodyView, Float[np.ndarray, "M 3"], float]:
        """A sample: the network's picture, the body's view and medium vertices, and how much larger the body is.

        A fit knows sizes and distances only together: a body that is too large stands too far away by as much.
        """
        R, t = shard.R[person, camera].astype(np.float64), shard.t[person, camera].astype(np.float64)
        lens = shard.lens[person, camera].astype(np.float64)
        scale = 1.0
        if not exact:
            spread = [np.sqrt(((v - v.mean(0)) ** 2).sum(1).mean()) for v in (body, real)]
            scale = float(spread[0] / spread[1])
            body = body - body.mean(0) + scale * real.mean(0)
            shift = rng.uniform(0, 1) * rng.normal(0, _SHIFT_M, 3) * (1, 1, 0.3)
            body = body + shift @ R
        medium = (body @ R.T + scale * t)[self._mesh.vertices]
        roi = region_about(medium, lens)
        assert roi is not None
        if not plain:
            roi = Roi(
                roi.x + rng.normal(0, 0.02) * roi.size,
                roi.y + rng.normal(0, 0.02) * roi.size,
                roi.size * np.exp(rng.normal(0, 0.04)),
                0.0,
            )
        view = body_view(medium, self._mesh, lens, roi)
        drawn = sampled(shard.pictures[person, camera], roi)
        image = _as_seen(drawn, view, rng, plain=plain)
        return image, view, medium, scale


def _erring(params: BodyParams, strength: Float[np.ndarray, "B"], rng: np.random.Generator) -> dict[str, Tensor]:
    """Bodies as a fit has them."""
    values = {name: value.double().numpy().copy() for name, value in params.items()}
    count = len(strength)
    values["betas"] += strength[:, None] * rng.normal(0, _SHAPE, values["betas"].shape)
    pose = Rotation.from_rotvec(values["body_pose"].reshape(-1, 3))
    noise = rng.normal(0, _TURN_RAD, (count, 23, 3)) * strength[:, None, None]
    values["body_pose"] = (pose * Rotation.from_rotvec(noise.reshape(-1, 3))).as_rotvec().reshape(count, -1)
    root = Rotation.from_rotvec(rng.normal(0, _ROOT_RAD, (count, 3)) * strength[:, None])
    values["global_orient"] = (root * Rotation.from_rotvec(values["global_orient"])).as_rotvec()
    return {name: torch.from_numpy(value).float() for name, value in values.items()}


def _as_seen(
    drawn: UInt8[np.ndarray, "S S 4"], view: BodyView, rng: np.random.Generator, *, plain: bool
) -> Float32[np.ndarray, "9 S S"]:
    """The network's picture of a drawing, in other colours, with a mask as a detector gives it."""
    alpha = drawn[..., 3]
    inside = np.full((SIDE, SIDE), 255, np.uint8)
    if plain:
        return network_image(_before(drawn, np.zeros(3)), alpha, inside, view)
    if rng.random() < 0.12:
        inside = _cut(rng)
    pixels = _recoloured(_before(drawn, rng.uniform(0, 255, 3)), rng)
    mask = alpha if rng.random() < _EXACT else _worse(alpha, rng)
    mask = np.minimum(mask, inside)
    image = network_image(pixels, mask, inside, view)
    if rng.random() < 0.1:
        image[:3] = 0  # a mask alone
    return image


def _before(drawn: UInt8[np.ndarray, "S S 4"], color: Float[np.ndarray, "3"]) -> UInt8[np.ndarray, "S S 3"]:
    """A drawing before one colour."""
    rest = (255 - drawn[..., 3:].astype(np.float32)) / 255
    return (drawn[..., :3] + rest * color).clip(0, 255).astype(np.uint8)


def _recoloured(pixels: UInt8[np.ndarray, "S S 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "S S 3"]:
    """Other gains, contrast and saturation, blur and noise."""
    one = pixels.astype(np.float32)
    grey = one.mean(2, keepdims=True)
    one = grey + (one - grey) * np.float32(rng.uniform(0.3, 1.5))
    one = 255 * (one / 255).clip(0, 1) ** np.float32(np.exp(rng.normal(0, 0.3)))
    one = one * np.exp(rng.normal(0, 0.1, 3) + rng.normal(0, 0.2)).astype(np.float32)
    if rng.random() < 0.4:
        one = cv2.GaussianBlur(one, (0, 0), rng.uniform(0.3, 1.2))
    one = one + np.float32(rng.uniform(0, 8)) * rng.standard_normal(one.shape, np.float32)
    return one.clip(0, 255).astype(np.uint8)


def _worse(alpha: UInt8[np.ndarray, "S S"], rng: np.random.Generator) -> UInt8[np.ndarray, "S S"]:
    """A mask whose outline wanders, is too wide or too narrow, smooth, and lacks parts that something hides."""
    own = (alpha > 127).astype(np.uint8)
    if not own.any():
        return alpha
    away = cv2.distanceTransform(own, cv2.DIST_L2, 3) - cv2.distanceTransform(1 - own, cv2.DIST_L2, 3)
    if rng.random() < 0.7:  # thin parts go, corners are rounded
        away = cv2.GaussianBlur(away, (0, 0), rng.uniform(0.5, 2.5))
    cells = int(rng.choice([5, 9, 15]))
    wander = cv2.resize(rng.standard_normal((cells, cells), np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    away = away + np.float32(rng.uniform(0, 1.8)) * wander + np.float32(rng.normal(0, 0.6))
    mask = 1 / (1 + np.exp(-away.clip(-20, 20) / np.float32(rng.uniform(0.25, 1.2))))
    if rng.random() < 0.1:
        x, y = rng.integers(0, SIDE, 2).tolist()
        radius = int(rng.integers(4, 20))
        cv2.circle(mask, (x, y), radius, (float(rng.random() < 0.3),), -1)
    return (255 * mask + 0.5).astype(np.uint8)


def _cut(rng: np.random.Generator) -> UInt8[np.ndarray, "S S"]:
    """What of a region lies in the picture, where its edge cuts through it."""
    inside = np.full((SIDE, SIDE), 255, np.uint8)
    at = int(rng.uniform(0.1, 0.5) * SIDE)
    side = rng.integers(4)
    view = inside if side < 2 else inside.T
    if side % 2:
        view[SIDE - at :] = 0
    else:
        view[:at] = 0
    return inside
