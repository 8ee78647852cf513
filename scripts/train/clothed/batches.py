"""Samples to train clothed surfaces on: drawn people, their bodies and masks made to err as fits and detectors do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from scipy.spatial import KDTree
from torch import Tensor

import bodyfit
from bodyfit.body.params import BodyParams
from bodyfit.clothed.inputs import SIDE, BodyView, body_view, network_image, region_about, sampled
from bodyfit.clothed.mesh import SurfaceMesh
from bodyfit.detect.regions import Roi
from bodyfit.geometry.rotation import so3_exp, so3_log
from scripts.train.clothed.errors import FitErrors, errors_of
from scripts.train.clothed.fits import fits_path

__all__ = ["Batch", "Kind", "Sampler", "read_shards"]

Kind = Literal["exact", "erring", "fitted"]
"""How the body of a sample comes about."""

_EXACT, _FITTED = 0.35, 0.42
"""Shares of samples with exact bodies, and with bodies fitted to the picture; others have errors of another's fit."""
_EXACT_MASKS, _OWN_MASKS = 0.35, 0.7
"""Shares of samples with exact masks, and, where a detector looked at the picture, with its mask."""
_SHIFT_M = 0.012
"""Most deviation of the place in the picture."""
_SMALL_ERRORS = 0.03, 0.2
"""Deviations of joints' angles (rad) and betas where no fits are there to take errors from."""
_COVER_M = 0.003
"""What lies farther below the planes of the nearest points of the surface is covered."""
_HALF_M = 0.03
"""Vertices that are so far from the true ones halve a sample's weight: most of such distances cannot be known."""
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
    fits: Fits | None
    trees: dict[int, KDTree]
    """Of the points of people met so far."""

    def tree(self, person: int) -> KDTree:
        """Return the search tree of a person's points."""
        if person not in self.trees:
            self.trees[person] = KDTree(self.points[person])
        return self.trees[person]


@dataclass(frozen=True, eq=False)
class Fits:
    """Fits to people of a file, one picture each, in the camera's axes."""

    params: BodyParams
    masks: UInt8[np.ndarray, "N S S"]
    camera: Int[np.ndarray, "N"]
    """Which of the person's pictures it is."""
    good: Bool[np.ndarray, "N"]


def read_shards(paths: Sequence[Path]) -> list[Shard]:
    """Read files of `scripts.train.clothed.people`, and those of `scripts.train.clothed.fits` that are there."""
    shards = []
    for path in paths:
        with np.load(path, allow_pickle=False) as data:
            params = BodyParams(**{name: torch.from_numpy(data[name]) for name in _NAMES})
            points, normals = data["points"].astype(np.float32), data["normals"].astype(np.float32) / 127
            fits = _read_fits(fits_path(path))
            shards.append(
                Shard(params, data["R"], data["t"], data["lens"], points, normals, data["pictures"], fits, {})
            )
    return shards


def _read_fits(path: Path) -> Fits | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as data:
        params = BodyParams(**{name: torch.from_numpy(data[name]) for name in _NAMES})
        return Fits(params, data["masks"], data["camera"], data["good"])


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
    covered: Float[Tensor, "B A"]
    """Whether clothes, shoes or hair lie over the anchors."""
    weight: Float[Tensor, "B"]
    """How much the distances of a sample count."""
    truth: list[tuple[Shard, int]]
    """Whose surface it is."""


class Sampler:
    """Makes samples; those of a step and seed are always the same."""

    def __init__(self, shards: Sequence[Shard], mesh: SurfaceMesh, seed: int) -> None:
        self._shards, self._mesh, self._seed = shards, mesh, seed
        self._model = bodyfit.load_model()
        self._rows = np.array([(s, i) for s, shard in enumerate(shards) for i in range(len(shard.points))])
        fits = [s.fits is not None and s.fits.good[i] for s, i in ((shards[s], i) for s, i in self._rows)]
        self._fitted = np.flatnonzero(fits)
        self._errors = self._measured_errors()
        part = self._model.weights.argmax(1).numpy()[mesh.vertices[: mesh.anchors]]
        names = [name for name in self._model.skeleton.names if name.endswith(("wrist", "hand"))]
        self._bare = np.isin(part, [self._model.skeleton.names.index(name) for name in names])

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def fitted(self) -> int:
        """How many people have fits."""
        return len(self._fitted)

    def batch(self, step: int, size: int, *, only: Kind | None = None) -> Batch:
        """Make the batch of a step. only: a kind of bodies, as they are, the first people in order, to measure by."""
        rng = np.random.default_rng([self._seed, 73, step])
        kinds: list[Kind] = [only or self._kind(rng) for _ in range(size)]
        pools = [self._fitted if kind == "fitted" else np.arange(len(self._rows)) for kind in kinds]
        places = [(step * size + k) % len(pool) if only else rng.integers(len(pool)) for k, pool in enumerate(pools)]
        own = [(self._shards[s], int(i)) for s, i in (self._rows[p[k]] for p, k in zip(pools, places, strict=True))]
        cameras = [
            int(shard.fits.camera[i]) if kind == "fitted" and shard.fits else int(rng.integers(shard.R.shape[1]))
            for (shard, i), kind in zip(own, kinds, strict=True)
        ]
        bodies, real = self._bodies(own, cameras, kinds, rng)
        samples = [
            self._sample(shard, i, camera, bodies[k], real[k], kinds[k], rng, plain=only is not None)
            for k, ((shard, i), camera) in enumerate(zip(own, cameras, strict=True))
        ]
        images, views, medium, scale, off_m = zip(*samples, strict=True)
        covered = [
            self._covered(shard, i, (real[k] - shard.t[i, c]) @ shard.R[i, c])
            for k, ((shard, i), c) in enumerate(zip(own, cameras, strict=True))
        ]

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
            covered=stacked(covered),
            weight=_HALF_M / (_HALF_M + torch.tensor(off_m, dtype=torch.float32)),
            truth=own,
        )

    def _covered(self, shard: Shard, person: int, real: Float[np.ndarray, "V 3"]) -> Bool[np.ndarray, "A"]:
        """Tell the anchors of a true body, in the room, that lie below the surface that can be seen from outside.

        Nobody wears gloves, and fingers are too thin for points that lie a centimetre apart.
        """
        at = real[self._mesh.vertices[: self._mesh.anchors]]
        near = shard.tree(person).query(at, k=4)[1]
        away = ((shard.points[person][near] - at[:, None]) * shard.normals[person][near]).sum(2)
        return (np.abs(away).min(1) > _COVER_M) & ~self._bare

    def _kind(self, rng: np.random.Generator) -> Kind:
        chance = rng.random()
        if chance < _EXACT:
            return "exact"
        return "fitted" if chance < _EXACT + _FITTED and len(self._fitted) else "erring"

    def _measured_errors(self) -> FitErrors:
        """Take the errors of all fits."""
        rows = [(self._shards[s], int(i)) for s, i in self._rows[self._fitted]]
        if not rows:
            rng, joints, betas = np.random.default_rng(self._seed), self._model.body_joints, self._model.num_betas
            angle, shape = _SMALL_ERRORS
            turns, off = rng.normal(0, angle, (64, joints, 3)), rng.normal(0, shape, (64, betas))
            return FitErrors(torch.from_numpy(turns), torch.from_numpy(off))
        cameras = [int(s.fits.camera[i]) for s, i in rows if s.fits is not None]
        true = _true(rows, cameras)
        betas = torch.cat([s.fits.params.betas[[i]] for s, i in rows if s.fits is not None]).double()
        pose = torch.cat([_pose(s.fits.params, i) for s, i in rows if s.fits is not None])
        return errors_of(self._model, true, (betas, pose), _rays(rows, cameras))

    def _bodies(
        self, own: Sequence[tuple[Shard, int]], cameras: Sequence[int], kinds: Sequence[Kind], rng: np.random.Generator
    ) -> tuple[Float[np.ndarray, "B V 3"], Float[np.ndarray, "B V 3"]]:
        """Vertices of bodies that err, not yet in their places but for fits, and of the true ones, camera axes."""
        true = _true(own, cameras)
        strength = torch.from_numpy(rng.uniform(0.3, 1.1, len(own)))
        betas, pose = self._errors.applied(self._model, *true, _rays(own, cameras), strength, rng)
        place = torch.zeros(len(own), 3)
        for k, ((shard, i), kind) in enumerate(zip(own, kinds, strict=True)):
            if kind == "exact":
                betas[k], pose[k] = true[0][k], true[1][k]
            elif kind == "fitted":
                assert shard.fits is not None
                betas[k], pose[k], place[k] = (
                    shard.fits.params.betas[i],
                    _pose(shard.fits.params, i)[0],
                    shard.fits.params.transl[i],
                )
        erring = self._model.params(
            betas=betas.float(),
            body_pose=pose[:, 1:].flatten(1).float(),
            global_orient=pose[:, 0].float(),
            transl=place,
        )
        room = BodyParams(**{n: torch.cat([s.params[n][[i]] for s, i in own]) for n in _NAMES})
        with torch.no_grad():
            body = self._model(**erring).vertices.double().numpy()
            real = self._model(**room).vertices.double().numpy()
        R, t = (np.stack([getattr(s, n)[i, c] for (s, i), c in zip(own, cameras, strict=True)]) for n in "Rt")
        return body, real @ R.transpose(0, 2, 1).astype(np.float64) + t[:, None]

    def _sample(
        self,
        shard: Shard,
        person: int,
        camera: int,
        body: Float[np.ndarray, "V 3"],
        real: Float[np.ndarray, "V 3"],
        kind: Kind,
        rng: np.random.Generator,
        *,
        plain: bool,
    ) -> tuple[Float32[np.ndarray, "9 S S"], BodyView, Float[np.ndarray, "M 3"], float, float]:
        """A sample: the network's picture, the body's view and medium vertices, how much larger the body is, and how
        far off its vertices are, metres.

        A fit knows sizes and distances only together: a body that is too large stands too far away by as much.
        """
        scale = 1.0
        if kind == "exact":
            body = real
        elif kind == "fitted":
            scale = float((body * real).sum() / (real * real).sum())
        else:
            spread = [np.sqrt(((v - v.mean(0)) ** 2).sum(1).mean()) for v in (body, real)]
            scale = float(spread[0] / spread[1])
            body = body - body.mean(0) + scale * real.mean(0)
            body = body + rng.uniform(0, 1) * rng.normal(0, _SHIFT_M, 3) * (1, 1, 0.3)
        medium = body[self._mesh.vertices]
        off_m = float(np.linalg.norm(medium / scale - real[self._mesh.vertices], axis=1).mean())
        roi = region_about(medium, shard.lens[person, camera].astype(np.float64))
        assert roi is not None
        if not plain:
            x, y = rng.normal(0, 0.02, 2) * roi.size
            roi = Roi(roi.x + x, roi.y + y, roi.size * np.exp(rng.normal(0, 0.04)), 0.0)
        view = body_view(medium, self._mesh, shard.lens[person, camera].astype(np.float64), roi)
        drawn, mask = sampled(shard.pictures[person, camera], roi), None
        if shard.fits is not None and shard.fits.good[person] and int(shard.fits.camera[person]) == camera:
            mask = sampled(shard.fits.masks[person], roi)
        if plain:
            alpha = drawn[..., 3] if mask is None or kind != "fitted" else mask
            inside = np.full((SIDE, SIDE), 255, np.uint8)
            return network_image(_before(drawn, np.zeros(3)), alpha, inside, view), view, medium, scale, off_m
        return _as_seen(drawn, mask, view, rng), view, medium, scale, off_m


def _pose(params: BodyParams, row: int) -> Float[Tensor, "1 J 3"]:
    return torch.cat([params.global_orient[[row]], params.body_pose[[row]]], 1).double().unflatten(1, (-1, 3))


def _true(
    own: Sequence[tuple[Shard, int]], cameras: Sequence[int]
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B J 3"]]:
    """True betas and poses, in the axes of the cameras."""
    betas = torch.cat([s.params.betas[[i]] for s, i in own]).double()
    pose = torch.cat([_pose(s.params, i) for s, i in own])
    R = torch.from_numpy(np.stack([s.R[i, c] for (s, i), c in zip(own, cameras, strict=True)])).double()
    pose[:, 0] = so3_log(R @ so3_exp(pose[:, 0]))
    return betas, pose


def _rays(own: Sequence[tuple[Shard, int]], cameras: Sequence[int]) -> Float[Tensor, "B 3"]:
    """Unit rays from the cameras to the middle of the people."""
    t = torch.from_numpy(np.stack([s.t[i, c] for (s, i), c in zip(own, cameras, strict=True)])).double()
    return torch.nn.functional.normalize(t, dim=1)


def _as_seen(
    drawn: UInt8[np.ndarray, "S S 4"], found: UInt8[np.ndarray, "S S"] | None, view: BodyView, rng: np.random.Generator
) -> Float32[np.ndarray, "9 S S"]:
    """The network's picture of a drawing, in other colours, with the mask that a detector found, or one like those."""
    alpha = drawn[..., 3]
    inside = _cut(rng) if rng.random() < 0.12 else np.full((SIDE, SIDE), 255, np.uint8)
    pixels = _recoloured(_before(drawn, rng.uniform(0, 255, 3)), rng)
    if found is not None and rng.random() < _OWN_MASKS:
        mask = found
    else:
        mask = alpha if rng.random() < _EXACT_MASKS else _worse(alpha, rng)
    image = network_image(pixels, np.minimum(mask, inside), inside, view)
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
