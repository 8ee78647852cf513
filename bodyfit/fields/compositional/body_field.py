"""The field of a body: density and features near a posed body, as a function of the place on it and a code."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bodyfit.fields.compositional.atlas import SurfaceAtlas
from bodyfit.fields.compositional.samples import SampleBatch

__all__ = ["AtlasField", "BodyFieldNetwork", "PlainField"]

_UNIT_M = 0.02
_DENSITY_PER_M = 100.0
_AT_BODY, _BIAS = 4.0, -1.5


def density(output: Float[Tensor, "N"], signed_m: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Density per metre of a network's output; with output 0 it is that of the body itself."""
    at_body = _AT_BODY * torch.tanh(-signed_m / _UNIT_M) + _BIAS
    return _DENSITY_PER_M * nn.functional.softplus(output + at_body)


def _of_owner(samples: SampleBatch, objects: int) -> Float[Tensor, "N O"]:
    """One at each sample's object: a product with it is several times faster than a look-up, backwards too."""
    return nn.functional.one_hot(samples.owner, objects).to(samples.signed_m.dtype)


class BodyFieldNetwork(nn.Module):
    """What fields of bodies have in common: `forward(samples, codes)` gives density per metre and features."""

    code_size: int
    feature_size: int

    def forward(
        self, samples: SampleBatch, codes: Float[Tensor, "O D"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N F"]]:
        """Evaluate at samples of O objects with a code each."""
        raise NotImplementedError


class AtlasField(BodyFieldNetwork):
    """Features on the surface's anchors, and a small network on them.

    A feature is a mean of the anchor's own and a part that depends on the code: a linear basis on the coarse anchors,
    spread over the others. The network also gets the signed distance, the normal in camera axes (the light goes with
    the camera) and a bias by the code.
    """

    def __init__(
        self,
        atlas: SurfaceAtlas,
        code_size: int = 48,
        basis: int = 64,
        anchor_size: int = 24,
        hidden: int = 64,
        feature_size: int = 32,
    ) -> None:
        super().__init__()
        self.code_size, self.feature_size = code_size, feature_size
        anchors, coarse = len(atlas.anchors.points), atlas.coarse
        self.mean = nn.Parameter(0.1 * torch.randn(anchors, anchor_size))
        self.basis = nn.Parameter(0.1 * torch.randn(basis, coarse * anchor_size) / math.sqrt(basis))
        self.straight = nn.Linear(code_size, basis)
        self.bent = nn.Sequential(nn.Linear(code_size, 96), nn.LeakyReLU(0.2), nn.Linear(96, basis))
        rows = torch.arange(anchors).repeat_interleave(atlas.coarse_of.shape[1])
        columns, share = torch.from_numpy(atlas.coarse_of).flatten(), torch.from_numpy(atlas.coarse_share).flatten()
        spread = torch.sparse_coo_tensor(torch.stack([rows, columns]), share, (anchors, coarse)).to_sparse_csr()
        self.spread: Tensor
        self.register_buffer("spread", spread, persistent=False)
        self.first = nn.Linear(anchor_size + 8, hidden)
        self.by_code = nn.Linear(basis, hidden, bias=False)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 1 + feature_size)
        with torch.no_grad():
            self.last.weight[0] *= 0.1
            self.last.bias[0] = 0

    def tables(self, codes: Float[Tensor, "O D"]) -> tuple[Float[Tensor, "OA C"], Float[Tensor, "O H"]]:
        """Each object's features on all anchors, one object after another, and its bias."""
        mixed = self.straight(codes) + self.bent(codes)
        coarse = (mixed @ self.basis).view(len(codes), self.spread.shape[1], -1)
        parts = self.spread @ coarse.permute(1, 0, 2).reshape(self.spread.shape[1], -1)
        parts = parts.view(self.spread.shape[0], len(codes), -1).permute(1, 0, 2)
        return (self.mean + parts).flatten(0, 1), self.by_code(mixed)

    def forward(
        self, samples: SampleBatch, codes: Float[Tensor, "O D"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N F"]]:
        """Evaluate at samples of O objects with a code each."""
        table, bias = self.tables(codes)
        rows = samples.anchors + samples.owner[:, None] * self.spread.shape[0]
        feature = nn.functional.embedding_bag(rows, table, per_sample_weights=samples.shares, mode="sum")
        s = (samples.signed_m / _UNIT_M)[:, None]
        waves = torch.cat([torch.sin(s), torch.cos(s), torch.sin(2 * s), torch.cos(2 * s)], 1)
        x = self.first(torch.cat([feature, s, waves, samples.normals], 1))
        x = nn.functional.leaky_relu(x + _of_owner(samples, len(codes)) @ bias, 0.1)
        x = self.last(nn.functional.leaky_relu(self.second(x), 0.1))
        return density(x[:, 0], samples.signed_m), x[:, 1:]


class PlainField(BodyFieldNetwork):
    """The paper's field: a multilayer perceptron on positional encodings of canonical places, modulated by the code."""

    def __init__(self, code_size: int = 48, hidden: int = 96, octaves: int = 7, feature_size: int = 32) -> None:
        super().__init__()
        self.code_size, self.feature_size, self.octaves = code_size, feature_size, octaves
        self.first = nn.Linear(3 + 6 * octaves + 4, hidden)
        self.layers = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(2)])
        self.film = nn.Linear(code_size, 2 * 3 * hidden)
        self.last = nn.Linear(hidden, 1 + feature_size)
        with torch.no_grad():
            self.last.weight[0] *= 0.1
            self.last.bias[0] = 0

    def forward(
        self, samples: SampleBatch, codes: Float[Tensor, "O D"]
    ) -> tuple[Float[Tensor, "N"], Float[Tensor, "N F"]]:
        """Evaluate at samples of O objects with a code each."""
        at = samples.canonical_m
        angles = at[:, None] * (math.pi * 2.0 ** torch.arange(self.octaves, device=at.device))[:, None]
        distance = (samples.signed_m / _UNIT_M)[:, None]
        waves = [torch.sin(angles).flatten(1), torch.cos(angles).flatten(1)]
        x = self.first(torch.cat([at, *waves, distance, samples.normals], 1))
        scale, shift = self.film(codes).view(len(codes), 2, 3, -1).unbind(1)
        owner = _of_owner(samples, len(codes))
        for k in range(3):
            x = x if k == 0 else self.layers[k - 1](x)
            x = nn.functional.leaky_relu((1 + owner @ scale[:, k]) * x + owner @ shift[:, k], 0.1)
        x = self.last(x)
        return density(x[:, 0], samples.signed_m), x[:, 1:]
