"""The fit's interpenetration term on the shipped body."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bodyfit
from bodyfit.body.contact.capsules import Capsules, may_touch
from bodyfit.body.points.posed import pose_tree
from bodyfit.fit.residuals.capsules import CapsuleOverlap


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model()


def cost(model, **turned: list[float]) -> float:
    pose = torch.zeros(1, 24, 3)
    for joint, rotvec in turned.items():
        pose[0, model.skeleton.index(joint)] = torch.tensor(rotvec)
    betas = torch.zeros(1, model.num_betas)
    overlap = CapsuleOverlap(model)
    return float(overlap(overlap.own_points.place(pose_tree(model, betas, pose), betas).positions, betas).cost)


def test_common_poses_are_free(model):
    assert cost(model) == 0
    assert cost(model, left_shoulder=[0, 0, -1.1], right_shoulder=[0, 0, 1.1]) == 0
    sat = {f"{side}_{joint}": [angle, 0.0, 0.0] for side in ("left", "right") for joint, angle in (("hip", -1.6),)}
    assert cost(model, **sat, left_knee=[1.6, 0, 0], right_knee=[1.6, 0, 0]) == 0


def test_a_forearm_in_the_belly_costs(model):
    """Turned in from the side of the body, the forearm costs nothing until it enters, then more."""
    costs = [cost(model, left_shoulder=[0, 0, -1.2], left_elbow=[0, 0, -angle]) for angle in (-0.8, 0.8, 1.6)]
    assert costs[0] == 0
    assert costs[2] > costs[1] > 1


def test_which_pairs_count():
    """Hands against trunk, thighs and head, forearms, feet against shins; not neighbours."""
    for a, b in (
        ("left_hand", "right_trunk"),
        ("left_hand", "left_thigh"),
        ("head", "right_hand"),
        ("left_forearm", "right_forearm"),
        ("left_foot", "right_shin"),
    ):
        assert not may_touch(a, b)
        assert not may_touch(b, a)
    for a, b in (("left_hand", "left_forearm"), ("left_thigh", "right_thigh"), ("head", "left_trunk")):
        assert may_touch(a, b)
        assert may_touch(b, a)


def test_capsules_follow_the_betas(model):
    """The radius that betas give is that of capsules fitted to that body, as far as it is linear; sides are alike."""
    capsules = Capsules.of(model)
    assert (capsules.radius_m > 0.02).all()
    assert (capsules.radius_m < 0.2).all()
    for name, radius, length in zip(capsules.names, capsules.radius_m, capsules.length_m, strict=True):
        other = name.replace("left", "right")
        np.testing.assert_allclose(radius, capsules.radius_m[capsules.names.index(other)], rtol=0.02)
        np.testing.assert_allclose(length, capsules.length_m[capsules.names.index(other)], rtol=0.02)
    assert capsules.radius_shape.shape == (len(capsules.names), model.num_betas)
