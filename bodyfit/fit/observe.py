"""Conversion of evidence to observations: keypoints are selected, weighted and scaled to centimetres."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.conditional.prior import load_conditional_prior
from bodyfit.body.points.posed import pose_tree
from bodyfit.errors import OptionError
from bodyfit.fit.conditional import Expectations
from bodyfit.fit.config import FitConfig
from bodyfit.fit.estimate import CheckedEstimate
from bodyfit.fit.evidence import CheckedEvidence
from bodyfit.fit.initialise.partial import PartialBody
from bodyfit.fit.objective import BodyTerms, Observations
from bodyfit.fit.quality.observed_joints import ObservedJoints
from bodyfit.fit.quality.sufficient import (
    BEYOND,
    IN_ONE_PLACE,
    INVALID,
    Shortcomings,
    beyond_the_edges,
    bodiless,
    in_one_place,
    odd_size,
)
from bodyfit.skeleton import SMPL, keypoint_trust, layout_names

__all__ = ["Observer"]

_SCALE_M, _LEAST, _MOST = 0.21, 0.8, 5.0
"""The scale of a lift's error whose weight is 1, and the least and greatest weight."""


class Observer:
    """Converter of checked evidence to observations, for one model, keypoint layout and configuration."""

    def __init__(self, terms: BodyTerms, layout: str, config: FitConfig) -> None:
        self.terms, self.config, points = terms, config, terms.points
        mean = terms.setup.prior.mean
        self.rest_pose = torch.as_tensor(mean, dtype=terms.model.dtype, device=terms.model.device)
        """(P,): the mean pose of the prior, axis-angles."""
        self.partial = PartialBody(points, layout_names(layout), self.rest_pose, terms.layout)
        self.trust = self.rest_pose.new_tensor(
            [t * k for t, k in zip(keypoint_trust(layout), points.known, strict=True)]
        )
        """(K,): how well each keypoint of the layout is known on the body, 0 where it is not."""
        self._joints = ObservedJoints(points)
        self._joints3d = self._joints if terms.points3d is points else ObservedJoints(terms.points3d)
        self._expectations: Expectations | None = None
        if any(stage.conditional > 0 for stage in config.stages):
            network = load_conditional_prior(config.conditional_prior)
            angles, least = len(self.rest_pose), config.min_keypoints
            self._expectations = Expectations(network, layout, angles=angles, least=least)
        names = SMPL.names[: terms.model.body_joints]
        self._legs = [i for i, name in enumerate(names) if "knee" in name or "ankle" in name]

    def visible(self, evidence: CheckedEvidence) -> tuple[Bool[Tensor, "B N"], Bool[Tensor, "B N"]]:
        """Determine which keypoints have sufficient confidence, and which of these have finite coordinates.

        Raises `OptionError` for confidences out of range.
        """
        confidence = evidence.xyc[..., 2]
        if bool((torch.isfinite(confidence) & ((confidence > 1.5) | (confidence < 0))).any()):
            raise OptionError("confidences must lie in [0, 1]; scale the third column of xyc")
        claimed = (confidence >= self.config.min_confidence) & (self._trust_of(confidence) > 0)
        return claimed, claimed & torch.isfinite(evidence.xyc).all(2)

    def _trust_of(self, each: Tensor) -> Float[Tensor, "N"]:
        """Repeat the trust of keypoints for all cameras, whose keypoints are the columns of `each`."""
        return self.trust.repeat(each.shape[1] // len(self.trust))

    def joints(self, evidence: CheckedEvidence, present: Bool[Tensor, "B N"]) -> Bool[Tensor, "B J"]:
        """Determine which joints keypoints or measured points constrain."""
        observed = self._joints(present.unflatten(1, (-1, len(self.trust))).any(1))
        return observed if evidence.points_m is None else observed | self._joints3d(self._measured(evidence.points_m))

    def shows_legs(self, joints: Bool[Tensor, "B J"]) -> Bool[Tensor, "B"]:
        """Determine which people have legs among the observed joints."""
        return joints[:, self._legs].any(1)

    def _measured(self, points_m: Float[Tensor, "B P 3"]) -> Bool[Tensor, "B P"]:
        """Determine which measured points are finite and points of the body."""
        return torch.isfinite(points_m).all(2) & torch.tensor(self.terms.points3d.known, device=points_m.device)

    def shortcomings(
        self,
        evidence: CheckedEvidence,
        claimed: Bool[Tensor, "B N"],
        present: Bool[Tensor, "B N"],
        joints: Bool[Tensor, "B J"],
        picture_px: Float[Tensor, "B 2"] | None = None,
    ) -> Shortcomings:
        """Collect the reasons for which people cannot be fitted: invalid evidence, or too little of it.

        With a body of the previous frame, little evidence suffices. `joints`: the observed joints.
        """
        least, views = self.config.min_keypoints, present.unflatten(1, (-1, len(self.trust)))
        n_claimed, n_present = (mask.unflatten(1, (-1, len(self.trust))).sum(2).amax(1) for mask in (claimed, present))
        collapsed = in_one_place(evidence.xyc[..., :2].unflatten(1, (-1, len(self.trust))), views)
        outside, limb = torch.zeros_like(collapsed), bodiless(joints)
        if evidence.rig is None and evidence.camera.has_picture:
            like = evidence.xyc
            sizes = like.new_tensor([evidence.camera.image_size]) if picture_px is None else picture_px.to(like)
            outside = beyond_the_edges(evidence.xyc, present, sizes)
        enough, odd, spot = n_present >= least, torch.zeros_like(collapsed), torch.zeros_like(collapsed)
        if evidence.points_m is not None:
            measured = self._measured(evidence.points_m)
            several = measured.sum(1) >= least
            odd = several & odd_size(evidence.points_m, measured, self.mean_points3d)
            spot = several & in_one_place(evidence.points_m, measured, metres=True)
            enough, collapsed, outside = enough | several, collapsed & ~several, outside & ~several
        if evidence.previous is not None:
            before = torch.isfinite(self.terms.layout.pack(evidence.previous)).all(1)
            enough, limb = enough | (present.any(1) & before), limb & ~before
        few = f"fewer than {least} keypoints are visible"
        return Shortcomings(
            {
                INVALID: ~enough & (n_claimed >= least),
                few: ~enough,
                IN_ONE_PLACE: collapsed,
                BEYOND: outside,
                "all measured points lie in one place": spot,
                "the measured points are spread far less or more than a body's; they must be metres": odd & ~spot,
                "only the outer part of a limb is visible": limb,
            }
        )

    @cached_property
    def mean_points3d(self) -> Float[Tensor, "1 P 3"]:
        """Positions of the measured points on the mean body in the rest pose, metres."""
        zero = self.trust.new_zeros(1, self.terms.model.num_betas)
        rest = torch.cat([zero.new_zeros(1, 3), self.rest_pose[None]], 1).unflatten(1, (-1, 3))
        return self.terms.points3d.place(pose_tree(self.terms.model, zero, rest), zero).positions

    def observations(
        self, evidence: CheckedEvidence, present: Bool[Tensor, "B N"], *, expect: bool = True
    ) -> Observations:
        """Convert evidence to observations; missing values are 0 with weight 0, and the depth is not known yet.

        `expect`: ask the conditional pose prior.
        """
        target = torch.where(present[..., None], evidence.target, 0.0)
        confidence = torch.nan_to_num(evidence.xyc[..., 2], nan=0.0)
        weight = torch.where(present, confidence.clamp(max=1), 0.0) * self._trust_of(present)
        observed = Observations(
            target,
            weight,
            weight.new_ones(len(weight)),
            rig=evidence.rig,
            height_m=evidence.height_m,
            mass_kg=evidence.mass_kg,
            fixed=() if evidence.betas is None else ("betas",),
            more=evidence.more,
        )
        if evidence.lift_m is not None:
            lifted = torch.isfinite(evidence.lift_m).all(2) & (self.trust > 0)
            # A point outside the picture has a place in the lift all the same, only less sure.
            sure = confidence.unflatten(1, (-1, len(self.trust))).amax(1).clamp(0.1, 1)
            lift = torch.where(lifted[..., None], evidence.lift_m, 0.0)
            if evidence.lift_scale_m is not None:
                sure = sure * _trust_by_scale(evidence.lift_scale_m)
            observed = replace(observed, lift_m=lift, lift_weight=lifted * self.trust * sure)
        if evidence.points_m is not None:
            measured = self._measured(evidence.points_m)
            points = torch.where(measured[..., None], evidence.points_m, 0.0)
            observed = replace(observed, points_m=points, points_weight=measured.to(points.dtype))
        if evidence.previous is not None:
            pose = evidence.previous.body_pose
            observed = replace(observed, previous_pose=torch.where(torch.isfinite(pose), pose, self.rest_pose))
        one_picture = evidence.rig is None and evidence.points_m is None
        if evidence.rig is None and expect and self._expectations is not None:
            # Measured points know better, each person's own.
            by_picture = weight > 0
            if observed.points_weight is not None:
                by_picture = by_picture & (observed.points_weight <= 0).all(1, keepdim=True)
            if one_picture or bool(by_picture.any()):
                observed = self._expectations.added(observed, torch.where(by_picture, confidence.clamp(max=1), 0.0))
        if evidence.estimate is not None:
            observed = self._with_estimate(observed, evidence.estimate)
        return self.partial.weighed(observed) if one_picture else observed

    def _with_estimate(self, observed: Observations, estimate: CheckedEstimate) -> Observations:
        """Add an estimate: its keypoints in place of a lift, its angles for the residual `estimate`."""
        model, trust = self.terms.model, self.trust
        betas = estimate.body_pose.new_zeros(1, model.num_betas).expand(len(estimate.known), -1)
        rotations = torch.cat([estimate.global_orient, estimate.body_pose], 1).unflatten(1, (-1, 3))
        lift = torch.nan_to_num(self.terms.points.place(pose_tree(model, betas, rotations), betas).positions)
        there = estimate.known[:, None] > 0
        weight = torch.where(there, trust * estimate.confidence, 0.0)
        if observed.lift_m is not None and observed.lift_weight is not None:
            lift = torch.where(there[..., None], lift, observed.lift_m)
            weight = torch.where(there, weight, observed.lift_weight)
        joints = estimate.body_pose.shape[1] // 3
        factor = torch.eye(3, dtype=trust.dtype, device=trust.device).expand(len(lift), joints, 3, 3)
        return replace(
            observed,
            lift_m=lift,
            lift_weight=weight,
            estimate_pose=estimate.body_pose,
            estimate_factor=estimate.known[:, None, None, None] * factor / estimate.angles_sd_rad,
        )

    def scale_cm(self, depth_m: Float[Tensor, "B C"], evidence: CheckedEvidence) -> Float[Tensor, "B *N"]:
        """Compute the centimetres at people of some depth per unit of normalised image coordinates.

        They are reduced where the detector's noise in pixels exceeds the noise in centimetres.
        """
        depth_cm = 100 * depth_m.clamp_min(0.3).repeat_interleave(len(self.trust), 1)
        pixel_noise = self.config.noise_px * depth_cm / evidence.focal_px / self.config.noise_cm
        scale = depth_cm / (1 + pixel_noise.square()).sqrt()
        return scale if evidence.rig is not None else scale[:, 0]


def _trust_by_scale(scale_m: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """Compute the weight of a lift from the scale of its error along the view; 1 where it is unknown.

    It goes by the root of the scale: weights by the scale itself, which independent errors ask for, put too much on the
    trunk (docs/lift.md).
    """
    return (_SCALE_M / scale_m).sqrt().clamp(_LEAST, _MOST).nan_to_num(nan=1.0)
