"""2D keypoints of one person, as a detector reports them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bodyfit.errors import OptionError, check_shape
from bodyfit.skeleton import LAYOUTS

__all__ = ["Keypoints2D"]


@dataclass(frozen=True)
class Keypoints2D:
    """One person's keypoints in one picture."""

    layout: str
    """Name of the keypoint layout, see `skeleton.LAYOUTS`."""
    xyc: Float[np.ndarray, "K 3"]
    """x px, y px (pixel centres at +0.5) and confidence in [0, 1]; 0 means missing."""
    lift_m: Float[np.ndarray, "K 3"] | None = None
    """A 3D lift, metres about any origin, in the axes of a camera that looks straight at `lift_centre_px`
    (x right, y down, z away); NaN where unknown."""
    lift_centre_px: tuple[float, float] | None = None
    """The pixel that the lift's camera looks at; None for the picture's own camera."""
    score: float = 1.0
    """How sure the detector is of the person, in [0, 1]."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise OptionError(f"layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        k = len(LAYOUTS[self.layout])
        check_shape("xyc", self.xyc, (k, 3), hint=f"layout {self.layout} has {k} keypoints of x, y, confidence")
        if self.lift_m is not None:
            check_shape("lift_m", self.lift_m, (k, 3))

    def box_px(self, min_confidence: float = 0.3) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 about the confident keypoints (about all of them where none is)."""
        keep = self.xyc[:, 2] >= min_confidence
        xy = self.xyc[keep if keep.any() else slice(None), :2]
        (x0, y0), (x1, y1) = xy.min(0), xy.max(0)
        return float(x0), float(y0), float(x1), float(y1)
