"""Colours of scans baked into the body's texture, and textured meshes as files."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

import bodyfit
from bodyfit.errors import OptionError
from bodyfit.io.export.textured import save_textured_glb
from bodyfit.register.surface.colors import ColoredScan, bake_texture

SIZE = 256


def paint(places):
    """A smooth colour of each place."""
    return 0.5 + 0.4 * np.sin(places @ np.array([[3.0, 0.0, 2.0], [0.0, 2.5, 3.0], [5.0, 4.0, 0.0]]))


@pytest.fixture(scope="module")
def body():
    """Vertices, faces, texture coordinates and their faces of the open body."""
    model = bodyfit.load_model()
    return model.v_template.double().numpy(), model.faces.numpy(), np.asarray(model.uv), np.asarray(model.uv_faces)


@pytest.fixture(scope="module")
def scan(body):
    mesh = trimesh.Trimesh(body[0], body[1], process=False)
    points, face = trimesh.sample.sample_surface(mesh, 60_000, seed=0)
    return np.asarray(points), np.asarray(mesh.face_normals[face])


def looked_up(image, uv):
    """Colours of a texture at the nearest texels."""
    size = len(image)
    column, row = np.clip((uv * [1, -1] + [0, 1]) * size, 0, size - 1).astype(int).T
    return image[row, column] / 255


def test_a_baked_texture_has_the_scans_colors(body, scan):
    vertices, faces, uv, uv_faces = body
    points, normals = scan
    image = bake_texture(*body, ColoredScan(points, normals, paint(points)), size=SIZE)
    rows = looked_up(image, uv[uv_faces].mean(1))
    error = np.abs(rows - paint(vertices[faces].mean(1))).max(1)
    # A texel is 8 mm wide here, over which colours change by 0.02; charts of fingers are smaller than one.
    assert np.quantile(error, 0.95) < 0.05
    corners = looked_up(image, uv[uv_faces].reshape(-1, 2))
    assert np.quantile(np.abs(corners - paint(vertices[faces].reshape(-1, 3))).max(1), 0.95) < 0.06  # at seams, too


def test_holes_are_filled_from_around_on_the_surface(body, scan):
    vertices, faces, uv, uv_faces = body
    points, normals = scan
    hole = (np.abs(points - [0.0, 0.1, 0.0]) < 0.12).all(1)
    image = bake_texture(*body, ColoredScan(points[~hole], normals[~hole], paint(points[~hole])), size=SIZE)
    middles = vertices[faces].mean(1)
    inside = (np.abs(middles - [0.0, 0.1, 0.0]) < 0.1).all(1)
    rows = looked_up(image, uv[uv_faces].mean(1))[inside]
    assert np.abs(rows - paint(middles[inside])).mean() < 0.1
    assert np.abs(rows - paint(middles[inside])).max() < 0.4


def test_a_textured_scan_gives_its_own_texture_back(body):
    """A scan that is the body with a texture of stripes, which are finer than its vertices."""
    vertices, faces, uv, uv_faces = body
    stripes = np.zeros((SIZE, SIZE, 3), np.uint8)
    stripes[::8], stripes[1::8] = (255, 0, 0), (255, 0, 0)
    textured = ColoredScan(vertices, faces=faces, uv=uv, uv_faces=uv_faces, image=stripes)
    image = bake_texture(*body, textured, size=SIZE)
    at = looked_up(image, uv[uv_faces].mean(1)) - looked_up(stripes, uv[uv_faces].mean(1))
    assert np.mean(np.abs(at).max(1) < 0.02) > 0.9
    by_vertex = ColoredScan(vertices, faces=faces, colors=paint(vertices))
    again = looked_up(bake_texture(*body, by_vertex, size=SIZE), uv[uv_faces].mean(1))
    assert np.quantile(np.abs(again - paint(vertices)[faces].mean(1)).max(1), 0.95) < 0.05


def test_colors_of_the_other_side_are_not_taken():
    """Two walls 1 cm apart that look away from each other, red and blue."""
    y, z = (x.ravel() for x in np.meshgrid(np.linspace(0, 1, 50), np.linspace(0, 1, 50)))
    red, blue = np.stack([0 * y, y, z], 1), np.stack([0 * y - 0.01, y, z], 1)
    normals = np.repeat([[1.0, 0, 0], [-1.0, 0, 0]], 2500, 0)
    colors = np.repeat([[1.0, 0, 0], [0, 0, 1.0]], 2500, 0)
    scan = ColoredScan(np.concatenate([red, blue]), normals, colors)
    found, there = scan.at(red[::7] - [0.008, 0, 0], normals[:2500:7], 0.02)
    assert there.all()
    np.testing.assert_allclose(found, np.repeat([[1.0, 0, 0]], len(found), 0))


def test_a_textured_glb_reads_back(tmp_path, body):
    vertices, faces, uv, uv_faces = body
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    save_textured_glb(tmp_path / "a.glb", *body, image)
    mesh = trimesh.load(tmp_path / "a.glb", force="mesh", process=False)
    np.testing.assert_allclose(mesh.vertices[mesh.faces], vertices[faces], atol=1e-6)
    np.testing.assert_allclose(mesh.visual.uv[mesh.faces], uv[uv_faces], atol=1e-6)
    np.testing.assert_array_equal(np.asarray(mesh.visual.material.baseColorTexture.convert("RGB")), image)
    with pytest.raises(OptionError, match=r"written as \.glb"):
        save_textured_glb(tmp_path / "a.obj", *body, image)


def test_bad_input_has_a_clear_word(body, scan):
    with pytest.raises(OptionError, match="needs colors"):
        ColoredScan(scan[0])
    with pytest.raises(OptionError, match="register it first"):
        bake_texture(*body, ColoredScan(scan[0] + 5, scan[1], paint(scan[0])), size=SIZE)
    with pytest.raises(OptionError, match="size"):
        bake_texture(*body, ColoredScan(scan[0], scan[1], paint(scan[0])), size=0)
