"""Metrics against numbers worked by hand, against other libraries, and by the laws that they obey."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import roma
import scipy.linalg
import torch
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from bodyfit import evaluate
from bodyfit.errors import AssetError, OptionError, ShapeError
from bodyfit.evaluate import align, joint_set

ROUNDING_MM = 1e-9
"""Of float64 over metres, with room: 1e-16 x 1e3 mm x a thousand operations."""
HIPS = (1, 2)


@pytest.fixture
def people():
    """(truth, prediction) of 7 people with 24 joints, 5 cm apart."""
    rng = np.random.default_rng(0)
    truth = rng.normal(scale=0.4, size=(7, 24, 3)) + np.array([0, 0, 4])
    return truth, truth + 0.05 * rng.standard_normal(truth.shape)


def similarity(rng: np.random.Generator, n: int):
    """n random similarities as scale, rotation, translation."""
    return rng.uniform(0.2, 5, n), Rotation.random(n, random_state=1).as_matrix(), rng.normal(size=(n, 3))


# ---------------------------------------------------------------- by hand


def test_mpjpe_by_hand():
    """Three joints off by (0, 0, 0), (0, 3, 4) and (0, 0, 10) mm: 0, 5, 10, mean 5.

    About joint 1 the offsets become (0, -3, -4), 0 and (0, -3, 6): 5, 0 and sqrt(45). About the middle of joints 0 and
    2, which is off by (0, 0, 5): (0, 0, -5), (0, 3, -1) and (0, 0, 5): 5, sqrt(10), 5.
    """
    truth = np.array([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0]]])
    pred = truth + np.array([[[0.0, 0, 0], [0, 0.003, 0.004], [0, 0, 0.010]]])
    names = ("a", "b", "c")
    for root, expected in (
        (None, 5.0),
        (1, (5 + 0 + math.sqrt(45)) / 3),
        ("b", (5 + 0 + math.sqrt(45)) / 3),
        ((0, 2), (5 + math.sqrt(10) + 5) / 3),
        (("a", "c"), (5 + math.sqrt(10) + 5) / 3),
    ):
        score = evaluate.mpjpe(pred, truth, root=root, names=names)
        assert score.mean == pytest.approx(expected, abs=ROUNDING_MM)
        assert (score.unit, score.counted) == ("mm", 1)


def test_pelvis_and_middle_of_the_hips_are_different_roots():
    """Only the pelvis is off, by 24 mm: about it all 23 others are off by 24, about the hips it alone."""
    truth = np.random.default_rng(0).normal(size=(1, 24, 3))
    pred = truth.copy()
    pred[0, 0, 1] += 0.024
    smpl = joint_set("smpl24")
    pelvis = evaluate.mpjpe(pred, truth, root=smpl.root("pelvis"))
    mid_hip = evaluate.mpjpe(pred, truth, root=smpl.root("mid_hip"))
    assert pelvis.mean == pytest.approx(23.0, abs=ROUNDING_MM)
    assert mid_hip.mean == pytest.approx(1.0, abs=ROUNDING_MM)


def test_pa_mpjpe_by_hand():
    """A square of half diagonal 1 whose corners in x are pulled to 1.2 and whose corners in y to 0.8.

    No turn or shift helps; the best scale is sum(a . b) / sum(a . a) = (2 x 1.2 + 2 x 0.8) / (2 x 1.44 + 2 x 0.64) =
    4 / 4.16 = 1/1.04. The corners then lie at 1.2/1.04 and 0.8/1.04: off by 0.16/1.04 and 0.24/1.04, mean 0.2/1.04.
    """
    truth = np.array([[[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]])
    pred = truth * [1.2, 0.8, 1]
    assert evaluate.pa_mpjpe(pred, truth).mean == pytest.approx(200 / 1.04, abs=ROUNDING_MM)


def test_pve_by_hand():
    """Two vertices off by (3, 4, 0) and (0, 0, 0) mm; the root by (3, 4, 0): they are off by 0 and 5 about it."""
    truth = np.array([[[0.0, 0, 1], [1, 0, 2]]])
    pred = truth + np.array([[0.003, 0.004, 0], [0, 0, 0]])
    root = np.array([[[0.0, 0, 1.5]]])
    moved = root + np.array([0.003, 0.004, 0])
    assert evaluate.pve(pred, truth, roots=None).mean == pytest.approx(2.5, abs=ROUNDING_MM)
    assert evaluate.pve(pred, truth, roots=(moved, root)).mean == pytest.approx(2.5, abs=ROUNDING_MM)
    assert evaluate.pve(pred, truth, roots=(root, root)).mean == pytest.approx(2.5, abs=ROUNDING_MM)
    shifted = truth + np.array([0.003, 0.004, 0])
    assert evaluate.pve(shifted, truth, roots=(root, root)).mean == pytest.approx(5.0, abs=ROUNDING_MM)
    assert evaluate.pve(shifted, truth, roots=(moved, root)).mean == pytest.approx(0.0, abs=ROUNDING_MM)
    assert evaluate.pa_pve(shifted, truth).mean == pytest.approx(0.0, abs=ROUNDING_MM)


def test_many_meshes_are_as_many_times_one():
    """More than are compared at a time, in a batch of two axes."""
    rng = np.random.default_rng(8)
    truth = rng.normal(size=(3, 100, 20, 3))
    pred = truth + 0.02 * rng.normal(size=truth.shape)
    pred[2, 50, 4] = np.nan
    roots = pred[..., :1, :].copy(), truth[..., :1, :].copy()
    for whole, one in (
        (evaluate.pve(pred, truth, roots=roots), evaluate.mpjpe(pred, truth, root=0)),
        (evaluate.pve(pred, truth, roots=None), evaluate.mpjpe(pred, truth, root=None)),
        (evaluate.pa_pve(pred, truth), evaluate.pa_mpjpe(pred, truth)),
    ):
        np.testing.assert_allclose(whole.per_item, one.per_item, atol=ROUNDING_MM)
        np.testing.assert_array_equal(whole.failed, one.failed)
        assert whole.counted == 299


def test_acceleration_by_hand():
    """A joint at 0, 1, 4, 9 mm (t^2) against one at rest: the second difference is 2 mm/frame^2 throughout.

    At 30 frames a second that is 2e-3 m x 900 / s^2 = 1.8 m/s^2.
    """
    truth = np.zeros((4, 1, 3))
    pred = np.zeros((4, 1, 3))
    pred[:, 0, 1] = 1e-3 * np.arange(4) ** 2
    per_frame = evaluate.acceleration_error(pred, truth, root=None, fps=None)
    assert per_frame.unit == "mm/frame^2"
    np.testing.assert_allclose(per_frame.per_item, [2, 2], atol=ROUNDING_MM)
    per_second = evaluate.acceleration_error(pred, truth, root=None, fps=30)
    assert per_second.unit == "m/s^2"
    assert per_second.mean == pytest.approx(1.8, abs=1e-12)


def test_jitter_of_cubic_motion_is_exact():
    """x(t) = 5 t^3 m has the third derivative 30 m/s^3, and third differences of a cubic are exact at any rate."""
    for fps in (10.0, 60.0):
        t = np.arange(9) / fps
        points = np.zeros((9, 2, 3))
        points[:, 1, 2] = 5 * t**3 - 2 * t**2 + t
        score = evaluate.jitter(points, root=None, fps=fps)
        assert score.unit == "m/s^3"
        # 60^3 times the rounding of some metres.
        np.testing.assert_allclose(score.per_item, np.full(6, 30 / 2), atol=1e-8)
        assert evaluate.jitter(points, root=1, fps=fps).mean == pytest.approx(15, abs=1e-8)


def test_pck_and_auc_of_a_constant_error():
    """All joints off by 60 mm: PCK@50 0 %, PCK@150 100 %; of 0, 5, ..., 200 mm 29 of 41 thresholds are at least 60."""
    truth = np.random.default_rng(0).normal(size=(3, 14, 3))
    pred = truth + np.array([0.036, 0, 0.048])
    assert evaluate.pck(pred, truth, root=None, threshold_mm=50).mean == 0
    assert evaluate.pck(pred, truth, root=None, threshold_mm=150).mean == 100
    assert evaluate.pck(pred, truth, root=(2, 3), threshold_mm=1).mean == 100
    # 61 mm, as 60 is itself a threshold and the rounding of the offset would choose.
    off = truth + np.array([0.061, 0, 0])
    assert evaluate.auc(off, truth, root=None).mean == pytest.approx(100 * 28 / 41)
    assert evaluate.auc(truth, truth, root=None).mean == 100
    assert evaluate.auc(truth + np.array([1, 0, 0]), truth, root=None).mean == 0
    assert evaluate.auc(off, truth, root=None, thresholds_mm=(50, 100)).mean == 50


def test_a_threshold_is_within():
    """At an error of exactly 0 with threshold 0 a joint is right."""
    x = np.ones((1, 2, 3))
    assert evaluate.pck(x, x, root=None, threshold_mm=0).mean == 100


def test_auc_is_the_mean_of_pck(people):
    truth, pred = people
    curve = [evaluate.pck(pred, truth, root=0, threshold_mm=t).mean for t in evaluate.AUC_THRESHOLDS_MM]
    assert evaluate.auc(pred, truth, root=0).mean == pytest.approx(np.mean(curve))


# ---------------------------------------------------------------- laws


def test_pa_mpjpe_is_blind_to_similarities_of_the_prediction(people):
    truth, pred = people
    s, R, t = similarity(np.random.default_rng(2), len(pred))
    moved = s[:, None, None] * pred @ R.transpose(0, 2, 1) + t[:, None]
    before, after = (evaluate.pa_mpjpe(p, truth).per_item for p in (pred, moved))
    np.testing.assert_allclose(after, before, atol=ROUNDING_MM)
    assert evaluate.pa_mpjpe(s[:, None, None] * truth @ R.transpose(0, 2, 1), truth).mean < ROUNDING_MM


def test_mpjpe_is_blind_to_translations_with_a_root_and_not_without(people):
    truth, pred = people
    moved = pred + np.array([3.0, -2, 5])
    for root in (0, HIPS, 15):
        before, after = (evaluate.mpjpe(p, truth, root=root).per_item for p in (pred, moved))
        np.testing.assert_allclose(after, before, atol=ROUNDING_MM)
    shift = 1e3 * math.sqrt(9 + 4 + 25)
    assert evaluate.mpjpe(truth + np.array([3.0, -2, 5]), truth, root=None).mean == pytest.approx(shift)


def test_alignment_leaves_the_least_squares(people):
    """In root mean square no root beats the similarity; in the mean of lengths it can, so that is no law."""
    truth, pred = people
    aligned = align(pred, truth)(pred)
    squares = ((aligned - truth) ** 2).sum((1, 2))
    for root in range(24):
        rooted = pred - pred[:, root : root + 1] + truth[:, root : root + 1]
        assert (squares <= ((rooted - truth) ** 2).sum((1, 2)) + 1e-12).all()
    rng = np.random.default_rng(3)
    for s, R, t in zip(*similarity(rng, 20), strict=True):
        near = s**0.01 * aligned @ Rotation.from_rotvec(0.01 * Rotation.from_matrix(R).as_rotvec()).as_matrix().T
        assert (squares <= ((near + 0.01 * t - truth) ** 2).sum((1, 2)) + 1e-12).all()
    assert evaluate.pa_mpjpe(pred, truth).mean < evaluate.mpjpe(pred, truth, root=0).mean


def test_errors_do_not_depend_on_the_order_of_joints_or_the_batch(people):
    truth, pred = people
    order = np.random.default_rng(4).permutation(24)
    for metric in (evaluate.pa_mpjpe, lambda a, b: evaluate.mpjpe(a, b, root=None)):
        whole = metric(pred, truth).per_item
        np.testing.assert_allclose(metric(pred[:, order], truth[:, order]).per_item, whole, atol=ROUNDING_MM)
        np.testing.assert_allclose([metric(p, t).mean for p, t in zip(pred, truth, strict=True)], whole, atol=1e-9)
        nested = metric(pred[:6].reshape(2, 3, 24, 3), truth[:6].reshape(2, 3, 24, 3)).per_item
        np.testing.assert_allclose(nested, whole[:6].reshape(2, 3), atol=ROUNDING_MM)


def test_constant_velocity_has_no_acceleration_and_no_jitter():
    rng = np.random.default_rng(5)
    start, velocity = rng.normal(size=(2, 1, 24, 3))
    motion = start + velocity * np.arange(12)[:, None, None] / 30
    still = np.broadcast_to(start, motion.shape)
    # 900 x the rounding of some metres, and 27000 x.
    assert evaluate.acceleration_error(motion, still, root=None, fps=30).mean < 1e-11
    assert evaluate.jitter(motion, root=None, fps=30).mean < 1e-9
    # The root carries a body's own acceleration away.
    fall = motion + 4.9 * ((np.arange(12) / 30) ** 2)[:, None, None]
    assert evaluate.acceleration_error(fall, still, root=None, fps=30).mean == pytest.approx(9.8 * math.sqrt(3))
    assert evaluate.acceleration_error(fall, still, root=0, fps=30).mean < 1e-11


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_a_motion_too_short_has_no_score(frames):
    x = np.zeros((frames, 3, 3))
    assert math.isnan(evaluate.acceleration_error(x, x, root=None, fps=30).mean)
    assert evaluate.jitter(np.zeros((3, 3, 3)), root=0, fps=30).per_item.shape == (0,)


# ---------------------------------------------------------------- alignment


def test_agreement_with_scipy_and_roma(people):
    truth, pred = people
    fit = align(pred, truth)
    for i in range(len(pred)):
        a, b = pred[i] - pred[i].mean(0), truth[i] - truth[i].mean(0)
        R, trace = scipy.linalg.orthogonal_procrustes(a, b)
        np.testing.assert_allclose(fit.R[i], R.T, atol=1e-12)
        assert fit.scale[i] == pytest.approx(trace / (a**2).sum(), abs=1e-12)
        # scipy.spatial.procrustes gives the squared residual over the truth's size.
        residual = ((fit(pred)[i] - truth[i]) ** 2).sum()
        assert residual / (b**2).sum() == pytest.approx(procrustes(truth[i], pred[i])[2], abs=1e-12)
    R, t, s = roma.rigid_points_registration(torch.tensor(pred), torch.tensor(truth), compute_scaling=True)
    np.testing.assert_allclose(fit.R, R, atol=1e-12)
    np.testing.assert_allclose(fit.t, t, atol=1e-12)
    np.testing.assert_allclose(fit.scale, s, atol=1e-12)


def test_a_mirror_image_does_not_fit(people):
    truth, _ = people
    mirrored = truth * [-1, 1, 1]
    fit = align(mirrored, truth)
    np.testing.assert_allclose(np.linalg.det(fit.R), 1, atol=1e-12)
    assert (evaluate.pa_mpjpe(mirrored, truth).per_item > 50).all()
    R, _, _ = roma.rigid_points_registration(torch.tensor(mirrored), torch.tensor(truth), compute_scaling=True)
    np.testing.assert_allclose(fit.R, R, atol=1e-9)
    # In a plane a mirror image is a half turn in space, and fits.
    flat = truth * [1, 1, 0]
    assert evaluate.pa_mpjpe(flat * [-1, 1, 1], flat).mean < ROUNDING_MM


def test_degenerate_points_have_the_residual_that_is_left():
    rng = np.random.default_rng(6)
    line = rng.normal(size=(1, 8, 1)) * [[[1.0, 2, -1]]]
    turned = 3 * line @ Rotation.random(random_state=2).as_matrix().T + [1, 2, 3]
    assert evaluate.pa_mpjpe(line, turned).mean < ROUNDING_MM
    assert evaluate.pa_mpjpe(-line, turned).mean < ROUNDING_MM
    np.testing.assert_allclose(np.linalg.det(align(line, turned).R), 1, atol=1e-12)
    body = rng.normal(size=(1, 8, 3))
    spread = 1e3 * np.linalg.norm(body - body.mean(1), axis=-1).mean()
    for where in (0.0, 1e3 / 3):  # one point, also where its mean is not exact
        point = np.full((1, 8, 3), where)
        assert align(point, body).scale == 1
        assert evaluate.pa_mpjpe(point, body).mean == pytest.approx(spread)
        assert evaluate.pa_mpjpe(body, point).mean < 1e-8
        np.testing.assert_allclose(np.linalg.det(align(point, body).R), 1, atol=1e-12)
    two = np.array([[[0.0, 0, 0], [1, 0, 0]]])
    assert evaluate.pa_mpjpe(two, two @ Rotation.random(random_state=3).as_matrix()).mean < ROUNDING_MM
    assert evaluate.pa_mpjpe(two[:, :1], two[:, 1:]).mean == 0


# ---------------------------------------------------------------- who is counted


def test_failed_people_are_counted_and_not_averaged(people):
    truth, pred = people
    lost = pred.copy()
    lost[2] = np.nan
    lost[4, 7, 1] = np.inf
    truth = truth.copy()
    truth[5] = np.nan
    for metric in (lambda a, b: evaluate.mpjpe(a, b, root=0), evaluate.pa_mpjpe, evaluate.pa_pve):
        score = metric(lost, truth)
        assert score.counted == 4
        assert np.flatnonzero(score.failed).tolist() == [2, 4]
        assert np.flatnonzero(score.untold).tolist() == [5]
        assert score.mean == pytest.approx(metric(pred, truth).per_item[[0, 1, 3, 6]].mean())
        np.testing.assert_array_equal(np.isnan(score.per_item), score.failed | score.untold)


def test_the_failed_are_wrong_or_left_out(people):
    truth, pred = people
    lost = pred.copy()
    lost[[0, 1]] = np.nan
    for metric, more in ((evaluate.pck, {"threshold_mm": 1e4}), (evaluate.auc, {"thresholds_mm": (1e4,)})):
        assert metric(lost, truth, root=0, **more).mean == pytest.approx(100 * 5 / 7)
        left_out = metric(lost, truth, root=0, failed_is_wrong=False, **more)
        assert (left_out.mean, left_out.counted) == (100, 5)


def test_nobody_left_is_nan_and_not_zero():
    x, nothing = np.zeros((3, 4, 3)), np.full((3, 4, 3), np.nan)
    for score in (evaluate.mpjpe(nothing, x, root=0), evaluate.pa_mpjpe(x, nothing)):
        assert math.isnan(score.mean)
        assert score.counted == 0
    assert evaluate.mpjpe(nothing, x, root=0).failed.all()
    assert evaluate.mpjpe(nothing, nothing, root=0).untold.all()  # no truth, so no failure either
    assert math.isnan(evaluate.mpjpe(np.zeros((0, 4, 3)), np.zeros((0, 4, 3)), root=0).mean)


def test_joints_that_do_not_count(people):
    """A masked joint may be anywhere, or missing; the others are as if it were not there."""
    truth, pred = people
    mask = np.ones((7, 24), bool)
    mask[:, [3, 20]] = False
    strange = pred.copy()
    strange[:, 3], strange[:, 20] = 100.0, np.nan
    kept = np.flatnonzero(mask[0])
    for score, without in (
        (evaluate.pa_mpjpe(strange, truth, mask=mask), evaluate.pa_mpjpe(pred[:, kept], truth[:, kept])),
        (evaluate.mpjpe(strange, truth, root=0, mask=mask[0]), evaluate.mpjpe(pred[:, kept], truth[:, kept], root=0)),
    ):
        np.testing.assert_allclose(score.per_item, without.per_item, atol=ROUNDING_MM)
        assert not score.failed.any()
    unknown = truth.copy()
    unknown[:, [3, 20]] = np.nan
    same = evaluate.mpjpe(strange, unknown, root=0)
    np.testing.assert_allclose(same.per_item, evaluate.mpjpe(strange, truth, root=0, mask=mask).per_item)


def test_the_root_is_needed_though_it_does_not_count(people):
    truth, pred = people
    mask = np.arange(24) != 0
    lost = pred.copy()
    lost[1, 0] = np.nan
    unknown = truth.copy()
    unknown[2, 0] = np.nan
    score = evaluate.mpjpe(lost, unknown, root=0, mask=mask)
    assert np.flatnonzero(score.failed).tolist() == [1]
    assert np.flatnonzero(score.untold).tolist() == [2]


def test_windows_over_lost_frames_are_lost():
    rng = np.random.default_rng(7)
    truth = rng.normal(size=(10, 5, 3))
    pred = truth + 0.01 * rng.normal(size=truth.shape)
    lost, valid = pred.copy(), np.ones(10, bool)
    lost[3] = np.nan  # windows 1, 2, 3 of the second difference
    valid[8] = False  # windows 6, 7
    score = evaluate.acceleration_error(lost, truth, root=0, fps=None, mask=valid[:, None])
    assert np.flatnonzero(score.failed).tolist() == [1, 2, 3]
    assert np.flatnonzero(score.untold).tolist() == [6, 7]
    whole = evaluate.acceleration_error(pred, truth, root=0, fps=None)
    np.testing.assert_allclose(score.mean, whole.per_item[[0, 4, 5]].mean())
    third = evaluate.jitter(lost, root=None, fps=30, mask=valid[:, None])
    assert np.flatnonzero(third.failed).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(third.untold).tolist() == [5, 6]


# ---------------------------------------------------------------- inputs


def test_torch_and_numpy_agree_in_float64(people):
    truth, pred = people
    tensors = [torch.tensor(x, requires_grad=True) for x in (pred, truth)]
    for metric in (lambda a, b: evaluate.mpjpe(a, b, root=0), evaluate.pa_mpjpe):
        np.testing.assert_array_equal(metric(*tensors).per_item, metric(pred, truth).per_item)
    far = torch.tensor(truth, dtype=torch.float32) + 1000
    score = evaluate.mpjpe(far, far, root=0, mask=torch.ones(24, dtype=torch.bool))
    assert score.mean == 0
    assert score.per_item.dtype == np.float64


def test_inputs_are_not_changed(people):
    truth, pred = people
    before = truth.copy(), pred.copy()
    evaluate.mpjpe(pred, truth, root=0)
    evaluate.pa_mpjpe(pred, truth)
    np.testing.assert_array_equal(truth, before[0])
    np.testing.assert_array_equal(pred, before[1])


def test_wrong_arguments_are_told():
    x = np.zeros((2, 4, 3))
    for root, says in ((4, "no row"), (-1, "no row"), ("pelvis", "names"), ((), "at least one")):
        with pytest.raises(OptionError, match=says):
            evaluate.mpjpe(x, x, root=root)
    # Unwrapped, for the tests' own check of shapes speaks before bodyfit's.
    with pytest.raises(ShapeError, match="same shape"):
        inspect.unwrap(evaluate.mpjpe)(x, x[:, :3], root=None)
    with pytest.raises(ShapeError, match="mask"):
        evaluate.pa_mpjpe(x, x, mask=np.ones(3, bool))
    with pytest.raises(ShapeError, match="roots"):
        inspect.unwrap(evaluate.pve)(x, x, roots=(x[:, :2], x[:, :2]))
    with pytest.raises(OptionError, match="fps"):
        evaluate.jitter(np.zeros((5, 2, 3)), root=None, fps=0)
    with pytest.raises(OptionError, match="empty"):
        evaluate.auc(x, x, root=None, thresholds_mm=())


# ---------------------------------------------------------------- joint sets


def test_rows_of_the_regressor():
    """The customary rows, as the literature lists them; the pelvis is row 0."""
    for name in ("lsp14", "3dpw14", "h36m14"):
        chosen = joint_set(name)
        assert chosen.regressor_rows == (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0)
        assert chosen.counted.sum() == 14
        assert chosen.root("pelvis") == (14,)
        assert [chosen.points[i] for i in chosen.root("mid_hip") or ()] == ["left_hip", "right_hip"]
    assert joint_set("h36m17").regressor_rows == (0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
    assert joint_set("smpl24").root(None) is None
    assert joint_set("emdb24").names == joint_set("smpl24").names
    with pytest.raises(OptionError, match="smpl24"):
        joint_set("smpl25")
    with pytest.raises(OptionError, match="mid_hip"):
        joint_set("lsp14").root("spine1")


def test_a_regressor_is_read_and_refused(tmp_path):
    rows = np.random.default_rng(0).dirichlet(np.ones(40), 17)
    np.save(tmp_path / "r.npy", rows.astype(np.float32))
    np.testing.assert_allclose(evaluate.load_regressor(tmp_path / "r.npy"), rows, atol=1e-7)
    bad = {"shape": rows[:16], "sum": 2 * rows, "object": np.array([{}], object), "nan": np.full((17, 40), np.nan)}
    for name, value in bad.items():
        np.save(tmp_path / f"{name}.npy", value)
        with pytest.raises(AssetError, match=f"{name}.npy"):
            evaluate.load_regressor(tmp_path / f"{name}.npy")
    for name, value in (("text", b"hello"), ("empty", b"")):
        (tmp_path / name).write_bytes(value)
        with pytest.raises(AssetError, match=name):
            evaluate.load_regressor(tmp_path / name)
    with pytest.raises(AssetError, match="missing"):
        evaluate.load_regressor(tmp_path / "missing.npy")
