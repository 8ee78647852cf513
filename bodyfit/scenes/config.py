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
    transparent: bool = False
    """Leave the background out: pictures are RGBA. Light is still that of a background."""
    things: float | int = 0.4
    """Part of the scenes that have tables, boxes and balls on the floor, and of the people who hold something."""
    distortion: bool = False
    """Bend pictures and all labels as lenses of phones and wide lenses do."""
    fields: bool = False
    """Draw people and backgrounds by compositional feature fields in place of clothes; labels are masks and depth."""

    def __post_init__(self) -> None:
        low, high = self.people
        if not 1 <= low <= high <= MOST_PEOPLE:
            raise OptionError(f"people must be 1 to {MOST_PEOPLE}, least first, got {low}:{high}")
        if self.fields and (self.backgrounds is not None or self.transparent or self.distortion):
            raise OptionError("fields draw backgrounds of their own, undistorted: leave the others out, or fields")
        if not 32 <= self.size <= 4096:
            raise OptionError(f"size must lie in 32 to 4096 pixels, got {self.size}")
        if not 0 <= self.things <= 1:
            raise OptionError(f"things is a part of the scenes, 0 to 1, got {self.things:g}")
