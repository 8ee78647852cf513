"""The network of clothed surfaces: features of the picture at the projected anchors, and graph convolutions.

After the refinement branch of Mesh R-CNN (Gkioxari et al. 2019): a stage samples the picture's features where the
surface is by then, convolves along the mesh, and moves the anchors. Unlike there, the mesh is always the body's: an
anchor has an embedding of its own, moves are along the body's normals for the most part, and all anchors see a summary
of the whole picture, since most of a person is hidden. Convolutions reach a few anchors far, but where a limb is wrong
in depth, it is wrong as a whole: so regions of anchors are told of each other, too, by an MLP over them (Tolstikhin et
al. 2021).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from torch import Tensor, nn

from bodyfit.clothed.inputs import CHANNELS, VERTEX_FEATURES
from bodyfit.clothed.mesh import SurfaceMesh
from scripts.train.blocks import Block

__all__ = ["ClothedNetwork"]

_WIDTHS = (20, 36, 64, 112)
"""Channels at half, a quarter, an eighth and a sixteenth of the picture's resolution."""
_ALIGNED, _SUMMARY, _OWN, _HIDDEN = 14, 48, 16, 80
"""Channels sampled of each map, of the picture's summary, of the embeddings and of the graph."""
_STAGES, _CONVOLUTIONS = 3, 2
_REGIONS, _REACH = 64, 2.0
"""Regions of anchors, and how far they reach, in edges: the deviation of a Gaussian."""
_PROBES_M = (-0.02, 0.01, 0.02, 0.04, 0.07, 0.11, 0.16)
"""How far out along the normal the mask is looked at."""
_ALONG_M, _ASIDE_M = 0.05, 0.03
"""Moves along the normal and in the camera's axes for an output of 1."""


class _GraphConvolution(nn.Module):
    """f_i' = f_i + relu(W0 f_i + W1 mean_j f_j), over the anchors joined to i."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own, self.others = nn.Linear(width, width), nn.Linear(width, width, bias=False)

    def forward(self, x: Float[Tensor, "B A C"], mean: _Mean) -> Float[Tensor, "B A C"]:
        """Compute the convolution."""
        return x + torch.relu(self.own(x) + mean(self.others(x)))


class _Graph(nn.Module):
    """The convolutions of a stage, and after the first the exchange of regions."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([_GraphConvolution(_HIDDEN) for _ in range(_CONVOLUTIONS)])
        self.exchange = _Exchange(_HIDDEN)

    def forward(self, x: Float[Tensor, "B A C"], mean: _Mean, regions: Float[Tensor, "A R"]) -> Float[Tensor, "B A C"]:
        """Compute them one after another."""
        for k, convolution in enumerate(self.convolutions):
            x = convolution(x, mean)
            if k == 0:
                x = self.exchange(x, regions)
        return x


class _Exchange(nn.Module):
    """Means over regions, mixed over the regions and then each by itself, added to the regions' anchors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.over = nn.Sequential(nn.Linear(_REGIONS, 2 * _REGIONS), nn.ReLU(), nn.Linear(2 * _REGIONS, _REGIONS))
        self.own = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "B A C"], regions: Float[Tensor, "A R"]) -> Float[Tensor, "B A C"]:
        """Compute the exchange."""
        pooled = (x.transpose(1, 2) @ regions / regions.sum(0)).to(x).transpose(1, 2)
        pooled = pooled + self.over(self.norms[0](pooled).transpose(1, 2)).transpose(1, 2)
        pooled = pooled + self.own(self.norms[1](pooled))
        return x + regions @ self.out(pooled)


def regions_of(mesh: SurfaceMesh) -> Float[Tensor, "A R"]:
    """How much each anchor belongs to the regions about the first anchors, which lie evenly; rows sum to 1."""
    a, b = mesh.edges.T
    edges = csr_array((np.ones(len(a)), (a, b)), (mesh.anchors,) * 2)
    away = shortest_path(edges, directed=False, unweighted=True, indices=np.arange(_REGIONS)).T
    weights = np.exp(-0.5 * (np.minimum(away, 50) / _REACH) ** 2) + 1e-9
    return torch.from_numpy(weights / weights.sum(1, keepdims=True)).float()


class _Mean(nn.Module):
    """The mean over an anchor's neighbours."""

    def __init__(self, mesh: SurfaceMesh) -> None:
        super().__init__()
        table = torch.from_numpy(mesh.neighbours)
        count, most = table.shape
        rows = torch.arange(count)[:, None].expand(-1, most)
        real = table != rows
        share = real / real.sum(1, keepdim=True).clamp(min=1)
        self.register_buffer("table", table.T.contiguous(), persistent=False)
        self.register_buffer("share", share.T.float().contiguous(), persistent=False)
        places = torch.stack([rows[real], table[real]])
        matrix = torch.sparse_coo_tensor(places, share[real].float(), (count, count)).coalesce()
        self.matrix, self.transposed = matrix.to_sparse_csr(), matrix.T.coalesce().to_sparse_csr()

    def forward(self, x: Float[Tensor, "B A C"]) -> Float[Tensor, "B A C"]:
        """Compute the means: by a sparse product, or by gathering where the network is written down."""
        if torch.onnx.is_in_onnx_export():
            return sum(share[:, None] * x[:, rows] for share, rows in zip(self.share, self.table, strict=True))  # type: ignore[return-value]
        return _SparseProduct.apply(x, self.matrix, self.transposed)  # type: ignore[no-any-return]


class _SparseProduct(torch.autograd.Function):
    """A constant sparse matrix times the rows of a batch."""

    @staticmethod
    def forward(ctx, x: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        """Multiply."""
        ctx.transposed = transposed
        return _SparseProduct.product(matrix, x)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        """Multiply by the transpose."""
        return _SparseProduct.product(ctx.transposed, grad_outputs[0]), None, None

    @staticmethod
    def product(matrix: Tensor, x: Float[Tensor, "B A C"]) -> Float[Tensor, "B A C"]:
        """Multiply each of a batch."""
        batch, rows, width = x.shape
        flat = x.transpose(0, 1).reshape(rows, batch * width)  # no sparse products of bfloat16
        with torch.autocast(x.device.type, enabled=False):
            product = matrix.to(x.device) @ flat.float()
        return product.to(x).reshape(rows, batch, width).transpose(0, 1)


class ClothedNetwork(nn.Module):
    """Moves of the anchors, along their normals and in the camera's axes, metres, and whether something covers them."""

    def __init__(self, mesh: SurfaceMesh) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = _WIDTHS
        self.fold = nn.PixelUnshuffle(2)
        self.maps = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(4 * CHANNELS, half, 3, 1, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()),
                Block(half, quarter, 2),
                Block(quarter, eighth, 2),
                Block(eighth, sixteenth, 2),
            ]
        )
        self.aligned = nn.ModuleList([nn.Conv2d(width, _ALIGNED, 1) for width in _WIDTHS])
        self.summary = nn.Sequential(nn.Linear(2 * sixteenth, _SUMMARY), nn.ReLU())
        self.own = nn.Parameter(0.1 * torch.randn(mesh.anchors, _OWN))
        seen = _ALIGNED * len(_WIDTHS) + len(_PROBES_M) + 1 + VERTEX_FEATURES + 3 + 4
        self.inputs = nn.ModuleList(
            [nn.Linear(seen + _OWN + _SUMMARY + (k > 0) * _HIDDEN, _HIDDEN) for k in range(_STAGES)]
        )
        self.graph = nn.ModuleList([_Graph() for _ in range(_STAGES)])
        self.moves = nn.ModuleList([nn.Linear(_HIDDEN + _OWN, 4) for _ in range(_STAGES)])
        for parameter in self.moves.parameters():
            nn.init.zeros_(parameter)
        self.mean = _Mean(mesh)
        self.regions: Tensor
        self.register_buffer("regions", regions_of(mesh))
        self.covered = nn.Linear(_HIDDEN + _OWN, 1)

    def forward(
        self,
        image: Float[Tensor, "B 9 S S"],
        points: Float[Tensor, "B A 3"],
        features: Float[Tensor, "B A 4"],
        lens: Float[Tensor, "B 3"],
    ) -> Float[Tensor, "B A 5"]:
        """Compute the moves, along the normal (1) and in the camera's axes (3), and the logit of being covered."""
        x = self.fold(image)
        maps = []
        for layer in self.maps:
            x = layer(x)
            maps.append(x)
        summary = self.summary(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))[:, None].expand(-1, points.shape[1], -1)
        aligned = [layer(one) for layer, one in zip(self.aligned, maps, strict=True)]
        own = self.own.expand(len(points), -1, -1)
        centred = points - points.mean(1, keepdim=True)
        normals = features[..., :3]
        probes = torch.stack([points + step * normals for step in _PROBES_M], 2).flatten(1, 2)
        masks = sample(image[:, 3:4], project(probes, lens)).unflatten(1, (-1, len(_PROBES_M)))[..., 0]
        move, at, hidden, last = torch.zeros_like(points[..., :1].expand(-1, -1, 4)), points, None, own
        for inputs, graph, head in zip(self.inputs, self.graph, self.moves, strict=True):
            xy = project(at, lens)
            here = [sample(one, xy) for one in (*aligned, image[:, 3:4])]
            parts = [*here, masks, features, centred, 10 * move, own, summary]
            hidden = torch.relu(inputs(torch.cat(parts if hidden is None else [*parts, hidden], 2)))
            hidden = graph(hidden, self.mean, self.regions)
            last = torch.cat([hidden, own], 2)
            step = head(last)
            move = move + torch.cat([_ALONG_M * step[..., :1], _ASIDE_M * step[..., 1:]], 2)
            at = points + move[..., :1] * normals + move[..., 1:]
        return torch.cat([move, self.covered(last)], 2)


def project(points: Float[Tensor, "B N 3"], lens: Float[Tensor, "B 3"]) -> Float[Tensor, "B N 2"]:
    """Project points to a region's coordinates, -1 to 1."""
    return points[..., :2] / points[..., 2:].clamp(min=0.1) * lens[:, None, :1] + lens[:, None, 1:]


def sample(maps: Float[Tensor, "B C H W"], xy: Float[Tensor, "B N 2"]) -> Float[Tensor, "B N C"]:
    """Sample maps bilinearly, beyond the edge as at the edge."""
    found = nn.functional.grid_sample(maps.float(), xy[:, :, None], padding_mode="border", align_corners=False)
    return found[..., 0].transpose(1, 2)
