"""Bodies refined together with a radiance field, and what becomes of pictures held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import bodyfit
from bodyfit.app.avatars.field import fit_view_field
from bodyfit.app.avatars.refine import corrected, fit_field_of
from bodyfit.app.avatars.views import AvatarMaterial
from bodyfit.avatars import AvatarView
from bodyfit.errors import OptionError
from bodyfit.fields.casting import CastConfig
from bodyfit.fields.casting.canonical import canonical_pose
from bodyfit.fields.radiance import RadianceConfig
from bodyfit.fields.radiance.field import start_field
from bodyfit.fields.radiance.joint import JointConfig, halved
from bodyfit.fields.radiance.poses import PoseConfig
from bodyfit.fields.radiance.views import View
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.geometry.rotation import so3_exp, so3_log
from bodyfit.keypoints import Keypoints2D

CONFIG = RadianceConfig(
    cast=CastConfig(voxel_m=0.02, step_m=0.015, band_m=0.05, depth_m=0.025),
    nodes_m=(0.048, 0.016),
    start_width_m=0.008,
    passes=8,
    batch_rays=512,
)
JOINT = JointConfig(rounds=1, coarse_rounds=0, passes=3, poses=PoseConfig(steps=4, every_px=1))
SIZE = (60, 80)


def camera_at(yaw: float) -> CalibratedCamera:
    """A camera that looks at the origin from 3 m, y up in its world."""
    R = np.diag([1.0, -1.0, -1.0]) @ so3_exp(torch.tensor([0.0, -yaw, 0.0]).double()).numpy()
    K = np.array([[94.0, 0, SIZE[0] / 2], [0, 94.0, SIZE[1] / 2], [0, 0, 1]])
    return CalibratedCamera(K=K, R=R, t=np.array([0, -0.25, 3.0]))


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model("open")


@pytest.fixture(scope="module")
def scene(model):
    """A person in colours before three cameras at six moments, and bodies with random errors of some degrees."""
    start = start_field(model, np.zeros((1, 10), np.float32), CONFIG, 1)
    places = start.grid.places()
    fine = start.grid.level_rows(1)
    values = start.values.copy()
    values[fine, 0] -= 4 * (start.grid.signed_m[fine] > 0.02)
    values[fine, 1:] = 2 * np.sin(9 * places[fine] + np.array([0.0, 1.0, 2.0]))
    truth = replace(start, values=values)
    count, generator = 6, torch.Generator().manual_seed(0)
    pose = canonical_pose(model).repeat(count, 1)
    pose += 0.2 * torch.randn(pose.shape, generator=generator)
    orient = torch.tensor([[0.0, 1.0 * k, 0.0] for k in range(count)])
    right = model.params(body_pose=pose, global_orient=orient)
    wrong = replace(
        right,
        body_pose=pose + 0.07 * torch.randn(pose.shape, generator=generator),
        global_orient=orient + 0.07 * torch.randn(orient.shape, generator=generator),
    )
    views, rows = [], []
    for k in range(count):
        for number, yaw in enumerate((0.0, 2.1, 4.2)):
            drawn = truth.draw(right.select([k]), camera_at(yaw), SIZE)
            picture = np.round(255 * drawn.over((0.0, 0.0, 0.0))).astype(np.uint8)
            views.append(AvatarView(picture, drawn.mask > 0.5, camera_at(yaw), wrong.select([k]), None, number))
            rows.append(k)
    train = [i for i, k in enumerate(rows) if k != 3]
    test = [i for i, k in enumerate(rows) if k == 3]
    material = AvatarMaterial(
        model=model,
        views=tuple(views[i] for i in train),
        test_views=tuple(views[i] for i in test),
        names=tuple(str(i) for i in (*train, *test)),
        motion=wrong,
        times_s=np.arange(count) / 10,
        fps=10.0,
        rows=tuple(rows[i] for i in (*train, *test)),
    )
    return material, right


def test_bodies_are_refined_together_with_the_field(scene, model):
    material, right = scene
    field, better = fit_field_of(material, config=CONFIG, joint=JOINT)

    def apart(params: bodyfit.BodyParams) -> float:
        rows = [0, 1, 2, 4, 5]
        return float((model.joints(params.select(rows)) - model.joints(right.select(rows))).norm(dim=2).mean())

    assert apart(better.motion) < 0.94 * apart(material.motion)  # 0.89: limbs are three pixels wide
    assert [v.camera_number for v in better.views] == [v.camera_number for v in material.views]
    torch.testing.assert_close(better.test_views[0].params.body_pose, better.motion.body_pose[3:4])
    assert len(field.gains) == 3


def test_few_pictures_are_not_refined_and_a_note_says_so(scene):
    material, _ = scene
    few = replace(material, views=material.views[:3], test_views=(), rows=material.rows[:3])  # of one moment
    quick = replace(CONFIG, passes=0.05)
    field, same = fit_field_of(few, config=quick)
    assert same.motion is few.motion
    assert "not refined" in same.notes[-1]
    np.testing.assert_array_equal(field.values, fit_view_field(few, config=quick).values)
    assert fit_field_of(few, refine=False, config=quick)[1] is few
    clip = replace(material, views=material.views[:15:3], test_views=(), rows=material.rows[:15:3])  # one camera's
    assert fit_field_of(clip, config=quick)[1] is clip


def test_corrections_go_over_in_time_and_are_rotations_of_the_joint(model):
    generator = torch.Generator().manual_seed(0)
    pose = 0.5 * torch.randn(7, model.params().body_pose.shape[1], generator=generator)
    bodies = model.params(body_pose=pose, transl=torch.randn(7, 3, generator=generator))
    known = np.array([6, 0, 2, 4])
    before = bodies.select(known.tolist())
    turn = torch.tensor([0.0, 0.0, 0.3])
    turned = before.body_pose.clone()
    turned[:, :3] = so3_log(so3_exp(before.body_pose[:, :3]) @ so3_exp(turn * torch.from_numpy(known)[:, None] / 6))
    alternating = 0.2 * torch.tensor([1.0, -1.0, 1.0, -1.0])  # in time -, +, -, +
    turned[:, 6] += alternating
    moved = before.transl + torch.tensor([0.4, 0.0, 0.0])
    out = corrected(bodies, np.arange(7), known, before, replace(before, body_pose=turned, transl=moved))
    for k in range(7):  # what grows evenly with time is foretold by its neighbours
        torch.testing.assert_close(
            so3_exp(out.body_pose[k, :3]), so3_exp(pose[k, :3]) @ so3_exp(turn * k / 6), atol=1e-5, rtol=0
        )
    torch.testing.assert_close(out.transl - bodies.transl, torch.tensor([[0.4, 0.0, 0.0]]).expand(7, 3))
    torch.testing.assert_close(out.body_pose[known, 6:9], turned[:, 6:9], atol=1e-5, rtol=0)
    torch.testing.assert_close(out.body_pose[1::2, 6:9], pose[1::2, 6:9], atol=1e-5, rtol=0)  # and what leaps is not
    torch.testing.assert_close(out.betas, bodies.betas)


def test_keypoints_follow_a_view_that_is_cut_and_reduced(model):
    camera = camera_at(0.4)
    points = model.keypoints(model.params(), "coco17")[0].detach().double().numpy()
    xyc = np.c_[camera.project(points), np.ones(17)]
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    view = AvatarView(
        image, np.ones(image.shape[:2], bool), camera, model.params(), keypoints=Keypoints2D("coco17", xyc)
    )
    small = view.cropped(4, 6, 44, 62).resized(20, 28)
    np.testing.assert_allclose(small.keypoints.xyc[:, :2], small.camera.project(points), atol=1e-9)
    assert small.image.shape == (28, 20, 3)


def test_a_halved_view_shows_the_same():
    camera = camera_at(0.0)
    mask = np.zeros((65, 48), bool)
    mask[10:30, 10:20] = True
    half = halved(View(np.repeat(200 * mask[..., None].astype(np.uint8), 3, 2), mask, camera, 0, mask))
    assert half.size == (32, 24)
    np.testing.assert_array_equal(half.mask[5:15, 5:10], 255)
    assert half.mask.sum() == 255 * mask.sum() / 4
    np.testing.assert_array_equal(half.unknown, half.mask > 0)
    np.testing.assert_allclose(half.camera.project(np.zeros((1, 3))), camera.project(np.zeros((1, 3))) / 2)


def test_senseless_settings_are_named():
    with pytest.raises(OptionError, match="coarse_rounds"):
        JointConfig(rounds=1, coarse_rounds=2)
