"""Avatars of results of several calibrated cameras: from keypoints and pictures of a rig to files."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit.app.avatars.field import fit_view_field
from bodyfit.app.avatars.rig import gather_rig_views
from bodyfit.app.avatars.surface import write_surface
from bodyfit.app.avatars.views import moments_to_score
from bodyfit.cli.main import main
from bodyfit.errors import OptionError
from bodyfit.fields.casting import CastConfig
from bodyfit.fields.casting.canonical import canonical_pose
from bodyfit.fields.radiance import RadianceConfig
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.io import save_picture
from bodyfit.io.cameras import load_cameras
from bodyfit.io.results.params import save
from bodyfit.raster.depth import depth_map

SIZE, FOCAL = (120, 160), 150.0
DISTORTION = np.array([-0.15, 0.05, 0.0, 0.0])


def camera_at(yaw: float, distortion: np.ndarray) -> CalibratedCamera:
    """A camera 2.8 m from the origin that looks at it, y up in its world."""
    R = np.diag([1.0, -1.0, -1.0]) @ Rotation.from_rotvec([0, -yaw, 0]).as_matrix()
    K = np.array([[FOCAL, 0, SIZE[0] / 2], [0, FOCAL, SIZE[1] / 2], [0, 0, 1]])
    return CalibratedCamera(K=K, R=R, t=np.array([0, -0.25, 2.8]), distortion=distortion)


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """A red body before three cameras, the last one distorted, with masks, and the fit of its keypoints."""
    folder = tmp_path_factory.mktemp("rig")
    cameras = [camera_at(yaw, d) for yaw, d in ((0.5, np.zeros(4)), (1.9, np.zeros(4)), (3.6, DISTORTION))]
    arrays = {name: np.stack([getattr(c, name) for c in cameras]) for name in ("K", "R", "t", "distortion")}
    np.savez(folder / "rig.npz", **arrays)
    model = bodyfit.load_model("open")
    body = model.params(body_pose=canonical_pose(model))
    vertices = model(**body).vertices[0].double().numpy()
    points = torch.nan_to_num(model.keypoints(body, "coco17"))[0].double().numpy()
    xyc = np.stack([np.c_[camera.project(points), np.ones(17)] for camera in cameras])[None]
    (folder / "masks").mkdir()
    for number, camera in enumerate(cameras):
        at = vertices @ camera.R.T + camera.t
        inside = depth_map(at, model.faces.numpy(), FOCAL, (SIZE[0] / 2, SIZE[1] / 2), SIZE).faces >= 0
        columns, rows = np.meshgrid(np.arange(SIZE[0], dtype=np.float32), np.arange(SIZE[1], dtype=np.float32))
        pixels = np.stack([columns, rows], -1).reshape(-1, 1, 2)
        straight = cv2.undistortPoints(pixels, camera.K, camera.distortion, P=camera.K).reshape(*columns.shape, 2)
        mask = cv2.remap(255 * inside.astype(np.uint8), straight[..., 0], straight[..., 1], cv2.INTER_NEAREST)
        picture = np.where(mask[..., None] > 0, np.uint8([180, 40, 30]), np.uint8([40, 90, 40 + 60 * number]))
        save_picture(folder / f"camera{number}.png", picture)
        save_picture(folder / "masks" / f"camera{number}.png", mask[..., None].repeat(3, 2))
    result = bodyfit.fit_keypoints(xyc, layout="coco17", cameras=cameras, model=model)
    save(result, folder / "person0.npz")
    return folder


def sources(rig, count: int = 3):
    return [rig / f"camera{k}.png" for k in range(count)]


def command(rig, *more: str) -> list[str]:
    views = [part for source in sources(rig) for part in ("--view", str(source))]
    rig_files = ["--cameras", str(rig / "rig.npz"), "--masks", str(rig / "masks")]
    return ["avatar", str(rig / "person0.npz"), *rig_files, *views, "--size", "64", *more]


def test_a_rig_makes_an_avatar_on_the_command_line(rig, tmp_path, capsys):
    assert main(command(rig, "-o", str(tmp_path / "out"))) == 0
    facts = json.loads((tmp_path / "out" / "avatar.json").read_text())
    assert facts["pictures"] == 3
    assert facts["iou"] > 0.85
    capsys.readouterr()
    more = ["--view", str(rig / "camera2.png"), "-o", str(tmp_path / "out")]
    assert main(command(rig, *more)) == 2
    assert "4 clips or pictures and 3 cameras" in capsys.readouterr().err
    assert main(["avatar", str(rig / "person0.npz"), *more]) == 2
    assert "--cameras" in capsys.readouterr().err


def material_of(rig):
    cameras = load_cameras(rig / "rig.npz")
    return gather_rig_views(rig / "person0.npz", cameras, sources(rig), detector=None, masks=rig / "masks")


def test_a_surface_is_fitted_to_the_masks_alone(rig, tmp_path):
    radiance = RadianceConfig(cast=CastConfig(voxel_m=0.02, step_m=0.015), nodes_m=(0.048, 0.016), start_width_m=0.008)
    facts = write_surface(material_of(rig), tmp_path, radiance=radiance)
    assert facts["iou"] > 0.8
    (mesh,) = trimesh.load(tmp_path / "surface.glb").geometry.values()
    assert len(mesh.faces) == facts["faces"]
    assert np.ptp(mesh.vertices[:, 1]) > 1.3


@pytest.mark.slow
def test_a_surface_on_the_command_line(rig, tmp_path):
    assert main(command(rig, "--surface", "-o", str(tmp_path / "out"))) == 0
    facts = json.loads((tmp_path / "out" / "avatar.json").read_text())
    assert facts["surface"]["iou"] > 0.85
    assert (tmp_path / "out" / "surface.glb").stat().st_size > 0


def test_views_of_a_rig_lie_in_the_axes_of_its_first_camera(rig):
    cameras = load_cameras(rig / "rig.npz")
    material = gather_rig_views(rig / "person0.npz", cameras, sources(rig), detector=None, masks=rig / "masks")
    assert [view.camera_number for view in material.views] == [0, 1, 2]
    np.testing.assert_allclose(material.views[0].camera.R, np.eye(3), atol=1e-12)
    for view in material.views:
        with torch.no_grad():
            at = material.model(**view.params).vertices[0].double().numpy() @ view.camera.R.T + view.camera.t
        fx, fy, cx, cy = view.lens
        height, width = view.mask.shape
        drawn = depth_map(at, material.model.faces.numpy(), (fx, fy), (cx, cy), (width, height)).faces >= 0
        assert (drawn & view.mask).sum() > 0.85 * (drawn | view.mask).sum()  # the distorted camera's, too
    with pytest.raises(OptionError, match="fit of 3 cameras"):
        gather_rig_views(rig / "person0.npz", cameras[:2], sources(rig, 2), detector=None, masks=rig / "masks")


def test_pictures_of_a_camera_share_a_gain_though_they_are_cut_out(rig):
    material = material_of(rig)
    config = RadianceConfig(
        cast=CastConfig(voxel_m=0.02, step_m=0.02), nodes_m=(0.048, 0.024), passes=0.1, batch_rays=512
    )
    assert len(fit_view_field(material, config=config).gains) == 3


def test_whole_moments_are_held_out():
    moments = np.array([4, 4, 4, 5, 5, 9, 9, 9, 12, 20, 20, 31])
    np.testing.assert_array_equal(np.unique(moments[moments_to_score(moments)]), [12])
    assert not moments_to_score(np.repeat(np.arange(5), 4)).any()
