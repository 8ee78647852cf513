"""Compute points of a posed body and their derivatives on the CPU, one body at a time; see `posed` for the equations.

In float64 whatever the model's type, except the rows of Jacobians, which go into large sums. Imported where it is used,
because numba takes a while to load.

Arguments that several loops share (J joints, S betas, C pose features a joint, K points, Q pieces):
    x: (B, D) the solver's variables; b: the body. tree: `TreeTables`; points: the fields of `PointTables`, as a tuple.
    posed: what `tree_room` returns, filled by `pose`. pieces: (Q, 3) posed positions of the pieces, filled by `place`.
"""

from __future__ import annotations

import math

import numpy as np

from bodyfit.body.kernels.tree import exponential
from bodyfit.runtime.compiled import loose

__all__ = ["place", "point_rows", "pose", "tree_room", "wide"]


@loose
def wide(n):
    """Round n up to a multiple of 16, so that rows fill whole vectors."""
    return (n + 15) // 16 * 16


@loose
def tree_room(n_j, n_s, n_f):
    """Allocate the arrays of a posed tree, float64.

    In order: local and world rotations (J, 9), left_jacobian Jacobians (J, 9), joint positions (J, 3), axes (J, 9)
    (columns are the world rotations that a unit change of each axis-angle component makes), derivatives of the joints
    by the coefficients of the shape (J, 3, S), pose features (J, C), their derivatives by the joint's axis-angle
    (J, C, 3), and the coefficients of the shape (S,).
    """
    return (
        np.empty((n_j, 9)),
        np.empty((n_j, 9)),
        np.empty((n_j, 9)),
        np.empty((n_j, 3)),
        np.empty((n_j, 9)),
        np.empty((n_j, 3, n_s)),
        np.empty((n_j, n_f)),
        np.empty((n_j, n_f, 3)),
        np.empty(n_s),
    )


@loose
def pose(x, b, tree, posed):
    """Compute forward kinematics of the body with variables x[b] into `posed`."""
    bones, bones_shape, parents, order, n_f = tree.bones, tree.bones_shape, tree.parents, tree.order, tree.features
    column = tree.column
    local, world, left_jacobian, joints, axes, joints_shape, features, features_dpose, shape = posed
    n_s, about = bones_shape.shape[2], tree.about
    for s in range(n_s):
        shape[s] = x[b, tree.shape[s]]
    bone = np.empty(3)
    for i in range(len(order)):
        j = int(order[i])
        p = int(parents[j])
        at = column[j]
        u, v, w = x[b, at] + about[j, 0], x[b, at + 1] + about[j, 1], x[b, at + 2] + about[j, 2]
        exponential(u, v, w, local, left_jacobian, j, True)
        for r in range(3):
            total = np.float64(bones[j, r])
            for s in range(n_s):
                total += np.float64(bones_shape[j, r, s]) * shape[s]
            bone[r] = total
        for r in range(3):
            if p < 0:
                joints[j, r] = bone[r]
                for c in range(3):
                    world[j, 3 * r + c] = local[j, 3 * r + c]
                    axes[j, 3 * r + c] = left_jacobian[j, 3 * r + c]
                for s in range(n_s):
                    joints_shape[j, r, s] = bones_shape[j, r, s]
            else:
                k, m, n = world[p, 3 * r], world[p, 3 * r + 1], world[p, 3 * r + 2]
                joints[j, r] = joints[p, r] + k * bone[0] + m * bone[1] + n * bone[2]
                for c in range(3):
                    world[j, 3 * r + c] = k * local[j, c] + m * local[j, 3 + c] + n * local[j, 6 + c]
                    axes[j, 3 * r + c] = (
                        k * left_jacobian[j, c] + m * left_jacobian[j, 3 + c] + n * left_jacobian[j, 6 + c]
                    )
                for s in range(n_s):
                    joints_shape[j, r, s] = (
                        joints_shape[p, r, s]
                        + k * bones_shape[j, 0, s]
                        + m * bones_shape[j, 1, s]
                        + n * bones_shape[j, 2, s]
                    )
        if n_f == 9:
            for k in range(9):
                features[j, k] = local[j, k] - (1.0 if k % 4 == 0 else 0.0)
            for c in range(3):  # dR = hat(omega) R with omega = J_left d
                u, v, w = left_jacobian[j, c], left_jacobian[j, 3 + c], left_jacobian[j, 6 + c]
                for k in range(3):
                    a, d, e = local[j, k], local[j, 3 + k], local[j, 6 + k]
                    features_dpose[j, k, c] = v * e - w * d
                    features_dpose[j, 3 + k, c] = w * a - u * e
                    features_dpose[j, 6 + k, c] = u * d - v * a
        else:  # a unit quaternion (x, y, z, w) minus the identity's; dq = omega q / 2
            angle = math.sqrt(u * u + v * v + w * w)
            s = math.sin(0.5 * angle) / angle if angle > 1e-6 else 0.5
            a, d, e, q = s * u, s * v, s * w, math.cos(0.5 * angle)
            features[j, 0], features[j, 1], features[j, 2], features[j, 3] = a, d, e, q - 1
            for c in range(3):
                u, v, w = 0.5 * left_jacobian[j, c], 0.5 * left_jacobian[j, 3 + c], 0.5 * left_jacobian[j, 6 + c]
                features_dpose[j, 0, c] = u * q + v * e - w * d
                features_dpose[j, 1, c] = v * q + w * a - u * e
                features_dpose[j, 2, c] = w * q + u * d - v * a
                features_dpose[j, 3, c] = -(u * a + v * d + w * e)


@loose
def place(x, b, tree, points, posed, pieces, positions):
    """Write the points' `positions` (K, 3), without `transl`, and their `pieces`, metres."""
    piece_ptr, bone, weight, offset, offset_shape, response_ptr, joint, response, _, _ = points
    _, world, _, joints, _, _, features, _, shape = posed
    n_s, n_f = offset_shape.shape[2], response.shape[2]
    at = np.empty(3)
    for k in range(len(piece_ptr) - 1):
        for r in range(3):
            positions[k, r] = 0.0
        for q in range(piece_ptr[k], piece_ptr[k + 1]):
            i, w = bone[q], np.float64(weight[q])
            for r in range(3):
                total = np.float64(offset[q, r])
                for s in range(n_s):
                    total += np.float64(offset_shape[q, r, s]) * shape[s]
                for n in range(response_ptr[q], response_ptr[q + 1]):
                    for f in range(n_f):
                        total += np.float64(response[n, r, f]) * features[joint[n], f]
                at[r] = total
            for r in range(3):
                rotated = world[i, 3 * r] * at[0] + world[i, 3 * r + 1] * at[1] + world[i, 3 * r + 2] * at[2]
                pieces[q, r] = rotated + w * joints[i, r]
                positions[k, r] += pieces[q, r]


@loose
def point_rows(k, points, tree, posed, pieces, lever, rows):
    """Write the Jacobian of point k with respect to axis-angles and betas into `rows`; by `transl` it is the identity.

    rows: (3, D), must be 0 where the Jacobian is. lever: (J, 4) work space, must be 0 and is 0 again at the end.
    """
    piece_ptr, bone, weight, _, offset_shape, response_ptr, joint, response, mover_ptr, mover = points
    parents, column, end = tree.parents, tree.column, tree.betas
    _, world, _, joints, axes, joints_shape, _, features_dpose, _ = posed
    n_s, n_f = offset_shape.shape[2], response.shape[2]
    for r in range(3):
        for s in range(n_s):
            rows[r, end + s] = 0
    for q in range(piece_ptr[k], piece_ptr[k + 1]):
        i, w = bone[q], np.float64(weight[q])
        for r in range(3):
            lever[i, r] += pieces[q, r]
            a, d, e = world[i, 3 * r], world[i, 3 * r + 1], world[i, 3 * r + 2]
            for s in range(n_s):
                rows[r, end + s] += (
                    w * joints_shape[i, r, s]
                    + a * offset_shape[q, 0, s]
                    + d * offset_shape[q, 1, s]
                    + e * offset_shape[q, 2, s]
                )
        lever[i, 3] += w
    for n in range(mover_ptr[k], mover_ptr[k + 1]):
        i, p = mover[n], parents[mover[n]]
        w = lever[i, 3]
        u, v, z = lever[i, 0] - w * joints[i, 0], lever[i, 1] - w * joints[i, 1], lever[i, 2] - w * joints[i, 2]
        for c in range(3):  # axis x lever
            a, d, e = axes[i, c], axes[i, 3 + c], axes[i, 6 + c]
            rows[0, column[i] + c] = d * z - e * v
            rows[1, column[i] + c] = e * u - a * z
            rows[2, column[i] + c] = a * v - d * u
        for r in range(4):
            if p >= 0:
                lever[p, r] += lever[i, r]
            lever[i, r] = 0
    for q in range(piece_ptr[k], piece_ptr[k + 1]):
        i = bone[q]
        for n in range(response_ptr[q], response_ptr[q + 1]):
            j = joint[n]
            for c in range(3):
                u = v = z = 0.0
                for f in range(n_f):
                    by = features_dpose[j, f, c]
                    u += response[n, 0, f] * by
                    v += response[n, 1, f] * by
                    z += response[n, 2, f] * by
                for r in range(3):
                    rows[r, column[j] + c] += world[i, 3 * r] * u + world[i, 3 * r + 1] * v + world[i, 3 * r + 2] * z
