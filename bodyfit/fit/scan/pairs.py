"""Pairs of points of the skin and of a scan or a depth map, as the residual of scans reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["BodyPairs", "ScanPairs"]


@dataclass(frozen=True)
class ScanPairs:
    """Points on the skin and their partners in a scan, of one body."""

    corners: Int[Tensor, "P 3"]
    """Vertices of the skin that each point is a mean of."""
    barycentric: Float[Tensor, "P 3"]
    """Their weights."""
    target_m: Float[Tensor, "P 3"]
    """Partners in the scan."""
    direction: Float[Tensor, "P 3"]
    """Unit directions of the distances."""
    weight: Float[Tensor, "P"]
    """Weights of the squared residuals."""
    sigma_cm: float
    """Scale of the robustifier."""
    slack: float = 1.0
    """Factor of the cost of skin inside the scan; 1 for skin that was scanned bare."""
    lenient: Bool[Tensor, "P"] | None = None
    """Rows that `slack` applies to; None for all."""

    @classmethod
    def cat(cls, parts: list[ScanPairs]) -> ScanPairs:
        """Concatenate pairs; the scales are the first's. `lenient` is filled in where it is missing."""
        first = parts[0]
        lenient = [p.lenient if p.lenient is not None else torch.ones_like(p.weight, dtype=torch.bool) for p in parts]
        return cls(
            torch.cat([part.corners for part in parts]),
            torch.cat([part.barycentric for part in parts]),
            torch.cat([part.target_m for part in parts]),
            torch.cat([part.direction for part in parts]),
            torch.cat([part.weight for part in parts]),
            first.sigma_cm,
            first.slack,
            torch.cat(lenient),
        )

    def __len__(self) -> int:
        return len(self.corners)


@dataclass(frozen=True)
class BodyPairs:
    """Pairs of each of B bodies."""

    of: tuple[ScanPairs | None, ...]
    """None for bodies without any."""

    def __len__(self) -> int:
        return len(self.of)

    def select(self, index: Tensor) -> BodyPairs:
        """Select bodies by index or mask."""
        return BodyPairs(tuple(self.of[row] for row in torch.arange(len(self.of))[index.cpu()].tolist()))

    @classmethod
    def cat(cls, parts: Sequence[BodyPairs]) -> BodyPairs:
        """Concatenate the pairs of several groups of bodies."""
        return cls(tuple(pairs for part in parts for pairs in part.of))

    def replace_rows(self, rows: Int[Tensor, "N"], others: BodyPairs) -> BodyPairs:
        """Replace the pairs of some bodies by those of `others`, in a new record."""
        found = list(self.of)
        for row, pairs in zip(rows.tolist(), others.of, strict=True):
            found[row] = pairs
        return BodyPairs(tuple(found))
