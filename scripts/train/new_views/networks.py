"""The network that refines a splatted view, and what judges it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bodyfit.novel_views.assemble import OUTPUTS, VIEW_CHANNELS
from scripts.train.blocks import Block, convolution

__all__ = ["PatchCritic", "UNet", "refinement_network"]


class UNet(nn.Module):
    """A U-Net that works at half of the pictures' resolution, whose pixels it folds into channels and unfolds again.

    Two convolutions at the whole resolution follow, which see the inputs again: outlines are found to parts of a pixel.
    The last begins near zero, so that training starts from what there is without the network.
    """

    def __init__(self, inputs: int, outputs: int, widths: tuple[int, int, int, int], fine: int) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = widths
        self.fold, self.unfold = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        self.stem = convolution(4 * inputs, half)
        self.down = nn.ModuleList(
            [
                Block(half, quarter, 2),
                Block(quarter, eighth, 2),
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
        self.finer = nn.Conv2d(half, 4 * fine, 1)
        self.whole = convolution(fine + inputs, fine)
        self.head = nn.Conv2d(fine, outputs, 3, 1, 1)
        nn.init.normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Compute the outputs; sides are multiples of 16."""
        inputs = x
        maps = [self.stem(self.fold(x))]
        for step in self.down:
            maps.append(step(maps[-1]))
        x = maps.pop()
        for step in self.up:
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = step(torch.cat([x, maps.pop()], 1))
        return self.head(self.whole(torch.cat([self.unfold(self.finer(x)), inputs], 1)))


def refinement_network() -> UNet:
    """Make the network that completes a view."""
    return UNet(VIEW_CHANNELS, OUTPUTS, (32, 48, 72, 112), 20)


class PatchCritic(nn.Module):
    """Two critics of patches, of a picture and of its half: scores of each patch, and their features."""

    def __init__(self, inputs: int = 4, width: int = 24) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Conv2d(inputs, width, 4, 2, 1),
                    nn.Conv2d(width, 2 * width, 4, 2, 1),
                    nn.Conv2d(2 * width, 4 * width, 4, 1, 1),
                    nn.Conv2d(4 * width, 1, 4, 1, 1),
                ]
            )
            for _ in range(2)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.utils.parametrizations.spectral_norm(module)

    def forward(self, x: Float[Tensor, "B C H W"]) -> tuple[list[Tensor], list[Tensor]]:
        """Compute the scores of both scales, and the features before them."""
        scores, features = [], []
        for layers in self.scales:
            hidden = x
            for layer in list(layers)[:-1]:
                hidden = nn.functional.leaky_relu(layer(hidden), 0.2)
                features.append(hidden)
            scores.append(layers[-1](hidden))
            x = nn.functional.avg_pool2d(x, 2)
        return scores, features
