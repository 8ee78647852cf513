"""Bodies that another program estimated, as evidence: what the fit makes of right, wrong and missing ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bodyfit
from bodyfit.app.estimates import EstimateFiles, matched, read_estimates
from bodyfit.body.params import BodyParams
from bodyfit.cli.main import main
from bodyfit.errors import AssetError, OptionError
from bodyfit.evaluate.metrics import pa_mpjpe
from bodyfit.fit.config import FitConfig
from bodyfit.fit.estimate import PoseEstimate
from bodyfit.fit.residuals.lift import centred_distance
from bodyfit.geometry.camera import default_focal_px
from bodyfit.geometry.rotation import so3_exp, so3_log
from bodyfit.io.results.params import load_result
from bodyfit.keypoints import Keypoints2D

SIZE, FOCAL_PX, LAYOUT, N = (800, 800), 900.0, "coco17", 12


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model("open")


@pytest.fixture(scope="module")
def scene(model):
    """Truth, exact keypoints, and an estimate whose joints are turned at random."""
    rng = torch.Generator().manual_seed(3)
    pose = 0.25 * torch.randn(N, 69, generator=rng)
    orient = so3_log(so3_exp(torch.tensor([[torch.pi, 0, 0]])) @ so3_exp(0.4 * torch.randn(N, 3, generator=rng)))
    truth = model.params(body_pose=pose, global_orient=orient, transl=torch.tensor([[0.0, 0.0, 3.5]]).expand(N, 3))
    points = model.keypoints(truth, LAYOUT)
    xy = FOCAL_PX * points[..., :2] / points[..., 2:] + 400
    keypoints = torch.cat([xy, torch.ones(N, 17, 1)], 2)
    turned = [
        so3_log(so3_exp(own.unflatten(1, (-1, 3))) @ so3_exp(0.15 * torch.randn(N, n, 3, generator=rng))).flatten(1)
        for own, n in ((truth.body_pose, 23), (truth.global_orient, 1))
    ]
    estimate = model.params(body_pose=turned[0], global_orient=turned[1])
    return truth, keypoints, estimate


def fitted(model, keypoints, estimate: PoseEstimate | None, **config) -> bodyfit.FitResult:
    evidence = bodyfit.Evidence(
        keypoints=keypoints, layout=LAYOUT, image_size=SIZE, focal_px=FOCAL_PX, estimate=estimate
    )
    return bodyfit.fit(evidence, model=model, config=FitConfig(**config))


def error_mm(model, result, truth) -> float:
    return pa_mpjpe(result.joints, model.joints(truth)).mean


def test_an_estimate_and_keypoints_are_better_than_either(model, scene):
    truth, keypoints, estimate = scene
    both, alone = (fitted(model, keypoints, e) for e in (PoseEstimate(estimate), None))
    own = pa_mpjpe(model.joints(estimate), model.joints(truth)).mean
    assert error_mm(model, both, truth) < 0.75 * min(own, error_mm(model, alone, truth))
    assert both.backend == "loops"
    # The estimate's depth is used, and its place is not: it stands at the origin.
    assert ((both.params.transl - truth.transl).norm(dim=1) < 1.2).all()


def test_people_without_an_estimate_are_fitted_as_ever(model, scene):
    _, keypoints, estimate = scene
    unknown = BodyParams(**{name: value.clone() for name, value in estimate.items()})
    unknown.body_pose[::2] = torch.nan
    some, none = (fitted(model, keypoints, e) for e in (PoseEstimate(unknown), None))
    # One may go on from another of the starts, and lay a hand that no keypoint shows elsewhere.
    apart = (some.joints[::2] - none.joints[::2]).norm(dim=2).amax(1)
    assert (apart < 1e-3).sum() >= 5
    assert (apart < 0.06).all()
    assert ((some.joints[1::2] - none.joints[1::2]).norm(dim=2).mean(1) > 0.02).any()


def test_the_surer_the_nearer(model, scene):
    _, keypoints, estimate = scene
    keypoints = keypoints + 8 * torch.randn(keypoints.shape, generator=torch.Generator().manual_seed(0)) * (
        torch.tensor([1.0, 1.0, 0.0])
    )
    mine = model.joints(estimate)
    off = [
        pa_mpjpe(fitted(model, keypoints, PoseEstimate(estimate, sd, 5 * sd)).joints, mine).mean
        for sd in (0.005, 0.045, 0.4)
    ]
    assert off[0] < 0.6 * off[1] < 0.6 * off[2]


def test_a_limb_that_is_wholly_wrong_does_not_hold_the_fit(model, scene):
    truth, keypoints, estimate = scene
    wrong = BodyParams(**{name: value.clone() for name, value in estimate.items()})
    elbow = slice(3 * 17, 3 * 18)  # the left elbow
    wrong.body_pose[:, elbow] += torch.tensor([0.0, 2.5, 0.0])
    found = fitted(model, keypoints, PoseEstimate(wrong))
    wrist = model.skeleton.names.index("left_wrist")

    def off(joints: torch.Tensor) -> float:
        own, true = joints - joints[:, :1], model.joints(truth) - model.joints(truth)[:, :1]
        return float((own - true)[:, wrist].norm(dim=1).median())

    assert off(found.joints) < 0.6 * off(model.joints(wrong))


def test_loops_and_tensors_agree(model, scene):
    _, keypoints, estimate = scene
    loops, tensors = (
        fitted(model, keypoints[:3], PoseEstimate(estimate).select(slice(0, 3)), backend=backend)
        for backend in ("loops", "tensors")
    )
    torch.testing.assert_close(loops.joints, tensors.joints, atol=0.01, rtol=0)


def test_clips_take_estimates(model, scene):
    truth, keypoints, estimate = scene
    frames, who = 8, 5
    still = keypoints[who : who + 1].expand(frames, -1, -1)
    params = estimate.select([who] * frames)
    evidence = bodyfit.Evidence(keypoints=still, layout=LAYOUT, image_size=SIZE, focal_px=FOCAL_PX)
    without = bodyfit.fit_sequence(evidence, fps=30.0, model=model)
    given = bodyfit.Evidence(
        keypoints=still, layout=LAYOUT, image_size=SIZE, focal_px=FOCAL_PX, estimate=PoseEstimate(params)
    )
    found = bodyfit.fit_sequence(given, fps=30.0, model=model)
    for joints in (model.joints(params), model.joints(truth.select([who] * frames))):
        assert pa_mpjpe(found.joints, joints).mean < 0.6 * pa_mpjpe(without.joints, joints).mean


@pytest.mark.parametrize("conditional", [True, False])
def test_a_still_clip_keeps_its_size(model, scene, conditional):
    """An estimate that errs alike in all frames makes nobody small: what lies nearer to its own middle is not nearer to
    wrong keypoints."""
    truth, keypoints, estimate = scene
    frames, who = 8, 5
    evidence = bodyfit.Evidence(
        keypoints=keypoints[who : who + 1].expand(frames, -1, -1),
        layout=LAYOUT,
        image_size=SIZE,
        focal_px=FOCAL_PX,
        estimate=PoseEstimate(estimate.select([who] * frames)),
    )
    config = bodyfit.FitConfig() if conditional else bodyfit.FitConfig.without_conditional_prior()
    found = bodyfit.fit_sequence(evidence, fps=30.0, model=model, config=config)
    assert found.params.betas.abs().max() < 1.5  # -5 where the size of the lift was fitted to the body's
    one = bodyfit.fit(evidence.select([0]), model=model, config=config)
    assert (one.params.betas[0, 0] - truth.betas[who, 0]).abs() < 0.8


def test_the_size_of_a_body_costs_nothing_beside_a_lift_that_errs(model, scene):
    truth, _, estimate = scene
    points, lift = (torch.nan_to_num(model.keypoints(p, LAYOUT)).double() for p in (truth, estimate))
    weight = torch.ones(points.shape[:2], dtype=torch.float64)
    costs = [centred_distance(size * points, lift, weight, 30.0).cost for size in (0.8, 1.0, 1.2)]
    assert (costs[0] > 1).all()
    for cost in costs[1:]:
        torch.testing.assert_close(cost, costs[0])


def test_poses_of_22_and_24_joints_serve_each_other(model, scene):
    _, keypoints, estimate = scene
    short = BodyParams(
        betas=estimate.betas,
        body_pose=estimate.body_pose[:, :63],
        global_orient=estimate.global_orient,
        transl=estimate.transl,
    )
    assert fitted(model, keypoints, PoseEstimate(short)).status[0].ok


def test_rows_and_bad_input(model, scene):
    _, keypoints, estimate = scene
    own = PoseEstimate(estimate)
    evidence = bodyfit.Evidence(keypoints=keypoints, layout=LAYOUT, image_size=SIZE, estimate=own)
    assert len(evidence[2:5].estimate) == 3
    both = bodyfit.Evidence.cat([evidence[:2], evidence[2:]])
    torch.testing.assert_close(both.estimate.params.body_pose, estimate.body_pose)
    with pytest.raises(OptionError, match="12 bodies for 3"):
        bodyfit.fit(bodyfit.Evidence(keypoints=keypoints[:3], layout=LAYOUT, image_size=SIZE, estimate=own))
    with pytest.raises(OptionError, match="joints_sd_m"):
        PoseEstimate(estimate, joints_sd_m=45.0)
    with pytest.raises(OptionError, match="different deviations"):
        PoseEstimate.cat([own, PoseEstimate(estimate, 0.1)])
    assert np.isfinite(bodyfit.fit(evidence, model=model).joints.numpy()).all()


def romp(path: Path, params: BodyParams) -> Path:
    """A file as ROMP writes it: the people of one picture, in camera axes."""
    pose = torch.cat([params.global_orient, params.body_pose], 1).numpy()
    np.savez(path, results={"smpl_thetas": pose, "smpl_betas": np.zeros((len(pose), 10)), "cam_trans": params.transl})
    return path


def person_at(box: torch.Tensor) -> Keypoints2D:
    """A person whose keypoints fill a box, pixels."""
    xy = torch.rand(17, 2, generator=torch.Generator().manual_seed(0)) * (box[2:] - box[:2]) + box[:2]
    return Keypoints2D(layout=LAYOUT, xyc=np.concatenate([xy.numpy(), np.ones((17, 1))], 1).astype(np.float32))


def test_files_are_read_in_camera_axes_and_matched_by_place(model, scene, tmp_path):
    truth, _, _ = scene
    two = truth.select([0, 1])
    two.transl[:, 0] = torch.tensor([-0.8, 0.8])
    read = read_estimates(romp(tmp_path / "p.npz", two), model)
    joints, true = model.joints(read), model.joints(two)
    torch.testing.assert_close(joints - joints[:, :1], true - true[:, :1], atol=1e-4, rtol=0)
    # People from the right to the left, where the default camera has the bodies; a third has no estimate.
    xy = default_focal_px(SIZE) * joints[..., :2] / joints[..., 2:] + 400
    boxes = torch.cat([xy.amin(1), xy.amax(1)], 1)
    people = [person_at(boxes[1]), person_at(boxes[0]), person_at(torch.tensor([0.0, 0, 40, 30]))]
    found = matched(read, model, people, SIZE)
    assert found[2] is None
    for own, row in zip(found[:2], (1, 0), strict=True):
        torch.testing.assert_close(own.body_pose, read.body_pose[[row]])
    assert matched(read.select([0]), model, people[2:], SIZE)[0] is not None


def test_parameters_by_name_are_people_before_the_camera(model, scene, tmp_path):
    truth, _, _ = scene
    names = ("global_orient", "body_pose", "transl", "betas")
    np.savez(tmp_path / "p.npz", **{name: truth[name][:3].numpy() for name in names})
    read = read_estimates(tmp_path / "p.npz", model)
    torch.testing.assert_close(model.joints(read), model.joints(truth.select([0, 1, 2])), atol=1e-4, rtol=0)


def test_clips_and_worlds_are_refused_by_name(model, scene, tmp_path):
    truth, _, _ = scene
    clip = tmp_path / "clip.npz"
    pose = torch.cat([truth.global_orient, truth.body_pose], 1).numpy()
    np.savez(clip, poses=pose, trans=truth.transl.numpy(), betas=np.zeros(10), gender="neutral", mocap_framerate=30)
    with pytest.raises(AssetError, match=r"clip\.npz.*world axes"):
        read_estimates(clip, model)
    with pytest.raises(OptionError, match="no such file"):
        EstimateFiles(tmp_path / "none", model)
    (tmp_path / "folder").mkdir()
    files = EstimateFiles(tmp_path / "folder", model)
    assert files.of("photo.jpg") is None
    romp(tmp_path / "folder" / "photo.npz", truth.select([0]))
    assert files.of("photo.jpg").batch == 1


def test_the_command_starts_at_an_estimate(model, scene, tmp_path, capsys):
    truth, _, estimate = scene
    points = model.keypoints(truth.select([2]), "openpose25")[0]
    xy = FOCAL_PX * points[:, :2] / points[:, 2:] + 400
    confident = torch.isfinite(xy).all(1, keepdim=True).float()
    xyc = torch.cat([torch.nan_to_num(xy), confident], 1)
    (tmp_path / "p_keypoints.json").write_text(
        json.dumps({"version": 1.3, "people": [{"pose_keypoints_2d": xyc.flatten().tolist()}]})
    )
    Image.new("RGB", SIZE, "gray").save(tmp_path / "p.png")
    own = BodyParams(**{**estimate.select([2]), "transl": truth.transl[[2]]})
    words = ["fit", str(tmp_path / "p.png"), "--keypoints", str(tmp_path / "p_keypoints.json")]
    words += ["--focal-px", str(FOCAL_PX), "-o", str(tmp_path / "out"), "--json"]
    off = []
    for init in ([], ["--init", str(romp(tmp_path / "p.npz", own))]):
        assert main([*words, *init]) in (0, 1)  # an improbable pose, which random ones are, is poor
        joints = load_result(tmp_path / "out" / "p" / "person0.npz").joints
        off.append(pa_mpjpe(joints, model.joints(truth.select([2]))).mean)
    assert off[1] < off[0]
    capsys.readouterr()
    assert main([*words, "--init", str(tmp_path / "none.npz")]) == 2
    assert "none.npz" in capsys.readouterr().err
