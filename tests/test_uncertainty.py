"""Laws of a fit's uncertainty: what it is by definition, how it changes with what is seen, and that it is honest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import roma
import torch

import bodyfit
from bodyfit.body.model import BodyModel, load_model
from bodyfit.errors import AssetError
from bodyfit.fit.config import Calibration, FitConfig, StageConfig
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.fitter import Fitter, fit_keypoints
from bodyfit.fit.objective import StageObjective
from bodyfit.fit.quality.uncertainty import covariance
from bodyfit.fit.residuals.conditional import ConditionalPose
from bodyfit.fit.result import FitResult, FitStatus, split
from bodyfit.fit.variables import Variables
from bodyfit.geometry.camera import CalibratedCamera, Camera
from bodyfit.skeleton import LAYOUTS, SMPL

SIZE, FOCAL = (1000, 1000), 1000.0
PEOPLE = 6
LAYOUT = "openpose25"
EQUAL = Calibration(seen=1.0, pose=1.0, shape=1.0)


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return load_model(dtype=torch.float64)


def people(model: BodyModel, n: int, seed: int = 0):
    """Poses of the prior, turned all around, 3 to 6 m away: parameters, and keypoints with 4 px of noise."""
    rng = np.random.default_rng(seed)
    poses = torch.from_numpy(bodyfit.load_pose_prior().sample(n, seed=seed))
    yaw = roma.rotvec_to_rotmat(torch.from_numpy(rng.uniform(-np.pi, np.pi, (n, 1)) * [0.0, 1.0, 0.0]))
    orient = roma.rotmat_to_rotvec(torch.diag(torch.tensor([1.0, -1.0, -1.0])).to(yaw) @ yaw)
    transl = torch.from_numpy(np.stack([rng.uniform(-0.5, 0.5, n), np.zeros(n), rng.uniform(3, 6, n)], 1))
    betas = torch.from_numpy(rng.standard_normal((n, 10)).clip(-2, 2))
    params = model.params(betas=betas, body_pose=poses, global_orient=orient, transl=transl)
    xy = Camera.make(n, SIZE, focal_px=FOCAL, dtype=model.dtype).project(model.keypoints(model(**params), LAYOUT))
    known = torch.isfinite(xy).all(2)
    xy = torch.nan_to_num(xy) + 4 * torch.from_numpy(rng.standard_normal(xy.shape))
    return params, torch.cat([xy, known[..., None].to(xy)], 2)


def fit(model: BodyModel, xyc, **kwargs) -> FitResult:
    return fit_keypoints(xyc, layout=LAYOUT, model=model, **({"image_size": SIZE, "focal_px": FOCAL} | kwargs))


def without(xyc: torch.Tensor, *parts: str) -> torch.Tensor:
    rows = [i for i, name in enumerate(LAYOUTS[LAYOUT]) if any(p in name for p in parts)]
    less = xyc.clone()
    less[:, rows, 2] = 0
    return less


@pytest.fixture(scope="module")
def seen(model) -> torch.Tensor:
    return people(model, PEOPLE)[1]


@pytest.fixture(scope="module")
def fitted(model, seen) -> FitResult:
    return fit(model, seen)


# What it is.


def objective_at(model: BodyModel, xyc: torch.Tensor, result: FitResult, config: FitConfig) -> StageObjective:
    fitter = Fitter(layout=LAYOUT, model=model, config=config)
    known, *_ = fitter.checked(Evidence(keypoints=xyc, layout=LAYOUT, image_size=SIZE, focal_px=FOCAL))
    *_, seen = fitter.starts(known, fitter.observer.observations(known, xyc[..., 2] >= 0.1))
    return StageObjective(fitter.terms, config.stages[-1], seen)


def test_it_is_the_inverse_of_half_the_objectives_curvature(model):
    """Of a fit that explains its keypoints nearly exactly Gauss-Newton leaves out nothing: J^T J is the derivative of
    the gradient. Weights are such that all three kinds of term have a variance of noise_cm^2 = 4."""
    params, _ = people(model, 2)
    exact = Camera.make(2, SIZE, focal_px=FOCAL, dtype=model.dtype).project(model.keypoints(model(**params), LAYOUT))
    known = torch.isfinite(exact).all(2)
    xyc = torch.cat([torch.nan_to_num(exact), known[..., None].to(exact)], 2)
    stage = StageConfig(pose=8**0.5, shape=2.0, sigma_cm=1e4)
    config = FitConfig(stages=(stage,), calibration=EQUAL)
    x = Variables.of(model).pack(params)
    objective = objective_at(model, xyc, fit(model, xyc), config)
    C = covariance(objective, x, config)
    steps = 1e-5 * torch.eye(x.shape[1]).to(x)

    def slope(person: int) -> torch.Tensor:
        there = objective.select(torch.full((len(steps),), person))
        return (there.normal(x[person] + steps).gradient - there.normal(x[person] - steps).gradient).mT / 2e-5

    half = torch.stack([slope(person) for person in range(len(x))])
    product = C @ half / config.noise_cm**2
    # Central differences of 1e-5 leave 1e-9, times a condition of 1e5.
    torch.testing.assert_close(product, torch.eye(x.shape[1]).to(x).expand_as(product), atol=1e-3, rtol=0)


@pytest.mark.parametrize("more", ["keypoints", "stature and previous frame"])
def test_a_variance_is_that_of_its_own_terms(model, seen, fitted, more):
    """The sandwich by its definition, with the parts from objectives that lack the other weights: both priors of the
    pose and the betas' have variances of their own, everything else (bends, limits, capsules, a stature, the previous
    frame) that of a keypoint."""
    config = FitConfig(calibration=Calibration(seen=1.3, pose=0.5, shape=2.5))
    objective, x = objective_at(model, seen, fitted, config), Variables.of(model).pack(fitted.params)
    x[:, SMPL.index("left_knee") * 3 + 3] = -0.7  # bent backwards, beyond its limit
    if more != "keypoints":
        known = {"height_m": x.new_full((PEOPLE,), 1.7), "previous_pose": x[:, 6:75] + 0.1}
        objective = replace(objective, seen=replace(objective.seen, **known))
    stage = objective.stage

    def hessian(**weights: float) -> torch.Tensor:
        return replace(objective, stage=replace(stage, **weights)).normal(x).hessian

    H = hessian()
    of_pose, of_expected, of_shape = (H - hessian(**{name: 0.0}) for name in ("pose", "conditional", "shape"))
    assert of_expected.abs().amax() > 0.1
    for weight in ("angle", "limits", "interpenetration"):
        assert (H - hessian(**{weight: 0.0})).abs().amax() > 0.1, f"{weight} is among what everything else is"
    others = H - of_pose - of_expected - of_shape
    middle = 1.3 * config.noise_cm**2 * others + 0.25 * stage.pose**2 * of_pose + 2.5 * stage.shape**2 * of_shape
    middle = middle + 0.5 * ConditionalPose.variance * stage.conditional**2 * of_expected
    want = torch.linalg.inv(H) @ middle @ torch.linalg.inv(H)
    # The floor on the diagonal is 1e-9 of its largest entry, some 1e-4 beside the 16 of the betas.
    torch.testing.assert_close(covariance(objective, x, config), want, rtol=1e-3, atol=1e-6)


def test_it_is_symmetric_and_positive_definite(fitted):
    C = fitted.covariance
    assert C is not None
    assert C.shape == (PEOPLE, 85, 85)
    torch.testing.assert_close(C, C.mT, atol=1e-12, rtol=1e-9)
    assert (torch.linalg.eigvalsh(C) > 0).all()


def test_deviations_of_joints_are_those_of_bodies_drawn_from_the_covariance(model, seen):
    """Where deviations are small, joints are linear in the variables."""
    result = fit(model, seen[:1], config=FitConfig(calibration=Calibration(seen=1e-4, pose=1e-4, shape=1e-4)))
    assert result.covariance is not None
    assert result.joints_sd_m is not None
    assert result.joints_sd_rel_m is not None
    n = 4000
    draws = torch.from_numpy(np.random.default_rng(0).standard_normal((n, 85)))
    x = Variables.of(model).pack(result.params) + draws @ torch.linalg.cholesky(result.covariance[0]).mT
    params = model.params(transl=x[:, :3], global_orient=x[:, 3:6], body_pose=x[:, 6:75], betas=x[:, 75:])
    joints, at = model.joints(params)[:, :24], result.joints[:, :24]
    rms = (joints - at).square().sum(2).mean(0).sqrt()
    about = ((joints - joints[:, :1]) - (at - at[:, :1])).square().sum(2).mean(0).sqrt()
    # A mean of 4000 squares of few independent directions is right to 1.6 to 2.2 %; four times that.
    torch.testing.assert_close(rms, result.joints_sd_m[0], rtol=0.09, atol=0)
    torch.testing.assert_close(about, result.joints_sd_rel_m[0], rtol=0.09, atol=1e-12)


def test_float32_says_the_same(model, seen, fitted):
    single = fit(load_model(), seen.float(), config=FitConfig(hypotheses=2))
    assert single.joints_sd_rel_m is not None
    assert fitted.joints_sd_rel_m is not None
    same = (single.joints - fitted.joints).norm(dim=2).amax(1) < 0.01  # who went down the same valley
    assert same.sum() >= PEOPLE // 2
    ratio = single.joints_sd_rel_m[same, 1:] / fitted.joints_sd_rel_m[same, 1:].float()
    assert ratio.min() > 0.9
    assert ratio.max() < 1.1


# How it changes with what is seen.


def ends_of(side: str) -> list[int]:
    return [SMPL.index(f"{side}_{part}") for part in ("elbow", "wrist", "hand")]


def test_joints_whose_keypoints_are_missing_are_less_sure(model, seen, fitted):
    less = fit(model, without(seen, "left_elbow", "left_wrist"))
    assert less.joints_sd_rel_m is not None
    assert fitted.joints_sd_rel_m is not None
    growth = less.joints_sd_rel_m / fitted.joints_sd_rel_m
    assert (growth[:, ends_of("left")] > 1.15).all()
    assert growth[:, ends_of("left")].mean() > 1.5
    assert 0.8 < growth[:, ends_of("right")].median() < 1.2, "what is seen of the other arm is the same"


def test_legs_that_are_not_seen_are_less_sure_than_arms_that_are(model, seen):
    half = fit(model, without(seen, "hip", "knee", "ankle", "toe", "heel"))
    assert half.joints_sd_rel_m is not None
    feet = [SMPL.index(f"{side}_ankle") for side in ("left", "right")]
    hands = [SMPL.index(f"{side}_wrist") for side in ("left", "right")]
    about_neck = half.joints_sd_rel_m[:, feet].amin(1) / half.joints_sd_rel_m[:, hands].amax(1)
    assert about_neck.median() > 1


def ring(n: int) -> list[CalibratedCamera]:
    """Cameras around a place 4.5 m before the first, which is at the origin."""
    K, found = np.array([[FOCAL, 0, 500], [0, FOCAL, 500], [0, 0, 1]]), []
    for angle in 2 * np.pi * np.arange(n) / n:
        R = roma.rotvec_to_rotmat(torch.tensor([0.0, angle, 0.0], dtype=torch.float64)).numpy()
        found.append(CalibratedCamera(K=K, R=R, t=np.array([0, 0, 4.5]) - R @ [0, 0, 4.5]))
    return found


def test_more_cameras_are_surer(model):
    params, _ = people(model, PEOPLE)
    params = replace(params, transl=torch.tensor([0.0, 0.0, 4.5], dtype=torch.float64).expand(PEOPLE, 3))
    points = model.keypoints(model(**params), LAYOUT)
    known, before = torch.isfinite(points).all(2), None
    for n in (1, 2, 4):
        xy = np.stack([c.project(torch.nan_to_num(points).numpy()) for c in ring(n)], 1)
        seen = known[:, None, :, None].expand(-1, n, -1, 1).double()
        result = fit_keypoints(torch.cat([torch.from_numpy(xy), seen], 3), layout=LAYOUT, model=model, cameras=ring(n))
        assert result.joints_sd_m is not None
        sd = result.joints_sd_m.square().mean(1).sqrt()
        assert before is None or (sd < 0.8 * before).all()
        before = sd


def test_the_persons_distance_is_what_one_camera_tells_worst(fitted):
    assert fitted.covariance is not None
    variance = fitted.covariance.diagonal(dim1=1, dim2=2)
    assert (variance[:, 2] > 10 * variance[:, :2].amax(1)).all()


def test_a_known_shape_has_no_variance_and_helps_the_distance(model, seen, fitted):
    params, _ = people(model, PEOPLE)
    known = fit(model, seen, betas=params.betas)
    assert known.covariance is not None
    assert fitted.covariance is not None
    assert not known.covariance[:, 75:].any()
    assert not known.covariance[:, :, 75:].any()
    assert (torch.linalg.eigvalsh(known.covariance[:, :75, :75]) > 0).all()
    assert (known.covariance[:, 2, 2] < fitted.covariance[:, 2, 2]).all()


def test_the_pelvis_is_where_it_is_from_itself(fitted):
    assert fitted.joints_sd_rel_m is not None
    assert not fitted.joints_sd_rel_m[:, 0].any()
    assert (fitted.joints_sd_rel_m[:, 1:] > 0).all()


# Who has one, and how it travels.


def test_who_was_not_fitted_has_none_and_touches_nobody(model, seen, fitted):
    xyc = seen.clone()
    xyc[1, :, 2] = 0
    xyc[3, 4:, :2] = torch.nan
    xyc[3, :4, 2] = 0
    mixed = fit(model, xyc)
    assert not mixed.status[1].ok
    assert not mixed.status[3].ok
    for name in ("covariance", "joints_sd_m", "joints_sd_rel_m"):
        value, alone = getattr(mixed, name), getattr(fitted, name)
        assert value[[1, 3]].isnan().all()
        others = [0, 2, 4, 5]
        # Rounding of a batch of another size, grown over the steps of a fit.
        torch.testing.assert_close(value[others], alone[others], rtol=1e-4, atol=1e-9)


def test_nobody_depends_on_the_batch(model, seen, fitted):
    pieces = fit(model, seen, config=FitConfig(batch_size=2))
    alone = fit(model, seen[2:3])
    for name in ("covariance", "joints_sd_m", "joints_sd_rel_m"):
        torch.testing.assert_close(getattr(pieces, name), getattr(fitted, name), rtol=1e-4, atol=1e-9)
        torch.testing.assert_close(getattr(alone, name), getattr(fitted, name)[2:3], rtol=1e-4, atol=1e-9)
        torch.testing.assert_close(getattr(split(fitted)[2], name), getattr(fitted, name)[2:3], rtol=0, atol=0)


def test_it_can_be_switched_off_and_changes_no_fit(model, seen, fitted):
    off = fit(model, seen, config=FitConfig(uncertainty=False))
    assert off.covariance is None
    assert off.joints_sd_m is None
    assert off.joints_sd_rel_m is None
    assert torch.equal(off.joints, fitted.joints)
    assert split(off)[0].covariance is None


def test_nobody_at_all(model, seen):
    none = fit(model, seen[:0])
    assert none.covariance is not None
    assert none.covariance.shape == (0, 85, 85)


def test_files_keep_the_deviations_of_joints(tmp_path, fitted):
    bodyfit.save(fitted, tmp_path / "people.npz")
    again = bodyfit.load_result(tmp_path / "people.npz")
    assert again.covariance is None
    for name in ("joints_sd_m", "joints_sd_rel_m"):
        assert torch.equal(getattr(again, name), getattr(fitted, name))
    bodyfit.save(replace(fitted, joints_sd_m=None, joints_sd_rel_m=None), tmp_path / "without.npz")
    assert bodyfit.load_result(tmp_path / "without.npz").joints_sd_m is None
    with np.load(tmp_path / "people.npz") as file:
        arrays = dict(file)
    arrays["joints_sd_m"] = arrays["joints_sd_m"][:2]
    np.savez(tmp_path / "damaged.npz", **arrays)
    with pytest.raises(AssetError, match="joints_sd_m"):
        bodyfit.load_result(tmp_path / "damaged.npz")


# That it is honest.


@pytest.mark.parametrize("missing", [(), ("hip", "knee", "ankle", "toe", "heel")], ids=["whole", "no legs"])
def test_people_are_off_by_what_is_foretold(missing):
    """Poses of the shipped prior itself; scripts/bench/uncertainty.py judges on held-out clips and more of them."""
    model = load_model()
    params, xyc = people(load_model(dtype=torch.float64), 64, seed=5)
    truth = load_model(dtype=torch.float64)(**params).joints[:, :24].float()
    result = fit(model, without(xyc, *missing).float() if missing else xyc.float())
    assert all(status is not FitStatus.UNOBSERVABLE for status in result.status)
    assert result.joints_sd_m is not None
    assert result.joints_sd_rel_m is not None
    found = result.joints[:, :24]
    error = (found - found[:, :1] - truth + truth[:, :1]).norm(dim=2)[:, 1:]
    sd = result.joints_sd_rel_m[:, 1:]
    fifth = torch.bucketize(sd.contiguous(), sd.flatten().quantile(torch.tensor([0.2, 0.4, 0.6, 0.8])))
    groups = {"all": sd > 0} | {f"fifth {i}": fifth == i for i in range(5)}
    groups |= {SMPL.names[j + 1]: torch.arange(23).expand_as(sd) == j for j in range(23)}
    ratios = {k: float((error[m].square().mean() / sd[m].square().mean()).sqrt()) for k, m in groups.items()}
    ratios["in space"] = float(((found - truth).square().sum(2).mean() / result.joints_sd_m.square().mean()).sqrt())
    assert min(ratios.values()) > 0.4, ratios
    assert max(ratios.values()) < 2.5, ratios
    ranks = [v.flatten().argsort().argsort().float() for v in (error, sd)]
    assert torch.corrcoef(torch.stack(ranks))[0, 1] > 0.4, "who is said to be less sure errs more"
