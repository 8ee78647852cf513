"""Labels of each pixel of a drawing, in a loop compiled by numba."""

from __future__ import annotations

import numpy as np

from bodyfit.raster.coverage import weights_on_face
from bodyfit.runtime.compiled import jit

__all__ = ["label_pixels"]


@jit
def label_pixels(
    surface, face, first_vertex, first_face, faces, vertex_part, kind, points, normals, left, top, parts, garments, out
):
    """Write garment and part of each pixel of a layer (h, w), and, where there are `normals`, its unit normal.

    surface, face: (h, w) as in `DressedPicture`; first_vertex, first_face: (K,) of each surface in the concatenated
    faces (F, 3), vertex_part (V,), points (V, 3; x px, y px and nearness) and normals (V, 3; or none), which are in the
    camera's axes. kind: (K,) garment. left, top: where the layer lies in parts, garments (S, S) and out (S, S, 3).
    Normals of faces that are seen from behind, as of cards of hair, are turned to the camera.
    """
    weight = np.empty(3)
    with_normals = len(normals) > 0
    for y in range(surface.shape[0]):
        for x in range(surface.shape[1]):
            k = surface[y, x]
            if k < 0:
                continue
            f = first_face[k] + face[y, x]
            start = first_vertex[k]
            row, column = top + y, left + x
            garments[row, column] = kind[k]
            parts[row, column] = vertex_part[start + faces[f, 0]]
            if not with_normals:
                continue
            a, b, c = start + faces[f, 0], start + faces[f, 1], start + faces[f, 2]
            area = (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1])
            area -= (points[b, 1] - points[a, 1]) * (points[c, 0] - points[a, 0])
            if abs(area) > 1e-12:
                corners = faces[f : f + 1] + start
                weights_on_face(points, corners, 0, column + 0.5, row + 0.5, True, weight)
            else:
                weight[:] = 1.0 / 3.0
            # Clockwise on the screen, y down, is the outside.
            side = -1.0 if area > 0 else 1.0
            n0, n1, n2 = 0.0, 0.0, 0.0
            for corner in range(3):
                v = start + faces[f, corner]
                n0 += weight[corner] * normals[v, 0]
                n1 += weight[corner] * normals[v, 1]
                n2 += weight[corner] * normals[v, 2]
            length = side / max(np.sqrt(n0 * n0 + n1 * n1 + n2 * n2), 1e-30)
            out[row, column, 0] = n0 * length
            out[row, column, 1] = n1 * length
            out[row, column, 2] = n2 * length
