"""Batches for the networks of new views, made of drawn people (`people`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from bodyfit.novel_views.assemble import layers_of, view_input
from bodyfit.novel_views.lift import OFFSET_M, Lifted, SourceMaps, depth_input, lifted
from bodyfit.novel_views.square import Body, Square

__all__ = ["WINDOW", "Photograph", "Samples", "is_exact"]

WINDOW = (208, 112)
"""Height and width of what networks learn from, about the person."""


_RIGHT_M = 0.012
"""Median offset of clothes from a body below which it is the right one."""


class Photograph:
    """One file of `people`: the photograph's square, and its new views."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.arrays: dict[str, Any] = {name: file[name] for name in file.files}
        a = self.arrays
        fx, fy, cx, cy = a["lens"].tolist()
        self.square = Square(a["image"], a["mask"], (fx, fy), (cx, cy), (0, 0), 1.0)
        away = a["away"].astype(np.float32)
        self.maps = SourceMaps(away == 0, _normals(a["normals"]), a["depth"], away)
        self.body = Body(np.zeros((0, 3)), np.zeros((0, 3), np.int64), a["pivot"])
        self.views = len(a["turns"])

    def depth_sample(self) -> tuple[Float32[np.ndarray, "10 S S"], Float32[np.ndarray, "1 S S"]]:
        """Return the depth network's input and its truth, NaN where there is none."""
        truth = self.arrays["offset"].astype(np.float32) / OFFSET_M
        truth[~self.square.mask] = np.nan
        return depth_input(self.square, self.maps, self.body), truth[None]

    def lifted(self, offset: Float[np.ndarray, "S S"] | None) -> Lifted:
        """Lift the photograph with an offset of the cloth."""
        return lifted(self.square, self.maps, offset)

    def view_sample(
        self, k: int, depth: Lifted, *, erode_px: int = 1
    ) -> tuple[Float32[np.ndarray, "16 S S"], Float32[np.ndarray, "4 S S"]]:
        """Return the refinement network's input for one view, and the true premultiplied RGBA."""
        a = self.arrays
        avatar = a[f"avatar{k}"].astype(np.float32) / np.float32(255)
        at = (a["turns"][k], self.square, a[f"depth{k}"], a["pivot"], avatar)
        layers = layers_of(depth.points(erode_px=erode_px), *at)
        inputs = view_input(layers, a[f"depth{k}"], _normals(a[f"normals{k}"]), float(a["pivot"][2]))
        return inputs, a[f"truth{k}"].transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def is_exact(path: Path) -> bool:
    """Tell whether a person was drawn with the right body and the exact mask."""
    with np.load(path) as file:
        offset, mask = file["offset"].astype(np.float32), file["mask"]
    there = np.isfinite(offset)
    return bool((mask == there).all() and np.median(np.abs(offset[there])) < _RIGHT_M)


class Samples:
    """Draws samples of people; sample i of a seed is always the same."""

    def __init__(
        self,
        files: list[Path],
        seed: int,
        offsets: dict[str, Float[np.ndarray, "S S"]] | None = None,
        exact_share: float | None = None,
    ) -> None:
        """offsets: of the cloth by file name, for views. exact_share: of people whose body and mask are right."""
        self._files, self._seed, self._offsets = files, seed, offsets
        right = np.array([exact_share is not None and is_exact(path) for path in files])
        weights = np.full(len(files), 1.0)
        if exact_share is not None and right.any() and not right.all():
            weights = np.where(right, exact_share / right.sum(), (1 - exact_share) / (~right).sum())
        self._shares = weights / weights.sum()

    def depth(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one sample of the depth network, perhaps mirrored."""
        rng = np.random.default_rng([self._seed, 1, number])
        photograph = Photograph(self._files[int(rng.choice(len(self._files), p=self._shares))])
        inputs, truth = photograph.depth_sample()
        inputs, truth = _window(inputs, truth, inputs[3] + inputs[4], rng)
        if rng.random() < 0.5:
            inputs, truth = inputs[..., ::-1].copy(), truth[..., ::-1].copy()
            inputs[5] *= -1
        return _recoloured(inputs, (slice(0, 3),), rng), truth

    def view(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one sample of the refinement network, perhaps mirrored."""
        rng = np.random.default_rng([self._seed, 2, number])
        path = self._files[int(rng.choice(len(self._files), p=self._shares))]
        photograph = Photograph(path)
        offset = None if self._offsets is None else self._offsets[path.name].astype(np.float32)
        inputs, truth = photograph.view_sample(int(rng.integers(photograph.views)), photograph.lifted(offset))
        inputs, truth = _window(inputs, truth, truth[3] + inputs[11], rng)
        if rng.random() < 0.5:
            inputs, truth = inputs[..., ::-1].copy(), truth[..., ::-1].copy()
            inputs[12] *= -1
        return inputs, truth


def _window(
    inputs: np.ndarray, truth: np.ndarray, about: Float32[np.ndarray, "S S"], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cut both to a window about a person, or to one that holds a part of a larger one."""
    corners = []
    for axis, size in enumerate(WINDOW):
        there = np.flatnonzero(about.any(1 - axis))
        low, high = (there[0], there[-1] + 1) if len(there) else (0, len(about))
        first, last = sorted((high - size, low))
        corners.append(int(np.clip(rng.integers(first, last + 1), 0, len(about) - size)))
    (y, x), (h, w) = corners, WINDOW
    return tuple(np.ascontiguousarray(a[:, y : y + h, x : x + w]) for a in (inputs, truth))  # pyright: ignore


def _recoloured(inputs: np.ndarray, channels: tuple[slice, ...], rng: np.random.Generator) -> np.ndarray:
    """Change gains and gamma of colours, as cameras do."""
    gain, gamma = np.exp(rng.normal(0, 0.15, (3, 1, 1))), np.exp(rng.normal(0, 0.15))
    for one in channels:
        inputs[one] = np.clip(gain * np.clip(inputs[one], 0, 1) ** gamma, 0, 1)
    return inputs


def _normals(values: np.ndarray) -> Float32[np.ndarray, "S S 3"]:
    return values.astype(np.float32) / np.float32(127)
