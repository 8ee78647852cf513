"""The smoothness of a displacement of a surface, as quadratic forms of its vertices."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array, csr_array, dia_array

__all__ = ["Smoothness", "vertex_areas"]

_MIN_COTANGENT = 0.05
"""Smallest weight of an edge: with the negative ones of obtuse faces the form of a folded mesh would lose its bound."""
_MAX_COTANGENT = 10.0
"""Largest weight of an edge, which bounds those of needles."""
_MIN_AREA = 0.1
"""Smallest area of a vertex, as a part of the mean: a lower one makes the bending of a dense patch dominate all."""


def vertex_areas(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, " V"]:
    """Compute a third of the area of each vertex's faces."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(area, 3), len(vertices))


class Smoothness:
    """Membrane and bending energy of displacements d of a surface, for each coordinate alone.

    The membrane's is the integral of |grad d|^2, the bending that of |laplacian d|^2, with linear elements: the
    stiffness matrix L of cotangents (clamped), and L A^-1 L with the vertices' areas A.
    """

    def __init__(self, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> None:
        n = len(vertices)
        area = vertex_areas(vertices, faces)
        self.areas = np.maximum(area, _MIN_AREA * area.mean())
        rows, columns, weights = [], [], []
        for k in range(3):
            i, j, apex = faces[:, k], faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
            u, v = vertices[i] - vertices[apex], vertices[j] - vertices[apex]
            cross = np.linalg.norm(np.cross(u, v), axis=1)
            cotangent = (u * v).sum(1) / np.maximum(cross, 1e-12)
            rows.append(i)
            columns.append(j)
            weights.append(0.5 * np.clip(cotangent, _MIN_COTANGENT, _MAX_COTANGENT))
        i, j, w = np.concatenate(rows), np.concatenate(columns), np.concatenate(weights)
        graph = coo_array((np.r_[w, w], (np.r_[i, j], np.r_[j, i])), (n, n)).tocsr()
        self.membrane = csr_array(_diagonal(np.asarray(graph.sum(1)).ravel()) - graph)
        """(V, V), unitless: d^T L d is the integral of |grad d|^2."""
        self.bending = csr_array(self.membrane @ _diagonal(1 / self.areas) @ self.membrane)
        """(V, V), per square metre: d^T B d is the integral of |laplacian d|^2."""

    def form(self, *, membrane_m: float, bending_m: float) -> csr_array:
        """Combine both to a form in square metres of area, as integrals of d^2 are.

        Details smaller than the lengths `membrane_m` and `bending_m` are smoothed: the forms are multiplied by their
        square and fourth power.
        """
        return csr_array(membrane_m**2 * self.membrane + bending_m**4 * self.bending)


def _diagonal(values: Float[np.ndarray, " V"]) -> dia_array:
    return dia_array((values[None], [0]), shape=(len(values), len(values)))
