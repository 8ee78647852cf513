"""Anchors spread over the surface of a body: where a field keeps its features, the same for every shape and pose."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from bodyfit.body.model import load_model
from bodyfit.fields.casting.anchors import SurfaceAnchors, surface_anchors
from bodyfit.fields.casting.canonical import CanonicalBody, canonical_body

__all__ = ["SurfaceAtlas", "surface_atlas"]

_NEAREST = 4


@dataclass(frozen=True, eq=False)
class SurfaceAtlas:
    """Anchors on the canonical body of the neutral template; the first of them are the coarse ones."""

    body: CanonicalBody
    """The canonical body, of the template's shape: that of a person enters by the posed vertices alone."""
    anchors: SurfaceAnchors
    """All anchors."""
    coarse_of: Int[np.ndarray, "A 4"]
    """The four coarse anchors nearest to each anchor."""
    coarse_share: Float[np.ndarray, "A 4"]
    """How an anchor mixes them; rows sum to 1."""
    coarse: int
    """Number of coarse anchors."""


@lru_cache(maxsize=2)
def surface_atlas(anchors: int = 4096, coarse: int = 1024) -> SurfaceAtlas:
    """Choose anchors on the open body by farthest points: the first k of them cover it evenly for every k."""
    body = canonical_body(load_model("open"))
    fine = surface_anchors(body, anchors)
    distance, coarse_of = KDTree(fine.points[:coarse]).query(fine.points, k=_NEAREST)
    share = 1 / (np.asarray(distance) ** 2 + 1e-5)
    share = (share / share.sum(1, keepdims=True)).astype(np.float32)
    return SurfaceAtlas(body, fine, np.asarray(coarse_of, np.int64), share, coarse)
