"""Evidence that places nobody is called that, with the reason, and costs nobody else anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bodyfit
from bodyfit.app.pipeline import fit_detections
from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.fit.fitter import fit_keypoints
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.fit.sequence.fitter import fit_sequence
from bodyfit.geometry.camera import CalibratedCamera, Camera
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names

SIZE, FOCAL = (1000, 800), 1000.0


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return load_model()


def standing(model: BodyModel, n: int = 1, depth_m: float = 4.0) -> BodyParams:
    """Upright people before the camera in the mean pose."""
    pose = torch.tensor(bodyfit.load_pose_prior().mean, dtype=model.dtype)
    return model.params(
        body_pose=pose.expand(n, -1),
        global_orient=torch.tensor([[np.pi, 0.0, 0.0]]).expand(n, 3),
        transl=torch.tensor([[0.0, 0.0, depth_m]]).expand(n, 3),
    )


def see(model: BodyModel, params: BodyParams, layout: str, *parts: str) -> torch.Tensor:
    """Keypoints whose names hold one of some words; all without any."""
    camera = Camera.make(params.batch, SIZE, focal_px=FOCAL)
    xy = camera.project(model.keypoints(model(**params), layout))
    known = torch.isfinite(xy).all(2)
    if parts:
        known &= torch.tensor([any(part in name for part in parts) for name in layout_names(layout)])
    return torch.cat([torch.nan_to_num(xy), known[..., None]], 2)


def fit(model: BodyModel, xyc, layout: str = "coco17", **more) -> FitResult:
    return fit_keypoints(xyc, layout=layout, model=model, **{"image_size": SIZE, "focal_px": FOCAL, **more})


def in_one_place(xyc):
    xyc[..., :2] = torch.tensor([400.0, 300.0])
    return xyc


def within_some_pixels(xyc):
    xyc[..., :2] = torch.tensor([400.0, 300.0]) + 0.01 * (xyc[..., :2] - 400)
    return xyc


def beside_the_picture(xyc):
    xyc[..., 0] += 2000
    return xyc


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (in_one_place, "one place"),
        (within_some_pixels, "one place"),
        (beside_the_picture, "beyond the picture"),
        (lambda xyc: xyc * (torch.arange(17) < 3)[:, None], "fewer than 4 keypoints"),
    ],
)
def test_impossible_keypoints_are_unobservable_and_cost_one_person(model, change, word):
    whole = see(model, standing(model, 2), "coco17")
    wrong = whole.clone()
    wrong[1] = change(wrong[1])
    right, result = fit(model, whole), fit(model, wrong)
    assert result.status[1] is FitStatus.UNOBSERVABLE
    assert word in result.reason[1]
    assert result.joints[1].isnan().all()
    assert result.params.betas[1].isnan().all()
    assert result.status[0].ok
    assert result.reason[0] is None
    assert torch.equal(result.joints[0], right.joints[0])


@pytest.mark.parametrize(
    ("layout", "parts"),
    [
        ("openpose137", ("left_wrist", "left_thumb", "left_index", "left_middle", "left_ring", "left_pinky")),
        ("mediapipe33", ("left_knee", "left_ankle", "left_heel", "left_big_toe")),
        ("mediapipe33", ("right_elbow", "right_wrist", "right_pinky", "right_index", "right_thumb")),
    ],
    ids=["hand", "shank", "forearm"],
)
def test_the_outer_part_of_a_limb_places_no_body(model, layout, parts):
    result = fit(model, see(model, standing(model, depth_m=1.5), layout, *parts), layout)
    assert result.status == (FitStatus.UNOBSERVABLE,)
    assert "limb" in result.reason[0]


@pytest.mark.parametrize("parts", [("nose", "eye", "ear"), ("knee", "ankle", "toe", "heel"), ("left_hip", "left_")])
def test_a_face_two_legs_and_one_side_are_enough(model, parts):
    (status,) = fit(model, see(model, standing(model), "mediapipe33", *parts), "mediapipe33").status
    assert status.ok


def test_a_body_kilometres_away_is_none(model):
    xyc = see(model, standing(model), "coco17")
    xyc[..., :2] = 400 + 0.1 * (xyc[..., :2] - 400)
    near = fit(model, xyc, focal_px=20_000.0)  # a long lens
    assert near.status[0].ok
    assert near.joints[0, 0, 2] > 600
    result = fit(model, xyc, focal_px=49_000.0)
    assert result.status == (FitStatus.UNOBSERVABLE,)
    assert "kilometre" in result.reason[0]
    assert result.joints.isnan().all()


@pytest.mark.parametrize("scale", [1.0, 1000.0, 0.001, 0.0])
def test_measured_points_in_another_unit_are_none(model, scale):
    points = model.keypoints(model(**standing(model)), "smpl24")
    result = fit_keypoints(points3d=scale * points, layout="smpl24", model=model)
    assert result.status[0].ok == (scale == 1.0)
    if scale != 1.0:
        assert "measured points" in result.reason[0]


def test_each_person_s_own_picture_counts(model):
    inside = see(model, standing(model), "coco17")[0].numpy()
    people = [[Keypoints2D("coco17", inside, score=1.0)]] * 2
    frames = [Frame(np.zeros((800, 1000, 3), np.uint8)), Frame(np.zeros((8, 1000, 3), np.uint8))]
    (there,), (gone,) = fit_detections(frames, people, model=model)
    assert there.status[0].ok
    assert "beyond the picture" in gone.reason[0]


def test_frames_of_a_clip_that_tell_of_nobody_are_filled_or_told(model):
    xyc = see(model, standing(model, 8), "coco17")
    xyc[0, :, :2] = xyc[4, :, :2] = 300.0
    result = fit_sequence(xyc, layout="coco17", image_size=SIZE, fps=8.0, focal_px=FOCAL, model=model)
    assert result.status[0] is FitStatus.UNOBSERVABLE
    assert "one place" in result.reason[0]
    assert result.status[4] is FitStatus.FILLED
    assert result.reason[1:] == (None,) * 7
    hand = see(model, standing(model, 3), "openpose137", "left_wrist", "left_index", "left_thumb", "left_pinky")
    result = fit_sequence(hand, layout="openpose137", image_size=SIZE, fps=8.0, focal_px=FOCAL, model=model)
    assert set(result.status) == {FitStatus.UNOBSERVABLE}
    assert all("limb" in reason for reason in result.reason)


def test_one_place_in_every_view_is_one_place(model):

    K, turn = np.array([[FOCAL, 0, 500], [0, FOCAL, 400], [0, 0, 1.0]]), np.diag([-1.0, 1.0, -1.0])
    cameras = [CalibratedCamera(K, np.eye(3), np.zeros(3)), CalibratedCamera(K, turn, np.array([0, 0, 8.0]))]
    seen = see(model, standing(model), "coco17")
    views = torch.stack([seen, moved_to_one_place(seen)], 1)
    assert fit_keypoints(views, layout="coco17", cameras=cameras, model=model).status[0].ok
    result = fit_keypoints(
        torch.stack([moved_to_one_place(seen)] * 2, 1), layout="coco17", cameras=cameras, model=model
    )
    assert "one place" in result.reason[0]


def moved_to_one_place(xyc):
    return torch.cat([torch.full_like(xyc[..., :2], 300.0), xyc[..., 2:]], 2)
