"""Apply the eight orientations, rotations and reflections, by which stored pictures are displayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

__all__ = ["UPRIGHT", "Orientation"]


@dataclass(frozen=True)
class Orientation:
    """The transform from a stored picture to the displayed one: an optional transposition, then reflections."""

    transposed: bool = False
    """Swap rows and columns."""
    mirrored_x: bool = False
    """Then swap left and right."""
    mirrored_y: bool = False
    """Then swap top and bottom."""

    @classmethod
    def from_matrix(cls, matrix: Sequence[int]) -> Orientation:
        """Find the orientation nearest to a display matrix of nine 16.16 numbers a b u c d v x y w.

        ISO/IEC 14496-12, 6.2.2: a stored point (x, y), y down, is displayed at (a x + c y, b x + d y), up to a shift. A
        matrix of zeros, which some programs write, is the identity.
        """
        a, b, _, c, d = matrix[:5]
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the displayed width and height."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Return the displayed picture, contiguous."""
        oriented = picture.swapaxes(0, 1) if self.transposed else picture
        step_y, step_x = (-1 if mirrored else 1 for mirrored in (self.mirrored_y, self.mirrored_x))
        return np.ascontiguousarray(oriented[::step_y, ::step_x])


UPRIGHT = Orientation()
"""The identity."""
