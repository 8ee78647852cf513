"""Fields of torch, for any device: a band grid with a small network, and the positional encoding of the paper.

They read the same packed samples as the compiled field, and are trained by `train_network`. Reference for the latter:
Mildenhall et al. 2020 (NeRF), eq. 3 to 5; the body gives the interval on each ray, so that coarse and fine sampling is
an option (`NetworkConfig.fine`) and not the default.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bodyfit.errors import OptionError
from bodyfit.fields.casting.cast import PLACE_MARGIN_M
from bodyfit.fields.casting.samples import PLACE_UNIT_M
from bodyfit.fields.radiance.field import RadianceField
from bodyfit.fields.radiance.views import TrainingRays
from bodyfit.runtime.parallel import run

__all__ = ["NETWORKS", "EncodedField", "GridField", "NetworkConfig", "composite", "network_rays", "train_network"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """How a field of torch is trained."""

    kind: str = "grid"
    """A name of `NETWORKS`."""
    seconds: float | int = 120.0
    """Processor time of training, seconds."""
    batch_rays: int = 1024
    """Rays of a step."""
    rate: float | int = 5e-3
    """Adam's rate; it falls to a tenth."""
    mask_weight: float | int = 0.3
    """Weight of (opacity - mask)^2."""
    fine: int = 0
    """Samples of each ray that are drawn again from the weights of the others; 0 for all samples alike."""
    seed: int = 0
    """Of weights and batches."""

    def __post_init__(self) -> None:
        if self.kind not in NETWORKS:
            raise OptionError(f"kind must be one of {', '.join(NETWORKS)}, got {self.kind!r}")
        if not (self.seconds > 0 and self.batch_rays > 0 and self.fine >= 0):
            raise OptionError("training needs seconds > 0, batch_rays > 0 and fine >= 0")


class EncodedField(nn.Module):
    """Positional encoding and a network: (places, normals) -> density 1/m and colour, as NeRF has it."""

    scale: Tensor

    def __init__(self, field: RadianceField, octaves: int = 9, width: int = 128, depth: int = 4) -> None:
        super().__init__()
        self.register_buffer("scale", 2.0 ** torch.arange(octaves) * math.pi)
        layers: list[nn.Module] = []
        size = 3 + 6 * octaves
        for _ in range(depth):
            layers += [nn.Linear(size, width), nn.ReLU()]
            size = width
        self.trunk = nn.Sequential(*layers)
        self.density = nn.Linear(width, 1)
        self.color = nn.Sequential(nn.Linear(width + 3, 32), nn.ReLU(), nn.Linear(32, 3))
        self.per_m = float(field.config.density_per_m)

    def forward(self, places: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], start: Float[Tensor, "N"]):
        """Return density (N,) and colour (N, 3); `start`: logits of the body that the density begins at."""
        angles = (places[:, None] * self.scale[:, None]).flatten(1)
        features = self.trunk(torch.cat([places, angles.sin(), angles.cos()], 1))
        density = self.per_m * nn.functional.softplus(self.density(features)[:, 0] + start)
        return density, torch.sigmoid(self.color(torch.cat([features, normals], 1)))


class GridField(nn.Module):
    """Features in the band grid and a small network: (places, normals) -> density 1/m and colour."""

    low: Tensor
    dims: Tensor
    starts: Tensor
    sizes: Tensor
    bricks: Tensor

    def __init__(self, field: RadianceField, features: int = 8, width: int = 32) -> None:
        super().__init__()
        a = field.grid.arrays
        self.table = nn.Parameter(0.01 * torch.randn(field.grid.rows + 1, features))
        for name, value in (("low", a.low), ("dims", a.dims), ("starts", a.starts), ("sizes", a.sizes)):
            self.register_buffer(name, torch.from_numpy(value))
        self.register_buffer("bricks", torch.from_numpy(a.tables).long())
        self.head = nn.Sequential(nn.Linear(features + 3, width), nn.ReLU(), nn.Linear(width, 4))
        self.per_m = float(field.config.density_per_m)

    def forward(self, places: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], start: Float[Tensor, "N"]):
        """Return density (N,) and colour (N, 3); `start`: logits of the body that the density begins at."""
        total = places.new_zeros(len(places), self.table.shape[1])
        for level in range(len(self.sizes)):
            at = (places - self.low.to(places)) / self.sizes[level].to(places)
            base = at.floor()
            part, node = at - base, base.long()
            for corner in range(8):
                bits = [corner >> 2 & 1, corner >> 1 & 1, corner & 1]
                offset = torch.tensor(bits, device=places.device)
                weight = torch.where(offset > 0, part, 1 - part).prod(1)
                total = total + weight[:, None] * self.table[self._rows(node + offset, level)]
        out = self.head(torch.cat([total, normals], 1))
        return self.per_m * nn.functional.softplus(out[:, 0] + start), torch.sigmoid(out[:, 1:])

    def _rows(self, node: Int[Tensor, "N 3"], level: int) -> Int[Tensor, "N"]:
        """Return the rows of nodes, the last one, of nobody, for those that the grid lacks."""
        dims, brick, inner = self.dims[level].long(), node // 4, node % 4
        inside = ((brick >= 0) & (brick < dims)).all(1)
        brick = torch.where(inside[:, None], brick, torch.zeros_like(brick))
        number = self.bricks[self.starts[level] + (brick[:, 0] * dims[1] + brick[:, 1]) * dims[2] + brick[:, 2]]
        row = ((number * 4 + inner[:, 0]) * 4 + inner[:, 1]) * 4 + inner[:, 2]
        return torch.where(inside & (number >= 0), row, torch.full_like(row, len(self.table) - 1))


NETWORKS: dict[str, Callable[[RadianceField], nn.Module]] = {"grid": GridField, "encoding": EncodedField}
"""Fields of torch by name."""


def composite(
    density: Float[Tensor, "N"], color: Float[Tensor, "N 3"], ray: Int[Tensor, "N"], step_m: Float[Tensor, "N"] | float
) -> tuple[Float[Tensor, "R 3"], Float[Tensor, "R"]]:
    """Composite samples, sorted by ray and depth; return colours times opacity and opacity of the R rays.

    With tau the running sum of density times step over the samples of a ray before each, T = exp(-tau).
    """
    optical = (density * step_m).double()
    running = optical.cumsum(0)
    first = torch.ones_like(ray, dtype=torch.bool)
    first[1:] = ray[1:] != ray[:-1]
    before = running - optical
    group = first.long().cumsum(0) - 1
    tau = before - before[first][group]
    share = (torch.exp(-tau) * -torch.expm1(-optical)).to(color.dtype)
    rays = int(ray.max()) + 1 if len(ray) else 0
    sums = color.new_zeros(rays, 3).index_add(0, ray, share[:, None] * color)
    return sums, color.new_zeros(rays).index_add(0, ray, share)


def train_network(
    field: RadianceField, rays: TrainingRays, config: NetworkConfig, *, device: torch.device | str = "cpu"
) -> tuple[nn.Module, list[float]]:
    """Train a field of torch on rays; returns it and the loss of each step.

    field: gives the canonical body, the grid and the density that training begins at.
    """
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    network = NETWORKS[config.kind](field).to(device)
    adam = torch.optim.Adam(network.parameters(), lr=config.rate, eps=1e-10)
    start, losses = time.process_time(), []
    background = field.config.background
    while (spent := time.process_time() - start) < config.seconds:
        for group in adam.param_groups:
            group["lr"] = config.rate * 0.1 ** (spent / config.seconds)
        chosen = torch.randint(len(rays), (config.batch_rays,), generator=generator).numpy()
        sums, opacity = network_rays(network, field, rays, chosen, fine=config.fine, device=device)
        mask = torch.from_numpy(rays.masks[chosen]).to(device).float() / 255
        target = torch.from_numpy(rays.colors[chosen]).to(device).float() / 255
        if background is None:
            behind = torch.rand(len(chosen), 3, generator=generator).to(device)
            target = mask[:, None] * target + (1 - mask[:, None]) * behind
        else:
            behind = torch.tensor(background, device=device).expand(len(chosen), 3)
        drawn = sums + (1 - opacity[:, None]) * behind
        loss = (drawn - target).square().mean() + config.mask_weight * (opacity - mask).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    return network, losses


def network_rays(
    network: nn.Module,
    field: RadianceField,
    rays: TrainingRays,
    chosen: Int[np.ndarray, "B"],
    *,
    fine: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B"]]:
    """Draw rays by a network: colours times opacity, and opacity.

    fine: evaluate all samples without a graph, then so many of each ray, drawn in proportion to their weights, with it;
    each stands for the length of the ray up to the next one (hierarchical sampling).
    """
    counts = (rays.ptr[chosen + 1] - rays.ptr[chosen]).astype(np.int64)
    ray = np.repeat(np.arange(len(chosen)), counts)
    within = np.arange(len(ray)) - np.repeat(np.cumsum(counts) - counts, counts)
    at = rays.ptr[chosen][ray] + within
    origin = field.canonical.vertices.min(0) - np.float32(PLACE_MARGIN_M)
    places = torch.from_numpy(rays.place[at].astype(np.float32) * np.float32(PLACE_UNIT_M) + origin).to(device)
    normals = torch.from_numpy(rays.normal[at].astype(np.float32) / 127).to(device)
    begin, step = _start_logits(field, places), float(field.config.cast.step_m)
    owner = torch.from_numpy(ray).to(device)
    if fine:
        with torch.no_grad():
            density, _ = network(places, normals, begin)
            weight = -torch.expm1(-density * step) + 1e-3
        keep = _drawn_again(weight, owner, fine)
        length = _lengths(keep, owner, step)
        places, normals, begin, owner = places[keep], normals[keep], begin[keep], owner[keep]
    else:
        length = step
    density, color = network(places, normals, begin)
    sums, opacity = composite(density, color, owner, length)
    missing = len(chosen) - len(sums)
    return nn.functional.pad(sums, (0, 0, 0, missing)), nn.functional.pad(opacity, (0, missing))


def _start_logits(field: RadianceField, places: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """Interpolate the logits that the field's density begins at, with their bias."""
    from bodyfit.fields.radiance.draw_loops import at_places

    at, out = places.cpu().double().numpy(), np.empty((len(places), 4), np.float32)
    run(at_places, len(at), at, *field.grid.arrays, field.values, out, grain=4096)
    return torch.from_numpy(out[:, 0] + np.float32(field.config.density_bias)).to(places.device)


def _drawn_again(weight: Float[Tensor, "N"], ray: Int[Tensor, "N"], count: int) -> Int[Tensor, "K"]:
    """Draw at most `count` samples of each ray in proportion to their weights, without repetition, in order."""
    key = weight.log() - torch.log(-torch.log(torch.rand_like(weight).clamp(1e-9, 1 - 1e-7)))  # Gumbel's trick
    order = torch.argsort(key, descending=True, stable=True)
    order = order[torch.argsort(ray[order], stable=True)]
    sizes = torch.bincount(ray)
    rank = torch.arange(len(ray), device=ray.device) - torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    return order[rank < count].sort().values


def _lengths(chosen: Int[Tensor, "K"], ray: Int[Tensor, "N"], step_m: float) -> Float[Tensor, "K"]:
    """Return the length that each chosen sample stands for: up to the next one, the last up to the ray's end."""
    ends = torch.bincount(ray).cumsum(0)[ray[chosen]]
    following = torch.cat([chosen[1:], ends[-1:]])
    return (torch.minimum(following, ends) - chosen).to(torch.float32) * step_m
