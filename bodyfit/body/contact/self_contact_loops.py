"""Test points against a closed mesh, in loops compiled by numba; imported where it is used."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from bodyfit.runtime.compiled import jit, loose

__all__ = ["depth", "within_box"]


@loose
def depth(probes: Float[np.ndarray, "P 3"], vertices: Float[np.ndarray, "N 3"], faces: Int[np.ndarray, "F 3"]) -> float:
    """Return the largest distance from a probe inside a closed mesh to the mesh's nearest vertex; 0 if none is inside.

    A probe is inside where its winding number, the signed count of faces that a ray along z crosses, is not zero; the
    mesh may overlap itself. Vertices, probes and the result are in one unit.
    """
    turns = np.zeros(len(probes), np.int64)
    for f in range(len(faces)):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        x0, x1 = min(ax, bx, cx), max(ax, bx, cx)
        y0, y1, z1 = min(ay, by, cy), max(ay, by, cy), max(az, bz, cz)
        for p in range(len(probes)):
            x, y, z = probes[p, 0], probes[p, 1], probes[p, 2]
            if y < y0 or y > y1 or x < x0 or x > x1 or z > z1:
                continue
            winding = 0  # of the face's outline around the probe, projected along z
            for k in range(3):
                # Order the edge's vertices, so that both faces at the edge decide alike.
                i, j, sign = faces[f, k], faces[f, (k + 1) % 3], 1
                if i > j:
                    i, j, sign = j, i, -1
                rises = vertices[j, 1] > y
                if (vertices[i, 1] > y) != rises:
                    t = (y - vertices[i, 1]) / (vertices[j, 1] - vertices[i, 1])
                    if vertices[i, 0] + t * (vertices[j, 0] - vertices[i, 0]) > x:
                        winding += sign if rises else -sign
            area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
            if winding != 0 and area != 0:
                s = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
                t = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
                if az + s * (bz - az) + t * (cz - az) > z:
                    turns[p] += winding
    deepest = 0.0
    for p in np.flatnonzero(turns):
        nearest = np.inf
        for n in range(len(vertices)):
            x, y, z = vertices[n, 0] - probes[p, 0], vertices[n, 1] - probes[p, 1], vertices[n, 2] - probes[p, 2]
            nearest = min(nearest, x * x + y * y + z * z)
        deepest = max(deepest, nearest)
    return np.sqrt(deepest)


@jit
def within_box(vertices, probes, own):
    """Return those of the vertices `probes` (P,) that lie within the box of the vertices `own` (N,) of a mesh."""
    low, high = vertices[own[0]].copy(), vertices[own[0]].copy()
    for n in own:
        for k in range(3):
            low[k], high[k] = min(low[k], vertices[n, k]), max(high[k], vertices[n, k])
    out, count = np.empty_like(probes), 0
    for p in probes:
        x, y, z = vertices[p, 0], vertices[p, 1], vertices[p, 2]
        if low[0] < x < high[0] and low[1] < y < high[1] and low[2] < z < high[2]:
            out[count] = p
            count += 1
    return out[:count]
