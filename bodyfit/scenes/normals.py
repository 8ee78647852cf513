"""Normals of what each pixel of a drawing shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from bodyfit.appearance.dressed import DressedPerson
from bodyfit.raster.coverage import normals_of
from bodyfit.render.dressed import DressedPicture

__all__ = ["pixel_normals"]


def pixel_normals(
    layer: DressedPicture, people: Sequence[DressedPerson], focal_px: float, size: int
) -> Float[np.ndarray, "S S 3"]:
    """Interpolate unit normals where each pixel's ray meets its face; camera axes, 0 where nobody is.

    people: in camera axes, metres, as they were drawn by a camera whose principal point is the picture's middle. The
    normals of faces that are seen from behind, as of cards of hair, are turned to the camera.
    """
    out = np.zeros((size, size, 3), np.float32)
    x0, y0 = layer.corner_px
    for number, (who, kind, name) in enumerate(layer.surfaces):
        y, x = np.nonzero(layer.surface == number)
        if not len(x):
            continue
        surface = next(s for s in people[who].surfaces() if (s.kind, s.name) == (kind, name))
        points = np.ascontiguousarray(surface.vertices.detach().cpu().float().numpy())
        corners = surface.faces[layer.face[y, x]]
        at = np.stack([x + x0, y + y0], -1) + 0.5
        rays = np.concatenate([(at - size / 2) / focal_px, np.ones((len(at), 1))], 1).astype(np.float32)
        own = normals_of(points, surface.faces.astype(np.int32))
        out[y + y0, x + x0] = _interpolated(points, own, corners, rays)
    return out


def _interpolated(
    points: Float[np.ndarray, "V 3"],
    normals: Float[np.ndarray, "V 3"],
    corners: Int[np.ndarray, "N 3"],
    rays: Float[np.ndarray, "N 3"],
) -> Float[np.ndarray, "N 3"]:
    """Unit normals of faces where rays from the camera meet them, or at the nearest edge of those they miss."""
    a, b, c = (points[corners[:, k]] for k in range(3))
    # The share of a corner is the volume between the ray and the opposite edge; all are negative seen from behind.
    shares = np.stack([(rays * np.cross(p, q)).sum(1) for p, q in ((b, c), (c, a), (a, b))], 1)
    behind = np.where((rays * np.cross(b - a, c - a)).sum(1) > 0, -1, 1)
    shares = np.maximum(shares * np.sign(shares.sum(1, keepdims=True)), 0)
    shares += 1e-6 * shares.max(1, keepdims=True) + 1e-30  # a face seen exactly from its edge has none
    mixed = (normals[corners] * shares[..., None]).sum(1) * behind[:, None]
    return mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-30)
