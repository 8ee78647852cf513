"""The neural renderer: from a small image of features to a picture of twice or four times its size."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["NeuralRenderer"]


class NeuralRenderer(nn.Module):
    """Convolutions with nearest upsampling between them and RGB skip connections, as GIRAFFE's renderer.

    Borders are replicated, not filled with zeros, which would darken the picture's frame.
    """

    def __init__(self, feature_size: int = 32, widths: tuple[int, ...] = (32, 16)) -> None:
        super().__init__()
        sizes = (feature_size, *widths)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, padding_mode="replicate") for a, b in zip(sizes, widths, strict=False)
        )
        self.colors = nn.ModuleList(nn.Conv2d(size, 3, 1) for size in sizes)

    def forward(self, features: Float[Tensor, "B F h w"]) -> Float[Tensor, "B 3 H W"]:
        """Draw pictures, sRGB in 0 to 1."""
        x = features
        rgb = self.colors[0](x)
        for k, layer in enumerate(self.layers):
            if k > 0:
                x = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
                rgb = nn.functional.interpolate(rgb, scale_factor=2, mode="bilinear", align_corners=False)
            x = nn.functional.leaky_relu(layer(x), 0.2)
            rgb = rgb + self.colors[k + 1](x)
        return torch.sigmoid(rgb)
