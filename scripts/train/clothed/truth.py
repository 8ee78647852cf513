"""The surface that one can see of a dressed person from outside: points on it, with normals."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from bodyfit.appearance.dressed import DressedPerson, Surface
from bodyfit.raster.depth import nearest_faces
from scripts.train.clothed.mesh import directions

__all__ = ["outer_points", "solid_mesh"]

_VIEWS = 14
_OPAQUE = 0.45
"""Mean opacity from which on a face of hair is a surface."""
_INSIDE = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]]) / np.array([[3], [6], [6], [6]])
_LEFT_OUT = ("eyes", "brows", "lashes")


def solid_mesh(person: DressedPerson) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Put skin, clothes and hair together, without faces that are mostly transparent, nor lashes and the like."""
    vertices, faces, count = [], [], 0
    for one in person.surfaces():
        if one.kind in _LEFT_OUT:
            continue
        vertices.append(one.vertices.double().numpy())
        faces.append(one.faces[_opaque(one)] + count)
        count += len(vertices[-1])
    return np.concatenate(vertices), np.concatenate(faces)


def outer_points(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], cell_m: float, *, pixel_m: float = 0.01
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Points, about one a cube of side `cell_m`, of what parallel cameras all round show, and their outward normals."""
    points, normals = [], []
    for R in directions(_VIEWS):
        turned = vertices @ R.T
        low = turned[faces].min((0, 1))
        xy = (turned[:, :2] - low[:2]) / pixel_m
        size = np.ceil(xy[faces].max((0, 1))).astype(int) + 1
        found, nearness = nearest_faces(np.concatenate([xy, -turned[:, 2:]], 1), faces, (int(size[0]), int(size[1])))
        y, x = np.nonzero(found >= 0)
        at = np.stack([(x + 0.5) * pixel_m + low[0], (y + 0.5) * pixel_m + low[1], -nearness[y, x]], 1)
        a, b, c = turned[faces[found[y, x]]].transpose(1, 0, 2)
        normal = np.cross(b - a, c - a)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        normal *= -np.sign(normal[:, 2:])  # cloth and hair have two sides: that which is seen
        square = -normal[:, 2] > 0.2
        points.append(at[square] @ R)
        normals.append(normal[square] @ R)
    everything, every_normal = np.concatenate(points), np.concatenate(normals)
    return _one_a_cell(everything, every_normal, cell_m)


def _one_a_cell(
    points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], cell_m: float
) -> tuple[Float[np.ndarray, "K 3"], Float[np.ndarray, "K 3"]]:
    """The point of each cell that lies nearest to its middle."""
    scaled = points / cell_m
    cell = np.floor(scaled).astype(np.int64)
    away = np.abs(scaled - cell - 0.5).max(1)
    cell -= cell.min(0)
    size = cell.max(0) + 1
    key = (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]
    order = np.lexsort((away, key))
    first = order[np.r_[True, key[order][1:] != key[order][:-1]]]
    return points[first], normals[first]


def _opaque(surface: Surface) -> Bool[np.ndarray, "F"]:
    """Tell the faces that are mostly opaque."""
    if surface.texture.shape[2] < 4:
        return np.ones(len(surface.faces), bool)
    return _opaque_faces(surface.name, len(surface.faces), _Alpha(surface))


class _Alpha:
    """A surface's opacity, for a cache that looks at its name and number of faces alone."""

    def __init__(self, surface: Surface) -> None:
        self.alpha: UInt8[np.ndarray, "H W"] = surface.texture[..., 3]
        self.corners = surface.uv[surface.uv_faces]

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Alpha)


@lru_cache(maxsize=256)
def _opaque_faces(name: str, count: int, drawn: _Alpha) -> Bool[np.ndarray, "F"]:
    height, width = drawn.alpha.shape
    uv = np.einsum("kc,fcd->fkd", _INSIDE, drawn.corners) % 1
    column, row = (uv[..., 0] * width).astype(int) % width, ((1 - uv[..., 1]) * height).astype(int) % height
    return drawn.alpha[row, column].mean(1) > 255 * _OPAQUE
