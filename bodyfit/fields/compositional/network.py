"""All networks of a compositional scene together, and what they are fed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bodyfit.errors import OptionError
from bodyfit.fields.compositional.atlas import surface_atlas
from bodyfit.fields.compositional.background import BackgroundField
from bodyfit.fields.compositional.body_field import AtlasField, BodyFieldNetwork, PlainField
from bodyfit.fields.compositional.operator import composite
from bodyfit.fields.compositional.renderer import NeuralRenderer
from bodyfit.fields.compositional.samples import SampleBatch

__all__ = ["FIELDS", "FieldNetwork", "NetworkConfig", "Rendering", "SceneBatch"]

FIELDS = ("atlas", "plain")
"""Kinds of the fields of bodies: features on the surface's anchors, or the paper's perceptron."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of the networks."""

    field: str = "atlas"
    """One of `FIELDS`."""
    code_size: int = 48
    """Length of a person's appearance code."""
    background_size: int = 8
    """Length of a background's code."""
    anchors: int = 4096
    """Anchors on the surface; atlas only."""
    coarse: int = 1024
    """Anchors at which the code acts; atlas only."""
    basis: int = 64
    """Rank of what codes change; atlas only."""
    hidden: int = 64
    """Width of a body field's layers."""
    feature_size: int = 32
    """Channels of the feature image."""
    widths: tuple[int, ...] = (32, 16)
    """Channels of the renderer's layers; all but the first double the size."""

    def __post_init__(self) -> None:
        if self.field not in FIELDS:
            raise OptionError(f"field must be one of {', '.join(FIELDS)}, got {self.field!r}")

    @property
    def upsampling(self) -> int:
        """How many pixels of the picture a side of a feature pixel is."""
        return 2 ** (len(self.widths) - 1)


@dataclass(frozen=True, eq=False)
class SceneBatch:
    """P pictures of O objects in all, or a window of each."""

    samples: SampleBatch
    """Of all objects; rays go picture by picture, row by row."""
    codes: Float[Tensor, "O D"]
    """Appearance of each object."""
    directions: Float[Tensor, "P h w 3"]
    """Unit directions of rays in the world, y up."""
    backgrounds: Float[Tensor, "P E"]
    """Code of each picture's background."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """What the networks make of a batch."""

    pictures: Float[Tensor, "P 3 H W"]
    """sRGB in 0 to 1."""
    alpha: Float[Tensor, "P h w"]
    """How much of the background objects hide."""
    weights: Float[Tensor, "N"]
    """How much of each sample its ray sees."""
    optical: Float[Tensor, "N"]
    """Density times step of each sample."""


class FieldNetwork(nn.Module):
    """Fields of bodies and backgrounds, the operator between them, and the neural renderer."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        # How far from the body there is anything at each anchor, metres: nothing farther off is evaluated.
        self.reach_m: Tensor
        self.register_buffer("reach_m", torch.ones(config.anchors))
        self.body: BodyFieldNetwork
        sizes = (config.code_size, config.hidden, config.feature_size)
        if config.field == "plain":
            self.body = PlainField(sizes[0], sizes[1], feature_size=sizes[2])
        else:
            atlas = surface_atlas(config.anchors, config.coarse)
            self.body = AtlasField(atlas, sizes[0], config.basis, hidden=sizes[1], feature_size=sizes[2])
        self.background = BackgroundField(config.background_size, feature_size=config.feature_size)
        self.renderer = NeuralRenderer(config.feature_size, config.widths)

    def forward(self, batch: SceneBatch) -> Rendering:
        """Draw the pictures of a batch."""
        p, h, w = batch.directions.shape[:3]
        density, features = self.body(batch.samples, batch.codes)
        s = batch.samples
        optical = density * s.step_m
        composited = composite(optical, features, s.ray, s.level, p * h * w)
        picture = torch.arange(p, device=density.device).repeat_interleave(h * w)
        behind = self.background(batch.directions.flatten(0, 2), batch.backgrounds, picture)
        mixed = composited.features + (1 - composited.alpha)[:, None] * behind
        image = mixed.view(p, h, w, -1).permute(0, 3, 1, 2)
        return Rendering(self.renderer(image), composited.alpha.view(p, h, w), composited.weights, optical)
