"""Offsets of hands and face from where the body puts them, where the body is fixed.

What a body's track errs by at the wrist or the head must not be taken for fingers or an expression. An offset moves the
points of a part together, metres in camera axes, before they are compared with a picture or with measured points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.fit.residuals.base import BlockTerm, PointTerm
from bodyfit.fit.residuals.common.normal import NormalPrior
from bodyfit.fit.variables import Block

__all__ = ["FACE_OFFSET", "HAND_OFFSET", "FaceOffsetPrior", "HandOffsetPrior", "offset_term"]

HAND_OFFSET = Block("hand_offset", 6)
"""The left hand's offset, then the right hand's."""
FACE_OFFSET = Block("face_offset", 3)


def offset_term(
    p: Float[Tensor, "B P K 3"],
    offset: Float[Tensor, "B N"] | None,
    name: str,
    term: Callable[[Float[Tensor, "B P K 3"]], PointTerm],
) -> PointTerm:
    """Evaluate a term of P parts of the body, N = 3 P, that are moved by their offsets; without offsets as they are.

    The Hessian's approximation leaves out what couples offsets to the term's own blocks.
    """
    if offset is None:
        return term(p)
    found = term(p + offset.unflatten(1, (-1, 1, 3)))
    assert found.stiffness is not None
    force, stiffness = (value.unflatten(1, p.shape[1:3]) for value in (found.force, found.stiffness))
    own = torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
    hessian = stiffness.sum(2)[:, :, :, None] * own[:, None, :, None]  # (B, P, 3, P, 3)
    mixed = stiffness[..., None, :] * own[:, None, None, :, None]  # (B, P, K, 3, P, 3)
    block = BlockTerm(force.sum(2).flatten(1), hessian.flatten(3).flatten(1, 2), mixed.flatten(4).flatten(1, 2))
    return replace(found, blocks={**found.blocks, name: block})


class HandOffsetPrior(NormalPrior):
    """Squared offsets of hands, in standard deviations; metres."""

    name, group, blocks = "hand_offset", "pose", (HAND_OFFSET.name,)
    weight = 2.0
    deviation = 0.03


class FaceOffsetPrior(HandOffsetPrior):
    """Squared offsets of a face, in standard deviations."""

    name, blocks = "face_offset", (FACE_OFFSET.name,)
