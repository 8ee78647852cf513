"""Begin a training from a trained set of fields whose codes and bases are as long or shorter.

What is new begins without any effect, so that the first step draws what the set drew. The new numbers of codes are
principal components of what the old ones do not say of the people's colours at the anchors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bodyfit.fields.compositional.atlas import surface_atlas
from bodyfit.fields.compositional.body_field import AtlasField
from bodyfit.fields.compositional.field_set import FieldSet
from bodyfit.fields.compositional.network import FieldNetwork
from scripts.train.field_data import FieldPicture
from scripts.train.field_start import colors_at_anchors

__all__ = ["begin_with_fields"]

_SPREAD = 0.3
"""Standard deviation of the first new number of codes; the others are smaller as their components are."""


@torch.no_grad()
def begin_with_fields(
    network: FieldNetwork, appearances: Tensor, backgrounds: Tensor, start: FieldSet, pictures: Sequence[FieldPicture]
) -> None:
    """Copy a set into networks of the same kind and codes of the same people and backgrounds."""
    trained = start.network.state_dict()
    state = network.state_dict()
    old, new = start.network.config, network.config
    state |= {name: _padded(trained[name], value) for name, value in state.items()}
    if isinstance(network.body, AtlasField):
        straight = state["body.straight.weight"]
        straight[old.basis :, : old.code_size] = 0.1 * torch.randn_like(straight[old.basis :, : old.code_size])
        corner = straight[old.basis :, old.code_size :]
        corner.copy_(torch.eye(*corner.shape))
    network.load_state_dict(state)
    appearances.zero_()
    appearances[:, : old.code_size] = start.appearances.to(appearances)
    backgrounds.copy_(start.backgrounds)
    more = new.code_size - old.code_size
    if more > 0:
        colors = colors_at_anchors(pictures, len(appearances), surface_atlas(new.anchors, new.coarse))
        appearances[:, old.code_size :] = _left_over(colors, start.appearances.cpu(), more).to(appearances)


def _padded(value: Tensor, like: Tensor) -> Tensor:
    """A tensor in the corner of zeros of another's shape."""
    out = torch.zeros_like(like)
    out[tuple(slice(0, n) for n in value.shape)] = value.to(out)
    return out


def _left_over(colors: np.ndarray, codes: Tensor, count: int) -> Tensor:
    """Principal components over the people of colours, less what is linear in their codes."""
    flat = (colors - colors.mean(0)).reshape(len(colors), -1)
    known = np.c_[np.ones(len(codes)), codes.numpy()].astype(np.float64)
    left, sizes, _ = np.linalg.svd(flat - known @ np.linalg.lstsq(known, flat, rcond=None)[0], full_matrices=False)
    count = min(count, len(sizes))
    out = np.zeros((len(codes), count))
    out[:] = left[:, :count] * np.sqrt(len(codes)) * _SPREAD * np.sqrt(sizes[:count] / sizes[0])
    return torch.from_numpy(out)
