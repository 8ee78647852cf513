"""How much light falls on each vertex: studio lights, soft shadows of the key light, and the sky that a vertex sees."""

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

__all__ = ["Openness", "StudioLights", "key_directions", "light_of_vertices", "openness", "seen", "sky_directions"]

# PyTorch3D's axes: x left, y up, z away from the camera. The key, the fill and the rim light: where, and RGB.
_TOWARDS = np.array([(0.65, 1.05, -0.85), (-1.0, 0.15, -0.55), (-0.25, 0.7, 0.9)])
_TOWARDS /= np.linalg.norm(_TOWARDS, axis=1, keepdims=True)
_COLORS = np.array([(0.80, 0.78, 0.74), (0.10, 0.115, 0.14), (0.20, 0.20, 0.22)])
_AMBIENT = np.array((0.30, 0.31, 0.33))
_GLINT, _SHININESS = 0.06, 24.0
_TEXEL_M = 0.008
_SIDE_PX = (96, 768)
"""The sky is looked for through pictures of the bodies of about this size a pixel, and of so many pixels a side."""


class StudioLights(TensorProperties):
    """A warm key light from above the camera's left, a cool fill from its right and a rim light from behind.

    PyTorch3D's lights hold one light a mesh; this is three behind the same interface, of which the key alone glints.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__(device=device, ambient_color=(tuple(_AMBIENT.tolist()),))
        self._towards = torch.tensor(_TOWARDS, dtype=torch.float32, device=device)
        self._colors = torch.tensor(_COLORS, dtype=torch.float32, device=device)
        key = (tuple(_TOWARDS[0].tolist()),)
        self._key = DirectionalLights(direction=key, specular_color=((_GLINT,) * 3,), device=device)

    def diffuse(self, normals: Float[Tensor, "*B 3"], points: Tensor) -> Float[Tensor, "*B 3"]:
        """As a PyTorch3D light's."""
        return (torch.nn.functional.normalize(normals, dim=-1) @ self._towards.T).relu() @ self._colors

    def specular(self, normals: Tensor, points: Tensor, camera_position: Tensor, shininess: Tensor) -> Tensor:
        """As a PyTorch3D light's."""
        return self._key.specular(normals, points, camera_position, shininess)


@lru_cache
def sky_directions(n: int) -> Float[np.ndarray, "N 3"]:
    """Directions spread evenly over the sphere (a Fibonacci lattice), by height."""
    z = 1 - (2 * np.arange(n) + 1) / n
    angle = math.pi * (1 + math.sqrt(5)) * np.arange(n)
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(angle), -z, ring * np.sin(angle)], 1).astype(np.float32)


@lru_cache
def key_directions(n: int, half_angle_deg: float = 9.0) -> Float[np.ndarray, "N 3"]:
    """Camera axes: directions to places of a round key light, which looks so wide; evenly spread over it."""
    towards = _TOWARDS[0] * (-1, -1, 1)
    right = np.cross(towards, (0, 1, 0))
    right /= np.linalg.norm(right)
    up = np.cross(right, towards)
    radius = math.tan(math.radians(half_angle_deg)) * np.sqrt((np.arange(n) + 0.5) / n)
    angle = math.pi * (1 + math.sqrt(5)) * np.arange(n)
    places = towards + radius[:, None] * (np.cos(angle)[:, None] * right + np.sin(angle)[:, None] * up)
    return (places / np.linalg.norm(places, axis=1, keepdims=True)).astype(np.float32)


def seen(
    points: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    queries: Float[np.ndarray, "Q 3"],
    normals: Float[np.ndarray, "Q 3"],
    bare: Bool[np.ndarray, " Q"],
    directions: Float[np.ndarray, "D 3"],
) -> Float[np.ndarray, "D Q"]:
    """How much of each direction each query sees past the mesh, 0 to 1; `bare` queries lie off the mesh.

    The mesh is drawn from each direction and the queries looked up in the drawing, as shadow maps do.
    """
    from bodyfit.render.samples import seen_from

    middle = (points.min(0) + points.max(0)) / 2
    radius = float(np.linalg.norm(points - middle, axis=1).max()) + 1e-3
    size = int(np.clip(2 * radius / _TEXEL_M, *_SIDE_PX))
    per_m = size / (2 * radius)
    found = np.empty((len(directions), len(queries)), np.float32)

    def look(jobs: range) -> None:
        shown, nearness = np.empty((size, size, 1), np.int32), np.empty((size, size, 1), np.float32)
        for d in jobs:
            basis = _basis(directions[d])
            low = (basis @ middle - radius).astype(np.float32)
            seen_from(points, faces, queries, normals, bare, basis, low, per_m, shown, nearness, found[d])

    threads = max(min(torch.get_num_threads(), len(directions)), 1)
    jobs = [range(k, len(directions), threads) for k in range(threads)]
    if threads == 1:
        look(jobs[0])
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(look, jobs))
    return found


def light_of_vertices(
    points: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"], open_to: Openness | None
) -> Float[np.ndarray, "V 4"]:
    """Light on vertices before a camera (its axes), and the glint of the key; `open_to` None leaves shadows out.

    The lights are those of `StudioLights`, with the key's part and the sky's as far as they reach the vertex.
    """
    towards, colors = (_TOWARDS * (-1, -1, 1)).astype(np.float32), _COLORS.astype(np.float32)
    facing = normals @ towards.T
    lit = np.maximum(facing, 0)
    # The mirrored key light m = 2 (n . k) n - k against the way to the camera v: m . v = 2 (n . k) (n . v) - k . v.
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
    """What reaches points past the bodies, 0 to 1."""

    sky: Float[np.ndarray, " Q"]
    """The part of the sky and the ground that is seen, by the cosine to the normal."""
    ambience: Float[np.ndarray, " Q"]
    """The same, brighter from above than from below."""
    key: Float[np.ndarray, " Q"]
    """The part of the key light that is seen."""


def openness(
    points: Float[np.ndarray, "V 3"],
    normals: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    ground: Float[np.ndarray, "N 3"] | None = None,
    *,
    sky: int,
    key: int,
) -> tuple[Openness, Openness]:
    """What vertices, and points of a ground below them, see of so many directions of the sky and of the key light."""
    from bodyfit.render.samples import smoothed

    ground = np.zeros((0, 3), np.float32) if ground is None else ground
    queries = np.concatenate([points, ground])
    towards = np.concatenate([normals, np.broadcast_to(np.array((0, -1, 0), np.float32), ground.shape)])
    bare = np.arange(len(queries)) >= len(points)
    directions = np.concatenate([sky_directions(sky), key_directions(key)])
    found = seen(points, faces, queries, towards, bare, directions)
    weight = np.maximum(towards @ directions[:sky].T, 0)
    total = np.maximum(weight.sum(1), 1e-6)
    weight *= found[:sky].T
    bright = 0.72 - 0.28 * directions[:sky, 1]
    parts = np.stack([weight.sum(1) / total, weight @ bright / total, found[sky:].mean(0)], 1).astype(np.float32)
    on_mesh = smoothed(parts[~bare], faces, 2)  # few directions leave blotches
    return Openness(*on_mesh.T), Openness(*parts[bare].T)


def _basis(towards: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Rows of right, down and towards."""
    other = np.eye(3)[int(np.argmin(np.abs(towards)))]
    right = np.cross(towards, other)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(towards, right), towards]).astype(np.float32)
