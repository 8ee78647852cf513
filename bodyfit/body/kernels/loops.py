"""Evaluate the SMPL layer's vertices and their gradients on a CPU, in loops compiled by numba.

Items of the batch are the innermost axis, in tiles of L = `LANES`, so that one vector instruction serves as many bodies
and every number of the model is loaded once for all of them. A job is a group of `GROUP` tiles and a chunk of vertices
of fixed size: the number of threads decides who does a job, never the order in which an item's numbers are summed.
Imported where it is used, because numba takes a while to load.

Arguments that several loops share (B items, T tiles, J joints, V vertices, S coefficients, N weights, M blocks):
    first, stop: the range of jobs or tiles to process. size: vertices of a chunk.
    state: (T, Q, L) per tile the skinning transforms (12 J rows, row-major 3 x 4), the pose features vec(R - I) (9 J),
        the coefficients (S) and the translation (3), a column an item; `rows` is one tile's (Q, L).
    shapes: (S, 3 V) shape directions. dense: (9 (J - 1), 3 V) pose blend shapes, 0 rows where there are none.
    ptr, joint, block: (V + 1,), (M,), (M, 3, 9) sparse pose blend shapes: vertex v has the blocks ptr[v] to
        ptr[v + 1] - 1, each the 3 x 9 matrix by which the features of one joint move it; empty where there are none.
    wptr, wjoint, wvalue: (V + 1,), (N,), (N,) skinning weights by rows of vertices, in the same way.
    input_rest: (B, 3 V) rest vertices to skin instead of blended ones, or empty.
    acc, d, g: (3 n, L) coordinates, or gradients, of a block of vertices, a row a coordinate.
    q, q_f, q_s: first rows in `state` (of the block in question; of the features; of the coefficients).
"""

from __future__ import annotations

import numpy as np

from bodyfit.body.kernels.pose import pose_tile, read, write
from bodyfit.body.kernels.simd import LANES, fadd, fma, item, load, mul, prefetch, splat, store
from bodyfit.runtime.compiled import inline, loose

__all__ = ["GROUP", "LANES", "keypoints", "mesh", "mesh_backward"]

GROUP = 4  # tiles that process a block of vertices in turn, so that the model is read once for them
_BLOCK = 32  # vertices whose intermediate values fit the first-level cache
_DEPTH = 36  # rows of a matrix that are read together, a page each


@inline
def _spread(D, k, stop, i, rows, q, acc, a):
    """Add to row a + c of `acc` the sum over k of D[k, i + c] times row q + k, for the coordinates c of one vertex."""
    stride = D.shape[1]
    x, y, z = load(acc, a), load(acc, a + 1), load(acc, a + 2)
    for m in range(k, stop):
        row, at = load(rows, q + m), m * stride + i
        x, y, z = fma(item(D, at), row, x), fma(item(D, at + 1), row, y), fma(item(D, at + 2), row, z)
    for n, value in enumerate((x, y, z)):
        store(acc, a + n, value)


@inline
def _load6(array, a):
    """Load six rows of `array` (R, L) from row a on."""
    x, y, z = load(array, a), load(array, a + 1), load(array, a + 2)
    return x, y, z, load(array, a + 3), load(array, a + 4), load(array, a + 5)


@inline
def _spread4(D, k, stop, i, rows, q, acc, a):
    """Do as `_spread` for four vertices at once: enough independent sums to hide the latency of each."""
    stride = D.shape[1]
    x0, y0, z0, x1, y1, z1 = _load6(acc, a)
    x2, y2, z2, x3, y3, z3 = _load6(acc, a + 6)
    for m in range(k, stop):
        row, at = load(rows, q + m), m * stride + i
        prefetch(D, at + 3 * _BLOCK)
        x0, y0, z0 = fma(item(D, at), row, x0), fma(item(D, at + 1), row, y0), fma(item(D, at + 2), row, z0)
        x1, y1, z1 = fma(item(D, at + 3), row, x1), fma(item(D, at + 4), row, y1), fma(item(D, at + 5), row, z1)
        x2, y2, z2 = fma(item(D, at + 6), row, x2), fma(item(D, at + 7), row, y2), fma(item(D, at + 8), row, z2)
        x3, y3, z3 = fma(item(D, at + 9), row, x3), fma(item(D, at + 10), row, y3), fma(item(D, at + 11), row, z3)
    for n, value in enumerate((x0, y0, z0, x1, y1, z1, x2, y2, z2, x3, y3, z3)):
        store(acc, a + n, value)


@inline
def _blend(D, i, n, rows, q, acc):
    """Add blend shapes to n coordinates: acc[c] += sum over k of D[k, i + c] times row q + k of the state."""
    for k in range(0, len(D), _DEPTH):  # more rows of D, a page each, would overflow the TLB
        stop = min(k + _DEPTH, len(D))
        for a in range(0, n - n % 12, 12):
            _spread4(D, k, stop, i + a, rows, q, acc, a)
        for a in range(n - n % 12, n, 3):
            _spread(D, k, stop, i + a, rows, q, acc, a)


@inline
def _correct(block, joint, start, stop, rows, q, acc, i):
    """Add blocks start to stop - 1 of the sparse pose blend shapes to the vertex at row i of `acc`."""
    x, y, z = load(acc, i), load(acc, i + 1), load(acc, i + 2)
    for e in range(start, stop):
        feature, at = q + 9 * joint[e], 27 * e
        for k in range(9):
            row = load(rows, feature + k)
            x = fma(item(block, at + k), row, x)
            y = fma(item(block, at + 9 + k), row, y)
            z = fma(item(block, at + 18 + k), row, z)
    store(acc, i, x)
    store(acc, i + 1, y)
    store(acc, i + 2, z)


@inline
def _row(rows, a, x, y, z):
    """Return one coordinate of the transformed point (x, y, z): row a to a + 3 of the 3 x 4 transform."""
    return fma(load(rows, a), x, fma(load(rows, a + 1), y, fma(load(rows, a + 2), z, load(rows, a + 3))))


@inline
def _skin(joint, value, start, stop, rows, q, acc, i, posed, at):
    """Skin the vertex at row i of `acc` by weights start to stop - 1, and store it, translated, at row `at`."""
    x, y, z = load(acc, i), load(acc, i + 1), load(acc, i + 2)
    px, py, pz = load(rows, q), load(rows, q + 1), load(rows, q + 2)
    for e in range(start, stop):
        w, a = value[e], 12 * joint[e]
        px = fma(w, _row(rows, a, x, y, z), px)
        py = fma(w, _row(rows, a + 4, x, y, z), py)
        pz = fma(w, _row(rows, a + 8, x, y, z), pz)
    store(posed, at, px)
    store(posed, at + 1, py)
    store(posed, at + 2, pz)


@loose
def mesh(
    first, stop, size, template, shapes, dense, ptr, joint, block, wptr, wjoint, wvalue, state, input_rest, out, rest
):
    """Write the posed vertices `out` (B, 3 V) of jobs first to stop - 1, metres.

    template: (3 V,) mean vertices. rest: (3 T V, L), filled with the rest vertices unless it is empty.
    """
    n_v, n_s = len(template) // 3, len(shapes)
    n_j = (state.shape[1] - n_s - 3) // 21
    q_f, q_s = 12 * n_j, 21 * n_j
    n_chunks = (n_v + size - 1) // size
    acc, posed = np.empty((3 * _BLOCK, LANES), state.dtype), np.empty((3 * _BLOCK, LANES), state.dtype)
    for job in range(first, stop):
        group, chunk = job // n_chunks * GROUP, job % n_chunks
        for v0 in range(chunk * size, min(n_v, (chunk + 1) * size), _BLOCK):
            n = min(_BLOCK, n_v - v0)
            for t in range(group, min(group + GROUP, len(state))):
                live, rows = min(LANES, len(out) - t * LANES), state[t]
                at = 3 * (n_v * t * LANES + v0)
                if input_rest.size:
                    read(acc, 3 * n, input_rest, at, 3 * n_v, live)
                else:
                    for i in range(3 * n):
                        store(acc, i, splat(template[3 * v0 + i]))
                    _blend(shapes, 3 * v0, 3 * n, rows, q_s, acc)
                    _blend(dense, 3 * v0, 3 * n, rows, q_f + 9, acc)
                for v in range(n):
                    if len(block):
                        _correct(block, joint, ptr[v0 + v], ptr[v0 + v + 1], rows, q_f, acc, 3 * v)
                    _skin(wjoint, wvalue, wptr[v0 + v], wptr[v0 + v + 1], rows, q_s + n_s, acc, 3 * v, posed, 3 * v)
                if rest.size:
                    for i in range(3 * n):
                        store(rest, 3 * (n_v * t + v0) + i, load(acc, i))
                write(posed, 3 * n, out, at, 3 * n_v, live)


@loose
def keypoints(
    first, stop, coefficients, rotvecs, transl, joints_template, directions, parents, order, template, shapes, dense,
    ptr, joint, block, wptr, wjoint, wvalue, term_ptr, term, weight, start, out
):  # fmt: skip
    """Write keypoints `out` (B, K, 3), weighted sums of joints and vertices, of tiles first to stop - 1, metres.

    For few vertices, so that everything but the sums stays in the cache. coefficients: (B, S); rotvecs: (B, J, 3)
    radians; transl: (B, 3) metres; joints_template, directions: (J, 3), (J, 3, S) rest joints; parents, order: (J,);
    template: (V, 3). Keypoint k is start[k] plus the terms term_ptr[k] to term_ptr[k + 1] - 1, each `weight` (N,) times
    the joint, or the vertex plus J, that `term` (N,) says.
    """
    n_j, n_s, n_v, n_k = len(parents), len(shapes), len(template), len(start)
    q_f, q_s, dtype = 12 * n_j, 21 * n_j, out.dtype
    input_joints, rows = np.empty((0, n_j, 3), dtype), np.empty((q_s + n_s + 3, LANES), dtype)
    scratch = np.empty((15 * n_j + n_s + 3, LANES))
    points, acc = np.empty((max(3 * (n_j + n_v), n_s), LANES), dtype), np.empty((max(3 * n_v, 3 * n_k), LANES), dtype)
    for t in range(first, stop):
        pose_tile(
            t, coefficients, rotvecs, transl, input_joints, joints_template, directions, parents, order, scratch,
            points, rows, 0
        )  # fmt: skip
        for v in range(n_v):
            for c in range(3):
                store(acc, 3 * v + c, splat(template[v, c]))
        _blend(shapes, 0, 3 * n_v, rows, q_s, acc)
        _blend(dense, 0, 3 * n_v, rows, q_f + 9, acc)
        for v in range(n_v):
            if len(block):
                _correct(block, joint, ptr[v], ptr[v + 1], rows, q_f, acc, 3 * v)
            _skin(wjoint, wvalue, wptr[v], wptr[v + 1], rows, q_s + n_s, acc, 3 * v, points, 3 * (n_j + v))
        for k in range(n_k):
            x = splat(start[k])
            y, z = x, x
            for e in range(term_ptr[k], term_ptr[k + 1]):
                w, a = weight[e], 3 * term[e]
                x, y, z = fma(w, load(points, a), x), fma(w, load(points, a + 1), y), fma(w, load(points, a + 2), z)
            for c, value in enumerate((x, y, z)):
                store(acc, 3 * k + c, value)
        write(acc, 3 * n_k, out, t * LANES * 3 * n_k, 3 * n_k, min(LANES, len(out) - t * LANES))


@inline
def _gather9(D, k, i, n, grad, total, q):
    """Add the sum over j < n of D[k + m, i + j] times row j of `grad` to row q + m of `total`, for m below 9."""
    stride = D.shape[1]
    t0, t1, t2, t3, t4 = load(total, q), load(total, q + 1), load(total, q + 2), load(total, q + 3), load(total, q + 4)
    t5, t6, t7, t8 = load(total, q + 5), load(total, q + 6), load(total, q + 7), load(total, q + 8)
    for j in range(n):
        row, at = load(grad, j), k * stride + i + j
        t0, t1, t2 = (
            fma(item(D, at), row, t0),
            fma(item(D, at + stride), row, t1),
            fma(item(D, at + 2 * stride), row, t2),
        )
        t3, t4, t5 = (
            fma(item(D, at + 3 * stride), row, t3),
            fma(item(D, at + 4 * stride), row, t4),
            fma(item(D, at + 5 * stride), row, t5),
        )
        t6, t7, t8 = (
            fma(item(D, at + 6 * stride), row, t6),
            fma(item(D, at + 7 * stride), row, t7),
            fma(item(D, at + 8 * stride), row, t8),
        )
    for m, value in enumerate((t0, t1, t2, t3, t4, t5, t6, t7, t8)):
        store(total, q + m, value)


@inline
def _gather(D, i, n, grad, total, q):
    """Do as `_gather9` for every row k of D: the gradient of `_blend` with respect to the state."""
    whole = len(D) - len(D) % 9
    for k in range(0, whole, 9):
        _gather9(D, k, i, n, grad, total, q + k)
    for k in range(whole, len(D)):
        value = load(total, q + k)
        for j in range(n):
            value = fma(item(D, k * D.shape[1] + i + j), load(grad, j), value)
        store(total, q + k, value)


@inline
def _sum(g, n, total, q):
    """Add the gradients `g` (3 n, L) of n vertices to that of the translation, rows q to q + 2 of `total`."""
    x, y, z = load(total, q), load(total, q + 1), load(total, q + 2)
    for i in range(0, 3 * n, 3):
        x, y, z = fadd(x, load(g, i)), fadd(y, load(g, i + 1)), fadd(z, load(g, i + 2))
    store(total, q, x)
    store(total, q + 1, y)
    store(total, q + 2, z)


@inline
def _unskin(joint, value, start, stop, rows, source, at, g, d, i, total):
    """Pull the gradient `g` of a posed vertex back to its rest position, `d`, and its joints' transforms, `total`."""
    x, y, z = load(source, at), load(source, at + 1), load(source, at + 2)
    gx, gy, gz = load(g, i), load(g, i + 1), load(g, i + 2)
    zero = splat(value.dtype.type(0))
    dx, dy, dz = zero, zero, zero
    for e in range(start, stop):
        w, a = value[e], 12 * joint[e]
        for r, part in enumerate((gx, gy, gz)):
            b = a + 4 * r
            h = mul(w, part)
            dx, dy, dz = fma(load(rows, b), h, dx), fma(load(rows, b + 1), h, dy), fma(load(rows, b + 2), h, dz)
            store(total, b, fma(x, h, load(total, b)))
            store(total, b + 1, fma(y, h, load(total, b + 1)))
            store(total, b + 2, fma(z, h, load(total, b + 2)))
            store(total, b + 3, fadd(h, load(total, b + 3)))
    store(d, i, dx)
    store(d, i + 1, dy)
    store(d, i + 2, dz)


@inline
def _uncorrect(block, joint, start, stop, d, i, total, q):
    """Pull the gradient `d` of one rest vertex back through its blocks to the pose features, rows q on of `total`."""
    x, y, z = load(d, i), load(d, i + 1), load(d, i + 2)
    for e in range(start, stop):
        feature, at = q + 9 * joint[e], 27 * e
        for k in range(9):
            value = fma(item(block, at + k), x, load(total, feature + k))
            value = fma(item(block, at + 18 + k), z, fma(item(block, at + 9 + k), y, value))
            store(total, feature + k, value)


@loose
def mesh_backward(
    first, stop, size, shapes, dense, ptr, joint, block, wptr, wjoint, wvalue, state, input_rest, rest, grad,
    partial, d_input_rest
):  # fmt: skip
    """Add the gradients with respect to the state of jobs first to stop - 1 to `partial` (T, C, Q, L), zero before.

    One row of `partial` a chunk of vertices, C in all. grad: (B, 3 V) gradients of the loss with respect to the posed
    vertices. rest: (3 T V, L) as `mesh` wrote it. d_input_rest: (B, 3 V), filled where `input_rest` is not empty.
    """
    n_v, n_s = len(wptr) - 1, len(shapes)
    n_j = (state.shape[1] - n_s - 3) // 21
    q_f, q_s = 12 * n_j, 21 * n_j
    n_chunks = partial.shape[1]
    scratch = (3 * _BLOCK, LANES)
    g, d, acc = np.empty(scratch, state.dtype), np.empty(scratch, state.dtype), np.empty(scratch, state.dtype)
    for job in range(first, stop):
        group, chunk = job // n_chunks * GROUP, job % n_chunks
        for v0 in range(chunk * size, min(n_v, (chunk + 1) * size), _BLOCK):
            n = min(_BLOCK, n_v - v0)
            for t in range(group, min(group + GROUP, len(state))):
                live, rows, total = min(LANES, len(grad) - t * LANES), state[t], partial[t, chunk]
                at = 3 * (n_v * t * LANES + v0)
                read(g, 3 * n, grad, at, 3 * n_v, live)
                source, offset = rest, 3 * (n_v * t + v0)
                if input_rest.size:
                    read(acc, 3 * n, input_rest, at, 3 * n_v, live)
                    source, offset = acc, 0
                _sum(g, n, total, q_s + n_s)
                for v in range(n):
                    i = 3 * v
                    _unskin(wjoint, wvalue, wptr[v0 + v], wptr[v0 + v + 1], rows, source, offset + i, g, d, i, total)
                    if len(block):
                        _uncorrect(block, joint, ptr[v0 + v], ptr[v0 + v + 1], d, i, total, q_f)
                if input_rest.size:
                    write(d, 3 * n, d_input_rest, at, 3 * n_v, live)
                else:
                    _gather(shapes, 3 * v0, 3 * n, d, total, q_s)
                    _gather(dense, 3 * v0, 3 * n, d, total, q_f + 9)
