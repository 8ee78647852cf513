"""Bake a scan's colours into a body's texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.ndimage import distance_transform_edt
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.mesh_tree import MeshTree, vertex_normals
from bodyfit.register.surface.smoothness import Smoothness

__all__ = ["ColoredScan", "bake_texture", "continued", "padded", "texels_of"]

_NEIGHBOURS = 8
"""Points of a scan of which the nearest ones of agreeing normals give a colour."""
_BLENDED = 3
_MIN_COSINE = 0.2


@dataclass(frozen=True, eq=False)
class ColoredScan:
    """The colours of a scan: of its points, or of a mesh with a texture."""

    points: Float[np.ndarray, "N 3"]
    """Points, or vertices of the mesh, metres."""
    normals: Float[np.ndarray, "N 3"] | None = None
    """Outward unit normals of the points."""
    colors: Float[np.ndarray, "N 3"] | None = None
    """sRGB in [0, 1] of the points."""
    faces: Int[np.ndarray, "F 3"] | None = None
    """Faces of the mesh."""
    uv: Float[np.ndarray, "T 2"] | None = None
    """Texture coordinates, the origin at the picture's lower left."""
    uv_faces: Int[np.ndarray, "F 3"] | None = None
    """Rows of `uv` at each face's corners."""
    image: UInt8[np.ndarray, "H W 3"] | None = None
    """The texture."""

    def __post_init__(self) -> None:
        textured = [x is not None for x in (self.faces, self.uv, self.uv_faces, self.image)]
        if self.colors is None and not all(textured):
            raise OptionError("a coloured scan needs colors, or faces with uv, uv_faces and an image")

    def at(
        self, places: Float[np.ndarray, "M 3"], normals: Float[np.ndarray, "M 3"], within_m: float
    ) -> tuple[Float[np.ndarray, "M 3"], Bool[np.ndarray, " M"]]:
        """Look up colours (sRGB in [0, 1]) at the nearest places of agreeing normals, and tell where there are any."""
        if self.faces is not None:
            return self._on_mesh(places, normals, within_m)
        assert self.colors is not None
        k = min(_NEIGHBOURS, len(self.points))
        distance, near = KDTree(self.points).query(places, k=k, distance_upper_bound=within_m)
        distance, near = distance.reshape(len(places), k), near.reshape(len(places), k)
        fits = np.isfinite(distance)
        near = np.where(fits, near, 0)
        if self.normals is not None:
            fits &= np.einsum("mkc,mc->mk", self.normals[near], normals) > _MIN_COSINE
        fits &= np.cumsum(fits, 1) <= _BLENDED
        weights = fits / np.maximum(distance, 1e-4) ** 2
        weights = np.where(fits, weights, 0)
        total = weights.sum(1, keepdims=True)
        mixed = np.einsum("mk,mkc->mc", weights, self.colors[near]) / np.where(total > 0, total, 1)
        return mixed, fits.any(1)

    def _on_mesh(
        self, places: Float[np.ndarray, "M 3"], normals: Float[np.ndarray, "M 3"], within_m: float
    ) -> tuple[Float[np.ndarray, "M 3"], Bool[np.ndarray, " M"]]:
        assert self.faces is not None
        tree = MeshTree(self.points, self.faces)
        near = tree.nearest(places, normals=normals, min_cosine=_MIN_COSINE, within=within_m)
        if self.image is None or self.uv is None or self.uv_faces is None:
            assert self.colors is not None
            return np.einsum("mk,mkc->mc", near.weights, self.colors[self.faces[near.face]]), near.found
        place = np.einsum("mk,mkc->mc", near.weights, self.uv[self.uv_faces[near.face]])
        return _sample(self.image, place), near.found


def bake_texture(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    uv: Float[np.ndarray, "T 2"],
    uv_faces: Int[np.ndarray, "F 3"],
    scan: ColoredScan,
    *,
    size: int = 1024,
    within_m: float = 0.02,
) -> UInt8[np.ndarray, "S S 3"]:
    """Bake the colours of a scan into the texture of a surface that lies on it; RGB, the first row on top (v = 1).

    A texel takes the colour of the scan's nearest place of agreeing normal. Where there is none within `within_m`, the
    colours of around continue smoothly over the surface, and outside the charts those of the nearest texel, so that
    seams do not show. Raises `OptionError` where nothing of the scan is near.
    """
    if not 16 <= size <= 8192:
        raise OptionError(f"size of a texture must lie in 16 to 8192 pixels, got {size}")
    check_shape("uv_faces", uv_faces, (len(faces), 3), hint="one row a face")
    face, weights = texels_of(uv, uv_faces, size)
    inside = face >= 0
    corners, mix = faces[face[inside]], weights[inside]
    normals = vertex_normals(vertices, faces)
    places = np.einsum("mk,mkc->mc", mix, vertices[corners])
    tilt = np.einsum("mk,mkc->mc", mix, normals[corners])
    colors, found = scan.at(places, tilt, within_m)
    if not found.any():
        raise OptionError(f"no part of the scan lies within {1000 * within_m:g} mm of the surface; register it first")
    if not found.all():
        base = continued(vertices, faces, *scan.at(vertices, normals, within_m), colors[found].mean(0))
        colors = np.where(found[:, None], colors, np.einsum("mk,mkc->mc", mix, base[corners]))
    return padded(colors, inside)


def padded(colors: Float[np.ndarray, "M C"], inside: Bool[np.ndarray, "S S"]) -> UInt8[np.ndarray, "S S C"]:
    """Lay the colours (in [0, 1]) of texels out as a picture, outside the charts those of the nearest texel."""
    image = np.zeros((*inside.shape, colors.shape[1]), colors.dtype)
    image[inside] = colors
    rows, columns = np.asarray(distance_transform_edt(~inside, return_distances=False, return_indices=True))
    return np.rint(255 * np.clip(image[rows, columns], 0, 1)).astype(np.uint8)


def texels_of(
    uv: Float[np.ndarray, "T 2"], uv_faces: Int[np.ndarray, "F 3"], size: int
) -> tuple[Int[np.ndarray, "S S"], Float[np.ndarray, "S S 3"]]:
    """Find each texel's face (-1 outside the charts) and barycentric coordinates on it."""
    from bodyfit.register.surface.colors_loops import texels

    at = np.stack([uv[:, 0] * size, (1 - uv[:, 1]) * size], 1).astype(np.float64)
    face, weights = np.full((size, size), -1, np.int64), np.zeros((size, size, 3))
    texels(at, np.ascontiguousarray(uv_faces, np.int64), face, weights)
    return face, weights


def continued(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    colors: Float[np.ndarray, "V C"],
    found: Bool[np.ndarray, " V"],
    mean: Float[np.ndarray, "*V C"],
    *,
    within_m: float | None = None,
) -> Float[np.ndarray, "V C"]:
    """Continue the colours of vertices to those without one, as a membrane does; to pieces without any, the mean.

    mean: one for all, or one a vertex. within_m: the length over which a colour goes over to the mean; None for never.
    """
    smoothness = Smoothness(vertices, faces)
    missing = np.flatnonzero(~found)
    if len(missing) == 0:
        return colors
    rows = smoothness.membrane[missing]
    apart = np.where(found[:, None], colors - mean, 0)
    system = csc_array(rows[:, missing])
    pull = 1e-6 * max(system.diagonal().mean(), 1e-12)
    system.setdiag(system.diagonal() + (pull if within_m is None else smoothness.areas[missing] / within_m**2))
    filled = apart + mean
    filled[missing] += splu(system).solve(-(rows @ apart))
    return filled


def _sample(image: UInt8[np.ndarray, "H W 3"], uv: Float[np.ndarray, "M 2"]) -> Float[np.ndarray, "M 3"]:
    """Sample a texture by bilinear interpolation; it repeats beyond [0, 1]."""
    height, width, _ = image.shape
    x, y = (uv[:, 0] % 1) * width - 0.5, (1 - uv[:, 1] % 1) * height - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    rows, columns = (y0 % height, (y0 + 1) % height), (x0 % width, (x0 + 1) % width)
    top = (1 - fx) * image[rows[0], columns[0]] + fx * image[rows[0], columns[1]]
    bottom = (1 - fx) * image[rows[1], columns[0]] + fx * image[rows[1], columns[1]]
    return ((1 - fy) * top + fy * bottom) / 255
