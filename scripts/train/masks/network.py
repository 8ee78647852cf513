"""A U-Net of residual blocks that says which pixels are a person's and which are anybody's."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scripts.train.blocks import Block, convolution
from scripts.train.masks.inputs import CHANNELS

__all__ = ["MaskNetwork"]

_WIDTHS = (24, 40, 80, 144)
"""Channels at half, a quarter, an eighth and a sixteenth of the input's resolution."""


class MaskNetwork(nn.Module):
    """Input as `scripts.train.masks.inputs` makes it; logits of the person and of anybody at its resolution."""

    def __init__(self, widths: tuple[int, int, int, int] = _WIDTHS) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = widths
        self.fold, self.unfold = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        self.stem = convolution(4 * CHANNELS, half)
        self.down = nn.ModuleList(
            [
                Block(half, quarter, 2),
                nn.Sequential(Block(quarter, eighth, 2), Block(eighth, eighth)),
                nn.Sequential(Block(eighth, sixteenth, 2), Block(sixteenth, sixteenth)),
            ]
        )
        self.up = nn.ModuleList(
            [
                Block(sixteenth + eighth, eighth),
                Block(eighth + quarter, quarter),
                convolution(quarter + half, half),
            ]
        )
        self.head = nn.Conv2d(half, 4 * 2, 3, 1, 1)

    def forward(self, x: Float[Tensor, "B 6 S S"]) -> Float[Tensor, "B 2 S S"]:
        """Compute the logits."""
        maps = [self.stem(self.fold(2 * x - 1))]
        for step in self.down:
            maps.append(step(maps[-1]))
        x = maps.pop()
        for step in self.up:
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = step(torch.cat([x, maps.pop()], 1))
        return self.unfold(self.head(x))
