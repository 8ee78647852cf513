"""What training compares: colours, their gradients at several scales, and masks."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from bodyfit.fields.compositional.network import Rendering

__all__ = ["picture_loss"]

_FAR = 0.3
"""Weight of pixels away from people."""
_NEAR_PX = 8
_SQUARES, _GRADIENTS, _MASK = 5.0, 0.5, 0.3
_SCALES = 3


def picture_loss(drawn: Rendering, truth: Float[Tensor, "P 3 H W"], alpha: Float[Tensor, "P H W"]) -> Float[Tensor, ""]:
    """Compare drawn pictures with true ones (sRGB in 0 to 1) and the people's alpha.

    Twice the mean absolute difference and five times the mean square, those away from people counted less; half the
    mean absolute difference of horizontal and vertical differences at three scales; and 0.3 of the mask's at the size
    of the feature image.
    """
    near = alpha[:, None]
    for along in ((1, 0), (0, 1)):
        size = (2 * _NEAR_PX * along[0] + 1, 2 * _NEAR_PX * along[1] + 1)
        near = functional.max_pool2d(near, size, stride=1, padding=(_NEAR_PX * along[0], _NEAR_PX * along[1]))
    weight = _FAR + (1 - _FAR) * near
    off = drawn.pictures - truth
    loss = (weight * (2 * off.abs() + _SQUARES * off.square())).mean()
    a, b, w = drawn.pictures, truth, weight
    for scale in range(_SCALES):
        if scale > 0:
            a, b, w = (functional.avg_pool2d(x, 2) for x in (a, b, w))
        for dim in (2, 3):
            loss = loss + _GRADIENTS / _SCALES * (w.narrow(dim, 1, w.shape[dim] - 1) * (_step(a - b, dim))).mean()
    _, height, width = drawn.alpha.shape
    small = functional.adaptive_avg_pool2d(alpha[:, None], (height, width))[:, 0]
    return loss + _MASK * (drawn.alpha - small).abs().mean()


def _step(x: Float[Tensor, "P 3 H W"], dim: int) -> Tensor:
    """Absolute differences of neighbours."""
    n = x.shape[dim] - 1
    return (x.narrow(dim, 1, n) - x.narrow(dim, 0, n)).abs()
