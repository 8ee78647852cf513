"""Hands and face in clips: noise averaged out, blinks and speech kept, gaps carried, at rest when not visible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import bodyfit
from bodyfit.app.pipeline import Lens
from bodyfit.app.video import Watched, fit_watched
from bodyfit.body.hand_prior import load_hand_prior
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.body.points.face import face_entries
from bodyfit.body.points.posed import VertexSum
from bodyfit.errors import OptionError
from bodyfit.fit.objective import StageObjective
from bodyfit.fit.sequence.fitter import SequenceFitter
from bodyfit.fit.sequence.part_objective import PartColumns, PartMotion, PartObjective
from bodyfit.fit.sequence.parts import relaxed_share
from bodyfit.fit.variables import Variables
from bodyfit.geometry.camera import Camera
from bodyfit.keypoints import Keypoints2D, Part
from bodyfit.skeleton import hand_entries
from bodyfit.tracker import Trail

SIZE, FOCAL_PX, FPS, FRAMES = (3000, 3000), 3000.0, 30.0, 48
GAP, LAST = range(12, 20), 31
"""Frames in the middle of which the right hand is not visible, and the last that shows it."""
BLINK = range(20, 24)
HAND_PX, FACE_PX = 4.0, 1.0


@pytest.fixture(scope="module")
def open_x() -> BodyModel:
    return bodyfit.load_model("open-x")


def moved(model: BodyModel) -> BodyParams:
    """Somebody who stands, slowly bends fingers, blinks once and speaks."""
    t = torch.arange(FRAMES) / FPS
    poses = []
    for i, prior in enumerate(load_hand_prior()):
        pose = torch.tensor(prior.relaxed, dtype=torch.float32).repeat(FRAMES, 1)
        axis = torch.tensor(prior.axes[0, 0], dtype=torch.float32)
        pose[:, 0:3] += (0.6 * torch.sin(2 * torch.pi * 0.4 * t))[:, None] * axis
        poses.append(pose - model.hand_means[i])
    expression = torch.zeros(FRAMES, model.num_expression_coeffs)
    expression[list(BLINK)] = closed_lids(model)
    jaw = torch.zeros(FRAMES, 3)
    jaw[:, 0] = 0.12 + 0.1 * torch.sin(2 * torch.pi * 3.0 * t)
    return model.params(
        global_orient=torch.tensor([[torch.pi, 0.0, 0.0]]).repeat(FRAMES, 1),
        transl=torch.tensor([[0.0, 0.2, 2.7]]).repeat(FRAMES, 1),
        body_pose=torch.nn.functional.pad(torch.zeros(FRAMES, 45), (0, 18)),
        left_hand_pose=poses[0],
        right_hand_pose=poses[1],
        jaw_pose=jaw,
        expression=expression,
    )


def lids(model: BodyModel) -> torch.Tensor:
    """How much each coefficient of the expression raises the upper lids among MediaPipe's points, metres."""
    entries = face_entries(model, 478)
    rows = [v for i in (159, 386, 158, 385, 160, 387) for v in entries[i].vertices]
    one = model(expression=torch.eye(model.num_expression_coeffs)).vertices
    return (one - model().vertices)[:, rows, 1].mean(1)


def closed_lids(model: BodyModel) -> torch.Tensor:
    """The expression of 2 deviations that lowers the upper lids most."""
    by = lids(model)
    return -2 * by / by.norm()


def evidence_of(model: BodyModel, params: BodyParams, seed: int = 0) -> bodyfit.Evidence:
    """What a detector with noise sees of body, hands and face."""
    noise = torch.Generator().manual_seed(seed)
    body, camera = model(**params), Camera.make(FRAMES, SIZE, focal_px=FOCAL_PX)
    names = [next(iter(entry)) for side in ("left", "right") for entry in hand_entries(side)]
    points = torch.stack([model.point(body, name) for name in names], 1)
    sums = [entry if isinstance(entry, VertexSum) else VertexSum((0,), (1.0,)) for entry in face_entries(model, 478)]
    face = torch.stack(
        [body.vertices[:, list(s.vertices)].mT @ torch.tensor(s.weights, dtype=torch.float32) for s in sums], 1
    )

    def seen(at: torch.Tensor, px: float) -> torch.Tensor:
        xy = camera.project(at)
        return torch.nn.functional.pad(xy + px * torch.randn(xy.shape, generator=noise), (0, 1), value=1.0)

    hands = seen(points, HAND_PX).unflatten(1, (2, 21))
    hands[list(GAP), 1] = torch.nan
    hands[LAST + 1 :, 1] = torch.nan
    return bodyfit.Evidence(
        keypoints=seen(torch.nan_to_num(model.keypoints(params, "openpose25")), 3.0),
        layout="openpose25",
        image_size=SIZE,
        focal_px=FOCAL_PX,
        hands=hands,
        face=seen(face, FACE_PX),
    )


@pytest.fixture(scope="module")
def clip(open_x):
    truth = moved(open_x)
    evidence = evidence_of(open_x, truth)
    return truth, evidence, bodyfit.fit_sequence(evidence, fps=FPS, model=open_x)


def test_the_body_stays_as_it_is(open_x, clip):
    """Hands and face move no joint of the body and no shape, whether they are visible or not."""
    _, evidence, result = clip
    bare = bodyfit.fit_sequence(replace(evidence, hands=None, face=None), fps=FPS, model=open_x)
    torch.testing.assert_close(result.joints[:, :22], bare.joints[:, :22], atol=2e-4, rtol=0)
    assert torch.equal(result.params.betas, bare.params.betas)
    assert result.status == bare.status
    assert torch.equal(result.joints_sd_m[:, :22], bare.joints_sd_m)
    assert float(bare.params.jaw_pose.abs().max()) == 0
    without = bodyfit.FitConfig(hands=False, face=False)
    same = bodyfit.fit_sequence(evidence, fps=FPS, model=open_x, config=without)
    assert torch.equal(same.params.body_pose, bare.params.body_pose)


def test_noise_of_a_steady_hand_is_at_most_half(open_x, clip):
    truth, evidence, result = clip
    alone = bodyfit.fit(evidence[list(range(GAP[0]))], model=open_x)

    def jitter(params: BodyParams) -> torch.Tensor:
        off = params.left_hand_pose[: GAP[0]] - truth.left_hand_pose[: GAP[0]]
        return (off - off.mean(0)).square().mean().sqrt()

    assert jitter(result.params) < 0.5 * jitter(alone.params)
    assert (result.params.left_hand_pose - truth.left_hand_pose).square().mean().sqrt() < 0.06


def test_blinks_and_speech_keep_their_depth(open_x, clip):
    """A blink of four frames has at least 80 % of the depth that its frames have by themselves, a jaw of its swing."""
    truth, evidence, result = clip
    by = lids(open_x)
    lowered = result.params.expression @ by
    frames = list(BLINK)
    alone = bodyfit.fit(evidence[frames], model=open_x).params.expression @ by
    assert alone.mean() < -0.002
    assert lowered[frames].amin() < 0.8 * alone.mean()
    assert lowered[frames].mean() < 0.8 * alone.mean()
    steady = lowered[: frames[0] - 2]
    assert steady.std() < 0.1 * alone.mean().abs()
    swing, own = truth.jaw_pose[:, 0].std(), result.params.jaw_pose[:, 0].std()
    assert own > 0.8 * swing
    assert (result.params.jaw_pose[:, 0] - truth.jaw_pose[:, 0]).abs().mean() < 0.02


def relaxed_right(model: BodyModel) -> torch.Tensor:
    return torch.tensor(load_hand_prior()[1].relaxed, dtype=torch.float32) - model.hand_means[1]


def test_a_gap_is_carried(open_x, clip):
    """While the right hand is not visible for a quarter of a second, its bent finger stays bent."""
    truth, _, result = clip
    rows = list(GAP)
    off = (result.params.right_hand_pose - truth.right_hand_pose)[rows, :3].norm(dim=1)
    bent = (truth.right_hand_pose[rows] - relaxed_right(open_x))[:, :3].norm(dim=1)
    assert off.mean() < 0.4 * bent.mean()
    steps = result.params.right_hand_pose[: LAST + 1].diff(dim=0).abs().amax()
    assert steps < 0.15


def test_a_hand_that_leaves_is_at_rest_within_half_a_second(open_x, clip):
    _, _, result = clip
    off = (result.params.right_hand_pose - relaxed_right(open_x)).abs().amax(1)
    assert off[LAST] > 0.1
    assert off[LAST + round(0.5 * FPS) :].max() < 1e-5
    assert (off[LAST:].diff() < 0.02).all()
    assert result.params.right_hand_pose[LAST:].diff(dim=0).abs().amax() < 0.15


def test_the_share_of_rest():
    """Short gaps are carried; beyond half a second at the ends and inside long gaps, parts rest."""
    visible = np.ones(90, bool)
    visible[[*range(20, 30), *range(40, 80)]] = False
    share = relaxed_share(visible, 30.0)
    assert not share[:40].any()
    assert share[59] == 1
    assert share[41] < 0.1
    assert (np.diff(share[39:55]) >= 0).all()
    assert not share[80:].any()
    late = relaxed_share(np.arange(60) >= 30, 30.0)
    assert (late[:16] == 1).all()
    assert not late[30:].any()
    assert (relaxed_share(np.zeros(5, bool), 30.0) == 1).all()


def test_the_gradient_of_the_motion_is_that_of_its_cost():
    model = bodyfit.load_model("open-x", dtype=torch.float64)
    columns = PartColumns.of(Variables.of(model, whole=True), {15: "head", 20: "wrist"})
    x = 0.2 * torch.randn(6, len(columns.frame), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    motion = PartMotion(columns, FPS, x)
    _, gradient, (own, first, second) = motion(x)
    way, step = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2)), 1e-6
    slope = (motion(x + step * way)[0] - motion(x - step * way)[0]) / (2 * step)
    torch.testing.assert_close(slope, 2 * (gradient * way).sum(), rtol=1e-5, atol=0)
    # A constant velocity costs nothing, by the Hessian's approximation too.
    line = torch.arange(6.0, dtype=x.dtype)[:, None].expand_as(x)
    bent = own * line
    bent[1:] += first * line[:-1]
    bent[:-1] += first * line[1:]
    bent[2:] += second * line[:-2]
    bent[:-2] += second * line[2:]
    torch.testing.assert_close(bent, torch.zeros_like(bent), atol=1e-6 * float(own.max()), rtol=0)


def test_the_gradient_of_hands_and_face_is_that_of_their_cost(open_x):
    """Over all free columns, offsets and sizes among them."""
    model = bodyfit.load_model("open-x", dtype=torch.float64)
    fitter = SequenceFitter(layout="openpose25", model=model)
    truth = moved(open_x)
    evidence = evidence_of(open_x, truth)[list(range(4))]
    known, _, present = fitter.frames.checked(evidence)
    whole = fitter._whole(known.parts.face_points)
    whole.terms.backend = "tensors"  # the loops are the same equations; for float64 they would be compiled here alone
    seen = fitter.frames.observer.observations(replace(known, parts=None), present)
    depth = torch.full((4, 1), 270.0, dtype=torch.float64)
    seen = whole.observations(replace(seen, scale_cm=depth[:, 0]), known.parts, depth)
    base = whole.layout.pack({k: v[:4].double() for k, v in truth.items() if k in whole.layout})
    columns = PartColumns.of(whole.layout, {15: "head", 20: "wrist", 21: "wrist"})
    objective = PartObjective(
        StageObjective(whole.terms, whole.stage, seen), base, columns, PartMotion(columns, FPS, base), 0.9
    )
    noise = torch.Generator().manual_seed(4)
    n, m = len(columns.frame), len(columns.shared)
    x = base[:, list(columns.frame)] + 0.01 * torch.randn(4, n, dtype=base.dtype, generator=noise)
    z, step = 0.05 * torch.ones(m, dtype=base.dtype), 1e-6
    normal = objective.normal(x, z)
    for name in ("hand_offset", "face_offset", "expression", "left_hand_pose"):
        at = [columns.frame.index(c) for c in range(*whole.layout[name].indices(whole.layout.size))]
        way = torch.zeros_like(x)
        way[:, at] = torch.randn(4, len(at), dtype=base.dtype, generator=noise)
        slope = (objective.normal(x + step * way, z).cost - objective.normal(x - step * way, z).cost) / (2 * step)
        assert slope == pytest.approx(2 * float((normal.gradient * way).sum()), rel=1e-3), name
    way = torch.ones_like(z)
    slope = (objective.normal(x, z + step * way).cost - objective.normal(x, z - step * way).cost) / (2 * step)
    assert slope == pytest.approx(2 * float(normal.gradient_shared.sum()), rel=1e-3)


def test_long_clips_go_window_by_window(open_x, clip):
    """In windows of 20 frames hands are what they are in one."""
    _, evidence, result = clip
    short = bodyfit.SequenceConfig(window=20, overlap=6)
    pieces = bodyfit.fit_sequence(evidence, fps=FPS, model=open_x, sequence=short)
    off = (pieces.params.left_hand_pose - result.params.left_hand_pose).abs()
    assert off.mean() < 0.03
    assert pieces.params.left_hand_pose.diff(dim=0).abs().amax() < 0.15


def test_a_model_without_fingers_is_refused(clip):
    with pytest.raises(OptionError, match="open-x"):
        bodyfit.fit_sequence(clip[1], fps=FPS, model=bodyfit.load_model("open"))


def test_tracks_have_hands_and_files_keep_them(open_x, clip, tmp_path):
    """What a detector sees of hands and faces in a clip goes into the track, frame by frame, and into its file."""
    _, evidence, result = clip
    trail = Trail(0)
    for i in (0, 1, 3, 4, 5):
        hands = {side: Part(evidence.hands[i, k].numpy()) for k, side in enumerate(("left", "right"))}
        face = Part(evidence.face[i, :468].numpy())
        person = Keypoints2D("openpose25", evidence.keypoints[i].numpy(), hands=hands, face=face)
        trail.add(i, i / FPS, person)
    watched = Watched(tmp_path / "clip.mp4", SIZE, FPS, np.arange(6), np.arange(6) / FPS, [trail], 0, False)
    (track,) = fit_watched(watched, model=open_x, lens=Lens(focal_px=FOCAL_PX))
    assert track.seen.tolist() == [True, True, False, True, True, True]
    off = (track.result.params.left_hand_pose - result.params.left_hand_pose[:6]).abs()
    assert off.mean() < 0.08
    assert float(track.result.params.jaw_pose[:, 0].max()) > 0.1
    bodyfit.io.save_track(track, tmp_path / "person0.npz")
    loaded = bodyfit.io.load_track(tmp_path / "person0.npz").result.params
    torch.testing.assert_close(loaded.left_hand_pose, track.result.params.left_hand_pose, atol=1e-5, rtol=0)
    torch.testing.assert_close(loaded.expression, track.result.params.expression, atol=1e-5, rtol=0)
