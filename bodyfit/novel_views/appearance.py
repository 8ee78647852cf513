"""The colours of a body in one photograph: what it shows, else the mirrored side of the symmetric template, else what
is around."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.spatial import KDTree

from bodyfit.geometry.mesh_tree import vertex_normals
from bodyfit.geometry.neighbours import neighbour_means
from bodyfit.novel_views.square import Body, Square
from bodyfit.raster.depth import DepthMap

__all__ = ["Appearance", "mirrored_vertices"]

_POWER = 2
"""Of the cosine to the view, by which a colour counts."""
_MIRRORED, _AROUND = 0.3, 0.01
"""How much the mirrored side counts, and what is around, in parts of a colour that the photograph shows from ahead."""
_HIDDEN_M = 0.015
_EDGE_PX = 2
"""Width of the mask's edge, at 256 pixels, whose colours have background in them."""
_JUMP_M = 0.04
"""A jump in depth is the edge of a limb, whose colours may be another's."""
_WIDTH = 4096
_ROUNDS = 80
"""By how many rings of vertices colours spread."""


def mirrored_vertices(template: Float[np.ndarray, "V 3"]) -> Int[np.ndarray, " V"]:
    """Find each vertex's place on the other side of a template at rest (x to the left): the nearest vertex."""
    return np.asarray(KDTree(template).query(template * (-1.0, 1.0, 1.0))[1])


@dataclass(frozen=True, eq=False)
class Appearance:
    """A body in a photograph, as a source of colours."""

    square: Square
    """The photograph's square."""
    body: Body
    """The body in it."""
    mirror: Int[np.ndarray, " V"]
    """The vertex on the other side of each one."""

    def draw(self, turned: Body, drawn: DepthMap, square: Square) -> Float32[np.ndarray, "S S 5"]:
        """Colour the turned body, of which `drawn` is the depth: premultiplied colour (3), coverage and confidence."""
        picture = np.zeros((*drawn.faces.shape, 5), np.float32)
        rows, columns = np.nonzero(drawn.faces >= 0)
        face = drawn.faces[rows, columns]
        at = square.unproject(rows, columns, drawn.depth_m[rows, columns].astype(np.float64))
        mix = _barycentric(at, turned.vertices[turned.faces[face]])
        corners = self.body.faces[face]
        own, own_weight = self._colors(corners, mix)
        other, other_weight = self._colors(self.mirror[corners], mix)
        weights = np.stack([own_weight, _MIRRORED * (1 - own_weight) * other_weight, np.full(len(face), _AROUND)])
        colors = np.stack([own, other, np.einsum("nk,nkc->nc", mix, self._around[corners])])
        total = weights.sum(0)
        picture[rows, columns, :3] = np.einsum("kn,knc->nc", weights, colors) / total[:, None]
        picture[rows, columns, 3] = 1
        picture[rows, columns, 4] = np.clip(own_weight + 0.5 * weights[1] / _MIRRORED, 0, 1)
        return picture

    def _colors(
        self, corners: Int[np.ndarray, "N 3"], mix: Float[np.ndarray, "N 3"]
    ) -> tuple[Float32[np.ndarray, "N 3"], Float[np.ndarray, " N"]]:
        """Look up places of the body in the photograph: colours, and weights in [0, 1], 0 where not visible."""
        at = self.square.project(np.einsum("nk,nkc->nc", mix, self.body.vertices[corners]))
        facing = np.einsum("nk,nk->n", mix, self._facing[corners])
        rows = -(-len(at) // _WIDTH)  # OpenCV takes no more than 32,767 places a side
        places = np.zeros((rows * _WIDTH, 2), np.float32)
        places[: len(at)] = at[:, :2] - 0.5
        x, y = (np.ascontiguousarray(places[:, k].reshape(rows, _WIDTH)) for k in (0, 1))
        sources = (
            (self._trust, cv2.INTER_LINEAR),
            (self._nearest, cv2.INTER_LINEAR),
            (self.square.image, cv2.INTER_CUBIC),
        )
        trust, nearest, color = (
            cv2.remap(a, x, y, how, borderMode=cv2.BORDER_REPLICATE).reshape(rows * _WIDTH, -1)[: len(at)]
            for a, how in sources
        )
        inside = ((at[:, :2] >= 0) & (at[:, :2] < self.square.side)).all(1)
        visible = inside & (at[:, 2] < nearest[:, 0] + _HIDDEN_M)
        weight = np.where(visible, trust[:, 0] * np.clip(facing, 0, 1) ** _POWER, 0.0)
        return color.astype(np.float32) / np.float32(255), weight

    @cached_property
    def _facing(self) -> Float[np.ndarray, " V"]:
        """Cosines of the vertices' normals to the view."""
        points, normals = self.body.vertices, vertex_normals(self.body.vertices, self.body.faces)
        return -(normals * points).sum(1) / np.maximum(np.linalg.norm(points, axis=1), 1e-9)

    @cached_property
    def _nearest(self) -> Float32[np.ndarray, "S S"]:
        """The depth of the body, far away beside it."""
        depth = self.square.depth(self.body).depth_m
        return np.where(np.isfinite(depth), depth, 1e3).astype(np.float32)

    @cached_property
    def _trust(self) -> Float32[np.ndarray, "S S"]:
        """How much a pixel's colour is the person's: less at edges of the mask and of limbs."""
        edge = max(1, round(_EDGE_PX * self.square.side / 256))
        around = np.ones((2 * edge + 1,) * 2, np.uint8)
        mask = self.square.mask.astype(np.uint8)
        inner = cv2.erode(mask, around)  # the picture's border counts as inside
        body = self._nearest < 1e3
        jump = cv2.dilate(np.where(body, self._nearest, 0), around) - cv2.erode(self._nearest, around) > _JUMP_M
        return (mask * (0.05 + 0.95 * inner) * np.where(jump & body, 0.1, 1.0)).astype(np.float32)

    @cached_property
    def _around(self) -> Float[np.ndarray, "V 3"]:
        """Colours of the vertices, spread from those that the photograph shows, or their mirrored ones, to the rest."""
        count = len(self.body.vertices)
        each, alone = np.repeat(np.arange(count)[:, None], 3, 1), np.tile([1.0, 0, 0], (count, 1))
        color, weight = self._colors(each, alone)
        other = _MIRRORED * weight[self.mirror]
        total = weight + other
        color = (weight[:, None] * color + other[:, None] * color[self.mirror]) / np.maximum(total, 1e-9)[:, None]
        if not (total > 0).any():
            return np.full((count, 3), 0.5)
        spread = neighbour_means(self.body.faces, len(self.body.vertices))
        values, weights = color * total[:, None], total.copy()
        for _ in range(_ROUNDS):
            # Where much is known it stays; elsewhere the neighbours' mean flows in.
            weights_in, values_in = spread @ weights, spread @ values
            room = np.clip(1 - total / 0.1, 0, 1)
            weights, values = total + room * weights_in, color * total[:, None] + room[:, None] * values_in
        overall = (color * total[:, None]).sum(0) / total.sum()
        return (values + 1e-9 * overall) / (weights + 1e-9)[:, None]


def _barycentric(points: Float[np.ndarray, "N 3"], corners: Float[np.ndarray, "N 3 3"]) -> Float[np.ndarray, "N 3"]:
    """Compute barycentric coordinates of points on triangles, clamped to them."""
    u, v, w = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]
    uu, uv, vv, wu, wv = ((a * b).sum(1) for a, b in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    area = np.maximum(uu * vv - uv * uv, 1e-18)
    mix = np.clip(np.stack([(vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area], 1), 0, 1)
    mix = np.concatenate([1 - mix.sum(1, keepdims=True), mix], 1).clip(0)
    return mix / mix.sum(1, keepdims=True)
