"""Bake the colours of pictures into a texture: who sees a texel, how well, and what colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from bodyfit.avatars.posed import PosedView
from bodyfit.avatars.view import PERSON
from bodyfit.geometry.mesh_tree import vertex_normals
from bodyfit.register.surface.colors import texels_of

__all__ = ["Chart", "Colors", "bake", "sight_of", "vertex_chart"]

_POWER = 3
"""Of the cosine, by which a view counts."""
_EDGE_PX, _EDGE_M = 2, 0.015
"""Width of the edge of a mask, pixels or, where that is more, metres, that hardly counts: it has background in it."""
_AT_EDGE = 0.01
"""How much they do."""
_JUMP_M, _STEEP = 0.04, 3.0
"""A jump in depth is the edge of a limb from so much on, and if it is steeper than this."""
_HIDDEN_M, _HIDDEN_PX = 0.01, 2.0
"""How far behind the surface of its pixel a place is hidden, and how much more in widths of a pixel."""
_COARSE_PX = 250.0
"""Pixels a metre below which the edge is one pixel narrower."""
_SPREAD = 0.12
"""Colours farther from the mean than this, in parts of white, count less in the second round."""
_USUAL_PX = 400.0
"""Pixels a metre of a usual view."""


@dataclass(frozen=True, eq=False)
class Chart:
    """Places of a surface whose colours are looked for: the texels of a texture, or vertices."""

    face: Int[np.ndarray, " M"]
    """Face of each place."""
    mix: Float32[np.ndarray, "M 3"]
    """Where on the face, barycentric."""
    inside: Bool[np.ndarray, "H W"]
    """Which texels of the texture they are, row by row; of vertices one row."""

    @classmethod
    def of(cls, uv: Float[np.ndarray, "T 2"], uv_faces: Int[np.ndarray, "F 3"], size: int) -> Chart:
        """Make the chart of a texture."""
        face, mix = texels_of(uv, uv_faces, size)
        inside = face >= 0
        return cls(face[inside], mix[inside].astype(np.float32), inside)


def vertex_chart(faces: Int[np.ndarray, "F 3"]) -> Chart:
    """Make a chart of the vertices that faces use."""
    used, first = np.unique(faces.ravel(), return_index=True)
    return Chart(first // 3, np.eye(3, dtype=np.float32)[first % 3], np.ones((1, len(used)), bool))


@dataclass(frozen=True, eq=False)
class Sight:
    """What one view sees of the surface."""

    at: Float32[np.ndarray, "V 3"]
    """x px, y px and depth of the vertices."""
    cosine: Float32[np.ndarray, " V"]
    """Of the vertices' normals to the view."""
    trust: Float32[np.ndarray, "H W"]
    """In a pixel: 1 within the person, less at edges, 0 outside."""
    nearest: Float32[np.ndarray, "H W"]
    """Depth behind which places are hidden, metres."""
    per_pixel: float
    """Of finer views more, 1 for usual ones."""


@dataclass(frozen=True, eq=False)
class Colors:
    """The colours of a chart's places."""

    values: Float32[np.ndarray, "M 3"]
    """sRGB in [0, 1]; 0 where nothing was seen."""
    best: Float32[np.ndarray, " M"]
    """Largest weight of a view: 1 for a usual one from straight ahead."""


def sight_of(view: PosedView, faces: Int[np.ndarray, "F 3"], *, exact: bool = False) -> Sight:
    """Find what a view sees. exact: masks and bodies are, so that the edge is narrow."""
    points = view.points
    normals = vertex_normals(points, faces)
    depth = points[:, 2]
    fx, fy, cx, cy = view.lens
    near = np.maximum(depth, 0.1)
    at = np.stack([fx * points[:, 0] / near + cx, fy * points[:, 1] / near + cy, depth], 1)
    cosine = -(normals * points).sum(1) / np.maximum(np.linalg.norm(points, axis=1), 1e-9)
    cosine[depth < 0.1] = -1
    drawn = np.where(np.isfinite(buffer := view.depth(faces).depth_m), buffer, 1e3).astype(np.float32)
    px_m = fx / float(np.median(near))
    edge = _EDGE_PX - (px_m < _COARSE_PX) if exact else max(_EDGE_PX, round(_EDGE_M * px_m))
    around = np.ones((2 * edge + 1,) * 2, np.uint8)
    person = (view.state == PERSON).astype(np.uint8)
    inner = cv2.erode(person, around) > 0  # the picture's border counts as inside
    jump_m = cv2.dilate(np.where(drawn < 1e3, drawn, 0), around) - cv2.erode(drawn, around)
    trust = np.where(inner & ~(jump_m > max(_JUMP_M, 2 * edge * _STEEP / px_m)), 1.0, _AT_EDGE) * person
    hidden = drawn + _HIDDEN_M + _HIDDEN_PX / px_m
    at, cosine, trust, hidden = (np.ascontiguousarray(a, np.float32) for a in (at, cosine, trust, hidden))
    return Sight(at, cosine, trust, hidden, float(np.clip(px_m / _USUAL_PX, 0.2, 2.0)))


def bake(
    chart: Chart,
    faces: Int[np.ndarray, "F 3"],
    views: Sequence[tuple[PosedView, Sight]],
    gains: Float[np.ndarray, "N 3"],
    *,
    shades: Sequence[Float32[np.ndarray, "V 3"]] | None = None,
    rounds: int = 2,
) -> Colors:
    """Average the colours that views have of places.

    shades: of the light on the vertices in each view, which colours are divided by as by the gains; 1 if left out.
    Views that see a place worse than the best one, or far from the mean of the round before, count less after the first
    round.
    """
    from bodyfit.avatars.bake_loops import add_view

    corners = np.ascontiguousarray(faces, np.int64)
    count = len(chart.face)
    shades = [np.ones((int(corners.max()) + 1, 3), np.float32)] * len(views) if shades is None else shades
    found = Colors(np.zeros((count, 3), np.float32), np.zeros(count, np.float32))
    for k in range(rounds):
        sums, total, most = np.zeros((count, 3), np.float32), np.zeros(count, np.float32), np.zeros(count, np.float32)
        for (view, sight), gain, shade in zip(views, gains, shades, strict=True):
            of_view = (sight.at, sight.cosine, view.image, sight.trust, sight.nearest, sight.per_pixel)
            how = (gain.astype(np.float64), shade, _POWER, found.values, found.best, _SPREAD if k else 0.0)
            add_view(chart.face, chart.mix, corners, *of_view, *how, sums, total, most)
        found = Colors(sums / np.maximum(total, 1e-12)[:, None], most)
    return found
