"""Lay out a model's arrays as the CPU loops of the SMPL layer read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.body.lbs import tree_levels

__all__ = ["MeshArrays"]


@dataclass(frozen=True)
class MeshArrays:
    """The arrays of an SMPL model for skinning: contiguous tensors of one device and floating type, metres."""

    v_template: Float[Tensor, "V 3"]
    """Vertices of the mean body."""
    shapedirs: Float[Tensor, "S V3"]
    """Vertex offsets for one unit of each coefficient (betas, then expressions): a coefficient a row, flat (V, 3)."""
    joints_template: Float[Tensor, "J 3"]
    """Rest joints of the mean body."""
    joints_shapedirs: Float[Tensor, "J 3 S"]
    """Offsets of the rest joints for one unit of each coefficient."""
    parents: tuple[int, ...]
    """Parent of each joint, -1 for a root; joints may be in any order."""
    weight_ptr: Int[Tensor, "V1"]
    """int32 (V + 1): the skinning weights of vertex v are the entries weight_ptr[v] to weight_ptr[v + 1] - 1."""
    weight_joint: Int[Tensor, "N"]
    """int32: the joint of each weight."""
    weight_value: Float[Tensor, "N"]
    """The skinning weights that are not zero."""
    posedirs: Float[Tensor, "P V3"] | None = None
    """Dense pose blend shapes, a row for each of the 9 (J - 1) features: row-major vec(R - I) of joints 1 to J - 1."""
    block_ptr: Int[Tensor, "V1"] | None = None
    """int32 (V + 1): vertex v has the blocks block_ptr[v] to block_ptr[v + 1] - 1. None where `posedirs` is not."""
    block_joint: Int[Tensor, "M"] | None = None
    """int32: the joint of each block, never 0."""
    block: Float[Tensor, "M 3 9"] | None = None
    """Sparse pose blend shapes: the matrices by which one joint's vec(R - I) moves one vertex."""

    @classmethod
    def of(
        cls,
        *,
        v_template: Float[Tensor, "V 3"],
        shapedirs: Float[Tensor, "V 3 S"],
        joints_template: Float[Tensor, "J 3"],
        joints_shapedirs: Float[Tensor, "J 3 S"],
        parents: tuple[int, ...],
        weights: Float[Tensor, "V J"],
        posedirs: Float[Tensor, "V 3 P"] | None = None,
        sparse: bool | None = None,
    ) -> MeshArrays:
        """Make the layout from arrays as SMPL's files hold them.

        `posedirs` are stored as blocks if `sparse`; None chooses blocks where less than half of them are nonzero.
        """
        n_v = len(v_template)
        ptr, row, joint = _rows_of(weights != 0)
        arrays = cls(
            v_template=v_template.contiguous(),
            shapedirs=shapedirs.reshape(3 * n_v, -1).T.contiguous(),
            joints_template=joints_template.contiguous(),
            joints_shapedirs=joints_shapedirs.contiguous(),
            parents=tuple(parents),
            weight_ptr=ptr,
            weight_joint=joint.int(),
            weight_value=weights[row, joint].contiguous(),
        )
        if posedirs is None:
            return arrays
        blocks = posedirs.reshape(n_v, 3, -1, 9).transpose(1, 2)
        used = (blocks != 0).any(-1).any(-1)
        if sparse is None:
            sparse = bool(used.sum() * 2 < used.numel())
        if not sparse:
            return replace(arrays, posedirs=posedirs.reshape(3 * n_v, -1).T.contiguous())
        ptr, row, joint = _rows_of(used)
        block = blocks[row, joint].contiguous()
        return replace(arrays, block_ptr=ptr, block_joint=(joint + 1).int(), block=block)

    def rows(self, index: Int[Tensor, "K"]) -> MeshArrays:
        """Select vertices: a copy of the model with the vertices `index`, in that order."""
        index = index.to(self.v_template.device)
        flat = (3 * index[:, None] + torch.arange(3, device=index.device)).flatten()
        ptr, at = _select_rows(self.weight_ptr, index)
        fields: dict[str, Tensor | None] = {
            "v_template": self.v_template[index],
            "shapedirs": self.shapedirs[:, flat].contiguous(),
            "weight_ptr": ptr,
            "weight_joint": self.weight_joint[at],
            "weight_value": self.weight_value[at],
            "posedirs": None if self.posedirs is None else self.posedirs[:, flat].contiguous(),
        }
        if self.block is not None and self.block_ptr is not None and self.block_joint is not None:
            ptr, at = _select_rows(self.block_ptr, index)
            fields |= {"block_ptr": ptr, "block_joint": self.block_joint[at], "block": self.block[at]}
        return replace(self, **fields)  # pyright: ignore[reportArgumentType]

    @cached_property
    def weights(self) -> Float[Tensor, "V J"]:
        """The dense skinning weights, for the tensor operations; computed at the first use."""
        full = self.weight_value.new_zeros(len(self.v_template), len(self.parents))
        row = torch.repeat_interleave(self.weight_ptr.diff().long(), output_size=len(self.weight_value))
        return full.index_put_((row, self.weight_joint.long()), self.weight_value)

    @cached_property
    def block_groups(self) -> tuple[tuple[int, ...], tuple[int, ...], Tensor, Tensor]:
        """Blocks grouped by joint: the joints that have blocks, their counts, and the blocks' indices and vertices."""
        if self.block_ptr is None or self.block_joint is None:
            raise ValueError("these arrays have no blocks")
        joints, order = self.block_joint.cpu().sort(stable=True)
        row = torch.repeat_interleave(self.block_ptr.cpu().diff().long())[order]
        joint, count = joints.unique_consecutive(return_counts=True)
        device = self.block_joint.device
        return tuple(joint.tolist()), tuple(count.tolist()), order.to(device), row.to(device)

    @cached_property
    def _order(self) -> np.ndarray:
        """Joints in topological order, parents before children."""
        return np.array([j for level in tree_levels(self.parents) for j in level], np.int32)

    @cached_property
    def tree(self) -> tuple[np.ndarray, ...]:
        """Arguments of the kernels on joints: template (J, 3), directions (J, 3, S), parents (J,) and order (J,)."""
        parents = np.array(self.parents, np.int32)
        return self.joints_template.numpy(), self.joints_shapedirs.numpy(), parents, self._order

    @cached_property
    def surface(self) -> tuple[np.ndarray, ...]:
        """Arguments of the kernels on vertices, as `bodyfit.body.kernels.loops` documents them, from `shapes` on."""
        dtype, n_v = self.weight_value.numpy().dtype, len(self.v_template)
        dense = np.empty((0, 3 * n_v), dtype) if self.posedirs is None else self.posedirs.numpy()
        if self.block is None or self.block_ptr is None or self.block_joint is None:
            blocks = np.zeros(n_v + 1, np.int32), np.empty(0, np.int32), np.empty((0, 3, 9), dtype)
        else:
            blocks = self.block_ptr.numpy(), self.block_joint.numpy(), self.block.numpy()
        weights = self.weight_ptr.numpy(), self.weight_joint.numpy(), self.weight_value.numpy()
        return self.shapedirs.numpy(), dense, *blocks, *weights

    @cached_property
    def skinning(self) -> tuple[np.ndarray, ...]:
        """Arguments of the kernels on vertices without blend shapes, for rest vertices that are given."""
        shapes, dense, ptr, *_, block = self.surface[:5]
        none = (shapes[:0], dense[:0], np.zeros_like(ptr), np.empty(0, np.int32), block[:0])
        return *none, *self.surface[5:]


def _rows_of(used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compress the true entries of a matrix by rows: row pointers (int32), and the row and column of each entry."""
    row, column = used.nonzero(as_tuple=True)
    ptr = torch.zeros(len(used) + 1, dtype=torch.int32, device=used.device)
    ptr[1:] = used.sum(1).cumsum(0)
    return ptr, row, column


def _select_rows(ptr: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Select compressed rows: their new row pointers (int32) and the indices of their entries."""
    first, count = ptr.long()[index], ptr.diff().long()[index]
    new = torch.zeros(len(index) + 1, dtype=torch.int64, device=ptr.device)
    new[1:] = count.cumsum(0)
    at = torch.repeat_interleave(first - new[:-1], count) + torch.arange(int(new[-1]), device=ptr.device)
    return new.int(), at
