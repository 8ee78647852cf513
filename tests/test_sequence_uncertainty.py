"""Laws of how sure a clip's bodies are: the dense sandwich, single frames, frames of which nothing is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_sequence import FOCAL, FPS, LAYOUT, SIZE, dance, seen

from bodyfit.body.model import load_model
from bodyfit.fit.config import Calibration, FitConfig, SequenceCalibration, SequenceConfig
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.quality.uncertainty import spread
from bodyfit.fit.sequence.fitter import SequenceFitter
from bodyfit.fit.sequence.objective import SequenceObjective
from bodyfit.fit.sequence.uncertainty import track_spread
from bodyfit.fit.sequence.window import Window
from bodyfit.solve import BandedArrow

INDEPENDENT = SequenceConfig(calibration=SequenceCalibration(seen=1.0, alike=0.0, pose=1.0))
CONFIG = FitConfig(calibration=Calibration(seen=1.2, pose=0.7, shape=1.9))
FRAMES = 5


@pytest.fixture(scope="module")
def fitter():
    return SequenceFitter(layout=LAYOUT, model=load_model(dtype=torch.float64), config=CONFIG, sequence=INDEPENDENT)


def track(fitter: SequenceFitter, *, motion: float = 0.9, known_shape: bool = False):
    """The objective of a few frames near its minimum, and where that is."""
    params = dance(fitter.model, FRAMES)
    params = fitter.model.params(**{name: value.double() for name, value in params.items()})
    xyc, points = seen(fitter.model, params, noise_px=3.0)
    evidence = Evidence(
        keypoints=xyc, layout=LAYOUT, image_size=SIZE, focal_px=FOCAL, joints3d=points,
        betas=params.betas[0] if known_shape else None,
    )  # fmt: skip
    known, _, present = fitter.frames.checked(evidence)
    exchanged = torch.full((FRAMES,), -1)
    window = Window(fitter.frames, fitter.sequence, known, present, exchanged, FPS, motion=motion, swaps=False)
    x, z = fitter.frames.variables.split(fitter.frames.variables.pack(params))
    window._observe(x, z[0])
    return window.objective(window.seen), x, z[0]


@torch.no_grad()
def dense(objective: SequenceObjective, x, z) -> torch.Tensor:
    """The sandwich of the whole track by the dense inverse."""
    layout, frames = objective.frames.terms.layout, objective.frames
    n, full = x.shape[1], layout.join(x, z)
    H = objective.normal(x, z).hessian
    own = H.diagonal.diagonal(dim1=1, dim2=2)
    floor = 1e-9 * own.amax(1, keepdim=True)  # the solver's
    own += floor
    H = replace(H, corner=H.corner + floor.sum() * torch.eye(len(z)).to(z))
    s_seen = CONFIG.calibration.seen * CONFIG.noise_cm**2
    meat = s_seen * H.dense()
    for name, weight in frames.weights.items():
        residual = frames.terms.residual(name)
        if residual.group in ("pose", "shape"):
            own = frames.hessian_of(name, full)
            s = residual.variance * getattr(CONFIG.calibration, residual.group) * weight**2
            s = s * FRAMES if residual.group == "shape" else s
            part = BandedArrow(own[:, :n, :n], (), own[:, :n, n:], own[:, n:, n:].sum(0))
            meat += (s - s_seen) * part.dense()
    inverse = torch.linalg.inv(H.dense())
    return inverse @ meat @ inverse


def test_each_frame_has_its_block_of_the_dense_sandwich(fitter):
    objective, x, z = track(fitter)
    got = track_spread(objective, x, z, fitter.frames.joints, CONFIG, INDEPENDENT)
    assert got is not None
    want, n = dense(objective, x, z), x.shape[1]
    for t in range(FRAMES):
        columns = [*range(t * n, (t + 1) * n), *range(FRAMES * n, len(want))]
        block = want[columns][:, columns]
        size = block.diagonal().sqrt()
        # The condition is about 1e7.
        torch.testing.assert_close(
            got.covariance[t] / size / size[:, None], block / size / size[:, None], atol=1e-6, rtol=0
        )


def test_a_frame_alone_is_as_sure_as_a_fit_of_it(fitter):
    objective, x, z = track(fitter, motion=0.0)
    one = replace(objective, frames=objective.frames.select(torch.tensor([2])))
    got = track_spread(one, x[2:3], z, fitter.frames.joints, CONFIG, INDEPENDENT)
    want = spread(one.frames, one.frames.terms.layout.join(x[2:3], z), fitter.frames.joints, CONFIG)
    assert got is not None
    for name in ("covariance", "joints_sd_m", "joints_sd_rel_m"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=1e-5, atol=1e-9)


def test_so_are_all_frames_of_a_known_shape_that_no_motion_couples(fitter):
    objective, x, z = track(fitter, motion=0.0, known_shape=True)
    got = track_spread(objective, x, z, fitter.frames.joints, CONFIG, INDEPENDENT)
    want = spread(objective.frames, objective.frames.terms.layout.join(x, z), fitter.frames.joints, CONFIG)
    assert got is not None
    torch.testing.assert_close(got.covariance, want.covariance, rtol=1e-5, atol=1e-9)
    assert (got.covariance[:, -len(z) :] == 0).all()


def test_pieces_are_as_sure_as_the_whole(fitter):
    """Motion forgets: what lies beyond a piece's context says next to nothing."""
    params = dance(fitter.model, 40)
    xyc, points = seen(fitter.model, params, noise_px=3.0)
    evidence = Evidence(keypoints=xyc, layout=LAYOUT, image_size=SIZE, focal_px=FOCAL, joints3d=points)
    known, _, present = fitter.frames.checked(evidence)
    exchanged = torch.full((40,), -1)
    window = Window(fitter.frames, fitter.sequence, known, present, exchanged, FPS, motion=0.9, swaps=False)
    x, z = fitter.frames.variables.split(fitter.frames.variables.pack(params).double())
    window._observe(x, z[0])
    objective = window.objective(window.seen)
    whole = track_spread(objective, x, z[0], fitter.frames.joints, CONFIG, INDEPENDENT)
    pieces = replace(INDEPENDENT, window=24, overlap=8)
    parts = track_spread(objective, x, z[0], fitter.frames.joints, CONFIG, pieces)
    assert whole is not None
    assert parts is not None
    torch.testing.assert_close(parts.joints_sd_m, whole.joints_sd_m, rtol=0.03, atol=0)


def test_frames_of_which_nothing_is_seen_are_less_sure():
    model = load_model()
    params = dance(model, 24)
    xyc, points = seen(model, params, noise_px=3.0)
    xyc[10:16, :, 2], points[10:16] = 0, torch.nan
    xyc[:2, :, 2], points[:2] = 0, torch.nan
    fitter = SequenceFitter(layout=LAYOUT, model=model)
    result = fitter(xyc, image_size=SIZE, fps=FPS, focal_px=FOCAL, joints3d=points)
    assert result.covariance is not None
    assert result.joints_sd_rel_m is not None
    sure = result.joints_sd_rel_m.square().mean(1).sqrt()
    assert torch.isnan(sure[:2]).all()
    # The middle of the gap is the least sure, and all of it less sure than what is seen.
    assert sure[2:].argmax() + 2 in (12, 13)
    assert sure[10:16].min() > sure[[4, 5, 6, 7, 8, 18, 19, 20]].max()
    assert sure[10:16].max() > 1.5 * sure[18:].median()
    variances = result.covariance[2:].diagonal(dim1=1, dim2=2)
    assert (variances > 0).all()
    # One shape, which all frames know alike.
    columns = fitter.frames.variables["betas"]
    shape = result.covariance[2:, columns, columns]
    torch.testing.assert_close(shape, shape[:1].expand_as(shape), rtol=1e-4, atol=1e-7)
    light = SequenceFitter(layout=LAYOUT, model=model, sequence=SequenceConfig(covariance=False))
    other = light(xyc[2:6], image_size=SIZE, fps=FPS, focal_px=FOCAL, joints3d=points[2:6])
    assert other.covariance is None
    assert other.joints_sd_rel_m is not None
    assert torch.isfinite(other.joints_sd_rel_m).all()
