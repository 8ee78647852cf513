"""Shade pictures with many samples a pixel, in loops compiled by numba.

Samples of a pixel on one face are shaded once, in the memory of one band of rows. Arguments are those of
`raster/coverage.py`.
"""

from __future__ import annotations

import numpy as np

from bodyfit.raster.coverage import BLOCK, weights_on_face
from bodyfit.render.color import to_linear, to_srgb
from bodyfit.runtime.compiled import jit

__all__ = [
    "band_maps",
    "band_picture",
    "color_normals",
    "composite_over",
    "draw_line_over",
    "face_samples",
    "smooth_over_faces",
    "visibility_from",
]

SRGB_OF_LINEAR = to_srgb(np.linspace(0, 1, 4097)).astype(np.float32)  # sRGB of linear light in steps of 1/4096
LINEAR_OF_BYTE = to_linear(np.arange(256) / 255).astype(np.float32)  # linear light of sRGB bytes


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
def face_samples(face_ids, s, samples):
    """Count the samples of a pixel that show the face of sample s, and sum their places; 0 where an earlier one does.

    So each face is shaded once in a pixel. face_ids: (S,) of one pixel. samples: (S, 2) places in it.
    """
    f = face_ids[s]
    for t in range(s):
        if face_ids[t] == f:
            return 0, 0.0, 0.0
    count, x, y = 0, 0.0, 0.0
    for t in range(s, len(face_ids)):
        if face_ids[t] == f:
            count += 1
            x += samples[t, 0]
            y += samples[t, 1]
    return count, x, y


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
                count, x, y = face_samples(face_ids[row, column], s, samples)
                if count == 0:
                    continue
                weights_on_face(points, faces, f, column + x / count, top + row + y / count, True, weight)
                textured = texture_ids[f] >= 0
                if textured:
                    u = weight[0] * uv[f, 0, 0] + weight[1] * uv[f, 1, 0] + weight[2] * uv[f, 2, 0]
                    v = weight[0] * uv[f, 0, 1] + weight[1] * uv[f, 1, 1] + weight[2] * uv[f, 2, 1]
                    first_texel, high, wide = sheets[texture_ids[f]]
                    _texel(texels, first_texel, high, wide, u, v, LINEAR_OF_BYTE, texel)
                for k in range(3):
                    value = 0.0
                    for corner in range(3):
                        vertex = faces[f, corner]
                        paint = texel[k] if textured else albedo[vertex, k]
                        value += weight[corner] * (paint * light[vertex, k] + light[vertex, 3])
                    colour[k] += count * value
            for k in range(3):
                level = min(max(colour[k] / max(covered, 1), 0.0), 1.0)
                rgba[row, column, k] = SRGB_OF_LINEAR[int(level * 4096 + 0.5)] * covered / n
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
            weights_on_face(points, faces, f, column + 0.5, top + row + 0.5, True, weight)
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
def _nearest(points, faces, nearness):
    """Write to `nearness` (h, w) the greatest z of the faces at the middle of each pixel; -inf where there is none.

    What `cover` does for one sample, without the faces' numbers: four times as fast for faces of a few pixels.
    """
    height, width = nearness.shape
    nearness[:] = -np.inf
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        xa, ya, za = points[a, 0] - 0.5, points[a, 1] - 0.5, points[a, 2]
        xb, yb, zb = points[b, 0] - 0.5, points[b, 1] - 0.5, points[b, 2]
        xc, yc, zc = points[c, 0] - 0.5, points[c, 1] - 0.5, points[c, 2]
        first, last = int(np.ceil(max(min(xa, xb, xc), 0.0))), int(np.floor(min(max(xa, xb, xc), width - 1.0)))
        top, bottom = int(np.ceil(max(min(ya, yb, yc), 0.0))), int(np.floor(min(max(ya, yb, yc), height - 1.0)))
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        if first > last or top > bottom or not abs(area) > 1e-12:
            continue
        a0, b0 = (yb - yc) / area, (xc - xb) / area
        a1, b1 = (yc - ya) / area, (xa - xc) / area
        for row in range(top, bottom + 1):
            l0 = a0 * (first - xc) + b0 * (row - yc)
            l1 = a1 * (first - xc) + b1 * (row - yc)
            for column in range(first, last + 1):
                if l0 >= 0 and l1 >= 0 and l0 + l1 <= 1:
                    z = np.float32(zc + l0 * (za - zc) + l1 * (zb - zc))
                    if z > nearness[row, column]:
                        nearness[row, column] = z
                l0 += a0
                l1 += a1


@jit
def visibility_from(points, faces, queries, normals, off_mesh, basis, low, per_m, nearness, visible):
    """Write to `visible` (Q,) how visible one direction is from each query, 0 to 1; 0 where the query faces away.

    points: (V, 3) and queries: (Q, 3) in metres; normals: (Q, 3) of the queries. off_mesh: (Q,) queries that do not lie
    on the mesh and need no bias. basis: (3, 3) rows right, down and towards the direction. The mesh is rendered from
    there in parallel projection into a square shadow map (nearness: (size, size)) of `per_m` texels a metre, whose
    corner is `low` (3,).
    """
    size = len(nearness)
    flat = np.empty((len(points), 3), np.float32)
    for v in range(len(points)):
        for k in range(3):
            flat[v, k] = basis[k, 0] * points[v, 0] + basis[k, 1] * points[v, 1] + basis[k, 2] * points[v, 2]
        flat[v, 0] = (flat[v, 0] - low[0]) * per_m
        flat[v, 1] = (flat[v, 1] - low[1]) * per_m
    _nearest(flat, faces, nearness)
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
            (1 - fy) * ((1 - fx) * (z >= nearness[y0, x0]) + fx * (z >= nearness[y0, x0 + 1]))
            + fy * ((1 - fx) * (z >= nearness[y0 + 1, x0]) + fx * (z >= nearness[y0 + 1, x0 + 1]))
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


@jit
def color_normals(normal, out):
    """Write to `out` (h, w, 3) the bytes 127.5 (1 + n) of unit normals (h, w, 3), y and z reversed; 0 where n is 0."""
    half = np.float32(127.5)
    for row in range(normal.shape[0]):
        for column in range(normal.shape[1]):
            x, y, z = normal[row, column, 0], normal[row, column, 1], normal[row, column, 2]
            if x == 0 and y == 0 and z == 0:
                out[row, column] = 0
                continue
            out[row, column, 0] = np.uint8(np.rint(half + x * half))
            out[row, column, 1] = np.uint8(np.rint(half - y * half))
            out[row, column, 2] = np.uint8(np.rint(half - z * half))
