"""Splat points softly: discs whose opacity falls off from the middle, composited or averaged, with gradients.

Wiles et al., SynSin, 2020: a point covers a pixel's centre at distance d by 1 - d^2 / r^2, and the nearest points of a
pixel are composited front to back. Neighbours on one surface then cover each other by the accident of which is nearer,
which blurs; averaged by their opacities to a power they stay sharp. Depth orders the points and has no gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from bodyfit.errors import OptionError, check_shape

__all__ = ["splat", "splat_by_tensors"]

_LAYERS = 6
"""Points of a pixel that are composited."""
_RADIUS_PX = 1.6
"""Of a disc: neighbours of a picture's pixels overlap, so that turning it opens no holes at once."""


def splat(
    points: Float[Tensor, "N 3"],
    features: Float[Tensor, "N C"],
    size_px: tuple[int, int],
    *,
    radius_px: float = _RADIUS_PX,
    slab_m: float = float("inf"),
    layers: int = _LAYERS,
    power: float | int | None = None,
) -> tuple[Float[Tensor, "H W C"], Float[Tensor, "H W"]]:
    """Splat points with features into a picture; returns it, premultiplied, and its opacity.

    points: x px, y px (pixel centres at +0.5) and depth in metres; those at or behind the camera are left out.
    size_px: (width, height). radius_px: of the discs. slab_m: points of a pixel so far behind its nearest one are left
    out. layers: nearest points of a pixel that count. power: average them by their opacities to this power, times what
    they cover together; without it they are composited. Gradients flow to x, y and features. On the CPU compiled loops
    do it, elsewhere `splat_by_tensors`. Raises `OptionError` and `ShapeError`.
    """
    _check(points, features, size_px, radius_px, slab_m, layers, power)
    if points.device.type != "cpu":
        how = {"radius_px": radius_px, "slab_m": slab_m, "layers": layers, "power": power}
        return splat_by_tensors(points, features, size_px, **how)
    return _Splat.apply(points, features, size_px, radius_px, slab_m, layers, power)  # pyright: ignore[reportReturnType]


def splat_by_tensors(
    points: Float[Tensor, "N 3"],
    features: Float[Tensor, "N C"],
    size_px: tuple[int, int],
    *,
    radius_px: float = _RADIUS_PX,
    slab_m: float = float("inf"),
    layers: int = _LAYERS,
    power: float | int | None = None,
) -> tuple[Float[Tensor, "H W C"], Float[Tensor, "H W"]]:
    """Do as `splat`, by torch's operations, on any device; about as many times slower as a disc has pixels."""
    _check(points, features, size_px, radius_px, slab_m, layers, power)
    (width, height), device = size_px, points.device
    index = _nearest_by_tensors(points.detach(), size_px, radius_px, layers)  # (H W, K), -1 for none
    there = index >= 0
    points, features = (torch.cat([t, t.new_zeros(1, t.shape[1])]) for t in (points, features))  # the last is none
    at = points[index]
    depth = torch.where(there, at[..., 2], torch.inf)
    there = there & (depth <= depth[:, :1] + slab_m)
    columns = torch.arange(width, device=device).repeat(height) + 0.5
    rows = torch.arange(height, device=device).repeat_interleave(width) + 0.5
    distance2 = (columns[:, None] - at[..., 0]).square() + (rows[:, None] - at[..., 1]).square()
    opacity = torch.where(there, 1 - distance2 / radius_px**2, 0.0)
    before = torch.cat([torch.ones_like(opacity[:, :1]), (1 - opacity[:, :-1]).cumprod(1)], 1)
    weight = before * opacity
    alpha = weight.sum(1)
    if power is not None:
        share = torch.where(there, opacity, 0.0) ** power
        weight = share / share.sum(1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny) * alpha[:, None]
    picture = torch.einsum("pk,pkc->pc", weight, features[index])
    return picture.reshape(height, width, -1), alpha.reshape(height, width)


def _nearest_by_tensors(
    points: Float[Tensor, "N 3"], size_px: tuple[int, int], radius_px: float, layers: int
) -> Int[Tensor, "P K"]:
    """Find the nearest points of each pixel: all pixels of all discs, sorted by pixel and depth."""
    (width, height), reach, device = size_px, int(radius_px + 1), points.device
    steps = torch.arange(-reach, reach + 1, device=device)
    offset = torch.cartesian_prod(steps, steps)  # (S, 2)
    xy, z = points[:, :2], points[:, 2]
    good = xy.isfinite().all(1) & (xy.abs() < 1e9).all(1) & z.isfinite() & (z > 0)
    pixel = torch.where(good[:, None], xy, 0.0).floor().long()[:, None] + offset  # (N, S, 2)
    near = ((pixel + 0.5 - xy[:, None]).square().sum(2) < radius_px**2) & good[:, None]
    near &= (pixel >= 0).all(2) & (pixel[..., 0] < width) & (pixel[..., 1] < height)
    owner, which = near.nonzero(as_tuple=True)
    place = (pixel[..., 1] * width + pixel[..., 0])[owner, which]
    order = z[owner].argsort(stable=True)
    order = order[place[order].argsort(stable=True)]
    owner, place = owner[order], place[order]
    counts = torch.bincount(place, minlength=width * height)
    rank = torch.arange(len(place), device=device) - (counts.cumsum(0) - counts)[place]
    first = rank < layers
    index = torch.full((width * height, layers), -1, dtype=torch.long, device=device)
    index[place[first], rank[first]] = owner[first]
    return index


def _check(
    points: Tensor,
    features: Tensor,
    size_px: tuple[int, int],
    radius: float,
    slab: float,
    layers: int,
    power: float | int | None,
) -> None:
    check_shape("points", points, (None, 3), hint="x px, y px, depth")
    check_shape("features", features, (len(points), None), hint="one row a point")
    if min(size_px) < 1:
        raise OptionError(f"size_px must be (width, height), both positive, got {size_px}")
    if not 0.5 <= radius <= 64:
        raise OptionError(f"radius_px must lie in 0.5 to 64, got {radius:g}")
    if not slab >= 0:
        raise OptionError(f"slab_m must not be negative, got {slab:g}")
    if layers < 1:
        raise OptionError(f"layers must be at least 1, got {layers}")
    if power is not None and not 1 <= power <= 16:
        raise OptionError(f"power must lie in 1 to 16, got {power:g}")


class _Splat(torch.autograd.Function):
    """Splats by compiled loops."""

    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        features: Tensor,
        size_px: tuple[int, int],
        radius: float,
        slab: float,
        layers: int,
        power: float | int | None,
    ) -> tuple[Tensor, Tensor]:
        """Draw."""
        from bodyfit.raster.splat_loops import average_points, composite_points, nearest_points

        width, height = size_px
        at, values = (np.ascontiguousarray(t.detach().numpy()) for t in (points, features))
        index, depth = np.empty((height, width, layers), np.int32), np.empty((height, width, layers), at.dtype)
        nearest_points(at, float(radius), index, depth)
        picture, alpha = np.zeros((height, width, values.shape[1]), values.dtype), np.zeros((height, width), at.dtype)
        if power is None:
            composite_points(at, values, float(radius), float(slab), index, picture, alpha)
        else:
            average_points(at, values, float(radius), float(slab), float(power), index, picture, alpha)
        ctx.drawing = at, values, float(radius), float(slab), power, index
        return torch.from_numpy(picture), torch.from_numpy(alpha)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_picture: Tensor, g_alpha: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Pull gradients back to points and features."""
        from bodyfit.raster.splat_loops import add_average_gradients, add_splat_gradients

        at, values, radius, slab, power, index = ctx.drawing
        g_points, g_features = np.zeros(at.shape), np.zeros(values.shape)
        gradients = [np.ascontiguousarray(g.numpy()) for g in (g_picture, g_alpha)]
        if power is None:
            add_splat_gradients(at, values, radius, slab, index, *gradients, g_points, g_features)
        else:
            add_average_gradients(at, values, radius, slab, float(power), index, *gradients, g_points, g_features)
        back = torch.from_numpy(g_points.astype(at.dtype)), torch.from_numpy(g_features.astype(values.dtype))
        return *back, None, None, None, None, None
