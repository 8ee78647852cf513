"""Draw points as soft discs and pull gradients back to them, in loops compiled by numba; imported where used.

Arguments that several loops share:
    points: (N, 3) x px, y px and depth of the points. features: (N, C). radius: of a disc, pixels.
    index: (H, W, K) int32 the nearest points whose discs hold each pixel's centre, by depth; -1 for none.
    slab: points so much behind the nearest one of a pixel are left out of it.
"""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import inline, jit

__all__ = [
    "add_average_gradients",
    "add_splat_gradients",
    "average_points",
    "composite_points",
    "nearest_points",
]


@inline
def _opacity(points, i, column, row, radius):
    """Return how much of a pixel's centre a disc covers: 1 - d^2 / r^2."""
    dx, dy = column + 0.5 - points[i, 0], row + 0.5 - points[i, 1]
    return 1 - (dx * dx + dy * dy) / (radius * radius)


@jit
def nearest_points(points, radius, index, depth):
    """Fill `index` with the nearest points of each pixel and `depth` (H, W, K) with their depths, by depth.

    Points that are not finite or lie behind the camera are left out; of equal depths the first one counts as nearer.
    """
    height, width, most = index.shape
    index[:] = -1
    depth[:] = np.inf
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        if not (z > 0 and z < np.inf and abs(x) < 1e9 and abs(y) < 1e9):
            continue
        first_row, last_row = max(math.ceil(y - radius - 0.5), 0), min(math.floor(y + radius - 0.5), height - 1)
        first, last = max(math.ceil(x - radius - 0.5), 0), min(math.floor(x + radius - 0.5), width - 1)
        for row in range(first_row, last_row + 1):
            for column in range(first, last + 1):
                if z >= depth[row, column, most - 1] or _opacity(points, i, column, row, radius) <= 0:
                    continue
                k = most - 1
                while k > 0 and z < depth[row, column, k - 1]:
                    depth[row, column, k] = depth[row, column, k - 1]
                    index[row, column, k] = index[row, column, k - 1]
                    k -= 1
                depth[row, column, k], index[row, column, k] = z, i


@jit
def composite_points(points, features, radius, slab, index, picture, alpha):
    """Composite front to back: add the features to `picture` (H, W, C) and the opacity to `alpha` (H, W), both 0."""
    height, width, most = index.shape
    for row in range(height):
        for column in range(width):
            through = 1.0
            for k in range(most):
                i = index[row, column, k]
                if i < 0 or points[i, 2] > points[index[row, column, 0], 2] + slab:
                    break
                a = _opacity(points, i, column, row, radius)
                for c in range(features.shape[1]):
                    picture[row, column, c] += through * a * features[i, c]
                through *= 1 - a
            alpha[row, column] = 1 - through


@jit
def add_splat_gradients(points, features, radius, slab, index, g_picture, g_alpha, g_points, g_features):
    """Add the gradients of `composite_points` to `g_points` (N, 3), whose depth has none, and `g_features` (N, C).

    g_picture, g_alpha: gradients of the loss with respect to the picture and the opacity.
    """
    height, width, most = index.shape
    opacity, through, inner = np.empty(most), np.empty(most), np.empty(most)
    for row in range(height):
        for column in range(width):
            count, left = 0, 1.0
            while count < most:
                i = index[row, column, count]
                if i < 0 or points[i, 2] > points[index[row, column, 0], 2] + slab:
                    break
                a = _opacity(points, i, column, row, radius)
                opacity[count], through[count] = a, left
                total = np.float64(g_alpha[row, column])  # opacity is one more feature, 1 for each point
                for c in range(features.shape[1]):
                    g = g_picture[row, column, c]
                    total += g * features[i, c]
                    g_features[i, c] += left * a * g
                inner[count] = total
                left *= 1 - a
                count += 1
            behind = 0.0  # what the points behind give, composited on their own
            for k in range(count - 1, -1, -1):
                i = index[row, column, k]
                by_opacity = through[k] * (inner[k] - behind)
                behind = opacity[k] * inner[k] + (1 - opacity[k]) * behind
                g_points[i, 0] += by_opacity * 2 * (column + 0.5 - points[i, 0]) / (radius * radius)
                g_points[i, 1] += by_opacity * 2 * (row + 0.5 - points[i, 1]) / (radius * radius)


@jit
def average_points(points, features, radius, slab, power, index, picture, alpha):
    """Average the points of each pixel by their opacities to a power, times what they cover together.

    Adds to `picture` (H, W, C) and the opacity to `alpha` (H, W), both 0.
    """
    height, width, most = index.shape
    for row in range(height):
        for column in range(width):
            through, total = 1.0, 0.0
            for k in range(most):
                i = index[row, column, k]
                if i < 0 or points[i, 2] > points[index[row, column, 0], 2] + slab:
                    break
                a = _opacity(points, i, column, row, radius)
                weight = a**power
                total += weight
                through *= 1 - a
                for c in range(features.shape[1]):
                    picture[row, column, c] += weight * features[i, c]
            alpha[row, column] = 1 - through
            if total > 0:
                for c in range(features.shape[1]):
                    picture[row, column, c] *= (1 - through) / total


@jit
def add_average_gradients(points, features, radius, slab, power, index, g_picture, g_alpha, g_points, g_features):
    """Add the gradients of `average_points`; arguments as of `add_splat_gradients`."""
    height, width, most = index.shape
    channels = features.shape[1]
    opacity, others, mean = np.empty(most), np.empty(most), np.empty(channels)
    for row in range(height):
        for column in range(width):
            count, total, through = 0, 0.0, 1.0
            mean[:] = 0
            while count < most:
                i = index[row, column, count]
                if i < 0 or points[i, 2] > points[index[row, column, 0], 2] + slab:
                    break
                a = _opacity(points, i, column, row, radius)
                opacity[count], others[count] = a, through  # product of 1 - a of those before
                total += a**power
                for c in range(channels):
                    mean[c] += a**power * features[i, c]
                through *= 1 - a
                count += 1
            if not total > 0:
                continue
            cover, by_cover = 1 - through, np.float64(g_alpha[row, column])
            for c in range(channels):
                mean[c] /= total
                by_cover += g_picture[row, column, c] * mean[c]
            behind = 1.0
            for k in range(count - 1, -1, -1):
                i, a = index[row, column, k], opacity[k]
                by_weight = 0.0
                for c in range(channels):
                    g = cover * g_picture[row, column, c] / total
                    g_features[i, c] += g * a**power
                    by_weight += g * (features[i, c] - mean[c])
                by_opacity = by_weight * power * a ** (power - 1) + by_cover * others[k] * behind
                behind *= 1 - a
                g_points[i, 0] += by_opacity * 2 * (column + 0.5 - points[i, 0]) / (radius * radius)
                g_points[i, 1] += by_opacity * 2 * (row + 0.5 - points[i, 1]) / (radius * radius)
