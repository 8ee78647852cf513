"""Compare pictures by value, PSNR and SSIM, and masks by intersection over union."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from bodyfit.errors import OptionError, check_shape

__all__ = ["box_of", "mask_iou", "psnr_db", "ssim"]

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def psnr_db(picture: UInt8[np.ndarray, "H W 3"], truth: UInt8[np.ndarray, "H W 3"]) -> float:
    """Compute the peak signal-to-noise ratio, dB; infinite for equal pictures."""
    check_shape("picture", picture, truth.shape, hint="as large as the truth")
    error = (picture.astype(np.float64) - truth.astype(np.float64)) / 255
    mean = float(np.mean(error**2))
    return float("inf") if mean == 0 else -10 * float(np.log10(mean))


def ssim(picture: UInt8[np.ndarray, "H W 3"], truth: UInt8[np.ndarray, "H W 3"]) -> float:
    """Compute the structural similarity (Wang et al. 2004), the mean over channels; Gaussian window of 1.5 pixels.

    Windows are those that lie within the picture. Raises `OptionError` for pictures of less than 11 pixels a side.
    """
    check_shape("picture", picture, truth.shape, hint="as large as the truth")
    if min(truth.shape[:2]) < _WINDOW:
        raise OptionError(f"pictures of {truth.shape[1]}x{truth.shape[0]} are too small for a window of {_WINDOW}")
    a, b = picture.astype(np.float64) / 255, truth.astype(np.float64) / 255
    mean_a, mean_b = _local(a), _local(b)
    var_a, var_b = _local(a * a) - mean_a**2, _local(b * b) - mean_b**2
    both = _local(a * b) - mean_a * mean_b
    alike = (2 * mean_a * mean_b + _C1) * (2 * both + _C2)
    apart = (mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2)
    edge = _WINDOW // 2
    return float((alike / apart)[edge:-edge, edge:-edge].mean())


def mask_iou(one: Bool[np.ndarray, "H W"], other: Bool[np.ndarray, "H W"]) -> float:
    """Compute the intersection over union of two masks; 0 for empty ones."""
    return float((one & other).sum() / max(int((one | other).sum()), 1))


def box_of(mask: Bool[np.ndarray, "H W"]) -> tuple[slice, slice]:
    """Return rows and columns of the smallest box that holds a mask. Raises `OptionError` for an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        raise OptionError("the mask is empty: nobody is in it")
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _local(values: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    return np.asarray(cv2.GaussianBlur(values, (_WINDOW, _WINDOW), _SIGMA))
