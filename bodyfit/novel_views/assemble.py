"""Assemble a new view of splatted pixels, the body and its colours, and of what a network makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32

from bodyfit.novel_views.appearance import Appearance
from bodyfit.novel_views.lift import DEPTH_UNIT_M, Points
from bodyfit.novel_views.square import Body, Square, smooth_normals
from bodyfit.raster.splat import splat

__all__ = [
    "MASK_MARGIN",
    "OUTPUTS",
    "VIEW_CHANNELS",
    "BodyMaps",
    "Layers",
    "body_maps",
    "completed",
    "detailed",
    "layers_of",
    "view_input",
]

VIEW_CHANNELS = 16
"""Of the refinement network's input: splat's colour (3), opacity, facing, depth; avatar's colour (3), coverage,
confidence; the surface's normals (3), its depth; the mask as it is without the network."""
OUTPUTS = 5
"""Of the network: what is added to the colour (3), the logit by which the splat goes before the avatar, and what is
added to the mask's logit."""
MASK_MARGIN = 0.018
"""The logit of a mask m is log((m + margin) / (1 - m + margin)): 4 at most."""
_FINER = 2
"""Samples a pixel in x and y of the coloured surface, where the network sees it: its outline counts most."""
_DENSE = 0.85
"""Opacity from which a splat is the person, for at an outline discs reach out by a pixel."""
_EDGE_PX, _BESIDE_PX = 0.6, 2
"""Deviation by which the surface's outline is softened, for it is as uncertain as that; and how far beside it splats
are the person too, who wears or carries something there. At 256 pixels."""
_SLAB_M = 0.03
"""Points so far behind the nearest one of a pixel are not mixed in."""
_HIDDEN_M = 0.06
"""Points so far behind the body's surface are not visible."""
_SPREAD_PX = 2.5
_GAP_PX, _MOST_BETWEEN = 1.2, 5
"""Neighbours farther apart in the new view get points between them, so many at most."""
_RADIUS_PX, _POWER = 1.2, 6
"""Of discs, and of their opacities in averages."""
_NOTHING = 0.02
"""A mask of less is 0, and one of as much less than 1 is 1: no veil on the background, no holes in the person."""


@dataclass(frozen=True, eq=False)
class BodyMaps:
    """The body in a new view."""

    depth_m: Float32[np.ndarray, "S S"]
    """The nearest depth of a pixel; infinite beside it."""
    normals: Float32[np.ndarray, "S S 3"]
    """Camera axes of the new view; less than 1 long at the outline, 0 beside it."""
    avatar: Float32[np.ndarray, "S S 5"]
    """Its colours in the photograph (`Appearance.draw`)."""


@dataclass(frozen=True, eq=False)
class Layers:
    """What a new view is made of."""

    splat: Float32[np.ndarray, "S S 6"]
    """Colour (3), opacity, facing and depth about the pivot in half metres; all but the opacity premultiplied."""
    avatar: Float32[np.ndarray, "S S 5"]
    """Colour (3), coverage and confidence, premultiplied."""
    bare: bool = False
    """Whether the surface is the naked body's, which clothes and hair lie beside."""

    @cached_property
    def mask(self) -> Float32[np.ndarray, "S S 1"]:
        """The mask as it is: where the surface is, and dense splats well beside it, or anywhere beside a bare body."""
        cover, scale = np.ascontiguousarray(self.avatar[..., 3]), len(self.avatar) / 256
        dense = np.clip((self.splat[..., 3] - _DENSE) / (1 - _DENSE), 0, 1)
        if self.bare:
            return (dense + (1 - dense) * cover)[..., None]
        near = round(_BESIDE_PX * scale)
        around, about = (np.ones((2 * reach + 1,) * 2, np.uint8) for reach in (near, near + 1))
        beyond = dense * (cv2.dilate(cover, around) <= 0)
        beyond = np.minimum(dense, cv2.dilate(beyond, about))  # and what lies between it and the surface
        soft = cv2.GaussianBlur(cover, (0, 0), _EDGE_PX * scale, borderType=cv2.BORDER_REPLICATE)
        return np.maximum(soft, beyond)[..., None]


def body_maps(square: Square, turned: Body, appearance: Appearance, *, finer: int = _FINER) -> BodyMaps:
    """Draw the turned body, in the colours of the photograph. finer: samples a pixel in x and y."""
    square = square.finer(finer)
    drawn = square.depth(turned)
    depth, side = np.asarray(drawn.depth_m, np.float32), square.side // finer
    blocks = depth.reshape(side, finer, side, finer)
    pictures = smooth_normals(turned, drawn), appearance.draw(turned, drawn, square)
    normals, colors = (np.asarray(cv2.resize(a, (side, side), interpolation=cv2.INTER_AREA)) for a in pictures)
    return BodyMaps(blocks.min((1, 3)), normals, colors)


def layers_of(
    points: Points,
    turn: Float[np.ndarray, "3 3"],
    square: Square,
    body_depth_m: Float32[np.ndarray, "S S"],
    pivot: Float[np.ndarray, "3"],
    avatar: Float32[np.ndarray, "S S 5"],
    *,
    bare: bool = False,
) -> Layers:
    """Splat the person's points into a new view. body_depth_m: of the turned body, which hides points.

    bare: the body is the naked one.
    """
    xyz, values = _denser(points, (points.xyz_m - pivot) @ turn.T + pivot, square)
    at = square.project(xyz)
    side = square.side
    columns, rows = (np.clip(np.floor(at[:, k]), 0, side - 1).astype(int) for k in (0, 1))
    visible = at[:, 2] < body_depth_m[rows, columns] + _HIDDEN_M
    at = at[visible]
    depth = ((at[:, 2:] - pivot[2]) / DEPTH_UNIT_M).astype(np.float32)
    features = np.concatenate([values[visible], depth], 1)
    picture, alpha = splat(
        torch.from_numpy(at.astype(np.float32)),
        torch.from_numpy(features.astype(np.float32)),
        (side, side),
        radius_px=_RADIUS_PX,
        slab_m=_SLAB_M,
        power=_POWER,
    )
    drawn = torch.cat([picture[..., :3], alpha[..., None], picture[..., 3:]], 2).numpy()
    return Layers(drawn, avatar, bare)


def _denser(
    points: Points, xyz: Float[np.ndarray, "N 3"], square: Square
) -> tuple[Float[np.ndarray, "M 3"], Float32[np.ndarray, "M 4"]]:
    """Add points between neighbours on one surface that the turn moves apart; returns places, colours and facing."""
    values = np.concatenate([points.color, points.facing[:, None]], 1)
    a, b = points.pairs.T
    at = square.project(xyz)[:, :2]
    gap = np.linalg.norm(at[a] - at[b], axis=1)
    count = np.clip(np.ceil(gap / _GAP_PX) - 1, 0, _MOST_BETWEEN).astype(np.int64)
    rows = np.repeat(np.arange(len(count)), count)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count) + 1
    part = (number / (count[rows] + 1))[:, None]
    between = [(1 - part) * x[a[rows]] + part * x[b[rows]] for x in (xyz, values)]
    return np.concatenate([xyz, between[0]]), np.concatenate([values, between[1].astype(np.float32)])


def view_input(
    layers: Layers,
    body_depth_m: Float32[np.ndarray, "S S"],
    normals: Float32[np.ndarray, "S S 3"],
    pivot_depth_m: float,
) -> Float32[np.ndarray, "16 S S"]:
    """Make the refinement network's input."""
    there = np.isfinite(body_depth_m)
    depth = np.where(there, np.clip((np.where(there, body_depth_m, 0) - pivot_depth_m) / DEPTH_UNIT_M, -2, 2), 0)
    planes = np.concatenate([layers.splat, layers.avatar, normals, depth[..., None], layers.mask], 2)
    return np.ascontiguousarray(planes.transpose(2, 0, 1), np.float32)


def completed(layers: Layers, output: Float[np.ndarray, "5 S S"] | None) -> Float32[np.ndarray, "S S 4"]:
    """Make the picture of layers and the network's output: premultiplied RGBA.

    Without an output splat and avatar are mixed within the mask as they are.
    """
    planes = _planes(np.zeros((OUTPUTS, *layers.splat.shape[:2])) if output is None else output)
    base, extent = _base(layers, planes[..., 3:4])
    mask = layers.mask if output is None else _mask(planes[..., 4:5] + _logit(layers.mask))
    return np.concatenate([_spread(base + planes[..., :3], extent, mask) * mask, mask], 2).astype(np.float32)


def detailed(fine: Layers, coarse: Layers, output: Float[np.ndarray, "5 S S"]) -> Float32[np.ndarray, "D D 4"]:
    """Enlarge the picture that the network made of coarse layers, and give it the details of fine ones.

    Colours are the coarse ones, and what the fine layers have beyond the coarse ones where both show something.
    """
    planes, side = _planes(output), len(fine.splat)
    base, extent = _base(coarse, planes[..., 3:4])
    logit = planes[..., 4:5] + _logit(coarse.mask)
    mask = _mask(logit)
    color = _spread(base + planes[..., :3], extent, mask)
    parts = [color * mask, mask, base * extent, extent, planes[..., 3:4], logit]
    larger = cv2.resize(np.concatenate(parts, 2), (side, side), interpolation=cv2.INTER_LINEAR)
    color = larger[..., :3] / np.maximum(larger[..., 3:4], 1e-3)
    base, extent = larger[..., 4:7] / np.maximum(larger[..., 7:8], 1e-3), larger[..., 7:8]
    own, own_extent = _base(fine, larger[..., 8:9])
    detail = np.clip(2 * own_extent - 1, 0, 1) * np.clip(2 * extent - 1, 0, 1)
    picture, mask = np.clip(color + detail * (own - base), 0, 1), _mask(side / len(planes) * larger[..., 9:10])
    return np.concatenate([picture * mask, mask], 2).astype(np.float32)


def _planes(output: Float[np.ndarray, "5 S S"]) -> Float32[np.ndarray, "S S 5"]:
    return np.ascontiguousarray(output.transpose(1, 2, 0), np.float32)


def _base(
    layers: Layers, logit: Float32[np.ndarray, "S S 1"]
) -> tuple[Float32[np.ndarray, "S S 3"], Float32[np.ndarray, "S S 1"]]:
    """Lay the splat, as far as it is trusted, over the avatar: colours, and how much of a pixel they cover."""
    color, alpha = layers.splat[..., :3], layers.splat[..., 3:4]
    avatar, cover = layers.avatar[..., :3], layers.avatar[..., 3:4]
    trust = 1 / (1 + np.exp(-logit))
    left = 1 - trust * alpha
    extent = trust * alpha + left * cover
    return (trust * color + left * avatar) / np.maximum(extent, 1e-3), extent


def _logit(mask: Float32[np.ndarray, "S S 1"]) -> Float32[np.ndarray, "S S 1"]:
    return np.log((mask + MASK_MARGIN) / (1 - mask + MASK_MARGIN))


def _spread(
    color: Float32[np.ndarray, "S S 3"], extent: Float32[np.ndarray, "S S 1"], mask: Float32[np.ndarray, "S S 1"]
) -> Float32[np.ndarray, "S S 3"]:
    """Give places that neither splat nor body covers the colours around: from nothing a network makes dark edges."""
    color, weight = np.clip(color, 0, 1), extent * mask
    sums, total = (cv2.GaussianBlur(a, (0, 0), _SPREAD_PX) for a in (color * weight, np.repeat(weight, 3, 2)))
    own = np.where(total > _NOTHING, np.clip(2 * extent - 0.5, 0, 1), 1.0)
    return (own * color + (1 - own) * sums / np.maximum(total, 1e-3)).astype(np.float32)


def _mask(logit: Float32[np.ndarray, "S S 1"]) -> Float32[np.ndarray, "S S 1"]:
    return np.clip((1 / (1 + np.exp(-logit)) - _NOTHING) / (1 - 2 * _NOTHING), 0, 1)
