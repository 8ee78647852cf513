"""Means over the neighbours of a mesh's vertices."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from scipy.sparse import csr_array, dia_array

__all__ = ["neighbour_means"]


def neighbour_means(faces: Int[np.ndarray, "F 3"], count: int) -> csr_array:
    """Make the (V, V) matrix whose product with values of vertices is the mean over each one's neighbours.

    count: V. Neighbours share an edge; rows of vertices of no face are empty.
    """
    a, b = faces.ravel(), np.roll(faces, 1, 1).ravel()
    joined = csr_array((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), (count, count))
    joined.data[:] = 1  # an edge of two triangles came twice
    share = 1 / np.maximum(np.asarray(joined.sum(1)).ravel(), 1)
    return csr_array(dia_array((share[None], [0]), shape=(count, count)) @ joined)
