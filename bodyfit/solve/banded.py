"""Solve symmetric positive definite block-banded systems with an arrow: chains of variables, with some shared by all.

    [ D_0  B'        |  C_0 ]
    [ B    D_1  B'   |  C_1 ]
    [      B    D_2  |  C_2 ]
    [ C_0' C_1' C_2' |  K   ]

D_t couples a link of the chain with itself, the k-th band B_k[t] couples link t + k with link t, C_t couples link t
with the variables that all links share, and K couples these with themselves. Bands are block-diagonal: a group of
variables of a link is coupled to the same group of another link only.

Solved exactly by LAPACK's band Cholesky factorisation, with the shared variables last, so that time and memory are
linear in the number of links. Fill-in stays inside the band, which for small groups is two thirds as wide as full
blocks would make it. On the CPU whatever the device of A, for a sequential factorisation leaves a GPU idle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import get_lapack_funcs
from torch import Tensor

__all__ = ["BandedArrow", "solve_banded_arrow"]

_pbtrf, _tbtrs, _potrf, _potrs = get_lapack_funcs(("pbtrf", "tbtrs", "potrf", "potrs"), dtype=np.float64)


@dataclass(frozen=True)
class BandedArrow:
    """The symmetric matrix above, stored by its lower triangle."""

    diagonal: Float[Tensor, "T N N"]
    """D_t, the diagonal blocks."""
    bands: tuple[Float[Tensor, "_ G E E"], ...]
    """bands[k - 1][t] couples the first G E variables of link t + k (rows) with those of link t (columns): G diagonal
    blocks, for max(T - k, 0) links."""
    border: Float[Tensor, "T N M"]
    """C_t, the couplings with the M shared variables; M may be 0."""
    corner: Float[Tensor, "M M"]
    """K, the block of the shared variables."""

    def __matmul__(self, v: tuple[Float[Tensor, "T N"], Float[Tensor, "M"]]) -> tuple[Tensor, Tensor]:
        """Multiply by a vector, as a pair (links, shared variables)."""
        x, z = v
        out = (self.diagonal @ x[..., None])[..., 0] + self.border @ z
        for k, band in enumerate(self.bands, 1):
            if len(band):
                coupled = slice(band.shape[1] * band.shape[2])
                parts = x[:, coupled].unflatten(1, band.shape[1:3])[..., None]
                out[k:, coupled] += (band @ parts[:-k]).flatten(1)
                out[:-k, coupled] += (band.mT @ parts[k:]).flatten(1)
        return out, torch.einsum("tnm,tn->m", self.border, x) + self.corner @ z

    def dense(self) -> Float[Tensor, "D D"]:
        """Return the dense matrix, for tests."""
        n_t, n, m = self.border.shape
        out = self.corner.new_zeros(n_t * n + m, n_t * n + m)
        blocks = out[: n_t * n, : n_t * n].view(n_t, n, n_t, n)
        for t in range(n_t):
            blocks[t, :, t] = self.diagonal[t]
            for k, band in enumerate(self.bands, 1):
                if t + k < n_t:
                    coupling, coupled = torch.block_diag(*band[t]), slice(band.shape[1] * band.shape[2])
                    blocks[t + k, coupled, t, coupled], blocks[t, coupled, t + k, coupled] = coupling, coupling.T
        side = self.border.flatten(0, 1)
        out[: n_t * n, n_t * n :], out[n_t * n :, : n_t * n] = side, side.T
        out[n_t * n :, n_t * n :] = self.corner
        return out

    def lower_band(self) -> Float[np.ndarray, "W D"]:
        """Return the matrix without the arrow in LAPACK's band storage, float64: (i, j), i >= j, at [i - j, j]."""
        n_t, n, _ = self.border.shape
        couplings = [(k, band) for k, band in enumerate(self.bands, 1) if len(band)]
        width = max([n, *(k * n + band.shape[2] for k, band in couplings)])
        out = np.zeros((n_t, n, width))
        diagonal = self.diagonal.cpu().numpy()
        for j in range(n):
            out[:, j, : n - j] = diagonal[:, j, j:]
        for k, band in couplings:
            entries, size = band.cpu().numpy(), band.shape[2]
            for row in range(size):
                for column in range(size):
                    out[:-k, column : size * band.shape[1] : size, k * n + row - column] += entries[:, :, row, column]
        return out.reshape(n_t * n, width).T


def solve_banded_arrow(
    A: BandedArrow, b: Float[Tensor, "T N"], c: Float[Tensor, "M"]
) -> tuple[Float[Tensor, "T N"], Float[Tensor, "M"]] | None:
    """Solve A (x, z) = (b, c) in float64; None where A is not positive definite."""
    n_t, n, m = A.border.shape
    if n_t * n == 0:
        factor, info = _potrf(_double(A.corner), lower=1)
        return None if info else (b, _like(_potrs(factor, _double(c), lower=1)[0], c))
    factor, info = _pbtrf(A.lower_band(), lower=1, overwrite_ab=1)
    if info:
        return None
    sides = np.empty((n_t * n, m + 1), order="F")
    sides[:, :m], sides[:, m] = _double(A.border).reshape(n_t * n, m), _double(b).ravel()
    half_solved, _ = _tbtrs(factor, sides, uplo="L", overwrite_b=1)
    arrow, y = half_solved[:, :m], half_solved[:, m]
    z = np.zeros(0)
    if m:
        corner, info = _potrf(_double(A.corner) - arrow.T @ arrow, lower=1)
        if info:
            return None
        z, _ = _potrs(corner, _double(c) - arrow.T @ y, lower=1)
    x, _ = _tbtrs(factor, y - arrow @ z, uplo="L", trans="T")
    return _like(x.reshape(n_t, n), b), _like(z, c)


def _double(value: Tensor) -> np.ndarray:
    """Return a float64 array."""
    return value.cpu().double().numpy()


def _like(value: np.ndarray, like: Tensor) -> Tensor:
    """Return a tensor of the shape, dtype and device of `like`."""
    return torch.from_numpy(value.reshape(like.shape)).to(like)
