"""Find the face under each texel of a texture, in a loop compiled by numba; imported where it is used."""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import jit

__all__ = ["texels"]


@jit
def texels(at, faces, face, weights):
    """Fill each texel's face and barycentric coordinates where its centre lies in a face; later faces do not replace.

    at: (T, 2) texture coordinates in pixels; faces: (F, 3) rows of it; face: (S, S), -1 at first; weights: (S, S, 3).
    """
    size = len(face)
    for f in range(len(faces)):
        ax, ay = at[faces[f, 0], 0], at[faces[f, 0], 1]
        bx, by = at[faces[f, 1], 0], at[faces[f, 1], 1]
        cx, cy = at[faces[f, 2], 0], at[faces[f, 2], 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if not math.isfinite(area) or area == 0:
            continue
        x0, x1 = max(math.floor(min(ax, bx, cx) - 0.5), 0), min(math.ceil(max(ax, bx, cx)), size - 1)
        y0, y1 = max(math.floor(min(ay, by, cy) - 0.5), 0), min(math.ceil(max(ay, by, cy)), size - 1)
        for row in range(y0, y1 + 1):
            for column in range(x0, x1 + 1):
                if face[row, column] >= 0:
                    continue
                x, y = column + 0.5, row + 0.5
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                w = 1 - u - v
                if u >= -1e-9 and v >= -1e-9 and w >= -1e-9:
                    face[row, column] = f
                    weights[row, column] = np.array([u, v, w])
