"""Losses of the network of new views."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bodyfit.novel_views.assemble import MASK_MARGIN

__all__ = ["before_colors", "composite", "ssim", "view_loss"]

_SCALES = 3
_GRADIENTS, _MASK, _STRUCTURE = 0.5, 1.0, 0.3
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def composite(
    inputs: Float[Tensor, "B 16 H W"], outputs: Float[Tensor, "B 5 H W"]
) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B 1 H W"]]:
    """Do as `assemble.completed`: colour and mask. Colours are not clipped, so that gradients stay."""
    outputs = outputs.float()
    color, alpha, avatar, cover = inputs[:, :3], inputs[:, 3:4], inputs[:, 6:9], inputs[:, 9:10]
    trust, mask = outputs[:, 3:4].sigmoid(), mask_logit(inputs, outputs).sigmoid()
    left = 1 - trust * alpha
    base = (trust * color + left * avatar) / (trust * alpha + left * cover).clamp(min=1e-3)
    return base + outputs[:, :3], mask


def mask_logit(inputs: Float[Tensor, "B 16 H W"], outputs: Float[Tensor, "B 5 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Do as `assemble.completed`: what the network adds to the logit of the mask as it is without it."""
    mask = inputs[:, 15:16]
    return outputs[:, 4:5].float() + ((mask + MASK_MARGIN) / (1 - mask + MASK_MARGIN)).log()


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
    """Compare with the truth before backgrounds of one colour.

    Differences and slopes at three scales, structural similarity, and cross-entropy of masks.
    """
    background = torch.rand(len(inputs), 3, 1, 1)
    background[: len(inputs) // 2] = 1.0  # white, as scores are taken
    found, goal = before_colors(inputs, outputs, truth, background)
    loss = _MASK * nn.functional.binary_cross_entropy_with_logits(mask_logit(inputs, outputs), truth[:, 3:])
    loss = loss + _STRUCTURE * (1 - ssim(found, goal))
    for scale in range(_SCALES):
        if scale:
            found, goal = nn.functional.avg_pool2d(found, 2), nn.functional.avg_pool2d(goal, 2)
        loss = loss + (found - goal).abs().mean() + (found - goal).square().mean() ** 0.5 / (1 + scale)
        for axis in (2, 3):
            loss = loss + _GRADIENTS * (found.diff(dim=axis) - goal.diff(dim=axis)).abs().mean()
    return loss


def ssim(found: Float[Tensor, "B 3 H W"], goal: Float[Tensor, "B 3 H W"]) -> Float[Tensor, ""]:
    """Compute the mean structural similarity, as `bodyfit.images.similarity.ssim` does."""
    found, goal = found.float(), goal.float()
    at = torch.arange(_WINDOW, dtype=torch.float32, device=found.device) - _WINDOW // 2
    window = (-0.5 * (at / _SIGMA).square()).exp()
    window = (window / window.sum()).expand(3, 1, 1, -1)

    def local(values: Tensor) -> Tensor:
        return nn.functional.conv2d(nn.functional.conv2d(values, window, groups=3), window.mT, groups=3)

    with torch.autocast(found.device.type, enabled=False):  # variances are differences of what is nearly the same
        mean_a, mean_b = local(found), local(goal)
        var_a, var_b = local(found.square()) - mean_a.square(), local(goal.square()) - mean_b.square()
        both = local(found * goal) - mean_a * mean_b
    alike = (2 * mean_a * mean_b + _C1) * (2 * both + _C2)
    return (alike / ((mean_a.square() + mean_b.square() + _C1) * (var_a + var_b + _C2))).mean()
