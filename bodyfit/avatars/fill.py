"""Colour what no picture shows: from the mirrored side, then from an average of the skin or of the clothes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from bodyfit.avatars.bake import Chart, Colors
from bodyfit.body.model import BodyModel
from bodyfit.geometry.mesh_tree import MeshTree, vertex_normals
from bodyfit.register.surface.colors import continued, padded

__all__ = ["Filled", "filled"]

_WELL = 0.15
"""Weight of the best view from which on a colour counts as well seen: a usual one at 58 degrees."""
_ENOUGH = 0.4
"""Confidence from which on a vertex needs no average."""
_MIRRORED = 0.5
"""Confidence in a mirrored colour, in parts of that in the other side's."""
_NEAR_M = 0.02
"""How far a mirrored place may lie from the surface."""
_CONTINUED_M = 0.1
"""Length over which a colour goes over to the average."""
_PARTS = (
    ("head", "neck", "jaw", "eye", "wrist", "hand", "index", "middle", "pinky", "ring", "thumb"),
    ("hip", "pelvis", "knee"),
    ("ankle", "foot"),
)
"""Joints of the skin, of trousers and of shoes, which have averages of their own; the rest is a shirt's."""


@dataclass(frozen=True, eq=False)
class Filled:
    """A whole texture."""

    texture: UInt8[np.ndarray, "S S 3"]
    """RGB."""
    confidence: UInt8[np.ndarray, "S S"]
    """How well each texel was seen (`Avatar.confidence`)."""


def filled(chart: Chart, colors: Colors, model: BodyModel) -> Filled:
    """Complete the colours of a chart; each source goes over smoothly to the next."""
    rest, faces = model.v_template.double().numpy(), model.faces.numpy()
    seen = _ramp(colors.best)
    values, sure = colors.values, seen
    missing = np.flatnonzero(seen < 1)
    if len(missing):
        other, found = _mirrored(chart, missing, rest, faces, model)
        there = np.where(found, seen[other], 0.0).astype(np.float32)
        mirrored = values[other]
        own, share = seen[missing], (1 - seen[missing]) * there
        total = np.maximum(own + share, 1e-6)[:, None]
        values, sure = values.copy(), seen.copy()
        values[missing] = (own[:, None] * values[missing] + share[:, None] * mirrored) / total
        sure[missing] = own + share
        seen = seen.copy()
        seen[missing] = own + _MIRRORED * share
        values = _averaged(chart, values, sure, rest, faces, model)
    inside = chart.inside
    return Filled(padded(values, inside), padded(seen[:, None], inside)[..., 0])


def _ramp(best: Float32[np.ndarray, " M"]) -> Float32[np.ndarray, " M"]:
    """Turn weights into confidence: 0 to 1, smooth."""
    part = np.clip(best / _WELL, 0, 1)
    return (part * part * (3 - 2 * part)).astype(np.float32)


def _mirrored(
    chart: Chart,
    rows: Int[np.ndarray, " N"],
    rest: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    model: BodyModel,
) -> tuple[Int[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Find the place of the chart on the other side of the body for some places, and whether there is one."""
    flip = np.array([-1.0, 1.0, 1.0])
    corners, mix = faces[chart.face[rows]], chart.mix[rows].astype(np.float64)
    normals = vertex_normals(rest, faces)
    places = np.einsum("nk,nkc->nc", mix, rest[corners]) * flip
    tilt = np.einsum("nk,nkc->nc", mix, normals[corners]) * flip
    near = MeshTree(rest, faces).nearest(places, normals=tilt, min_cosine=0.3, within=_NEAR_M)
    assert model.uv is not None
    assert model.uv_faces is not None
    size = len(chart.inside)
    at = np.einsum("nk,nkc->nc", near.weights, model.uv[model.uv_faces[near.face]])
    column, row = (np.clip(np.floor(x * size), 0, size - 1).astype(int) for x in (at[:, 0], 1 - at[:, 1]))
    number = np.where(chart.inside, np.cumsum(chart.inside).reshape(chart.inside.shape) - 1, -1)[row, column]
    found = near.found & (number >= 0)
    return np.where(found, number, 0), found


def _averaged(
    chart: Chart,
    values: Float32[np.ndarray, "M 3"],
    sure: Float32[np.ndarray, " M"],
    rest: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    model: BodyModel,
) -> Float32[np.ndarray, "M 3"]:
    """Blend with the colours around, continued over the surface towards the average of skin or clothes."""
    corner = np.asarray(chart.mix.argmax(1))
    vertex = faces[chart.face, corner]
    weight = np.where(sure > _ENOUGH, sure, 0) * chart.mix.max(1) ** 4
    total = np.bincount(vertex, weight, len(rest))
    sums = np.stack([np.bincount(vertex, weight * values[:, k], len(rest)) for k in range(3)], 1)
    found = total > 1e-3
    colors = sums / np.maximum(total, 1e-9)[:, None]
    part_of = _parts(model)
    overall = colors[found].mean(0) if found.any() else np.full(3, 0.5)
    means = np.empty_like(colors)
    for k in range(len(_PARTS) + 1):
        part = part_of == k
        means[part] = np.median(colors[part & found], 0) if (part & found).any() else overall
    around = continued(rest, faces, colors, found, means, within_m=_CONTINUED_M)
    base = np.einsum("mk,mkc->mc", chart.mix, around[faces[chart.face]])
    return (sure[:, None] * values + (1 - sure[:, None]) * base).astype(np.float32)


def _parts(model: BodyModel) -> Int[np.ndarray, " V"]:
    """Tell which row of `_PARTS` each vertex is of; one more for the others."""
    names = model.skeleton.names
    rows = [next((k for k, words in enumerate(_PARTS) if any(w in name for w in words)), len(_PARTS)) for name in names]
    return np.array(rows)[model.weights.argmax(1).cpu().numpy()]
