"""What random scenes hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bodyfit.errors import OptionError

__all__ = ["LABELS", "MORE_LABELS", "MOST_PEOPLE", "SceneConfig"]

LABELS = ("masks", "garments", "parts", "depth", "normals")
"""Maps that are written beside keypoints, boxes, parameters and cameras, which always are."""
MORE_LABELS = ("depth_npy",)
"""Maps that are written on request."""
MOST_PEOPLE = 12


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What the scenes of one set have in common; scene i of a seed depends on these, the seed and i alone."""

    people: tuple[int, int] = (1, 1)
    """Least and greatest number of people."""
    size: int = 512
    """Width and height of the pictures, pixels."""
    model: str = "open-x"
    """Which of the open bodies."""
    backgrounds: Path | None = None
    """A folder of photographs that people are put in; None draws rooms and open ground."""

    def __post_init__(self) -> None:
        low, high = self.people
        if not 1 <= low <= high <= MOST_PEOPLE:
            raise OptionError(f"people must be 1 to {MOST_PEOPLE}, least first, got {low}:{high}")
        if not 32 <= self.size <= 4096:
            raise OptionError(f"size must lie in 32 to 4096 pixels, got {self.size}")
