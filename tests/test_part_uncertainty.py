"""Laws of how sure hands and face of a clip are: the dense sandwich and errors over deviations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_hand_clips import FPS, GAP, LAST, clip, evidence_of, moved, open_x  # noqa: F401

import bodyfit
from bodyfit.fit.config import FitConfig, SequenceConfig
from bodyfit.fit.objective import StageObjective
from bodyfit.fit.sequence.fitter import SequenceFitter
from bodyfit.fit.sequence.part_objective import PartColumns, PartMotion, PartObjective
from bodyfit.fit.sequence.part_uncertainty import part_spread
from bodyfit.solve import BandedArrow

FRAMES = 4
CONFIG = FitConfig()


@pytest.fixture(scope="module")
def few():
    """The objective of hands and face in a few frames near its minimum, all joints, and where it is."""
    model = bodyfit.load_model("open-x", dtype=torch.float64)
    fitter = SequenceFitter(layout="openpose25", model=model)
    single = bodyfit.load_model("open-x")
    truth = moved(single)
    known, _, present = fitter.frames.checked(evidence_of(single, truth)[list(range(FRAMES))])
    whole = fitter._whole(known.parts.face_points)
    whole.terms.backend = "tensors"  # the loops are the same equations; for float64 they would be compiled here alone
    seen = fitter.frames.observer.observations(replace(known, parts=None), present)
    depth = torch.full((FRAMES, 1), 270.0, dtype=torch.float64)
    seen = whole.observations(replace(seen, scale_cm=depth[:, 0]), known.parts, depth)
    base = whole.layout.pack({k: v[:FRAMES].double() for k, v in truth.items() if k in whole.layout})
    columns = PartColumns.of(whole.layout, {15: "head", 20: "wrist", 21: "wrist"})
    frames = StageObjective(whole.terms, whole.stage, seen)
    objective = PartObjective(frames, base, columns, PartMotion(columns, FPS, base), 0.9)
    return objective, base[:, list(columns.frame)], base[0, list(columns.shared)], whole.joints


@torch.no_grad()
def dense(objective: PartObjective, x, z) -> torch.Tensor:
    """The sandwich of all frames by the dense inverse."""
    n, full, free = x.shape[1], objective.whole(x, z), objective.free
    H = objective.curvature(x, z)
    own = H.diagonal.diagonal(dim1=1, dim2=2)
    shared = H.corner.diagonal()
    floor = 1e-9 * torch.cat([own, (shared / len(x)).expand(len(x), -1)], 1).amax(1, keepdim=True)  # the solver's
    own += floor
    H = replace(H, corner=H.corner + floor.sum() * torch.eye(len(z)).to(z))
    s_seen = CONFIG.calibration.seen * CONFIG.noise_cm**2
    meat = s_seen * H.dense()
    for name, weight in objective.frames.weights.items():
        residual = objective.frames.terms.residual(name)
        if residual.group in ("pose", "shape"):
            s = residual.variance * getattr(CONFIG.calibration, residual.group) * weight**2
            own = objective.frames.hessian_of(name, full)[:, free[:, None], free]
            # A prior of what frames share errs alike in all of them.
            corner = (s * FRAMES - s_seen) * own[:, n:, n:].sum(0)
            meat += BandedArrow((s - s_seen) * own[:, :n, :n], (), (s - s_seen) * own[:, :n, n:], corner).dense()
    inverse = torch.linalg.inv(H.dense())
    return inverse @ meat @ inverse


def test_each_frame_has_its_block_of_the_dense_sandwich(few):
    objective, x, z, joints = few
    got = part_spread(objective, x, z, joints, CONFIG, SequenceConfig())
    assert got is not None
    want, n = dense(objective, x, z), x.shape[1]
    for t in range(FRAMES):
        columns = [*range(t * n, (t + 1) * n), *range(FRAMES * n, len(want))]
        block = want[columns][:, columns]
        size = block.diagonal().sqrt()
        off = (got.covariance[t] - block) / size / size[:, None]
        assert off.abs().max() < 1e-5
    # The body stays, but for the micrometres by which an expression moves joints.
    assert (got.joints_sd_m[:, :22] < 1e-4).all()
    assert (got.joints_sd_m[:, 26:] > 0).all()


def test_errors_are_as_large_as_deviations(open_x, clip):  # noqa: F811
    """Fingers where they are seen; where they are not they are less sure."""
    truth, _, result = clip
    assert result.covariance is not None
    variance = result.covariance.diagonal(dim1=1, dim2=2)
    rows = [*range(GAP[0]), *range(GAP[-1] + 1, LAST + 1)]
    for name in ("left_hand_pose", "right_hand_pose"):
        own = variance[:, result.variables[name]]
        off = result.params[name] - truth[name]
        assert 0.5 < (off[rows].square().sum() / own[rows].sum()).sqrt() < 2, name
    right = variance[:, result.variables["right_hand_pose"]].mean(1)
    assert right[15] > 1.05 * right[rows].median()
    assert right[-1] > 2 * right[rows].median()
    assert result.joints_sd_m.shape == (len(result), open_x.num_joints)
    seen = torch.tensor([i in rows for i in range(len(result))])
    assert torch.equal(result.observed_joints[:, 40:], seen[:, None].expand(-1, 15))
    assert (result.joints_sd_rel_m[:, 25:] > result.joints_sd_rel_m[:, [20] * 15 + [21] * 15]).all()


def test_so_are_those_of_a_face(open_x):  # noqa: F811
    """Of a steady face as likely as the priors have faces."""
    random, count = torch.Generator().manual_seed(0), 12
    look = torch.nn.functional.pad(0.15 * torch.randn(1, 2, generator=random), (0, 1))
    face = {
        "expression": 0.9 * torch.randn(1, open_x.num_expression_coeffs, generator=random),
        "leye_pose": look,
        "reye_pose": look,
        "jaw_pose": torch.tensor([[0.1, 0.0, 0.0]]),
    }
    truth = moved(open_x)
    truth = open_x.params(**{**truth, **{name: value.expand(len(truth["transl"]), -1) for name, value in face.items()}})
    evidence = replace(evidence_of(open_x, truth)[list(range(count))], hands=None)
    result = bodyfit.fit_sequence(evidence, fps=FPS, model=open_x)
    variance = result.covariance.diagonal(dim1=1, dim2=2)
    for name in ("expression", "leye_pose", "reye_pose"):
        ratio = ((result.params[name] - face[name]).square().sum() / variance[:, result.variables[name]].sum()).sqrt()
        assert 0.5 < ratio < 2, name


def test_uncertainty_may_be_left_out(open_x):  # noqa: F811
    evidence = evidence_of(open_x, moved(open_x))[list(range(4))]
    bare = bodyfit.fit_sequence(evidence, fps=FPS, model=open_x, config=FitConfig(uncertainty=False))
    assert bare.covariance is None
    assert bare.joints_sd_m is None
    light = bodyfit.fit_sequence(evidence, fps=FPS, model=open_x, sequence=SequenceConfig(covariance=False))
    assert light.covariance is None
    assert torch.isfinite(light.joints_sd_m).all()
    assert light.joints_sd_m.shape == (4, open_x.num_joints)
    torch.testing.assert_close(light.params.left_hand_pose, bare.params.left_hand_pose)
