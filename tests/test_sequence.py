"""A body through time: laws of the motion term, of starts made to agree, and of whole tracks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import roma
import torch

from bodyfit.body.model import load_model
from bodyfit.errors import OptionError, ShapeError
from bodyfit.evaluate.metrics import pa_mpjpe
from bodyfit.fit import outcome
from bodyfit.fit.config import FitConfig, SequenceConfig
from bodyfit.fit.fitter import fit_keypoints
from bodyfit.fit.initialise.left_right import turned_round
from bodyfit.fit.residuals.motion import Motion
from bodyfit.fit.result import FitStatus
from bodyfit.fit.sequence import continuity
from bodyfit.fit.sequence import left_right as sides
from bodyfit.fit.sequence.continuity import agreeing, between, unwrapped
from bodyfit.fit.sequence.fitter import SequenceFitter, fit_sequence
from bodyfit.fit.sequence.focal import Focal
from bodyfit.fit.variables import Variables
from bodyfit.geometry.camera import Camera
from bodyfit.geometry.rotation import so3_exp
from bodyfit.io import export
from bodyfit.io.export import bvh, gltf, rig
from bodyfit.solve import LMConfig

SIZE, FOCAL, FPS, LAYOUT = (1000, 1000), 1000.0, 30.0, "openpose25"


@pytest.fixture(scope="module")
def model():
    return load_model()


def dance(model, n: int):
    """A body that turns, walks about, lifts a knee and waves, smoothly."""
    t = torch.arange(n) / FPS
    pose = torch.zeros(n, 23, 3)
    names = model.skeleton.names[1:]

    def joint(name: str) -> torch.Tensor:
        return pose[:, names.index(name)]

    joint("left_shoulder")[:, 2] = -1.0 + 0.4 * torch.sin(4 * t)
    joint("right_shoulder")[:, 2] = 1.0
    joint("right_elbow")[:, 1] = 0.8 + 0.5 * torch.sin(3 * t)
    joint("left_hip")[:, 0] = -0.5 + 0.5 * torch.cos(3 * t)
    joint("left_knee")[:, 0] = 0.8 - 0.6 * torch.cos(3 * t)
    joint("spine2")[:, 0] = 0.1
    yaw = so3_exp(torch.stack([0 * t, 0.6 * torch.sin(1.5 * t), 0 * t], 1))
    flip = so3_exp(torch.tensor([torch.pi, 0.0, 0.0]))
    orient = roma.rotmat_to_rotvec(flip @ yaw)
    transl = torch.stack([0.4 * torch.sin(t), 0.2 + 0 * t, 4 + 0.5 * torch.cos(t)], 1)
    betas = torch.tensor([[0.8, -0.5, 0.3, 0, 0, 0, 0, 0, 0, 0]]).expand(n, -1)
    return model.params(betas=betas, body_pose=pose.flatten(1), global_orient=orient, transl=transl)


def seen(model, params, noise_px: float = 0.0, seed: int = 0):
    """Keypoints, confidence 1, and their places in space."""
    points = model.keypoints(params, LAYOUT)
    camera = Camera.make(len(points), SIZE, focal_px=FOCAL)
    xy = camera.project(points)
    xy = xy + noise_px * torch.randn(xy.shape, generator=torch.Generator().manual_seed(seed))
    return torch.cat([xy, torch.ones_like(xy[..., :1])], 2), points


@pytest.fixture(scope="module")
def film(model):
    params = dance(model, 40)
    xyc, points = seen(model, params)
    return params, model.joints(params), xyc, points


def fit(model, xyc, points, **more):
    known = {"layout": LAYOUT, "image_size": SIZE, "fps": FPS, "focal_px": FOCAL, "model": model}
    return fit_sequence(xyc, joints3d=points, **{**known, **more})


def test_the_motions_gradient_is_that_of_its_cost():
    model = load_model(dtype=torch.float64)
    motion = Motion(model, FPS, tail=4.0)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 75, generator=g, dtype=torch.float64)
    x = x + 0.2 * torch.randn(5, 75, generator=g, dtype=torch.float64)
    x[2, 3:6] *= 1 - 2 * torch.pi / x[2, 3:6].norm()  # the same orientation in its other branch
    got = motion(x).gradient
    for i, j in [(0, 0), (1, 2), (2, 3), (2, 5), (0, 17), (4, 40), (3, 74)]:
        e = torch.zeros_like(x)
        e[i, j] = 1e-6
        want = float(motion(x + e).cost.sum() - motion(x - e).cost.sum()) / 4e-6
        # The costs are of order 1e4, known to 1e-12 of that.
        assert float(got[i, j]) == pytest.approx(want, abs=1e-2 * 1e-3 + 1e-6 * abs(want))


def test_no_branch_and_no_camera_changes_what_a_motion_costs(model):
    motion = Motion(model, FPS, tail=4.0)
    params = dance(model, 12)
    x = torch.cat([params.transl, params.global_orient, params.body_pose], 1)
    cost = motion(x).cost
    other = x.clone()
    other[::2, 3:6] *= 1 - 2 * torch.pi / other[::2, 3:6].norm(dim=1, keepdim=True)
    torch.testing.assert_close(motion(other).cost, cost, rtol=1e-3, atol=1e-3)
    R = so3_exp(torch.tensor([0.3, -0.5, 0.2]))
    turned = torch.cat([x[:, :3] @ R.T, roma.rotmat_to_rotvec(R @ so3_exp(x[:, 3:6])), x[:, 6:]], 1)
    torch.testing.assert_close(motion(turned).cost, cost, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(motion(x.flip(0)).cost.flip(0), cost, rtol=1e-3, atol=1e-3)


def test_a_steady_turn_costs_nothing(model):
    x = torch.zeros(9, 75)
    x[:, 4] = 0.3 * torch.arange(9)
    x[:, 0] = 0.1 * torch.arange(9)
    assert float(Motion(model, FPS, tail=4.0)(x).cost.sum()) < 1e-4


def test_a_clip_without_noise_is_recovered(model, film):
    """Where nothing else pulls, every keypoint of every frame ends where it was, for what a network expects fades."""
    _, _, xyc, points = film
    none = {"pose": 0.05, "shape": 0.05, "angle": 0.0, "limits": 0.0, "interpenetration": 0.0}
    weak = FitConfig(stages=tuple(replace(stage, **none) for stage in FitConfig().stages))
    exact = LMConfig(max_iterations=30, cost_tolerance=1e-6)
    result = fit(model, xyc, points, config=weak, sequence=SequenceConfig(shape=0.05, motion=0.01, lm=exact))
    assert all(status.ok for status in result.status)
    off = model.keypoints(result.params, LAYOUT) - points
    # How nearly a network's expectations fade depends on the network: without them 2 mm are left, with them 7.
    assert float((off - off.mean(1, keepdim=True)).norm(dim=2).max()) < 0.01
    assert float(result.reprojection_error_px.max()) < 0.5


def test_noise_is_smoothed_and_the_shape_is_one(model, film):
    params, joints, _, points = film
    xyc, _ = seen(model, params, noise_px=5.0)
    result = fit(model, xyc, points)
    assert float(result.params.betas.std(0).max()) == 0
    alone = fit_keypoints(xyc, layout=LAYOUT, image_size=SIZE, focal_px=FOCAL, joints3d=points, model=model)

    def jerky(found: torch.Tensor) -> float:
        off = found - joints
        return float((off[2:] - 2 * off[1:-1] + off[:-2]).norm(dim=2).mean())

    assert jerky(result.joints) < jerky(alone.joints) / 5


def test_a_clip_reversed_is_the_clip_reversed(model, film):
    _, _, xyc, points = film
    settings = SequenceConfig(lm=LMConfig(max_iterations=40, cost_tolerance=1e-4))
    result, back = (
        fit(model, xyc, points, sequence=settings),
        fit(model, xyc.flip(0), points.flip(0), sequence=settings),
    )
    # Both end where a step gains less than 1e-4 of the cost.
    assert float((result.joints - back.joints.flip(0)).norm(dim=2).max()) < 0.01


def test_frames_without_keypoints_are_filled_by_the_motion(model, film):
    _, _, xyc, points = film
    xyc, points = xyc.clone(), points.clone()
    gap = slice(15, 23)
    xyc[gap, :, 2] = 0
    points[gap] = torch.nan
    xyc[30] = torch.nan
    result = fit(model, xyc, points)
    assert [s for s, status in enumerate(result.status) if status == FitStatus.FILLED] == [*range(15, 23), 30]
    off = result.joints - fit(model, *film[2:]).joints
    off = (off - off[:, :1]).norm(dim=2).mean(1)
    assert float(off[gap].max()) < 0.08  # a knee goes up and down by twice that in that time
    assert float(off[30]) < 0.01


def test_before_the_first_and_after_the_last_keypoint_nothing_is_known(model, film):
    _, _, xyc, points = film
    xyc = xyc.clone()
    xyc[:3, :, 2] = 0
    xyc[-2:] = torch.nan
    result = fit(model, xyc, points)
    outside = [0, 1, 2, 38, 39]
    for t, status in enumerate(result.status):
        assert (status == FitStatus.UNOBSERVABLE) == (t in outside)
        assert bool(torch.isnan(result.params.body_pose[t]).all()) == (t in outside)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_tracks_of_few_frames(model, film, n):
    _, joints, xyc, points = film
    result = fit(model, xyc[:n], points[:n])
    assert len(result) == n
    assert result.joints.shape == (n, 24, 3)
    assert all(status.ok for status in result.status)
    if n:
        assert pa_mpjpe(result.joints, joints[:n]).per_item.mean() < 40  # what the priors pull


def test_nothing_seen_at_all_is_unobservable(model, film):
    _, _, xyc, points = film
    result = fit(model, 0 * xyc, points)
    assert set(result.status) == {FitStatus.UNOBSERVABLE}


def test_sides_that_are_exchanged_for_a_while_are_put_right(model, film):
    _, _, xyc, points = film
    fitter = SequenceFitter(layout=LAYOUT, model=model)
    wrong = xyc.clone()
    legs = fitter.frames.exchanges[1]
    wrong[10:16] = wrong[10:16][:, legs]
    result = fit(model, wrong, points)
    assert [t for t, what in enumerate(result.swapped) if what == "legs"] == list(range(10, 16))
    torch.testing.assert_close(result.joints, fit(model, xyc, points).joints, atol=0.01, rtol=0)


def test_bad_input_is_refused(model, film):
    _, _, xyc, points = film
    with pytest.raises(OptionError, match="fps"):
        fit(model, xyc, points, fps=0.0)
    with pytest.raises(ShapeError, match="xyc"):
        fit(model, xyc[0], None)
    with pytest.raises(OptionError, match="window"):
        SequenceConfig(window=3)


def test_frames_turned_round_are_turned_back(model):
    params = dance(model, 30)
    x = torch.cat([params.transl, params.global_orient, params.body_pose, params.betas], 1)
    wrong = x.clone()
    rows = [4, 11, 12, 29]
    wrong[rows] = turned_round(x[rows], Variables.of(model))
    right, which = agreeing(wrong, torch.arange(30) / 8, Variables.of(model))
    assert which.nonzero()[:, 0].tolist() == rows
    torch.testing.assert_close(so3_exp(right[:, 3:6]), so3_exp(x[:, 3:6]), atol=1e-5, rtol=0)


def test_between_keyframes_lies_the_shortest_way(model):
    params = dance(model, 9)
    x = torch.cat([params.transl, params.global_orient, params.body_pose], 1)
    at = torch.tensor([0, 4, 8])
    filled = between(x[at], at, torch.arange(-1, 10), Variables.of(model))
    torch.testing.assert_close(so3_exp(filled[1 + at, 3:6]), so3_exp(x[at, 3:6]), atol=1e-5, rtol=0)
    torch.testing.assert_close(filled[3, :3], (x[0, :3] + x[4, :3]) / 2)
    step = [so3_exp(filled[1 + t, 3:6]).T @ so3_exp(filled[2 + t, 3:6]) for t in range(4)]
    for one in step[1:]:
        torch.testing.assert_close(one, step[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(filled[0], filled[1], atol=1e-5, rtol=0)


def test_unwrapped_rotations_are_the_same_and_do_not_jump():
    t = torch.linspace(0, 3, 50, dtype=torch.float64)
    v = torch.stack([torch.pi + 0.3 * torch.sin(5 * t), 0.2 * torch.cos(3 * t), 0 * t], 1)[:, None]
    wrapped = roma.rotmat_to_rotvec(so3_exp(v))
    assert float((wrapped[1:] - wrapped[:-1]).norm(dim=2).max()) > 3
    smooth = unwrapped(wrapped)
    torch.testing.assert_close(so3_exp(smooth), so3_exp(v), atol=1e-9, rtol=0)
    assert float((smooth[1:] - smooth[:-1]).norm(dim=2).max()) < 0.3


def test_a_track_longer_than_a_window_is_seamless(model, film):
    _, _, xyc, points = film
    whole = fit(model, xyc, points)
    parts = fit(model, xyc, points, sequence=SequenceConfig(window=20, overlap=8))
    assert float(parts.params.betas.std(0).max()) == 0
    assert all(status.ok for status in parts.status)
    apart = parts.joints - whole.joints
    assert float((apart - apart[:, :1]).norm(dim=2).max()) < 0.03
    moved = parts.joints[1:] - parts.joints[:-1]
    assert float((moved[1:] - moved[:-1]).norm(dim=2).max()) < 0.02


def test_the_focal_length_of_exact_keypoints_is_found(model):
    """Of a body two metres away that moves, without noise and without priors that pull, from guesses on both sides."""
    params = dance(model, 40)
    params = replace(params, transl=params.transl - torch.tensor([0.0, 0.0, 2.0]))
    xyc, points = seen(model, params)
    none = {"pose": 0.05, "conditional": 0.0, "shape": 0.05, "angle": 0.0, "limits": 0.0, "interpenetration": 0.0}
    config = FitConfig(stages=tuple(replace(stage, **none) for stage in FitConfig().stages), noise_px=0.0)
    fitter = SequenceFitter(
        layout=LAYOUT, model=model, config=config, sequence=SequenceConfig(shape=0.05, focal_frames=32)
    )
    for guess in (0.8, 1.25):
        px = FOCAL * guess
        for _ in range(2):
            px = fitter.focal(xyc, image_size=SIZE, fps=FPS, believed=Focal(px, 1e-6), joints3d=points).px
        assert px == pytest.approx(FOCAL, rel=0.01)


def test_a_clip_in_parts_is_the_clip(model, film, monkeypatch):
    """What is made some frames at a time, for an hour's sake, does not depend on how many."""
    _, _, xyc, points = film
    wrong = xyc.clone()
    legs = SequenceFitter(layout=LAYOUT, model=model).frames.exchanges[1]
    wrong[10:16] = wrong[10:16][:, legs]
    whole = fit(model, wrong, points)
    monkeypatch.setattr(sides, "_CHUNK", 5)
    monkeypatch.setattr(continuity, "_CHUNK", 7)
    monkeypatch.setattr(outcome, "_AT_ONCE", 3)
    parts = fit(model, wrong, points)
    assert parts.swapped == whole.swapped
    torch.testing.assert_close(parts.joints, whole.joints, atol=1e-4, rtol=0)
    torch.testing.assert_close(parts.reprojection_error_px, whole.reprojection_error_px, atol=1e-2, rtol=0)


def test_motion_files_written_in_parts_are_the_same(model, film, tmp_path, monkeypatch):
    params = film[0]
    for name in ("whole.bvh", "whole.glb"):
        export(params, tmp_path / name, model=model, axes="camera", fps=30.0, **NO_MORPHS[name[-3:]])
    monkeypatch.setattr(bvh, "_AT_ONCE", 7)
    monkeypatch.setattr(gltf, "_AT_ONCE", 5)
    monkeypatch.setattr(rig, "_ROTATED", 3)
    (tmp_path / "parts").mkdir()
    for name in ("whole.bvh", "whole.glb"):
        export(params, tmp_path / "parts" / name, model=model, axes="camera", fps=30.0, **NO_MORPHS[name[-3:]])
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / name).read_bytes()


NO_MORPHS = {"bvh": {}, "glb": {"pose_shapes": "none"}}
