"""Posed vertices by number: the model's own positions, and derivatives by central differences."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_assets
from test_jacobians import differences

from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import pose_tree
from bodyfit.body.points.surface import Surface

F64 = torch.float64


def posed(model: BodyModel, batch: int, joints: int):
    g = torch.Generator().manual_seed(1)
    rotvecs = 0.5 * torch.randn(batch, joints, 3, generator=g, dtype=F64)
    coefficients = torch.randn(batch, model.num_betas + model.num_expression_coeffs, generator=g, dtype=F64)
    vertices = torch.randint(len(model.v_template), (batch, 9), generator=g)
    along = torch.randn(batch, 9, 3, generator=g, dtype=F64)
    return rotvecs, coefficients, vertices, along


@pytest.mark.parametrize(("kind", "posedirs"), [("smpl", "dense"), ("smplx", "blocks"), ("star", "dense")])
def test_vertices_are_the_models(kind, posedirs):
    model = BodyModel(tiny_assets(kind, posedirs=posedirs), dtype=F64)
    n = model.num_joints
    rotvecs, coefficients, vertices, _ = posed(model, 4, n)
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
    mesh = model(global_orient=rotvecs[:, 0], **params, **shape).vertices
    placed = Surface(model).place(pose_tree(model, coefficients, rotvecs), coefficients, vertices)
    want = mesh.gather(1, vertices[..., None].expand(-1, -1, 3))
    torch.testing.assert_close(placed.positions, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "posedirs"), [("smpl", "dense"), ("smplx", "blocks")])
def test_rows_are_the_derivatives(kind, posedirs):
    model = BodyModel(tiny_assets(kind, posedirs=posedirs), dtype=F64)
    surface, body = Surface(model), model.body_joints
    rotvecs, coefficients, vertices, along = posed(model, 2, model.num_joints)
    n_s = coefficients.shape[1]

    def at(x: torch.Tensor) -> torch.Tensor:
        transl, angles, shape = x.split([3, 3 * body, n_s], 1)
        turned = torch.cat([angles.unflatten(1, (-1, 3)), rotvecs[:, body:]], 1)
        placed = surface.place(pose_tree(model, shape, turned), shape, vertices)
        return ((placed.positions + transl[:, None]) * along).sum(2)

    x = torch.cat([torch.zeros(2, 3, dtype=F64), rotvecs[:, :body].flatten(1), coefficients], 1)
    rows = surface.place(pose_tree(model, coefficients, rotvecs), coefficients, vertices).rows(along, body)
    torch.testing.assert_close(rows, differences(at, x), rtol=0, atol=1e-8)


def test_joints_that_the_tree_lacks_are_at_rest():
    model = BodyModel(tiny_assets("smplx", posedirs="none"), dtype=F64)
    rotvecs, coefficients, vertices, _ = posed(model, 3, model.body_joints)
    still = torch.cat([rotvecs, rotvecs.new_zeros(3, model.num_joints - model.body_joints, 3)], 1)
    surface = Surface(model)
    few = surface.place(pose_tree(model, coefficients, rotvecs), coefficients, vertices)
    every = surface.place(pose_tree(model, coefficients, still), coefficients, vertices)
    torch.testing.assert_close(few.positions, every.positions, rtol=0, atol=1e-12)
