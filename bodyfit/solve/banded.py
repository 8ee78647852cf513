"""Symmetric positive definite systems that are block-banded with an arrow: chains of variables that share a few.

    [ D_0  B'        |  C_0 ]
    [ B    D_1  B'   |  C_1 ]
    [      B    D_2  |  C_2 ]
    [ C_0' C_1' C_2' |  K   ]

D_t couples a link of the chain with itself, the k-th band B_k[t] link t + k with link t, C_t link t with the variables
that all links share, K these with themselves.

Factored link by link (block Cholesky, the shared variables last), so that time and memory are linear in the links and
nothing is left out: the answer is that of the dense matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["BandedArrow", "solve_banded_arrow"]


@dataclass(frozen=True)
class BandedArrow:
    """A matrix as above; what lies above the diagonal is implied."""

    diagonal: Float[Tensor, "T N N"]
    """D_t."""
    bands: tuple[Float[Tensor, "_ N N"], ...]
    """bands[k - 1][t] couples link t + k (rows) with link t (columns); it has max(T - k, 0) blocks."""
    border: Float[Tensor, "T N M"]
    """C_t; M may be 0."""
    corner: Float[Tensor, "M M"]
    """K."""

    def __matmul__(self, v: tuple[Float[Tensor, "T N"], Float[Tensor, "M"]]) -> tuple[Tensor, Tensor]:
        """The matrix times a vector, both as (of the links, of what they share)."""
        x, z = v
        out = (self.diagonal @ x[..., None])[..., 0] + self.border @ z
        for k, band in enumerate(self.bands, 1):
            if len(band):
                out[k:] += (band @ x[:-k, :, None])[..., 0]
                out[:-k] += (band.mT @ x[k:, :, None])[..., 0]
        return out, torch.einsum("tnm,tn->m", self.border, x) + self.corner @ z

    def dense(self) -> Float[Tensor, "D D"]:
        """All of it, for tests."""
        n_t, n, m = self.border.shape
        out = self.corner.new_zeros(n_t * n + m, n_t * n + m)
        blocks = out[: n_t * n, : n_t * n].view(n_t, n, n_t, n)
        for t in range(n_t):
            blocks[t, :, t] = self.diagonal[t]
            for k, band in enumerate(self.bands, 1):
                if t + k < n_t:
                    blocks[t + k, :, t], blocks[t, :, t + k] = band[t], band[t].T
        side = self.border.flatten(0, 1)
        out[: n_t * n, n_t * n :], out[n_t * n :, : n_t * n] = side, side.T
        out[n_t * n :, n_t * n :] = self.corner
        return out


def solve_banded_arrow(
    A: BandedArrow, b: Float[Tensor, "T N"], c: Float[Tensor, "M"]
) -> tuple[Float[Tensor, "T N"], Float[Tensor, "M"]] | None:
    """x and z with A (x, z) = (b, c), or None where A is not positive definite."""
    n_t, n = b.shape
    reach = len(A.bands)
    # The border and the right side go through the forward sweep as columns beside each other.
    columns = torch.cat([A.border, b[..., None]], 2)
    below: list[list[Tensor]] = []  # below[t][k - 1] = L[t + k, t]
    factors, swept, failed = [], [], []
    for t in range(n_t):
        pivot, side = A.diagonal[t], columns[t]
        behind = [(j, below[t - j][j - 1]) for j in range(1, min(reach, t) + 1)]  # L[t, t - j]
        for j, L_back in behind:
            pivot = torch.addmm(pivot, L_back, L_back.T, alpha=-1)
            side = torch.addmm(side, L_back, swept[t - j], alpha=-1)
        factor, info = torch.linalg.cholesky_ex(pivot)
        failed.append(info)
        ahead = []
        for k in range(1, min(reach, n_t - 1 - t) + 1):
            block = A.bands[k - 1][t]
            for j, L_back in behind:
                if j + k <= reach:
                    block = torch.addmm(block, below[t - j][j + k - 1], L_back.T, alpha=-1)
            ahead.append(block)
        solved = torch.linalg.solve_triangular(factor, torch.cat([*(block.T for block in ahead), side], 1), upper=False)
        below.append([solved[:, k * n : (k + 1) * n].T for k in range(len(ahead))])
        swept.append(solved[:, len(ahead) * n :])
        factors.append(factor)
    W = torch.cat(swept) if swept else columns.flatten(0, 1)
    arrow, y = W[:, :-1], W[:, -1]
    factor, info = torch.linalg.cholesky_ex(A.corner - arrow.T @ arrow)
    if bool(torch.stack([*failed, info]).any()):
        return None
    z = torch.cholesky_solve((c - arrow.T @ y)[:, None], factor)[:, 0]
    right = (y - arrow @ z).view(n_t, n)
    x: list[Tensor] = [right[0]] * n_t if n_t else []
    for t in reversed(range(n_t)):
        rest = right[t]
        for k, L_down in enumerate(below[t], 1):
            rest = rest - L_down.T @ x[t + k]
        x[t] = torch.linalg.solve_triangular(factors[t].T, rest[:, None], upper=True)[:, 0]
    return (torch.stack(x) if x else right), z
