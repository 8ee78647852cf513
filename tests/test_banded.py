"""The chain solver against dense algebra in float64, and Levenberg-Marquardt on chains of known answer."""

from __future__ import annotations

import pytest
import torch

from bodyfit.solve import BandedArrow, ChainNormal, LMConfig, minimize_chain, solve_banded_arrow


def some_system(n_t: int, n: int, m: int, reach: int, group: int, seed: int = 0) -> BandedArrow:
    """J^T J of random rows over each link, over each group of variables in `reach + 1` links in turn, and over what all
    share, so that it is positive definite."""
    g = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    full = torch.zeros(n_t * n + m, n_t * n + m, dtype=torch.float64)
    for t in range(n_t):
        own = [n * t + i for i in range(n)] + [n_t * n + i for i in range(m)]
        links = range(t, min(t + reach + 1, n_t))
        groups_of = ([n * s + g + i for s in links for i in range(group)] for g in range(0, n, group))
        for columns in (own, *groups_of):
            rows = rand(2 * len(columns), len(columns))
            full[torch.tensor(columns)[:, None], torch.tensor(columns)] += rows.T @ rows
    full += 0.1 * torch.eye(len(full), dtype=torch.float64)

    def block(s: int, t: int) -> torch.Tensor:
        return full[n * s : n * (s + 1), n * t : n * (t + 1)]

    def groups(k: int) -> torch.Tensor:
        places = [slice(i, i + group) for i in range(0, n, group)]
        parts = [torch.stack([block(t + k, t)[at, at] for at in places]) for t in range(n_t - k)]
        return torch.stack(parts) if parts else full.new_zeros(0, n // group, group, group)

    return BandedArrow(
        torch.stack([block(t, t) for t in range(n_t)]),
        tuple(groups(k) for k in range(1, reach + 1)),
        full[: n_t * n, n_t * n :].view(n_t, n, m),
        full[n_t * n :, n_t * n :],
    )


@pytest.mark.parametrize("n_t", [1, 2, 3, 4, 17])
@pytest.mark.parametrize("reach", [0, 1, 2, 3])
@pytest.mark.parametrize("m", [0, 1, 4])
@pytest.mark.parametrize("group", [1, 2, 6])
def test_the_answer_is_that_of_the_dense_matrix(n_t, reach, m, group):
    A = some_system(n_t, 6, m, reach, group)
    g = torch.Generator().manual_seed(1)
    b, c = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((n_t, 6), (m,)))
    solved = solve_banded_arrow(A, b, c)
    assert solved is not None
    want = torch.linalg.solve(A.dense(), torch.cat([b.flatten(), c]))
    # The condition number is at most about 1e4.
    torch.testing.assert_close(torch.cat([solved[0].flatten(), solved[1]]), want, atol=1e-10, rtol=1e-9)
    for back, right in zip(A @ solved, (b, c), strict=True):
        torch.testing.assert_close(back, right, atol=1e-10, rtol=1e-9)


def test_a_matrix_that_is_not_positive_definite_is_refused():
    A = some_system(6, 3, 2, 2, 3)
    A.diagonal[3].sub_(100 * torch.eye(3))
    assert solve_banded_arrow(A, torch.zeros(6, 3).double(), torch.zeros(2).double()) is None
    A = some_system(6, 3, 2, 2, 3)
    A.corner.sub_(100 * torch.eye(2))
    assert solve_banded_arrow(A, torch.zeros(6, 3).double(), torch.zeros(2).double()) is None


class Pendulum:
    """A smooth angle on a circle of unknown radius: r = (a (cos x_t, sin x_t) - y_t, w (x_t-1 - 2 x_t + x_t+1))."""

    def __init__(self, y: torch.Tensor, w: float) -> None:
        self.y, self.w = y, w

    def residuals(self, v: torch.Tensor) -> torch.Tensor:
        x, a = v[:-1], v[-1]
        on_circle = a * torch.stack([x.cos(), x.sin()])
        return torch.cat([(on_circle - self.y).flatten(), self.w * (x[:-2] - 2 * x[1:-1] + x[2:])])

    def normal(self, x: torch.Tensor, z: torch.Tensor) -> ChainNormal:
        v, n = torch.cat([x[:, 0], z]), len(x)
        J = torch.autograd.functional.jacobian(self.residuals, v)
        r, H = self.residuals(v), J.T @ J
        gradient = J.T @ r
        bands = tuple(H[k:n, :n].diagonal()[: n - k].reshape(-1, 1, 1, 1) for k in (1, 2))
        system = BandedArrow(H[:n, :n].diagonal().reshape(-1, 1, 1), bands, H[:n, n:, None][..., 0, :, None], H[n:, n:])
        return ChainNormal(float(r @ r), gradient[:n, None], gradient[n:], system)


def test_a_nonlinear_chain_is_recovered():
    """Without noise the answer is known: the cost falls to nothing, angles and amplitude to the truth."""
    truth = torch.linspace(-1.2, 1.2, 40, dtype=torch.float64)
    problem = Pendulum(2.0 * torch.stack([truth.cos(), truth.sin()]), w=3.0)
    x, z, summary = minimize_chain(
        problem,
        torch.zeros(40, 1).double() + 0.3,
        torch.ones(1).double(),
        LMConfig(max_iterations=100, cost_tolerance=1e-12),
    )
    assert summary.cost < 1e-10
    torch.testing.assert_close(x[:, 0], truth, atol=1e-3, rtol=0)
    torch.testing.assert_close(z, torch.tensor([2.0]).double(), atol=1e-3, rtol=0)
    assert all(after <= before for before, after in zip(summary.trace, summary.trace[1:], strict=False))


def test_at_the_minimum_of_a_noisy_chain_the_gradient_is_nothing():
    g = torch.Generator().manual_seed(0)
    truth = torch.linspace(-1.2, 1.2, 40, dtype=torch.float64)
    y = 2 * torch.stack([truth.cos(), truth.sin()])
    y += 0.05 * torch.randn(2, 40, generator=g, dtype=torch.float64)
    problem = Pendulum(y, w=3.0)
    x, z, summary = minimize_chain(
        problem, truth[:, None], torch.ones(1).double(), LMConfig(max_iterations=100, cost_tolerance=1e-14)
    )
    assert summary.converged
    at = problem.normal(x, z)
    assert summary.cost > 0
    assert float(at.gradient.abs().max()) < 1e-5
    assert float(at.gradient_shared.abs().max()) < 1e-5


def test_a_start_without_a_cost_stays_where_it_is():
    problem = Pendulum(torch.full((2, 5), torch.nan).double(), w=1.0)
    x, _, summary = minimize_chain(problem, torch.zeros(5, 1).double(), torch.ones(1).double(), LMConfig())
    assert float(x.abs().max()) == 0
    assert not summary.converged
