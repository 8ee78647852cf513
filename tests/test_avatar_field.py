"""The field of an avatar's views: its files, its score and its film."""

from __future__ import annotations

import json
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
import trimesh

import bodyfit
from bodyfit.app.avatars.field import fit_view_field, reduced, score_field, write_field, write_field_motion
from bodyfit.app.avatars.views import AvatarMaterial
from bodyfit.avatars import AvatarView
from bodyfit.fields.casting import CastConfig
from bodyfit.fields.casting.canonical import canonical_pose
from bodyfit.fields.radiance import RadianceConfig
from bodyfit.fields.radiance.field import start_field
from bodyfit.fields.radiance.files import load_field
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.io.motions import Motion

CONFIG = RadianceConfig(
    cast=CastConfig(voxel_m=0.02, step_m=0.02, band_m=0.05, depth_m=0.025),
    nodes_m=(0.048, 0.024),
    start_width_m=0.008,
    passes=8,
    batch_rays=512,
)


@pytest.fixture(scope="module")
def material():
    """Two red bodies before a camera, in camera axes; one picture held out."""
    model = bodyfit.load_model("open")
    params = model.params(
        body_pose=canonical_pose(model).repeat(3, 1),
        global_orient=torch.tensor([[torch.pi, 0.0, 0.0], [0.0, 0.0, torch.pi], [2.9, 0.0, 1.2]]),
        transl=torch.tensor([[0.0, -0.3, 3.0]] * 3),
    )
    start = start_field(model, np.zeros((1, 10), np.float32), CONFIG, 1)
    values = start.values.copy()
    values[:, 0] -= 4 * (start.grid.signed_m > 0.02)
    values[:, 1], values[:, 2:] = 1.0, -1.0
    red = replace(start, values=values)
    camera = CalibratedCamera(K=np.array([[90.0, 0, 32], [0, 90, 40], [0, 0, 1]]), R=np.eye(3), t=np.zeros(3))
    views = []
    for k in range(3):
        drawn = red.draw(params.select([k]), camera, (64, 80))
        picture = np.round(255 * drawn.over((0.0, 0.4, 0.0))).astype(np.uint8)
        views.append(AvatarView(picture, drawn.mask > 0.5, camera, params.select([k])))
    times = np.array([0.0, 0.1, 0.2])
    return AvatarMaterial(model, tuple(views[:2]), (views[2],), ("a", "b", "c"), params, times, 10.0)


@pytest.fixture(scope="module")
def field(material):
    return fit_view_field(material, config=CONFIG)


def vertex_colors(path) -> np.ndarray:
    """The attribute COLOR_0 of a binary glTF file's first mesh."""
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    document = json.loads(data[20 : 20 + length])
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    view = document["bufferViews"][document["accessors"][attributes["COLOR_0"]]["bufferView"]]
    start = 28 + length + view["byteOffset"]
    return np.frombuffer(data[start : start + view["byteLength"]], "<f4").reshape(-1, 3)


def test_a_field_of_views_is_like_the_picture_that_it_did_not_see(material, field):
    start = start_field(material.model, np.zeros((1, 10), np.float32), CONFIG, 2)
    before, after = score_field(start, material.test_views), score_field(field, material.test_views)
    assert after["pictures"] == 1
    assert after["psnr_db"] > before["psnr_db"] + 4
    assert score_field(field, ()) is None


def test_the_files_are_the_field_its_surface_and_pictures(material, field, tmp_path):
    facts = write_field(field, material, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(facts["files"])
    again = load_field(tmp_path / "field.npz", material.model)
    np.testing.assert_allclose(again.values, field.values, atol=0.02)
    (mesh,) = trimesh.load(tmp_path / "field.glb").geometry.values()
    colors = vertex_colors(tmp_path / "field.glb").mean(0)
    assert colors[0] > 1.5 * colors[1]  # red
    assert np.ptp(mesh.vertices[:, 1]) > 1.3  # stands upright, y up


def test_a_motion_is_filmed(material, field, tmp_path):
    params = material.model.params(body_pose=canonical_pose(material.model).repeat(4, 1))
    names = write_field_motion(field, Motion(params, 30.0, "neutral", tmp_path / "dance.npz"), tmp_path)
    with av.open(str(tmp_path / names[0])) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 2  # 15 a second
    assert (frames[0].min(2) < 200).mean() > 0.02


def test_views_are_reduced_with_their_cameras(material):
    view = material.views[0]
    large = AvatarView(
        np.repeat(np.repeat(view.image, 8, 0), 8, 1),
        np.repeat(np.repeat(view.mask, 8, 0), 8, 1),
        CalibratedCamera(K=np.diag([8.0, 8.0, 1.0]) @ view.camera.K, R=np.eye(3), t=np.zeros(3)),
        view.params,
    )
    small = reduced(large, 80)
    np.testing.assert_allclose(small.camera.K, view.camera.K)
    np.testing.assert_array_equal(small.mask, view.mask)
    assert reduced(view) is view
