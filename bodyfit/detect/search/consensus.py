"""One person seen several times: which looks agree, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from bodyfit.detect.networks.landmarks import Landmarks
from bodyfit.keypoints import SoftMask
from bodyfit.skeleton import layout_names, mirrored_rows

__all__ = ["AGREE", "consensus", "mirrored"]

_NAMES = layout_names("mediapipe33")
AGREE = 0.04
"""Looks agree about a point within this part of the region's side: half a foot's length, less than between feet."""
_SWAP = mirrored_rows(_NAMES)


def mirrored(look: Landmarks, width_px: float) -> Landmarks:
    """The landmarks that a look at the mirrored picture means in the picture itself."""
    xy = look.xy_px[_SWAP] * (-1, 1) + (width_px, 0)
    world = look.world_m[_SWAP] * (-1, 1, 1)
    scale = None if look.world_scale_m is None else look.world_scale_m[_SWAP]
    roi, next_roi = (replace(roi, x=width_px - roi.x, angle=-roi.angle) for roi in (look.roi, look.next_roi))
    mask = look.mask
    if isinstance(mask, SoftMask):
        x, y = mask.corner_px
        mask = SoftMask(mask.alpha[:, ::-1], (round(width_px) - x - mask.alpha.shape[1], y))
    return Landmarks(xy, look.visibility[_SWAP], look.presence[_SWAP], world, roi, next_roi, mask, scale)


def consensus(looks: Sequence[Landmarks]) -> tuple[Landmarks, Float[np.ndarray, "33"]]:
    """The look that agrees best with the others, each of its points averaged with the looks that agree about it, and
    its mask with those of all.

    Also returns what part of the looks agrees about each point. The landmark network wavers between left and right
    in a side view; a plain mean of such looks would put both feet between the two.
    """
    xy = np.stack([look.xy_px for look in looks])
    scale = AGREE * np.mean([look.roi.size for look in looks])
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=-1) / scale  # (looks, looks, points)
    best = int(np.minimum(apart, 3.0).sum((1, 2)).argmin())
    agree = (apart[best] <= 1.0).astype(float)
    weights = agree / agree.sum(0)
    chosen = looks[best]
    mean = Landmarks(
        np.einsum("lk,lkc->kc", weights, xy),
        (weights * np.stack([look.visibility for look in looks])).sum(0),
        (weights * np.stack([look.presence for look in looks])).sum(0),
        np.einsum("lk,lkc->kc", weights, np.stack([look.world_m for look in looks])),
        chosen.roi,
        chosen.next_roi,
        _mean_mask([look.mask for look in looks if look.mask is not None]),
        _mean_scale(weights, [look.world_scale_m for look in looks]),
    )
    return mean, agree.mean(0)


def _mean_scale(
    weights: Float[np.ndarray, "L 33"], scales: Sequence[Float[np.ndarray, "33 2"] | None]
) -> Float[np.ndarray, "33 2"] | None:
    """The mean of the looks' scales, of those that have some: looks at one picture err alike."""
    some = {row: scale for row, scale in enumerate(scales) if scale is not None}
    if not some:
        return None
    share = weights[list(some)]
    total = share.sum(0)[:, None]
    mean = np.einsum("lk,lkc->kc", share, np.stack(list(some.values()))) / np.maximum(total, 1e-9)
    return np.where(total > 0, mean, np.nan)


def _mean_mask(masks: Sequence[SoftMask]) -> SoftMask | None:
    """The mean of several looks' masks, each nobody outside of its box, in the box about all; None of none.

    It is nearer to the truth than the mask of the best look (`scripts/bench/scenes/masks.py`).
    """
    if len(masks) < 2:
        return masks[0] if masks else None
    corners = np.array([mask.corner_px for mask in masks])
    ends = corners + [mask.alpha.shape[::-1] for mask in masks]
    first, last = corners.min(0), ends.max(0)
    total = np.zeros((last - first)[::-1], np.uint16)
    for mask, (x, y) in zip(masks, corners - first, strict=True):
        height, width = mask.alpha.shape
        total[y : y + height, x : x + width] += mask.alpha
    mean = (total + len(masks) // 2) // len(masks)
    return SoftMask(mean.astype(np.uint8), (int(first[0]), int(first[1])))
