"""Batches for the network of new views, made of drawn people (`people`)."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from scipy.spatial.transform import Rotation

from bodyfit.body.model import load_model
from bodyfit.novel_views.appearance import Appearance, mirrored_vertices
from bodyfit.novel_views.assemble import body_maps, layers_of, view_input
from bodyfit.novel_views.clothes import clothed_body
from bodyfit.novel_views.lift import Lifted, lifted
from bodyfit.novel_views.square import Body, Square
from bodyfit.runtime.atomic import write_atomically

__all__ = ["WINDOW", "Photograph", "Samples"]

WINDOW = (208, 112)
"""Height and width of what networks learn from, about the person."""
_NAKED = 0.12
"""Share of people whose pixels are lifted to the naked body: some models have no clothed surface."""
_ABOUT_PX = 12
"""Room about a person in stored views."""
_COLORS = ((0, 3), (6, 9))
"""Channels of colours of the refinement network's input, premultiplied."""
_SHARES = [*range(5), *range(6, 11), 15]
"""Channels from 0 to 1."""
_HUE_RAD, _GAIN = 0.6, 0.25
"""Deviation of turns about the grey axis, and of the logarithm of gains."""
_DEPTH_SCALE = 0.5
"""Of depths as bytes: channels that reach from -2 to 2."""


class Photograph:
    """One file of `people`: the photograph's square, and its new views."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self._arrays: dict[str, Any] = {name: file[name] for name in file.files}
        a = self._arrays
        fx, fy, cx, cy = a["lens"].tolist()
        self.square = Square(a["image"], a["mask"], (fx, fy), (cx, cy), (0, 0), 1.0)
        self.views = len(a["turns"])
        self._naked = np.random.default_rng([int(path.stem), 5]).random() < _NAKED

    @cached_property
    def bare(self) -> Body:
        """The naked body."""
        return Body.of(self._arrays["vertices"].astype(np.float64), load_model("open-x").faces.numpy())

    @cached_property
    def body(self) -> Body:
        """The surface that pixels are lifted to, about the body's middle."""
        lens = (*self.square.focal_px, *self.square.centre_px)
        return self.bare if self._naked else clothed_body(self.bare, self.square.image, self.square.mask, lens)

    @cached_property
    def lifted(self) -> Lifted:
        """The person's pixels at the depth of the surface."""
        return lifted(self.square, self.body)

    def view_sample(self, k: int) -> tuple[Float32[np.ndarray, "16 S S"], Float32[np.ndarray, "4 S S"]]:
        """Return the refinement network's input for one view, and the true premultiplied RGBA."""
        turn, pivot = self._arrays["turns"][k], self.body.pivot
        there = body_maps(self.square, self.body.turned(turn), self._appearance)
        bare = self.body is self.bare
        layers = layers_of(self.lifted.points(), turn, self.square, there.depth_m, pivot, there.avatar, bare=bare)
        inputs = view_input(layers, there.depth_m, there.normals, float(pivot[2]))
        return inputs, self._arrays[f"truth{k}"].transpose(2, 0, 1).astype(np.float32) / np.float32(255)

    @cached_property
    def _appearance(self) -> Appearance:
        return Appearance(self.square, self.body, mirrored_vertices(load_model("open-x").v_template.double().numpy()))


class Samples:
    """Draws samples of people; sample i of a seed is always the same. What takes long to make is stored."""

    def __init__(self, files: list[Path], seed: int, store: Path) -> None:
        """store: folder for what was made."""
        self._files, self._seed, self._store = files, seed, store
        store.mkdir(parents=True, exist_ok=True)

    def view(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one sample: the network's input and the truth, perhaps mirrored, in other colours."""
        rng = np.random.default_rng([self._seed, 2, number])
        path = self._files[int(rng.integers(len(self._files)))]
        inputs, truth = self.whole_view(path, int(rng.integers(int(self._views(path, 0)["views"]))))
        inputs, truth = _window(inputs, truth, truth[3] + inputs[9], rng)
        if rng.random() < 0.5:
            inputs, truth = inputs[..., ::-1].copy(), truth[..., ::-1].copy()
            inputs[11] *= -1
        return _other_colors(inputs, truth, rng)

    def whole_view(self, path: Path, k: int) -> tuple[Float32[np.ndarray, "16 H W"], Float32[np.ndarray, "4 H W"]]:
        """Return one view of a person with some room about it, as the refinement network's input, and the truth."""
        stored = self._views(path, k)
        return _floats(stored["inputs"]), stored["truth"].astype(np.float32) / np.float32(255)

    def _views(self, path: Path, k: int) -> dict[str, np.ndarray]:
        if not (self._store / f"{path.stem}_0.npz").is_file():
            self._store_views(path)
        with np.load(self._store / f"{path.stem}_{k}.npz") as file:
            return {name: file[name] for name in file.files}

    def _store_views(self, path: Path) -> None:
        """Make all views of one person; the first is written last."""
        one = Photograph(path)
        for k in reversed(range(one.views)):
            inputs, truth = one.view_sample(k)
            box = _box(truth[3] + inputs[9] + inputs[3], _ABOUT_PX)
            arrays = {
                "inputs": _bytes(inputs[(slice(None), *box)]),
                "truth": np.round(255 * truth[(slice(None), *box)]).astype(np.uint8),
                "views": np.array(one.views),
            }
            with write_atomically(self._store / f"{path.stem}_{k}.npz") as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def _box(there: Float32[np.ndarray, "S S"], room: int) -> tuple[slice, slice]:
    """Return the box of what is there with room about it, of at least `WINDOW`, within the square."""
    slices = []
    for axis, size in enumerate(WINDOW):
        at = np.flatnonzero(there.any(1 - axis))
        low, high = (at[0], at[-1] + 1) if len(at) else (0, 1)
        first = int(np.clip(min(low - room, (low + high - size) // 2), 0, len(there) - size))
        slices.append(slice(first, min(max(high + room, first + size), len(there))))
    return slices[0], slices[1]


def _bytes(inputs: Float32[np.ndarray, "16 H W"]) -> np.ndarray:
    """Round channels to whole parts of 127 (of 64 for depths, which reach from -2 to 2)."""
    scaled = inputs.copy()
    scaled[[5, 14]] *= _DEPTH_SCALE
    scaled[_SHARES] = 2 * scaled[_SHARES] - 1  # in all of the bytes
    return np.round(127 * scaled.clip(-1, 1)).astype(np.int8)


def _floats(stored: np.ndarray) -> Float32[np.ndarray, "16 H W"]:
    """Undo `_bytes`."""
    inputs = stored.astype(np.float32) / np.float32(127)
    inputs[_SHARES] = 0.5 * inputs[_SHARES] + 0.5
    inputs[[5, 14]] /= _DEPTH_SCALE
    return inputs


def _window(
    inputs: np.ndarray, truth: np.ndarray, about: Float32[np.ndarray, "H W"], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cut both to a window about a person, or to one that holds a part of a larger one."""
    corners = []
    for axis, size in enumerate(WINDOW):
        there, length = np.flatnonzero(about.any(1 - axis)), about.shape[axis]
        low, high = (there[0], there[-1] + 1) if len(there) else (0, length)
        first, last = sorted((high - size, low))
        corners.append(int(np.clip(rng.integers(first, last + 1), 0, length - size)))
    (y, x), (h, w) = corners, WINDOW
    return tuple(np.ascontiguousarray(a[:, y : y + h, x : x + w]) for a in (inputs, truth))  # pyright: ignore


def _other_colors(inputs: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Turn hues and change gains of a view: linear, so that what is premultiplied stays so, and nothing is clipped."""
    grey = np.ones(3) / np.sqrt(3)
    gains = np.exp(rng.normal(0, _GAIN, 3))
    matrix = np.diag(gains / gains.max()) @ Rotation.from_rotvec(rng.normal(0, _HUE_RAD) * grey).as_matrix()
    if rng.random() < 0.5:
        matrix = np.eye(3)
    matrix = matrix.astype(np.float32)
    highest = max(1.0, float(np.max(np.tensordot(matrix, truth[:3], 1))))
    for array, low, high in ((truth, 0, 3), *((inputs, *channels) for channels in _COLORS)):
        array[low:high] = np.clip(np.tensordot(matrix / highest, array[low:high], 1), 0, None)
    return inputs, truth
