"""Compute the joints of the SMPL layer on a CPU: forward kinematics of a tile of bodies, one a lane.

In float64 whatever the model's type: it costs little beside a mesh, and errors add up along a chain of bones.
Imported where it is used, because numba takes a while to load.

Arguments that several loops share (B items, J joints, S coefficients, L lanes):
    coefficients: (B, S); rotvecs: (B, J, 3) radians; transl: (B, 3) metres.
    input_joints: (B, J, 3) rest joints, or empty where they are linear in the coefficients:
    template: (J, 3) rest joints of the mean body; directions: (J, 3, S) their offsets for one unit of each coefficient.
    parents: (J,) parent of each joint, -1 for a root; order: (J,) the joints, parents before children.
    scratch: (15 J + S + 3, L) float64 work space. live: the number of lanes that hold an item.
"""

from __future__ import annotations

import math

import numpy as np

from bodyfit.body.kernels.simd import (
    LANES,
    divide,
    fadd,
    fma,
    item,
    load,
    mul,
    rint,
    splat,
    sqrt,
    store,
    transpose_load,
    transpose_store,
    widen,
)
from bodyfit.runtime.compiled import inline, loose

__all__ = ["pose", "pose_tile", "read", "write"]

_TERMS = 12
_SIN = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(_TERMS))
_COS = tuple((-1) ** n / math.factorial(2 * n) for n in range(_TERMS))
"""Taylor coefficients in the square of an angle of at most pi / 2: the first term omitted is below 1e-17."""
_PI, _PI_REST = math.pi, 1.2246467991473532e-16
"""pi as a sum of two float64, for twice the precision."""


@inline
def write(source, n, target, index, stride, live):
    """Transpose rows 0 to n - 1 of a tile `source` (n, L) into target.flat[index + stride * lane + i]."""
    whole = n - n % LANES
    for i in range(0, whole, LANES):
        transpose_store(source, i, target, index + i, stride, live)
    flat = target.reshape(-1)
    for i in range(whole, n):
        for lane in range(live):
            flat[index + stride * lane + i] = source[i, lane]


@inline
def read(target, n, source, index, stride, live):
    """Transpose source.flat[index + stride * lane + i] into rows i < n of a tile; idle lanes repeat."""
    whole = n - n % LANES
    for i in range(0, whole, LANES):
        transpose_load(target, i, source, index + i, stride, live)
    flat = source.reshape(-1)
    for i in range(whole, n):
        for lane in range(LANES):
            target[i, lane] = flat[index + stride * min(lane, live - 1) + i]


@inline
def _sine(x2):
    """Return sin(x) / x and cos(x) from x2, the square of x."""
    s, c = splat(_SIN[_TERMS - 1]), splat(_COS[_TERMS - 1])
    for n in range(_TERMS - 2, -1, -1):
        s, c = fma(x2, s, splat(_SIN[n])), fma(x2, c, splat(_COS[n]))
    return s, c


@inline
def _exponential(x, y, z):
    """Return the 9 entries, row-major, of exp(hat(x, y, z)) = I + s hat + c hat^2; NaN where an input is not finite.

    For angles below 1e15. With h half the angle, s = sin(h) cos(h) / h and c = sin(h)^2 / (2 h^2): reducing h by a
    multiple of pi may flip the signs of sine and cosine together, which changes neither.
    """
    a2 = fma(x, x, fma(y, y, mul(z, z)))
    half = sqrt(fma(0.25, a2, splat(1e-300)))  # never 0: no branch and no 0 / 0
    turns = rint(mul(1 / math.pi, half))
    reduced = fma(-_PI_REST, turns, fma(-_PI, turns, half))
    sine, cosine = _sine(mul(reduced, reduced))
    sine = mul(divide(reduced, half), sine)
    s, c = mul(sine, cosine), mul(mul(0.5, sine), sine)
    cx, cy, cz = mul(c, x), mul(c, y), mul(c, z)
    xy, xz, yz = mul(cx, y), mul(cx, z), mul(cy, z)
    sx, sy, sz = mul(s, x), mul(s, y), mul(s, z)
    xx, yy, zz = mul(cx, x), mul(cy, y), mul(cz, z)
    one = splat(1.0)
    return (
        fma(-1.0, fadd(yy, zz), one), fma(-1.0, sz, xy), fadd(xz, sy),
        fadd(xy, sz), fma(-1.0, fadd(xx, zz), one), fma(-1.0, sx, yz),
        fma(-1.0, sy, xz), fadd(yz, sx), fma(-1.0, fadd(xx, yy), one),
    )  # fmt: skip


@inline
def _rest_joints(template, directions, n_s, scratch, c, rest):
    """Write rest joints to the rows of `scratch` from `rest` on, from the coefficients in its rows from c on."""
    for i in range(0, 3 * len(template), 3):
        x, y = widen(splat(item(template, i))), widen(splat(item(template, i + 1)))
        z = widen(splat(item(template, i + 2)))
        for s in range(n_s):
            row, at = load(scratch, c + s), i * n_s + s
            x = fma(item(directions, at), row, x)
            y = fma(item(directions, at + n_s), row, y)
            z = fma(item(directions, at + 2 * n_s), row, z)
        for n, value in enumerate((x, y, z)):
            store(scratch, rest + i + n, value)


@inline
def pose_tile(
    t, coefficients, rotvecs, transl, input_joints, template, directions, parents, order, scratch, raw, state, q
):  # fmt: skip
    """Write the posed joints of tile t to `raw` (3 J, L), and its state to the rows of `state` from q on unless empty.

    `bodyfit.body.kernels.loops` documents the rows of the state.
    """
    n_j, n_s = rotvecs.shape[1], coefficients.shape[1]
    live = min(LANES, len(rotvecs) - t * LANES)
    q_f, q_s = q + 12 * n_j, q + 21 * n_j
    rest, posed, c, shift, world = 0, 3 * n_j, 6 * n_j, 6 * n_j + n_s, 6 * n_j + n_s + 3  # rows of `scratch`
    read(raw, n_s, coefficients, t * LANES * n_s, n_s, live)
    for s in range(n_s):
        store(scratch, c + s, widen(load(raw, s)))
        if state.size:
            store(state, q_s + s, load(raw, s))
    read(raw, 3, transl, t * LANES * 3, 3, live)
    for r in range(3):
        store(scratch, shift + r, widen(load(raw, r)))
        if state.size:
            store(state, q_s + n_s + r, load(raw, r))
    if input_joints.size:
        read(raw, 3 * n_j, input_joints, t * LANES * 3 * n_j, 3 * n_j, live)
        for i in range(3 * n_j):
            store(scratch, rest + i, widen(load(raw, i)))
    else:
        _rest_joints(template, directions, n_s, scratch, c, rest)
    read(raw, 3 * n_j, rotvecs, t * LANES * 3 * n_j, 3 * n_j, live)
    for i in range(n_j):
        j = order[i]
        p = parents[j]
        a, b, own = 3 * j, 3 * p, world + 9 * j
        R = _exponential(widen(load(raw, a)), widen(load(raw, a + 1)), widen(load(raw, a + 2)))
        x, y, z = load(scratch, rest + a), load(scratch, rest + a + 1), load(scratch, rest + a + 2)
        if p < 0:
            for k, value in enumerate(R):
                store(scratch, own + k, value)
            for r, value in enumerate((x, y, z)):
                store(scratch, posed + a + r, value)
        else:
            dx = fma(-1.0, load(scratch, rest + b), x)
            dy = fma(-1.0, load(scratch, rest + b + 1), y)
            dz = fma(-1.0, load(scratch, rest + b + 2), z)
            for r in range(3):
                row = world + 9 * p + 3 * r
                u, v, w = load(scratch, row), load(scratch, row + 1), load(scratch, row + 2)
                position = fma(u, dx, fma(v, dy, fma(w, dz, load(scratch, posed + b + r))))
                store(scratch, posed + a + r, position)
                store(scratch, own + 3 * r, fma(u, R[0], fma(v, R[3], mul(w, R[6]))))
                store(scratch, own + 3 * r + 1, fma(u, R[1], fma(v, R[4], mul(w, R[7]))))
                store(scratch, own + 3 * r + 2, fma(u, R[2], fma(v, R[5], mul(w, R[8]))))
        for r in range(3):
            position = load(scratch, posed + a + r)
            store(raw, a + r, fadd(position, load(scratch, shift + r)))
            if state.size:
                u, v, w = load(scratch, own + 3 * r), load(scratch, own + 3 * r + 1), load(scratch, own + 3 * r + 2)
                row = q + 12 * j + 4 * r
                store(state, row, u)
                store(state, row + 1, v)
                store(state, row + 2, w)
                store(state, row + 3, fma(-1.0, fma(u, x, fma(v, y, mul(w, z))), position))
        if state.size:
            for k, value in enumerate(R):
                store(state, q_f + 9 * j + k, fadd(value, splat(-1.0 if k % 4 == 0 else 0.0)))


@loose
def pose(first, stop, coefficients, rotvecs, transl, input_joints, template, directions, parents, order, state, joints):
    """Write the state (T, Q, L) and the posed joints (B, J, 3) of tiles first to stop - 1.

    Idle lanes of the state repeat the last live one; `state` may be empty.
    """
    n_j, n_s = rotvecs.shape[1], coefficients.shape[1]
    scratch = np.empty((15 * n_j + n_s + 3, LANES))
    raw = np.empty((max(3 * n_j, n_s, 3), LANES), joints.dtype)
    for t in range(first, stop):
        pose_tile(
            t, coefficients, rotvecs, transl, input_joints, template, directions, parents, order, scratch, raw, state,
            t * state.shape[1]
        )  # fmt: skip
        write(raw, 3 * n_j, joints, t * LANES * 3 * n_j, 3 * n_j, min(LANES, len(joints) - t * LANES))
