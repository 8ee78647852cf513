"""Laws of close-ups: who shows a head, or no legs, is as large as in the whole picture, upright, and looks the same
way; legs that are not visible rest, in clips too, and the result says so."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bodyfit.app.pipeline import fit_image
from bodyfit.body.model import BodyModel, load_model
from bodyfit.detect.movenet import MovenetDetector, region, trunk_region
from bodyfit.detect.networks.multipose import Proposal
from bodyfit.detect.search.closeup import extent_px, head_region
from bodyfit.detect.search.repair import as_proposed, reconciled
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.result import FitResult
from bodyfit.fit.sequence.fitter import fit_sequence
from bodyfit.fit.sequence.legs import resting_share, steadily_visible
from bodyfit.geometry.camera import Camera
from bodyfit.geometry.rotation import so3_exp
from bodyfit.images.frame import read_image
from bodyfit.skeleton import SMPL, layout_names

PORTRAIT = Path(__file__).parents[1] / "assets" / "samples" / "astronaut_portrait.jpg"
COCO, LANDMARKS = layout_names("coco17"), layout_names("mediapipe33")
CROPS = {"shoulders": (76, 0, 384, 317), "head": (128, 0, 332, 230), "face": (153, 26, 297, 195)}
"""x0, y0, x1, y1 of parts of the portrait, pixels."""
STANDING_KNEE, LOOSE = 0.28, 0.35
"""Radians: a standing knee's bend, and how far legs at rest may be from standing."""


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return load_model()


@pytest.fixture(scope="module")
def fits(model) -> dict[str, FitResult]:
    """The astronaut in the whole portrait and in parts of it."""
    image, detector = read_image(PORTRAIT).image, MovenetDetector()
    boxes = {"whole": (0, 0, image.shape[1], image.shape[0]), **CROPS}
    pictures = {name: np.ascontiguousarray(image[y0:y1, x0:x1]) for name, (x0, y0, x1, y1) in boxes.items()}
    found = {name: fit_image(picture, detector=detector, model=model) for name, picture in pictures.items()}
    assert all(len(people) == 1 for people in found.values())
    return {name: people[0] for name, people in found.items()}


def px_per_m(result: FitResult) -> float:
    return float(result.camera.focal_px[0] / result.joints[0, SMPL.index("head"), 2])


def head_and_up(result: FitResult) -> tuple[torch.Tensor, torch.Tensor]:
    """Which way the head looks, and from the pelvis to the neck, camera axes, of length 1."""
    local = so3_exp(torch.cat([result.params.global_orient, result.params.body_pose], 1).view(-1, 3))
    R, joint = torch.eye(3).to(local), SMPL.index("head")
    while joint >= 0:
        R, joint = local[joint] @ R, SMPL.parents[joint]
    up = result.joints[0, SMPL.index("neck")] - result.joints[0, 0]
    return R[:, 2], up / up.norm()


@pytest.mark.parametrize("crop", CROPS)
def test_parts_of_a_portrait_are_fitted_as_the_whole_of_it(fits, crop):
    whole, part = fits["whole"], fits[crop]
    assert px_per_m(part) == pytest.approx(px_per_m(whole), rel=0.25)
    (looks, up), (looks_whole, _) = head_and_up(part), head_and_up(whole)
    assert up[1] < -0.9  # y points down
    assert looks @ looks_whole > 0.9


@pytest.mark.parametrize("crop", ["whole", *CROPS])
def test_legs_beyond_the_picture_rest(fits, crop):
    assert fits[crop].legs_at_rest.tolist() == [True]
    assert_at_rest(fits[crop])


def assert_at_rest(result: FitResult, rows: slice = slice(None)) -> None:
    pose = result.params.body_pose[rows].unflatten(1, (-1, 3))
    for side in ("left", "right"):
        knee = pose[:, SMPL.index(f"{side}_knee") - 1]
        assert (knee - knee.new_tensor([STANDING_KNEE, 0, 0])).norm(dim=1).max() < LOOSE + 1e-3


def test_legs_that_are_visible_do_not_rest(model):
    xyc = keypoints(model, sitting(model))
    assert not fit(model, xyc).legs_at_rest.any()


# ---------------------------------------------------------------- half bodies of known pose


def sitting(model: BodyModel, frames: int = 2):
    """Someone who sits before the camera, 3 m away."""
    pose = torch.zeros(frames, 23, 3)
    for side, sign in (("left", -1.0), ("right", 1.0)):
        pose[:, SMPL.index(f"{side}_hip") - 1, 0] = -1.5
        pose[:, SMPL.index(f"{side}_knee") - 1, 0] = 1.5
        pose[:, SMPL.index(f"{side}_shoulder") - 1, 2] = sign * 1.1
    turn = torch.tensor([math.pi, 0.0, 0.0]).expand(frames, 3)
    at = torch.tensor([0.0, 0.0, 3.0]).expand(frames, 3)
    return model.params(body_pose=pose.flatten(1), global_orient=turn, transl=at)


def keypoints(model: BodyModel, params) -> torch.Tensor:
    camera = Camera.make(params.batch, (1000, 1000), focal_px=1000.0)
    xy = camera.project(model.keypoints(model(**params), "coco17"))
    return torch.cat([torch.nan_to_num(xy), torch.isfinite(xy).all(2, keepdim=True).to(xy)], 2)


def without(xyc: torch.Tensor, *parts: str, confidence: float = 0.0) -> torch.Tensor:
    xyc = xyc.clone()
    xyc[:, [i for i, name in enumerate(COCO) if any(part in name for part in parts)], 2] = confidence
    return xyc


def fit(model: BodyModel, xyc: torch.Tensor) -> FitResult:
    return Fitter(layout="coco17", model=model)(xyc, image_size=(1000, 1000), focal_px=1000.0)


def test_an_arm_tells_of_the_trunk_and_a_head_is_started_from_alone(model):
    fitter = Fitter(layout="coco17", model=model)
    for parts, starts in ((("hip", "knee", "ankle"), False), (("hip", "knee", "ankle", "elbow", "wrist"), True)):
        xyc = without(keypoints(model, sitting(model)), *parts)
        evidence = Evidence(keypoints=xyc, layout="coco17", image_size=(1000, 1000), focal_px=1000.0)
        checked, _, present = fitter.checked(evidence)
        observed = fitter.observer.observations(checked, present)
        up = torch.tensor([[0.0, -1.0]]).expand(len(xyc), -1)
        found = fitter.observer.partial.starts(observed, torch.zeros(1, 10), torch.zeros(1, 3), up)
        assert (found is not None) == starts


@pytest.mark.parametrize("confidence", [0.0, 0.2], ids=["missing", "guessed"])
def test_legs_that_nobody_sees_in_a_clip_rest(model, confidence):
    xyc = without(keypoints(model, sitting(model, 12)), "knee", "ankle", confidence=confidence)
    result = fit_sequence(xyc, fps=30.0, layout="coco17", image_size=(1000, 1000), focal_px=1000.0, model=model)
    assert result.legs_at_rest.all()
    assert_at_rest(result)


def test_legs_of_a_clip_rest_away_from_where_they_are_visible(model):
    xyc = keypoints(model, sitting(model, 40))
    xyc = torch.cat([without(xyc[:30], "knee", "ankle"), xyc[30:]])
    result = fit_sequence(xyc, fps=10.0, layout="coco17", image_size=(1000, 1000), focal_px=1000.0, model=model)
    assert result.legs_at_rest.tolist() == [True] * 30 + [False] * 10
    assert_at_rest(result, slice(0, 14))
    knee = result.params.body_pose.unflatten(1, (-1, 3))[:, SMPL.index("left_knee") - 1, 0]
    assert knee[30:].min() > 1.2


def test_legs_come_to_rest_a_while_from_where_they_are_visible():
    there, legs = torch.ones(60, dtype=torch.bool), torch.zeros(60, dtype=torch.bool)
    assert resting_share(legs, there, 10.0).tolist() == [1.0] * 60
    legs[30:] = True
    share = resting_share(legs, there, 10.0)
    assert share[25:].tolist() == [0.0] * 35
    assert share[:15].tolist() == [1.0] * 15
    assert (share[15:25].diff() < 0).all()
    there[10:20] = False  # who is not in sight goes on between before and after
    assert resting_share(legs, there, 10.0)[9:21].diff().max() <= 1e-9


def test_a_guess_now_and_then_shows_no_legs():
    there, legs = torch.ones(60, dtype=torch.bool), torch.zeros(60, dtype=torch.bool)
    legs[20] = legs[40] = True
    assert not steadily_visible(legs, there, 30.0).any()
    legs[:] = True
    legs[25:28] = False
    assert steadily_visible(legs, there, 30.0).all()


# ---------------------------------------------------------------- proposals of faces


def face(scale: float = 1.0, *, hips: float = 0.02) -> Proposal:
    """A proposal of a face that fills the picture."""
    xyc = np.zeros((17, 3))
    xyc[:3] = (100, 100, 0.6), (115, 85, 0.6), (85, 85, 0.6)
    xyc[3:7] = (135, 92, 0.6), (65, 92, 0.6), (170, 190, 0.4), (30, 190, 0.4)
    xyc[7:] = (100, 220, 0.02)
    xyc[11:13, 2] = hips
    xyc[:, :2] *= scale
    return Proposal(xyc, (0.0, 0.0, 200.0 * scale, 220.0 * scale), 0.3, 1.0)


def test_the_head_tells_the_size_of_a_close_up_alone():
    once, twice = extent_px(face().xyc), extent_px(face(2.0).xyc)
    assert twice == pytest.approx(2 * once)
    assert extent_px(face(hips=0.5).xyc) is None
    assert region(face().xyc) == head_region(face().xyc)
    assert region(face(hips=0.5).xyc) == trunk_region(face(hips=0.5).xyc)


def test_hands_that_one_network_makes_up_in_a_close_up_are_dropped():
    proposal = face()
    person = as_proposed(proposal)
    xyc = person.xyc.copy()
    arms = [i for i, name in enumerate(LANDMARKS) if any(p in name for p in ("elbow", "wrist", "knuckle"))]
    xyc[arms] = (120, 150, 0.7)
    person = replace(person, xyc=xyc, lift_m=np.zeros((33, 3), np.float32))
    kept = reconciled(person, proposal, [])
    assert not kept.xyc[arms, 2].any()
    assert np.isnan(kept.lift_m[arms]).all()
    seen = proposal.xyc.copy()
    seen[[COCO.index("left_elbow"), COCO.index("left_wrist")]] = (120, 150, 0.5)
    kept = reconciled(person, replace(proposal, xyc=seen), [])
    left = [i for i in arms if LANDMARKS[i].startswith("left")]
    assert (kept.xyc[left, 2] > 0).all()
    assert not kept.xyc[[i for i in arms if i not in left], 2].any()
