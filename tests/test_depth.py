"""Bodies in the frame of a depth camera."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import bodyfit
from bodyfit.errors import OptionError, ScanError, ShapeError
from bodyfit.io.scans.depth import find_depth, load_depth
from bodyfit.raster.depth import depth_map
from bodyfit.register.depth import DepthFitter, depth_points

SIZE, FOCAL_PX = (320, 240), 262.5
CENTRE = (160.0, 120.0)


@pytest.fixture(scope="module")
def person():
    """A body 2.5 m before a depth camera with a wall behind: model, truth, depth (2 mm noise, holes), keypoints."""
    model = bodyfit.load_model()
    params = bodyfit.random_bodies(1, model=model, seed=3)
    params = model.params(
        betas=params.betas,
        body_pose=params.body_pose,
        global_orient=torch.tensor([[torch.pi, 0.0, 0.0]]),
        transl=torch.tensor([[0.1, 0.2, 2.5]]),
    )
    out, rng = model(**params), np.random.default_rng(0)
    drawn = depth_map(out.vertices[0].double().numpy(), model.faces.numpy(), FOCAL_PX, CENTRE, SIZE).depth_m
    depth = np.where(np.isfinite(drawn), drawn, 3.5) + 2e-3 * rng.normal(size=drawn.shape)
    depth[rng.random(depth.shape) < 0.05] = 0
    points = torch.nan_to_num(model.keypoints(params, "openpose25"))
    xy = bodyfit.Camera.make(1, SIZE, focal_px=FOCAL_PX).project(points)
    xy = xy + torch.from_numpy(2 * rng.normal(size=xy.shape)).float()
    keypoints = torch.cat([xy, torch.ones(1, 25, 1)], 2)
    return model, out, depth, np.isfinite(drawn), keypoints


@pytest.fixture(scope="module")
def fitted(person):
    model, _, _, _, keypoints = person
    return bodyfit.fit_keypoints(keypoints, layout="openpose25", image_size=SIZE, focal_px=FOCAL_PX, model=model)


def test_points_of_depth_project_to_their_pixels(person):
    _, _, depth, mask, _ = person
    points = depth_points(depth, FOCAL_PX, CENTRE, mask).points
    xy = points[:, :2] / points[:, 2:] * FOCAL_PX + CENTRE
    columns, rows = np.floor(xy).astype(int).T
    np.testing.assert_allclose(xy - np.floor(xy), 0.5, atol=1e-9)
    np.testing.assert_allclose(depth[rows, columns], points[:, 2], atol=1e-12)
    assert mask[rows, columns].all()
    assert 0.5 < len(points) / (mask & (depth > 0)).sum() <= 1


@pytest.mark.parametrize("masked", [False, True])
def test_depth_places_the_joints(person, fitted, masked):
    model, out, depth, mask, _ = person
    result = DepthFitter(model, "openpose25")(fitted, depth, mask if masked else None)
    before = (fitted.joints[0] - out.joints[0]).norm(dim=1).mean()
    after = (result.joints[0] - out.joints[0]).norm(dim=1).mean()
    assert result.status[0].ok
    assert after < 0.03  # the goal, of a camera of a quarter of the usual pixels
    assert after < 0.5 * before
    with torch.no_grad():
        torch.testing.assert_close(model(**result.params).joints, result.joints, atol=1e-5, rtol=0)


def test_a_person_without_points_is_poor(person, fitted):
    model, _, depth, mask, _ = person
    nowhere = np.where(mask, 0.0, depth)
    result = DepthFitter(model, "openpose25")(fitted, nowhere)
    assert result.status[0] is bodyfit.FitStatus.POOR
    assert "points of the depth map" in (result.reason[0] or "")


def test_bad_depth_gets_a_clear_word(person, fitted, tmp_path):
    model, _, depth, mask, _ = person
    with pytest.raises(OptionError, match="all of it is 0"):
        depth_points(np.zeros((10, 10)), FOCAL_PX, CENTRE)
    with pytest.raises(OptionError, match="metres"):
        depth_points(1000 * depth, FOCAL_PX, CENTRE)
    with pytest.raises(ShapeError, match="mask"):
        depth_points(depth, FOCAL_PX, CENTRE, mask[:5])
    with pytest.raises(ShapeError, match="picture's size"):
        DepthFitter(model, "openpose25")(fitted, depth[:100])
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    np.savez(tmp_path / "b.npz", image=depth)
    np.save(tmp_path / "c.npy", depth[0])
    (tmp_path / "d.npy").write_bytes(b"nothing")
    for name in ("a.png", "b.npz", "c.npy", "d.npy"):
        with pytest.raises(ScanError, match=name):
            load_depth(tmp_path / name)
    with pytest.raises(ScanError, match="no depth map photo"):
        find_depth(tmp_path, tmp_path / "photo.jpg")


def test_depth_files_come_back(person, tmp_path):
    _, _, depth, _, _ = person
    K = np.array([[FOCAL_PX, 0, 160], [0, FOCAL_PX, 120], [0, 0, 1.0]])
    Image.fromarray((1000 * depth).round().astype(np.uint16)).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", depth)
    np.savez(tmp_path / "c.npz", depth=depth, K=K)
    for name in ("a.png", "b.npy", "c.npz"):
        path = find_depth(tmp_path, tmp_path / f"{name[0]}.jpg")
        loaded = load_depth(path)
        np.testing.assert_allclose(loaded.depth_m, depth, atol=6e-4)
        twice = loaded.at_size((640, 480), path)
        np.testing.assert_array_equal(twice.depth_m[::2, ::2], loaded.depth_m)
    assert loaded.focal_px == pytest.approx(FOCAL_PX)
    assert twice.focal_px == pytest.approx(2 * FOCAL_PX)
    with pytest.raises(ScanError, match="align it"):
        loaded.at_size((640, 640), path)
