"""A patch discriminator, which tells drawn pictures from true ones, and its losses."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PatchDiscriminator", "discriminator_loss", "generator_loss"]

_PENALTY = 0.1


class PatchDiscriminator(nn.Module):
    """Strided convolutions; each output judges a patch of 22 pixels."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 64)) -> None:
        super().__init__()
        sizes = (3, *widths)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in zip(sizes, widths, strict=False)
        )
        self.last = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, pictures: Float[Tensor, "P 3 H W"]) -> Float[Tensor, "P 1 h w"]:
        """Logits, positive for true pictures."""
        x = 2 * pictures - 1
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
        return self.last(x)


def generator_loss(discriminator: PatchDiscriminator, drawn: Float[Tensor, "P 3 H W"]) -> Float[Tensor, ""]:
    """Non-saturating loss of what draws."""
    return functional.softplus(-discriminator(drawn)).mean()


def discriminator_loss(
    discriminator: PatchDiscriminator, truth: Float[Tensor, "P 3 H W"], drawn: Float[Tensor, "P 3 H W"]
) -> Float[Tensor, ""]:
    """Logistic loss with a penalty on gradients at true pictures (R1; Mescheder et al. 2018)."""
    real = truth.detach().requires_grad_()
    logits = discriminator(real)
    (gradient,) = torch.autograd.grad(logits.mean((1, 2, 3)).sum(), real, create_graph=True)
    penalty = _PENALTY * gradient.square().sum((1, 2, 3)).mean()
    return functional.softplus(-logits).mean() + functional.softplus(discriminator(drawn)).mean() + penalty
