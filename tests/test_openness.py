"""Residuals and variables of one's own, from outside the package: registered, fitted, and in the covariance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import bodyfit
from bodyfit.body.points.posed import Points
from bodyfit.fit.config import FitConfig
from bodyfit.fit.fitter import fit_keypoints
from bodyfit.fit.residuals import (
    PointResidual,
    PointTerm,
    Quadratic,
    VariableResidual,
    register,
    unregister,
)
from bodyfit.fit.variables import Block

LAYOUT, SIZE, FOCAL, N = "openpose25", (1000, 1000), 1000.0, 4
WALL_M = 3.4
"""The plane that left wrists are known to touch: z = 3.4 m."""


class WristOnPlane(PointResidual):
    """Centimetres between the left wrist and a plane, given for each person by a normal and an offset."""

    name, group, weight = "wrist_plane", "seen", 2.0

    def __init__(self, points: Points) -> None:
        self.own = points

    @classmethod
    def of(cls, setup):
        return cls(Points(setup.model, [{"left_wrist": 1.0}]))

    def points(self, setup):
        return self.own

    def applies(self, seen):
        return "plane" in seen.more

    def at(self, points_m, variables, seen, stage):
        normal, offset = seen.more["plane"][:, :3], seen.more["plane"][:, 3]
        r = 100 * ((points_m[:, 0] * normal).sum(1) - offset)
        return PointTerm.of_rows(r[:, None], 100 * normal[:, None, None])


class SpineStraight(VariableResidual):
    """Radians of the spine's three joints, as body_pose has them."""

    name, group, blocks = "spine_straight", "pose", ("body_pose",)

    @classmethod
    def of(cls, setup):
        return cls()

    def at(self, variables, seen, stage):
        pose = variables["body_pose"]
        chosen = pose.new_zeros(pose.shape[1])
        for name in ("spine1", "spine2", "spine3"):
            joint = bodyfit.load_model().skeleton.index(name) - 1
            chosen[3 * joint : 3 * joint + 3] = 1
        r = pose * chosen
        return Quadratic(r.square().sum(1), r, chosen.expand_as(pose))


SCALE = Block("lift_scale", 1, shared=True)
"""The logarithm of how many times larger than the body its lift is: one a person."""


class ScaledLift(PointResidual):
    """Centimetres between the body about its middle and a lift about its middle, of a size that is a variable."""

    name, group = "scaled_lift", "seen"

    @classmethod
    def of(cls, setup):
        return cls()

    def points(self, setup):
        return setup.points

    def applies(self, seen):
        return "sized_lift" in seen.more

    def at(self, points_m, variables, seen, stage):
        lift, weight = seen.more["sized_lift"], seen.weight[..., None]
        share = weight / weight.sum(1, keepdim=True)
        q = (-variables["lift_scale"]).exp()[..., None] * (lift - (share * lift).sum(1, keepdim=True))
        n = points_m.shape[1]
        eye = torch.eye(n).to(points_m) - share.mT
        by_points = 100 * (weight * eye)[:, :, None, :, None] * torch.eye(3).to(points_m)[:, None]  # (B, K, 3, K, 3)
        r = 100 * weight * (points_m - (share * points_m).sum(1, keepdim=True) - q)
        return PointTerm.of_rows(
            r.flatten(1), by_points.flatten(1, 2), {"lift_scale": (100 * weight * q).flatten(1)[..., None]}
        )


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model(dtype=torch.float64)


@pytest.fixture(scope="module")
def people(model):
    """Parameters, keypoints and their places, of people three to four metres away."""
    poses = torch.from_numpy(bodyfit.load_pose_prior().sample(N, seed=7))
    yaw = torch.tensor([0.1, 0.8, -0.6, 0.3], dtype=torch.float64)[:, None]
    about_x = torch.tensor([torch.pi, 0.0, 0.0], dtype=torch.float64)
    turned = bodyfit_orient(about_x, yaw)
    transl = torch.tensor([[0.0, 0.1, 3.4 + 0.1 * i] for i in range(N)], dtype=torch.float64)
    params = model.params(betas=torch.zeros(N, 10), body_pose=poses, global_orient=turned, transl=transl)
    points = torch.nan_to_num(model.keypoints(params, LAYOUT))
    xy = bodyfit.Camera.make(N, SIZE, focal_px=FOCAL, dtype=torch.float64).project(points)
    return params, torch.cat([xy, torch.ones_like(xy[..., :1])], 2), points


def bodyfit_orient(about_x, yaw):
    import roma

    flip = roma.rotvec_to_rotmat(about_x)
    turn = roma.rotvec_to_rotmat(yaw * torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    return roma.rotmat_to_rotvec(flip @ turn)


@pytest.fixture(params=[WristOnPlane, SpineStraight, ScaledLift], ids=lambda kind: kind.name)
def registered(request, tables):
    register(request.param)
    yield request.param
    unregister(request.param.name)


def config(**weights: float) -> FitConfig:
    stages = tuple(replace(stage, weights=weights) for stage in FitConfig().stages)
    return FitConfig(stages=stages, components=False, swaps=False)


def wrists(result, model):
    return result.joints[:, model.skeleton.index("left_wrist"), 2]


@pytest.mark.parametrize("registered", [WristOnPlane], indirect=True)
@pytest.mark.parametrize("backend", ["auto", "tensors"])
def test_a_residual_on_points(registered, backend, model, people):
    _, xyc, _ = people
    xyc = xyc.clone()
    xyc[:, 7, 2] = 0  # the left wrist is not seen
    plane = torch.tensor([[0.0, 0.0, 1.0, WALL_M]], dtype=torch.float64).expand(N, -1)
    evidence = bodyfit.Evidence(keypoints=xyc, layout=LAYOUT, image_size=SIZE, focal_px=FOCAL)
    settings = replace(config(), backend=backend)
    without = bodyfit.fit(evidence, model=model, config=settings)
    with_plane = bodyfit.fit(replace(evidence, more={"plane": plane}), model=model, config=settings)
    assert (wrists(without, model) - WALL_M).abs().max() > 0.03
    assert (wrists(with_plane, model) - WALL_M).abs().max() < 0.01
    assert without.backend == ("loops" if backend == "auto" else "tensors")
    assert with_plane.backend == ("loops and tensors" if backend == "auto" else "tensors")
    assert with_plane.joints_sd_m is not None
    assert without.joints_sd_m is not None
    at = model.skeleton.index("left_wrist")
    assert (with_plane.joints_sd_m[:, at] < 0.8 * without.joints_sd_m[:, at]).all(), "what is known is surer"


@pytest.mark.parametrize("registered", [SpineStraight], indirect=True)
def test_a_residual_on_variables(registered, model, people):
    _, xyc, _ = people
    fit = {"layout": LAYOUT, "image_size": SIZE, "focal_px": FOCAL, "model": model}
    plain, straight = (fit_keypoints(xyc, config=config(spine_straight=w), **fit) for w in (0.0, 300.0))
    columns = [3 * (model.skeleton.index(n) - 1) + a for n in ("spine1", "spine2", "spine3") for a in range(3)]
    bent, unbent = (r.params.body_pose[:, columns].norm(dim=1) for r in (plain, straight))
    assert (bent > 0.05).all()
    assert (unbent < 0.01).all()
    assert (plain.backend, straight.backend) == ("loops", "loops and tensors")
    assert straight.variables is not None
    start = straight.variables["body_pose"].start
    variance = [
        r.covariance[:, [start + c for c in columns]][:, :, [start + c for c in columns]] for r in (plain, straight)
    ]
    # Its deviation is 1 by its group, as the mixture's: errors of the spine are no larger than it was.
    assert torch.isfinite(variance[1]).all()
    assert not torch.allclose(variance[0], variance[1], rtol=0.1)


@pytest.mark.parametrize("registered", [ScaledLift], indirect=True)
def test_a_block_of_variables(registered, model, people):
    _, xyc, points = people
    sizes = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    lift = sizes[:, None, None] * (points - points[:, :1]) + 5.0
    evidence = bodyfit.Evidence(
        keypoints=xyc, layout=LAYOUT, image_size=SIZE, focal_px=FOCAL, more={"sized_lift": lift}
    )
    result = bodyfit.fit(evidence, model=model, config=replace(config(scaled_lift=0.5), blocks=(SCALE,)))
    torch.testing.assert_close(result.others["lift_scale"][:, 0].exp(), sizes, rtol=0.03, atol=0)
    assert result.backend == "loops and tensors"
    assert result.variables is not None
    assert result.covariance is not None
    assert result.covariance.shape == (N, result.variables.size, result.variables.size)
    assert result.variables.size == 86
    at = result.variables["lift_scale"]
    deviation = result.covariance[:, at, at].flatten().sqrt()
    assert (deviation > 1e-3).all()
    assert (deviation < 0.1).all()
    # Taken out before the dense solve it is the same.
    settings = replace(config(scaled_lift=0.5), blocks=(replace(SCALE, eliminate=True),))
    half = bodyfit.fit(evidence.select(slice(0, 2)), model=model, config=settings)
    torch.testing.assert_close(half.others["lift_scale"], result.others["lift_scale"][:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("registered", [ScaledLift], indirect=True)
def test_a_block_that_frames_share(registered, model, people):
    """In a clip a person has one of it."""
    params, _, _ = people
    frames = 8
    moved = model.params(**{k: v[:1].expand(frames, -1) for k, v in params.items()})
    points = torch.nan_to_num(model.keypoints(moved, LAYOUT))
    xy = bodyfit.Camera.make(frames, SIZE, focal_px=FOCAL, dtype=torch.float64).project(points)
    xyc = torch.cat([xy, torch.ones_like(xy[..., :1])], 2)
    evidence = bodyfit.Evidence(
        keypoints=xyc, layout=LAYOUT, image_size=SIZE, focal_px=FOCAL, more={"sized_lift": 2 * points + 1}
    )
    settings = replace(config(scaled_lift=0.5), blocks=(SCALE,))
    result = bodyfit.fit_sequence(evidence, fps=30.0, model=model, config=settings)
    assert all(status.ok for status in result.status)
    scale = result.others["lift_scale"][:, 0].exp()
    assert (scale == scale[0]).all()
    assert abs(float(scale[0]) - 2) < 0.06


def test_a_clip_takes_what_a_person_takes(model, people):
    """Several cameras, measured points and a known shape, through time."""
    params, _, _ = people
    frames = 6
    moved = model.params(**{k: v[:1].expand(frames, -1) for k, v in params.items()})
    points = model.keypoints(moved, LAYOUT)
    measured = bodyfit.fit_sequence(
        bodyfit.Evidence(points3d=points, points3d_layout=LAYOUT, betas=params.betas[:1].expand(frames, -1)),
        fps=30.0,
        model=model,
    )
    assert all(status.ok for status in measured.status)
    assert torch.equal(measured.params.betas, moved.betas)
    off = (measured.joints - model.joints(moved)).norm(dim=2)
    assert off.mean() < 0.02


def test_a_clip_of_several_cameras(model, people):
    """What one camera does not tell, the depth, two do, through time as in single frames."""
    params, _, _ = people
    frames = 6
    moved = model.params(**{k: v[:1].expand(frames, -1) for k, v in params.items()})
    points, turn = model.keypoints(moved, LAYOUT).nan_to_num().numpy(), np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
    K, middle = np.array([[FOCAL, 0, 500], [0, FOCAL, 500], [0, 0, 1]]), np.array([0, 0, 3.5])
    cameras = [
        bodyfit.CalibratedCamera(K=K, R=np.eye(3), t=np.zeros(3)),
        bodyfit.CalibratedCamera(K=K, R=turn, t=middle - turn @ middle),
    ]
    xy = np.stack([camera.project(points) for camera in cameras], 1)
    keypoints = np.concatenate([xy, np.ones((*xy.shape[:3], 1))], 3)
    evidence = bodyfit.Evidence(keypoints=keypoints, layout=LAYOUT, cameras=cameras)
    result = bodyfit.fit_sequence(evidence, fps=30.0, model=model)
    assert all(status.ok for status in result.status)
    assert result.keypoints.shape == (frames, 2, 25, 3)
    off = (result.joints - model.joints(moved)).norm(dim=2)
    assert off.mean() < 0.03


def test_evidence_is_put_together_and_taken_apart(model, people):
    _, xyc, points = people
    both = bodyfit.Evidence(
        keypoints=xyc, layout=LAYOUT, image_size=SIZE, focal_px=FOCAL, joints3d=points, height_m=torch.full((N,), 1.7)
    )
    halves = [both.select([0, 1]), both.select(torch.tensor([2, 3]))]
    again = bodyfit.Evidence.cat(halves)
    assert len(again) == N
    for name in ("keypoints", "joints3d", "height_m"):
        assert torch.equal(getattr(again, name), getattr(both, name))
    assert torch.equal(again.focal_px, torch.full((N,), FOCAL))
    with pytest.raises(bodyfit.BodyfitError, match="joints3d is given for some"):
        bodyfit.Evidence.cat([halves[0], replace(halves[1], joints3d=None)])
    with pytest.raises(bodyfit.BodyfitError, match="image_size differs"):
        bodyfit.Evidence.cat([halves[0], replace(halves[1], image_size=(5, 5))])
    with pytest.raises(bodyfit.BodyfitError, match="nothing to fit"):
        bodyfit.Evidence(layout=LAYOUT)


def test_a_backend_that_cannot_be_is_refused(model, people):
    _, xyc, _ = people
    with pytest.raises(bodyfit.BodyfitError, match="backend"):
        FitConfig(backend="guess")
    fit = {"layout": LAYOUT, "image_size": SIZE, "focal_px": FOCAL, "model": model}
    loops, tensors = (fit_keypoints(xyc, config=replace(config(), backend=b), **fit) for b in ("loops", "tensors"))
    assert (loops.backend, tensors.backend) == ("loops", "tensors")
    torch.testing.assert_close(loops.joints, tensors.joints, atol=1e-5, rtol=0)
