"""Points on the skin and their derivatives along one direction each, in loops compiled by numba (`skin.py`)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from bodyfit.runtime.compiled import loose

__all__ = ["direction_rows", "place_points"]


@loose
def place_points(
    corners: Int[np.ndarray, "B P K"],
    barycentric: Float[np.ndarray, "B P K"],
    coefficients: Float[np.ndarray, "B S"],
    features: Float[np.ndarray, "B M C"],
    R: Float[np.ndarray, "B J 3 3"],
    offsets: Float[np.ndarray, "B J 3"],
    template: Float[np.ndarray, "V 3"],
    shape: Float[np.ndarray, "V 3 S1"],
    weight_ptr: Int[np.ndarray, "V1"],
    weight_joint: Int[np.ndarray, "N"],
    weight_value: Float[np.ndarray, "N"],
    block_ptr: Int[np.ndarray, "V1"],
    block_joint: Int[np.ndarray, "E"],
    block: Float[np.ndarray, "E 3 C"],
    rest: Float[np.ndarray, "B P K 3"],
    points: Float[np.ndarray, "B P 3"],
) -> None:
    """Compute the corners on the rest bodies, and the posed points without the translation, metres.

    offsets: posed joint - R rest joint of each bone. block_joint counts from the root, features from the joint after
    it.
    """
    s = np.empty(3, R.dtype)
    for body in range(len(corners)):
        for p in range(corners.shape[1]):
            points[body, p] = 0
            for k in range(corners.shape[2]):
                v, share = corners[body, p, k], barycentric[body, p, k]
                rest[body, p, k] = 0
                if share == 0:
                    continue
                for c in range(3):
                    s[c] = template[v, c]
                    for i in range(coefficients.shape[1]):
                        s[c] += shape[v, c, i] * coefficients[body, i]
                for entry in range(block_ptr[v], block_ptr[v + 1]):
                    j = block_joint[entry]
                    for c in range(3):
                        for f in range(block.shape[2]):
                            s[c] += block[entry, c, f] * features[body, j - 1, f]
                for c in range(3):
                    rest[body, p, k, c] = s[c]
                for at in range(weight_ptr[v], weight_ptr[v + 1]):
                    b, w = weight_joint[at], share * weight_value[at]
                    for c in range(3):
                        turned = R[body, b, c, 0] * s[0] + R[body, b, c, 1] * s[1] + R[body, b, c, 2] * s[2]
                        points[body, p, c] += w * (turned + offsets[body, b, c])


@loose
def direction_rows(
    corners: Int[np.ndarray, "B P K"],
    barycentric: Float[np.ndarray, "B P K"],
    directions: Float[np.ndarray, "B P 3"],
    rest: Float[np.ndarray, "B P K 3"],
    R: Float[np.ndarray, "B J 3 3"],
    joints: Float[np.ndarray, "B J 3"],
    axes: Float[np.ndarray, "B J 3 3"],
    offsets: Float[np.ndarray, "B J 3"],
    bones_by: Float[np.ndarray, "B J 3 S"],
    parents: Int[np.ndarray, "J"],
    features_by: Float[np.ndarray, "B M C 3"],
    shape: Float[np.ndarray, "V 3 S1"],
    weight_ptr: Int[np.ndarray, "V1"],
    weight_joint: Int[np.ndarray, "N"],
    weight_value: Float[np.ndarray, "N"],
    block_ptr: Int[np.ndarray, "V1"],
    block_joint: Int[np.ndarray, "E"],
    block: Float[np.ndarray, "E 3 C"],
    rows: Float[np.ndarray, "B P D"],
) -> None:
    """Compute d (direction . point) by translation, axis-angles of the first joints, and coefficients; metres.

    rest and offsets: of `place_points`; bones_by: the derivative of the offsets by the coefficients. The number of
    joints is that of the columns.
    """
    n_s = bones_by.shape[3]
    by_shape = rows.shape[2] - n_s  # the first column
    turning = (by_shape - 3) // 3
    torque, m = np.empty((R.shape[1], 3), R.dtype), np.empty(3, R.dtype)
    turn = np.empty((3, 3), R.dtype)
    for body in range(len(corners)):
        for p in range(corners.shape[1]):
            torque[:] = 0
            rows[body, p] = 0
            row = rows[body, p]
            dx, dy, dz = directions[body, p, 0], directions[body, p, 1], directions[body, p, 2]
            row[0], row[1], row[2] = dx, dy, dz
            for k in range(corners.shape[2]):
                v, share = corners[body, p, k], barycentric[body, p, k]
                if share == 0:
                    continue
                turn[:] = 0
                x, y, z = rest[body, p, k, 0], rest[body, p, k, 1], rest[body, p, k, 2]
                for at in range(weight_ptr[v], weight_ptr[v + 1]):
                    b = weight_joint[at]
                    w = share * weight_value[at]
                    Rb, o = R[body, b], offsets[body, b]
                    for c in range(3):
                        for d in range(3):
                            turn[c, d] += w * Rb[c, d]
                    px = w * (Rb[0, 0] * x + Rb[0, 1] * y + Rb[0, 2] * z + o[0])
                    py = w * (Rb[1, 0] * x + Rb[1, 1] * y + Rb[1, 2] * z + o[1])
                    pz = w * (Rb[2, 0] * x + Rb[2, 1] * y + Rb[2, 2] * z + o[2])
                    i = b
                    while i >= 0:
                        lx, ly, lz = (
                            px - w * joints[body, i, 0],
                            py - w * joints[body, i, 1],
                            pz - w * joints[body, i, 2],
                        )
                        torque[i, 0] += ly * dz - lz * dy
                        torque[i, 1] += lz * dx - lx * dz
                        torque[i, 2] += lx * dy - ly * dx
                        i = parents[i]
                    for c in range(n_s):
                        along = (
                            dx * bones_by[body, b, 0, c] + dy * bones_by[body, b, 1, c] + dz * bones_by[body, b, 2, c]
                        )
                        row[by_shape + c] += w * along
                for c in range(3):  # the direction in the rest body's axes
                    m[c] = dx * turn[0, c] + dy * turn[1, c] + dz * turn[2, c]
                for c in range(n_s):
                    row[by_shape + c] += m[0] * shape[v, 0, c] + m[1] * shape[v, 1, c] + m[2] * shape[v, 2, c]
                for entry in range(block_ptr[v], block_ptr[v + 1]):
                    j = block_joint[entry]
                    if j >= turning:
                        continue
                    for f in range(block.shape[2]):
                        force = m[0] * block[entry, 0, f] + m[1] * block[entry, 1, f] + m[2] * block[entry, 2, f]
                        for c in range(3):
                            row[3 + 3 * j + c] += force * features_by[body, j - 1, f, c]
            for i in range(turning):
                for c in range(3):
                    row[3 + 3 * i + c] += (
                        torque[i, 0] * axes[body, i, 0, c]
                        + torque[i, 1] * axes[body, i, 1, c]
                        + torque[i, 2] * axes[body, i, 2, c]
                    )
