"""Meshes with fewer faces over the same vertices, for shadows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from bodyfit.appearance.catalogue import piece_arrays
from bodyfit.body.files.archive import asset_path, read_archive

__all__ = ["coarse_piece", "coarse_skin", "merged_faces"]

_CELL_M = 0.035
"""Vertices this near to each other become one."""


@lru_cache(maxsize=64)
def coarse_piece(name: str) -> Int[np.ndarray, "K 3"]:
    """Few faces of a piece."""
    piece = piece_arrays(name)
    return merged_faces(piece.template[0], piece.faces, _CELL_M)


@lru_cache(maxsize=1)
def coarse_skin() -> Int[np.ndarray, "K 3"]:
    """Few faces of the open body."""
    template = read_archive(asset_path("body", "open_neutral.npz"))["v_template"]
    faces = read_archive(asset_path("body", "open.npz"))["f"].astype(np.int64)
    return merged_faces(template.astype(np.float64), faces, _CELL_M)


def merged_faces(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], cell_m: float
) -> Int[np.ndarray, "K 3"]:
    """Merge the vertices in each cell of a grid into the one nearest to their mean; faces that collapse go."""
    cells = np.unique(np.floor(vertices / cell_m).astype(np.int64), axis=0, return_inverse=True)[1].ravel()
    count = np.bincount(cells)
    mean = np.stack([np.bincount(cells, x) for x in vertices.T], 1) / count[:, None]
    order = np.lexsort((np.linalg.norm(vertices - mean[cells], axis=1), cells))
    first = np.r_[True, cells[order][1:] != cells[order][:-1]]
    corners = order[first][cells[faces]]
    a, b, c = corners.T
    triangles = corners[(a != b) & (b != c) & (c != a)]
    return np.unique(triangles, axis=0)
