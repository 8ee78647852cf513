"""One body model of a body and its outfit: every piece on the body's own joints, for files with a skeleton."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8

from bodyfit.appearance.binding import anchored_blocks, check_model, joint_names
from bodyfit.appearance.catalogue import PieceArrays, piece_arrays
from bodyfit.appearance.dress import below_hat, covered, outfit_texture
from bodyfit.appearance.outfit import Outfit
from bodyfit.body.assets import load_assets
from bodyfit.body.families.open import merge_weights
from bodyfit.body.model import BodyModel
from bodyfit.body.record import GENDERS, BodyAssets, PoseBlocks
from bodyfit.errors import OptionError

__all__ = ["DressedModel", "Part", "dressed_model"]


@dataclass(frozen=True, eq=False)
class Part:
    """One surface of a dressed model."""

    name: str
    """In the catalogue."""
    kind: str
    """As in `Surface`."""
    faces: slice
    """Rows of the model's faces."""
    texture: UInt8[np.ndarray, "H W C"]
    """RGB or RGBA."""


@dataclass(frozen=True, eq=False)
class DressedModel:
    """A body model whose mesh is the visible skin and all pieces."""

    model: BodyModel
    """Takes the same parameters as the body; its first vertices are the body's."""
    parts: tuple[Part, ...]
    """The skin, then the pieces."""


def dressed_model(model: BodyModel, outfit: Outfit) -> DressedModel:
    """Make the model of a body with its clothes on, with the body's joints, hands and number of betas.

    What `dress` lays on the posed body, hems and long hair, follows the joints alone here. Raises `OptionError`.
    """
    check_model(model)
    body = load_assets(model.name, gender=model.gender)
    if body.uv is None or body.uv_faces is None:
        raise OptionError(f"{model.name} has no texture coordinates; load the open body by its name")
    names = [("eyes", "eyes"), *outfit.pieces()]
    pieces = [piece_arrays(name) for _, name in names]
    visible = ~covered(outfit)[body.faces].all(1)
    faces, uv_faces, parts = [body.faces[visible]], [body.uv_faces[visible]], []
    parts.append(Part(outfit.skin, "skin", slice(0, len(faces[0])), outfit_texture("skin", outfit.skin, outfit)))
    vertex, row, start = len(body.v_template), len(body.uv), len(faces[0])
    for (kind, name), piece in zip(names, pieces, strict=True):
        visible_faces = slice(None) if kind != "hair" or outfit.hat is None else below_hat(name, outfit.hat)
        faces.append(piece.faces[visible_faces] + vertex)
        uv_faces.append(piece.uv_faces[visible_faces] + row)
        stop = start + len(faces[-1])
        parts.append(Part(name, kind, slice(start, stop), outfit_texture(kind, name, outfit)))
        vertex, row, start = vertex + len(piece.weights), row + len(piece.uv), stop
    assets = replace(
        _joined(body, pieces),
        faces=np.concatenate(faces),
        uv=np.concatenate([body.uv, *(piece.uv for piece in pieces)]),
        uv_faces=np.concatenate(uv_faces),
    )
    combined = BodyModel(
        assets,
        num_betas=model.num_betas,
        num_expression_coeffs=model.num_expression_coeffs,
        num_pca_comps=model.num_pca_comps,
        dtype=model.dtype,
    )
    combined.hand_means.copy_(model.hand_means)
    combined.hand_components.copy_(model.hand_components)
    return DressedModel(combined.to(model.device), tuple(parts))


def _joined(body: BodyAssets, pieces: list[PieceArrays]) -> BodyAssets:
    """The body's arrays with the pieces' vertices behind its own; joints and keypoints stay the body's."""
    gender, extra = GENDERS.index(body.gender), sum(len(piece.weights) for piece in pieces)
    shapes, expressions = [body.shapedirs], [body.exprdirs]
    for piece in pieces:
        own = np.zeros((len(piece.weights), 3, body.shapedirs.shape[-1]))
        columns = min(own.shape[-1], piece.shapedirs.shape[-1])
        own[..., :columns] = piece.shapedirs[gender, ..., :columns]
        shapes.append(own)
        if body.exprdirs is not None:
            expressions.append(np.einsum("pk,pkis->pis", piece.anchor_shares, body.exprdirs[piece.anchors]))
    joints = joint_names()
    if isinstance(body.posedirs, PoseBlocks):
        posedirs = _joined_blocks(body.posedirs, len(body.v_template), pieces)
    elif body.posedirs is not None:
        own = [np.einsum("pk,pkif->pif", p.anchor_shares, body.posedirs[p.anchors]) for p in pieces]
        posedirs = np.concatenate([body.posedirs, *own])
    else:
        posedirs = None
    return replace(
        body,
        v_template=np.concatenate([body.v_template, *(piece.template[gender] for piece in pieces)]),
        shapedirs=np.concatenate(shapes),
        exprdirs=None if body.exprdirs is None else np.concatenate([e for e in expressions if e is not None]),
        posedirs=posedirs,
        J_regressor=np.pad(body.J_regressor, ((0, 0), (0, extra))),
        weights=np.concatenate([body.weights, *(merge_weights(piece.weights, joints, body.kind) for piece in pieces)]),
        keypoints={name: np.pad(row, (0, extra)) for name, row in body.keypoints.items()},
    )


def _joined_blocks(blocks: PoseBlocks, vertices: int, pieces: list[PieceArrays]) -> PoseBlocks:
    """The body's pose blend shapes and those that the pieces take from their anchors."""
    ptr = np.r_[0, np.bincount(blocks.vertex, minlength=vertices).cumsum()]
    vertex, joint, block = [blocks.vertex], [blocks.joint], [blocks.block]
    start = vertices
    for piece in pieces:
        owner, own_joint, own = anchored_blocks(ptr, blocks.joint, blocks.block, piece)
        vertex.append(owner + start)
        joint.append(own_joint)
        block.append(own)
        start += len(piece.weights)
    return PoseBlocks(np.concatenate(vertex), np.concatenate(joint), np.concatenate(block))
