"""Fits to whatever is known: several cameras, measured 3D points, a known shape or height, the frame before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import roma
import torch

import bodyfit
from bodyfit.body.params import BodyParams
from bodyfit.errors import BodyfitError
from bodyfit.fit.evidence import Evidence, Extrinsics
from bodyfit.fit.residuals.mass import MassTerm
from bodyfit.geometry.camera import CalibratedCamera

F64 = torch.float64
N = 6


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model(dtype=F64)


@pytest.fixture(scope="module")
def people(model) -> BodyParams:
    """Random people about the world's origin, upright (y up), turned all ways."""
    bodies = bodyfit.random_bodies(N, model=model, seed=11)
    yaw = torch.linspace(-3, 3, N, dtype=F64)[:, None] * torch.tensor([0.0, 1, 0], dtype=F64)
    return model.params(**{**bodies, "global_orient": yaw})


def ring(count: int, distance: float = 4.0) -> list[CalibratedCamera]:
    """Cameras about the origin that look at it, with different lenses."""
    cameras = []
    for i in range(count):
        yaw = 2 * np.pi * i / count + 0.3
        R = roma.rotvec_to_rotmat(torch.tensor([np.pi - 0.2, 0, 0], dtype=F64)).numpy()
        R = R @ roma.rotvec_to_rotmat(torch.tensor([0, yaw, 0], dtype=F64)).numpy()
        cameras.append(
            CalibratedCamera(
                K=np.array([[1000.0 + 40 * i, 0, 500], [0, 1010.0, 480], [0, 0, 1]]),
                R=R,
                t=np.array([0.1, 0.2 * i, distance]),
                distortion=np.array([-0.1, 0.02, 0.001, -0.001]),
            )
        )
    return cameras


def seen_by(model, people: BodyParams, cameras, layout: str = "coco17", noise_px: float = 0.0) -> np.ndarray:
    points = model.keypoints(model(**people), layout).numpy()
    xy = np.stack([camera.project(points) for camera in cameras], 1)
    xy = xy + noise_px * np.random.default_rng(0).standard_normal(xy.shape)
    return np.concatenate([np.nan_to_num(xy), np.isfinite(xy).all(3, keepdims=True)], 3)


def joints_in_first(model, people: BodyParams, cameras) -> torch.Tensor:
    joints = model(**people).joints.numpy()
    return torch.from_numpy(joints @ cameras[0].R.T + cameras[0].t)


def test_several_cameras_say_where_a_body_is(model, people):
    cameras = ring(3)
    truth = joints_in_first(model, people, cameras)
    xyc = seen_by(model, people, cameras, noise_px=2.0)
    result = bodyfit.fit_keypoints(xyc, layout="coco17", cameras=cameras, model=model)
    assert all(status.ok for status in result.status)
    assert result.keypoints.shape == (N, 3, 17, 3)
    error = (result.joints - truth).norm(dim=2).mean(1)  # absolute, no alignment at all
    assert error.max() < 0.06
    one = bodyfit.fit_keypoints(xyc[:, :1], layout="coco17", cameras=cameras[:1], model=model)
    assert error.median() < 0.5 * (one.joints - truth).norm(dim=2).mean(1).median()
    assert result.reprojection_error_px.max() < 12


def test_a_camera_of_the_rig_that_sees_nothing_does_no_harm(model, people):
    cameras = ring(3)
    xyc = seen_by(model, people, cameras)
    xyc[:, 0, :, 2] = 0  # the one whose axes the result is in
    xyc[1, 1] = np.nan
    result = bodyfit.fit_keypoints(xyc, layout="coco17", cameras=cameras, model=model)
    assert all(status.ok for status in result.status)
    error = (result.joints - joints_in_first(model, people, cameras)).norm(dim=2).mean(1)
    assert error[[0, *range(2, N)]].median() < 0.04


def test_one_calibrated_camera_is_a_plain_camera(model, people):
    camera = CalibratedCamera(
        np.array([[1000.0, 0, 500], [0, 1000, 480], [0, 0, 1]]), ring(1)[0].R, np.array([0, 0, 4.0])
    )
    xyc = seen_by(model, people, [camera])
    plain = {"image_size": (1000, 960), "focal_px": 1000.0, "principal_point_px": (500.0, 480.0)}
    a = bodyfit.fit_keypoints(xyc, layout="coco17", cameras=[camera], model=model)
    b = bodyfit.fit_keypoints(xyc[:, 0], layout="coco17", model=model, **plain)
    torch.testing.assert_close(a.joints, b.joints, atol=1e-4, rtol=0)


@pytest.mark.parametrize("layout", ["smpl24", "h36m17"])
def test_measured_points_are_enough(model, people, layout):
    points = model.keypoints(model(**people), layout)
    points[0, 3] = torch.nan
    result = bodyfit.fit_keypoints(points3d=points, points3d_layout=layout, model=model)
    assert all(status.ok for status in result.status)
    error = (result.joints - model(**people).joints).norm(dim=2).mean(1)
    assert error.median() < 0.02
    assert error.max() < 0.08  # h36m17 has no feet, and one is without an ankle
    assert torch.isnan(result.reprojection_error_px).all()


def test_measured_points_help_a_picture(model, people):
    cameras = ring(1)
    truth = joints_in_first(model, people, cameras)
    xyc = seen_by(model, people, cameras)
    wrists = torch.full((N, 24, 3), torch.nan, dtype=F64)
    wrists[:, 20:22] = truth[:, 20:22]
    fit = {"layout": "coco17", "cameras": cameras, "model": model}
    without = bodyfit.fit_keypoints(xyc, **fit).joints - truth
    result = bodyfit.fit_keypoints(xyc, points3d=wrists, points3d_layout="smpl24", **fit)
    found = result.joints - truth
    assert found.norm(dim=2)[:, 20:22].max() < 0.04
    assert found.norm(dim=2).mean() < 0.7 * without.norm(dim=2).mean()


def test_a_known_shape_is_kept(model, people):
    cameras = ring(1)
    xyc = seen_by(model, people, cameras)
    result = bodyfit.fit_keypoints(xyc, layout="coco17", cameras=cameras, model=model, betas=people.betas)
    assert torch.equal(result.params.betas, people.betas)
    depth, truth = result.joints[:, 0, 2], joints_in_first(model, people, cameras)[:, 0, 2]
    assert (depth / truth - 1).abs().median() < 0.02
    for_all = bodyfit.fit_keypoints(xyc, layout="coco17", cameras=cameras, model=model, betas=people.betas[0])
    assert torch.equal(for_all.params.betas, people.betas[:1].expand(N, -1))


def test_a_known_height_is_met(model, people):
    cameras = ring(1)
    xyc = seen_by(model, people, cameras)
    wanted = torch.linspace(1.5, 1.9, N, dtype=F64)
    result = bodyfit.fit_keypoints(xyc, layout="coco17", cameras=cameras, model=model, height_m=wanted)
    torch.testing.assert_close(model.measure(result.params.betas).height, wanted, atol=0.01, rtol=0)
    taller = bodyfit.fit_keypoints(xyc, layout="coco17", cameras=cameras, model=model, height_m=1.9)
    assert (taller.joints[:-1, 0, 2] > result.joints[:-1, 0, 2]).all()  # a taller body stands farther away


def test_a_known_mass_is_met(model, people):
    cameras = ring(1)
    xyc = seen_by(model, people, cameras)
    wanted = torch.linspace(55, 95, N, dtype=F64)
    result = bodyfit.fit_keypoints(xyc, layout="coco17", cameras=cameras, model=model, mass_kg=wanted, height_m=1.75)
    measured = model.measure(result.params.betas)
    torch.testing.assert_close(measured.mass, wanted, atol=1.0, rtol=0)
    torch.testing.assert_close(measured.height, torch.full_like(wanted, 1.75), atol=0.01, rtol=0)


def test_mass_is_that_of_the_mesh(model):
    term, betas = MassTerm(model), bodyfit.random_bodies(4, model=model, seed=3).betas.to(F64)
    mass, slope = term.mass(betas)
    torch.testing.assert_close(mass, model.measure(betas).mass, rtol=1e-9, atol=0)
    assert MassTerm(model).coefficients is term.coefficients  # made once for a model
    step = 1e-5 * torch.eye(betas.shape[1], dtype=F64)
    for i, unit in enumerate(step):
        difference = (term.mass(betas + unit)[0] - term.mass(betas - unit)[0]) / 2e-5
        torch.testing.assert_close(slope[:, i], difference, rtol=1e-6, atol=1e-6)


def test_measured_points_alone_need_no_picture(model, people):
    joints = model(**people).joints * torch.tensor([1.0, -1.0, -1.0], dtype=F64)  # y up to a camera's axes
    points = joints[:, :24]
    result = bodyfit.fit_keypoints(points3d=points, points3d_layout="smpl24", model=model)
    assert not result.camera.has_picture
    assert result.camera.image_size == (0, 0)
    assert (result.joints[:, :22] - joints[:, :22]).norm(dim=2).mean() < 0.02
    pictured = bodyfit.fit_keypoints(points3d=points, points3d_layout="smpl24", model=model, image_size=(640, 480))
    assert pictured.camera.image_size == (640, 480)
    torch.testing.assert_close(pictured.joints, result.joints)
    drawn = result.camera.to_draw()
    assert drawn.has_picture
    assert torch.isfinite(drawn.project(result.joints)).all()
    assert pictured.camera.to_draw() is pictured.camera
    with pytest.raises(BodyfitError, match="image_size"):
        bodyfit.fit_keypoints(points3d=points, points3d_layout="smpl24", model=model, focal_px=1000.0)


def test_evidence_selects_and_concatenates(people):
    g = torch.Generator().manual_seed(0)
    keypoints, points = torch.rand(N, 17, 3, generator=g), torch.rand(N, 17, 3, generator=g)
    whole = Evidence(
        keypoints=keypoints, layout="coco17", image_size=(64, 48), points3d=points, height_m=1.7,
        mass_kg=torch.linspace(50, 90, N), previous=people, more={"plane": torch.arange(N)[:, None].float()},
    )  # fmt: skip
    mask = torch.tensor([True, False] * (N // 2))
    some = whole[mask]
    assert len(some) == N // 2
    for rows in (mask.nonzero()[:, 0], mask.numpy(), mask.nonzero()[:, 0].tolist(), slice(0, None, 2)):
        other = whole[rows]
        assert torch.equal(torch.as_tensor(other.keypoints), keypoints[::2])
        assert torch.equal(torch.as_tensor(other.mass_kg), torch.linspace(50, 90, N)[::2])
        assert other.previous is not None
        assert torch.equal(other.previous.betas, people.betas[::2])
        assert torch.equal(other.more["plane"], torch.arange(0, N, 2)[:, None].float())
        assert other.height_m == 1.7
    assert torch.equal(torch.as_tensor(whole[-1].keypoints), keypoints[-1:])
    back = Evidence.cat([whole[mask], whole[~mask]])
    order = torch.argsort(torch.cat([mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]]))
    again = back[order]
    assert torch.equal(torch.as_tensor(again.points3d), points)
    assert torch.equal(again.more["plane"], whole.more["plane"])
    assert torch.equal(torch.as_tensor(again.height_m), torch.full((N,), 1.7))
    with pytest.raises(IndexError):
        whole[N]
    with pytest.raises(BodyfitError, match="mask"):
        whole[mask[:-1]]
    with pytest.raises(BodyfitError, match="image_size differs"):
        Evidence.cat([whole, replace(whole, image_size=(64, 64))])


def test_the_frame_before_decides_what_a_picture_leaves_open(model, people):
    cameras = ring(1)
    xyc = seen_by(model, people, cameras)
    xyc[:, :, 5:11] = 0  # no arms
    first = joints_in_first(model, people, cameras)
    R, root = torch.from_numpy(cameras[0].R), model.rest_joints(people.betas)[:, 0]
    orient = roma.rotmat_to_rotvec(R @ roma.rotvec_to_rotmat(people.global_orient))
    before = BodyParams(people.betas, people.body_pose, orient, first[:, 0] - root)
    torch.testing.assert_close(model(**before).joints, first)
    fit = {"layout": "coco17", "cameras": cameras, "model": model}
    result = bodyfit.fit_keypoints(xyc, previous=before, **fit)
    alone = bodyfit.fit_keypoints(xyc, **fit)
    arms = slice(18, 22)
    off, off_alone = ((r.joints - r.joints[:, :1] - first + first[:, :1]).norm(dim=2) for r in (result, alone))
    assert off[:, arms].mean() < 0.3 * off_alone[:, arms].mean()
    assert off.mean() < 0.3 * off_alone.mean()


def test_too_little_and_what_is_no_number_cost_one_person(model, people):
    cameras = ring(2)
    xyc = seen_by(model, people, cameras)
    whole = bodyfit.fit_keypoints(xyc, layout="coco17", cameras=cameras, model=model)
    xyc[1, ..., 2] = 0
    xyc[2] = np.nan
    xyc[3, ..., :2] = np.inf
    result = bodyfit.fit_keypoints(xyc, layout="coco17", cameras=cameras, model=model)
    assert [s.value for s in result.status[1:4]] == ["unobservable", "unobservable", "invalid_input"]
    keep = [0, 4, 5]
    torch.testing.assert_close(result.joints[keep], whole.joints[keep], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "nothing to fit"),
        ({"xyc": np.zeros((1, 17, 3))}, "image_size"),
        ({"xyc": np.zeros((1, 17, 3)), "cameras": ring(2)}, "xyc"),
        ({"xyc": np.zeros((1, 2, 17, 3)), "cameras": ring(2), "focal_px": 900.0}, "focal length"),
        ({"points3d": np.zeros((1, 3, 3))}, "points3d"),
        ({"points3d": np.zeros((1, 17, 3)), "betas": np.zeros(4)}, "betas"),
        ({"points3d": np.zeros((1, 17, 3)), "height_m": 180.0}, "metres"),
        ({"points3d": np.zeros((1, 17, 3)), "height_m": float("nan")}, "finite"),
        ({"points3d": np.zeros((1, 17, 3)), "height_m": 1.8, "betas": np.zeros(10)}, "height of its own"),
    ],
)
def test_what_does_not_fit_together_is_refused(model, given, word):
    with pytest.raises(BodyfitError, match=word):
        bodyfit.fit_keypoints(**given, layout="coco17", model=model)


def test_rays_meet_where_the_point_is():
    cameras = ring(3)
    points = np.random.default_rng(1).uniform(-0.5, 0.5, (2, 5, 3))
    target = np.concatenate([camera.normalised(camera.project(points)) for camera in cameras], 1)
    rig = Extrinsics.of(cameras, torch.zeros(1, dtype=F64))
    found, met = rig.triangulated(torch.from_numpy(target), torch.ones(2, 15, dtype=F64))
    assert met.all()
    np.testing.assert_allclose(found.numpy(), points @ cameras[0].R.T + cameras[0].t, atol=1e-6)
