"""Pairs of points of a body's contour and of a mask's edge, as the residual of silhouettes reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["ContourPairs"]


@dataclass(frozen=True)
class ContourPairs:
    """M pairs of each of B people; those of weight 0 are padding."""

    vertices: Int[Tensor, "B M"]
    """The vertex on the body's rim."""
    view: Int[Tensor, "B M"]
    """The camera that sees it."""
    target: Float[Tensor, "B M 2"]
    """Where the mask's edge is, normalised image coordinates."""
    normal: Float[Tensor, "B M 2"]
    """Unit direction in the picture along which their distance counts, out of the body."""
    weight: Float[Tensor, "B M"]
    """Confidence, squared in the cost: 1 for ten centimetres of contour, less where a pixel is a centimetre or more."""
    scale_cm: Float[Tensor, "B M"]
    """Centimetres at the person for one unit of normalised coordinates."""
    slack_cm: Float[Tensor, "B M"]
    """How far the body may lie inside of the mask at no cost."""
    sigma_cm: float
    """Scale of the robustifier."""

    def __len__(self) -> int:
        return len(self.vertices)

    def select(self, index: Tensor) -> ContourPairs:
        """Select people by index or mask."""
        return ContourPairs(**{f.name: _of(getattr(self, f.name), index) for f in fields(self)})

    @classmethod
    def cat(cls, parts: Sequence[ContourPairs]) -> ContourPairs:
        """Concatenate the pairs of several groups of people, padded to the longest."""
        most = max(part.vertices.shape[1] for part in parts)
        values: dict[str, Any] = {"sigma_cm": parts[0].sigma_cm}
        for name in (f.name for f in fields(cls) if f.name != "sigma_cm"):
            values[name] = torch.cat([_padded(getattr(part, name), most) for part in parts])
        return cls(**values)


def _of(value: Any, index: Tensor) -> Any:
    return value[index] if isinstance(value, Tensor) else value


def _padded(value: Tensor, count: int) -> Tensor:
    out = value.new_zeros(len(value), count, *value.shape[2:])
    out[:, : value.shape[1]] = value
    return out
