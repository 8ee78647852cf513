"""PSNR and SSIM of drawn pictures about people."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

__all__ = ["box_scores", "psnr", "ssim_map"]

_AROUND_PX = 4
_SIGMA_PX = 1.5


def psnr(difference: Float[np.ndarray, "..."]) -> float:
    """Peak signal to noise ratio of differences of values in 0 to 1, dB; 99 where there is none."""
    error = float(np.square(difference).mean())
    return 99.0 if error < 1e-10 else -10 * float(np.log10(error))


def ssim_map(a: Float[np.ndarray, "H W 3"], b: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """Structural similarity of each pixel with Gaussian windows of 1.5 px (Wang et al. 2004)."""

    def blur(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (11, 11), _SIGMA_PX)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    return (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def box_scores(
    drawn: UInt8[np.ndarray, "H W 3"], truth: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"]
) -> tuple[float, float]:
    """PSNR (dB) and SSIM in the box of a mask and 4 px about it; NaN for an empty mask."""
    if not mask.any():
        return float("nan"), float("nan")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = tuple(slice(max(0, int(x[0]) - _AROUND_PX), int(x[-1]) + 1 + _AROUND_PX) for x in (rows, columns))
    a, b = (x.astype(np.float64) / 255 for x in (drawn, truth))
    return psnr((a - b)[box]), float(ssim_map(a, b)[box].mean())
