"""Anchors on the canonical surface, and the weights by which samples interpolate what is stored at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, UInt8, UInt16
from scipy.spatial import KDTree

from bodyfit.errors import OptionError
from bodyfit.fields.casting.canonical import CanonicalBody
from bodyfit.fields.casting.samples import PLACE_UNIT_M, RaySamples
from bodyfit.runtime.parallel import run

__all__ = ["AnchorWeights", "SurfaceAnchors", "surface_anchors"]

_GRAIN = 4096


@dataclass(frozen=True, eq=False)
class AnchorWeights:
    """The four anchors of each sample and their weights, packed into 12 bytes."""

    anchor: UInt16[np.ndarray, "N 4"]
    """Rows of the anchors, the nearest first."""
    weight: UInt8[np.ndarray, "N 4"]
    """Weights times 255; they sum to 255."""

    @property
    def weights(self) -> Float32[np.ndarray, "N 4"]:
        """Weights, of sum 1."""
        return self.weight.astype(np.float32) / np.float32(255)


@dataclass(frozen=True, eq=False)
class SurfaceAnchors:
    """Vertices of the canonical body that lie evenly over its surface."""

    vertices: Int[np.ndarray, "A"]
    """Rows of the canonical body's vertices, in the order in which they were chosen: the first n are n even ones."""
    points: Float32[np.ndarray, "A 3"]
    """Their canonical places, metres."""
    near: UInt16[np.ndarray, "V K"]
    """The anchors nearest to each vertex of the canonical body, the nearest first."""

    def weigh(self, samples: RaySamples) -> AnchorWeights:
        """Find the four anchors nearest to each sample among those near its vertex, and weigh them.

        With the distances d_k, w_k is in proportion to ((d_5 - d_k) / (d_5 d_k))^2: an anchor's weight falls to zero
        where another takes its place among the four, so that what is interpolated is continuous (Franke and Nielson's
        modified inverse distances, 1980).
        """
        from bodyfit.fields.casting.anchors_loops import weigh

        anchor, weight = np.empty((len(samples), 4), np.uint16), np.empty((len(samples), 4), np.uint8)
        arguments = (samples.place, samples.vertex, samples.origin_m, PLACE_UNIT_M, self.points, self.near)
        run(weigh, len(samples), *arguments, anchor, weight, grain=_GRAIN)
        return AnchorWeights(anchor, weight)


def surface_anchors(canonical: CanonicalBody, count: int = 4096, *, near: int = 16) -> SurfaceAnchors:
    """Choose anchors by farthest points: each is the vertex farthest from those before it.

    near: number of anchors among which the four of a sample are sought. Raises `OptionError`.
    """
    most = min(len(canonical.vertices), 65536)
    if not 5 <= near <= count <= most:
        raise OptionError(f"anchors must be at least near={near} >= 5 and at most the {most} vertices, got {count}")
    from bodyfit.fields.casting.anchors_loops import farthest_points

    chosen = np.empty(count, np.int64)
    farthest_points(canonical.vertices, chosen)
    points = np.ascontiguousarray(canonical.vertices[chosen])
    _, rows = KDTree(points).query(canonical.vertices, k=near)
    return SurfaceAnchors(chosen, points, np.asarray(rows).astype(np.uint16))
