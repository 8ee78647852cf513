"""Find the nearest face at sample positions of each pixel, in loops compiled by numba.

`zbuffer.py` follows PyTorch3D's arithmetic and gives gradients; these loops work in pixels, with any number of samples
in each, in the memory of one band of rows.

Arguments that several loops share:
    points: (V, 3) float32 vertices as x px, y px, nearness, where nearness is linear over the picture: 1 / depth in
        perspective projection, minus depth in parallel projection.
    faces: (F, 3) int32 vertex indices. samples: (S, 2) positions in a pixel, each in [0, 1]. top: the band's first row.
    face_ids, nearness: (h, w, S) the nearest face at each sample of a band (-1: none) and its nearness.
    touched: (h, `blocks(w)`) bool, the blocks of `BLOCK` pixels in a row that hold anything.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from bodyfit.runtime.compiled import jit

__all__ = [
    "BLOCK",
    "CENTRE",
    "EIGHT",
    "blocks",
    "clear_buffers",
    "cover",
    "extent",
    "normals_of",
    "weights_on_face",
]

EIGHT: Float[np.ndarray, "8 2"] = 0.5 + np.array(
    [(1, -3), (-1, 3), (5, 1), (-3, -5), (-5, 5), (-7, -1), (3, 7), (7, -7)], np.float32
) / np.float32(16)
"""Sample positions in a pixel, no two in one row or column, so that edges near the axes are anti-aliased too (the
eight-sample pattern of Direct3D 11)."""
CENTRE: Float[np.ndarray, "1 2"] = np.full((1, 2), 0.5, np.float32)
"""One sample at the pixel's centre."""
BLOCK = 16
"""Number of neighbouring pixels of a row that are cleared together."""


@jit
def normals_of(points, faces):
    """Return unit normals (V, 3) of vertices (V, 3), area-weighted means of their faces'; 0 where undefined."""
    normals = np.zeros_like(points)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in range(3):
            v = faces[f, k]
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(len(normals)):
        x, y, z = normals[v, 0], normals[v, 1], normals[v, 2]
        length = np.sqrt(x * x + y * y + z * z)
        if length > 0:
            normals[v, 0], normals[v, 1], normals[v, 2] = x / length, y / length, z / length
    return normals


@jit
def extent(points, faces):
    """Return the least and the greatest x and y, (2,) each, of the vertices (V, 3) that faces (F, 3) use."""
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for f in range(len(faces)):
        for corner in range(3):
            for k in range(2):
                value = points[faces[f, corner], k]
                low[k], high[k] = min(low[k], value), max(high[k], value)
    return low, high


@jit
def clear_buffers(face_ids, nearness):
    """Clear `cover`'s buffers (h, w, S) and return `touched` with all blocks marked as cleared."""
    face_ids[:] = -1
    nearness[:] = -np.inf
    return np.ones((face_ids.shape[0], blocks(face_ids.shape[1])), np.bool_)


@jit
def blocks(width):
    """Return the number of blocks of `BLOCK` pixels in a row of this width."""
    return (width + BLOCK - 1) // BLOCK


@jit
def cover(points, faces, top, samples, touched, face_ids, nearness, cull=False):
    """Write the nearest face and its nearness at each sample of the rows from `top` on, into `face_ids`, `nearness`.

    A block of pixels is cleared and marked in `touched` when the first face reaches it, for most of a picture is empty.
    cull: skip back faces, which closed meshes hide.
    """
    height, width, n = face_ids.shape
    offset = np.empty((4, n), np.float64)
    first_x, last_x = samples[:, 0].min(), samples[:, 0].max()
    first_y, last_y = samples[:, 1].min(), samples[:, 1].max()
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ya, yb, yc = points[a, 1] - top, points[b, 1] - top, points[c, 1] - top
        y_low, y_high = min(ya, yb, yc), max(ya, yb, yc)
        if not (y_high > 0 and y_low < height):
            continue
        xa, xb, xc = np.float64(points[a, 0]), np.float64(points[b, 0]), np.float64(points[c, 0])
        x_low, x_high = min(xa, xb, xc), max(xa, xb, xc)
        if not (x_high > 0 and x_low < width):
            continue
        # Rows and columns with a sample within the face's box; the clamp comes first, for a face close to the camera
        # may reach beyond any integer.
        first, stop = math.ceil(max(x_low - last_x, 0.0)), math.floor(min(x_high - first_x, width - 1.0)) + 1
        first_row, last_row = math.ceil(max(y_low - last_y, 0.0)), math.floor(min(y_high - first_y, height - 1.0))
        if first >= stop or first_row > last_row:
            continue
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        if not abs(area) > 1e-12 or (
            cull and area > 0
        ):  # corners run clockwise on the screen, y down, visible from outside
            continue
        # Barycentric coordinates are a x + b y + c; each is 0 on the edge across from its corner.
        a0, b0 = (yb - yc) / area, (xc - xb) / area
        a1, b1 = (yc - ya) / area, (xa - xc) / area
        c0, c1 = -a0 * xc - b0 * yc, -a1 * xc - b1 * yc
        a2, b2, c2 = -a0 - a1, -b0 - b1, 1 - c0 - c1
        za, zb, zc = np.float64(points[a, 2]), np.float64(points[b, 2]), np.float64(points[c, 2])
        az, bz, cz = a0 * za + a1 * zb + a2 * zc, b0 * za + b1 * zb + b2 * zc, c0 * za + c1 * zb + c2 * zc
        for s in range(n):
            x, y = samples[s, 0], samples[s, 1]
            offset[0, s], offset[1, s], offset[2, s] = a0 * x + b0 * y, a1 * x + b1 * y, a2 * x + b2 * y
            offset[3, s] = az * x + bz * y
        most0, most1, most2 = max(a0, 0.0) + max(b0, 0.0), max(a1, 0.0) + max(b1, 0.0), max(a2, 0.0) + max(b2, 0.0)
        for row in range(first_row, last_row + 1):
            for block in range(first // BLOCK, (stop - 1) // BLOCK + 1):
                if not touched[row, block]:
                    touched[row, block] = True
                    face_ids[row, block * BLOCK : (block + 1) * BLOCK] = -1
                    nearness[row, block * BLOCK : (block + 1) * BLOCK] = -np.inf
            for column in range(first, stop):
                l0, l1, l2 = a0 * column + b0 * row + c0, a1 * column + b1 * row + c1, a2 * column + b2 * row + c2
                if l0 + most0 < 0 or l1 + most1 < 0 or l2 + most2 < 0:  # no sample of the pixel can be inside
                    continue
                near = az * column + bz * row + cz
                for s in range(n):
                    if l0 + offset[0, s] >= 0 and l1 + offset[1, s] >= 0 and l2 + offset[2, s] >= 0:
                        z = np.float32(near + offset[3, s])
                        if z > nearness[row, column, s]:
                            nearness[row, column, s] = z
                            face_ids[row, column, s] = f


@jit
def weights_on_face(points, faces, f, x, y, perspective, out):
    """Write to `out` (3,) the barycentric coordinates on face f of the point (x, y) px, clamped to the face.

    perspective: correct them for the corners' depths.
    """
    a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
    xa, ya = np.float64(points[a, 0]), np.float64(points[a, 1])
    xb, yb = np.float64(points[b, 0]), np.float64(points[b, 1])
    xc, yc = np.float64(points[c, 0]), np.float64(points[c, 1])
    area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
    l0 = max(((yb - yc) * (x - xc) + (xc - xb) * (y - yc)) / area, 0.0)
    l1 = max(((yc - ya) * (x - xc) + (xa - xc) * (y - yc)) / area, 0.0)
    l2 = max(1 - l0 - l1, 0.0)
    if perspective:
        l0, l1, l2 = l0 * points[a, 2], l1 * points[b, 2], l2 * points[c, 2]
    total = l0 + l1 + l2
    out[0], out[1], out[2] = l0 / total, l1 / total, l2 / total
