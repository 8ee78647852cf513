"""Begin a training of atlas fields with the colours that pictures show at the anchors.

What rays first hit of each person is averaged at the anchors; principal components of these colours over the people
make the first codes and three channels of the first features. It takes seconds and saves the first minutes of training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.fields.casting.samples import DISTANCE_UNIT_M
from bodyfit.fields.compositional.atlas import SurfaceAtlas
from bodyfit.fields.compositional.body_field import AtlasField
from scripts.train.field_data import FieldPicture

__all__ = ["begin_with_colors", "colors_at_anchors"]

_HIT_M = 0.008
_LEAST = 0.5
"""Weight of pictures from which an anchor has a colour of its own."""
_SPREADS = 12


def begin_with_colors(
    field: AtlasField, appearances: Tensor, atlas: SurfaceAtlas, pictures: Sequence[FieldPicture]
) -> None:
    """Set the first three channels of means and basis, and the people's codes."""
    colors = 2 * colors_at_anchors(pictures, len(appearances), atlas) - 1
    mean = colors.mean(0)
    coarse = np.zeros((len(colors), atlas.coarse, 3))
    total = np.zeros(atlas.coarse)
    for k in range(atlas.coarse_of.shape[1]):
        share = atlas.coarse_share[:, k]
        np.add.at(total, atlas.coarse_of[:, k], share)
        np.add.at(coarse, (slice(None), atlas.coarse_of[:, k]), share[None, :, None] * (colors - mean))
    coarse /= total[:, None]
    left, sizes, right = np.linalg.svd(coarse.reshape(len(coarse), -1), full_matrices=False)
    count = min(field.code_size, field.straight.out_features, len(sizes))
    root = np.sqrt(np.maximum(sizes[:count] / sizes[0], 1e-3))  # half of a component's size goes to its codes
    codes = left[:, :count] * np.sqrt(len(coarse)) * root
    parts = right[:count] * (sizes[:count] / np.sqrt(len(coarse)) / root)[:, None]
    with torch.no_grad():
        channels = field.basis.view(len(field.basis), atlas.coarse, -1)
        channels *= 0.3
        channels[:, :, :3] = 0
        channels[:count, :, :3] = torch.from_numpy(parts.reshape(count, -1, 3)).to(channels)
        field.mean[:, :3] = torch.from_numpy(mean).to(field.mean)
        field.straight.weight.copy_(torch.eye(*field.straight.weight.shape))
        field.straight.bias.zero_()
        for x in (field.bent[-1].weight, field.bent[-1].bias):
            x.zero_()
        appearances.zero_()
        appearances[:, :count] = torch.from_numpy(codes).to(appearances)


def colors_at_anchors(pictures: Sequence[FieldPicture], people: int, atlas: SurfaceAtlas) -> Float[np.ndarray, "K A 3"]:
    """Mean colour, 0 to 1, of each person at each anchor; where nobody looked it is spread from about it."""
    count = len(atlas.anchors.points)
    sums = np.zeros((people * count, 4))
    for one in pictures:
        side = int(np.sqrt(len(one.bodies[0].ptr) - 1))
        up = len(one.picture) // side
        rgb = one.picture.reshape(side, up, side, up, 3).mean((1, 3)).reshape(-1, 3) / 255
        whole = one.alpha.reshape(side, up, side, up).min((1, 3)).ravel() >= 250
        ray, body, sample = _first_hits(one)
        for k in np.unique(body):
            mine = (body == k) & whole[ray]
            packed = one.bodies[k]
            rows = one.people[k] * count + packed.anchor[sample[mine]].astype(np.int64)
            weight = packed.weight[sample[mine]] / 255
            values = np.c_[rgb[ray[mine]], np.ones(mine.sum())]
            for j in range(4):
                np.add.at(sums, rows[:, j], weight[:, j : j + 1] * values)
    return _filled(sums.reshape(people, count, 4), atlas)


def _first_hits(one: FieldPicture) -> tuple[Int[np.ndarray, "H"], Int[np.ndarray, "H"], Int[np.ndarray, "H"]]:
    """Of each ray that hits somebody: the ray, whom, and the sample."""
    hits = []
    for k, packed in enumerate(one.bodies):
        near = np.flatnonzero(packed.distance < _HIT_M / DISTANCE_UNIT_M)
        ray = np.searchsorted(packed.ptr, near, "right") - 1
        _, first = np.unique(ray, return_index=True)
        hits.append(np.c_[ray[first], packed.level[near[first]], np.full(len(first), k), near[first]])
    joined = np.concatenate(hits).astype(np.int64)
    joined = joined[np.lexsort((joined[:, 1], joined[:, 0]))]
    _, first = np.unique(joined[:, 0], return_index=True)
    return joined[first, 0], joined[first, 2], joined[first, 3]


def _filled(sums: Float[np.ndarray, "K A 4"], atlas: SurfaceAtlas) -> Float[np.ndarray, "K A 3"]:
    """Divide by the weights; anchors without enough take what their neighbours have, or everyone's mean."""
    near = atlas.anchors.near[atlas.anchors.vertices][:, :8]
    everyone = sums.sum(0)
    mean = everyone[:, :3] / np.maximum(everyone[:, 3:], 1e-6)
    mean[everyone[:, 3] < 1e-3] = mean[everyone[:, 3] >= 1e-3].mean(0)
    out = np.empty((*sums.shape[:2], 3))
    for k, own in enumerate(sums):
        spread = own.copy()
        for _ in range(_SPREADS):
            poor = spread[:, 3] < _LEAST
            if not poor.any():
                break
            spread[poor] = spread[poor] + 0.5 * spread[near[poor]].mean(1)
        share = np.minimum(spread[:, 3:] / _LEAST, 1)
        out[k] = share * spread[:, :3] / np.maximum(spread[:, 3:], 1e-6) + (1 - share) * mean
    return out
