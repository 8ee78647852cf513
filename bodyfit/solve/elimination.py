"""Solve symmetric positive definite systems with blocks of variables that are not coupled to each other.

    [ A_1         C_1 ] [x_1]   [b_1]
    [      A_2    C_2 ] [x_2] = [b_2]
    [ C_1' C_2'   R   ] [ y ]   [ c ]

The blocks are eliminated first: with L_i L_i' = A_i and Y_i = L_i^-1 C_i, the Schur complement gives (R - sum of Y_i'
Y_i) y = c - sum of Y_i' L_i^-1 b_i. It is the Cholesky factorisation with the blocks first, without the zero fill-in
between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["solve_eliminated"]


def solve_eliminated(
    A: Float[Tensor, "B D D"], b: Float[Tensor, "B D"], blocks: Sequence[slice]
) -> tuple[Float[Tensor, "B D"], Bool[Tensor, "B"]]:
    """Solve A x = b, and tell which A are positive definite; x is undefined where A is not.

    `blocks`: disjoint slices of columns, each with a start and a stop; entries of A between different blocks are taken
    to be 0. Without blocks it is a dense solve.
    """
    rest = torch.ones(A.shape[1], dtype=torch.bool)
    for block in blocks:
        rest[block] = False
    remaining = rest.nonzero()[:, 0].to(A.device)
    C = A[:, :, remaining]
    S, c, good, parts = C[:, remaining], b[:, remaining], torch.ones_like(b[:, 0], dtype=torch.bool), []
    for block in blocks:
        L, info = torch.linalg.cholesky_ex(A[:, block, block])
        Y = torch.linalg.solve_triangular(L, torch.cat([C[:, block], b[:, block, None]], 2), upper=False)
        Y, z = Y[:, :, :-1], Y[:, :, -1:]
        S, c = S - Y.mT @ Y, c - (Y.mT @ z)[..., 0]
        good = good & (info == 0)
        parts.append((block, L, Y, z))
    L, info = torch.linalg.cholesky_ex(S)
    y = torch.cholesky_solve(c[..., None], L)
    x = torch.empty_like(b)
    x[:, remaining] = y[..., 0]
    for block, L, Y, z in parts:
        x[:, block] = torch.linalg.solve_triangular(L.mT, z - Y @ y, upper=True)[..., 0]
    return x, good & (info == 0)
