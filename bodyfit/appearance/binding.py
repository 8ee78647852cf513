"""Bind a piece to a body model: the arrays by which the model's own skinning kernel poses it."""

from __future__ import annotations

from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from bodyfit.appearance.catalogue import PieceArrays, piece_arrays
from bodyfit.body.families.open import is_open, merge_weights
from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.body.kernels.arrays import MeshArrays
from bodyfit.body.model import BodyModel
from bodyfit.body.record import GENDERS
from bodyfit.errors import OptionError

__all__ = ["bound_piece", "check_model", "joint_names"]

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
        posedirs=_pose_shapes(body, anchors, shares),
    )
    return arrays


def _pose_shapes(body: MeshArrays, anchors: Tensor, shares: Tensor) -> Tensor | None:
    """The anchors' pose blend shapes (P, 3, 9 (J - 1)), weighted by their shares; None where the body has none."""
    if body.block is not None and body.block_ptr is not None and body.block_joint is not None:
        used, inverse = anchors.unique(return_inverse=True)
        first, count = body.block_ptr.long()[used], body.block_ptr.diff().long()[used]
        row = torch.repeat_interleave(torch.arange(len(used), device=used.device), count)
        start = torch.repeat_interleave(first - (count.cumsum(0) - count), count)
        at = start + torch.arange(len(row), device=used.device)
        dense = shares.new_zeros(len(used), len(body.parents) - 1, 3, 9)
        dense[row, body.block_joint[at].long() - 1] = body.block[at]
        mixed = torch.stack([(shares[:, k, None, None, None] * dense[inverse[:, k]]) for k in range(3)]).sum(0)
        return mixed.transpose(1, 2).flatten(2)
    if body.posedirs is not None:
        of_body = body.posedirs.unflatten(1, (-1, 3))
        return torch.einsum("pk,fpki->pif", shares, of_body[:, anchors])
    return None
