"""Depth maps of meshes: against a ray cast by hand, and against PyTorch3D's rasteriser through `draw_maps`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bodyfit.geometry.camera import Camera
from bodyfit.raster.depth import depth_map, nearest_faces
from bodyfit.render import draw_maps


@pytest.fixture(scope="module")
def ball():
    """A closed mesh before the camera: vertices and faces."""
    from pytorch3d.utils import ico_sphere

    mesh = ico_sphere(2)
    return mesh.verts_packed().numpy() * 0.4 + np.array([0.1, -0.2, 2.5]), mesh.faces_packed().numpy()


def test_a_ray_through_each_pixel_meets_the_face_at_its_depth(ball):
    vertices, faces = ball
    found = depth_map(vertices, faces, (90.0, 100.0), (40.0, 30.0), (80, 60))
    rows, columns = np.nonzero(found.faces >= 0)
    rays = np.stack([(columns + 0.5 - 40) / 90, (rows + 0.5 - 30) / 100, np.ones(len(rows))], 1)
    a, b, c = vertices[faces[found.faces[rows, columns]]].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    depth = (normals * a).sum(1) / (normals * rays).sum(1)
    np.testing.assert_allclose(found.depth_m[rows, columns], depth, rtol=1e-5)  # float32
    assert len(rows) > 300
    # The front is nearer than the middle, and pixels beside the ball have no depth.
    assert (depth < 2.5).all()
    assert np.isinf(found.depth_m[found.faces < 0]).all()


def test_depth_is_that_of_the_drawn_maps(ball):
    vertices, faces = ball
    camera = Camera.make(1, (80, 60), focal_px=90.0)
    drawn = draw_maps([(torch.tensor(vertices), (1.0, 1.0, 1.0))], torch.tensor(faces), camera, which=["depth"])
    found = depth_map(vertices, faces, 90.0, (40.0, 30.0), (80, 60))
    np.testing.assert_allclose(np.where(np.isinf(found.depth_m), 0, found.depth_m), drawn.depth_m, rtol=1e-5)


def test_faces_that_cannot_be_drawn_are_left_out_and_keep_their_numbers(ball):
    vertices, faces = ball
    lost = vertices.copy()
    first = faces[0]
    lost[first[0]] = np.nan
    lost[first[1], 2] = -1.0
    found = depth_map(lost, faces, 90.0, (40.0, 30.0), (80, 60))
    gone = np.isin(faces, first[:2]).any(1)
    assert not gone[found.faces[found.faces >= 0]].any()
    assert (found.faces >= 0).any()
    nothing = depth_map(lost, faces[:0], 90.0, (40.0, 30.0), (80, 60))
    assert (nothing.faces == -1).all()


def test_parallel_projection_takes_minus_the_depth():
    points = np.array([[0, 0, -2.0], [8, 0, -2.0], [0, 8, -2.0], [0, 0, -1.0], [8, 0, -1.0], [0, 8, -3.0]])
    found, nearness = nearest_faces(points, np.array([[0, 1, 2], [3, 4, 5]]), (8, 8))
    assert found[0, 0] == 1
    assert found[6, 0] == 0
    assert nearness[0, 0] == pytest.approx(-1.125, abs=1e-6)  # half a pixel of eight down a slope from 1 to 3
    assert (found[7, 1:] == -1).all()
