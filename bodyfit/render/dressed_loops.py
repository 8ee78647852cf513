"""Shade textured surfaces and composite transparent ones over them, in loops compiled by numba.

Arguments as in `samples.py`; besides,
    texels, sheets, level: as in `texels.Pyramids`. uv: (T, 2) texture coordinates, of which uv_faces (F, 3) are rows.
    light: (V, 4) RGB light on each vertex, and its highlight.
    linear: (h, w, 4) premultiplied linear light and coverage. face_px: (h, w) the face that covers most of each pixel,
    -1 for none.
"""

from __future__ import annotations

import numpy as np

from bodyfit.raster.coverage import BLOCK, weights_on_face
from bodyfit.render.samples import LINEAR_OF_BYTE, SRGB_OF_LINEAR, face_samples
from bodyfit.runtime.compiled import jit

__all__ = [
    "composite_layers",
    "encode",
    "faces_about",
    "insert_layers",
    "mark_layers",
    "mark_opaque",
    "shade_opaque",
    "texel_areas",
]


@jit
def _bilinear(texels, first, height, width, u, v, decode, share, r, g, b, alpha):
    """Add `share` of a texture's linear light and alpha at (u, v), bilinear, clamped at its border, to four sums."""
    x = min(max(u * width - 0.5, 0.0), width - 1.0)
    y = min(max((1 - v) * height - 0.5, 0.0), height - 1.0)
    x0, y0 = int(x), int(y)
    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
    fx, fy = x - x0, y - y0
    i, j = first + y0 * width + x0, first + y0 * width + x1
    k, m = first + y1 * width + x0, first + y1 * width + x1
    wi, wj = share * (1 - fx) * (1 - fy), share * fx * (1 - fy)
    wk, wm = share * (1 - fx) * fy, share * fx * fy
    r += wi * decode[texels[i, 0]] + wj * decode[texels[j, 0]]
    g += wi * decode[texels[i, 1]] + wj * decode[texels[j, 1]]
    b += wi * decode[texels[i, 2]] + wj * decode[texels[j, 2]]
    r += wk * decode[texels[k, 0]] + wm * decode[texels[m, 0]]
    g += wk * decode[texels[k, 1]] + wm * decode[texels[m, 1]]
    b += wk * decode[texels[k, 2]] + wm * decode[texels[m, 2]]
    alpha += (wi * texels[i, 3] + wj * texels[j, 3] + wk * texels[k, 3] + wm * texels[m, 3]) / 255.0
    return r, g, b, alpha


@jit
def _shaded(points, faces, f, x, y, light, uv, uv_faces, texels, sheets, level, decode, weight, out):
    """Write to `out` (4,) the light that face f reflects at (x, y) px, not premultiplied, and its alpha."""
    weights_on_face(points, faces, f, x, y, True, weight)
    w0, w1, w2 = weight[0], weight[1], weight[2]
    ta, tb, tc = uv_faces[f, 0], uv_faces[f, 1], uv_faces[f, 2]
    u = w0 * uv[ta, 0] + w1 * uv[tb, 0] + w2 * uv[tc, 0]
    v = w0 * uv[ta, 1] + w1 * uv[tb, 1] + w2 * uv[tc, 1]
    low = int(level[f])
    part = level[f] - low
    r, g, b, alpha = _bilinear(
        texels, sheets[low, 0], sheets[low, 1], sheets[low, 2], u, v, decode, 1.0 - part, 0.0, 0.0, 0.0, 0.0
    )
    if part > 0.02:
        low += 1
        r, g, b, alpha = _bilinear(
            texels, sheets[low, 0], sheets[low, 1], sheets[low, 2], u, v, decode, part, r, g, b, alpha
        )
    else:
        r, g, b, alpha = r / (1.0 - part), g / (1.0 - part), b / (1.0 - part), alpha / (1.0 - part)
    va, vb, vc = faces[f, 0], faces[f, 1], faces[f, 2]
    glint = w0 * light[va, 3] + w1 * light[vb, 3] + w2 * light[vc, 3]
    out[0] = r * (w0 * light[va, 0] + w1 * light[vb, 0] + w2 * light[vc, 0]) + glint
    out[1] = g * (w0 * light[va, 1] + w1 * light[vb, 1] + w2 * light[vc, 1]) + glint
    out[2] = b * (w0 * light[va, 2] + w1 * light[vb, 2] + w2 * light[vc, 2]) + glint
    out[3] = alpha


@jit
def shade_opaque(
    points, faces, top, samples, touched, face_ids, light, uv, uv_faces, texels, sheets, level, linear, face_px,
    near_px,
):  # fmt: skip
    """Shade each face once in a pixel, at the mean of its samples.

    Writes `linear`, `face_px`, and near_px (h, w), the nearness of the face that covers most of the pixel.
    """
    height, width, n = face_ids.shape
    weight, colour = np.empty(3), np.empty(4)
    for row in range(height):
        for column in range(width):
            if not touched[row, column // BLOCK]:
                continue
            covered, most = 0, 0
            for s in range(n):
                f = face_ids[row, column, s]
                if f < 0:
                    continue
                covered += 1
                count, x, y = face_samples(face_ids[row, column], s, samples)
                if count == 0:
                    continue
                px, py = column + x / count, top + row + y / count
                _shaded(
                    points, faces, f, px, py, light, uv, uv_faces, texels, sheets, level, LINEAR_OF_BYTE, weight, colour
                )
                for k in range(3):
                    linear[row, column, k] += count * colour[k] / n
                if count > most:
                    most = count
                    face_px[row, column] = f
                    near = 0.0
                    total = 0.0
                    for k in range(3):  # weights are of depth; nearness is linear in the picture
                        z = points[faces[f, k], 2]
                        near += weight[k]
                        total += weight[k] / z
                    near_px[row, column] = near / total
            linear[row, column, 3] = covered / n
            if 2 * covered < n:
                face_px[row, column] = -1


@jit
def insert_layers(points, faces, top, down, left, samples, behind, layer_ids, layer_near, count):
    """Collect the nearest transparent faces at each sample, nearest first.

    points: nearness as tested. behind: (h, w, S) nearness of what is opaque. layer_ids, layer_near: (h, w, S, K) of
    a box that begins at row `down` of the band and at column `left`. count: (h, w, S) faces so far.
    """
    height, width, n, most = layer_ids.shape
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        xa, ya = np.float64(points[a, 0]) - left, np.float64(points[a, 1]) - (top + down)
        xb, yb = np.float64(points[b, 0]) - left, np.float64(points[b, 1]) - (top + down)
        xc, yc = np.float64(points[c, 0]) - left, np.float64(points[c, 1]) - (top + down)
        x_low, x_high, y_low, y_high = min(xa, xb, xc), max(xa, xb, xc), min(ya, yb, yc), max(ya, yb, yc)
        if not (x_high > 0 and x_low < width and y_high > 0 and y_low < height):
            continue
        area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
        if not abs(area) > 1e-12:
            continue
        first, stop = int(max(x_low, 0.0)), int(min(x_high, width - 1.0)) + 1
        first_row, last_row = int(max(y_low, 0.0)), int(min(y_high, height - 1.0))
        a0, b0 = (yb - yc) / area, (xc - xb) / area
        a1, b1 = (yc - ya) / area, (xa - xc) / area
        c0, c1 = -a0 * xc - b0 * yc, -a1 * xc - b1 * yc
        za, zb, zc = np.float64(points[a, 2]), np.float64(points[b, 2]), np.float64(points[c, 2])
        for row in range(first_row, last_row + 1):
            for column in range(first, stop):
                for s in range(n):
                    x, y = column + samples[s, 0], row + samples[s, 1]
                    l0, l1 = a0 * x + b0 * y + c0, a1 * x + b1 * y + c1
                    l2 = 1.0 - l0 - l1
                    if l0 < 0 or l1 < 0 or l2 < 0:
                        continue
                    z = np.float32(l0 * za + l1 * zb + l2 * zc)
                    if z < behind[row, column, s]:
                        continue
                    m = count[row, column, s]
                    if m == most and z <= layer_near[row, column, s, m - 1]:
                        continue
                    at = min(m, most - 1)
                    while at > 0 and layer_near[row, column, s, at - 1] < z:
                        layer_near[row, column, s, at] = layer_near[row, column, s, at - 1]
                        layer_ids[row, column, s, at] = layer_ids[row, column, s, at - 1]
                        at -= 1
                    layer_near[row, column, s, at] = z
                    layer_ids[row, column, s, at] = f
                    if m < most:
                        count[row, column, s] = m + 1


@jit
def composite_layers(
    points, faces, top, down, left, samples, layer_ids, layer_near, count, light, uv, uv_faces, texels, sheets, level,
    linear, face_px, near_px, first_face,
):  # fmt: skip
    """Composite the collected faces over `linear`, the band's, nearest first, in place.

    A face in a pixel is shaded once, at the pixel's centre. Where they hide more than half of what is behind, face_px
    becomes `first_face` plus the nearest face of some opacity, and near_px its nearness.
    """
    height, width, n, most = layer_ids.shape
    weight, colour = np.empty(3), np.empty(4)
    cached = np.empty(n * most, np.int64)
    colours = np.empty((n * most, 4))
    for row in range(height):
        for column in range(width):
            any_layer = 0
            for s in range(n):
                any_layer += count[row, column, s]
            if any_layer == 0:
                continue
            stored = 0
            passed, r, g, b = 0.0, 0.0, 0.0, 0.0
            front, front_near = -1, np.float32(-np.inf)
            for s in range(n):
                through = 1.0
                for k in range(count[row, column, s]):
                    f = layer_ids[row, column, s, k]
                    at = -1
                    for i in range(stored):
                        if cached[i] == f:
                            at = i
                            break
                    if at < 0:
                        at = stored
                        cached[at] = f
                        px, py = left + column + 0.5, top + down + row + 0.5
                        _shaded(
                            points,
                            faces,
                            f,
                            px,
                            py,
                            light,
                            uv,
                            uv_faces,
                            texels,
                            sheets,
                            level,
                            LINEAR_OF_BYTE,
                            weight,
                            colour,
                        )
                        for i in range(4):
                            colours[at, i] = colour[i]
                        stored += 1
                    alpha = colours[at, 3]
                    r += through * alpha * colours[at, 0]
                    g += through * alpha * colours[at, 1]
                    b += through * alpha * colours[at, 2]
                    if alpha > 0.4 and layer_near[row, column, s, k] > front_near:
                        front, front_near = f, layer_near[row, column, s, k]
                    through *= 1.0 - alpha
                    if through < 0.01:
                        break
                passed += through
            passed /= n
            linear[down + row, left + column, 0] = r / n + passed * linear[down + row, left + column, 0]
            linear[down + row, left + column, 1] = g / n + passed * linear[down + row, left + column, 1]
            linear[down + row, left + column, 2] = b / n + passed * linear[down + row, left + column, 2]
            linear[down + row, left + column, 3] = (1.0 - passed) + passed * linear[down + row, left + column, 3]
            if passed < 0.5 and front >= 0:
                face_px[down + row, left + column] = first_face + front
                near_px[down + row, left + column] = front_near


@jit
def encode(linear, touched, rgba):
    """Write to `rgba` (h, w, 4) the premultiplied sRGB colours of premultiplied linear light, where touched."""
    height, width = linear.shape[:2]
    for row in range(height):
        for column in range(width):
            if not touched[row, column // BLOCK]:
                continue
            alpha = linear[row, column, 3]
            if alpha <= 0:
                continue
            for k in range(3):
                value = min(max(linear[row, column, k] / alpha, 0.0), 1.0)
                rgba[row, column, k] = SRGB_OF_LINEAR[int(value * 4096 + 0.5)] * alpha
            rgba[row, column, 3] = alpha


@jit
def mark_opaque(touched, face_ids, faces, marked):
    """Set `marked` (V,) at the vertices of all faces that `cover` found at a sample."""
    height, width, n = face_ids.shape
    for row in range(height):
        for column in range(width):
            if not touched[row, column // BLOCK]:
                continue
            last = -1
            for s in range(n):
                f = face_ids[row, column, s]
                if f >= 0 and f != last:
                    for k in range(3):
                        marked[faces[f, k]] = True
                    last = f


@jit
def mark_layers(layer_ids, count, faces, marked):
    """Set `marked` (V,) at the vertices of all faces that `insert_layers` found."""
    height, width, n, _ = layer_ids.shape
    for row in range(height):
        for column in range(width):
            for s in range(n):
                for m in range(count[row, column, s]):
                    for k in range(3):
                        marked[faces[layer_ids[row, column, s, m], k]] = True


@jit
def faces_about(faces, marked, rings):
    """Tell which faces (F, 3) have a marked vertex or lie within so many rings more of faces; (F,) bool."""
    near, out = marked.copy(), np.zeros(len(faces), np.bool_)
    for ring in range(rings + 1):
        for f in range(len(faces)):
            out[f] = near[faces[f, 0]] or near[faces[f, 1]] or near[faces[f, 2]]
        if ring < rings:
            for f in range(len(faces)):
                if out[f]:
                    for k in range(3):
                        near[faces[f, k]] = True
    return out


@jit
def texel_areas(points, faces, uv, uv_faces, texels, out):
    """Write to `out` (F,) how many of its texture's texels lie in a pixel of each face, were they evenly spread.

    texels: of the whole texture.
    """
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        i, j, k = uv_faces[f, 0], uv_faces[f, 1], uv_faces[f, 2]
        ux, uy = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1]
        vx, vy = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1]
        px, py = uv[j, 0] - uv[i, 0], uv[j, 1] - uv[i, 1]
        qx, qy = uv[k, 0] - uv[i, 0], uv[k, 1] - uv[i, 1]
        drawn = max(abs(ux * vy - uy * vx), np.float32(1e-4))
        out[f] = np.float64(abs(px * qy - py * qx)) * texels / np.float64(drawn)
