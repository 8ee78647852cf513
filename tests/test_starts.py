"""Laws of where fits start: half bodies, lying, upside down, sitting, in two layouts; no torso is needed."""

from __future__ import annotations

import math

import pytest
import roma
import torch

import bodyfit
from bodyfit.body.model import BodyModel, load_model
from bodyfit.fit.fitter import fit_keypoints
from bodyfit.fit.initialise.placement import uphill
from bodyfit.fit.result import FitResult
from bodyfit.geometry.camera import Camera
from bodyfit.skeleton import LAYOUTS, SMPL

SIZE, FOCAL = (1000, 1000), 1000.0
PEOPLE = 8
LEGS = ("hip", "knee", "ankle", "toe", "heel")
ARMS = ("elbow", "wrist")
PARTS = {
    "no legs": lambda name: any(p in name for p in LEGS),
    "head and shoulders": lambda name: any(p in name for p in LEGS + ARMS),
    "legs only": lambda name: not any(p in name for p in LEGS),
    "whole": lambda name: False,
}
"""What is missing."""
HALVES = ("no legs", "head and shoulders", "legs only")


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return load_model(dtype=torch.float64)


def bodies(model: BodyModel, poses: torch.Tensor, n: int = PEOPLE):
    """Upright people turned all around, 2.5 to 6 m away."""
    x, y, _ = torch.eye(3, dtype=torch.float64)
    yaw = torch.linspace(-2.9, 2.9, n, dtype=torch.float64)[:, None]
    orient = roma.rotmat_to_rotvec(roma.rotvec_to_rotmat(math.pi * x) @ roma.rotvec_to_rotmat(yaw * y))
    side, depth = torch.linspace(-0.3, 0.3, n).double(), torch.linspace(2.5, 6, n).double()
    transl = torch.stack([side, 0 * side, depth], 1)
    return model.params(body_pose=poses.expand(n, -1), global_orient=orient, transl=transl)


@pytest.fixture(scope="module")
def truth(model):
    return bodies(model, torch.from_numpy(bodyfit.load_pose_prior().sample(PEOPLE, seed=0)))


def see(model: BodyModel, params, layout: str, part: str, roll: float = 0.0) -> torch.Tensor:
    """Noise-free keypoints of a part, the picture turned by `roll` about its middle."""
    camera = Camera.make(params.batch, SIZE, focal_px=FOCAL, dtype=model.dtype)
    xy = camera.project(model.keypoints(model(**params), layout)) - 500
    known = torch.isfinite(xy).all(2) & ~torch.tensor([PARTS[part](name) for name in LAYOUTS[layout]])
    R = torch.tensor([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]], dtype=xy.dtype)
    return torch.cat([torch.nan_to_num(xy) @ R.T + 500, known[..., None].to(xy)], 2)


def fit(model: BodyModel, xyc: torch.Tensor, layout: str) -> FitResult:
    return fit_keypoints(xyc, layout=layout, model=model, image_size=SIZE, focal_px=FOCAL)


@pytest.mark.parametrize("roll", [math.pi / 2, -math.pi / 2, math.pi], ids=["right", "left", "upside down"])
@pytest.mark.parametrize("part", HALVES)
@pytest.mark.parametrize("layout", ["coco17", "openpose25"])
def test_half_a_body_that_lies_or_hangs_is_fitted_as_one_that_stands(model, truth, layout, part, roll):
    upright = fit(model, see(model, truth, layout, part), layout)
    turned = fit(model, see(model, truth, layout, part, roll), layout)
    assert all(status.ok for status in turned.status)
    R = roma.rotvec_to_rotmat(roll * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    apart = (turned.joints - upright.joints @ R.T).norm(dim=2).amax(1)
    # Quarter turns exchange the coordinates of residuals and change none, but damping by the diagonal follows the axes,
    # so that a fit stops elsewhere, and one who stands between two valleys may take the other one.
    assert apart.median() < 2e-3
    assert (apart < 0.02).sum() >= PEOPLE - 2
    assert (turned.objective / upright.objective).max() < 1.1


@pytest.mark.parametrize("part", HALVES)
@pytest.mark.parametrize("layout", ["coco17", "openpose25"])
def test_parts_of_people_are_placed_where_they_are(model, truth, layout, part):
    result = fit(model, see(model, truth, layout, part), layout)
    want = model.joints(truth)
    off = (result.joints[:, 0, 2] / want[:, 0, 2]).log().abs()
    assert off.median() < 0.1
    assert off.max() < 0.35  # shoulders seen edge-on leave a head to tell the size
    assert result.reprojection_error_px.max() < 12
    up, true_up = (j[:, SMPL.index("neck")] - j[:, 0] for j in (result.joints, want))
    cosine = torch.cosine_similarity(up, true_up, dim=1)
    assert cosine.median() > 0.9
    assert cosine.min() > 0.3


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("layout", ["coco17", "openpose25"])
def test_people_who_sit_are_found(model, layout, part):
    pose = torch.zeros(1, 23, 3, dtype=torch.float64)
    for side, sign in (("left", -1.0), ("right", 1.0)):
        pose[0, SMPL.index(f"{side}_hip") - 1, 0] = -1.5
        pose[0, SMPL.index(f"{side}_knee") - 1, 0] = 1.5
        pose[0, SMPL.index(f"{side}_shoulder") - 1, 2] = sign * 1.1
    sitting = bodies(model, pose.flatten(1))
    result = fit(model, see(model, sitting, layout, part), layout)
    want = model.joints(sitting)
    off = (result.joints[:, 0, 2] / want[:, 0, 2]).log().abs()
    up, true_up = (j[:, SMPL.index("neck")] - j[:, 0] for j in (result.joints, want))
    cosine = torch.cosine_similarity(up, true_up, dim=1)
    assert off.median() < 0.1
    assert off.max() < 0.35
    assert cosine.min() > (0.45 if part == "legs only" else 0.8)  # the prior bends who bends hips, if no trunk is seen


def test_up_is_where_higher_points_lie():
    height = torch.tensor([[1.5, 1.0, 0.5, 0.0]])
    place = torch.tensor([[[0.1, -0.5], [0.1, -0.2], [0.1, 0.1], [0.1, 0.4]]])
    weight = torch.tensor([[1.0, 0.5, 0.2, 0.1]])

    def direction(place, weight=weight, height=height):
        return torch.nn.functional.normalize(uphill(height, place, weight), dim=1)

    torch.testing.assert_close(direction(place), torch.tensor([[0.0, -1.0]]))
    torch.testing.assert_close(direction(place @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]])), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(direction(3 * place + 7), torch.tensor([[0.0, -1.0]]))
    place[0, 3] = 100.0
    torch.testing.assert_close(direction(place, weight * torch.tensor([1.0, 1, 1, 0])), torch.tensor([[0.0, -1.0]]))
    for nothing in (uphill(0 * height, place, weight), uphill(height, place, 0 * weight)):
        torch.testing.assert_close(nothing, torch.tensor([[0.0, -1.0]]))
