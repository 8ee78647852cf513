"""The surface over: offsets that bring a posed body onto a scan, without a fault of the mesh."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

import bodyfit
from bodyfit.errors import OptionError, ShapeError
from bodyfit.geometry.mesh_tree import MeshTree, face_normals
from bodyfit.register.surface.deform import DeformStage, ScanTarget, deform
from bodyfit.register.surface.guard import Guard
from bodyfit.register.surface.losses import chamfer_loss, edge_loss, laplacian_loss, normal_loss
from bodyfit.register.surface.offsets import fit_surface, posing_matrices
from bodyfit.register.surface.smoothness import Smoothness

QUICK = (
    DeformStage(steps=2, smoothing_m=0.05, reach_m=0.1, spread_m=0.05, points=8_000),
    DeformStage(steps=2, smoothing_m=0.015, reach_m=0.05, spread_m=0.02, points=20_000),
)


def sampled(vertices, faces, count, *, noise=0.0, seed=0):
    """Points on a mesh, uniform in area, with normals of the faces."""
    rng = np.random.default_rng(seed)
    normals = face_normals(vertices, faces)
    area = np.linalg.norm(normals, axis=1)
    face = rng.choice(len(faces), count, p=area / area.sum())
    points = np.einsum("nk,nkc->nc", rng.dirichlet([1, 1, 1], count), vertices[faces[face]])
    return points + noise * rng.standard_normal(points.shape), normals[face] / area[face, None]


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model()


@pytest.fixture(scope="module")
def bent(model):
    """A body with bent arms and legs, turned and moved."""
    pose = torch.zeros(1, 23, 3)
    for name, turn in {"left_shoulder": (0, 0, -0.9), "left_elbow": (0, -0.8, 0), "right_hip": (-0.7, 0, 0)}.items():
        pose[0, model.skeleton.index(name) - 1] = torch.tensor(turn)
    orient, transl = torch.tensor([[0.2, 1.0, -0.3]]), torch.tensor([[0.4, -0.2, 1.0]])
    return model.params(body_pose=pose.flatten(1), global_orient=orient, transl=transl)


@pytest.fixture(scope="module")
def dressed(model, bent):
    """The body in a suit of 2 cm with waves of 6 mm, of which the feet, hands and head are bare."""
    body = model(**bent).vertices[0].double().numpy()
    faces = model.faces.numpy()
    rest = model.v_template.double().numpy()
    bare = [model.skeleton.index(f"{s}_{j}") for s in ("left", "right") for j in ("hand", "wrist", "foot", "ankle")]
    bare += [model.skeleton.index("head"), model.skeleton.index("neck")]
    cover = 1 - model.weights[:, bare].sum(1).double().numpy()
    normals = np.asarray(trimesh.Trimesh(body, faces, process=False).vertex_normals)
    waves = 0.02 + 0.006 * np.sin(rest @ [20.0, 30.0, 10.0])
    return body + (cover * waves)[:, None] * normals


@pytest.fixture(scope="module")
def surface(model, bent, dressed):
    points, normals = sampled(dressed, model.faces.numpy(), 30_000, noise=0.001)
    return fit_surface(model, bent, points, normals, longest_edge_m=None, stages=QUICK)


def test_the_surface_lies_on_the_scan(surface):
    """Noise of 1 mm leaves 95 % within 2 mm of the true surface; creases of the suit, which cross, cost a few."""
    assert np.mean(surface.distance_m < 0.002) > 0.88
    assert np.mean(surface.distance_m < 0.005) > 0.97
    assert np.quantile(np.linalg.norm(surface.offsets_m, axis=1), 0.9) > 0.015  # the suit; the head is half the mesh


def test_no_face_is_flipped_and_none_crosses_that_did_not(model, bent, surface):
    body = model(**bent).vertices[0].double().numpy()
    faces = model.faces.numpy()
    guard = Guard(body, faces)
    assert surface.flipped == surface.crossings == 0
    assert not guard.flipped(surface.vertices_m).any()
    before, after = (MeshTree(v, faces).crossings() for v in (body, surface.vertices_m))
    assert len(after) <= len(before)


def test_offsets_are_of_the_rest_pose(model, bent, surface):
    """Added to the template, they give the surface; in the rest pose they are displacements."""
    np.testing.assert_allclose(surface.posed(model, bent), surface.vertices_m, atol=1e-9)
    with_offsets = bodyfit.load_model()
    with_offsets.v_template += torch.as_tensor(surface.offsets_m, dtype=torch.float32)
    posed = with_offsets(**bent).vertices[0].numpy()
    np.testing.assert_allclose(posed, surface.vertices_m, atol=2e-5)  # the model's float32, some metres from the origin
    rest = surface.posed(model, model.params())
    np.testing.assert_allclose(rest - model().vertices[0].numpy(), surface.offsets_m, atol=1e-6)


def test_posing_matrices_are_the_derivative(model, bent):
    moved = bodyfit.load_model(dtype=torch.float64)
    step = torch.full_like(moved.v_template, 1e-3) * torch.tensor([1.0, -2.0, 0.5])
    bent = bent.to(torch.float64)
    before = moved(**bent).vertices[0]
    moved.v_template += step
    after = moved(**bent).vertices[0]
    matrices = posing_matrices(moved, bent)
    np.testing.assert_allclose((matrices @ step.numpy()[..., None])[..., 0], (after - before).numpy(), atol=1e-9)


def test_a_finer_mesh_is_nearer(model, bent):
    """Waves shorter than the body's edges need new vertices; they follow the pose as the others do."""
    body = model(**bent).vertices[0].double().numpy()
    faces = model.faces.numpy()
    fine, fine_faces = trimesh.remesh.subdivide_to_size(body, faces, 0.008)
    normals = np.asarray(trimesh.Trimesh(fine, fine_faces).vertex_normals)
    fine = np.asarray(trimesh.Trimesh(fine, fine_faces).vertices)
    fine_faces = np.asarray(trimesh.Trimesh(fine, fine_faces).faces)
    fine = fine + (0.004 * np.sin(fine @ [120.0, 90.0, 60.0]))[: len(fine), None] * normals[: len(fine)]
    points, tilt = sampled(fine, fine_faces, 60_000)
    stage = DeformStage(steps=2, smoothing_m=0.006, reach_m=0.02, spread_m=0.01, points=60_000)
    coarse = fit_surface(model, bent, points, tilt, longest_edge_m=None, stages=(stage,))
    finer = fit_surface(model, bent, points, tilt, longest_edge_m=0.014, stages=(stage,), fine_stages=(stage,))
    assert len(finer.vertices_m) > 2 * len(coarse.vertices_m)
    assert np.mean(finer.distance_m > 0.001) < 0.5 * np.mean(coarse.distance_m > 0.001)
    assert finer.uv is not None
    assert finer.uv_faces is not None
    assert finer.uv_faces.max() == len(finer.uv) - 1
    np.testing.assert_allclose(finer.posed(model, bent), finer.vertices_m, atol=1e-9)


def test_a_hole_is_bridged_smoothly():
    """A sphere of which a quarter was not scanned, to be blown up by a tenth: the rest of it goes along."""
    ball = trimesh.creation.icosphere(4, radius=0.2)
    vertices, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    points, normals = sampled(1.1 * vertices, faces, 20_000)
    shown = points[:, 2] < 0.1
    at = deform(vertices, faces, ScanTarget(points[shown], normals[shown]), QUICK)
    radius = np.linalg.norm(at, axis=1)
    assert np.abs(radius[vertices[:, 2] < 0.09] - 0.22).max() < 5e-4
    assert np.abs(radius - 0.22).max() < 0.01


def test_points_far_away_or_turned_away_do_not_pull():
    ball = trimesh.creation.icosphere(3, radius=0.2)
    vertices, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    points, normals = sampled(vertices, faces, 4_000)
    beside = points[:800] * [1, 1, 0] + [0, 0, 0.5]  # out of reach
    inner = 0.95 * points[:800]  # a lining, which looks inwards
    everything = np.concatenate([points, beside, inner])
    looks = np.concatenate([normals, normals[:800], -normals[:800]])
    at = deform(vertices, faces, ScanTarget(everything, looks), QUICK)
    assert np.abs(at - vertices).max() < 1e-3


def test_the_guard_takes_back_what_turns_a_face_over():
    plane = trimesh.creation.box((1, 1, 0.2)).subdivide().subdivide()
    vertices, faces = np.asarray(plane.vertices), np.asarray(plane.faces)
    guard = Guard(vertices, faces)
    end = vertices[:, 0] > 0.3
    wild = vertices + 0.01 + end[:, None] * 0.4 * np.random.default_rng(0).standard_normal(vertices.shape)
    assert guard.flipped(wild).any()
    assert len(guard.crossing(wild)) > 0
    at = guard.step(vertices, wild)
    assert not guard.flipped(at).any()
    assert len(guard.crossing(at)) == 0
    far = vertices[:, 0] < -0.3
    np.testing.assert_array_equal(at[far], wild[far])  # where it does no harm the step is taken
    small = vertices + 1e-3
    np.testing.assert_array_equal(guard.step(vertices, small), small)


def test_smoothness_of_a_linear_and_a_quadratic_field():
    """On a flat grid: a constant costs nothing, x costs its area in the membrane, x^2 costs 4 times it in bending."""
    n = 21
    x, y = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n), indexing="ij")
    grid = np.stack([x, y, 0 * x], 2).reshape(-1, 3)
    a = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate([np.stack([a, a + n, a + n + 1], 1), np.stack([a, a + n + 1, a + 1], 1)])
    smooth = Smoothness(grid, faces)
    one, u = np.ones(n * n), grid[:, 0]
    assert one @ smooth.membrane @ one == pytest.approx(0, abs=1e-9)
    assert u @ smooth.membrane @ u == pytest.approx(1, rel=0.1)  # clamped weights of right angles add a little
    inner = ((grid[:, :2] > 0.2) & (grid[:, :2] < 0.8)).all(1)
    laplacian = (smooth.membrane @ u**2)[inner] / smooth.areas[inner]
    np.testing.assert_allclose(laplacian, -2, rtol=0.11)


def test_losses_are_pytorch3ds():
    from pytorch3d.loss import chamfer_distance, mesh_edge_loss, mesh_laplacian_smoothing
    from pytorch3d.structures import Meshes

    rng = torch.Generator().manual_seed(0)
    p, q = torch.randn(1, 50, 3, generator=rng), torch.randn(1, 70, 3, generator=rng)
    u, w = (torch.nn.functional.normalize(torch.randn(1, n, 3, generator=rng), dim=2) for n in (50, 70))
    distance, cosine = chamfer_distance(p, q, x_normals=u, y_normals=w)
    p.requires_grad_()
    ours = chamfer_loss(p[0], q[0])
    torch.testing.assert_close(ours, distance)
    torch.testing.assert_close(normal_loss(p[0], q[0], u[0], w[0]) + 2, cosine)
    (slope,) = torch.autograd.grad(ours, p)
    again = p.detach().requires_grad_()
    torch.testing.assert_close(slope, torch.autograd.grad(chamfer_distance(again, q)[0], again)[0])
    ball = trimesh.creation.icosphere(1)
    vertices, faces = torch.tensor(ball.vertices).float(), torch.tensor(ball.faces)
    mesh, edges = Meshes([vertices], [faces]), torch.tensor(ball.edges_unique)
    torch.testing.assert_close(edge_loss(vertices, edges), mesh_edge_loss(mesh))
    torch.testing.assert_close(laplacian_loss(vertices, edges), mesh_laplacian_smoothing(mesh))
    far = torch.cat([q[0], torch.full((1, 3), 100.0)])
    assert chamfer_loss(q[0], far, trim=0.02) < 1e-9
    with pytest.raises(OptionError, match="trim"):
        chamfer_loss(q[0], far, trim=1.0)


def test_bad_input_has_a_clear_word(model, bent):
    points = np.zeros((200, 3))
    with pytest.raises(ShapeError, match="normals must be"):
        fit_surface(model, bent, points, np.zeros((1, 3)))
    with pytest.raises(OptionError, match="too small for a surface"):
        fit_surface(model, bent, np.full((200, 3), np.nan), np.zeros((200, 3)))
    with pytest.raises(OptionError, match="one body"):
        fit_surface(model, bent.select([0, 0]), points, points)
