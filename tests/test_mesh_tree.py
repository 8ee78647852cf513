"""Nearest points, crossings and subdivision against brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from bodyfit.errors import ShapeError
from bodyfit.geometry.mesh_tree import MeshTree, face_normals
from bodyfit.geometry.subdivision import split_long_edges


@pytest.fixture(scope="module")
def soup():
    """Two hundred random triangles, some without area."""
    rng = np.random.default_rng(0)
    corners = rng.standard_normal((200, 1, 3)) + 0.3 * rng.standard_normal((200, 3, 3))
    corners[:3, 2] = corners[:3, 1]  # a segment
    corners[3, 1:] = corners[3, 0]  # a point
    return corners.reshape(-1, 3), np.arange(600).reshape(-1, 3)


def brute_force(corners, points):
    """Distances to every triangle, by trimesh."""
    closest = [trimesh.triangles.closest_point(corners, np.repeat(p[None], len(corners), 0)) for p in points]
    return np.linalg.norm(np.array(closest) - points[:, None], axis=2)


def test_nearest_points_are_those_of_brute_force(soup):
    vertices, faces = soup
    points = np.random.default_rng(1).standard_normal((100, 3)) * 1.5
    found = MeshTree(vertices, faces).nearest(points)
    proper = faces[4:]  # trimesh divides by zero on those without area
    others = np.linalg.norm(vertices[faces[:4, 0]][None] - points[:, None], axis=2)
    want = brute_force(vertices[proper], points)
    assert (found.distance <= want.min(1) + 1e-12).all()
    settled = want.min(1) < others.min(1) - 2  # no degenerate face can be nearer
    plain = found.face >= 4
    np.testing.assert_allclose(found.distance[plain], want.min(1)[plain], atol=1e-12)
    assert plain[settled].all()
    np.testing.assert_allclose(np.linalg.norm(found.points - points, axis=1), found.distance, atol=1e-12)
    np.testing.assert_allclose(found.weights.sum(1), 1, atol=1e-12)
    assert (found.weights >= -1e-12).all()


def test_only_faces_of_agreeing_normals_and_within_reach(soup):
    vertices, faces = soup[0][12:], soup[1][:-4]
    points = np.random.default_rng(2).standard_normal((60, 3))
    normals = points / np.linalg.norm(points, axis=1, keepdims=True)
    found = MeshTree(vertices, faces).nearest(points, normals=normals, min_cosine=0.5, within=0.5)
    of_faces = face_normals(vertices, faces)
    of_faces /= np.linalg.norm(of_faces, axis=1, keepdims=True)
    want = np.where(normals @ of_faces.T >= 0.5, brute_force(vertices[faces], points), np.inf).min(1)
    want[want > 0.5] = np.inf
    assert 0 < found.found.sum() < len(points)
    np.testing.assert_allclose(found.distance, want, atol=1e-12)


def test_a_moved_mesh_is_searched_where_it_is(soup):
    vertices, faces = soup
    points = np.random.default_rng(3).standard_normal((50, 3))
    tree = MeshTree(vertices, faces)
    moved = vertices[:, [2, 0, 1]] * [1, -2, 1] + 1
    tree.update(moved)
    np.testing.assert_allclose(tree.nearest(points).distance, MeshTree(moved, faces).nearest(points).distance)


def test_crossings_of_two_boxes():
    """Boxes that overlap cross at their surfaces, boxes apart or one within the other do not."""
    box = trimesh.creation.box((1, 1, 1))
    faces = np.concatenate([box.faces, box.faces + 8])

    def crossings(offset, size=1.0):
        return MeshTree(np.concatenate([box.vertices, size * box.vertices + offset]), faces).crossings()

    assert len(crossings([1.1, 0.2, 0.3])) == 0
    assert len(crossings([0.1, 0.05, 0.02], 0.5)) == 0
    pairs = crossings([0.9, 0.2, 0.3])
    assert len(pairs) > 0
    assert (pairs[:, 0] < 12).all()
    assert (pairs[:, 1] >= 12).all()
    tree = MeshTree(np.concatenate([box.vertices, box.vertices + np.array([0.9, 0.2, 0.3])]), faces)
    some = tree.crossings(of=pairs[:1, 1])
    assert {tuple(p) for p in some} == {tuple(p) for p in pairs if pairs[0, 1] in p}


def test_bad_meshes_are_refused():
    with pytest.raises(ShapeError, match="faces must be"):
        MeshTree(np.zeros((3, 3)), np.array([[0, 1, 3]]))
    with pytest.raises(ShapeError, match="finite"):
        MeshTree(np.full((3, 3), np.nan), np.array([[0, 1, 2]]))


def test_splitting_keeps_the_surface_closed_and_its_area():
    sphere = trimesh.creation.icosphere(2)
    vertices, faces = np.asarray(sphere.vertices) * [1, 2, 3], np.asarray(sphere.faces)
    # Texture coordinates with a seam: every face of x > 0 has rows of its own.
    uv_faces = faces + np.where(vertices[faces].mean(1)[:, :1] > 0, len(vertices), 0)
    uv = np.concatenate([vertices[:, :2], vertices[:, :2] + 5])
    split = split_long_edges(vertices, faces, 0.4, uv_faces=uv_faces, n_uv=len(uv))
    finer = trimesh.Trimesh(split.refine(vertices), split.faces, process=False)
    coarse = trimesh.Trimesh(vertices, faces, process=False)
    assert len(faces) < len(finer.faces) < 4 * len(faces)
    assert finer.is_watertight
    assert finer.is_winding_consistent
    assert finer.area == pytest.approx(coarse.area)
    np.testing.assert_allclose(np.bincount(split.parents, finer.area_faces), coarse.area_faces)
    # A corner's texture coordinates are its position's, here the identity beside the shift of the chart.
    rows = split.refine_uv(uv)[split.uv_faces]
    np.testing.assert_allclose(rows % 5, split.refine(vertices)[split.faces][..., :2] % 5, atol=1e-12)
