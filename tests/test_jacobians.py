"""Every closed-form derivative against central differences in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import tiny_assets

from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import Points, pose_tree
from bodyfit.body.pose_prior import PosePrior
from bodyfit.errors import OptionError
from bodyfit.fit.config import StageConfig
from bodyfit.fit.initialise.placement import RigidPlacement
from bodyfit.fit.objective import BodyTerms, Observations, StageObjective
from bodyfit.fit.residuals.capsules import CapsuleOverlap
from bodyfit.fit.residuals.lift import centred_distance
from bodyfit.fit.residuals.mixture import MixturePrior
from bodyfit.geometry.rotation import exp_and_left_jacobian, so3_exp
from bodyfit.skeleton import correspondence

STEP = 1e-6
TOLERANCE = 1e-7  # central differences at 1e-6 of functions of order 1 are good to about 1e-10 / 1e-6 x curvature


def differences(f, x: torch.Tensor) -> torch.Tensor:
    """d f(x) / d x over the last axis of x, by central differences; f maps (B, D) to (B, ...)."""
    columns = []
    for d in range(x.shape[1]):
        e = torch.zeros_like(x)
        e[:, d] = STEP
        columns.append((f(x + e) - f(x - e)) / (2 * STEP))
    return torch.stack(columns, -1)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def rand(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-3, 0.0099, 0.0101, 0.5, 3.1, 3.2])
def test_exponential_and_its_left_jacobian(size, generator):
    v = rand(generator, 16, 3)
    v = v / v.norm(dim=1, keepdim=True) * size
    R, left = exp_and_left_jacobian(v)
    torch.testing.assert_close(R, torch.linalg.matrix_exp(_hat(v)), atol=1e-12, rtol=0)
    dR = differences(so3_exp, v)  # (B, 3, 3, d)
    want = torch.einsum("bijd,bkj->bikd", dR, R)
    got = torch.stack([_hat(left[..., d]) for d in range(3)], -1)
    torch.testing.assert_close(got, want, atol=TOLERANCE, rtol=0)


def _hat(v):
    z = torch.zeros_like(v[:, 0])
    return torch.stack([z, -v[:, 2], v[:, 1], v[:, 2], z, -v[:, 0], -v[:, 1], v[:, 0], z], 1).view(-1, 3, 3)


def test_the_exponential_has_finite_gradients_at_zero():
    v = torch.zeros(1, 3, requires_grad=True)
    so3_exp(v).sum().backward()
    assert torch.isfinite(v.grad).all()


@pytest.fixture
def points(tiny):
    return Points(tiny, correspondence("halpe26"))


@pytest.fixture(
    params=["smpl none", "smpl dense", "smpl blocks", "smplh blocks", "smplx dense", "smplx blocks", "star dense"]
)
def body(request) -> BodyModel:
    """A model with some sort of pose blend shapes, or without."""
    kind, posedirs = request.param.split()
    return BodyModel(tiny_assets(kind, posedirs=posedirs), dtype=torch.float64)


@pytest.fixture
def on_body(body) -> Points:
    """Joints, points of the skin on the body and on a finger, mixtures."""
    names = ("nose", "left_index_tip", "left_wrist", "pelvis")
    hand = ({"left_hand": 1.0},) if body.has_point("left_hand") else ({"left_index2": 1.0},)
    extra = hand if body.has_point(next(iter(hand[0]))) else ()
    return Points(body, [*({n: 1.0} for n in names), {"nose": 0.3, "head": 0.7}, *extra])


def place(points, x):
    n = 3 * points.model.body_joints
    tree = pose_tree(points.model, x[:, n:], x[:, :n].unflatten(1, (-1, 3)))
    return points.place(tree, x[:, n:])


def some_x(generator, points, batch: int):
    return 0.6 * rand(generator, batch, 3 * points.model.body_joints + points.model.num_betas)


def test_point_jacobians(on_body, generator):
    x = some_x(generator, on_body, 3)
    placed = place(on_body, x)
    want = differences(lambda x: place(on_body, x).positions, x)
    n = 3 * on_body.model.body_joints
    torch.testing.assert_close(placed.jacobian_pose(), want[..., :n], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(placed.jacobian_betas(), want[..., n:], atol=TOLERANCE, rtol=0)


def test_pull_back_is_the_transposed_jacobian(on_body, generator):
    x = some_x(generator, on_body, 3)
    placed = place(on_body, x)
    forces = rand(generator, 3, 5, len(on_body), 3)
    want = torch.einsum("bnkc,bkcd->bnd", forces, placed.jacobian_pose())
    torch.testing.assert_close(placed.pull_back(forces), want, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(placed.pull_back(forces[:, 0]), want[:, 0], atol=1e-12, rtol=1e-10)


def test_points_are_those_of_the_mesh(on_body, generator):
    x = some_x(generator, on_body, 4)
    model, n = on_body.model, 3 * on_body.model.body_joints
    out = model(betas=x[:, n:], body_pose=x[:, 3:n], global_orient=x[:, :3])
    positions = place(on_body, x).positions
    for k, name in enumerate(("nose", "left_index_tip", "left_wrist", "pelvis")):
        torch.testing.assert_close(positions[:, k], model.point(out, name), atol=1e-12, rtol=0)


def test_keypoints_are_those_of_the_mesh(tiny, points, generator):
    x = 0.6 * rand(generator, 4, 82)
    out = tiny(betas=x[:, 72:], body_pose=x[:, 3:72], global_orient=x[:, :3])
    want = tiny.keypoints(out, "halpe26")
    known = torch.tensor(points.known)
    assert known.sum() >= 20
    torch.testing.assert_close(place(points, x).positions[:, known], want[:, known], atol=1e-12, rtol=0)
    without_mesh = tiny.keypoints(tiny.params(betas=x[:, 72:], body_pose=x[:, 3:72], global_orient=x[:, :3]), "halpe26")
    torch.testing.assert_close(without_mesh[:, known], want[:, known], atol=1e-12, rtol=0)


def test_hands_cannot_be_fitted_to_bodies():
    with pytest.raises(OptionError, match="no whole body"):
        Points(BodyModel(tiny_assets("mano_left")), [{"left_wrist": 1.0}])


def some_prior(seed: int = 0) -> PosePrior:
    rng = np.random.default_rng(seed)
    factors = 0.2 * rng.standard_normal((3, 69, 69))
    covars = factors @ factors.transpose(0, 2, 1) + 0.05 * np.eye(69)
    means = 0.3 * rng.standard_normal((3, 69))
    return PosePrior(means, covars, np.array([0.5, 0.3, 0.2]), np.full(69, -0.5), np.full(69, 0.5))


def test_the_mixture_takes_the_lowest_component_and_matches_its_density(generator):
    prior = some_prior()
    kind = {"dtype": torch.float64, "device": torch.device("cpu")}
    pose = 0.4 * rand(generator, 6, 69)
    costs = MixturePrior(prior, **kind).component_costs(pose).numpy()
    logs = [
        np.log(w) - 0.5 * np.linalg.slogdet(c)[1] - 0.5 * np.einsum("bi,ij,bj->b", d, np.linalg.inv(c), d)
        for w, c, d in (
            (w, c, pose.numpy() - m) for w, c, m in zip(prior.weights, prior.covars, prior.means, strict=True)
        )
    ]
    shift = costs + np.array(logs).T
    assert np.ptp(shift) < 1e-8, "the costs are minus the log densities up to one constant"
    assert costs.min(0).min() >= 0


def test_capsule_overlap_curvature(tiny, generator):
    """With every pair in it the Gauss-Newton matrix is that of the residuals' Jacobian by differences."""
    overlap = CapsuleOverlap(tiny, curvature_pairs=1000)
    x, betas = 0.8 * rand(generator, 4, 72), 0.3 * rand(generator, 4, 10)

    def residuals(pose):
        points = overlap.own_points.place(pose_tree(tiny, betas, pose.unflatten(1, (24, 3))), betas).positions
        return overlap.residuals(points, overlap.radius + betas @ overlap.radius_shape.T)[0]

    placed = overlap.own_points.place(pose_tree(tiny, betas, x.unflatten(1, (24, 3))), betas)
    got = overlap(placed.positions, betas)
    torch.testing.assert_close(got.cost, residuals(x).square().sum(1))
    assert (got.cost > 0).any()
    assert got.rows is not None
    rows = placed.pull_back(got.rows)
    J = differences(residuals, x)
    torch.testing.assert_close(rows.mT @ rows, J.mT @ J, atol=1e-3, rtol=1e-6)  # entries of order 1e4


def observations(tiny, generator, batch: int, n_k: int) -> Observations:
    return Observations(
        target=0.1 * rand(generator, batch, n_k, 2),
        weight=rand(generator, batch, n_k).abs().clamp(max=1),
        scale_cm=torch.full((batch,), 400.0, dtype=torch.float64),
        lift_m=0.5 * rand(generator, batch, n_k, 3),
        lift_weight=rand(generator, batch, n_k).abs().clamp(max=1),
    )


@pytest.mark.parametrize("lift", [0.0, 0.5])
def test_the_whole_objective(tiny, points, generator, lift):
    """With wide robustifiers the reweighted gradient is the true one for any residual; betas do not feel overlap."""
    stage = StageConfig(pose=2.0, shape=3.0, angle=0.1, limits=5.0, lift=lift, sigma_cm=30.0, lift_sigma_cm=1e6)
    objective = StageObjective(
        BodyTerms(tiny, points, some_prior()), stage, observations(tiny, generator, 2, len(points))
    )
    x = 0.3 * rand(generator, 2, 85)
    x[:, :3] = torch.tensor([0.1, 0.2, 4.0])
    normal = objective.normal(x)
    want = differences(lambda x: objective.normal(x).cost, x)
    torch.testing.assert_close(2 * normal.gradient, want, atol=1e-3, rtol=1e-6)  # costs are of order 1e5
    assert torch.linalg.eigvalsh(normal.hessian).min() > 0


@pytest.mark.parametrize("size", [0.3, 0.9, 1.1, 4.0])
def test_the_lift_is_of_any_size_within_bounds(generator, size):
    """The body is divided by its size, by a factor of 1.5 at most: then the lift's own size counts, not the body's."""
    x, directions = 0.3 * rand(generator, 2, 5), rand(generator, 2, 12, 3, 5)
    weight = rand(generator, 2, 12).abs()
    body = rand(generator, 2, 12, 3)
    lift = size * (body + 0.1 * rand(generator, 2, 12, 3)) + 3.0

    def term(x, lift=lift, sigma=1e6):
        return centred_distance(body + 0.1 * (directions @ x[:, None, :, None])[..., 0], lift, weight, sigma)

    got = term(x)
    gradient = 0.1 * torch.einsum("bkc,bkcd->bd", got.force, directions)
    torch.testing.assert_close(2 * gradient, differences(lambda x: term(x).cost, x), atol=1e-3, rtol=1e-6)
    again = term(x, 1.1 * lift - 2.0).cost
    larger = centred_distance(1.1 * (body + 0.1 * (directions @ x[:, None, :, None])[..., 0]) - 2.0, lift, weight, 1e6)
    if 1 / 1.5 < size < 1.5:
        torch.testing.assert_close(again, 1.1**2 * got.cost, atol=0, rtol=1e-9)
        torch.testing.assert_close(larger.cost, got.cost, atol=0, rtol=1e-9)
    else:
        assert (again - got.cost).abs().min() > 0.01 * got.cost.min()


def test_objective_is_infinite_behind_the_camera(tiny, points, generator):
    objective = StageObjective(
        BodyTerms(tiny, points, some_prior()), StageConfig(pose=1.0, shape=1.0), observations(tiny, generator, 2, 26)
    )
    x = torch.zeros(2, 85, dtype=torch.float64)
    x[0, 2], x[1, 2] = 4.0, -4.0
    cost = objective.normal(x).cost
    assert torch.isfinite(cost[0])
    assert torch.isinf(cost[1])


def test_rigid_placement(generator):
    problem = RigidPlacement(
        points_m=0.4 * rand(generator, 12, 3),
        target=0.1 * rand(generator, 3, 12, 2),
        weight=rand(generator, 3, 12).abs(),
        sigma=torch.full((3,), 0.2, dtype=torch.float64),
    )
    x = torch.cat([0.1 * rand(generator, 3, 2), 4 + rand(generator, 3, 1).abs(), rand(generator, 3, 3)], 1)
    normal = problem.normal(x)
    want = differences(lambda x: problem.normal(x).cost, x)
    torch.testing.assert_close(2 * normal.gradient, want, atol=1e-5, rtol=1e-5)
