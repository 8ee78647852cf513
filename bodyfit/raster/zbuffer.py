"""Rasterise face by face instead of pixel by pixel, with the picture's rows divided over threads.

Imported where it is used, because numba takes a while to load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, Int64

from bodyfit.raster import zbuffer_loops as loops

__all__ = ["Rules", "fill", "pixel_centres", "pull_back"]

_SMALL_PX = 64 * 64  # pictures below this many pixels are not worth a thread


@dataclass(frozen=True)
class Rules:
    """PyTorch3D's rasterisation settings with their defaults resolved, and the number of threads."""

    blur_radius: float
    perspective: bool
    clip: bool
    cull: bool
    threads: int


def pixel_centres(size: int, other: int) -> Float32[np.ndarray, " S"]:
    """Return the NDC coordinate of each column's (row's) pixel centre, left to right (top to bottom).

    Rounded as PyTorch3D rounds it.

    The picture's shorter side spans [-1, 1]; +x is left and +y is up, hence the descending order.
    """
    extent = np.float32(2.0) if size <= other else np.float32(size * np.float32(2.0)) / np.float32(other)
    half = extent / np.float32(2.0)
    steps = np.arange(size - 1, -1, -1).astype(np.float32)
    return -half + (extent * steps + half) / np.float32(size)


def fill(
    face_verts: Float32[np.ndarray, "F 3 3"],
    first: Int64[np.ndarray, " N"],
    count: Int64[np.ndarray, " N"],
    neighbours: Int64[np.ndarray, " G"],
    xs: Float32[np.ndarray, " W"],
    ys: Float32[np.ndarray, " H"],
    rules: Rules,
    pix: Int64[np.ndarray, "N H W K"],
    zbuf: Float32[np.ndarray, "N H W K"],
    bary: Float32[np.ndarray, "N H W K 3"],
    dists: Float32[np.ndarray, "N H W K"],
) -> None:
    """Rasterise faces into the fragment arrays of pictures with these pixel centres.

    `neighbours`: for each face the other half of the face that clipping split, or -1; empty where no face was split.
    All arrays are contiguous; outputs are overwritten. Each thread owns bands of rows, so that no pixel has two
    writers; these are Python threads over loops without the GIL, because numba's own are neither fork- nor thread-safe.
    """
    blur = np.float32(rules.blur_radius)
    simple = pix.shape[3] == 1 and blur == 0 and len(neighbours) == 0
    in_order = simple or len(neighbours) > 0
    candidates = [
        _CandidateFaces.select(face_verts, f, n, xs, ys, rules, in_order=in_order)
        for f, n in zip(first.tolist(), count.tolist(), strict=True)
    ]

    def run(job: tuple[int, int, int]) -> None:
        n, y0, y1 = job
        for output in (pix, zbuf, bary, dists):
            output[n, y0:y1].fill(-1)
        mesh = candidates[n]
        which = (face_verts, mesh.faces, mesh.boxes)
        how = (rules.perspective, rules.clip)
        if simple:
            loops.keep_nearest(*which, y0, y1, xs, ys, *how, pix[n], zbuf[n])
        else:
            loops.keep_k(*which, mesh.lowest, neighbours, y0, y1, xs, ys, blur, *how, pix[n], zbuf[n])
        top, bottom, left, right = mesh.extent
        within = (max(y0, top), min(y1, bottom), left, right)
        loops.measure(face_verts, *within, xs, ys, *how, pix[n], bary[n], dists[n])

    _share(run, _bands(pix.shape, rules.threads), rules.threads)


@dataclass(frozen=True)
class _CandidateFaces:
    """The faces of a mesh that may be visible."""

    faces: Int64[np.ndarray, " M"]
    """Indices of the faces."""
    boxes: Int[np.ndarray, "M 4"]
    """First row, last row (excluded), first column and last column (excluded) that each face may touch."""
    lowest: Float32[np.ndarray, " M"]
    """A lower bound of the depths on each face."""
    extent: tuple[int, int, int, int]
    """The union of all boxes."""

    @classmethod
    def select(
        cls, face_verts: Any, first: int, count: int, xs: Any, ys: Any, rules: Rules, *, in_order: bool
    ) -> _CandidateFaces:
        """Select the faces of a mesh that project into the picture, by depth unless `in_order` keeps their order."""
        faces, boxes = np.empty(count, np.int64), np.empty((count, 4), np.int32)
        lowest = np.empty(count, np.float32)
        reach = np.sqrt(np.float32(rules.blur_radius))
        sums_to_one = rules.clip or (rules.perspective and reach == 0)
        m = loops.choose_faces(face_verts, first, count, rules.cull, reach, sums_to_one, xs, ys, faces, boxes, lowest)
        faces, boxes, lowest = faces[:m], boxes[:m], lowest[:m]
        if not in_order:  # near faces first, so that most far ones fail the depth test early
            order = np.argsort(lowest)
            faces, boxes, lowest = faces[order], boxes[order], lowest[order]
        if m == 0:
            return cls(faces, boxes, lowest, (0, 0, 0, 0))
        (top, left), (bottom, right) = boxes[:, ::2].min(0).tolist(), boxes[:, 1::2].max(0).tolist()
        return cls(faces, boxes, lowest, (top, bottom, left, right))


def _bands(shape: tuple[int, ...], threads: int) -> list[tuple[int, int, int]]:
    """Divide pictures into jobs (picture, first row, last row excluded): four a thread, for rows cost unevenly."""
    n_images, height, width = shape[:3]
    bands = 1 if threads <= 1 or height * width <= _SMALL_PX else min(height, 4 * threads)
    edges = [round(i * height / bands) for i in range(bands + 1)]
    return [(n, y0, y1) for n in range(n_images) for y0, y1 in pairwise(edges)]


def _share(run: Callable[[Any], None], jobs: Iterable[Any], threads: int) -> None:
    """Call `run(job)` for each job, on so many threads."""
    jobs = list(jobs)
    if len(jobs) == 1 or threads <= 1:
        for job in jobs:
            run(job)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, jobs))


def pull_back(
    face_verts: Float32[np.ndarray, "F 3 3"],
    xs: Float32[np.ndarray, " W"],
    ys: Float32[np.ndarray, " H"],
    rules: Rules,
    pix: Int64[np.ndarray, "N H W K"],
    grad_zbuf: Float32[np.ndarray, "N H W K"],
    grad_bary: Float32[np.ndarray, "N H W K 3"],
    grad_dists: Float32[np.ndarray, "N H W K"],
) -> Float[np.ndarray, "F 3 3"]:
    """Return the gradient of a loss with respect to the faces' corners from its gradients to fragments, in float64.

    `pix` as `fill` wrote it. Each thread sums interleaved rows, for bodies fill the picture unevenly.
    """
    threads = rules.threads if pix.shape[1] * pix.shape[2] > _SMALL_PX else 1
    sums = np.zeros((threads, *face_verts.shape))

    def run(thread: int) -> None:
        for n in range(len(pix)):
            fragments = (pix[n], grad_zbuf[n], grad_bary[n], grad_dists[n])
            how = (rules.perspective, rules.clip)
            loops.add_gradients(face_verts, thread, threads, xs, ys, *how, *fragments, sums[thread])

    _share(run, range(threads), threads)
    return sums.sum(0)
