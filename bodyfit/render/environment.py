"""Light of a place: all around as spherical harmonics, and one key light that throws shadows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from bodyfit.render.light import Openness, sky_directions, visibility

__all__ = ["EnvironmentLight", "harmonics", "openness_towards"]

_BY_DEGREE = np.repeat([1.0, 2 / 3, 1 / 4], [1, 3, 5])
"""What the cosine lobe leaves of radiance of each degree, over pi (Ramamoorthi and Hanrahan 2001)."""
_LEAST = 0.15
"""Light from around is at least this part of its mean, where the series of nine terms rings below."""
_GLINT, _SHININESS = 0.075, 24.0
_SKY_TEXEL_M = 0.016
"""Shadow maps of the sky, which are blurred by their number, are half as fine as those of the key light."""


@dataclass(frozen=True, eq=False)
class EnvironmentLight:
    """Light from all around and from a key light, in one set of axes."""

    coefficients: Float[np.ndarray, "9 3"]
    """RGB radiance as real spherical harmonics up to degree 2 (`harmonics`)."""
    towards: Float[np.ndarray, "3"]
    """Unit vector to the middle of the key light."""
    color: Float[np.ndarray, "3"]
    """What a white surface that faces the key light reflects of it: irradiance over pi, RGB."""
    half_angle_deg: float = 6.0
    """Half the angle that the key light subtends; shadows are softer the wider it is."""

    @classmethod
    def around(
        cls,
        directions: Float[np.ndarray, "N 3"],
        radiance: Float[np.ndarray, "N 3"],
        solid_angle: Float[np.ndarray, "N"],
        *,
        towards: Float[np.ndarray, "3"],
        color: Float[np.ndarray, "3"],
    ) -> EnvironmentLight:
        """Project radiance that is known in directions all around, and add a key light."""
        return cls((harmonics(directions) * solid_angle[:, None]).T @ radiance, towards, color)

    def turned(self, R: Float[np.ndarray, "3 3"]) -> EnvironmentLight:
        """The light in other axes: of a direction d there is what was of R^T d."""
        directions = sky_directions(64).astype(np.float64)
        there = np.linalg.lstsq(harmonics(directions @ R.T), harmonics(directions) @ self.coefficients, rcond=None)[0]
        return replace(self, coefficients=there, towards=R @ self.towards)

    def reflected(self, normals: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """What white surfaces reflect of the light around: irradiance over pi, RGB."""
        light = harmonics(normals) @ (_BY_DEGREE[:, None] * self.coefficients)
        mean = self.coefficients[0] * harmonics(np.zeros((1, 3)))[0, 0]
        return np.maximum(light, _LEAST * mean)

    def on_vertices(
        self, points: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"], open_to: Openness | None
    ) -> Float[np.ndarray, "V 4"]:
        """RGB light on vertices in camera axes and the key light's highlight; `open_to` None leaves shadows out."""
        towards = self.towards.astype(np.float32)
        facing = normals @ towards
        distance = np.maximum(np.sqrt(np.einsum("vi,vi->v", points, points)), 1e-6)
        mirrored = (points @ towards - 2 * facing * np.einsum("vi,vi->v", normals, points)) / distance
        glint = _GLINT * np.maximum(mirrored, 0) ** np.float32(_SHININESS) * (facing > 0) * self.color.mean()
        light = np.empty((len(points), 4), np.float32)
        key = np.maximum(facing, 0) if open_to is None else np.maximum(facing, 0) * open_to.key
        around = self.reflected(normals)
        light[:, :3] = (around if open_to is None else around * open_to.sky[:, None]) + key[:, None] * self.color
        light[:, 3] = glint if open_to is None else glint * open_to.key
        return light

    def key_directions(self, n: int) -> Float[np.ndarray, "N 3"]:
        """Sample n directions evenly over the disk of the key light."""
        right = np.cross(self.towards, (0.0, 1.0, 0.0) if abs(self.towards[1]) < 0.9 else (1.0, 0.0, 0.0))
        right /= np.linalg.norm(right)
        up = np.cross(right, self.towards)
        radius = math.tan(math.radians(self.half_angle_deg)) * np.sqrt((np.arange(n) + 0.5) / n)
        angle = math.pi * (1 + math.sqrt(5)) * np.arange(n)
        places = self.towards + radius[:, None] * (np.cos(angle)[:, None] * right + np.sin(angle)[:, None] * up)
        return (places / np.linalg.norm(places, axis=1, keepdims=True)).astype(np.float32)


def harmonics(directions: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 9"]:
    """Real spherical harmonics of degrees 0 to 2 of unit vectors, orthonormal over the sphere; of 0 the first alone."""
    x, y, z = np.asarray(directions).T
    one = np.ones_like(x)
    linear, mixed = math.sqrt(3 / (4 * math.pi)), math.sqrt(15 / (4 * math.pi))
    columns = (math.sqrt(1 / (4 * math.pi)) * one, linear * y, linear * z, linear * x, mixed * x * y, mixed * y * z)
    columns += (math.sqrt(5 / (16 * math.pi)) * (2 * z * z - x * x - y * y), mixed * x * z, mixed / 2 * (x * x - y * y))
    return np.stack(columns, 1)


def openness_towards(
    light: EnvironmentLight,
    occluder: tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "K 3"]],
    queries: Float[np.ndarray, "Q 3"],
    normals: Float[np.ndarray, "Q 3"],
    on_mesh: int,
    *,
    sky: int,
    key: int,
) -> Float[np.ndarray, "Q 3"]:
    """How much of the light around and of the key light reaches points past a mesh: the columns of `Openness`.

    The first `on_mesh` queries lie on the mesh, the others off it. sky, key: numbers of directions.
    """
    off_mesh = np.arange(len(queries)) >= on_mesh
    around, of_key = sky_directions(sky), light.key_directions(key)
    at = (np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(normals, np.float32), off_mesh)
    weight = np.maximum(at[1] @ around.T, 0)
    total = np.maximum(weight.sum(1), 1e-6)
    weight *= visibility(*occluder, *at, around, texel_m=_SKY_TEXEL_M).T
    reached = weight.sum(1) / total
    return np.stack([reached, reached, visibility(*occluder, *at, of_key).mean(0)], 1).astype(np.float32)
