"""Covariances on chains against the dense inverse, in float64."""

from __future__ import annotations

import pytest
import torch
from test_banded import some_system

from bodyfit.solve import BandedArrow, ChainCovariance, sandwich


def some_meat(n_t: int, n: int, m: int) -> BandedArrow:
    """Positive semi-definite, of each link with itself and with what all share."""
    g = torch.Generator().manual_seed(3)
    rows = torch.randn(n_t, 2 * n, n + m, generator=g, dtype=torch.float64)
    full = rows.mT @ rows
    return BandedArrow(full[:, :n, :n], (), full[:, :n, n:], full[:, n:, n:].sum(0))


@pytest.mark.parametrize("n_t", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("reach", [0, 1, 2, 3])
@pytest.mark.parametrize("m", [0, 3])
def test_marginals_are_blocks_of_the_dense_sandwich(n_t, reach, m):
    n, scale = 6, 1.7
    H, M = some_system(n_t, n, m, reach, 2), some_meat(n_t, n, m)
    parts = sandwich(H, scale, M)
    assert parts is not None
    found = ChainCovariance.of(parts, parts.information, scale * parts.information + parts.meat).joined()
    inverse = torch.linalg.inv(H.dense())
    want = scale * inverse + inverse @ M.dense() @ inverse
    for t in range(n_t):
        columns = [*range(t * n, (t + 1) * n), *range(n_t * n, n_t * n + m)]
        block = want[columns][:, columns]
        # The condition number is at most about 1e4, squared in the second term.
        torch.testing.assert_close(found[t], block, atol=1e-9 * float(block.abs().max()), rtol=1e-8)


def test_an_indefinite_matrix_has_none():
    H = some_system(4, 6, 0, 2, 2)
    H.diagonal[2] -= 1e3 * torch.eye(6, dtype=torch.float64)
    assert sandwich(H, 1.0, some_meat(4, 6, 0)) is None


def test_links_that_are_not_coupled_know_nothing_of_each_other():
    H, M = some_system(5, 6, 0, 0, 2), some_meat(5, 6, 0)
    parts, alone = sandwich(H, 1.0, M), sandwich(
        BandedArrow(H.diagonal[2:3], (), H.border[2:3], H.corner), 1.0,
        BandedArrow(M.diagonal[2:3], (), M.border[2:3], M.corner),
    )  # fmt: skip
    assert parts is not None
    assert alone is not None
    torch.testing.assert_close(parts.links[2], alone.links[0], atol=0, rtol=1e-12)
