"""The light that stands in the room: spherical harmonics of it, from the colours that a turning body has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from bodyfit.avatars.bake import Chart, Sight, bake, vertex_chart
from bodyfit.avatars.exposure import solve_gains
from bodyfit.avatars.posed import PosedView
from bodyfit.geometry.mesh_tree import vertex_normals

__all__ = ["RoomLight", "even_light", "find_light", "harmonics", "shade"]

_LEAST, _MOST = 0.2, 3.0
"""Bounds of a shade."""
_ROUNDS = 4
"""Steps of the light's least squares."""
_SD = np.array([0.3, 0.3, 0.3, 0.15, 0.15, 0.15, 0.15, 0.08])
"""Deviation of the harmonics of degree one and two before anything is seen, in parts of the mean light."""
_NOISE_SD, _INDEPENDENT = 0.15, 40
"""Deviation of a colour from albedo times light, in parts of it; as many places of a view count as independent."""
_EACH = 3
"""Of so many vertices one is looked at."""
_DARK, _BRIGHT = 0.06, 0.97
"""Colours darker or brighter than this say nothing of light."""
_DISPLAY_GAMMA = 2.2
"""Shades multiply sRGB values; light is this power of them."""


@dataclass(frozen=True, eq=False)
class RoomLight:
    """The light of a set of views."""

    harmonics: Float[np.ndarray, "9 3"]
    """Of the shade in each channel, in the world's axes; their mean over the views' places is 1."""
    gains: Float[np.ndarray, "N 3"]
    """Factor of each view's colours beside it; their mean is 1."""


def even_light() -> Float[np.ndarray, "9 3"]:
    """Return the harmonics of light that is the same from all sides."""
    return np.eye(9)[:, :1].repeat(3, 1)


def harmonics(normals: Float[np.ndarray, "*B 3"]) -> Float[np.ndarray, "*B 9"]:
    """Compute the spherical harmonics of unit normals up to degree two, not normalised, as fields have them."""
    x, y, z = np.moveaxis(normals, -1, 0)
    return np.stack([np.ones_like(x), x, y, z, x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1], -1)


def shade(light: Float[np.ndarray, "9 3"], normals: Float[np.ndarray, "*B 3"]) -> Float32[np.ndarray, "*B 3"]:
    """Compute the factor of sRGB colours at normals, in the axes of the light."""
    return np.clip(harmonics(normals) @ light, _LEAST, _MOST).astype(np.float32)


def linear(shades: Float[np.ndarray, "*B 3"]) -> Float[np.ndarray, "*B 3"]:
    """Turn factors of sRGB colours into those of light."""
    return shades**_DISPLAY_GAMMA


def world_normals(view: PosedView, faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Compute the vertices' normals in the axes of the world."""
    return vertex_normals(view.points, faces) @ view.R


def find_light(
    views: Sequence[tuple[PosedView, Sight]], faces: Int[np.ndarray, "F 3"], *, gains: bool = True, room: bool = True
) -> RoomLight:
    """Find the light and the gain of each view, by the colours of vertices that several views see.

    A colour is gain x albedo x sum_j light_j H_j(normal). The light is solved by least squares in which places that fit
    badly count less, with a pull to even light; then gains (`solve_gains`), and both again. Places that one view alone
    sees tell nothing: their albedo takes up the light. gains, room: without these, the views' gains are 1, or the light
    is even.
    """
    light, factors = even_light(), np.ones((len(views), 3))
    if len(views) < 2 or not (gains or room):
        return RoomLight(light, factors)
    chart = vertex_chart(faces)
    chart = Chart(chart.face[::_EACH], chart.mix[::_EACH], chart.inside[:, ::_EACH])
    rows = faces[chart.face, chart.mix.argmax(1)]
    found = [bake(chart, faces, [one], np.ones((1, 3)), rounds=1) for one in views]
    colors, weights = np.stack([one.values for one in found]), np.stack([one.best for one in found])
    basis = np.stack([harmonics(world_normals(view, faces)[rows]) for view, _ in views]).astype(np.float32)
    for _ in range(2 if gains and room else 1):
        if room:
            light = _solve_light(colors / factors[:, None], weights, basis)
        if gains:
            factors = solve_gains(colors / np.clip(basis @ light.astype(np.float32), _LEAST, _MOST), weights)
    mean = np.einsum("nvj,nv->j", basis, weights) / max(float(weights.sum()), 1e-9) @ light
    return RoomLight(light / mean, factors)


def _solve_light(
    colors: Float[np.ndarray, "N V 3"], weights: Float[np.ndarray, "N V"], basis: Float[np.ndarray, "N V 9"]
) -> Float[np.ndarray, "9 3"]:
    """Solve log colour = log albedo_v + log(1 + sum_j light_j H_j) by Gauss and Newton, the albedos eliminated."""
    light, flat = even_light(), basis[..., 1:].reshape(-1, 8)
    for k in range(3):
        value = colors[..., k].astype(np.float64)
        usable = np.where((value > _DARK) & (value < _BRIGHT), weights, 0.0)
        usable *= _INDEPENDENT / _NOISE_SD**2 / np.maximum(usable.sum(1, keepdims=True), 1e-12)
        logs, weight, own = np.log(np.maximum(value, 1e-6)), usable, np.zeros(8)
        for _ in range(_ROUNDS):
            shades = np.clip(1 + flat @ own, _LEAST, _MOST).reshape(value.shape)
            left = logs - np.log(shades)
            left -= (weight * left).sum(0) / np.maximum(weight.sum(0), 1e-12)
            weight = usable / (1 + (left / _NOISE_SD) ** 2)
            slopes = flat / shades.reshape(-1, 1)
            weighted = (weight.reshape(-1, 1) * slopes).reshape(*value.shape, 8)
            sums = weighted.sum(0)
            total = np.maximum(weight.sum(0), 1e-12)[:, None]
            normal = slopes.T @ weighted.reshape(-1, 8) - sums.T @ (sums / total) + np.diag(1 / _SD**2)
            right = weighted.reshape(-1, 8).T @ left.reshape(-1) - (sums / total).T @ (weight * left).sum(0)
            own = own + np.linalg.solve(normal, right - own / _SD**2)
        light[1:, k] = own
    return light
