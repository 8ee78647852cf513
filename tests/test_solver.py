"""The batched Levenberg-Marquardt solver against scipy's on each item alone, and what a batch must not do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from bodyfit.solve import LMConfig, Normal, Problem, minimize

F64 = torch.float64
EXACT = LMConfig(max_iterations=300, cost_tolerance=1e-14)
"""Runs each item until rounding ends it."""


@dataclass(frozen=True)
class Residuals:
    """A problem from a residual function (B, D), data (B, N) -> (B, R); its Jacobian by autograd."""

    function: object
    data: torch.Tensor
    calls: list | None = None

    def select(self, index):
        return replace(self, data=self.data[index])

    def normal(self, x):
        r = self.function(x, self.data)
        # Items do not mix, so the sum over them has each item's own Jacobian.
        J = torch.func.jacrev(lambda x: self.function(x, self.data).sum(0))(x).permute(1, 0, 2)
        if self.calls is not None:
            self.calls.append(x.clone())
        return Normal(r.square().sum(1), (J.mT @ r[..., None])[..., 0], J.mT @ J)


def rosenbrock(x, data):
    """Minimum 0 at (a, a^2), along a curved valley."""
    return torch.stack([10 * (x[:, 1] - x[:, 0].square()), data[:, 0] - x[:, 0]], 1)


TIMES = torch.linspace(0, 3, 25, dtype=F64)


def decay(x, data):
    """a exp(-b t) + c against noisy samples."""
    return x[:, :1] * (-x[:, 1:2] * TIMES.to(x)).exp() + x[:, 2:3] - data


def trilateration(x, data):
    """A point in space by distances to six beacons, each seen with an error."""
    beacons = torch.tensor([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2], [2, 2, 0], [1, 2, 2]]).to(x)
    return (x[:, None] - beacons).norm(dim=2) - data


def powell(x, data):
    """Powell's function: its Jacobian is singular at the minimum, 0 at 0."""
    a, b, c, d = (x - data).unbind(1)
    return torch.stack([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c).square(), 10**0.5 * (a - d).square()], 1)


def problems():
    g = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(*shape, generator=g, dtype=F64)

    n = 12
    truth = torch.cat([1 + rand(n, 1), 0.5 + rand(n, 1), rand(n, 1)], 1)
    samples = decay(truth, torch.zeros(n, 25, dtype=F64)) + 0.05 * torch.randn(n, 25, generator=g, dtype=F64)
    beacons = trilateration(2 * rand(n, 3), torch.zeros(1, 6, dtype=F64)) + 0.02 * rand(n, 6)
    return {
        "rosenbrock": (Residuals(rosenbrock, 0.5 + rand(n, 1)), 4 * rand(n, 2) - 2),
        "decay": (Residuals(decay, samples), torch.tensor([[1.0, 1.0, 0.0]], dtype=F64).repeat(n, 1)),
        "trilateration": (Residuals(trilateration, beacons), rand(n, 3)),
        "powell": (Residuals(powell, rand(n, 4)), 3 * rand(n, 4)),
    }


PROBLEMS = problems()


@pytest.fixture(params=PROBLEMS)
def posed(request):
    return PROBLEMS[request.param]


def test_minima_are_those_of_scipy(posed):
    problem, start = posed
    x, summary = minimize(problem, start, EXACT)
    assert isinstance(problem, Problem)
    for i in range(len(start)):
        data = problem.data[i : i + 1]

        def residuals(v, data=data):
            return problem.function(torch.from_numpy(v)[None], data)[0].numpy()

        want = least_squares(residuals, start[i].numpy(), method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)
        # Costs near the minimum differ by the square of what the points differ by.
        assert float(summary.cost[i]) == pytest.approx(2 * want.cost, rel=1e-10, abs=1e-16)
        flat = problem.function is powell  # where the cost is a fourth power, 1e-16 of cost is 1e-4 of x
        np.testing.assert_allclose(x[i].numpy(), want.x, atol=1e-3 if flat else 1e-6)


def test_the_cost_is_that_of_the_point_returned(posed):
    problem, start = posed
    for iterations in (0, 1, 2, 5, 50):
        x, summary = minimize(problem, start, LMConfig(max_iterations=iterations))
        torch.testing.assert_close(summary.cost, problem.normal(x).cost, atol=0, rtol=1e-12)


def test_cost_never_rises(posed):
    problem, start = posed
    before = problem.normal(start).cost
    for iterations in range(20):
        _, summary = minimize(problem, start, LMConfig(max_iterations=iterations, cost_tolerance=0.0))
        assert (summary.cost <= before).all()
        before = summary.cost


def test_the_trace_is_the_cost_of_every_step(posed):
    problem, start = posed
    config = LMConfig(max_iterations=25, cost_tolerance=1e-3)
    _, summary = minimize(problem, start, config)
    assert summary.trace.shape == (len(start), 26)
    torch.testing.assert_close(summary.trace[:, 0], problem.normal(start).cost, atol=0, rtol=0)
    torch.testing.assert_close(summary.trace[:, -1], summary.cost, atol=0, rtol=0)
    for steps in (1, 4, 9):
        _, shorter = minimize(problem, start, replace(config, max_iterations=steps))
        torch.testing.assert_close(summary.trace[:, steps], shorter.cost, atol=1e-16, rtol=1e-9)


def test_the_start_is_left_as_it_was(posed):
    problem, start = posed
    kept = start.clone()
    minimize(problem, start, LMConfig())
    assert torch.equal(start, kept)


@pytest.mark.parametrize("check_every", [1, 3, 1000])
def test_items_do_not_know_each_other(posed, check_every):
    """Whenever the finished ones are dropped, an item walks the path that it walks alone."""
    problem, start = posed
    config = LMConfig(max_iterations=60, cost_tolerance=1e-6, check_every=check_every)
    together_x, together = minimize(problem, start, config)
    for i in range(len(start)):
        row = torch.tensor([i])
        x, alone = minimize(problem.select(row), start[row], config)
        torch.testing.assert_close(x, together_x[row], atol=1e-9, rtol=0)
        torch.testing.assert_close(alone.cost, together.cost[row], atol=1e-12, rtol=1e-9)
        assert alone.iterations == together.iterations[row]
        assert alone.converged == together.converged[row]


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize("where", ["start", "data"])
def test_one_item_that_is_no_number_costs_only_itself(posed, poison, where):
    problem, start = posed
    clean_x, clean = minimize(problem, start, EXACT)
    bad = 5
    start, data = start.clone(), problem.data.clone()
    (start if where == "start" else data)[bad] = poison
    x, summary = minimize(replace(problem, data=data), start, EXACT)
    others = [i for i in range(len(start)) if i != bad]
    torch.testing.assert_close(x[others], clean_x[others], atol=1e-9, rtol=0)
    torch.testing.assert_close(summary.cost[others], clean.cost[others], atol=1e-16, rtol=1e-9)
    assert torch.equal(summary.converged[others], clean.converged[others])
    if poison != 1e200:
        assert not summary.converged[bad]
        assert not torch.isfinite(summary.cost[bad])
        assert summary.iterations[bad] == 0
        torch.testing.assert_close(x[bad], start[bad], equal_nan=True)


def test_an_item_that_falls_off_a_cliff_stays_on_it():
    """Where a step leads to NaN or infinity it is refused, and a shorter one is tried."""

    def log(x, data):
        return x.log() - data  # NaN at and below 0

    data, start = torch.tensor([[-2.0], [0.5], [3.0]], dtype=F64), torch.tensor([[9.0], [9.0], [0.01]], dtype=F64)
    assert (start[0] - start[0] * (start[0].log() + 2) < 0).all(), "Gauss-Newton's step would leave the domain"
    x, summary = minimize(Residuals(log, data), start, EXACT)
    assert summary.converged.all()
    torch.testing.assert_close(x, data.exp(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("iterations", [0, 1, 3, 4])
def test_an_item_that_runs_out_of_iterations_says_so(iterations):
    problem, start = PROBLEMS["rosenbrock"]
    x, summary = minimize(problem, start, LMConfig(max_iterations=iterations, cost_tolerance=1e-12))
    assert not summary.converged.any()
    assert (summary.iterations == iterations).all()
    assert torch.isfinite(x).all()
    if iterations == 0:
        assert torch.equal(x, start)
    _, summary = minimize(problem, start, EXACT)
    assert summary.converged.all()
    assert (summary.iterations < EXACT.max_iterations).all()


def test_each_item_ends_by_its_own_test():
    problem, start = PROBLEMS["rosenbrock"]
    _, summary = minimize(problem, start, EXACT)
    assert len(set(summary.iterations.tolist())) > 3


def test_finished_items_are_dropped():
    """One hard item must not make the others be computed again and again."""
    calls: list[torch.Tensor] = []
    start = torch.tensor([[1.0, 1.0]], dtype=F64).repeat(50, 1)
    start[0] = torch.tensor([-3.0, 8.0])
    data = torch.full((50, 1), 1.001, dtype=F64)

    class Counted(Residuals):
        def select(self, index):
            return Counted(self.function, self.data[index], self.calls)

    minimize(Counted(rosenbrock, data, calls), start, replace(EXACT, cost_tolerance=1e-3))
    assert len(calls[0]) == 50
    assert len(calls[-1]) == 1


def test_a_linear_problem_is_solved_at_once():
    """With little damping one step is the normal equations'; two directions of four are not seen at all."""
    g = torch.Generator().manual_seed(1)
    A = torch.randn(5, 2, 4, generator=g, dtype=F64)
    b = torch.randn(5, 2, generator=g, dtype=F64)

    @dataclass(frozen=True)
    class Linear:
        A: torch.Tensor
        b: torch.Tensor

        def select(self, index):
            return Linear(self.A[index], self.b[index])

        def normal(self, x):
            r = (self.A @ x[..., None])[..., 0] - self.b
            return Normal(r.square().sum(1), (self.A.mT @ r[..., None])[..., 0], self.A.mT @ self.A)

    x, summary = minimize(Linear(A, b), torch.zeros(5, 4, dtype=F64), LMConfig(max_iterations=6, damping=1e-6))
    assert torch.isfinite(x).all()
    assert summary.cost.max() < 1e-10


def test_units_of_the_variables_do_not_matter():
    """Marquardt's damping is in parts of the diagonal: metres or millimetres walk the same path."""
    problem, start = PROBLEMS["decay"]
    unit = torch.tensor([10.0, 1.0, 0.1], dtype=F64)

    def in_other_units(x, data):
        return decay(x * unit, data)

    config = LMConfig(max_iterations=5, cost_tolerance=0.0)
    x, summary = minimize(problem, start, config)
    scaled, other = minimize(Residuals(in_other_units, problem.data), start / unit, config)
    # The floor under the damping, 1e-9 of the largest diagonal, is the one thing that has a unit.
    torch.testing.assert_close(scaled * unit, x, atol=1e-4, rtol=0)
    torch.testing.assert_close(other.cost, summary.cost, atol=0, rtol=1e-4)


def test_float32_finds_the_minimum_to_its_digits():
    problem, start = PROBLEMS["decay"]
    x, summary = minimize(problem, start, EXACT)
    single, summary32 = minimize(Residuals(decay, problem.data.float()), start.float(), LMConfig(cost_tolerance=1e-6))
    assert single.dtype == summary32.cost.dtype == torch.float32
    torch.testing.assert_close(summary32.cost.double(), summary.cost, atol=0, rtol=1e-4)
    assert (single - x).abs().max() < 2e-2


def test_an_empty_batch_is_an_empty_answer():
    problem, start = PROBLEMS["decay"]
    nobody = torch.zeros(0, dtype=torch.int64)
    x, summary = minimize(problem.select(nobody), start[nobody], LMConfig())
    assert x.shape == (0, 3)
    assert summary.cost.shape == summary.iterations.shape == summary.converged.shape == (0,)


def test_an_item_that_starts_at_its_minimum_has_converged():
    """Its gradient is zero and no step is better; that is an end and not a failure."""
    start = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=F64)
    problem = Residuals(rosenbrock, torch.tensor([[1.0], [1.0]], dtype=F64))
    x, summary = minimize(problem, start, LMConfig(max_iterations=60))
    assert summary.converged.all()
    assert torch.equal(x[0], start[0])
    assert summary.cost[0] == 0


def test_gradients_are_not_recorded():
    problem, start = PROBLEMS["trilateration"]
    x, _ = minimize(problem, start.requires_grad_(), LMConfig())
    assert not x.requires_grad
    start.requires_grad_(False)
