"""Pair points of a body's contour with points of a mask's edge.

Nearest are pairs in place and direction: distances of the points and of their normals count together, so that the two
edges of an arm are not taken for each other. Both ways: each point of the contour has its edge, and each point of the
edge its contour, or a body thinner than its mask would keep to the near side of it. What finds no partner is pushed
into the mask (free space), or pulls the nearest contour (occupancy).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from bodyfit.fit.config import SilhouetteConfig
from bodyfit.fit.silhouette.contour import Contour

__all__ = ["Edge", "Pairs", "match"]

_NORMAL_CM = 1.0
"""What opposite normals count as half of, in the distance of a pair."""
_ALIKE = 0.3
"""Least cosine between the normals of a pair."""
_REACH_CM = 15.0
"""Greatest distance of a pair."""
_FAR_REACH_CM, _FAR_WEIGHT = 30.0, 0.5
"""The same for points without a partner, and how much they weigh."""
_UNIT_CM = 10.0
"""Length of contour that counts as one measurement: errors of masks are alike over about as much."""


@dataclass(frozen=True, eq=False)
class Edge:
    """The outline of a mask in normalised image coordinates."""

    uv: Float[np.ndarray, "E 2"]
    normal: Float[np.ndarray, "E 2"]
    """Unit directions out of the mask."""
    certain: Bool[np.ndarray, "E"]
    """False where the mask may end for another reason than the person's."""
    step: float
    """Length along the outline for one point."""
    pixel: float
    """Size of a pixel of the picture."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of one person in one view (`ContourPairs`), and how far body and mask agree."""

    vertices: Int[np.ndarray, "M"]
    target: Float[np.ndarray, "M 2"]
    normal: Float[np.ndarray, "M 2"]
    weight: Float[np.ndarray, "M"]
    explained: float
    """Share of the mask's edge that has a contour beside it."""

    def __len__(self) -> int:
        return len(self.vertices)


def match(
    contour: Contour, edge: Edge, scale_cm: float, usable: Bool[np.ndarray, "V"], config: SilhouetteConfig
) -> Pairs:
    """Pair a contour with the edge of a mask; `usable` says which vertices may be in a pair."""
    if len(contour.vertices) == 0 or len(edge.uv) == 0:
        none = np.zeros((0, 2))
        return Pairs(np.zeros(0, np.int64), none, none, np.zeros(0), 0.0)
    at, edge_at = scale_cm * contour.uv, scale_cm * edge.uv
    here = np.concatenate([at, _NORMAL_CM * contour.normal], 1)
    there = np.concatenate([edge_at, _NORMAL_CM * edge.normal], 1)
    forward = _forward(contour, edge, at, edge_at, (here, KDTree(there)), usable, 2 * config.points // 3)
    backward, explained = _backward(
        contour, edge, at, edge_at, (KDTree(here), there), usable, config.points // 3, scale_cm * edge.step
    )
    if not forward and not backward:
        none = np.zeros((0, 2))
        return Pairs(np.zeros(0, np.int64), none, none, np.zeros(0), explained)
    vertices, target, normal, weight = (np.concatenate(c) for c in zip(*forward, *backward, strict=True))
    fine = 1 / np.hypot(1, edge.pixel * scale_cm)  # a pixel of the picture is the mask's noise
    return Pairs(vertices, target / scale_cm, normal, config.weight * fine * weight, explained)


_Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Vertices, targets in centimetres, normals and weights."""


def _forward(
    contour: Contour,
    edge: Edge,
    at: Float[np.ndarray, "N 2"],
    edge_at: Float[np.ndarray, "E 2"],
    places: tuple[np.ndarray, KDTree],
    usable: Bool[np.ndarray, "V"],
    most: int,
) -> list[_Columns]:
    """Pair points of the contour, evenly spread, with the edge; those outside of the mask without partner as well."""
    here, tree = places
    rows = np.flatnonzero(usable[contour.vertices])
    total = float(contour.length_cm[rows].sum())
    rows = rows[_spread(contour.length_cm[rows], min(most, int(np.ceil(total))))]
    if len(rows) == 0:
        return []
    weight = np.sqrt(total / len(rows) / _UNIT_CM / 2)
    _, to = _nearest(tree, here[rows])
    apart = at[rows] - edge_at[to]
    paired = ((contour.normal[rows] * edge.normal[to]).sum(1) > _ALIKE) & ((apart**2).sum(1) < _REACH_CM**2)
    good = paired & edge.certain[to]
    found = [(contour.vertices[rows[good]], edge_at[to[good]], contour.normal[rows[good]], np.full(good.sum(), weight))]
    lost = rows[~paired]
    if len(lost):
        distance, to = _nearest(KDTree(edge_at), at[lost])
        out = (at[lost] - edge_at[to]) / np.maximum(distance, 1e-9)[:, None]
        outside = ((out * edge.normal[to]).sum(1) > _ALIKE) & (distance < _FAR_REACH_CM) & edge.certain[to]
        some = np.full(outside.sum(), _FAR_WEIGHT * weight)
        found.append((contour.vertices[lost[outside]], edge_at[to[outside]], out[outside], some))
    return found


def _backward(
    contour: Contour,
    edge: Edge,
    at: Float[np.ndarray, "N 2"],
    edge_at: Float[np.ndarray, "E 2"],
    places: tuple[KDTree, np.ndarray],
    usable: Bool[np.ndarray, "V"],
    most: int,
    step_cm: float,
) -> tuple[list[_Columns], float]:
    """Pair points of the edge with the contour; return also the share of them that has one beside it."""
    tree, there = places
    rows = np.flatnonzero(edge.certain)
    if len(rows) == 0:
        return [], 0.0
    total = step_cm * len(rows)
    rows = rows[_spread(np.ones(len(rows)), min(most, len(rows)))]
    weight = np.sqrt(total / len(rows) / _UNIT_CM / 2)
    _, to = _nearest(tree, there[rows])
    apart = at[to] - edge_at[rows]
    alike = (contour.normal[to] * edge.normal[rows]).sum(1) > _ALIKE
    paired = alike & ((apart**2).sum(1) < _REACH_CM**2)
    good = paired & usable[contour.vertices[to]]
    found = [(contour.vertices[to[good]], edge_at[rows[good]], contour.normal[to[good]], np.full(good.sum(), weight))]
    lost = rows[~paired]
    if len(lost):
        distance, to = _nearest(KDTree(at), edge_at[lost])
        out = (edge_at[lost] - at[to]) / np.maximum(distance, 1e-9)[:, None]
        near = (distance < _FAR_REACH_CM) & usable[contour.vertices[to]]
        some = np.full(near.sum(), _FAR_WEIGHT * weight)
        found.append((contour.vertices[to[near]], edge_at[lost[near]], out[near], some))
    return found, float(paired.mean())


def _nearest(tree: KDTree, at: Float[np.ndarray, "N D"]) -> tuple[Float[np.ndarray, "N"], Int[np.ndarray, "N"]]:
    """Return the distance and the row of the nearest point of a tree."""
    distance, row = tree.query(at)
    return np.asarray(distance), np.asarray(row)


def _spread(length: Float[np.ndarray, "N"], count: int) -> Int[np.ndarray, "M"]:
    """Choose rows at equal intervals of the summed length."""
    if count <= 0 or len(length) == 0:
        return np.zeros(0, np.int64)
    ends = np.cumsum(length)
    at = (np.arange(count) + 0.5) * ends[-1] / count
    return np.unique(np.searchsorted(ends, at).clip(max=len(length) - 1))
