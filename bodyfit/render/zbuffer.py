"""A z-buffer in numba: the nearest face at each pixel, computed face by face instead of pixel by pixel.

The arithmetic is float32 and in the same order as PyTorch3D's, so that both decide alike which pixels a face covers.
Imported where it is used, because numba takes a while to load.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from bodyfit.body.compiled import jit

__all__ = ["fill", "pixel_centres"]

_EPSILON = 1e-8  # PyTorch3D's bound on face areas and depths, and what it adds to an area before it divides
_SMALL_PX = 64 * 64  # pictures below this many pixels are not worth a thread


def pixel_centres(size: int, other: int) -> Float[np.ndarray, " S"]:
    """NDC coordinate of each column's (row's) pixel centre, left to right (top to bottom), as PyTorch3D rounds it.

    The picture's shorter side spans [-1, 1]; +x is left and +y is up, hence the descending order.
    """
    extent = np.float32(2.0) if size <= other else np.float32(size * np.float32(2.0)) / np.float32(other)
    half = extent / np.float32(2.0)
    steps = np.arange(size - 1, -1, -1).astype(np.float32)
    return -half + (extent * steps + half) / np.float32(size)


def fill(
    face_verts: Float[np.ndarray, "F 3 3"],
    first: Int[np.ndarray, " N"],
    count: Int[np.ndarray, " N"],
    perspective: bool,
    cull: bool,
    pix: Int[np.ndarray, "N H W"],
    zbuf: Float[np.ndarray, "N H W"],
    bary: Float[np.ndarray, "N H W 3"],
    dists: Float[np.ndarray, "N H W"],
    threads: int,
) -> None:
    """Write the nearest face, its depth, barycentric coordinates and signed squared edge distance at each pixel.

    All arrays float32 (indices int64), contiguous, outputs filled with -1. Threads own bands of rows, so that no pixel
    has two writers; Python threads over a GIL-free kernel, because numba's own are neither fork- nor thread-safe.
    """
    n_images, height, width = pix.shape
    xs, ys = pixel_centres(width, height), pixel_centres(height, width)
    bands = 1 if threads <= 1 or height * width <= _SMALL_PX else min(height, 4 * threads)
    edges = [round(i * height / bands) for i in range(bands + 1)]
    jobs = [(n, y0, y1) for n in range(n_images) for y0, y1 in pairwise(edges)]

    def run(job: tuple[int, int, int]) -> None:
        n, y0, y1 = job
        _fill_rows(face_verts, first[n], count[n], y0, y1, xs, ys, perspective, cull, pix[n], zbuf[n], bary[n])
        _edge_distances(face_verts, y0, y1, xs, ys, pix[n], dists[n])

    if len(jobs) == 1 or threads <= 1:
        for job in jobs:
            run(job)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, jobs))


@jit
def _fill_rows(face_verts, first, count, y_start, y_stop, xs, ys, perspective, cull, pix, zbuf, bary):
    height, width = pix.shape
    x_top, y_top = xs[0], ys[0]
    per_x = 0.0 if width == 1 else (width - 1) / (x_top - xs[width - 1])  # pixels for one unit of NDC
    per_y = 0.0 if height == 1 else (height - 1) / (y_top - ys[height - 1])
    for f in range(first, first + count):
        x0, y0, z0 = face_verts[f, 0, 0], face_verts[f, 0, 1], face_verts[f, 0, 2]
        x1, y1, z1 = face_verts[f, 1, 0], face_verts[f, 1, 1], face_verts[f, 1, 2]
        x2, y2, z2 = face_verts[f, 2, 0], face_verts[f, 2, 1], face_verts[f, 2, 2]
        area = (x2 - x0) * (y1 - y0) - (y2 - y0) * (x1 - x0)
        # Written so that NaN fails; a face with a corner behind the camera has no projection.
        if not (abs(area) > _EPSILON and z0 >= _EPSILON and z1 >= _EPSILON and z2 >= _EPSILON):
            continue
        if cull and area < 0:
            continue
        # The hundredth of a pixel is for rounding; the clamp comes first, for infinity is no row.
        top = min(max((y_top - max(y0, y1, y2)) * per_y - 0.01, y_start), y_stop)
        bottom = max(min((y_top - min(y0, y1, y2)) * per_y + 0.01, y_stop - 1), -1.0)
        left = min(max((x_top - max(x0, x1, x2)) * per_x - 0.01, 0.0), width)
        right = max(min((x_top - min(x0, x1, x2)) * per_x + 0.01, width - 1), -1.0)
        x_first, x_stop = math.ceil(left), math.floor(right) + 1
        divisor = np.float32(np.float64(area) + _EPSILON)
        positive = area > 0
        for row in range(math.ceil(top), math.floor(bottom) + 1):
            py = ys[row]
            for column in range(x_first, x_stop):
                px = xs[column]
                e0 = (px - x1) * (y2 - y1) - (py - y1) * (x2 - x1)
                e1 = (px - x2) * (y0 - y2) - (py - y2) * (x0 - x2)
                e2 = (px - x0) * (y1 - y0) - (py - y0) * (x1 - x0)
                inside = (e0 > 0 and e1 > 0 and e2 > 0) if positive else (e0 < 0 and e1 < 0 and e2 < 0)
                if not inside:
                    continue
                b0, b1, b2 = e0 / divisor, e1 / divisor, e2 / divisor
                if perspective:
                    t0, t1, t2 = b0 * z1 * z2, z0 * b1 * z2, z0 * z1 * b2
                    total = t0 + t1 + t2
                    b0, b1, b2 = t0 / total, t1 / total, t2 / total
                z = b0 * z0 + b1 * z1 + b2 * z2
                if pix[row, column] < 0 or z < zbuf[row, column]:  # of equals the first face stays
                    pix[row, column], zbuf[row, column] = f, z
                    bary[row, column, 0], bary[row, column, 1], bary[row, column, 2] = b0, b1, b2


@jit
def _edge_distances(face_verts, y_start, y_stop, xs, ys, pix, dists):
    """Minus the squared distance to the nearest edge: covered pixels lie inside their face."""
    for row in range(y_start, y_stop):
        py = ys[row]
        for column in range(pix.shape[1]):
            f = pix[row, column]
            if f < 0:
                continue
            px = xs[column]
            nearest = np.float32(np.inf)
            for a in range(3):
                b = (a + 1) % 3
                ax, ay = face_verts[f, a, 0], face_verts[f, a, 1]
                dx, dy = face_verts[f, b, 0] - ax, face_verts[f, b, 1] - ay
                along = (dx * (px - ax) + dy * (py - ay)) / max(dx * dx + dy * dy, np.float32(1e-30))
                along = min(max(along, np.float32(0.0)), np.float32(1.0))
                rx, ry = px - ax - along * dx, py - ay - along * dy
                nearest = min(nearest, rx * rx + ry * ry)
            dists[row, column] = -nearest
