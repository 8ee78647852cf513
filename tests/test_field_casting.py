"""Rays past posed bodies: nearest vertices, the band, the warp and the anchors against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import tiny_assets
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError, ShapeError
from bodyfit.fields.casting import (
    CastConfig,
    Rays,
    camera_rays,
    canonical_body,
    cast_rays,
    nearest_volume,
    pose_bodies,
    surface_anchors,
)
from bodyfit.fields.casting.canonical import canonical_pose
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.geometry.mesh_tree import MeshTree

CONFIG = CastConfig(voxel_m=0.02, step_m=0.015, band_m=0.06, depth_m=0.03)


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model("open")


@pytest.fixture(scope="module")
def canonical(model):
    return canonical_body(model)


@pytest.fixture(scope="module")
def posed(model, canonical):
    """A walking body, its rays of one camera, and their samples."""
    params = bodyfit.random_bodies(1, model=model, seed=4)
    return pose_bodies(canonical, model, params)[0]


def camera_before(vertices: np.ndarray, pixels: int) -> CalibratedCamera:
    """A camera 2.6 m before a body that looks along z."""
    R, middle = np.diag([1.0, -1.0, -1.0]), (vertices.min(0) + vertices.max(0)) / 2
    K = np.array([[1.2 * pixels, 0, pixels / 2], [0, 1.2 * pixels, pixels / 2], [0, 0, 1]])
    return CalibratedCamera(K=K, R=R, t=np.array([0, 0, 2.6]) - R @ middle)


@pytest.fixture(scope="module")
def cast(posed):
    rays = camera_rays(camera_before(posed.vertices, 48), (48, 48), seed=1)
    return rays, cast_rays(posed, rays, CONFIG)


def winding(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Generalised winding numbers (Jacobson et al. 2013): 1 inside, 0 outside."""
    total = []
    for point in points:
        a, b, c = (vertices[faces[:, k]] - point for k in range(3))
        la, lb, lc = (np.linalg.norm(x, axis=1) for x in (a, b, c))
        numerator = (a * np.cross(b, c)).sum(1)
        denominator = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
        total.append(np.arctan2(numerator, denominator).sum() / (2 * np.pi))
    return np.array(total)


def test_a_volume_names_the_nearest_vertices(posed):
    volume = nearest_volume(posed.vertices, voxel_m=0.02, band_m=0.06)
    centres = volume.origin_m + (np.argwhere(volume.nearest >= -1) + 0.5) * 0.02
    vertex = volume.nearest.ravel()
    truth, _ = cKDTree(posed.vertices).query(centres)
    limit = 0.06 + math.sqrt(3) * 0.02
    assert (vertex[truth < limit - 0.01] >= 0).all()
    assert (truth[vertex >= 0] < limit + 1e-5).all()
    found = np.linalg.norm(centres - posed.vertices[vertex], axis=1)[vertex >= 0]
    excess = found - truth[vertex >= 0]  # a voxel keeps one vertex of the several in it
    assert excess.max() < 0.02
    assert np.quantile(excess, 0.95) < 0.02 / 4


def test_blocks_of_empty_voxels_are_counted(posed):
    volume = nearest_volume(posed.vertices, voxel_m=0.02, band_m=0.06)
    named = np.argwhere(volume.nearest >= 0) // 4
    tree = cKDTree(np.unique(named, axis=0))
    blocks = np.argwhere(volume.empty >= 0)
    distance, _ = tree.query(blocks, p=np.inf)
    np.testing.assert_array_equal(volume.empty.ravel(), distance)


def test_samples_are_all_those_in_the_band(posed, cast):
    rays = cast[0].select(slice(None, None, 5))
    samples = cast_rays(posed, rays, CONFIG)
    steps = np.arange(130, 240)
    t = (steps[None] + rays.offsets[:, None]) * CONFIG.step_m
    points = rays.origins[:, None] + t[..., None] * rays.directions[:, None]
    distance, _ = cKDTree(posed.vertices).query(points.reshape(-1, 3))
    distance = distance.reshape(t.shape)
    drawn = np.zeros(t.shape, bool)
    drawn[samples.ray, samples.step.astype(int) - steps[0]] = True
    assert not (drawn & (distance > CONFIG.band_m + 1e-4)).any()
    outside = np.zeros(t.shape, bool)
    near = np.argwhere(distance < CONFIG.band_m - 1e-3)
    pick = near[np.random.default_rng(0).permutation(len(near))[:200]]
    found = MeshTree(posed.vertices, posed.canonical.faces).nearest(points[tuple(pick.T)])
    inside = winding(points[tuple(pick.T)], posed.vertices.astype(float), posed.canonical.faces) > 0.5
    outside[tuple(pick.T)] = ~inside | (found.distance < CONFIG.depth_m - 0.005)
    missing = outside & ~drawn
    assert missing.sum() <= 0.01 * outside.sum()  # where limbs touch, a nearest vertex can be of the other one
    np.testing.assert_allclose(samples.posed_m(rays), points[drawn], atol=1e-5)
    assert (np.diff(samples.t_m)[np.diff(samples.ray) == 0] > 0).all()


def test_the_warp_is_the_blend_of_its_formula(posed, cast):
    rays, samples = cast
    points, canonical = samples.posed_m(rays).astype(float), samples.canonical_m
    body = posed.canonical
    normals = samples.normals
    for n in range(0, len(samples), 499):
        v = samples.vertex[n]
        ring = body.wide[body.wide_ptr[v] : body.wide_ptr[v + 1]]
        row = posed.warp[ring].astype(float)
        apart = points[n] - row[:, :3]
        w = 1 / ((apart**2).sum(1) + 1e-5) ** 2
        moved = row[:, 15:] + np.einsum("kij,kj->ki", row[:, 6:15].reshape(-1, 3, 3), apart)
        np.testing.assert_allclose(canonical[n], w @ moved / w.sum(), atol=5e-5)  # the unit of packed places
        normal = w @ row[:, 3:6]
        np.testing.assert_allclose(normals[n], normal / np.linalg.norm(normal), atol=0.01)


def test_samples_name_their_nearest_vertex(posed, cast):
    rays, samples = cast
    points = samples.posed_m(rays)
    truth, _ = cKDTree(posed.vertices).query(points)
    excess = np.linalg.norm(points - posed.vertices[samples.vertex], axis=1) - truth
    assert excess.min() > -1e-5
    assert np.quantile(excess, 0.97) < 1e-5


def test_the_canonical_body_is_mapped_to_itself_and_distances_are_true(model, canonical):
    params = model.params(body_pose=canonical_pose(model))
    body = pose_bodies(canonical, model, params)[0]
    rays = camera_rays(camera_before(body.vertices, 40), (40, 40))
    samples = cast_rays(body, rays)
    np.testing.assert_allclose(samples.canonical_m, samples.posed_m(rays), atol=5e-5)
    pick = np.random.default_rng(0).permutation(len(samples))[:200]
    points = samples.posed_m(rays)[pick].astype(float)
    distance = MeshTree(body.vertices, canonical.faces).nearest(points).distance
    inside = winding(points, body.vertices.astype(float), canonical.faces) > 0.5
    error = samples.signed_distance_m[pick] - np.where(inside, -distance, distance)
    assert np.quantile(np.abs(error), 0.95) < 0.004
    assert (np.abs(error) < 0.01).mean() > 0.98  # the rest: in the mouth and behind the eyes, between two walls


def test_moving_the_body_and_the_rays_changes_nothing(model, canonical, posed, cast):
    rays, samples = cast
    turn = Rotation.from_rotvec([0.3, 1.1, -0.4])
    params = bodyfit.random_bodies(1, model=model, seed=4)
    orient = turn * Rotation.from_rotvec(params.global_orient.numpy())
    pelvis = model.joints(params)[0, 0].numpy()
    moved = model.params(
        betas=params.betas,
        body_pose=params.body_pose,
        global_orient=torch.from_numpy(orient.as_rotvec().astype(np.float32)),
        transl=torch.tensor([[0.2, -0.5, 3.0]]) + params.transl,
    )
    shift = model.joints(moved)[0, 0].numpy() - turn.apply(pelvis)
    origins, directions = turn.apply(rays.origins) + shift, turn.apply(rays.directions)
    turned = Rays(origins.astype(np.float32), directions.astype(np.float32), rays.offsets)
    again = cast_rays(pose_bodies(canonical, model, moved)[0], turned, CONFIG)
    both, a, b = np.intersect1d(
        samples.ray * 100_000 + samples.step, again.ray * 100_000 + again.step, return_indices=True
    )
    assert len(both) > 0.996 * max(len(samples), len(again))  # a walk may end at another vertex at the band's edge
    apart = np.linalg.norm(samples.canonical_m[a] - again.canonical_m[b], axis=1)
    assert np.quantile(apart, 0.95) < 2e-4  # voxels are other ones, and so are a few nearest vertices
    turned = turn.apply(samples.normals[a])
    assert np.quantile(np.abs(turned - again.normals[b]).max(1), 0.95) < 0.03


def test_a_shared_volume_gives_the_same_samples(posed, cast):
    rays, samples = cast
    volume = nearest_volume(posed.vertices, voxel_m=CONFIG.voxel_m, band_m=CONFIG.band_m)
    again = cast_rays(posed, rays, CONFIG, volume=volume)
    np.testing.assert_array_equal(samples.place, again.place)
    few = cast_rays(posed, rays.select(slice(100, 1200)), CONFIG, volume=volume)
    np.testing.assert_array_equal(samples.place[samples.ptr[100] : samples.ptr[1200]], few.place)


def test_the_band_is_wider_at_head_and_feet(posed, cast):
    rays, narrow = cast
    wide = cast_rays(posed, rays, CastConfig(voxel_m=0.02, step_m=0.015, band_m=0.06, depth_m=0.03, loose_m=0.1))
    loose = posed.canonical.loose
    assert 0.05 < loose.mean() < 0.6
    at = posed.canonical.vertices[loose]
    assert ((at[:, 1] > 0.2) | (at[:, 1] < -0.8)).all()  # about the pelvis at 0: head and feet
    far = np.linalg.norm(wide.posed_m(rays) - posed.vertices[wide.vertex], axis=1) > 0.0601
    assert far.any()
    assert loose[wide.vertex[far]].all()
    assert (~far).sum() >= 0.99 * len(narrow)


def test_rays_go_through_their_pixels():
    camera = CalibratedCamera(
        K=np.array([[300.0, 0, 130], [0, 310, 120], [0, 0, 1]]),
        R=Rotation.from_rotvec([0.2, -2.0, 0.1]).as_matrix(),
        t=np.array([0.1, 0.2, 3.0]),
        distortion=np.array([-0.1, 0.02, 1e-3, -2e-3]),
    )
    rays = camera_rays(camera, (16, 12))
    at = camera.project(rays.origins.astype(float) + 2.5 * rays.directions)
    truth = np.stack(np.meshgrid(np.arange(16) + 0.5, np.arange(12) + 0.5), -1).reshape(-1, 2)
    np.testing.assert_allclose(at, truth, atol=1e-3)
    np.testing.assert_allclose(camera_rays(camera, (16, 12), xy_px=truth[5:6]).directions, rays.directions[5:6])


def test_anchors_are_farthest_points(canonical):
    anchors = surface_anchors(canonical, 64, near=8)
    chosen, points = anchors.vertices, canonical.vertices
    for n in (1, 7, 63):
        least, _ = cKDTree(points[chosen[:n]]).query(points)
        assert least[chosen[n]] == pytest.approx(least.max(), abs=1e-6)
    _, truth = cKDTree(anchors.points).query(points, k=8)
    np.testing.assert_array_equal(anchors.near, truth)


def test_anchor_weights_are_those_of_the_four_nearest(canonical, cast):
    _, samples = cast
    anchors = surface_anchors(canonical, 1024)
    found = anchors.weigh(samples)
    assert (found.weight.astype(int).sum(1) == 255).all()
    distance, truth = cKDTree(anchors.points).query(samples.canonical_m, k=5)
    same = (np.sort(found.anchor, 1) == np.sort(truth[:, :4], 1)).all(1)
    assert same.mean() > 0.95  # far samples of a vertex may have anchors beyond the sixteen near it
    w = ((distance[:, 4:] - distance[:, :4]) / (distance[:, 4:] * distance[:, :4])) ** 2
    ordered = (found.anchor == truth[:, :4]).all(1)
    apart = np.abs(found.weights - w / w.sum(1, keepdims=True)).max(1)[ordered]
    assert (apart < 0.01).mean() > 0.99  # of the others the fifth is beyond the sixteen


def test_mistakes_are_named(model, canonical, posed):
    with pytest.raises(OptionError, match="voxel_m <= band_m"):
        CastConfig(voxel_m=0.1, band_m=0.05)
    with pytest.raises(OptionError, match="too small for a body"):
        nearest_volume(posed.vertices, voxel_m=1e-4)
    with pytest.raises(ShapeError, match="must be finite"):
        pose_bodies(canonical, model, model.params(transl=torch.tensor([[0.0, torch.nan, 0.0]])))
    with pytest.raises(OptionError, match="at most the"):
        surface_anchors(canonical, 50_000)
    with pytest.raises(OptionError, match="whole body"):
        canonical_pose(BodyModel(tiny_assets("mano_left")))
