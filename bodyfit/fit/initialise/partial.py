"""People of whom a part is visible: what of the evidence to believe, and how the rest of the body is held."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.points.posed import Points
from bodyfit.fit.evidence import CheckedEvidence
from bodyfit.fit.initialise.head import HeadStart
from bodyfit.fit.observations import Observations
from bodyfit.fit.variables import Variables
from bodyfit.geometry.rotation import so3_exp
from bodyfit.skeleton import SMPL

__all__ = ["PartialBody"]

_LEG = ("knee", "ankle", "foot")
_MIN_CONFIDENCE, _SHARE = 0.3, 0.5
"""Legs are visible where a keypoint on them has this confidence, or this part of the surest keypoint's: below that
detectors guess, in a close-up even within the picture."""
_HIP = 0.1
"""A hip is visible that is seen so surely, in parts of how surely the surest keypoint is."""
_ARMS, _BESIDE_HEAD = 0.5, 0.6
"""How surely an elbow or a hip has to be seen for shoulders to count in full, and what they count beside a head alone:
detectors give the shoulders of a close-up up to a fifth too narrow, and the face within a twentieth."""
_ARM = 0.3
"""An arm is visible whose elbow is seen so surely, in parts of how surely the surest keypoint is."""
_STANDING = {"hip": -0.15, "knee": 0.28, "ankle": -0.12}
"""Angles of standing legs about their sideways axes, radians: soles on the ground."""
_LOOSE, _MOST_LOOSE = 0.5, 0.35
"""Legs at rest go this part of the way from standing to what the pose prior expects of them, given the trunk, and no
joint more than so many radians. On people in motion half the way costs 0.4 to 0.9 mm PA-MPJPE, standing 3 to 4; the
whole way looks like a crouch that nobody saw."""
_LEAN, _LYING, _LIES, _BACK = 0.1, 1.0, 1.25, 0.3
"""A trunk that leans so far forward bends the legs at the hips, so that they stand; from the second angle to the third
it comes to lie, legs along; legs bend so far back. Radians."""


class PartialBody:
    """Which keypoints of a layout show head, shoulders, hips and legs of a model."""

    def __init__(
        self, points: Points, names: tuple[str, ...], rest_pose: Float[Tensor, "P"], variables: Variables
    ) -> None:
        self.variables = variables
        self.head = HeadStart(points, names, rest_pose)
        known = torch.tensor(points.known, device=points.weight.device)

        def showing(*parts: str) -> Bool[Tensor, "K"]:
            rows = [i for i, name in enumerate(SMPL.names[: points.weight.shape[1]]) if any(p in name for p in parts)]
            return (points.weight[:, rows].sum(1) > 0.4) & known

        self.is_leg, self.is_hip = showing(*_LEG), showing("hip", "pelvis")
        self.is_arm, self.is_shoulder = showing("elbow"), showing("shoulder")

    def legs(self, confidence: Float[Tensor, "B K"]) -> Bool[Tensor, "B"]:
        """Whose legs are visible."""
        leg, other = (torch.where(mask, confidence, 0.0).amax(1) for mask in (self.is_leg, ~self.is_leg))
        return (leg > 0) & ((leg >= _MIN_CONFIDENCE) | (leg >= _SHARE * other))

    def legs_in(self, known: CheckedEvidence, present: Bool[Tensor, "B N"]) -> Bool[Tensor, "B"]:
        """Whose legs are visible in some view."""
        confidence = torch.where(present, known.xyc[..., 2], 0.0).unflatten(1, (-1, len(self.is_leg))).amax(1)
        return self.legs(confidence)

    def without_guesses(
        self, known: CheckedEvidence, present: Bool[Tensor, "B N"], legs: Bool[Tensor, "B"] | None = None
    ) -> tuple[CheckedEvidence, Bool[Tensor, "B N"]]:
        """The evidence without keypoints and lift of legs that are not visible in any view; `legs` says whose are,
        where more is known of it than `legs_in` tells."""
        legs = self.legs_in(known, present) if legs is None else legs
        guessed = self.is_leg & ~legs[:, None]
        present = (present.unflatten(1, (-1, len(self.is_leg))) & ~guessed[:, None]).flatten(1)
        if known.lift_m is not None:
            known = replace(known, lift_m=torch.where(guessed[..., None], torch.nan, known.lift_m))
        return known, present

    def weighed(self, seen: Observations) -> Observations:
        """Observations in which the head counts more than the shoulders of those who show neither a hip nor an arm."""
        share = torch.maximum(self._surest(seen.weight, self.is_hip), self._surest(seen.weight, self.is_arm))
        part = (share / _ARMS).clamp(_BESIDE_HEAD, 1)
        part = torch.where(self._shows_head(seen.weight), part, 1.0)[:, None]
        return replace(seen, weight=seen.weight * torch.where(self.head.rows > 0, 1.0, part))

    def shows_trunk(self, seen: Observations) -> Bool[Tensor, "B"]:
        """Who shows a hip, or no head: of a head with shoulders the face tells which way it looks."""
        return (self._surest(seen.weight, self.is_hip) >= _HIP) | ~self._shows_head(seen.weight)

    def _surest(self, weight: Float[Tensor, "B K"], of: Bool[Tensor, "K"]) -> Float[Tensor, "B"]:
        """How surely the surest of some keypoints is seen, in parts of how surely any is."""
        return (weight * of).amax(1) / weight.amax(1).clamp_min(1e-6)

    def _shows_head(self, weight: Float[Tensor, "B K"]) -> Bool[Tensor, "B"]:
        return (weight * self.head.rows > 0).sum(1) >= 3

    def starts(
        self,
        seen: Observations,
        betas: Float[Tensor, "#B S"],
        root: Float[Tensor, "#B 3"],
        up: Float[Tensor, "B 2"],
    ) -> tuple[Float[Tensor, "B D"], Bool[Tensor, "B"]] | None:
        """Starts from the head (`fit/initialise/head.py`) for those who show it and hardly a hip or an arm, as the
        solver's variables, and who has one; None where nobody does. `up` is the way from the hips to the shoulders or
        from them to the head.

        An arm tells more of the trunk than the head does: beside one, a body upright under the head ends in a lower
        objective and farther from the truth (68 mm PA-MPJPE of the upper body in place of 65).
        """
        who = ~self.shows_trunk(seen) & (self._surest(seen.weight, self.is_arm) < _ARM)
        if not who.any():
            return None
        rows = who.nonzero()[:, 0]
        shoulders = (seen.weight[rows] * self.is_shoulder > 0.1 * seen.weight[rows].amax(1, keepdim=True)).any(1)
        betas, root = (value.expand(len(who), -1)[rows] for value in (betas, root))
        at, pose, can = self.head(seen.target[rows], seen.weight[rows], betas, up[rows], shoulders)
        turned = {"global_orient": pose[:, 0], "body_pose": pose[:, 1:].flatten(1)}
        start = self.variables.pack({"transl": at - root, **turned, "betas": betas})
        full = start.new_full((len(who), start.shape[1]), torch.nan).index_copy(0, rows, start)
        return full, who.index_copy(0, rows, can)

    def at_rest(self, x: Float[Tensor, "B D"], share: Float[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """The solver's variables with the legs brought to rest by a `share` of the way: 1 where they are not visible.

        Legs at rest stand, on the way to the pose that the prior expects of them (which is where x has them).
        """
        x = x.clone()
        # The way up is the trunk's as it looks in the picture: the camera may be held any way round.
        R = so3_exp(x[:, self.variables["global_orient"]])
        flat = torch.cat([R[:, :2, 1], torch.zeros_like(R[:, :1, 1])], 1)
        upright = (R.mT @ flat[..., None])[..., 0]
        lean = torch.atan2(-upright[:, 2], upright[:, 1])
        bent = torch.where(lean > 0, (lean - _LEAN).clamp_min(0), lean.clamp_min(-_BACK))
        bent = bent * ((_LIES - lean) / (_LIES - _LYING)).clamp(0, 1)
        for i, name in enumerate(SMPL.names):
            joint = name.rpartition("_")[2]
            if joint not in ("hip", *_LEG):
                continue
            angle = torch.full_like(lean, _STANDING.get(joint, 0.0)) - (bent if joint == "hip" else 0.0)
            standing = torch.stack([angle, 0 * angle, 0 * angle], 1)
            columns = self.variables.columns_of_joint(i)
            loose = _LOOSE * (x[:, columns] - standing)
            loose = loose * (_MOST_LOOSE / loose.norm(dim=1, keepdim=True).clamp_min(1e-9)).clamp(max=1)
            x[:, columns] = torch.lerp(x[:, columns], standing + loose, share[:, None])
        return x
