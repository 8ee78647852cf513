"""Compute the keypoints of a layout as weighted sums of joints and of the few vertices that they lie on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.kernels.arrays import MeshArrays
from bodyfit.body.kernels.skinning import posed_mesh, posed_sums, without_graph

__all__ = ["KeypointSums"]


@dataclass(frozen=True)
class KeypointSums:
    """The weights of one layout's keypoints on one model."""

    vertices: Int[Tensor, "R"]
    """Indices of the vertices that have a weight."""
    arrays: MeshArrays
    """The model's arrays, restricted to these vertices."""
    term: Int[Tensor, "M T"]
    """The joints and vertices (joints first) of each sum of several points, padded with joint 0."""
    weight: Float[Tensor, "M T 1"]
    """Their weights, 0 where padded."""
    place: Int[Tensor, "K"]
    """Each keypoint's row among the joints, the vertices and the sums, concatenated."""
    available: Bool[Tensor, "K 1"] | None
    """Which keypoints the model has; None if it has all."""

    @classmethod
    def of(
        cls,
        arrays: MeshArrays,
        joints: Float[Tensor, "K J"],
        vertices: Int[Tensor, "R"],
        weights: Float[Tensor, "K R"],
        available: Bool[Tensor, "K"],
    ) -> KeypointSums:
        """Make the sums from weights of the joints and of some vertices; vertices without weight are dropped."""
        used = (weights != 0).any(0)
        sums = torch.cat([joints, weights[:, used]], 1)
        single = ((sums != 0).sum(1) == 1) & (sums == 1).any(1)
        place = (sums == 1).long().argmax(1)
        place[~single] = sums.shape[1] + torch.arange(int((~single).sum()), device=place.device)
        sums = sums[~single]
        terms = max(1, int((sums != 0).sum(1).max()) if len(sums) else 0)
        # A stable sort keeps the order of the terms, and with it that of the sums, on every device.
        term = (sums != 0).float().sort(dim=1, descending=True, stable=True).indices[:, :terms]
        weight = sums.gather(1, term)
        vertices = vertices[used]
        return cls(
            vertices=vertices,
            arrays=arrays.rows(vertices),
            term=torch.where(weight != 0, term, 0),
            weight=weight[..., None],
            place=place,
            available=None if available.all() else available[:, None],
        )

    def of_bodies(self, joints: Float[Tensor, "B J 3"], vertices: Float[Tensor, "B R 3"]) -> Float[Tensor, "B K 3"]:
        """Compute the keypoints from joints and the selected vertices, metres; NaN where the model lacks one.

        Elementwise, because starting a library's threads for so small a matrix product takes longer than the product.
        """
        points = torch.cat([joints, vertices], 1)
        if len(self.term):
            terms = points.index_select(1, self.term.flatten()).unflatten(1, self.term.shape)
            points = torch.cat([points, (terms * self.weight).sum(2)], 1)
        keypoints = points.index_select(1, self.place)
        return keypoints if self.available is None else torch.where(self.available, keypoints, torch.nan)

    def posed(
        self, coefficients: Float[Tensor, "B S"], rotvecs: Float[Tensor, "B J 3"], transl: Float[Tensor, "B 3"]
    ) -> Float[Tensor, "B K 3"]:
        """Compute the keypoints, metres, from coefficients, axis-angles (radians) and translations (metres)."""
        inputs = (coefficients, rotvecs, transl)
        if without_graph(self.arrays, inputs):
            return posed_sums(self.arrays, self._terms, *inputs)
        vertices, joints = posed_mesh(self.arrays, *inputs)
        return self.of_bodies(joints, vertices)

    @cached_property
    def _terms(self) -> tuple[np.ndarray, ...]:
        """The sums in the layout of `posed_sums`: row pointers, terms, weights and constants."""
        term, weight = self.term.cpu().numpy(), self.weight[..., 0].cpu().numpy()
        points, rows = len(self.arrays.parents) + len(self.vertices), self.place.cpu().numpy()
        terms = [term[row - points][weight[row - points] != 0] if row >= points else [row] for row in rows]
        weights = [weight[row - points][weight[row - points] != 0] if row >= points else [1] for row in rows]
        ptr = np.cumsum([0, *map(len, terms)], dtype=np.int32)
        available = np.ones(len(rows), bool) if self.available is None else self.available[:, 0].cpu().numpy()
        start = np.where(available, 0, np.nan).astype(weight.dtype)
        return ptr, np.concatenate(terms).astype(np.int32), np.concatenate(weights).astype(weight.dtype), start
