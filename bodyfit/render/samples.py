"""Rasterise and shade pictures with many samples a pixel, in loops compiled by numba.

`zbuffer.py` follows PyTorch3D's arithmetic and gives gradients; this module draws pictures for display: many samples a
pixel, of which those on one face are shaded once, in the memory of one band of rows.

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

from bodyfit.render.color import to_linear, to_srgb
from bodyfit.runtime.compiled import jit

__all__ = [
    "BLOCK",
    "CENTRE",
    "EIGHT",
    "band_maps",
    "band_picture",
    "blocks",
    "clear_buffers",
    "composite_over",
    "cover",
    "draw_line_over",
    "extent",
    "normals_of",
    "smooth_over_faces",
    "visibility_from",
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

_SRGB = to_srgb(np.linspace(0, 1, 4097)).astype(np.float32)  # sRGB of linear light in steps of 1/4096
_LIGHT = to_linear(np.arange(256) / 255).astype(np.float32)  # linear light of sRGB bytes


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
def smooth_over_faces(values, faces, rounds):
    """Replace vertex values (V, C) by the mean with their neighbours in the faces (F, 3), `rounds` times."""
    for _ in range(rounds):
        total, count = values.copy(), np.ones(len(values), np.float32)
        for f in range(len(faces)):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            for k in range(values.shape[1]):
                mean = (values[a, k] + values[b, k] + values[c, k]) / 3
                total[a, k] += mean
                total[b, k] += mean
                total[c, k] += mean
            count[a] += 1
            count[b] += 1
            count[c] += 1
        for v in range(len(values)):
            for k in range(values.shape[1]):
                total[v, k] /= count[v]
        values = total
    return values


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
def _weights(points, faces, f, x, y, perspective, out):
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


@jit
def _texel(texels, first, height, width, u, v, decode, out):
    """Write to `out` (3,) the linear light of a texture at (u, v), bilinear, clamped at its border.

    texels: (N, 3) bytes of all textures; this one starts at `first`, row-major, its first row at v = 1. decode: (256,)
    linear light of each byte value.
    """
    x = min(max(u * width - 0.5, 0.0), width - 1.0)
    y = min(max((1 - v) * height - 0.5, 0.0), height - 1.0)
    x0, y0 = int(x), int(y)
    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
    fx, fy = x - x0, y - y0
    upper, lower = first + y0 * width, first + y1 * width
    for k in range(3):
        above = (1 - fx) * decode[texels[upper + x0, k]] + fx * decode[texels[upper + x1, k]]
        below = (1 - fx) * decode[texels[lower + x0, k]] + fx * decode[texels[lower + x1, k]]
        out[k] = (1 - fy) * above + fy * below


@jit
def band_picture(points, faces, top, samples, touched, face_ids, light, albedo, texture_ids, uv, texels, sheets, rgba):
    """Write to `rgba` (h, w, 4) the premultiplied sRGB colour and coverage of the touched pixels of a band.

    touched, face_ids: as `cover` wrote them. light: (V, 4) RGB light on each vertex, and its specular highlight.
    albedo: (V, 3) linear colours. texture_ids: (F,) rows of `sheets` (T, 3: first of `texels`, height, width), -1 for
    none. uv: (F, 3, 2) texture coordinates. Each face in a pixel is shaded once, at the mean of its samples.
    """
    height, width, n = face_ids.shape
    weight, colour, texel = np.empty(3), np.empty(3), np.empty(3)
    for row in range(height):
        for column in range(width):
            if not touched[row, column // BLOCK]:
                continue
            covered = 0
            colour[:] = 0
            for s in range(n):
                f = face_ids[row, column, s]
                if f < 0:
                    continue
                covered += 1
                first = True
                for t in range(s):
                    if face_ids[row, column, t] == f:
                        first = False
                        break
                if not first:
                    continue
                count, x, y = 0, 0.0, 0.0
                for t in range(s, n):
                    if face_ids[row, column, t] == f:
                        count += 1
                        x += samples[t, 0]
                        y += samples[t, 1]
                _weights(points, faces, f, column + x / count, top + row + y / count, True, weight)
                textured = texture_ids[f] >= 0
                if textured:
                    u = weight[0] * uv[f, 0, 0] + weight[1] * uv[f, 1, 0] + weight[2] * uv[f, 2, 0]
                    v = weight[0] * uv[f, 0, 1] + weight[1] * uv[f, 1, 1] + weight[2] * uv[f, 2, 1]
                    first_texel, high, wide = sheets[texture_ids[f]]
                    _texel(texels, first_texel, high, wide, u, v, _LIGHT, texel)
                for k in range(3):
                    value = 0.0
                    for corner in range(3):
                        vertex = faces[f, corner]
                        paint = texel[k] if textured else albedo[vertex, k]
                        value += weight[corner] * (paint * light[vertex, k] + light[vertex, 3])
                    colour[k] += count * value
            for k in range(3):
                level = min(max(colour[k] / max(covered, 1), 0.0), 1.0)
                rgba[row, column, k] = _SRGB[int(level * 4096 + 0.5)] * covered / n
            rgba[row, column, 3] = covered / n


@jit
def band_maps(points, faces, top, face_ids, values, parts, smooth, vertex, part):
    """Interpolate vertex values (V, C) at pixel centres, and look up a vertex and the part of each pixel.

    face_ids: (h, w, 1); pixels without a face are not written. parts: (N, J) part weights of the N vertices of one
    body; the V vertices are those of V / N bodies in order, and J may be 0. Writes smooth (h, w, C), vertex (h, w), a
    vertex of the face, and part (h, w), the part of the largest weight.
    """
    height, width = face_ids.shape[:2]
    weight = np.empty(3)
    n_body, n_parts = parts.shape
    for row in range(height):
        for column in range(width):
            f = face_ids[row, column, 0]
            if f < 0:
                continue
            _weights(points, faces, f, column + 0.5, top + row + 0.5, True, weight)
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            vertex[row, column] = a
            for k in range(values.shape[1]):
                smooth[row, column, k] = weight[0] * values[a, k] + weight[1] * values[b, k] + weight[2] * values[c, k]
            most = -np.inf
            for k in range(n_parts):
                total = weight[0] * parts[a % n_body, k] + weight[1] * parts[b % n_body, k]
                total += weight[2] * parts[c % n_body, k]
                if total > most:
                    most = total
                    part[row, column] = k


@jit
def visibility_from(points, faces, queries, normals, off_mesh, basis, low, per_m, face_ids, nearness, visible):
    """Write to `visible` (Q,) how visible one direction is from each query, 0 to 1; 0 where the query faces away.

    points: (V, 3) and queries: (Q, 3) in metres; normals: (Q, 3) of the queries. off_mesh: (Q,) queries that do not lie
    on the mesh and need no bias. basis: (3, 3) rows right, down and towards the direction. The mesh is rendered from
    there in parallel projection into a square shadow map (face_ids, nearness: (size, size, 1)) of `per_m` texels a
    metre, whose corner is `low` (3,).
    """
    size = len(face_ids)
    flat = np.empty((len(points), 3), np.float32)
    for v in range(len(points)):
        for k in range(3):
            flat[v, k] = basis[k, 0] * points[v, 0] + basis[k, 1] * points[v, 1] + basis[k, 2] * points[v, 2]
        flat[v, 0] = (flat[v, 0] - low[0]) * per_m
        flat[v, 1] = (flat[v, 1] - low[1]) * per_m
    middle = np.full((1, 2), 0.5, np.float32)
    cover(flat, faces, np.int64(0), middle, clear_buffers(face_ids, nearness), face_ids, nearness)
    for q in range(len(queries)):
        facing = basis[2, 0] * normals[q, 0] + basis[2, 1] * normals[q, 1] + basis[2, 2] * normals[q, 2]
        if facing <= 0:
            visible[q] = 0.0
            continue
        off = 0.0 if off_mesh[q] else 1.3 / per_m  # the bias against self-shadowing, in proportion to a texel
        px, py, pz = (
            queries[q, 0] + off * normals[q, 0],
            queries[q, 1] + off * normals[q, 1],
            queries[q, 2] + off * normals[q, 2],
        )
        x = (basis[0, 0] * px + basis[0, 1] * py + basis[0, 2] * pz - low[0]) * per_m - 0.5
        y = (basis[1, 0] * px + basis[1, 1] * py + basis[1, 2] * pz - low[1]) * per_m - 0.5
        z = basis[2, 0] * px + basis[2, 1] * py + basis[2, 2] * pz + 0.5 * off
        if not (x >= 0 and y >= 0 and x < size - 1 and y < size - 1):
            visible[q] = 1.0
            continue
        x0, y0 = int(x), int(y)
        fx, fy = x - x0, y - y0
        visible[q] = (
            (1 - fy) * ((1 - fx) * (z >= nearness[y0, x0, 0]) + fx * (z >= nearness[y0, x0 + 1, 0]))
            + fy * ((1 - fx) * (z >= nearness[y0 + 1, x0, 0]) + fx * (z >= nearness[y0 + 1, x0 + 1, 0]))
        )  # fmt: skip


@jit
def composite_over(rgba, touched, opacity, picture, top, left):
    """Composite premultiplied `rgba` (h, w, 4), where touched, over a picture of bytes (H, W, 3), in place.

    top, left: the row and column of the picture that `rgba` begins at. A view of a part of the picture would be of
    another type than the whole, and compile anew.
    """
    for row in range(rgba.shape[0]):
        for column in range(rgba.shape[1]):
            if not touched[row, column // BLOCK]:
                continue
            under = 1 - opacity * rgba[row, column, 3]
            if under < 1:
                for k in range(3):
                    value = under * picture[top + row, left + column, k] + 255 * opacity * rgba[row, column, k]
                    picture[top + row, left + column, k] = np.uint8(min(max(value, 0.0), 255.0) + 0.5)


@jit
def draw_line_over(picture, ax, ay, bx, by, radius, color, opacity):
    """Draw an anti-aliased line with round ends from (ax, ay) to (bx, by) px over a picture of bytes, in place.

    radius: half the width, px. color: (3,) RGB in [0, 1].
    """
    height, width = picture.shape[:2]
    dx, dy = bx - ax, by - ay
    length2 = max(dx * dx + dy * dy, 1e-12)
    pad = radius + 1
    for row in range(int(max(min(ay, by) - pad, 0.0)), int(min(max(ay, by) + pad, height - 1.0)) + 1):
        y = row + 0.5 - ay
        left, right = min(ax, bx) - pad, max(ax, bx) + pad
        if abs(dy) > 1e-6:  # only what is near the line in this row
            middle, reach = ax + y * dx / dy, pad * np.sqrt(length2) / abs(dy)
            left, right = max(left, middle - reach), min(right, middle + reach)
        for column in range(int(max(left, 0.0)), int(min(right, width - 1.0)) + 1):
            x = column + 0.5 - ax
            along = min(max((x * dx + y * dy) / length2, 0.0), 1.0)
            distance = np.sqrt((x - along * dx) ** 2 + (y - along * dy) ** 2)
            coverage = opacity * min(max(radius + 0.5 - distance, 0.0), 1.0)
            if coverage > 0:
                for k in range(3):
                    under = picture[row, column, k]
                    picture[row, column, k] = np.uint8(under + coverage * (255 * color[k] - under) + 0.5)
