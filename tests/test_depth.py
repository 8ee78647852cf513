"""Bodies in the frame of a depth camera."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import bodyfit
from bodyfit.errors import OptionError, ScanError, ShapeError
from bodyfit.fit.depth.limbs import limbs_of, visible_share
from bodyfit.fit.depth.maps import depth_points
from bodyfit.fit.depth.stage import DepthVerdict, with_verdicts
from bodyfit.io.scans.depth import find_depth, load_depth
from bodyfit.raster.depth import depth_map

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


def fit(person, depth, mask=None, **more) -> bodyfit.FitResult:
    """Fit with a depth map; with the mask as the person's pixels, not as a silhouette."""
    model, *_, keypoints = person
    evidence = bodyfit.Evidence(
        keypoints=keypoints,
        layout="openpose25",
        image_size=SIZE,
        focal_px=FOCAL_PX,
        depth=None if depth is None else [depth],
        masks=None if mask is None else [mask],
        **more,
    )
    bare = bodyfit.FitConfig(silhouette=bodyfit.SilhouetteConfig(weight=0.0))
    return bodyfit.fit(evidence, model=model, config=bare)


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
def test_depth_places_the_joints(person, masked):
    model, out, depth, mask, _ = person
    before, result = fit(person, None), fit(person, depth, mask if masked else None)
    errors = [(r.joints[0] - out.joints[0]).norm(dim=1).mean() for r in (before, result)]
    assert result.status[0] is bodyfit.FitStatus.CONVERGED, result.reason
    assert errors[1] < 0.03  # the goal, of a camera of a quarter of the usual pixels
    assert errors[1] < 0.5 * errors[0]
    assert result.joints_sd_m.max() < 0.15
    with torch.no_grad():
        torch.testing.assert_close(model(**result.params).joints, result.joints, atol=1e-5, rtol=0)


def test_people_without_depth_are_fitted_as_ever(person):
    model, _, depth, _, keypoints = person
    seen = {"layout": "openpose25", "image_size": SIZE, "focal_px": FOCAL_PX}
    both = bodyfit.Evidence(keypoints=keypoints.repeat(2, 1, 1), depth=[None, depth], **seen)
    alone = bodyfit.fit(bodyfit.Evidence(keypoints=keypoints, **seen), model=model)
    result = bodyfit.fit(both, model=model)
    torch.testing.assert_close(result.joints[0], alone.joints[0], atol=2e-3, rtol=0)  # batches round differently
    assert result.status[0] is alone.status[0]
    assert (result.joints[1] - result.joints[0]).norm(dim=1).mean() > 0.02
    halves = bodyfit.Evidence.cat([both[1], both[0]])
    assert halves.depth[0] is depth
    assert halves.depth[1] is None


def test_a_clip_takes_depth_of_its_frames(person):
    model, out, depth, _, keypoints = person
    seen = {"layout": "openpose25", "image_size": SIZE, "focal_px": FOCAL_PX}
    still = bodyfit.Evidence(keypoints=keypoints.repeat(5, 1, 1), depth=[depth, None, depth, depth, depth], **seen)
    result = bodyfit.fit_sequence(still, fps=30.0, model=model)
    errors = (result.joints - out.joints).norm(dim=2).mean(1)
    assert errors.max() < 0.03


def test_a_person_without_points_is_poor(person):
    _, _, depth, mask, _ = person
    result = fit(person, np.where(mask, 0.0, depth))
    assert result.status[0] is bodyfit.FitStatus.POOR
    assert "points of the depth map" in (result.reason[0] or "")


def test_depth_of_something_else_is_poor(person):
    _, _, depth, mask, _ = person
    shifted = np.where(np.roll(mask, 60, 0), np.roll(depth, 60, 0), 3.5)  # a person lower by half a metre
    result = fit(person, shifted)
    assert result.status[0] is bodyfit.FitStatus.POOR
    assert "depth" in (result.reason[0] or "")


def test_a_hidden_limb_is_named(person):
    model, out, *_ = person
    vertices = out.vertices[0].double().numpy()
    leg = next(limb for limb in limbs_of(model, "openpose25") if limb.name == "right leg")
    faces = model.faces.numpy()
    drawn = depth_map(vertices, leg.others, FOCAL_PX, CENTRE, SIZE).depth_m  # a camera that does not see the leg
    points = depth_points(np.where(np.isfinite(drawn), drawn, 3.5), FOCAL_PX, CENTRE, np.isfinite(drawn)).points
    shares = {limb.name: visible_share(limb, vertices, faces, points) for limb in limbs_of(model, "openpose25")}
    assert shares.pop("right leg") < 0.05
    assert min(shares.values()) > 0.09  # forearms are five pixels wide
    assert leg.keypoints == (10, 11, 22, 23, 24)
    verdict = DepthVerdict(len(points), 0.99, (leg,))
    assert verdict.reason == "the depth shows nothing of the right leg, which is a guess"
    judged = with_verdicts(fit(person, None), [verdict])
    assert judged.status[0] is bodyfit.FitStatus.POOR
    assert not judged.observed_joints[0, list(leg.joints)].any()


def test_bad_depth_gets_a_clear_word(person, tmp_path):
    _, _, depth, mask, _ = person
    with pytest.raises(OptionError, match="all of it is 0"):
        fit(person, np.zeros_like(depth))
    with pytest.raises(OptionError, match="metres"):
        fit(person, 1000 * depth)
    with pytest.raises(ShapeError, match="mask"):
        depth_points(depth, FOCAL_PX, CENTRE, mask[:5])
    with pytest.raises(ShapeError, match="as large as the picture"):
        fit(person, depth[:100])
    with pytest.raises(ShapeError, match="one map a person"):
        bodyfit.fit(bodyfit.Evidence(keypoints=person[4], layout="openpose25", image_size=SIZE, depth=[depth, depth]))
    cameras = [
        bodyfit.CalibratedCamera(
            K=np.array([[FOCAL_PX, 0, 160], [0, FOCAL_PX, 120], [0, 0, 1]]), R=np.eye(3), t=np.zeros(3)
        )
    ]
    with pytest.raises(OptionError, match="one camera's picture"):
        bodyfit.fit(bodyfit.Evidence(keypoints=person[4][:, None], layout="openpose25", cameras=cameras, depth=[depth]))
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
