"""The eight ways in which a stored picture may have to be turned or mirrored to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

__all__ = ["UPRIGHT", "Orientation"]


@dataclass(frozen=True)
class Orientation:
    """From the stored picture to the one that is shown: first rows and columns change places, then it is mirrored."""

    transposed: bool = False
    """Whether the first axis becomes the second."""
    mirrored_x: bool = False
    """Whether left and right then change places."""
    mirrored_y: bool = False
    """Whether top and bottom then change places."""

    @classmethod
    def from_matrix(cls, matrix: Sequence[int]) -> Orientation:
        """The nearest to a display matrix of nine 16.16 numbers a b u c d v x y w (ISO/IEC 14496-12, 6.2.2).

        A stored point (x, y), y down, is shown at (a x + c y, b x + d y), up to a shift. A matrix of zeros, which some
        programs write, is none.
        """
        a, b, _, c, d = matrix[:5]
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as shown."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The picture as shown, contiguous."""
        shown = picture.swapaxes(0, 1) if self.transposed else picture
        step_y, step_x = (-1 if mirrored else 1 for mirrored in (self.mirrored_y, self.mirrored_x))
        return np.ascontiguousarray(shown[::step_y, ::step_x])


UPRIGHT = Orientation()
"""As stored."""
