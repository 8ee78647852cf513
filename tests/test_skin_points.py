"""Points of the skin by number: the model's own positions, and derivatives by central differences."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_assets
from test_jacobians import differences

from bodyfit.body.model import BodyModel, load_model
from bodyfit.body.points.skin import Skin

F64 = torch.float64
KINDS = [("smpl", "dense"), ("smplx", "blocks"), ("star", "dense")]


def draws(model: BodyModel, batch: int, joints: int):
    g = torch.Generator().manual_seed(1)
    rotvecs = 0.5 * torch.randn(batch, joints, 3, generator=g, dtype=F64)
    coefficients = torch.randn(batch, model.num_betas + model.num_expression_coeffs, generator=g, dtype=F64)
    transl = torch.randn(batch, 3, generator=g, dtype=F64)
    corners = torch.randint(len(model.v_template), (batch, 9, 3), generator=g)
    weights = torch.softmax(torch.randn(batch, 9, 3, generator=g, dtype=F64), 2)
    weights[:, :3] = torch.tensor([1.0, 0, 0], dtype=F64)  # vertices
    along = torch.randn(batch, 9, 3, generator=g, dtype=F64)
    return (coefficients, rotvecs, transl), corners, weights, along


@pytest.mark.parametrize(("kind", "posedirs"), KINDS)
def test_points_lie_on_the_models_mesh(kind, posedirs):
    model = BodyModel(tiny_assets(kind, posedirs=posedirs), dtype=F64)
    (coefficients, rotvecs, transl), corners, weights, _ = draws(model, 4, model.num_joints)
    names = [name for name, _ in model.kind.poses]
    ends = torch.tensor([0, *(3 * count for _, count in model.kind.poses)]).cumsum(0).tolist()
    flat = rotvecs[:, 1:].flatten(1)
    params = {name: flat[:, a:b] for name, a, b in zip(names, ends[:-1], ends[1:], strict=True)}
    for row, side in enumerate(("left", "right")):
        if f"{side}_hand_pose" in params:
            params[f"{side}_hand_pose"] = params[f"{side}_hand_pose"] - model.hand_means[row]
    shape = {"betas": coefficients[:, : model.num_betas]}
    if model.num_expression_coeffs:
        shape["expression"] = coefficients[:, model.num_betas :]
    mesh = model(global_orient=rotvecs[:, 0], transl=transl, **params, **shape).vertices
    body = Skin(model).pose(coefficients, rotvecs, transl)
    torch.testing.assert_close(body.vertices, mesh, rtol=0, atol=1e-12)
    want = (weights[..., None] * mesh[torch.arange(4)[:, None, None], corners]).sum(2)
    torch.testing.assert_close(body.at(corners, weights).positions, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "posedirs"), KINDS)
def test_rows_are_the_derivatives(kind, posedirs):
    model = BodyModel(tiny_assets(kind, posedirs=posedirs), dtype=F64)
    skin = Skin(model)
    (coefficients, rotvecs, transl), corners, weights, along = draws(model, 2, model.num_joints)
    for joints in (model.body_joints, model.num_joints):
        x = torch.cat([transl, rotvecs[:, :joints].flatten(1), coefficients], 1)

        def along_at(x: torch.Tensor, joints: int = joints) -> torch.Tensor:
            transl, angles, shape = x.split([3, 3 * joints, coefficients.shape[1]], 1)
            turned = torch.cat([angles.unflatten(1, (-1, 3)), rotvecs[:, joints:]], 1)
            return (skin.pose(shape, turned, transl).at(corners, weights).positions * along).sum(2)

        rows = skin.pose(coefficients, rotvecs, transl).at(corners, weights).rows(along, joints)
        torch.testing.assert_close(rows, differences(along_at, x), rtol=0, atol=1e-8)


def test_joints_that_are_not_given_keep_the_mean_pose():
    model = BodyModel(tiny_assets("smplx", posedirs="blocks"), dtype=F64)
    (coefficients, rotvecs, transl), *_ = draws(model, 3, model.body_joints)
    few = Skin(model).pose(coefficients, rotvecs, transl)
    shape = {"betas": coefficients[:, : model.num_betas], "expression": coefficients[:, model.num_betas :]}
    mesh = model(global_orient=rotvecs[:, 0], body_pose=rotvecs[:, 1:].flatten(1), transl=transl, **shape).vertices
    torch.testing.assert_close(few.vertices, mesh, rtol=0, atol=1e-12)


def test_an_expression_that_is_no_variable_is_neutral():
    for model in (BodyModel(tiny_assets("smplx", posedirs="blocks"), dtype=F64), load_model("open-x")):
        (coefficients, rotvecs, transl), *_ = draws(model, 2, model.body_joints)
        inputs = (x.to(model.dtype) for x in (coefficients[:, : model.num_betas], rotvecs, transl))
        betas, angles, place = inputs
        found = Skin(model).pose(betas, angles, place).vertices
        pose = {"global_orient": angles[:, 0], "body_pose": angles[:, 1:].flatten(1)}
        torch.testing.assert_close(found, model(betas=betas, transl=place, **pose).vertices, rtol=0, atol=1e-5)


def test_the_skin_is_made_anew_when_the_models_tensors_change():
    model = BodyModel(tiny_assets("smpl", posedirs="none"), dtype=F64)
    first = Skin.of(model)
    assert Skin.of(model) is first
    model.v_template += 0.1
    assert Skin.of(model) is not first
