"""Derivatives of points on the skin along one direction each, in a loop compiled by numba (`skin.py`)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from bodyfit.runtime.compiled import loose

__all__ = ["direction_rows"]


@loose
def direction_rows(
    corners: Int[np.ndarray, "P 3"],
    barycentric: Float[np.ndarray, "P 3"],
    directions: Float[np.ndarray, "P 3"],
    vertices: Float[np.ndarray, "V 3"],
    R: Float[np.ndarray, "J 3 3"],
    joints: Float[np.ndarray, "J 3"],
    axes: Float[np.ndarray, "J 3 3"],
    offsets: Float[np.ndarray, "J 3"],
    bones_by: Float[np.ndarray, "J 3 S"],
    parents: Int[np.ndarray, "J"],
    shape: Float[np.ndarray, "V 3 S"],
    weight_ptr: Int[np.ndarray, "V1"],
    weight_joint: Int[np.ndarray, "N"],
    weight_value: Float[np.ndarray, "N"],
    block_ptr: Int[np.ndarray, "V1"],
    block_joint: Int[np.ndarray, "E"],
    block: Float[np.ndarray, "E 3 9"],
    dense: Float[np.ndarray, "F V3"],
    features_by: Float[np.ndarray, "M C 3"],
    by_pose: Float[np.ndarray, "P J 3"],
    by_coefficients: Float[np.ndarray, "P S"],
) -> None:
    """Compute d (direction . point) by axis-angles and coefficients; metres, without the translation in `vertices`.

    offsets: posed joint - R rest joint of each bone; bones_by: its derivative by the coefficients. block_joint counts
    from the root, features_by from the joint after it.
    """
    n_s = shape.shape[2]
    torque, m = np.empty((len(R), 3), R.dtype), np.empty(3, R.dtype)
    s, turn = np.empty(3, R.dtype), np.empty((3, 3), R.dtype)
    for p in range(len(corners)):
        torque[:] = 0
        by_coefficients[p] = 0
        by_pose[p] = 0
        dx, dy, dz = directions[p, 0], directions[p, 1], directions[p, 2]
        for k in range(3):
            v, share = corners[p, k], barycentric[p, k]
            if share == 0:
                continue
            turn[:] = 0
            x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
            for at in range(weight_ptr[v], weight_ptr[v + 1]):
                b, w = weight_joint[at], weight_value[at]
                turn += w * R[b]
                x, y, z = x - w * offsets[b, 0], y - w * offsets[b, 1], z - w * offsets[b, 2]
            # The rest vertex: turn^-1 (x, y, z) by cofactors.
            c0 = turn[1, 1] * turn[2, 2] - turn[1, 2] * turn[2, 1]
            c1 = turn[1, 2] * turn[2, 0] - turn[1, 0] * turn[2, 2]
            c2 = turn[1, 0] * turn[2, 1] - turn[1, 1] * turn[2, 0]
            inverse = 1 / (turn[0, 0] * c0 + turn[0, 1] * c1 + turn[0, 2] * c2)
            s[0] = inverse * (
                c0 * x
                + (turn[0, 2] * turn[2, 1] - turn[0, 1] * turn[2, 2]) * y
                + (turn[0, 1] * turn[1, 2] - turn[0, 2] * turn[1, 1]) * z
            )
            s[1] = inverse * (
                c1 * x
                + (turn[0, 0] * turn[2, 2] - turn[0, 2] * turn[2, 0]) * y
                + (turn[0, 2] * turn[1, 0] - turn[0, 0] * turn[1, 2]) * z
            )
            s[2] = inverse * (
                c2 * x
                + (turn[0, 1] * turn[2, 0] - turn[0, 0] * turn[2, 1]) * y
                + (turn[0, 0] * turn[1, 1] - turn[0, 1] * turn[1, 0]) * z
            )
            for at in range(weight_ptr[v], weight_ptr[v + 1]):
                b = weight_joint[at]
                w = share * weight_value[at]
                px = w * (R[b, 0, 0] * s[0] + R[b, 0, 1] * s[1] + R[b, 0, 2] * s[2] + offsets[b, 0])
                py = w * (R[b, 1, 0] * s[0] + R[b, 1, 1] * s[1] + R[b, 1, 2] * s[2] + offsets[b, 1])
                pz = w * (R[b, 2, 0] * s[0] + R[b, 2, 1] * s[1] + R[b, 2, 2] * s[2] + offsets[b, 2])
                i = b
                while i >= 0:
                    lx, ly, lz = px - w * joints[i, 0], py - w * joints[i, 1], pz - w * joints[i, 2]
                    torque[i, 0] += ly * dz - lz * dy
                    torque[i, 1] += lz * dx - lx * dz
                    torque[i, 2] += lx * dy - ly * dx
                    i = parents[i]
                for c in range(n_s):
                    along = dx * bones_by[b, 0, c] + dy * bones_by[b, 1, c] + dz * bones_by[b, 2, c]
                    by_coefficients[p, c] += w * along
            for c in range(3):  # the direction in the rest body's axes
                m[c] = share * (dx * turn[0, c] + dy * turn[1, c] + dz * turn[2, c])
            for c in range(n_s):
                by_coefficients[p, c] += m[0] * shape[v, 0, c] + m[1] * shape[v, 1, c] + m[2] * shape[v, 2, c]
            for entry in range(block_ptr[v], block_ptr[v + 1]):
                j = block_joint[entry]
                for f in range(9):
                    force = m[0] * block[entry, 0, f] + m[1] * block[entry, 1, f] + m[2] * block[entry, 2, f]
                    for c in range(3):
                        by_pose[p, j, c] += force * features_by[j - 1, f, c]
            if len(dense):
                columns = features_by.shape[1]
                for j in range(1, len(R)):
                    for f in range(columns):
                        row = dense[(j - 1) * columns + f]
                        force = m[0] * row[3 * v] + m[1] * row[3 * v + 1] + m[2] * row[3 * v + 2]
                        for c in range(3):
                            by_pose[p, j, c] += force * features_by[j - 1, f, c]
        for i in range(len(R)):
            for c in range(3):
                by_pose[p, i, c] += (
                    torque[i, 0] * axes[i, 0, c] + torque[i, 1] * axes[i, 1, c] + torque[i, 2] * axes[i, 2, c]
                )
