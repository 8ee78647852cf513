"""Laws of the conditional pose prior: its inputs, its distributions, its file, and what it is worth in a fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import multivariate_t

import bodyfit
from bodyfit.body.conditional.inputs import Slots, straighten
from bodyfit.body.conditional.network import FREEDOM, JOINT_FREEDOM, PoseNetwork, student
from bodyfit.body.conditional.prior import load_conditional_prior
from bodyfit.body.model import BodyModel
from bodyfit.errors import AssetError
from bodyfit.evaluate import metrics
from bodyfit.fit.conditional import noise_cm
from bodyfit.fit.config import FitConfig, StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.conditional import ConditionalPose
from bodyfit.geometry.camera import CalibratedCamera, Camera
from bodyfit.geometry.rotation import so3_exp, so3_log
from bodyfit.skeleton import LAYOUTS, SMPL, correspondence, layout_names, mirrored_rows

SLOTS = Slots.of_layouts()
HEIGHTS = torch.linspace(0.8, -0.9, len(SLOTS))
"""Of slots on some body."""


def some_keypoints(n: int = 4):
    """Keypoints, confidences, a lift and where it is known, by slot; a third of the keypoints are missing."""
    rng = torch.Generator().manual_seed(0)
    xy = 0.2 + 0.3 * torch.randn(n, len(SLOTS), 2, generator=rng)
    confidence = torch.rand(n, len(SLOTS), generator=rng) * (torch.rand(n, len(SLOTS), generator=rng) > 0.3)
    lift = torch.randn(n, len(SLOTS), 3, generator=rng)
    return xy, confidence, lift, (torch.rand(n, len(SLOTS), generator=rng) > 0.5).float()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_point_has_one_slot_in_all_layouts(layout):
    rows = SLOTS.of_layout(layout)
    entries = correspondence(layout)
    used = [row for row in rows if row >= 0]
    assert len(set(used)) == len(used) >= 13
    assert all(SLOTS.entries[row] == entries[k] for k, row in enumerate(rows) if row >= 0)
    values = torch.arange(1.0, len(rows) + 1)[None]
    placed = SLOTS.place(values, rows)
    assert placed.sum() == values[0, [k for k, row in enumerate(rows) if row >= 0]].sum()
    assert Slots.of_json(SLOTS.to_json()) == SLOTS


def test_the_camera_looks_straight_at_the_middle_and_the_size_is_one():
    xy, confidence, lift, lifted = some_keypoints()
    found = straighten(xy, confidence, lift, lifted, HEIGHTS)
    present = confidence > 0
    middle = (xy * present[..., None]).sum(1) / present.sum(1, keepdim=True)
    ray = torch.cat([middle, torch.ones(len(xy), 1)], 1)
    turned = (found.R @ ray[..., None])[..., 0]
    torch.testing.assert_close(turned[:, :2], torch.zeros(len(xy), 2), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.R @ found.R.mT, torch.eye(3).expand_as(found.R), atol=1e-6, rtol=0)
    assert (torch.linalg.det(found.R) > 0).all()
    each = found.features[:, :-3].unflatten(1, (len(SLOTS), -1))
    torch.testing.assert_close(each[..., :2].square().sum((1, 2)) / present.sum(1), torch.ones(len(xy)))


def test_what_is_missing_changes_nothing():
    xy, confidence, lift, lifted = some_keypoints()
    wild = torch.where(confidence[..., None] > 0, xy, 1e3), confidence, torch.where(lifted[..., None] > 0, lift, 7.0)
    torch.testing.assert_close(
        straighten(*wild, lifted, HEIGHTS).features, straighten(xy, confidence, lift, lifted, HEIGHTS).features
    )


def test_the_size_of_a_picture_tells_no_more_than_the_distance():
    """Keypoints about the axis, twice as near: the same shape, another size."""
    xy, confidence, lift, lifted = some_keypoints()
    present = (confidence > 0)[..., None]
    xy = 0.01 * (xy - (xy * present).sum(1, keepdim=True) / present.sum(1, keepdim=True))
    a, b = (straighten(f * xy, confidence, lift, lifted, HEIGHTS).features for f in (1.0, 2.0))
    torch.testing.assert_close(a[:, :-3], b[:, :-3], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(b[:, -3] - a[:, -3], torch.full((len(xy),), np.log(2.0), dtype=torch.float32))


def test_noise_is_in_parts_of_the_person():
    """Twice as near it is the same number; unknown noise is another."""
    xy, confidence, lift, lifted = some_keypoints()
    present = (confidence > 0)[..., None]
    xy = 0.01 * (xy - (xy * present).sum(1, keepdim=True) / present.sum(1, keepdim=True))
    noise = torch.tensor([1e-4, 1e-3, 0.0, -1.0])
    a, b = (straighten(f * xy, confidence, lift, lifted, HEIGHTS, f * noise).features[:, -2:] for f in (1.0, 2.0))
    torch.testing.assert_close(a, b, atol=1e-3, rtol=0)
    assert a[1, 0] > a[0, 0] > a[2, 0]
    assert a[:, 1].tolist() == [1, 1, 1, 0]
    assert a[3, 0] == 0


def test_the_likelihood_is_students():
    rng = np.random.default_rng(0)
    factor = np.tril(rng.standard_normal((3, 3))) + 3 * np.eye(3)
    shape = np.linalg.inv(factor @ factor.T)
    errors = rng.standard_normal((20, 3))
    want = -multivariate_t(np.zeros(3), shape, df=FREEDOM).logpdf(errors)
    got = student(torch.tensor(errors), torch.tensor(factor).expand(20, 3, 3)).numpy()
    np.testing.assert_allclose(got - got[0], want - want[0], atol=1e-9)
    wider = student(torch.tensor(errors), torch.tensor(factor / 2).expand(20, 3, 3)).numpy()
    both = -multivariate_t(np.zeros(3), 4 * shape, df=FREEDOM).logpdf(errors)
    np.testing.assert_allclose(wider - got, both - want, atol=1e-9)


def test_the_network_gives_distributions():
    network = PoseNetwork(slots=len(SLOTS), width=16, blocks=1)
    torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
    found = network(straighten(*some_keypoints(), HEIGHTS).features)
    eye = torch.eye(3).expand_as(found.root)
    torch.testing.assert_close(found.root.mT @ found.root, eye, atol=1e-5, rtol=0)
    for factor in (found.root_factor, found.pose_factor):
        assert torch.equal(factor, factor.tril())
        assert (factor.diagonal(dim1=-2, dim2=-1) > 0).all()


def test_orientation_and_joints_err_together():
    """The precision is that of its factor, and of each alone where nothing correlates; it is symmetric and positive."""
    network = PoseNetwork(slots=len(SLOTS), width=16, blocks=1)
    features = straighten(*some_keypoints(), HEIGHTS).features
    torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
    found, factor = network.predicted(features)
    alone = torch.cat([found.root_factor[:, None], found.pose_factor], 1)
    for j in range(alone.shape[1]):
        torch.testing.assert_close(factor[:, 3 * j : 3 * j + 3, 3 * j : 3 * j + 3], alone[:, j])
    torch.nn.init.normal_(network.correlations.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    _, factor = network.predicted(features)
    assert torch.equal(factor, factor.tril())
    P = network(features).precision
    torch.testing.assert_close(P, factor @ factor.mT)
    assert (torch.linalg.eigvalsh(factor.double() @ factor.double().mT) > 0).all()
    assert P[:, :3, 3:].abs().max() > 0.01


@pytest.fixture
def expected() -> tuple[Observations, dict[str, torch.Tensor]]:
    """Orientations and joints of any kind, the first orientation none, and expectations of them."""
    rng = torch.Generator().manual_seed(2)
    kind = {"dtype": torch.float64, "generator": rng}
    factor = torch.randn(6, 9, 9, **kind).tril() + 3 * torch.eye(9, dtype=torch.float64)
    nothing = torch.zeros(6, 0, dtype=torch.float64)
    seen = Observations(
        target=nothing[..., None].expand(-1, -1, 2),
        weight=nothing,
        scale_cm=torch.ones(6, dtype=torch.float64),
        expected_orient=torch.randn(6, 3, **kind),
        expected_pose=torch.randn(6, 6, **kind),
        expected_precision=factor @ factor.mT,
        expected_weight=torch.linspace(0.5, 2, 6, dtype=torch.float64),
    )
    variables = {"global_orient": 1.5 * torch.randn(6, 3, **kind), "body_pose": torch.randn(6, 6, **kind)}
    variables["global_orient"][0] = 0
    return seen, variables


STAGE = StageConfig(pose=1.0, shape=1.0)


def test_the_cost_is_students_of_both_together(expected):
    """Of 2 sin(a / 2) about the axis of the rotation between the orientations, and of differences of axis-angles."""
    seen, variables = expected
    between = so3_log(so3_exp(seen.expected_orient).mT @ so3_exp(variables["global_orient"]))
    angle = between.norm(dim=1, keepdim=True)
    error = torch.cat([2 * (angle / 2).sin() * between / angle, variables["body_pose"] - seen.expected_pose], 1)
    factor = torch.linalg.cholesky(seen.expected_precision)
    want = student(error, factor, JOINT_FREEDOM) + factor.diagonal(dim1=1, dim2=2).log().sum(1)
    quadratic = ConditionalPose().at(variables, seen, STAGE)
    torch.testing.assert_close(quadratic.cost, seen.expected_weight.square() * want)
    vector = ConditionalPose().vector(variables, seen, STAGE)
    torch.testing.assert_close(vector.r.square().sum(1), quadratic.cost)
    assert vector.by_variables is not None
    torch.testing.assert_close((vector.by_variables.mT @ vector.r[..., None])[..., 0], quadratic.gradient)


def test_the_gradient_of_the_cost_is_its_slope(expected):
    seen, variables = expected
    found = ConditionalPose().at(variables, seen, STAGE).gradient.split([3, 6], 1)
    for (name, value), gradient in zip(variables.items(), found, strict=True):
        for column, way in enumerate(1e-6 * torch.eye(value.shape[1], dtype=torch.float64)):
            moved = [variables | {name: value + sign * way} for sign in (1, -1)]
            after, before = (ConditionalPose().at(v, seen, STAGE).cost for v in moved)
            torch.testing.assert_close(gradient[:, column], (after - before) / 4e-6, atol=1e-5, rtol=1e-6)


def test_mirrored_people_are_expected_in_mirrored_poses():
    prior, rows = load_conditional_prior(), SLOTS.of_layout("coco17")
    target = 0.05 * torch.randn(3, 17, 2, generator=torch.Generator().manual_seed(1))
    sides = mirrored_rows(layout_names("coco17"))
    one = prior(rows, target, torch.ones(3, 17))
    other = prior(rows, torch.tensor([-1.0, 1.0]) * target[:, sides], torch.ones(3, 17))
    joints = [row - 1 for row in mirrored_rows(SMPL.names)[1:]]
    for name, value in vars(one.mirrored(joints, sides)).items():
        torch.testing.assert_close(getattr(other, name), value, atol=1e-4, rtol=1e-4, msg=name)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Two clips of bodies that sway."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for name in ("sway_1", "bend_2"):
        t = np.arange(40)[:, None] / 30
        poses = 0.4 * rng.standard_normal(72) * np.sin(2 * t + rng.uniform(0, 6, 72))
        np.savez(folder / f"{name}.npz", poses=poses, trans=np.zeros((40, 3)), mocap_framerate=30.0)
    return folder


def trainer(clips: Path, folder: Path, name: str, steps: int = 4, *more: str):
    """A tiny network in training, every step saved."""
    from scripts.train import pose_prior

    args = ["--batch", "6", "--width", "16", "--blocks", "1", "--steps", str(steps), "--every", "1", "--no-bfloat16"]
    files = ["-o", str(folder / f"{name}.npz"), "--checkpoint", str(folder / f"{name}.pt")]
    return pose_prior.trainer_of(pose_prior.arguments([str(clips), *files, *args, *more]))


def test_training_goes_on_where_it_was_broken_off(clips, tmp_path):
    trainer(clips, tmp_path, "whole").run()
    trainer(clips, tmp_path, "halves").run(until=2)
    second = trainer(clips, tmp_path, "halves")
    assert second.step == 2
    second.run()
    whole, halves = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("whole", "halves"))
    assert whole.keys() == halves.keys()
    for name in whole.keys() - {"facts"}:
        np.testing.assert_array_equal(whole[name], halves[name])


def test_correlations_are_trained_alone(clips, tmp_path):
    """Of a network that is there, all other weights stay."""
    trainer(clips, tmp_path, "all").run()
    options = ["--correlations", "--start", str(tmp_path / "all.npz"), "--rate", "0.1"]
    trainer(clips, tmp_path, "more", 2, *options).run()
    before, after = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("all", "more"))
    changed = {name for name in before.keys() - {"facts"} if not np.array_equal(before[name], after[name])}
    assert changed == {"weights/correlations.weight", "weights/correlations.bias"}


def test_a_file_holds_the_network(clips, tmp_path):
    one = trainer(clips, tmp_path, "net", steps=1)
    one.run()
    prior = load_conditional_prior(tmp_path / "net.npz")
    features = straighten(*some_keypoints(), HEIGHTS).features
    got, network = prior.network(features), one.network
    network.load_state_dict(one.mean)
    want = network(features)
    for name in ("root", "pose", "pose_factor", "betas", "points"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), atol=2e-3, rtol=2e-3)
    broken = dict(np.load(tmp_path / "net.npz"))
    np.savez(tmp_path / "no_facts.npz", **{k: v for k, v in broken.items() if k != "facts"})
    np.savez(tmp_path / "no_head.npz", **{k: v for k, v in broken.items() if k != "weights/head.bias"})
    np.savez(tmp_path / "nan.npz", **broken | {"weights/head.bias": np.nan * broken["weights/head.bias"]})
    for name in ("no_facts", "no_head", "nan", "missing"):
        with pytest.raises(AssetError, match=rf"{name}\.npz"):
            load_conditional_prior(tmp_path / f"{name}.npz")


def people(model: BodyModel, n: int, layout: str, noise_px: float = 4.0):
    """People who sit, stride, lunge and reach up, turned all around, 2.5 to 6 m away, and their keypoints."""
    rng = torch.Generator().manual_seed(4)
    poses = 0.05 * torch.randn(n, 3 * (model.body_joints - 1), generator=rng).to(model.dtype)
    for i, pose in enumerate(POSES):
        for name, axis, angle in pose:
            poses[i :: len(POSES), 3 * (SMPL.index(name) - 1) + axis] += angle
    x, y, _ = torch.eye(3, dtype=model.dtype)
    yaw = torch.linspace(-2.9, 2.9, n, dtype=model.dtype)[:, None]
    orient = so3_log(so3_exp(torch.pi * x) @ so3_exp(yaw * y))
    transl = torch.stack([torch.linspace(-0.3, 0.3, n), torch.zeros(n), torch.linspace(2.5, 6, n)], 1)
    params = model.params(body_pose=poses, global_orient=orient, transl=transl)
    with torch.no_grad():
        body = model(**params)
        points = model.keypoints(body, layout)
    camera = Camera.make(n, (1000, 1000), focal_px=1000.0, dtype=model.dtype)
    xy = torch.nan_to_num(camera.project(points))
    xy = xy + noise_px * torch.randn(xy.shape, generator=rng).to(xy)
    known = torch.isfinite(points).all(2, keepdim=True).to(xy)
    return body.joints, points, torch.cat([xy, known], 2)


_ARMS = (("left_shoulder", 2, -1.2), ("right_shoulder", 2, 1.2), ("left_elbow", 1, -0.4), ("right_elbow", 1, 0.4))
_UP = (("left_shoulder", 2, 1.0), ("right_shoulder", 2, -1.0), ("left_elbow", 1, -0.5), ("right_elbow", 1, 0.5))
POSES = (
    (*_ARMS, *((f"{side}_hip", 0, -1.5) for side in ("left", "right")), ("left_knee", 0, 1.5), ("right_knee", 0, 1.5)),
    (*_ARMS, ("left_hip", 0, -0.6), ("left_knee", 0, 0.3), ("right_hip", 0, 0.3), ("right_knee", 0, 0.5)),
    (*_ARMS, ("left_hip", 0, -1.3), ("left_knee", 0, 1.4), ("right_hip", 0, 0.2), ("right_knee", 0, 1.1)),
    (*_UP, ("spine1", 0, 0.2), ("left_knee", 0, 0.1), ("right_knee", 0, 0.1)),
)
"""Joint, axis and angle, radians."""


TWO = np.zeros(3), np.array([0.3, 0.0, 0.0])
"""Where the origin is for two cameras, metres."""


def settings(conditional: bool) -> FitConfig:
    config = FitConfig() if conditional else FitConfig.without_conditional_prior()
    return replace(config, quality=False, uncertainty=False)


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return bodyfit.load_model()


@pytest.mark.parametrize("lift_noise_m", [None, 0.05])
def test_poses_of_single_pictures_are_nearer_to_the_truth(lift_noise_m, model):
    """Of people of whom one picture is known, and of whom there is a lift; the loops fit them."""
    joints, points, xyc = people(model, 32, "coco17")
    more = {}
    if lift_noise_m is not None:
        rng = torch.Generator().manual_seed(0)
        more["joints3d"] = points + lift_noise_m * torch.randn(points.shape, generator=rng)
    seen = {"layout": "coco17", "image_size": (1000, 1000), "focal_px": 1000.0, "model": model, **more}
    fits = [bodyfit.fit_keypoints(xyc, **seen, config=settings(use)) for use in (True, False)]
    assert fits[0].backend == "loops"
    errors = [metrics.pa_mpjpe(fit.joints, joints).per_item for fit in fits]
    assert np.mean(errors[0]) < 0.97 * np.mean(errors[1])


@pytest.mark.parametrize("noise_px", [0.0, 1.0])
def test_exact_keypoints_are_fitted_no_worse(noise_px, model):
    """It weighs by what keypoints err by, and gains in what they leave open."""
    joints, _, xyc = people(model, 32, "openpose25", noise_px)
    seen = {"layout": "openpose25", "image_size": (1000, 1000), "focal_px": 1000.0, "model": model}
    fits = [bodyfit.fit_keypoints(xyc, **seen, config=settings(use)) for use in (True, False)]
    errors = [metrics.pa_mpjpe(fit.joints, joints).per_item for fit in fits]
    assert np.mean(errors[0]) < np.mean(errors[1])


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_noise_is_estimated_from_what_fits_leave(scale):
    """Of points that lie where they are, whatever the confidences; a keypoint that is far off counts as one."""
    rng = torch.Generator().manual_seed(0)
    n, k = 400, 24
    points = torch.randn(n, k, 3, generator=rng) * 0.4 + torch.tensor([0.0, 0.0, 4.0])
    target = points[..., :2] / points[..., 2:] + scale / 400 * torch.randn(n, k, 2, generator=rng)
    weight = torch.rand(n, k, generator=rng)
    target[:, 0], weight[:, 1] = 9.0, 0.0
    target[:, 1] = torch.nan
    target = torch.where(weight[..., None] > 0, target, 0.0)
    seen = Observations(target, weight, torch.full((n,), 400.0))
    without = replace(seen, weight=torch.where(torch.arange(k) == 0, 0.0, weight))
    assert noise_cm(points, without).square().mean().sqrt().item() == pytest.approx(scale, rel=0.02)
    assert noise_cm(points, seen).max() < 6.0


def test_who_else_is_in_the_batch_changes_nothing(model):
    prior, rows = load_conditional_prior(), SLOTS.of_layout("coco17")
    _, _, xyc = people(model, 37, "coco17")
    target = (xyc[..., :2] - 500) / 1000
    whole = prior(rows, target, xyc[..., 2])
    for some in ([5], [36, 5], list(range(3, 30))):
        part = prior(rows, target[some], xyc[some, :, 2])
        for name, value in vars(part).items():
            assert torch.equal(value, getattr(whole, name)[some]), name


def test_it_says_nothing_beside_measured_points_or_several_cameras(model):
    _, points, xyc = people(model, 3, "coco17")
    cameras = [CalibratedCamera(K=np.diag([1000.0, 1000.0, 1.0]), R=np.eye(3), t=t) for t in TWO]
    for evidence in (
        {"points3d": points},
        {"xyc": torch.stack([xyc, xyc], 1), "cameras": cameras, "image_size": (1000, 1000)},
    ):
        both = [
            bodyfit.fit_keypoints(**evidence, layout="coco17", model=model, config=settings(use)).joints
            for use in (True, False)
        ]
        assert torch.equal(*both)


def test_a_roll_of_the_camera_turns_what_is_expected(model):
    """Of half bodies, too: the network's input is upright."""
    prior, rows = load_conditional_prior(), SLOTS.of_layout("coco17")
    _, _, xyc = people(model, 6, "coco17", noise_px=0.0)
    target, confidence = (xyc[..., :2] - 500) / 1000, xyc[..., 2].clone()
    confidence[3:, 11:] = 0  # no legs
    roll = torch.tensor([0.0, 0.0, 1.9])
    R = so3_exp(roll)
    one, other = prior(rows, target, confidence), prior(rows, target @ R[:2, :2].T, confidence)
    torch.testing.assert_close(other.pose, one.pose, atol=1e-4, rtol=0)
    torch.testing.assert_close(other.pose_factor, one.pose_factor, atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(other.root, R @ one.root, atol=1e-4, rtol=0)
    torch.testing.assert_close(other.points, one.points @ R.T, atol=1e-4, rtol=0)


def test_expectations_are_in_the_axes_of_the_picture(model):
    """Of people at the picture's edge, too, where the camera does not look straight at them."""
    prior, rows = load_conditional_prior(), SLOTS.of_layout("coco17")
    joints, points, xyc = people(model, 8, "coco17")
    found = prior(rows, (xyc[..., :2] - 500) / 1000, xyc[..., 2])
    error = (found.points - (points - joints[:, :1])).norm(dim=2)
    assert error.mean() < 0.15
    # Seen by a camera that is turned away, they are turned the other way.
    R = so3_exp(torch.tensor([0.2, 0.35, 0.0]))
    ray = torch.cat([(xyc[..., :2] - 500) / 1000, torch.ones(8, 17, 1)], 2) @ R.T
    other = prior(rows, ray[..., :2] / ray[..., 2:], xyc[..., 2])
    assert (other.points - found.points @ R.T).norm(dim=2).mean() < 0.05


def test_the_command_asks_the_network(tmp_path, monkeypatch, capsys):
    """The option reaches the fit; a picture of nobody is enough."""
    from bodyfit.cli.main import main
    from bodyfit.cli.support import fit_one

    configs = []

    def remember(*_arguments, config, **_options):
        configs.append(config)
        return [[]]

    monkeypatch.setattr(fit_one, "fit_detections", remember)
    Image.new("RGB", (64, 64)).save(tmp_path / "p.png")
    for option in ([], ["--no-learned-prior"]):
        main(["fit", str(tmp_path / "p.png"), "-o", str(tmp_path / "out"), *option])
    learned, without = configs
    assert all(stage.conditional > 0 for stage in (learned or FitConfig()).stages)
    assert all(stage.conditional == 0 for stage in without.stages)
