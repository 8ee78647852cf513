"""Rasterise faces in loops compiled by numba: coverage, barycentric coordinates, distances, and their gradients.

The forward arithmetic is PyTorch3D's (its `rasterize_meshes_cpu.cpp`): float32, in the same order, no fused operations,
so that both decide alike which pixels a face covers. Coordinates are PyTorch3D's NDC; z is the depth before the camera.

Arguments that several loops share:
    face_verts: (F, 3, 3) corners of the faces, x, y in NDC and depth.
    xs, ys: (W,), (H,) NDC coordinates of the pixel centres, descending.
    a, b, c: (x, y, z) corners of one face; px, py: NDC coordinates of one pixel centre.
    perspective, clip: PyTorch3D's `perspective_correct` and `clip_barycentric_coords`.
    pix: (H, W, K) int64 face indices by depth, -1 where there is none; zbuf: (H, W, K) depths;
    bary: (H, W, K, 3) weights of the corners; dists: (H, W, K) squared NDC distances to the outline, negative inside.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from bodyfit.runtime.compiled import jit

__all__ = ["add_gradients", "choose_faces", "keep_k", "keep_nearest", "measure"]

_kernel = partial(jit, error_model="numpy")
_part = partial(jit, error_model="numpy", forceinline=True)

_EPSILON = 1e-8  # PyTorch3D's: least depth, area and squared length, and what it adds to an area before dividing
_LEAST_TOTAL = np.float32(1e-8)
_LEAST_SUM = np.float32(1e-5)
_ZERO, _ONE = np.float32(0), np.float32(1)
_NEVER_NEARER = 1 - 1e-5  # times the nearest corner's depth: a lower bound, for the weights sum to 1 up to rounding
_SAFE_DEPTH = 1e-3  # below this depth PyTorch3D's clamps act and weights need not sum to 1


@_part
def _corners(face_verts, f):
    """Return the corners a, b, c of face f, each (x, y, z)."""
    return (
        (face_verts[f, 0, 0], face_verts[f, 0, 1], face_verts[f, 0, 2]),
        (face_verts[f, 1, 0], face_verts[f, 1, 1], face_verts[f, 1, 2]),
        (face_verts[f, 2, 0], face_verts[f, 2, 1], face_verts[f, 2, 2]),
    )


@_part
def _edge(px, py, a, b):
    """Return twice the signed area of the triangle p, a, b."""
    return (px - a[0]) * (b[1] - a[1]) - (py - a[1]) * (b[0] - a[0])


@_part
def _divisor(a, b, c):
    """Return the divisor of barycentric areas: twice the face's signed area plus PyTorch3D's epsilon."""
    return np.float32(_edge(c[0], c[1], a, b) + _EPSILON)


@_part
def _weights(px, py, a, b, c, divisor, perspective):
    """Return the barycentric coordinates of a pixel in the picture plane, or on the face with perspective."""
    w0 = _edge(px, py, b, c) / divisor
    w1 = _edge(px, py, c, a) / divisor
    w2 = _edge(px, py, a, b) / divisor
    if perspective:
        w0, w1, w2 = w0 * b[2] * c[2], w1 * a[2] * c[2], w2 * a[2] * b[2]
        total = w0 + w1 + w2
        total = _LEAST_TOTAL if total < _LEAST_TOTAL else total
        w0, w1, w2 = w0 / total, w1 / total, w2 / total
    return w0, w1, w2


@_part
def _clipped(w0, w1, w2):
    """Clamp barycentric coordinates of a point outside the face to the face, sum 1."""
    w0 = _ZERO if w0 < _ZERO else w0
    w1 = _ZERO if w1 < _ZERO else w1
    w2 = _ZERO if w2 < _ZERO else w2
    total = w0 + w1 + w2
    total = _LEAST_SUM if total < _LEAST_SUM else total
    return w0 / total, w1 / total, w2 / total


@_part
def _to_edge(px, py, a, b):
    """Return the squared distance of a pixel to the segment a, b."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = dx * dx + dy * dy
    along = (dx * (px - a[0]) + dy * (py - a[1])) / length
    along = _ZERO if along < _ZERO else along
    along = _ONE if along > _ONE else along
    tiny = length <= _EPSILON
    rx = px - (b[0] if tiny else a[0] + along * dx)
    ry = py - (b[1] if tiny else a[1] + along * dy)
    return rx * rx + ry * ry


@_part
def _to_outline(px, py, a, b, c):
    """Return the squared distance of a pixel to the face's nearest edge."""
    ab, ac, bc = _to_edge(px, py, a, b), _to_edge(px, py, a, c), _to_edge(px, py, b, c)
    nearest = ac if ac < ab else ab
    return bc if bc < nearest else nearest


@_part
def _inside(w0, w1, w2):
    """Tell whether barycentric coordinates lie strictly inside the face."""
    return w0 > 0 and w1 > 0 and w2 > 0


@_part
def _span(centres, per_unit, low, high):
    """Return the first and the last (excluded) index of the descending pixel centres within [low, high]."""
    last = len(centres) - 1
    # A hundredth of a pixel is more than rounding; the exact comparison follows.
    start = math.ceil(min(max((centres[0] - high) * per_unit - 0.01, 0.0), last + 1.0))
    stop = math.floor(max(min((centres[0] - low) * per_unit + 0.01, last + 0.0), -1.0)) + 1
    while start < stop and centres[start] > high:
        start += 1
    while start < stop and centres[stop - 1] < low:
        stop -= 1
    return start, stop


@_kernel
def choose_faces(face_verts, first, count, cull, reach, sums_to_one, xs, ys, faces, boxes, lowest):
    """Select the faces of a mesh that project into the picture and return their number M.

    first, count: the mesh's range of faces. cull: skip back faces. reach: blur radius in NDC. sums_to_one: barycentric
    weights sum to 1, so that the nearest corner bounds the depth. Writes the first M rows of `faces` (face indices),
    `boxes` (M, 4: first row, last row excluded, first column, last column excluded) and `lowest` (lower bounds of the
    depths). A face with a corner behind the camera, or one that is not finite, is skipped.
    """
    per_x = 0.0 if len(xs) == 1 else (len(xs) - 1) / (xs[0] - xs[-1])  # pixels for one unit of NDC
    per_y = 0.0 if len(ys) == 1 else (len(ys) - 1) / (ys[0] - ys[-1])
    n_chosen = 0
    for f in range(first, first + count):
        a, b, c = _corners(face_verts, f)
        area = _edge(a[0], a[1], b, c)
        nearest = min(a[2], b[2], c[2])
        finite = math.isfinite(a[2]) and math.isfinite(b[2]) and math.isfinite(c[2]) and math.isfinite(area)
        if not finite or nearest < _EPSILON or abs(area) <= _EPSILON or (cull and area < 0):
            continue
        left, right = _span(xs, per_x, min(a[0], b[0], c[0]) - reach, max(a[0], b[0], c[0]) + reach)
        top, bottom = _span(ys, per_y, min(a[1], b[1], c[1]) - reach, max(a[1], b[1], c[1]) + reach)
        if left >= right or top >= bottom:
            continue
        faces[n_chosen] = f
        boxes[n_chosen, 0], boxes[n_chosen, 1], boxes[n_chosen, 2], boxes[n_chosen, 3] = top, bottom, left, right
        lowest[n_chosen] = nearest * _NEVER_NEARER if sums_to_one and nearest > _SAFE_DEPTH else -np.inf
        n_chosen += 1
    return n_chosen


@_kernel
def keep_nearest(face_verts, faces, boxes, y_start, y_stop, xs, ys, perspective, clip, pix, zbuf):
    """Write the nearest face at each pixel and its depth, for K = 1 without blur; of equal depths the first stays.

    faces, boxes: (M,), (M, 4) as `choose_faces` wrote them. Pixels of rows y_start to y_stop (excluded) are written.
    """
    for i in range(len(faces)):
        top, bottom = max(boxes[i, 0], y_start), min(boxes[i, 1], y_stop)
        if top >= bottom:
            continue
        f = faces[i]
        a, b, c = _corners(face_verts, f)
        divisor = _divisor(a, b, c)
        positive = divisor > 0
        for row in range(top, bottom):
            py = ys[row]
            for column in range(boxes[i, 2], boxes[i, 3]):
                px = xs[column]
                if (
                    (_edge(px, py, b, c) > 0) != positive
                    or (_edge(px, py, c, a) > 0) != positive
                    or (_edge(px, py, a, b) > 0) != positive
                ):
                    continue  # most pixels of the box, before the divisions
                w0, w1, w2 = _weights(px, py, a, b, c, divisor, perspective)
                if not _inside(w0, w1, w2):
                    continue
                if clip:
                    w0, w1, w2 = _clipped(w0, w1, w2)
                z = w0 * a[2] + w1 * b[2] + w2 * c[2]
                if z >= 0 and (pix[row, column, 0] < 0 or z < zbuf[row, column, 0]):
                    pix[row, column, 0], zbuf[row, column, 0] = f, z


@_part
def _find(faces, count, f):
    """Return the index of face f among the first `count` of a pixel's faces (K,), or `count`."""
    k = 0
    while k < count and faces[k] != f:
        k += 1
    return k


@_part
def _insert(faces, depths, count, f, z):
    """Insert a face into a pixel's faces (K,) sorted by depth, dropping the farthest beyond K; return their number."""
    k = count
    while k > 0 and (z < depths[k - 1] or (z == depths[k - 1] and f < faces[k - 1])):
        k -= 1
    if k == len(faces):
        return count
    count = min(count + 1, len(faces))
    for later in range(count - 1, k, -1):
        faces[later], depths[later] = faces[later - 1], depths[later - 1]
    faces[k], depths[k] = f, z
    return count


@_kernel
def keep_k(face_verts, faces, boxes, lowest, neighbours, y_start, y_stop, xs, ys, blur, perspective, clip, pix, zbuf):
    """Write the K nearest faces that contain each pixel or lie within the blur radius, by depth, then by index.

    faces, boxes, lowest: (M,), (M, 4), (M,) as `choose_faces` wrote them. neighbours: (F,) for each face the other half
    of the face that clipping split, or -1, or empty; of two halves a pixel keeps the nearer one. blur: squared radius
    in NDC. Pixels of rows y_start to y_stop (excluded) are written.
    """
    k_most = pix.shape[2]
    counts = np.zeros((y_stop - y_start, len(xs)), np.int32)
    farthest = np.full((y_stop - y_start, len(xs)), np.inf, np.float32)  # depth of the K-th face of each pixel
    for i in range(len(faces)):
        top, bottom = max(boxes[i, 0], y_start), min(boxes[i, 1], y_stop)
        if top >= bottom:
            continue
        f = faces[i]
        neighbour = neighbours[f] if len(neighbours) > 0 else -1
        low = lowest[i] if neighbour < 0 else -np.inf
        a, b, c = _corners(face_verts, f)
        divisor = _divisor(a, b, c)
        for row in range(top, bottom):
            py = ys[row]
            for column in range(boxes[i, 2], boxes[i, 3]):
                if low > farthest[row - y_start, column]:
                    continue
                px = xs[column]
                w0, w1, w2 = _weights(px, py, a, b, c, divisor, perspective)
                if not _inside(w0, w1, w2) and (blur == 0 or not _to_outline(px, py, a, b, c) < blur):
                    continue
                if clip:
                    w0, w1, w2 = _clipped(w0, w1, w2)
                z = w0 * a[2] + w1 * b[2] + w2 * c[2]
                if not z >= 0:
                    continue
                pixel_faces, depths, count = pix[row, column], zbuf[row, column], counts[row - y_start, column]
                if neighbour >= 0:
                    k = _find(pixel_faces, count, neighbour)
                    if k < count:
                        p, q, r = _corners(face_verts, neighbour)
                        if not _to_outline(px, py, a, b, c) < _to_outline(px, py, p, q, r):
                            continue
                        count -= 1
                        for later in range(k, count):
                            pixel_faces[later], depths[later] = pixel_faces[later + 1], depths[later + 1]
                count = _insert(pixel_faces, depths, count, f, z)
                counts[row - y_start, column] = count
                if count == k_most:
                    farthest[row - y_start, column] = depths[k_most - 1]


@_kernel
def measure(face_verts, y_start, y_stop, x_start, x_stop, xs, ys, perspective, clip, pix, bary, dists):
    """Write barycentric coordinates and signed squared distances of each pixel on its faces.

    Pixels of rows y_start to y_stop and columns x_start to x_stop (excluded) are written.
    """
    for row in range(y_start, y_stop):
        py = ys[row]
        for column in range(x_start, x_stop):
            px = xs[column]
            for k in range(pix.shape[2]):
                f = pix[row, column, k]
                if f < 0:
                    break
                a, b, c = _corners(face_verts, f)
                w0, w1, w2 = _weights(px, py, a, b, c, _divisor(a, b, c), perspective)
                distance = _to_outline(px, py, a, b, c)
                dists[row, column, k] = -distance if _inside(w0, w1, w2) else distance
                if clip:
                    w0, w1, w2 = _clipped(w0, w1, w2)
                bary[row, column, k, 0], bary[row, column, k, 1], bary[row, column, k, 2] = w0, w1, w2


@_part
def _edge_gradient(px, py, a, b, g):
    """Return the gradients (ax, ay, bx, by) of g times `_edge` with respect to a and b."""
    return g * (py - b[1]), g * (b[0] - px), g * (a[1] - py), g * (px - a[0])


@_part
def _to_edge_gradient(px, py, a, b, g):
    """Return the gradients (ax, ay, bx, by) of g times `_to_edge` with respect to a and b."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = min(max((dx * (px - a[0]) + dy * (py - a[1])) / (dx * dx + dy * dy), 0.0), 1.0)
    gx, gy = 2 * g * (a[0] + along * dx - px), 2 * g * (a[1] + along * dy - py)
    return (1 - along) * gx, (1 - along) * gy, along * gx, along * gy


@_part
def _clipped_gradient(g0, g1, g2, w0, w1, w2):
    """Pull gradients g0, g1, g2 of the `_clipped` weights back to the weights w0, w1, w2."""
    total = max(w0, 0.0) + max(w1, 0.0) + max(w2, 0.0)
    shared = 0.0 if total < _LEAST_SUM else (g0 * max(w0, 0.0) + g1 * max(w1, 0.0) + g2 * max(w2, 0.0)) / total
    total = max(total, _LEAST_SUM)
    return (
        0.0 if w0 < 0 else (g0 - shared) / total,
        0.0 if w1 < 0 else (g1 - shared) / total,
        0.0 if w2 < 0 else (g2 - shared) / total,
    )


@_part
def _perspective_gradient(g0, g1, g2, s0, s1, s2, z0, z1, z2):
    """Pull gradients of the perspective weights back to the picture-plane weights and the corners' depths."""
    t0, t1, t2 = s0 * z1 * z2, z0 * s1 * z2, z0 * z1 * s2
    total = t0 + t1 + t2
    total = max(total, _LEAST_TOTAL)
    shared = (g0 * t0 + g1 * t1 + g2 * t2) / total
    h0, h1, h2 = (g0 - shared) / total, (g1 - shared) / total, (g2 - shared) / total
    to_depths = h1 * s1 * z2 + h2 * s2 * z1, h0 * s0 * z2 + h2 * s2 * z0, h0 * s0 * z1 + h1 * s1 * z0
    return (h0 * z1 * z2, h1 * z0 * z2, h2 * z0 * z1), to_depths


@_part
def _add(out, f, corner, x, y, z):
    """Add a gradient to one corner of face f in `out` (F, 3, 3)."""
    out[f, corner, 0] += x
    out[f, corner, 1] += y
    out[f, corner, 2] += z


@_kernel
def add_gradients(face_verts, y_start, y_step, xs, ys, perspective, clip, pix, g_zbuf, g_bary, g_dists, out):
    """Add the gradients of the fragments in rows y_start, y_start + y_step, ... to `out`, (F, 3, 3) float64.

    g_zbuf, g_bary, g_dists: gradients of the loss with respect to `zbuf`, `bary` and `dists`, of their shapes.
    """
    face_verts = face_verts.astype(np.float64)
    for row in range(y_start, len(ys), y_step):
        py = np.float64(ys[row])
        for column in range(len(xs)):
            px = np.float64(xs[column])
            for k in range(pix.shape[2]):
                f = pix[row, column, k]
                if f < 0:
                    break
                a, b, c = _corners(face_verts, f)
                area = _edge(c[0], c[1], a, b) + _EPSILON
                s0, s1, s2 = _weights(px, py, a, b, c, area, False)
                v0, v1, v2 = _weights(px, py, a, b, c, area, perspective)
                w0, w1, w2 = _clipped(v0, v1, v2) if clip else (v0, v1, v2)
                # The depth is the weights' mean of the corners'.
                gz = np.float64(g_zbuf[row, column, k])
                za, zb, zc = gz * w0, gz * w1, gz * w2
                g0 = g_bary[row, column, k, 0] + gz * a[2]
                g1 = g_bary[row, column, k, 1] + gz * b[2]
                g2 = g_bary[row, column, k, 2] + gz * c[2]
                if clip:
                    g0, g1, g2 = _clipped_gradient(g0, g1, g2, v0, v1, v2)
                if perspective:
                    (g0, g1, g2), (da, db, dc) = _perspective_gradient(g0, g1, g2, s0, s1, s2, a[2], b[2], c[2])
                    za, zb, zc = za + da, zb + db, zc + dc
                bx0, by0, cx0, cy0 = _edge_gradient(px, py, b, c, g0 / area)
                cx1, cy1, ax1, ay1 = _edge_gradient(px, py, c, a, g1 / area)
                ax2, ay2, bx2, by2 = _edge_gradient(px, py, a, b, g2 / area)
                g_area = -(g0 * s0 + g1 * s1 + g2 * s2) / area
                ax3, ay3, bx3, by3 = _edge_gradient(c[0], c[1], a, b, g_area)
                _add(out, f, 0, ax1 + ax2 + ax3, ay1 + ay2 + ay3, za)
                _add(out, f, 1, bx0 + bx2 + bx3, by0 + by2 + by3, zb)
                _add(out, f, 2, cx0 + cx1 - ax3 - bx3, cy0 + cy1 - ay3 - by3, zc)
                gd = np.float64(g_dists[row, column, k])
                gd = -gd if _inside(v0, v1, v2) else gd
                ab, ac, bc = _to_edge(px, py, a, b), _to_edge(px, py, a, c), _to_edge(px, py, b, c)
                if ab <= ac and ab <= bc:
                    x0, y0, x1, y1 = _to_edge_gradient(px, py, a, b, gd)
                    _add(out, f, 0, x0, y0, 0.0)
                    _add(out, f, 1, x1, y1, 0.0)
                elif ac <= bc:
                    x0, y0, x1, y1 = _to_edge_gradient(px, py, a, c, gd)
                    _add(out, f, 0, x0, y0, 0.0)
                    _add(out, f, 2, x1, y1, 0.0)
                else:
                    x0, y0, x1, y1 = _to_edge_gradient(px, py, b, c, gd)
                    _add(out, f, 1, x0, y0, 0.0)
                    _add(out, f, 2, x1, y1, 0.0)
