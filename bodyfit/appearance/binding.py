"""Bind a piece to a body model: the arrays by which the model's own skinning kernel poses it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.appearance.catalogue import PieceArrays, piece_arrays
from bodyfit.body.families.open import is_open, merge_weights
from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.body.kernels.arrays import MeshArrays
from bodyfit.body.model import BodyModel
from bodyfit.body.record import GENDERS
from bodyfit.errors import OptionError

__all__ = ["anchored_blocks", "bound_piece", "check_model", "joint_names"]

_LEAST_SHARE = 1e-3
"""Anchors of smaller shares are left out."""
_BOUND: WeakKeyDictionary[BodyModel, dict[str, MeshArrays]] = WeakKeyDictionary()


def check_model(model: BodyModel) -> None:
    """Raise `OptionError` for a model that the pieces do not fit."""
    if not is_open(model):
        raise OptionError(
            f"clothes fit the open bodies (open, open-h, open-x), not {model.name}: its mesh and betas are others; "
            "fit with model='open-x', or leave clothes out"
        )


def bound_piece(model: BodyModel, name: str) -> MeshArrays:
    """Return the arrays of a piece for a model: its own template, shapes and weights, the body's joints.

    Cached for each model; a model moved to another device or type is bound anew.
    """
    bound = _BOUND.setdefault(model, {})
    key = f"{name} {model.dtype} {model.device}"
    if key not in bound:
        bound[key] = _bind(model, piece_arrays(name))
    return bound[key]


@lru_cache(maxsize=1)
def joint_names() -> list[str]:
    """Return the names of the largest layout's joints, in the order of the pieces' weights."""
    return [str(name) for name in read_archive(asset_path("body", "open.npz"))["joint_names"]]


def _bind(model: BodyModel, piece: PieceArrays) -> MeshArrays:
    row = GENDERS.index(model.gender)
    like, body = model.v_template, model.mesh_arrays
    shares, anchors = torch.as_tensor(piece.anchor_shares).to(like), torch.as_tensor(piece.anchors, device=like.device)
    shapes = np.zeros((piece.template.shape[1], 3, model.num_betas))
    columns = min(model.num_betas, piece.shapedirs.shape[-1])
    shapes[..., :columns] = piece.shapedirs[row, ..., :columns]
    directions = torch.as_tensor(shapes).to(like)
    if model.num_expression_coeffs:
        of_body = model.shapedirs[model.num_betas :].unflatten(1, (-1, 3))
        expression = torch.einsum("pk,spki->pis", shares, of_body[:, anchors])
        directions = torch.cat([directions, expression], -1)
    arrays = MeshArrays.of(
        v_template=torch.as_tensor(piece.template[row]).to(like),
        shapedirs=directions,
        joints_template=body.joints_template,
        joints_shapedirs=body.joints_shapedirs,
        parents=body.parents,
        weights=torch.as_tensor(merge_weights(piece.weights, joint_names(), model.kind)).to(like),
        posedirs=None if body.posedirs is None else _pose_shapes(body.posedirs, anchors, shares),
    )
    if body.block is None or body.block_ptr is None or body.block_joint is None:
        return arrays
    of_body = body.block_ptr.cpu().numpy(), body.block_joint.cpu().numpy(), body.block.cpu().numpy()
    owner, joint, block = anchored_blocks(*of_body, piece)
    ptr = np.r_[0, np.bincount(owner, minlength=len(piece.anchors)).cumsum()].astype(np.int32)
    return replace(
        arrays,
        block_ptr=torch.from_numpy(ptr).to(like.device),
        block_joint=torch.from_numpy(joint.astype(np.int32)).to(like.device),
        block=torch.from_numpy(block).to(like),
    )


def anchored_blocks(
    ptr: Int[np.ndarray, "V1"], joints: Int[np.ndarray, "M"], blocks: Float[np.ndarray, "M 3 9"], piece: PieceArrays
) -> tuple[Int[np.ndarray, "B"], Int[np.ndarray, "B"], Float[np.ndarray, "B 3 9"]]:
    """Mix the pose blend shapes of a piece's anchors by their shares: vertex, joint and matrix, in order of vertices.

    ptr: vertex v of the body has the blocks ptr[v] to ptr[v + 1] - 1, of `joints`.
    """
    owner, corner = np.nonzero(piece.anchor_shares > _LEAST_SHARE)
    anchor = piece.anchors[owner, corner]
    first, count = ptr[anchor].astype(np.int64), np.diff(ptr)[anchor]
    row = np.repeat(np.arange(len(owner)), count)
    at = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + first[row]
    key = owner[row] * (int(joints.max(initial=0)) + 1) + joints[at]
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    parts = piece.anchor_shares[owner, corner].astype(blocks.dtype)[row, None, None] * blocks[at]
    mixed = np.add.reduceat(parts[order], starts) if len(starts) else parts
    chosen = order[starts]
    return owner[row[chosen]], joints[at[chosen]], mixed


def _pose_shapes(posedirs: Float[Tensor, "F V3"], anchors: Tensor, shares: Tensor) -> Float[Tensor, "P 3 F"]:
    """The anchors' pose blend shapes, weighted by their shares."""
    return torch.einsum("pk,fpki->pif", shares, posedirs.unflatten(1, (-1, 3))[:, anchors])
