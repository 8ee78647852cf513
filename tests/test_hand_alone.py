"""Hands in pictures that show nothing else of a person."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bodyfit
from bodyfit.body.hand_prior import load_hand_prior
from bodyfit.geometry.camera import Camera
from bodyfit.geometry.procrustes import align
from bodyfit.skeleton import hand_entries

SIZE, FOCAL_PX = (640, 480), 700.0


@pytest.fixture(scope="module")
def pointing():
    """Open-x, a left and a right hand that point near the camera, and their points (2, 21, 3)."""
    model = bodyfit.load_model("open-x")
    points = []
    for i, side in enumerate(("left", "right")):
        pose = torch.tensor(load_hand_prior()[i].relaxed, dtype=torch.float32) - model.hand_means[i]
        pose[9:] *= 1.8
        turn = torch.tensor([[2.6, 0.5 - i, 0.3]])
        out = model(global_orient=turn, **{f"{side}_hand_pose": pose[None]})
        at = torch.cat([model.point(out, next(iter(entry))) for entry in hand_entries(side)])
        points.append(at - at.mean(0) + torch.tensor([0.05, -0.03, 0.6]))
    return model, torch.stack(points)


def test_a_hand_without_a_body_is_fitted(pointing):
    """Either hand, at its distance; the other one rests, and nothing is said of joints that nothing shows."""
    model, points = pointing
    hands = torch.full((2, 2, 21, 3), torch.nan)
    camera = Camera.make(1, SIZE, focal_px=FOCAL_PX)
    for i in range(2):
        hands[i, i] = torch.nn.functional.pad(camera.project(points[i][None])[0], (0, 1), value=1.0)
    result = bodyfit.fit(bodyfit.Evidence(hands=hands, image_size=SIZE, focal_px=FOCAL_PX), model=model)
    out = model(**result.params)
    for i, side in enumerate(("left", "right")):
        found = torch.stack([model.point(out, next(iter(entry)))[i] for entry in hand_entries(side)])
        off_px = (camera.project(found[None]) - camera.project(points[i][None])).norm(dim=2)
        assert off_px.mean() < 3
        a, b = found[None].double().numpy(), points[i][None].double().numpy()
        assert np.linalg.norm(align(a, b)(a) - b, axis=2).mean() < 0.008
        assert abs(float(found[0, 2] / points[i, 0, 2]) - 1) < 0.2
        assert result.reason[i] is None
        observed = {n for n, seen in zip(model.skeleton.names, result.observed_joints[i].tolist(), strict=True) if seen}
        assert observed == {n for n in model.skeleton.names if n.startswith(side) and n[-1] in "123"}


def test_half_a_hand_is_not_enough(pointing):
    model, points = pointing
    hands = torch.full((1, 2, 21, 3), torch.nan)
    xy = Camera.make(1, SIZE, focal_px=FOCAL_PX).project(points[:1])[0]
    hands[0, 0, :8] = torch.nn.functional.pad(xy, (0, 1), value=1.0)[:8]
    result = bodyfit.fit(bodyfit.Evidence(hands=hands, image_size=SIZE, focal_px=FOCAL_PX), model=model)
    assert result.status[0].value == "unobservable"
    assert not torch.isfinite(result.params.transl).any()
