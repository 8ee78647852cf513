"""What of a body the evidence bears on, and why somebody has no body: in results, in parts of them, in files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shown_results import result_of, standing

import bodyfit
from bodyfit.body.points.posed import Points
from bodyfit.errors import AssetError
from bodyfit.fit.quality.observed_joints import ObservedJoints
from bodyfit.fit.result import FitStatus, join, split, take
from bodyfit.skeleton import SMPL, correspondence, layout_names

WHY = "only a hand is visible"


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model("open")


def joints_for(model, layout: str, *parts: str) -> set[str]:
    """What is observed where the keypoints are present whose names hold one of some words."""
    present = torch.tensor([[any(part in name for part in parts) for name in layout_names(layout)]])
    (row,) = ObservedJoints(Points(model, correspondence(layout)))(present)
    return {SMPL.names[j] for j in row.nonzero()[:, 0].tolist()}


@pytest.mark.parametrize("layout", ["coco17", "mediapipe33", "openpose25"])
def test_a_joint_is_observed_that_keypoints_mark_or_that_lies_between_such(model, layout):
    head = {"head"}
    shoulders = {f"{side}_{part}" for side in ("left", "right") for part in ("shoulder", "collar")} | {"spine3"}
    hips = {"left_hip", "right_hip", "pelvis"}
    assert joints_for(model, layout, "nose", "eye", "ear") == head
    assert joints_for(model, layout, "ear", "shoulder") == head | {"neck"} | shoulders
    assert joints_for(model, layout, "shoulder", "hip") == shoulders | hips | {"spine1", "spine2"}
    assert joints_for(model, layout, "left_hip", "left_ankle") == {"left_hip", "left_knee", "left_ankle"}
    assert joints_for(model, layout) == set()


@pytest.fixture(scope="module")
def people(model):
    result = result_of(model, standing(model, torch.zeros(1, 10), torch.zeros(3, 69)))
    observed = torch.arange(24)[None] < torch.tensor([[24], [10], [0]])
    status = (FitStatus.CONVERGED, FitStatus.MAX_STEPS, FitStatus.UNOBSERVABLE)
    return replace(result, status=status, observed_joints=observed, reason=(None, None, WHY))


def test_parts_of_results_keep_reasons_and_observed_joints(people):
    assert take(people, [2, 0]).reason == (WHY, None)
    again = join(split(people))
    assert again.reason == people.reason
    assert torch.equal(again.observed_joints, people.observed_joints)
    assert join([people, replace(people, observed_joints=None)]).observed_joints is None


def test_reasons_are_none_unless_given(model):
    assert result_of(model, standing(model, torch.zeros(1, 10), torch.zeros(2, 69))).reason == (None, None)


def test_files_keep_reasons_and_observed_joints(tmp_path, people):
    bodyfit.save(people, tmp_path / "people.npz")
    again = bodyfit.load_result(tmp_path / "people.npz")
    assert again.reason == people.reason
    assert torch.equal(again.observed_joints, people.observed_joints)
    with np.load(tmp_path / "people.npz") as file:
        arrays = dict(file)
    earlier = {key: value for key, value in arrays.items() if key not in ("reason", "observed_joints")}
    np.savez(tmp_path / "earlier.npz", **earlier)
    old = bodyfit.load_result(tmp_path / "earlier.npz")
    assert old.reason == (None,) * 3
    assert old.observed_joints is None
    np.savez(tmp_path / "damaged.npz", **{**arrays, "reason": arrays["reason"][:2]})
    with pytest.raises(AssetError, match="reason"):
        bodyfit.load_result(tmp_path / "damaged.npz")
