"""Count the views that see background at places along the normals, in a loop compiled by numba."""

from __future__ import annotations

from bodyfit.avatars.view import BACKGROUND, UNKNOWN
from bodyfit.runtime.compiled import jit

__all__ = ["vote"]


@jit
def vote(points, outward, levels, max_cosine, fx, fy, cx, cy, state, votes):
    """Add the votes of one view: of each vertex and level, how many see background, and how many see anything.

    points, outward: (V, 3) in camera axes; levels: (L,) metres along `outward`; state: (H, W); votes: (V, L, 2). A view
    has no vote on a vertex that moves towards it or away, by a cosine of more than `max_cosine`.
    """
    height, width = state.shape
    for v in range(len(points)):
        along = 0.0
        for c in range(3):
            along += points[v, c] * outward[v, c]
        if along * along > max_cosine**2 * (points[v] ** 2).sum() * (outward[v] ** 2).sum():
            continue
        for k in range(len(levels)):
            z = points[v, 2] + levels[k] * outward[v, 2]
            if z < 0.1:
                continue
            x = fx * (points[v, 0] + levels[k] * outward[v, 0]) / z + cx
            y = fy * (points[v, 1] + levels[k] * outward[v, 1]) / z + cy
            if not (0 <= x < width and 0 <= y < height):
                continue
            what = state[int(y), int(x)]
            if what == UNKNOWN:
                continue
            votes[v, k, 1] += 1
            if what == BACKGROUND:
                votes[v, k, 0] += 1
