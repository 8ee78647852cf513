"""Laws of every residual, one by one: its gradient and curvature by differences, in every block of variables."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_assets
from test_fused import observations, some_x, terms_of
from test_hands import ON_PARTS
from test_jacobians import differences

from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError
from bodyfit.fit.config import StageConfig
from bodyfit.fit.objective import BodyTerms, StageObjective
from bodyfit.fit.residuals import RESIDUALS, PointResidual, VariableResidual, register, unregister
from bodyfit.fit.residuals.base import Residual, Vector
from bodyfit.fit.residuals.focal import FOCAL
from bodyfit.fit.residuals.lift import Lift
from bodyfit.fit.scan.pairs import BodyPairs, ScanPairs
from bodyfit.fit.silhouette.pairs import ContourPairs
from bodyfit.fit.variables import Block, Variables

F64 = torch.float64
OFF = {"pose": 0.0, "shape": 0.0, "points": 0.0, "height": 0.0, "mass": 0.0, "previous": 0.0}
FINGERS = Block("left_hand_pose", 4, shared=False)
"""A block of one a frame that nothing depends on, between the pose and what frames share."""


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return BodyModel(tiny_assets("smpl", posedirs="dense"), dtype=F64)


@pytest.fixture
def generator():
    """The same draws for each test, whatever other residuals there are."""
    return torch.Generator().manual_seed(4)


def alone(name: str, terms: BodyTerms, generator, *, cameras: int = 1, points3d: str | None = None) -> StageObjective:
    """An objective of one residual, with all the evidence that there can be."""
    batch, n_pose = 5, 3 * (terms.model.body_joints - 1)
    seen = observations(terms, generator, cameras=cameras, measured=True)
    more = {
        "height_m": torch.full((batch,), 1.7, dtype=F64),
        "mass_kg": torch.full((batch,), 60.0, dtype=F64),
        "previous_pose": torch.randn(batch, n_pose, generator=generator, dtype=F64),
        "contour": contour_pairs(terms.model, batch, cameras),
        "surface": BodyPairs(tuple(scan_pairs(terms.model, seed) for seed in range(batch))),
    }
    weights = {"reprojection": 0.0, "silhouette": 0.0, "estimate": 0.0, "surface": 0.0} | (
        {} if name in StageConfig.__dataclass_fields__ else {name: 1.3}
    )
    named = {name: 1.3} if name in StageConfig.__dataclass_fields__ else {}
    stage = StageConfig(**(OFF | named), weights=weights, sigma_cm=40.0, lift_sigma_cm=40.0)
    objective = StageObjective(terms, stage, type(seen)(**{**vars(seen), **more}))
    assert list(objective.weights) == [name]
    return objective


def contour_pairs(model: BodyModel, batch: int, cameras: int) -> ContourPairs:
    """Pairs of any vertices with any lines in the picture, on both sides of them, some of weight 0."""
    count, generator = 12, torch.Generator().manual_seed(8)
    normal = torch.nn.functional.normalize(torch.randn(batch, count, 2, generator=generator, dtype=F64), dim=2)
    return ContourPairs(
        vertices=torch.randint(len(model.v_template), (batch, count), generator=generator),
        view=torch.randint(cameras, (batch, count), generator=generator),
        target=0.1 * torch.randn(batch, count, 2, generator=generator, dtype=F64),
        normal=normal,
        weight=torch.arange(count, dtype=F64).expand(batch, -1) % 3,
        scale_cm=torch.full((batch, count), 400.0, dtype=F64),
        slack_cm=torch.full((batch, count), 2.0, dtype=F64),
        sigma_cm=30.0,
    )


def scan_pairs(model: BodyModel, seed: int) -> ScanPairs:
    """Pairs of any points of the skin with points about the person, along any directions."""
    rng = torch.Generator().manual_seed(seed)
    barycentric = torch.rand(15, 3, generator=rng, dtype=F64)
    direction = torch.randn(15, 3, generator=rng, dtype=F64)
    return ScanPairs(
        corners=model.faces[torch.randint(len(model.faces), (15,), generator=rng)],
        barycentric=barycentric / barycentric.sum(1, keepdim=True),
        target_m=torch.randn(15, 3, generator=rng, dtype=F64) + torch.tensor([0.1, 0.2, 4.0], dtype=F64),
        direction=torch.nn.functional.normalize(direction, dim=1),
        weight=torch.arange(15, dtype=F64) % 3,
        sigma_cm=30.0,
    )


def bent(x: torch.Tensor, layout: Variables) -> torch.Tensor:
    """Poses so bent that arms and legs are inside each other."""
    return layout.put(x, body_pose=1.8 * x[:, layout["body_pose"]])


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    """Equal beside the largest, which central differences of 1e-6 know to some 1e-8."""
    torch.testing.assert_close(got, want, atol=1e-7 * float(want.abs().max().clamp_min(1.0)), rtol=0)


def felt(residual: Residual, layout: Variables) -> torch.Tensor:
    """The columns that a residual answers to."""
    columns = torch.ones(layout.size, dtype=F64)
    if isinstance(residual, PointResidual) and not residual.feels_shape:
        columns[layout["betas"]] = 0
    return columns


@pytest.mark.parametrize("name", [name for name in RESIDUALS if name not in ON_PARTS])
@pytest.mark.parametrize("blocks", [(), (FINGERS, FOCAL)], ids=["body", "more blocks"])
def test_the_gradient_is_that_of_the_cost(name, blocks, model, generator):
    if name == "focal" and not blocks:
        pytest.skip("the focal length is no variable here")
    if name == "mass":
        pytest.skip("the tiny body has no volume; test_evidence.py takes differences on the shipped one")
    terms = terms_of(model).with_blocks(*blocks)
    objective, layout = alone(name, terms, generator), terms.layout
    x = bent(layout.pack(Variables.of(model).unpack(some_x(model, generator))), layout)
    if blocks:
        x = layout.put(x, focal=0.1 * torch.randn(len(x), 1, generator=generator, dtype=F64))
    normal = objective.reference(x)
    want = differences(lambda x: objective.reference(x).cost, x)
    assert want.abs().max() > 0
    close(2 * normal.gradient, want * felt(terms.residual(name), layout))
    eigenvalues = torch.linalg.eigvalsh(normal.hessian)
    if name != "interpenetration" and name != "spheres":  # whose curvature is that of the deepest few
        assert (eigenvalues.amin(1) > -1e-9 * eigenvalues.amax(1)).all()
    torch.testing.assert_close(normal.hessian, normal.hessian.mT, atol=1e-9 * float(normal.hessian.max()), rtol=0)


VECTORS = [
    name
    for name, kind in RESIDUALS.items()
    if kind.vector not in (PointResidual.vector, VariableResidual.vector) and not (kind.loop and kind.loop.whole)
]
"""Residuals of the body with a vector of their own; those of hands and faces have tests of their own."""


@pytest.mark.parametrize("cameras", [1, 3])
@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_is_the_root_of_its_cost(name, cameras, model, generator):
    terms = terms_of(model).with_blocks(*(() if name != "focal" else (FOCAL,)))
    objective, layout, residual = alone(name, terms, generator, cameras=cameras), terms.layout, terms.residual(name)
    x = bent(layout.pack(Variables.of(model).unpack(some_x(model, generator))), layout)

    def vector(x: torch.Tensor) -> tuple[Vector, torch.Tensor]:
        return objective.vector_of(name, x)

    r, rows = vector(x)
    normal = objective.reference(x)
    torch.testing.assert_close(r.square().sum(1), normal.cost, rtol=1e-9, atol=1e-12)
    close((rows.mT @ r[..., None])[..., 0], normal.gradient)
    close(rows * felt(residual, layout), differences(lambda x: vector(x)[0], x) * felt(residual, layout))


def test_a_lift_of_exact_keypoints_has_the_curvature_of_its_jacobian(model, generator):
    """Where residuals are small the reweighted curvature is Gauss-Newton's."""
    terms = terms_of(model)
    objective, x = alone("lift", terms, generator), some_x(model, generator)
    at = terms.points.place(objective.tree(x), x[:, terms.layout["betas"]]).positions
    seen = objective.seen
    exact = StageObjective(terms, objective.stage, type(seen)(**{**vars(seen), "lift_m": 1.1 * at + 3}))
    _, rows = exact.vector_of("lift", x)
    close(exact.reference(x).hessian, rows.mT @ rows)


def test_names_are_taken_once_and_groups_are_known():
    class Other(Lift):
        name = "lift"

    with pytest.raises(OptionError, match="lift already"):
        register(Other)
    Other.name, Other.group = "other", "nonsense"
    with pytest.raises(OptionError, match="group"):
        register(Other)
    with pytest.raises(OptionError, match="no residual lift of your own"):
        unregister("lift")
    assert "other" not in RESIDUALS


def test_weights_are_looked_up_by_name():
    stage = StageConfig(pose=2.0, shape=1.0, weights={"reprojection": 0.5})
    assert [stage.weight(n, 7.0) for n in ("pose", "reprojection", "mine")] == [2.0, 0.5, 7.0]
    with pytest.raises(OptionError, match="lift="):
        StageConfig(pose=1.0, shape=1.0, weights={"lift": 1.0})
    with pytest.raises(OptionError, match="mine"):
        StageConfig(pose=1.0, shape=1.0, weights={"mine": -1.0})
