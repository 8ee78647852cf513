"""The losses of clothed surfaces: chamfer distances, normals, edges and smoothness, centimetres."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from bodyfit.clothed.mesh import SurfaceMesh
from scripts.train.clothed.batches import Batch

__all__ = ["SurfaceLoss"]

_TARGETS = 1500
"""Points of the truth that look for the surface, in each step."""
_SMOOTH_CM = 0.3
"""Distances far below this count by their squares."""
_PLAIN, _NORMALS, _EDGES, _SMOOTHNESS, _COVERED = 0.5, 1.0, 0.3, 0.5, 0.3
_FACES = 2000


class SurfaceLoss:
    """Compares moved bodies with true surfaces."""

    def __init__(self, mesh: SurfaceMesh, device: torch.device) -> None:
        rows = mesh.vertices
        self._near = torch.from_numpy(mesh.near[rows]).to(device)
        self._weights = torch.from_numpy(mesh.near_weights[rows]).float().to(device)
        self._faces = torch.from_numpy(mesh.faces).to(device)
        self._edges = torch.from_numpy(mesh.edges).to(device)
        self._anchors = mesh.anchors

    def moved(self, move: Float[Tensor, "B A 4"], batch: Batch) -> Float[Tensor, "B M 3"]:
        """Move the medium vertices as the anchors move, camera axes."""
        spread = (move[:, self._near] * self._weights[..., None]).sum(2)
        return batch.medium + spread[..., :1] * batch.normals + spread[..., 1:]

    def __call__(
        self, output: Float[Tensor, "B A 5"], batch: Batch, rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Compute the loss of what the network says, and its terms."""
        terms = self.terms(output[..., :4], batch, rng, batch.weight)
        away = torch.nn.functional.binary_cross_entropy_with_logits(output[..., 4].float(), batch.covered)
        terms["covered"] = _COVERED * away
        total = torch.stack(list(terms.values())).sum()
        return total, {name: float(term.detach()) for name, term in terms.items()}

    def terms(
        self,
        move: Float[Tensor, "B A 4"],
        batch: Batch,
        rng: np.random.Generator,
        weight: Float[Tensor, "B"] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the terms of the loss. weight: of each sample's distances and normals, 1 by default."""
        weight = torch.ones_like(batch.scale) if weight is None else weight
        points = self.moved(move, batch)
        room = (points / batch.scale[:, None, None] - batch.t[:, None]) @ batch.R  # R^T x, by rows
        faces = self._faces[torch.from_numpy(rng.integers(len(self._faces), size=_FACES))]
        sums = {name: points.new_zeros(()) for name in ("there", "back", "normals")}
        for own, share, (shard, person) in zip(room, weight / len(room), batch.truth, strict=True):
            there, back, normals = self._of_one(
                own, faces, shard.points[person], shard.normals[person], shard.tree(person), rng
            )
            for name, term in zip(sums, (there, back, normals), strict=True):
                sums[name] = sums[name] + term * share
        return sums | {"edges": _EDGES * self._stretch(points, batch), "smooth": _SMOOTHNESS * self._roughness(move)}

    def _of_one(
        self,
        own: Float[Tensor, "M 3"],
        faces: Int[Tensor, "F 3"],
        truth: np.ndarray,
        truth_normals: np.ndarray,
        tree: KDTree,
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Chamfer distances both ways and the normals' term of one surface."""
        at = own.detach().cpu().numpy()
        near = tree.query(at)[1]
        q, n = (torch.from_numpy(x[near]).to(own) for x in (truth, truth_normals))
        there = _distance(100 * (own - q), n)
        some = rng.integers(len(truth), size=_TARGETS)
        found = KDTree(at, balanced_tree=False, compact_nodes=False).query(truth[some])[1]
        q_back, n_back = (torch.from_numpy(x[some]).to(own) for x in (truth, truth_normals))
        back = _distance(100 * (q_back - own[torch.from_numpy(found).to(own.device)]), n_back)
        a, b, c = own[faces].unbind(1)
        normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1, eps=1e-8)
        normals = _NORMALS * (1 - (normal * n[faces[:, 0]]).sum(1)).mean()
        return there, back, normals

    def _stretch(self, points: Float[Tensor, "B M 3"], batch: Batch) -> Tensor:
        """How much longer or shorter edges become, as a logarithm, squared."""
        a, b = self._edges.T
        now = (points[:, a] - points[:, b]).norm(dim=2).clamp(min=1e-3)
        body = (batch.medium[:, a] - batch.medium[:, b]).norm(dim=2).clamp(min=1e-3)
        return (now / body).log().square().mean()

    def _roughness(self, move: Float[Tensor, "B A 4"]) -> Tensor:
        """How the moves of joined anchors differ, centimetres."""
        a, b = self._edges.T
        difference = 100 * (move[:, a] - move[:, b])
        return 0.3 * (difference.square().sum(2) + _SMOOTH_CM**2).sqrt().mean()


def _distance(away_cm: Float[Tensor, "N 3"], normal: Float[Tensor, "N 3"]) -> Tensor:
    """Mean distance to the plane, and less of that to the point, whose small values are the spacing of points."""
    plane = ((away_cm * normal).sum(1).square() + _SMOOTH_CM**2).sqrt() - _SMOOTH_CM
    return (plane + _PLAIN * ((away_cm.square().sum(1) + 1.0).sqrt() - 1.0)).mean()
