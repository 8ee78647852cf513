"""Light the vertices: studio lights, soft shadows of the key light, and ambient occlusion of the sky."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pytorch3d.renderer import DirectionalLights
from pytorch3d.renderer.utils import TensorProperties
from torch import Tensor

__all__ = [
    "Openness",
    "StudioLights",
    "key_directions",
    "light_of_vertices",
    "openness",
    "openness_of_ground",
    "openness_past",
    "sky_directions",
    "visibility",
]

# Directions (PyTorch3D's axes: x left, y up, z away from the camera) and RGB of the key, the fill and the rim light.
_TOWARDS = np.array([(0.65, 1.05, -0.85), (-1.0, 0.15, -0.55), (-0.25, 0.7, 0.9)])
_TOWARDS /= np.linalg.norm(_TOWARDS, axis=1, keepdims=True)
_COLORS = np.array([(0.80, 0.78, 0.74), (0.10, 0.115, 0.14), (0.20, 0.20, 0.22)])
_AMBIENT = np.array((0.30, 0.31, 0.33))
_GLINT, _SHININESS = 0.06, 24.0
_TEXEL_M = 0.008
_MAP_SIZE = (96, 768)
"""Shadow maps have texels of about this size, and between so many texels a side."""


class StudioLights(TensorProperties):
    """A warm key light from above the camera's left, a cool fill from its right and a rim light from behind.

    PyTorch3D's lights hold one light a mesh; this class holds three behind the same interface. Only the key light has a
    specular part.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__(device=device, ambient_color=(tuple(_AMBIENT.tolist()),))
        self._towards = torch.tensor(_TOWARDS, dtype=torch.float32, device=device)
        self._colors = torch.tensor(_COLORS, dtype=torch.float32, device=device)
        key = (tuple(_TOWARDS[0].tolist()),)
        self._key = DirectionalLights(direction=key, specular_color=((_GLINT,) * 3,), device=device)

    def diffuse(self, normals: Float[Tensor, "*B 3"], points: Tensor) -> Float[Tensor, "*B 3"]:
        """Return the diffuse RGB at points with these normals, as PyTorch3D's lights do."""
        return (torch.nn.functional.normalize(normals, dim=-1) @ self._towards.T).relu() @ self._colors

    def specular(self, normals: Tensor, points: Tensor, camera_position: Tensor, shininess: Tensor) -> Tensor:
        """Return the specular RGB of the key light, as PyTorch3D's lights do."""
        return self._key.specular(normals, points, camera_position, shininess)


@lru_cache
def sky_directions(n: int) -> Float[np.ndarray, "N 3"]:
    """Sample n directions evenly over the sphere (Fibonacci lattice), in order of height."""
    z = 1 - (2 * np.arange(n) + 1) / n
    angle = math.pi * (1 + math.sqrt(5)) * np.arange(n)
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(angle), -z, ring * np.sin(angle)], 1).astype(np.float32)


@lru_cache
def key_directions(n: int, half_angle_deg: float = 9.0) -> Float[np.ndarray, "N 3"]:
    """Sample n directions evenly over the disk of the key light, in camera axes; it subtends twice the half angle."""
    towards = _TOWARDS[0] * (-1, -1, 1)
    right = np.cross(towards, (0, 1, 0))
    right /= np.linalg.norm(right)
    up = np.cross(right, towards)
    radius = math.tan(math.radians(half_angle_deg)) * np.sqrt((np.arange(n) + 0.5) / n)
    angle = math.pi * (1 + math.sqrt(5)) * np.arange(n)
    places = towards + radius[:, None] * (np.cos(angle)[:, None] * right + np.sin(angle)[:, None] * up)
    return (places / np.linalg.norm(places, axis=1, keepdims=True)).astype(np.float32)


def visibility(
    points: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    queries: Float[np.ndarray, "Q 3"],
    normals: Float[np.ndarray, "Q 3"],
    off_mesh: Bool[np.ndarray, " Q"],
    directions: Float[np.ndarray, "D 3"],
    *,
    texel_m: float = _TEXEL_M,
) -> Float[np.ndarray, "D Q"]:
    """Return how visible each direction is from each query point past the mesh, 0 to 1, by shadow maps.

    The mesh is rendered from each direction and the depths of the queries compared. `off_mesh` marks queries that do
    not lie on the mesh, which need no bias against self-shadowing. texel_m: about the size of the maps' texels.
    """
    from bodyfit.render.samples import visibility_from

    middle = (points.min(0) + points.max(0)) / 2
    radius = float(np.linalg.norm(points - middle, axis=1).max()) + 1e-3
    size = int(np.clip(2 * radius / texel_m, *_MAP_SIZE))
    per_m = size / (2 * radius)
    visible = np.empty((len(directions), len(queries)), np.float32)

    def render(jobs: range) -> None:
        nearness = np.empty((size, size), np.float32)
        for d in jobs:
            basis = _basis(directions[d])
            low = (basis @ middle - radius).astype(np.float32)
            buffers = (nearness, visible[d])
            visibility_from(points, faces, queries, normals, off_mesh, basis, low, per_m, *buffers)

    threads = max(min(torch.get_num_threads(), len(directions)), 1)
    jobs = [range(k, len(directions), threads) for k in range(threads)]
    if threads == 1:
        render(jobs[0])
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(render, jobs))
    return visible


def light_of_vertices(
    points: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"], open_to: Openness | None
) -> Float[np.ndarray, "V 4"]:
    """Return the RGB light on vertices (camera axes) and the specular highlight of the key light.

    The lights are those of `StudioLights`; `open_to` scales the key and the sky by what reaches each vertex, None
    leaves shadows out.
    """
    towards, colors = (_TOWARDS * (-1, -1, 1)).astype(np.float32), _COLORS.astype(np.float32)
    facing = normals @ towards.T
    lit = np.maximum(facing, 0)
    # The mirrored key light m = 2 (n . k) n - k and the direction v to the camera: m . v = 2 (n . k) (n . v) - k . v.
    distance = np.maximum(np.sqrt(np.einsum("vi,vi->v", points, points)), 1e-6)
    mirrored = (points @ towards[0] - 2 * facing[:, 0] * np.einsum("vi,vi->v", normals, points)) / distance
    glint = _GLINT * np.maximum(mirrored, 0) ** np.float32(_SHININESS) * (facing[:, 0] > 0)
    light = np.empty((len(points), 4), np.float32)
    if open_to is None:
        light[:, :3] = _AMBIENT + lit @ colors
        light[:, 3] = glint
        return light
    key, sky = open_to.key[:, None], open_to.sky[:, None]
    light[:, :3] = 1.4 * _AMBIENT * open_to.ambience[:, None] + key * lit[:, :1] * colors[0]
    light[:, :3] += sky * (lit[:, 1:] @ colors[1:])
    light[:, 3] = glint * open_to.key
    return light


@dataclass(frozen=True)
class Openness:
    """How much light reaches points past the bodies, 0 to 1."""

    sky: Float[np.ndarray, " Q"]
    """Visible fraction of the sphere around the point, weighted by the cosine to the normal."""
    ambience: Float[np.ndarray, " Q"]
    """As `sky`, weighted to be brighter from above than from below."""
    key: Float[np.ndarray, " Q"]
    """Visible fraction of the key light."""


def openness(
    points: Float[np.ndarray, "V 3"],
    normals: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    ground: Float[np.ndarray, "N 3"] | None = None,
    *,
    sky: int,
    key: int,
) -> tuple[Openness, Openness]:
    """Estimate the light that reaches vertices, and points of a ground below them.

    `sky` and `key` are the numbers of directions sampled over the sky and over the key light.
    """
    from bodyfit.render.samples import smooth_over_faces

    ground = np.zeros((0, 3), np.float32) if ground is None else ground
    queries = np.concatenate([points, ground])
    towards = np.concatenate([normals, np.broadcast_to(np.array((0, -1, 0), np.float32), ground.shape)])
    off_mesh = np.arange(len(queries)) >= len(points)
    parts = _openness(points, faces, queries, towards, off_mesh, sky, key)
    on_mesh = smooth_over_faces(parts[~off_mesh], faces, 2)  # hide the noise of few directions
    return Openness(*on_mesh.T), Openness(*parts[off_mesh].T)


def openness_past(
    occluder: Float[np.ndarray, "N 3"],
    occluder_faces: Int[np.ndarray, "K 3"],
    points: Float[np.ndarray, "V 3"],
    normals: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    *,
    sky: int,
    key: int,
) -> Openness:
    """Estimate the light that reaches the vertices of a mesh past another, coarser one of the same shape."""
    from bodyfit.render.samples import smooth_over_faces

    off_mesh = np.zeros(len(points), bool)
    parts = _openness(occluder, occluder_faces, points, normals, off_mesh, sky, key)
    return Openness(*smooth_over_faces(parts, faces, 2).T)


def openness_of_ground(
    points: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    ground: Float[np.ndarray, "N 3"],
    *,
    sky: int,
    key: int,
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Estimate the visible parts of the sky and of the key light, 0 to 1, at points of a ground below a mesh."""
    up = np.broadcast_to(np.array((0, -1, 0), np.float32), ground.shape)
    parts = _openness(points, faces, ground, np.ascontiguousarray(up), np.ones(len(ground), bool), sky, key)
    return parts[:, 0], parts[:, 2]


def _openness(
    points: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    queries: Float[np.ndarray, "Q 3"],
    towards: Float[np.ndarray, "Q 3"],
    off_mesh: Bool[np.ndarray, " Q"],
    sky: int,
    key: int,
) -> Float[np.ndarray, "Q 3"]:
    """Return sky, ambience and key (`Openness`) of queries with normals `towards`."""
    directions = np.concatenate([sky_directions(sky), key_directions(key)])
    visible = visibility(points, faces, queries, towards, off_mesh, directions)
    weight = np.maximum(towards @ directions[:sky].T, 0)
    total = np.maximum(weight.sum(1), 1e-6)
    weight *= visible[:sky].T
    bright = 0.72 - 0.28 * directions[:sky, 1]
    return np.stack([weight.sum(1) / total, weight @ bright / total, visible[sky:].mean(0)], 1).astype(np.float32)


def _basis(towards: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Return an orthonormal basis whose last row is `towards`."""
    x, y, z = towards.tolist()  # numpy's cross product takes longer than a small shadow map
    axis = int(np.argmin(np.abs(towards)))
    a, b, c = ((0.0, z, -y), (-z, 0.0, x), (y, -x, 0.0))[axis]
    length = math.sqrt(a * a + b * b + c * c)
    a, b, c = a / length, b / length, c / length
    return np.array([(a, b, c), (y * c - z * b, z * a - x * c, x * b - y * a), (x, y, z)], np.float32)
