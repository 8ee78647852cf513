"""The radiance field: its gradients against automatic and finite differences, and what is drawn against its formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit.errors import AssetError, OptionError, ShapeError
from bodyfit.fields.casting import CastConfig, camera_rays, cast_rays, pose_bodies
from bodyfit.fields.casting.canonical import canonical_pose
from bodyfit.fields.casting.warp import pose_surrogate, warped
from bodyfit.fields.radiance import RadianceConfig, fit_field
from bodyfit.fields.radiance.field import start_field
from bodyfit.fields.radiance.files import load_field, save_field
from bodyfit.fields.radiance.mesh import field_mesh
from bodyfit.fields.radiance.poses import PoseConfig, field_loss, frame_loss, refine_poses
from bodyfit.fields.radiance.views import View
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.raster.depth import depth_map

CONFIG = RadianceConfig(
    cast=CastConfig(voxel_m=0.02, step_m=0.015, band_m=0.05, depth_m=0.025),
    nodes_m=(0.048, 0.016),
    start_width_m=0.008,
    passes=20,
    batch_rays=512,
)
SIZE = (40, 56)


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model("open")


@pytest.fixture(scope="module")
def poses(model):
    """Three bodies that stand with their arms apart, the same shape, in other poses."""
    rng = np.random.default_rng(0)
    pose = canonical_pose(model).repeat(3, 1)
    pose += 0.15 * torch.from_numpy(rng.standard_normal(pose.shape)).float()
    orient = torch.tensor([[0.0, 0.3, 0.0], [0.0, -0.4, 0.1], [0.1, 0.9, 0.0]])
    return model.params(body_pose=pose, global_orient=orient)


def camera_at(yaw: float) -> CalibratedCamera:
    """A camera that looks at the origin from 3 m, y up in its world."""
    R = np.diag([1.0, -1.0, -1.0]) @ Rotation.from_rotvec([0, -yaw, 0]).as_matrix()
    K = np.array([[60.0, 0, SIZE[0] / 2], [0, 60.0, SIZE[1] / 2], [0, 0, 1]])
    return CalibratedCamera(K=K, R=R, t=np.array([0, -0.25, 3.0]))


@pytest.fixture(scope="module")
def truth(model):
    """A field with colours that go with the place, in light from one side."""
    field = start_field(model, np.zeros((1, 10), np.float32), CONFIG, 1)
    places = field.grid.places()
    fine = field.grid.level_rows(1)
    values = field.values.copy()
    values[fine, 0] -= 4 * (field.grid.signed_m[fine] > 0.02)  # the start's haze cleared away
    values[fine, 1:] = 2 * np.sin(9 * places[fine] + np.array([0.0, 1.0, 2.0]))
    light = field.light.copy()
    light[2], light[3] = 0.2, 0.3
    return replace(field, values=values, light=light)


@pytest.fixture(scope="module")
def studio(truth, poses):
    """Pictures of the field: two poses from four sides."""
    cameras = [camera_at(yaw) for yaw in (0.0, 1.6, 3.1, 4.7)]
    views = []
    for frame in (0, 1):
        for camera in cameras:
            drawn = truth.draw(poses.select([frame]), camera, SIZE)
            picture = np.round(255 * drawn.over((1.0, 1.0, 1.0))).astype(np.uint8)
            views.append(View(picture, np.round(255 * drawn.mask).astype(np.uint8), camera, frame))
    return views


def composite(field, samples, normals=None, values=None, light=None, places=None):
    """Colour and opacity of every ray by the formulas, as tensors of doubles."""
    grid, config = field.grid, field.config
    values = torch.from_numpy(field.values).double() if values is None else values
    light = torch.from_numpy(field.light).double() if light is None else light
    places = torch.from_numpy(samples.canonical_m.astype(float)) if places is None else places
    n = torch.from_numpy(samples.normal / 127.0)
    out = torch.zeros(len(samples), 4, dtype=torch.float64)
    a = grid.arrays
    for level, size in enumerate(a.sizes):
        at = (places - torch.from_numpy(a.low)) / size
        base = at.detach().floor()
        part = at - base
        for corner in np.ndindex(2, 2, 2):
            node = base.long().numpy() + corner
            brick, inner = node // 4, node % 4
            inside = ((brick >= 0) & (brick < a.dims[level])).all(1)
            brick = np.where(inside[:, None], brick, 0)
            d = a.dims[level]
            number = a.tables[a.starts[level] + (brick[:, 0] * d[1] + brick[:, 1]) * d[2] + brick[:, 2]]
            inside &= number >= 0
            row = np.where(inside, number * 64 + inner @ [16, 4, 1], 0)
            weight = torch.stack([part[:, k] if corner[k] else 1 - part[:, k] for k in range(3)]).prod(0)
            out = out + (weight * torch.from_numpy(inside))[:, None] * values[torch.from_numpy(row)]
    density = config.density_per_m * torch.nn.functional.softplus(out[:, 0] + config.density_bias)
    alpha = 1 - torch.exp(-density * config.cast.step_m)
    x, y, z = n.T
    basis = torch.stack([torch.ones_like(x), x, y, z, x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1], 1)
    color = torch.sigmoid(out[:, 1:]) * (basis @ light)
    rays = len(samples.ptr) - 1
    sums, opacity = torch.zeros(rays, 3, dtype=torch.float64), torch.zeros(rays, dtype=torch.float64)
    for r in range(rays):
        part = slice(int(samples.ptr[r]), int(samples.ptr[r + 1]))
        through = torch.cumprod(torch.cat([torch.ones(1, dtype=torch.float64), 1 - alpha[part]]), 0)
        share = through[:-1] * alpha[part]
        sums[r], opacity[r] = share @ color[part], 1 - through[-1]
    return sums, opacity


@pytest.fixture(scope="module")
def few(truth, poses):
    """A few rays with their samples, a random field, targets and weights."""
    body = pose_bodies(truth.canonical, truth.model, poses.select([0]))[0]
    grid = np.stack(np.meshgrid(np.arange(8, 32, 4), np.arange(4, 52, 6)), -1).reshape(-1, 2) + 0.5
    rays = camera_rays(camera_at(0.0), SIZE, xy_px=grid)
    rng = np.random.default_rng(3)
    values = truth.values + 0.5 * rng.standard_normal(truth.values.shape).astype(np.float32)
    light = truth.light + 0.1 * rng.standard_normal((9, 3)).astype(np.float32)
    gains = np.array([[1.1, 0.9, 1.0]], np.float32)
    offsets = np.array([[0.05, -0.02, 0.0]], np.float32)
    field = replace(truth, values=values, light=light, gains=gains, offsets=offsets)
    return field, rays, cast_rays(body, rays, CONFIG.cast), rng


def ray_targets(rng, count):
    colors = rng.integers(0, 256, (count, 3)).astype(np.uint8)
    return colors, rng.integers(0, 256, count).astype(np.uint8), rng.random((count, 3)).astype(np.float32)


def reference_loss(field, samples, colors, masks, backgrounds, weights, **tensors):
    """The sum of the rays' losses by the formulas."""
    sums, opacity = composite(field, samples, **{k: v for k, v in tensors.items() if k not in ("gains", "offsets")})
    gains = tensors.get("gains", torch.from_numpy(field.gains).double())
    offsets = tensors.get("offsets", torch.from_numpy(field.offsets).double())
    behind, mask = torch.from_numpy(backgrounds).double(), torch.from_numpy(masks / 255.0)
    target = mask[:, None] * torch.from_numpy(colors / 255.0) + (1 - mask[:, None]) * behind
    drawn = gains * sums + opacity[:, None] * offsets + (1 - opacity[:, None]) * behind
    loss = (drawn - target).square().mean(1) + weights[0] * (opacity - mask).square()
    return (loss + weights[1] * opacity * (1 - opacity)).sum()


def test_training_gradients_are_those_of_autograd(few):
    from bodyfit.fields.radiance.train_loops import train

    field, _, samples, rng = few
    count = len(samples.ptr) - 1
    colors, masks, backgrounds = ray_targets(rng, count)
    weights = np.array([0.3, 0.05, 1.0])
    grads, small, losses = np.zeros((1, *field.values.shape)), np.zeros((1, 33)), np.zeros(1)
    train(
        0, 1, np.arange(count), samples.ptr, samples.place, samples.normal, samples.origin_m, colors, masks,
        np.zeros(count, np.int64), backgrounds, *field.grid.arrays, field.values.astype(float), field.light,
        field.gains, field.offsets, field.opaque(0.0), weights, grads, small, losses,
    )  # fmt: skip
    tensors = {
        name: torch.from_numpy(getattr(field, name)).double() for name in ("values", "light", "gains", "offsets")
    }
    for tensor in tensors.values():
        tensor.requires_grad_()
    loss = reference_loss(field, samples, colors, masks, backgrounds, weights, **tensors)
    loss.backward()
    assert losses[0] == pytest.approx(float(loss), rel=1e-6)
    np.testing.assert_allclose(grads[0], tensors["values"].grad, atol=1e-6)
    # Samples that carry less than 1e-4 of a ray add nothing to the light's.
    np.testing.assert_allclose(small[0, :27].reshape(9, 3), tensors["light"].grad, atol=5e-4)
    np.testing.assert_allclose(small[0, 27:30], tensors["gains"].grad[0], atol=1e-5)
    np.testing.assert_allclose(small[0, 30:], tensors["offsets"].grad[0], atol=1e-5)


def test_gradients_by_places_are_those_of_autograd(few):
    from bodyfit.fields.radiance.pose_loops import place_gradients

    field, _, samples, rng = few
    count = len(samples.ptr) - 1
    colors, masks, backgrounds = ray_targets(rng, count)
    weights = np.array([0.3, 0.05, 1.0])
    by_place, losses = np.zeros((len(samples), 3)), np.zeros(count)
    place_gradients(
        0, count, samples.ptr, samples.place, samples.normal, samples.origin_m, colors, masks,
        np.zeros(count, np.int64), backgrounds, *field.grid.arrays, field.values, field.light, field.gains,
        field.offsets, field.opaque(0.0), weights, by_place, losses,
    )  # fmt: skip
    places = torch.from_numpy(samples.place * 5e-5 + samples.origin_m.astype(float)).requires_grad_()
    loss = reference_loss(field, samples, colors, masks, backgrounds, weights, places=places)
    loss.backward()
    assert losses.sum() == pytest.approx(float(loss), rel=1e-6)
    np.testing.assert_allclose(by_place, places.grad, atol=1e-5 * float(places.grad.abs().max()))


def test_the_warp_moves_with_the_pose_as_finite_differences_say(few, poses):
    field, rays, samples, rng = few
    points, vertex = samples.posed_m(rays).astype(float), samples.vertex
    weights = rng.standard_normal((len(points), 3))
    one = field.model.params(**poses.select([0]))

    def total(params) -> float:
        return float((weights * warped(pose_bodies(field.canonical, field.model, params)[0], points, vertex)).sum())

    body = pose_bodies(field.canonical, field.model, one)[0]
    moved = {name: one[name].clone().requires_grad_() for name in ("body_pose", "global_orient", "transl")}
    pose_surrogate(body, field.model, replace(one, **moved), points, vertex, weights).backward()
    for name, tensor in moved.items():
        gradient = tensor.grad[0].numpy()
        for column in range(0, len(gradient), 1 if name == "transl" else 4):
            ends = []
            for sign in (1, -1):
                value = one[name].clone()
                value[0, column] += sign * 2e-3
                ends.append(total(replace(one, **{name: value})))
            # The warp is stored in single precision: 1e-7 m of a thousand points over 4e-3 rad.
            assert gradient[column] == pytest.approx(
                (ends[0] - ends[1]) / 4e-3, abs=0.01 * float(np.abs(gradient).max())
            )


def test_a_picture_is_the_composite_of_its_samples(truth, poses):
    drawn = truth.draw(poses.select([0]), camera_at(0.4), SIZE)
    body = pose_bodies(truth.canonical, truth.model, poses.select([0]))[0]
    samples = cast_rays(body, camera_rays(camera_at(0.4), SIZE), CONFIG.cast)
    sums, opacity = composite(truth, samples)
    # A ray ends where 0.2 % of the light is left, and space of less than 1 per metre is leapt over.
    for values, right in ((drawn.mask.ravel(), opacity), (drawn.rgb.reshape(-1, 3), sums)):
        apart = np.abs(values - right.numpy())
        assert apart.max() < 0.08
        assert (apart < 0.02).mean() > 0.995


def test_a_field_at_its_start_is_the_body(truth, poses):
    camera, size = camera_at(0.4), (120, 168)
    camera = CalibratedCamera(K=np.diag([3.0, 3.0, 1.0]) @ camera.K, R=camera.R, t=camera.t)
    drawn = truth.draw(poses.select([1]), camera, size)
    body = pose_bodies(truth.canonical, truth.model, poses.select([1]))[0]
    at = body.vertices @ camera.R.T + camera.t
    depth = depth_map(at, truth.canonical.faces, camera.K[0, 0], (camera.K[0, 2], camera.K[1, 2]), size).depth_m
    both = np.isfinite(depth) & np.isfinite(drawn.depth_m)
    union = np.isfinite(depth) | (drawn.mask > 0.5)
    assert both.sum() > 0.85 * union.sum()
    assert np.median(np.abs(drawn.depth_m[both] - depth[both])) < 0.01
    facing = -(drawn.normals[both] * np.array([0.0, 0.0, 1.0])).sum(1)
    assert (facing > 0).mean() > 0.97  # seen from outside, a surface looks at the camera


def test_a_field_learns_from_pictures_to_draw_other_poses_and_sides(truth, studio, poses):
    params = [poses.select([view.frame]) for view in studio]
    losses = []
    field = fit_field(
        [view.picture for view in studio], [view.mask for view in studio], params,
        [view.camera for view in studio], truth.model, config=CONFIG, progress=lambda _, loss: losses.append(loss),
    )  # fmt: skip
    assert np.mean(losses[-5:]) < 0.1 * losses[0]
    for frame, yaw in ((2, 0.0), (0, 0.8)):
        right = truth.draw(poses.select([frame]), camera_at(yaw), SIZE).over((1.0, 1.0, 1.0))
        drawn = field.draw(poses.select([frame]), camera_at(yaw), SIZE).over((1.0, 1.0, 1.0))
        naked = start_field(truth.model, np.zeros((1, 10), np.float32), CONFIG, 1)
        before = naked.draw(poses.select([frame]), camera_at(yaw), SIZE).over((1.0, 1.0, 1.0))
        assert ((drawn - right) ** 2).mean() < 0.1 * ((before - right) ** 2).mean()
    again = fit_field(
        [view.picture for view in studio], [view.mask for view in studio], params,
        [view.camera for view in studio], truth.model, config=replace(CONFIG, passes=0.2),
    )  # fmt: skip
    assert len(again.gains) == 4  # a gain for each camera, shared by its pictures


def test_refining_brings_a_wrong_pose_back(truth, studio, poses):
    turn = torch.zeros_like(poses.body_pose[:1])
    knee, elbow = (3 * (truth.model.skeleton.index(f"left_{joint}") - 1) for joint in ("knee", "shoulder"))
    turn[0, knee], turn[0, elbow + 2] = 0.15, -0.15
    right = poses.select([0])
    wrong = replace(right, body_pose=right.body_pose + turn)
    views = [view for view in studio if view.frame == 0]
    field = replace(truth, gains=np.ones((4, 3), np.float32), offsets=np.zeros((4, 3), np.float32))
    found = refine_poses(field, views, wrong, config=PoseConfig(every_px=1))
    at = {name: truth.model.joints(one)[0] for name, one in (("right", right), ("wrong", wrong), ("found", found))}
    before, after = (float((at[name] - at["right"]).norm(dim=1).mean()) for name in ("wrong", "found"))
    assert after < 0.65 * before  # limbs are two pixels wide


def test_the_loss_of_a_frame_falls_along_its_gradient(truth, studio, poses):
    views = [(view, 0) for view in studio if view.frame == 0]
    one = poses.select([0])
    shifted = replace(one, transl=(one.transl + torch.tensor([[0.03, 0.0, 0.0]])).requires_grad_())
    loss = field_loss(truth, views, shifted, 1, 0)
    (gradient,) = torch.autograd.grad(loss, shifted.transl)
    # Moving back towards the truth lowers the loss; the slope is that of the difference over a short way.
    ends = []
    for sign in (1, -1):
        moved = replace(one, transl=shifted.transl.detach() + sign * torch.tensor([[4e-3, 0.0, 0.0]]))
        ends.append(float(field_loss(truth, views, moved, 1, 0)))
    slope = (ends[0] - ends[1]) / 8e-3
    assert slope > 0
    assert float(gradient[0, 0]) == pytest.approx(slope, rel=0.3)  # samples at the band's ends come and go


@pytest.mark.parametrize(("name", "column", "way"), [("transl", 0, 0.01), ("body_pose", None, 0.05)])
def test_the_loss_rises_from_the_truth_as_its_curvature_says(truth, studio, poses, name, column, way):
    """Where the residuals are zero half of the Gauss-Newton matrix is the loss of a small step."""
    views = [(view, 0) for view in studio if view.frame == 0]
    column = 3 * (truth.model.skeleton.index("left_shoulder") - 1) + 2 if column is None else column
    right = truth.model.params(**poses.select([0]))
    loss, matrix = frame_loss(truth, views, right, 1, 0, curved=True)
    assert torch.allclose(matrix, matrix.T)
    assert float(torch.linalg.eigvalsh(matrix)[0]) > -1e-9
    value = right[name].clone()
    value[0, column] += way
    rise = float(field_loss(truth, views, replace(right, **{name: value}), 1, 0) - loss)
    place = {"transl": -3, "body_pose": 3}[name] + column
    assert 0.5 < rise / (0.5 * way**2 * float(matrix[place, place])) < 2.0


def test_a_field_comes_back_from_its_file(truth, poses, tmp_path):
    save_field(truth, tmp_path / "field.npz")
    again = load_field(tmp_path / "field.npz", truth.model)
    one = poses.select([0])
    drawn, same = (field.draw(one, camera_at(0.0), SIZE) for field in (truth, again))
    np.testing.assert_allclose(drawn.rgb, same.rgb, atol=2e-3)  # values are written in half precision
    with np.load(tmp_path / "field.npz") as arrays:
        parts = dict(arrays)
    for change, message in (
        ({"values": parts["values"][:-1]}, "values must be finite numbers"),
        ({"format": np.array("other")}, "no radiance field"),
        ({"config": np.array("{}")}, "settings cannot be read"),
        ({"model": np.array(["open-x", "neutral"])}, "of the body model open-x neutral"),
        ({"version": np.array(99)}, "newer version"),
    ):
        np.savez(tmp_path / "bad.npz", **(parts | change))
        with pytest.raises(AssetError, match=message):
            load_field(tmp_path / "bad.npz", truth.model)


def test_the_surface_is_the_body_at_the_start_and_moves_with_it(truth, poses):
    mesh = field_mesh(truth)
    from bodyfit.geometry.mesh_tree import MeshTree

    distance = MeshTree(truth.canonical.vertices, truth.canonical.faces).nearest(mesh.canonical_m).distance
    assert np.quantile(distance, 0.95) < 0.016  # a node's distance
    body = pose_bodies(truth.canonical, truth.model, poses.select([2]))[0]
    posed = mesh.posed(truth.model, poses.select([2]))
    distance = MeshTree(body.vertices, truth.canonical.faces).nearest(posed).distance
    assert np.quantile(distance, 0.95) < 0.016
    np.testing.assert_allclose(mesh.weights.sum(1), 1, atol=1e-5)
    rest = truth.model(betas=truth.canonical.betas).vertices[0].numpy()
    assert np.quantile(MeshTree(rest, truth.canonical.faces).nearest(mesh.rest_m).distance, 0.95) < 0.016
    a, b, c = (mesh.canonical_m[mesh.faces[:, k]] for k in range(3))
    assert (a * np.cross(b, c)).sum() > 0


def test_mistakes_are_named(model, poses, studio):
    view = studio[0]
    with pytest.raises(ShapeError, match="must be as many"):
        fit_field([view.picture], [view.mask], poses, [view.camera], model)
    one = poses.select([0])
    with pytest.raises(ShapeError, match="mask 0 must be of the picture's size"):
        fit_field([view.picture], [view.mask[:-1]], one, [view.camera], model)
    with pytest.raises(OptionError, match="mask of view 0 is empty"):
        fit_field([view.picture], [np.zeros_like(view.mask)], one, [view.camera], model)
    with pytest.raises(OptionError, match="passes > 0"):
        RadianceConfig(passes=0)
    field = start_field(model, np.zeros((1, 10), np.float32), CONFIG, 1)
    with pytest.raises(OptionError, match="was trained on 1 cameras, the views have 4"):
        refine_poses(field, studio, poses)


def test_networks_composite_as_the_formula_says_and_learn(truth, studio, poses, few):
    from bodyfit.fields.radiance.networks import NetworkConfig, composite, network_rays, train_network
    from bodyfit.fields.radiance.views import training_rays

    _, _, samples, rng = few
    density = torch.from_numpy(100 * rng.random(len(samples))).float()
    color = torch.from_numpy(rng.random((len(samples), 3))).float()
    sums, opacity = composite(density, color, torch.from_numpy(samples.ray), 0.015)
    for r in range(len(opacity)):
        part = slice(int(samples.ptr[r]), int(samples.ptr[r + 1]))
        alpha = 1 - torch.exp(-density[part] * 0.015)
        share = alpha * torch.cumprod(torch.cat([torch.ones(1), 1 - alpha]), 0)[:-1]
        np.testing.assert_allclose(sums[r], share @ color[part], atol=1e-5)
        assert float(opacity[r]) == pytest.approx(float(share.sum()), abs=1e-5)
    start = start_field(truth.model, np.zeros((1, 10), np.float32), CONFIG, 4)
    rays = training_rays(studio[:2], poses, truth.model, start.canonical, CONFIG.cast, 0)
    for kind, fine in (("grid", 0), ("encoding", 4)):
        config = NetworkConfig(kind=kind, seconds=1.0, batch_rays=128, fine=fine, rate=1e-2)
        network, losses = train_network(start, rays, config)
        assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:3])
        chosen = np.arange(0, len(rays), 7)
        drawn, opacity = network_rays(network, start, rays, chosen)
        assert drawn.shape == (len(chosen), 3)
        assert float(opacity.max()) <= 1 + 1e-5


def test_the_depth_of_a_surface_moves_as_finite_differences_say(few):
    from bodyfit.fields.radiance.surface_loops import meet

    field, _, samples, rng = few
    count = len(samples.ptr) - 1
    values = np.zeros((field.grid.rows, 1))
    fine = field.grid.level_rows(1)
    values[fine, 0] = -field.grid.signed_m[fine] / 0.01 + 0.3 * rng.standard_normal(fine.stop - fine.start)
    t = samples.t_m.astype(float)

    def depths(values, targets, weights):
        found, losses, grads = np.full(count, np.nan), np.zeros(1), np.zeros((1, *values.shape))
        meet(
            0, 1, np.arange(count), samples.ptr, samples.place, t, samples.origin_m, np.full(count, 255, np.uint8),
            targets, *field.grid.arrays, values, weights, 0.0225, grads, losses, found,
        )  # fmt: skip
        return found, grads[0, :, 0]

    weights = np.array([1.0, 0.0, 0.0])
    met = np.flatnonzero(np.isfinite(depths(values, np.full(count, np.nan), weights)[0]))
    assert len(met) > 5
    for r in met:
        target = np.full(count, np.nan)
        target[r] = 0.0  # |depth - 0| is the depth
        gradient = depths(values, target, weights)[1]
        for node in np.argsort(-np.abs(gradient))[:3]:
            ends = []
            for sign in (1, -1):
                moved = values.copy()
                moved[node, 0] += sign * 1e-4
                ends.append(depths(moved, target, weights)[0][r])
            assert gradient[node] == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-3)


@pytest.mark.slow
def test_a_surface_is_found_from_masks_and_depths(truth, poses):
    from bodyfit.fields.radiance.surface import SurfaceConfig, fit_surface
    from bodyfit.geometry.mesh_tree import MeshTree

    fat = truth.values.copy()  # a person 2 cm outside of the body
    fine = truth.grid.level_rows(1)
    fat[fine, 0] = np.where(truth.grid.signed_m[fine] < 0.02, 6, -6)
    fat = replace(truth, values=fat)
    views, depths = [], []
    for yaw in (0.0, 0.8, 1.6, 2.4, 3.1, 3.9, 4.7, 5.5):
        drawn = fat.draw(poses.select([0]), camera_at(yaw), SIZE)
        views.append(View(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), drawn.mask > 0.5, camera_at(yaw), 0))
        depths.append(drawn.depth_m)
    settings = SurfaceConfig(passes=40, batch_rays=2048)
    right = MeshTree(field_mesh(fat).canonical_m, field_mesh(fat).faces)

    def apart(field) -> float:
        return float(np.mean(right.nearest(field_mesh(field).canonical_m).distance))

    one = poses.select([0])
    body = apart(truth)
    by_masks = apart(fit_surface(views, one, truth.model, config=settings, radiance=CONFIG))
    by_both = apart(fit_surface(views, one, truth.model, depths_m=depths, config=settings, radiance=CONFIG))
    assert by_both < 0.5 * body, (body, by_masks, by_both)
    assert by_masks < 0.95 * body, (body, by_masks, by_both)  # eight small masks say little of the rest
