"""Differentiate the joints of the SMPL layer on a CPU: the backward pass of forward kinematics, one item at a time.

In float64 whatever the model's type: it costs little beside a mesh, and errors add up along a chain of bones.
Imported where it is used, because numba takes a while to load. `bodyfit.body.kernels.pose` documents the arguments that
its loops share with these; matrices of joints are (J, 9), row-major.
"""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import loose

__all__ = ["exponential", "pose_backward"]

_SMALL2 = 1e-4  # squared angle below which series are used


@loose
def exponential(x, y, z, R, left_jacobian, j, derive):
    """Write R[j] = exp(hat(x, y, z)) and, if `derive`, its left Jacobian (Sola et al. 2018, eq. 145).

    R, left_jacobian: (J, 9) float64. They are passed whole because numba counts a reference for every row it slices.
    """
    a2 = x * x + y * y + z * z
    if a2 < _SMALL2:
        s = 1 - a2 / 6 * (1 - a2 / 20 * (1 - a2 / 42))
        c = 0.5 - a2 / 24 * (1 - a2 / 30 * (1 - a2 / 56))
        d = 1 / 6 - a2 / 120 * (1 - a2 / 42 * (1 - a2 / 72))
    else:
        a = math.sqrt(a2)
        half = math.sin(0.5 * a) / a
        s = 2 * half * math.cos(0.5 * a)
        c = 2 * half * half  # (1 - cos a) / a^2 without the cancellation
        d = (1 - s) / a2
    _matrix(x, y, z, s, c, R, j)
    if derive:
        _matrix(x, y, z, c, d, left_jacobian, j)


@loose
def _matrix(x, y, z, k, k2, M, j):
    """Write M[j] = I + k hat(x, y, z) + k2 hat(x, y, z)^2, row-major."""
    xy, xz, yz = k2 * x * y, k2 * x * z, k2 * y * z
    M[j, 0], M[j, 1], M[j, 2] = 1 - k2 * (y * y + z * z), xy - k * z, xz + k * y
    M[j, 3], M[j, 4], M[j, 5] = xy + k * z, 1 - k2 * (x * x + z * z), yz - k * x
    M[j, 6], M[j, 7], M[j, 8] = xz - k * y, yz + k * x, 1 - k2 * (x * x + y * y)


@loose
def _tree(rotvecs, rest, parents, order, R, left_jacobian, world, posed, derive):
    """Compute forward kinematics of one item, in float64; a root turns about its own rest position.

    rotvecs, rest: (J, 3). Writes the local rotations R and their Jacobians, world rotations (J, 9) and positions (J,
    3).
    """
    for joint in order:
        j, p = int(joint), int(parents[joint])
        x, y, z = np.float64(rotvecs[j, 0]), np.float64(rotvecs[j, 1]), np.float64(rotvecs[j, 2])
        exponential(x, y, z, R, left_jacobian, j, derive)
        for r in range(3):
            if p < 0:
                posed[j, r] = rest[j, r]
                for c in range(3):
                    world[j, 3 * r + c] = R[j, 3 * r + c]
            else:
                u, v, w = world[p, 3 * r], world[p, 3 * r + 1], world[p, 3 * r + 2]
                posed[j, r] = (
                    posed[p, r]
                    + u * (rest[j, 0] - rest[p, 0])
                    + v * (rest[j, 1] - rest[p, 1])
                    + w * (rest[j, 2] - rest[p, 2])
                )
                for c in range(3):
                    world[j, 3 * r + c] = u * R[j, c] + v * R[j, 3 + c] + w * R[j, 6 + c]


@loose
def _rest_joints(template, directions, coefficients, input_joints, b, out):
    """Write the rest joints (J, 3) of item b: the given ones, or linear in its coefficients (S,)."""
    for j in range(len(template)):
        for c in range(3):
            if input_joints.size:
                out[j, c] = input_joints[b, j, c]
            else:
                out[j, c] = template[j, c]
                for s in range(len(coefficients)):
                    out[j, c] += np.float64(directions[j, c, s]) * coefficients[s]


@loose
def pose_backward(
    first, stop, coefficients, rotvecs, input_joints, template, directions, parents, order, partial, grad_joints,
    d_coefficients, d_rotvecs, d_transl, d_input_joints
):  # fmt: skip
    """Write the gradients with respect to the inputs of items first to stop - 1, each of the input's shape.

    grad_joints: (B, J, 3) gradients with respect to the posed joints. partial: (T, C, Q, L) gradients with respect to
    the state, one for each of C chunks of vertices.
    """
    n_j, n_s, n_c, lanes = rotvecs.shape[1], coefficients.shape[1], partial.shape[1], partial.shape[3]
    rest, posed = np.empty((n_j, 3)), np.empty((n_j, 3))
    R, left_jacobian, world = np.empty((n_j, 9)), np.empty((n_j, 9)), np.empty((n_j, 9))
    g, d_world, d_posed, d_rest = np.empty(partial.shape[2]), np.empty((n_j, 9)), np.empty((n_j, 3)), np.empty((n_j, 3))
    G, up, down = np.empty(9), np.empty(3), np.empty(3)
    for b in range(first, stop):
        _rest_joints(template, directions, coefficients[b], input_joints, b, rest)
        _tree(rotvecs[b], rest, parents, order, R, left_jacobian, world, posed, True)
        t, lane = b // lanes, b % lanes
        g[:] = 0
        for chunk in range(n_c):
            for q in range(len(g)):
                g[q] += partial[t, chunk, q, lane]
        for r in range(3):
            total = g[21 * n_j + n_s + r]
            for j in range(n_j):
                total += grad_joints[b, j, r]
            d_transl[b, r] = total
        for j in range(n_j):  # x -> R (x - rest) + posed
            for c in range(3):
                d_rest[j, c] = 0
            for r in range(3):
                d_shift = g[12 * j + 4 * r + 3]
                d_posed[j, r] = d_shift + grad_joints[b, j, r]
                for c in range(3):
                    d_world[j, 3 * r + c] = g[12 * j + 4 * r + c] - d_shift * rest[j, c]
                    d_rest[j, c] -= world[j, 3 * r + c] * d_shift
        for i in range(n_j - 1, -1, -1):
            j = int(order[i])
            p = int(parents[j])
            if p < 0:
                for c in range(3):
                    d_rest[j, c] += d_posed[j, c]
                for k in range(9):
                    G[k] = d_world[j, k] + g[12 * n_j + 9 * j + k]
            else:
                for r in range(3):
                    up[r] = rest[j, r] - rest[p, r]
                    down[r] = d_posed[j, r]
                for r in range(3):
                    d_posed[p, r] += down[r]
                    bone = world[p, r] * down[0] + world[p, 3 + r] * down[1] + world[p, 6 + r] * down[2]
                    d_rest[j, r] += bone
                    d_rest[p, r] -= bone
                    u, v, w = d_world[j, 3 * r], d_world[j, 3 * r + 1], d_world[j, 3 * r + 2]
                    for c in range(3):
                        d_world[p, 3 * r + c] += (
                            down[r] * up[c] + u * R[j, 3 * c] + v * R[j, 3 * c + 1] + w * R[j, 3 * c + 2]
                        )
                        G[3 * r + c] = (
                            world[p, r] * d_world[j, c]
                            + world[p, 3 + r] * d_world[j, 3 + c]
                            + world[p, 6 + r] * d_world[j, 6 + c]
                            + g[12 * n_j + 9 * j + 3 * r + c]
                        )
            _turn(G, R[j], left_jacobian[j], d_rotvecs[b, j])
        for s in range(n_s):
            total = g[21 * n_j + s]
            if not input_joints.size:
                for j in range(n_j):
                    for c in range(3):
                        total += d_rest[j, c] * directions[j, c, s]
            d_coefficients[b, s] = total
        if input_joints.size:
            for j in range(n_j):
                for c in range(3):
                    d_input_joints[b, j, c] = d_rest[j, c]


@loose
def _turn(G, R, left_jacobian, out):
    """Pull the gradient G (9,) of a rotation R back to its axis-angle, `out` (3,): dR = hat(left_jacobian d) R."""
    x = y = z = 0.0
    for k in range(3):
        x += G[6 + k] * R[3 + k] - G[3 + k] * R[6 + k]
        y += G[k] * R[6 + k] - G[6 + k] * R[k]
        z += G[3 + k] * R[k] - G[k] * R[3 + k]
    for c in range(3):
        out[c] = left_jacobian[c] * x + left_jacobian[3 + c] * y + left_jacobian[6 + c] * z
