"""Differentiate the warp from posed to canonical places by the body's pose."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.fields.casting.canonical import CanonicalBody, PosedBody, vertex_transforms
from bodyfit.runtime.parallel import run

__all__ = ["pose_surrogate", "warped"]


def warped(
    body: PosedBody, points: Float[np.ndarray, "N 3"], vertex: Integer[np.ndarray, "N"]
) -> Float[np.ndarray, "N 3"]:
    """Compute the canonical places of points whose nearest vertices are given, metres."""
    from bodyfit.fields.casting.warp_loops import warp_points

    out = np.empty((len(points), 3))
    canonical = body.canonical
    at = (np.ascontiguousarray(points, np.float64), vertex, body.warp, canonical.wide_ptr, canonical.wide, out)
    run(warp_points, len(points), *at, grain=1024)
    return out


def pose_surrogate(
    body: PosedBody,
    model: BodyModel,
    params: BodyParams,
    points: Float[np.ndarray, "N 3"],
    vertex: Integer[np.ndarray, "N"],
    by_place: Float[np.ndarray, "N 3"],
) -> Float[Tensor, ""]:
    """Return a scalar whose gradient by the parameters is that of a loss with `by_place` = dloss / dcanonical.

    points: the posed places that are looked at, which stay; vertex: their nearest vertices, which stay, too. params:
    those of `body`, one row, with a graph. The scalar is sum g_v . v + g_L . L over the vertices v and their maps
    L = A_canonical A_posed^-1, with the derivatives g of the loss by them.
    """
    from bodyfit.fields.casting.warp_loops import pull_back

    canonical: CanonicalBody = body.canonical
    by_vertex, by_linear = np.zeros((len(body.warp), 3)), np.zeros((len(body.warp), 3, 3))
    at = (np.ascontiguousarray(points, np.float64), vertex, np.ascontiguousarray(by_place, np.float64))
    pull_back(*at, body.warp, canonical.wide_ptr, canonical.wide, by_vertex, by_linear)
    vertices = model(**params).vertices[0]
    posed = vertex_transforms(model, params)[0, :, :, :3]
    upright = torch.linalg.det(posed.detach()).abs() > 0.1  # folded ones were inverted otherwise
    eye = torch.eye(3, dtype=posed.dtype, device=posed.device)
    linear = torch.from_numpy(canonical.linear).to(posed) @ torch.linalg.inv(
        torch.where(upright[:, None, None], posed, eye)
    )
    weight = torch.from_numpy(by_linear).to(posed) * upright[:, None, None]
    return (vertices * torch.from_numpy(by_vertex).to(posed)).sum() + (linear * weight).sum()
