"""Blocks that are coupled to all else but not to each other: eliminating them first changes no answer."""

from __future__ import annotations

import pytest
import torch

from bodyfit.solve import LMConfig, Normal, minimize, solve_eliminated

F64 = torch.float64
BLOCKS = {
    "none": [],
    "one": [slice(3, 7)],
    "two, not in order": [slice(8, 11), slice(0, 3)],
    "all but one": [slice(1, 12)],
}


def arrows(n: int, size: int, blocks, seed: int = 0):
    """Positive definite matrices whose blocks are not coupled to each other, by Jacobians that show it."""
    g = torch.Generator().manual_seed(seed)
    J = torch.randn(n, 4 * size, size, generator=g, dtype=F64)
    for row, block in enumerate(blocks):  # each row of the Jacobian sees one block
        for other in range(J.shape[1]):
            if other % len(blocks) != row:
                J[:, other, block] = 0
    return J, torch.randn(n, 4 * size, generator=g, dtype=F64)


@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_it_is_the_dense_solution(blocks):
    J, r = arrows(5, 12, blocks)
    A, b = J.mT @ J, (J.mT @ r[..., None])[..., 0]
    x, good = solve_eliminated(A, b, blocks)
    assert good.all()
    torch.testing.assert_close(x, torch.linalg.solve(A, b))


def test_what_is_not_positive_definite_is_told_and_touches_nobody():
    blocks = BLOCKS["two, not in order"]
    J, r = arrows(4, 12, blocks)
    A, b = J.mT @ J, (J.mT @ r[..., None])[..., 0]
    want = torch.linalg.solve(A, b)
    A[1, 9, 9], A[2, 5, 5] = -1.0, -1.0  # in a block, and in the rest
    x, good = solve_eliminated(A, b, blocks)
    assert good.tolist() == [True, False, False, True]
    torch.testing.assert_close(x[[0, 3]], want[[0, 3]])


class Curve:
    """|J x - r|^2 + |x|^4 / 10, with curvature that keeps the blocks apart."""

    def __init__(self, J, r):
        self.J, self.r = J, r

    def select(self, index):
        return Curve(self.J[index], self.r[index])

    def normal(self, x):
        e, square = (self.J @ x[..., None])[..., 0] - self.r, x.square().sum(1, keepdim=True)
        gradient = (self.J.mT @ e[..., None])[..., 0] + 0.2 * square * x
        curved = 0.2 * square[..., None] * torch.eye(x.shape[1], dtype=x.dtype)
        return Normal(e.square().sum(1) + 0.1 * square[:, 0] ** 2, gradient, self.J.mT @ self.J + curved)


@pytest.mark.parametrize("blocks", [BLOCKS["one"], BLOCKS["two, not in order"]], ids=["one", "two"])
def test_a_minimisation_goes_the_same_way(blocks):
    problem, config = Curve(*arrows(6, 12, blocks)), LMConfig(max_iterations=12, cost_tolerance=1e-9)
    start = torch.ones(6, 12, dtype=F64)
    dense, way = minimize(problem, start, config)
    got, same = minimize(problem, start, config, eliminate=blocks)
    torch.testing.assert_close(got, dense, atol=1e-9, rtol=0)
    assert torch.equal(same.iterations, way.iterations)
    assert same.converged.all()
