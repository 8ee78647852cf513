"""A U-Net of residual blocks that says which pixels are a person's and which are anybody's."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scripts.train.masks.inputs import CHANNELS

__all__ = ["MaskNetwork"]

_WIDTHS = (24, 40, 80, 144)
"""Channels at half, a quarter, an eighth and a sixteenth of the input's resolution."""


class _Block(nn.Module):
    """Two convolutions with a way round them."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        plain = inputs == outputs and stride == 1
        self.around = nn.Identity() if plain else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Compute the block."""
        hidden = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(hidden)) + self.around(x))


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class MaskNetwork(nn.Module):
    """Input as `scripts.train.masks.inputs` makes it; logits of the person and of anybody at its resolution."""

    def __init__(self, widths: tuple[int, int, int, int] = _WIDTHS) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = widths
        self.fold, self.unfold = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        self.stem = _convolution(4 * CHANNELS, half)
        self.down = nn.ModuleList(
            [
                _Block(half, quarter, 2),
                nn.Sequential(_Block(quarter, eighth, 2), _Block(eighth, eighth)),
                nn.Sequential(_Block(eighth, sixteenth, 2), _Block(sixteenth, sixteenth)),
            ]
        )
        self.up = nn.ModuleList(
            [
                _Block(sixteenth + eighth, eighth),
                _Block(eighth + quarter, quarter),
                _convolution(quarter + half, half),
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
