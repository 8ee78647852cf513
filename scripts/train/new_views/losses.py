"""Losses of the networks of new views."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["before_colors", "composite", "depth_loss", "view_loss"]

_FAR = 4.0
"""Offsets beyond this (0.4 m) are limbs behind others, clipped."""
_SCALES = 3
_GRADIENTS, _MASK = 0.5, 0.3


def depth_loss(found: Float[Tensor, "B 1 H W"], truth: Float[Tensor, "B 1 H W"]) -> Float[Tensor, ""]:
    """Compute the mean error of offsets where they are known, and that of their slopes."""
    known = truth.isfinite() & (truth.abs() < 2 * _FAR)
    truth = torch.where(known, truth.clamp(-_FAR, _FAR), 0.0)
    found = found.float()
    loss = (torch.where(known, (found - truth).abs(), 0.0)).sum() / known.sum().clamp(min=1)
    for axis in (2, 3):
        both = known.narrow(axis, 1, known.shape[axis] - 1) & known.narrow(axis, 0, known.shape[axis] - 1)
        slope = (found.diff(dim=axis) - truth.diff(dim=axis)).abs()
        loss = loss + torch.where(both, slope, 0.0).sum() / both.sum().clamp(min=1)
    return loss


def composite(
    inputs: Float[Tensor, "B 16 H W"], outputs: Float[Tensor, "B 5 H W"]
) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B 1 H W"]]:
    """Do as `assemble.completed`: colour and mask. Colours are not clipped, so that gradients stay."""
    outputs = outputs.float()
    color, alpha, avatar, cover = inputs[:, :3], inputs[:, 3:4], inputs[:, 6:9], inputs[:, 9:10]
    trust, mask = outputs[:, 3:4].sigmoid(), outputs[:, 4:5].sigmoid()
    left = 1 - trust * alpha
    base = (trust * color + left * avatar) / (trust * alpha + left * cover).clamp(min=1e-3)
    return base + outputs[:, :3], mask


def before_colors(
    inputs: Float[Tensor, "B 16 H W"],
    outputs: Float[Tensor, "B 5 H W"],
    truth: Float[Tensor, "B 4 H W"],
    background: Float[Tensor, "B 3 1 1"],
) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B 3 H W"]]:
    """Put the completed view and the true one before a colour."""
    picture, mask = composite(inputs, outputs)
    return picture * mask + (1 - mask) * background, truth[:, :3] + (1 - truth[:, 3:]) * background


def view_loss(
    inputs: Float[Tensor, "B 16 H W"], outputs: Float[Tensor, "B 5 H W"], truth: Float[Tensor, "B 4 H W"]
) -> Float[Tensor, ""]:
    """Compare with the truth before backgrounds of one colour: differences and slopes at three scales, and masks."""
    background = torch.rand(len(inputs), 3, 1, 1)
    background[: len(inputs) // 2] = 1.0  # white, as scores are taken
    found, goal = before_colors(inputs, outputs, truth, background)
    logit = outputs[:, 4:5].float()
    loss = _MASK * nn.functional.binary_cross_entropy_with_logits(logit, truth[:, 3:])
    for scale in range(_SCALES):
        if scale:
            found, goal = nn.functional.avg_pool2d(found, 2), nn.functional.avg_pool2d(goal, 2)
        loss = loss + (found - goal).abs().mean() + (found - goal).square().mean() ** 0.5 / (1 + scale)
        for axis in (2, 3):
            loss = loss + _GRADIENTS * (found.diff(dim=axis) - goal.diff(dim=axis)).abs().mean()
    return loss
