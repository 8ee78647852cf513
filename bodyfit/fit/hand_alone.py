"""People of whom a hand is all that is visible: the hand is fitted alone, and a body at rest is put behind it.

Nothing tells of the forearm, so its direction is free: body and arm are turned as one, such that the wrist is straight,
and hang from the hand. How far away the hand is follows from its size. All variables then go down the common objective.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.fit.evidence import CheckedEvidence
from bodyfit.fit.initialise.hands import mirrored_hands
from bodyfit.fit.objective import StageObjective
from bodyfit.fit.observations import EXPECTED, Observations
from bodyfit.fit.parts import HAND_POINTS, PartObservations
from bodyfit.fit.whole import WholeBody
from bodyfit.geometry.rotation import so3_exp, so3_log
from bodyfit.solve import LMSummary

__all__ = ["fit_hands_alone", "shows_a_hand"]

_SIDES = ("left", "right")
_LEAST_POINTS = 12
"""Fewer visible points of a hand do not tell how it is turned."""
_PALM = ((0, 5), (0, 9), (0, 13), (0, 17), (5, 17), (1, 17))
"""Pairs of points whose distance bending fingers leaves alone."""


def shows_a_hand(evidence: CheckedEvidence, whole: WholeBody) -> Bool[Tensor, "B"]:
    """Tell of which people one camera shows a hand well enough to be fitted without a body."""
    parts = evidence.parts
    if parts is None or parts.hands is None or evidence.rig is not None or not evidence.camera.has_picture:
        return torch.zeros(len(evidence), dtype=torch.bool, device=evidence.xyc.device)
    return _is_visible(whole.visible_parts(parts)).any(1)


def _is_visible(parts: PartObservations) -> Bool[Tensor, "B 2"]:
    """Tell which hands enough points are visible of."""
    return _counts(parts) >= _LEAST_POINTS


def _counts(parts: PartObservations) -> Int[Tensor, "B 2"]:
    """Count the visible points of each hand."""
    assert parts.hands_weight is not None
    return (parts.hands_weight > 0).unflatten(1, (2, HAND_POINTS)).sum(2)


def fit_hands_alone(
    whole: WholeBody, body: Float[Tensor, "B D"], seen: Observations
) -> tuple[Float[Tensor, "B D"], LMSummary]:
    """Fit the hands of people of whom nothing else is visible.

    `body`: all variables of a body at rest with relaxed hands. Of two hands the one with more visible points places the
    body. Keypoints of the body in `seen` are left out.
    """
    nothing = torch.zeros_like(seen.weight)
    seen = replace(seen, weight=nothing, lift_m=None, lift_weight=None, **dict.fromkeys(EXPECTED))
    x, parts = body.clone(), seen.parts
    assert parts is not None
    first, every = _counts(parts).argmax(1), torch.arange(len(x), device=x.device)
    for i in range(len(_SIDES)):
        rows = (first == i).nonzero()[:, 0]
        if len(rows):
            x[rows] = _with_hand(whole, x[rows], i, seen.select(rows))
    joints = StageObjective(whole.terms, whole.stage, seen).tree(x).joints
    wrists = [whole.model.skeleton.index(f"{side}_wrist") for side in _SIDES]
    at = (joints[:, wrists] + x[:, None, whole.layout["transl"]])[every, first]
    seen = replace(seen, parts=parts.with_(depth_cm=100 * at[:, 2:].clamp_min(0.1)))
    other = _is_visible(parts)
    other[every, first] = False
    x = whole.with_hands(x, other, seen)
    x, summary, _ = whole.descend(x, seen)
    return x, summary


def _with_hand(whole: WholeBody, x: Float[Tensor, "N D"], i: int, seen: Observations) -> Float[Tensor, "N D"]:
    """Return the variables with one hand fitted and the body turned and moved to it, its wrist straight."""
    layout, parts = whole.layout, seen.parts
    assert parts is not None
    wrist = whole.model.skeleton.index(f"{_SIDES[i]}_wrist")
    tree = StageObjective(whole.terms, whole.stage, seen).tree(x)
    hand = whole.hand_observations(x, seen, tree)[i]
    ends = torch.tensor(_PALM, device=x.device).T
    there = (hand.weight[:, ends] > 0).all(1)  # (N, pairs)
    in_picture, in_space = ((v[:, ends[0]] - v[:, ends[1]]).norm(dim=2) for v in (hand.target, hand.rest))
    # The pair that is foreshortened least tells the distance.
    depth = 1 / torch.where(there, in_picture / in_space, 0.0).amax(1, keepdim=True).clamp(1e-3, 20)
    middle = (hand.weight[..., None] * hand.target).sum(1) / hand.weight.sum(1, keepdim=True)
    near = replace(seen, parts=parts.with_(depth_cm=100 * depth))
    hand = replace(whole.hand_observations(x, near, tree)[i], wrist=torch.cat([middle * depth, depth], 1))
    found, _ = whole.starts(hand.mirrored() if i else hand, alone=True)
    found = mirrored_hands(found) if i else found
    # The world rotation of the wrist is the root's times what the arm's pose makes of it.
    R = so3_exp(found[:, 3:6]) @ tree.R_world[:, wrist].mT @ so3_exp(x[:, layout["global_orient"]])
    fingers = {f"{_SIDES[i]}_hand_pose": found[:, 6:] - whole.model.hand_means[i]}
    x = layout.put(x, global_orient=so3_log(R), **fingers)
    turned = StageObjective(whole.terms, whole.stage, seen).tree(x)
    return layout.put(x, transl=found[:, :3] - turned.joints[:, wrist])
