"""Carving, cubifying and refining: voxels of known solids, and a skirt that a body cannot follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit.app.free_surface_files import add_free_surface, write_free_surface
from bodyfit.app.free_surface_views import views_surface, write_views_surface
from bodyfit.cli.main import main
from bodyfit.errors import OptionError, ShapeError
from bodyfit.fit.result import FitStatus
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.geometry.mesh_tree import MeshTree, face_normals
from bodyfit.io.cameras import load_cameras
from bodyfit.io.masks import MaskFiles
from bodyfit.keypoints import Keypoints2D
from bodyfit.raster.depth import depth_map
from bodyfit.register.free_surface import CarveView, surface_of_masks, surface_of_scan
from bodyfit.register.free_surface.carve import carve, cubified, without_diagonals
from bodyfit.register.free_surface.of_registration import free_surface_of
from bodyfit.register.free_surface.views import even_directions, scan_views
from bodyfit.register.registration import Registration
from bodyfit.register.surface.deform import DeformStage
from bodyfit.register.surface.offsets import fit_surface

SIZE = 320
QUICK = (
    DeformStage(steps=3, smoothing_m=0.05, reach_m=0.2, spread_m=0.1, points=8_000),
    DeformStage(steps=3, smoothing_m=0.015, reach_m=0.1, spread_m=0.03, points=20_000),
)


def photographed(vertices, faces, away):
    """Mask and depth of a mesh, from a direction, of which it fills three quarters of the picture."""
    centre = (vertices.min(0) + vertices.max(0)) / 2
    radius = np.linalg.norm(vertices - centre, axis=1).max()
    side = np.cross(away, [0, 1, 0] if abs(away[1]) < 0.9 else [1, 0, 0])
    side = side / np.linalg.norm(side)
    R = np.stack([side, np.cross(-away, side), -away])
    focal = 0.38 * SIZE * 4
    K = np.array([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]])
    camera = CalibratedCamera(K=K, R=R, t=-R @ (centre + 4 * radius * away))
    depth = depth_map(vertices @ R.T + camera.t, faces, focal, (SIZE / 2, SIZE / 2), (SIZE, SIZE)).depth_m
    return CarveView(camera, np.isfinite(depth), depth.astype(np.float64))


def around(vertices, faces, count):
    """Masks from a ring of cameras and from above, without depth."""
    angles = 2 * np.pi * np.arange(count) / count
    directions = [np.array([np.sin(a), 0.1, np.cos(a)]) / np.sqrt(1.01) for a in angles]
    views = [photographed(vertices, faces, d) for d in (*directions, np.array([0, 0.995, 0.0998749]))]
    return [CarveView(v.camera, v.mask) for v in views]


@pytest.fixture(scope="module")
def ball():
    sphere = trimesh.creation.icosphere(4, radius=0.3)
    return np.asarray(sphere.vertices) + np.array([1.0, -2.0, 0.5]), np.asarray(sphere.faces)


def test_carving_by_masks_gives_the_visual_hull(ball):
    """Of a sphere, from 14 sides, little more than the sphere, and nothing less."""
    vertices, faces = ball
    views = [photographed(vertices, faces, d) for d in even_directions(14)]
    views = [CarveView(v.camera, v.mask) for v in views]
    axes = trimesh.transformations.random_rotation_matrix(np.array([0.1, 0.5, 0.8]))[:3, :3]
    own = vertices @ axes
    grid = carve(views, own.min(0) - 0.1, own.max(0) + 0.1, 0.02, axes)
    centres = grid.centres(np.argwhere(grid.occupied))
    distance = np.linalg.norm(centres - [1.0, -2.0, 0.5], axis=1)
    volume = len(centres) * 0.02**3
    assert 1.0 < volume / (4 / 3 * np.pi * 0.3**3) < 1.25
    inside = np.stack(np.meshgrid(*(np.arange(n) for n in grid.occupied.shape), indexing="ij"), 3).reshape(-1, 3)
    inside = inside[np.linalg.norm(grid.centres(inside) - [1.0, -2.0, 0.5], axis=1) < 0.29]
    assert grid.occupied[tuple(inside.T)].all()
    assert distance.max() < 0.42
    mesh = trimesh.Trimesh(*cubified(grid), process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(volume, rel=0.03)
    np.testing.assert_allclose(mesh.center_mass, centres.mean(0), atol=0.003)


def test_depth_carves_what_no_mask_shows():
    """A bowl: its hollow is inside every outline from the side."""
    outer = trimesh.creation.icosphere(4, radius=0.3)
    vertices = np.asarray(outer.vertices).copy()
    upper = vertices[:, 1] > 0
    vertices[upper, 1] *= -0.7  # the upper half pushed into the lower one
    views = [photographed(vertices, np.asarray(outer.faces), d) for d in even_directions(20)]
    masks = [CarveView(v.camera, v.mask) for v in views]
    box = np.array([-0.4, -0.4, -0.4]), np.array([0.4, 0.1, 0.4])
    hollow = np.array([[0.0, -0.08, 0.0]])

    def occupied(some):
        grid = carve(some, *box, 0.02, np.eye(3))
        return grid.occupied[tuple(((hollow - grid.corner_m) / 0.02).astype(int).T)].item()

    assert occupied(masks[8:12])  # from the side
    assert not occupied(views)


def test_no_edge_has_four_faces():
    occupied = np.random.default_rng(0).random((12, 13, 14)) < 0.3
    filled = without_diagonals(np.pad(occupied, 1))
    assert (filled[1:-1, 1:-1, 1:-1] >= occupied).all()
    views_of_edges = [filled, filled.transpose(1, 2, 0), filled.transpose(2, 0, 1)]
    for v in views_of_edges:
        a, b, c, d = v[:-1, :-1], v[:-1, 1:], v[1:, :-1], v[1:, 1:]
        assert not (a & d & ~b & ~c).any()
        assert not (b & c & ~a & ~d).any()


def test_a_scan_is_drawn_without_gaps(ball):
    vertices, faces = ball
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    points, face = trimesh.sample.sample_surface(mesh, 20_000, seed=0)
    points, normals = np.asarray(points), np.asarray(mesh.face_normals[face])
    pixel = 0.01
    for view in scan_views(points, normals, pixel, count=5):
        area = view.mask.sum() * pixel**2
        assert 1 < area / (np.pi * 0.3**2) < 1.16  # an edge of two pixels is 14 %, perspective 2 %
        assert np.isfinite(view.depth_m[view.mask]).mean() > 0.97
        centre = view.camera.R @ [1.0, -2.0, 0.5] + view.camera.t
        assert np.nanmin(view.depth_m) == pytest.approx(centre[2] - 0.3, abs=0.01)


@pytest.fixture(scope="module")
def skirt():
    """A standing body in a cone from the waist to the knees: the body, its mesh, and the mesh of both."""
    model = bodyfit.load_model()
    params = model.params()
    out = model(**params)
    body = out.vertices[0].double().numpy()
    waist, knee = (float(out.joints[0, model.skeleton.index(n), 1]) for n in ("spine1", "left_knee"))
    cone = trimesh.creation.revolve([(0.0, waist), (0.14, waist), (0.34, knee), (0.0, knee)], sections=72)
    cone = cone if cone.volume > 0 else trimesh.Trimesh(cone.vertices, cone.faces[:, ::-1], process=False)
    # revolve turns about z: its height goes to y, and its centre to the body's.
    vertices = np.asarray(cone.vertices)[:, [1, 2, 0]] + [0, 0, out.joints[0, 0, 2].item()]
    fine, fine_faces = trimesh.remesh.subdivide_to_size(vertices, np.asarray(cone.faces), 0.03)
    faces = np.concatenate([model.faces.numpy(), fine_faces + len(body)])
    return model, params, (np.concatenate([body, fine]), faces)


@pytest.fixture(scope="module")
def skirt_scan(skirt):
    """What cameras all about see of it."""
    vertices, faces = skirt[2]
    rng = np.random.default_rng(0)
    normals = face_normals(vertices, faces)
    area = np.linalg.norm(normals, axis=1)
    face = rng.choice(len(faces), 60_000, p=area / area.sum())
    points = np.einsum("nk,nkc->nc", rng.dirichlet([1, 1, 1], len(face)), vertices[faces[face]])
    seen_by_some = np.zeros(len(points), bool)
    for away in even_directions(30):
        view = photographed(vertices, faces, away)
        xy, depth = view.project(points)
        (row, column), inside = (a.T if a.ndim == 2 else a for a in view.pixels(xy))
        seen_by_some |= inside & (depth < view.depth_m[row, column] + 0.008) & (normals[face] @ away > 0)
    unit = normals[face] / area[face, None]
    return points[seen_by_some], unit[seen_by_some]


def chamfer(points, vertices, faces):
    """Mean squared distances of points to a surface and of a sample of the surface to the points, in mm^2."""
    to_surface = MeshTree(vertices, faces).nearest(points).distance
    sample, _ = trimesh.sample.sample_surface(trimesh.Trimesh(vertices, faces, process=False), 20_000, seed=0)
    return 1e6 * ((to_surface**2).mean() + (KDTree(points).query(np.asarray(sample))[0] ** 2).mean())


def test_a_skirt_is_followed_as_no_offsets_can(skirt, skirt_scan):
    model, params, _ = skirt
    points, normals = skirt_scan
    free = surface_of_scan(points, normals, cell_m=0.02, longest_edge_m=None)
    mesh = trimesh.Trimesh(free.vertices_m, free.faces, process=False)
    assert mesh.is_watertight
    assert np.mean(free.distance_m < 0.005) > 0.9
    offsets = fit_surface(model, params, points, normals, longest_edge_m=None, stages=QUICK)
    ours, theirs = (chamfer(points, *m) for m in ((free.vertices_m, free.faces), (offsets.vertices_m, offsets.faces)))
    assert ours < 0.5 * theirs
    assert ours < 60


def test_a_skirt_of_masks(skirt, skirt_scan):
    """Eight views around and one from above; edges of masks are met better than by the voxels."""
    model, params, (vertices, faces) = skirt
    views = around(vertices, faces, 8)
    body = model(**params).vertices[0].double().numpy()
    found = surface_of_masks(views, body, cell_m=0.025)
    grid = carve(views, body.min(0) - 0.35, body.max(0) + 0.35, 0.025, np.eye(3))
    own = chamfer(skirt_scan[0], found.vertices_m, found.faces)
    assert own < 0.5 * chamfer(skirt_scan[0], body, model.faces.numpy())

    def disagreement(v, f):
        """Pixels of all masks that a mesh's masks differ in."""
        count = 0
        for view in views:
            K, camera = view.camera.K, view.camera
            drawn = depth_map(v @ camera.R.T + camera.t, f, K[0, 0], (K[0, 2], K[1, 2]), (SIZE, SIZE))
            count += (np.isfinite(drawn.depth_m) ^ view.mask).sum()
        return count

    assert disagreement(found.vertices_m, found.faces) < 0.6 * disagreement(*cubified(grid))


def test_bad_input_has_a_clear_word(ball):
    vertices, faces = ball
    view = photographed(vertices, faces, np.array([0.0, 0.0, 1.0]))
    with pytest.raises(OptionError, match="too few to carve"):
        surface_of_masks([view, view], vertices)
    with pytest.raises(OptionError, match="mask of a view is empty"):
        CarveView(view.camera, np.zeros_like(view.mask))
    with pytest.raises(ShapeError, match="depth_m"):
        CarveView(view.camera, view.mask, view.depth_m[1:])
    with pytest.raises(OptionError, match="nothing is left"):
        surface_of_masks([view] * 3, vertices + 50)
    with pytest.raises(OptionError, match="too small"):
        surface_of_scan(vertices[:100], vertices[:100])
    with pytest.raises(OptionError, match="cell_m"):
        surface_of_scan(vertices, vertices, cell_m=0.0)
    with pytest.raises(OptionError, match="too large"):
        carve([view], vertices.min(0) - 100, vertices.max(0), 0.01, np.eye(3))


@pytest.mark.parametrize("normals", ["inward", None])
def test_the_free_surface_of_a_registration(tmp_path, skirt, skirt_scan, normals):
    """Its grid has the body's axes; normals that look inwards are turned, missing ones found; files lie on the scan."""
    model, _, (vertices, _) = skirt
    points, tilt = skirt_scan[0][::3], skirt_scan[1][::3]
    turn = Rotation.from_euler("xyz", [90, 0, 30], degrees=True)
    place = np.array([3.0, 1.0, -2.0])
    moved = turn.apply(points) + place
    params = model.params(global_orient=torch.tensor(turn.as_rotvec())[None].float())
    out = model(**params)
    shift = torch.tensor(turn.apply(model().joints[0, 0].numpy()) + place) - out.joints[0, 0]
    result = Registration(
        model.params(global_orient=params.global_orient, transl=shift[None].float()),
        None,
        None,
        FitStatus.CONVERGED,
        None,
        unit_m=0.01,
        vertices=out.vertices[0] + shift.float(),
        joints=out.joints[0] + shift.float(),
        points=moved,
        normals=None if normals is None else -turn.apply(tilt),
        person=np.ones(len(points), bool),
    )
    found = free_surface_of(result, model, cell_m=0.03, longest_edge_m=None)
    assert np.mean(found.distance_m < 0.01) > 0.9
    (tmp_path / "free_surface.glb").write_bytes(b"of an earlier run")
    assert add_free_surface(result, model, tmp_path, {"files": []}, wanted=False) == {"files": []}
    assert not any(tmp_path.iterdir())
    facts = write_free_surface(result, found, tmp_path)
    assert sum(facts["histogram"]["counts"]) == len(points)
    on_scan = trimesh.load(tmp_path / "free_surface.ply", process=False)
    np.testing.assert_allclose(on_scan.vertices / 100, found.vertices_m, atol=1e-5)
    upright = trimesh.load(tmp_path / "free_surface.glb", force="mesh", process=False)
    np.testing.assert_allclose(np.ptp(upright.vertices[:, 1]), np.ptp(vertices[:, 1]), atol=0.03)


class Finder:
    """A detector that finds the same people in the pictures, one after another."""

    def __init__(self, people):
        self.people = iter(people)

    def detect(self, frames):
        return [[next(self.people)] for _ in frames]


def test_pictures_of_calibrated_cameras_give_a_free_surface(tmp_path):
    """From files to files: four cameras around, a mask of each but one, keypoints of a detector."""
    model = bodyfit.load_model()
    params = bodyfit.random_bodies(1, model=model, seed=5)
    with torch.no_grad():
        vertices = model(**params).vertices[0].double().numpy()
        points = model.keypoints(params, "coco17")[0].double().numpy()
    views, people = around(vertices, model.faces.numpy(), 4), []
    for name in ("pictures", "masks"):
        (tmp_path / name).mkdir()
    for i, view in enumerate(views):
        Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
        if i != 3:
            Image.fromarray(255 * view.mask.astype(np.uint8)).save(tmp_path / "masks" / f"{i}.png")
        xy, _ = view.project(points)
        people.append(Keypoints2D("coco17", np.concatenate([xy, np.ones((17, 1))], 1).astype(np.float32)))
    cameras = {name: np.stack([getattr(view.camera, name) for view in views]) for name in ("K", "R", "t")}
    np.savez(tmp_path / "cameras.npz", **cameras)
    rig, files = load_cameras(tmp_path / "cameras.npz"), MaskFiles(tmp_path / "masks")
    pictures = sorted((tmp_path / "pictures").iterdir())
    found = views_surface(pictures, rig, files, model, Finder(people))
    assert np.linalg.norm(found.vertices_m - vertices, axis=1).mean() < 0.04  # in the cameras' world
    away = MeshTree(found.surface.vertices_m, found.surface.faces).nearest(vertices).distance
    assert np.median(away) < 0.03  # the hull of few views, of voxels of 15 mm
    facts = write_views_surface(found, model, tmp_path)
    assert all((tmp_path / name).stat().st_size for name in facts["files"])
    bounds = np.stack([found.surface.vertices_m.min(0), found.surface.vertices_m.max(0)])
    np.testing.assert_allclose(trimesh.load(tmp_path / "free_surface.ply").bounds, bounds, atol=1e-5)
    with pytest.raises(OptionError, match="5 pictures and 4 cameras"):
        views_surface(pictures, rig[:4], files, model, Finder(people))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [({"K": np.eye(3)[None]}, "has no R, t"), ({"K": np.eye(3), "R": np.eye(3), "t": np.zeros(3)}, "K must be"),
     ({"K": np.eye(3)[None], "R": np.eye(3)[None], "t": np.zeros((1, 3))}, "pixels")],
)  # fmt: skip
def test_files_of_cameras_that_are_none_get_a_clear_word(arrays, words, tmp_path):
    np.savez(tmp_path / "cameras.npz", **arrays)
    with pytest.raises(OptionError, match=rf"cameras\.npz.*{words}"):
        load_cameras(tmp_path / "cameras.npz")
    with pytest.raises(OptionError, match="no such file"):
        load_cameras(tmp_path / "none.npz")


def test_masks_and_cameras_belong_together(tmp_path, capsys):
    assert main(["register", str(tmp_path), "--masks", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "--cameras and --masks belong together" in capsys.readouterr().err
