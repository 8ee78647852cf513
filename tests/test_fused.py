"""Laws of the loops that a CPU fits by: they are the plain tensor operations, to the type's precision, item by item."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny_assets
from test_jacobians import some_prior

from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import Points
from bodyfit.fit.config import FitConfig, StageConfig
from bodyfit.fit.evidence import Extrinsics
from bodyfit.fit.objective import BodyTerms, Observations, StageObjective
from bodyfit.runtime.parallel import loops_alone, run
from bodyfit.skeleton import correspondence
from bodyfit.solve import LMConfig, Normal
from bodyfit.solve.lm import _State, _step_by_loops, _step_by_tensors

F32, F64 = torch.float32, torch.float64
TOLERANCE = {F32: 3e-5, F64: 1e-11}
"""In parts of the size of what is summed; float32 has seven digits, of which sums over 33 keypoints take one or two."""
BODIES = ["smpl none", "smpl dense", "smplh blocks", "smplx dense", "star dense"]
BATCH = 5


def body(kind: str, dtype=F64) -> BodyModel:
    name, posedirs = kind.split()
    return BodyModel(tiny_assets(name, posedirs=posedirs), dtype=dtype)


@pytest.fixture(scope="module")
def generator():
    return torch.Generator().manual_seed(0)


def terms_of(model: BodyModel, layout: str = "mediapipe33", points3d: str | None = None) -> BodyTerms:
    prior = some_prior().of_joints(model.body_joints)
    other = None if points3d is None else Points(model, correspondence(points3d))
    return BodyTerms(model, Points(model, correspondence(layout)), prior, other)


def observations(terms: BodyTerms, generator, *, cameras: int = 1, measured: bool = False) -> Observations:
    """Keypoints about the middle of each picture, some missing, with a lift and measured points."""
    n_k, n_p, kind = len(terms.points), len(terms.points3d), terms.model.dtype

    def rand(*shape):
        return torch.randn(*shape, generator=generator, dtype=F64).to(kind)

    def weights(n):
        w = rand(BATCH, n).abs().clamp(max=1)
        w[:, ::5] = 0
        return w

    rig = None
    if cameras > 1:
        R = torch.linalg.qr(rand(cameras, 3, 3).double())[0].to(kind)
        t = rand(cameras, 3) + torch.tensor([0.0, 0.0, 8.0], dtype=kind)
        rig = Extrinsics(R * torch.linalg.det(R)[:, None, None], t)
    return Observations(
        target=0.1 * rand(BATCH, cameras * n_k, 2),
        weight=weights(cameras * n_k),
        scale_cm=400 + 50 * rand(*((BATCH, cameras * n_k) if cameras > 1 else (BATCH,))),
        rig=rig,
        lift_m=0.5 * rand(BATCH, n_k, 3),
        lift_weight=weights(n_k),
        points_m=rand(BATCH, n_p, 3) + torch.tensor([0.1, 0.2, 4.0], dtype=kind) if measured else None,
        points_weight=weights(n_p) if measured else None,
        **expectations(terms.model),
    )


def expectations(model: BodyModel) -> dict[str, torch.Tensor]:
    """Poses of any kind that a conditional prior may expect, or a program estimate, and factors of precisions."""
    n, generator = model.body_joints - 1, torch.Generator().manual_seed(5)
    factor = torch.randn(BATCH, n, 3, 3, generator=generator, dtype=F64).tril()
    factor = factor + 3 * torch.eye(3, dtype=F64)
    pose = 0.5 * torch.randn(BATCH, 3 * n, generator=generator, dtype=F64)
    together = torch.randn(BATCH, 3 + 3 * n, 3 + 3 * n, generator=generator, dtype=F64).tril()
    together = 0.3 * together + 3 * torch.eye(3 + 3 * n, dtype=F64)
    found = {"expected_pose": pose, "expected_precision": together @ together.mT}
    found |= {"estimate_pose": -pose, "estimate_factor": 0.5 * factor}
    found["expected_orient"] = torch.randn(BATCH, 3, generator=generator, dtype=F64)
    found["expected_weight"] = torch.linspace(0.5, 2.5, BATCH, dtype=F64)
    return {name: value.to(model.dtype) for name, value in found.items()}


def some_x(model: BodyModel, generator) -> torch.Tensor:
    x = 0.5 * torch.randn(BATCH, 3 + 3 * model.body_joints + model.num_betas, generator=generator, dtype=F64)
    x[:, :3] = torch.tensor([0.1, 0.2, 4.0])
    x[0, 3:9] = 0  # where the exponential is a series
    return x.to(model.dtype)


@torch.no_grad()
def agree(objective: StageObjective, x: torch.Tensor, tolerance: float | None = None) -> None:
    """Both ways, in parts of the cost and of the Hessian's diagonal."""
    assert objective.backend(x).startswith("loops")
    got, want = objective.normal(x), objective.reference(x)
    tolerance = TOLERANCE[x.dtype] if tolerance is None else tolerance
    size = want.hessian.diagonal(dim1=1, dim2=2).clamp_min(1e-9).sqrt()
    torch.testing.assert_close(got.cost, want.cost, atol=0, rtol=tolerance)
    by_row = size * want.cost.sqrt().nan_to_num(posinf=1.0)[:, None]
    torch.testing.assert_close(got.gradient / by_row, want.gradient / by_row, atol=tolerance, rtol=0)
    area = size[:, :, None] * size[:, None]
    torch.testing.assert_close(got.hessian / area, want.hessian / area, atol=tolerance, rtol=0)
    assert torch.equal(got.hessian, got.hessian.mT)


STAGES = [
    *FitConfig().stages,
    StageConfig(pose=2.0, shape=3.0, conditional=4.0),
    StageConfig(pose=2.0, shape=3.0, interpenetration=3.0, spheres=1e2),
]


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("kind", BODIES)
def test_the_loops_are_the_equations(kind, dtype, generator):
    model = body(kind, dtype)
    terms = terms_of(model)
    seen, x = observations(terms, generator), some_x(model, generator)
    for stage in STAGES:
        agree(StageObjective(terms, stage, seen), x)
        agree(StageObjective(terms, stage, replace(seen, lift_m=None, lift_weight=None)), x)


@pytest.mark.parametrize("layout", ["coco17", "openpose25", "smpl24"])
def test_of_every_layout(layout, generator):
    model = body("smpl blocks")
    terms = terms_of(model, layout)
    agree(StageObjective(terms, STAGES[2], observations(terms, generator)), some_x(model, generator))


@pytest.mark.parametrize("points3d", [None, "coco17"])
@pytest.mark.parametrize("cameras", [1, 3])
def test_of_every_evidence(cameras, points3d, generator):
    model = body("smpl dense")
    terms = terms_of(model, "mediapipe33", points3d)
    seen = observations(terms, generator, cameras=cameras, measured=True)
    x = some_x(model, generator)
    previous = torch.randn(BATCH, 69, generator=generator, dtype=F64)
    for more in (
        {},
        {"fixed": ("betas",)},
        {"height_m": torch.full((BATCH,), 1.7, dtype=F64)},
        {"mass_kg": torch.full((BATCH,), 60.0, dtype=F64)},
        {"previous_pose": previous},
        {"previous_pose": previous, "fixed": ("betas",)},
    ):
        agree(StageObjective(terms, STAGES[2], replace(seen, **more)), x)


def test_behind_the_camera_and_with_nothing_seen(generator):
    model = body("smpl none")
    terms = terms_of(model)
    seen, x = observations(terms, generator), some_x(model, generator)
    x[1, 2] = -4
    assert torch.isinf(StageObjective(terms, STAGES[0], seen).normal(x).cost).tolist() == [False, True, *3 * [False]]
    unseen = replace(seen, weight=0 * seen.weight, lift_m=None, lift_weight=None)
    agree(StageObjective(terms, STAGES[0], unseen), x)


def test_a_person_is_the_same_to_the_bit_in_any_batch_and_by_any_number_of_threads(generator):
    model = body("smpl dense", F32)
    terms = terms_of(model)
    seen, x = observations(terms, generator), some_x(model, generator)
    many = torch.arange(60) % BATCH
    objective = StageObjective(terms, STAGES[2], seen)
    with torch.no_grad():
        alone = [objective.select(torch.tensor([i])).normal(x[i : i + 1]) for i in range(BATCH)]
        torch.set_num_threads(3)
        try:
            crowd = objective.select(many).normal(x[many])
        finally:
            torch.set_num_threads(1)
    for i, b in enumerate(many.tolist()):
        for name in ("cost", "gradient", "hessian"):
            assert torch.equal(getattr(crowd, name)[i], getattr(alone[b], name)[0])


@torch.no_grad()
def test_what_is_no_number_stays_with_its_person(generator):
    model = body("smpl dense")
    terms = terms_of(model)
    seen, x = observations(terms, generator), some_x(model, generator)
    bad = x.clone()
    bad[2, 40] = torch.nan
    clean, got = (StageObjective(terms, STAGES[2], seen).normal(v) for v in (x, bad))
    assert not torch.isfinite(got.cost[2])
    others = [0, 1, 3, 4]
    for name in ("cost", "gradient", "hessian"):
        assert torch.equal(getattr(got, name)[others], getattr(clean, name)[others])


def test_a_gradient_takes_the_plain_operations(generator):
    model = body("smpl none")
    terms = terms_of(model)
    x = some_x(model, generator).requires_grad_()
    objective = StageObjective(terms, STAGES[3], observations(terms, generator))
    objective.normal(x).cost.sum().backward()
    # The robustifier's weights are of the rows alone, so that J^T r is half the gradient.
    torch.testing.assert_close(0.5 * x.grad, objective.normal(x.detach()).gradient, rtol=1e-6, atol=1e-6)


class Bowl:
    """|A x - b|^2 + |x|^4, of as many items as wanted; some of them cannot be minimised."""

    def __init__(self, A, b):
        self.A, self.b = A, b

    def select(self, index):
        return Bowl(self.A[index], self.b[index])

    def normal(self, x):
        r, square = (self.A @ x[..., None])[..., 0] - self.b, x.square().sum(1, keepdim=True)
        curved = 2 * square[..., None] * torch.eye(x.shape[1]).to(x)
        gradient = (self.A.mT @ r[..., None])[..., 0] + 2 * square * x
        return Normal(r.square().sum(1) + square[:, 0] ** 2, gradient, self.A.mT @ self.A + curved)


@pytest.mark.parametrize("blocks", [(), (slice(20, 33), slice(2, 9))], ids=["dense", "blocks"])
@pytest.mark.parametrize("size", [1, 3, 16, 33, 85])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_step_by_loops_is_a_step_by_tensors(size, dtype, blocks, generator):
    if blocks and size < 33:
        pytest.skip("smaller than the blocks")
    n = 12
    A = torch.randn(n, size + 2, size, generator=generator, dtype=F64).to(dtype)
    for i, block in enumerate(blocks):  # each row sees one block
        A[:, i :: len(blocks), block] = 0
    b = 3 * torch.randn(n, size + 2, generator=generator, dtype=F64).to(dtype)
    b[3] = torch.nan
    problem, x = Bowl(A, b), torch.randn(n, size, generator=generator, dtype=F64).to(dtype)

    def start() -> _State:
        at = problem.normal(x)
        at.hessian[5, 0, 0] = -1.0  # not positive definite
        steps, damping = torch.zeros(n, dtype=torch.int64), torch.full_like(at.cost, 1e-3)
        return _State(x=x.clone(), at=at, damping=damping, finished=torch.arange(n) == 7, iterations=steps)

    states = start(), start()
    for _ in range(6):
        _step_by_loops(problem, states[0], LMConfig(), blocks)
        _step_by_tensors(problem, states[1], LMConfig(), blocks)
    a, b_ = states
    tolerance = {"atol": 2e-3 if dtype == F32 else 1e-6, "rtol": 2e-3 if dtype == F32 else 1e-6}
    torch.testing.assert_close(a.x, b_.x, **tolerance)
    torch.testing.assert_close(a.at.cost, b_.at.cost, equal_nan=True, **tolerance)
    assert a.iterations[7] == 0
    assert torch.equal(a.x[[3, 7]], x[[3, 7]])
    assert (a.at.cost < problem.normal(x).cost)[[0, 1, 2, 4, 6, 8]].all()
    if dtype == F64:
        assert torch.equal(a.finished, b_.finished)
        torch.testing.assert_close(a.damping[~a.finished], b_.damping[~a.finished])
        assert torch.equal(a.iterations[np.arange(n) != 7], b_.iterations[np.arange(n) != 7])


def test_loops_alone_leave_torch_its_threads_as_they_were():
    def threads_used() -> int:
        names = set()
        run(lambda *_: names.add(threading.get_ident()) or time.sleep(0.05), 4)
        return len(names)

    torch.set_num_threads(2)
    try:
        with loops_alone():
            assert torch.get_num_threads() == 1
            with loops_alone():
                assert threads_used() == 2
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert threads_used() == 1
