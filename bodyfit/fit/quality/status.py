"""Which fits are not to be relied on, and why: status `poor`.

A fit that has converged can still be wrong: keypoints of another person, a limb that nobody sees, a ghost. What tells
is how well the body explains its evidence against what keypoints are expected to err by, how probable its pose is, how
far a detector's lift is from it, and how sure the keypoints are. A logistic model of
these few numbers (`Features`) gives the odds that the joints which the picture shows are more than 150 mm from where
they are after alignment (PA-MPJPE); beyond a threshold the fit is called poor. The largest terms of the sum are the
reasons.

Weights and threshold were chosen on people of known pose, and are judged on others: rendered pictures that the default
detector looked at, and keypoints with gross mistakes (`scripts/bench/quality.py`, docs/quality.md). Several cameras and
measured points have rules of their own, for they leave less open. None of it looks at more than the result, what was
fitted, and the prior; it takes a few per cent of a fit's time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.params import BodyParams
from bodyfit.body.points.posed import pose_tree
from bodyfit.fit.config import FitConfig
from bodyfit.fit.evidence import CheckedEvidence
from bodyfit.fit.objective import BodyTerms
from bodyfit.fit.quality.words import Words
from bodyfit.fit.result import FitResult, FitStatus, take
from bodyfit.skeleton import layout_names

__all__ = ["LANDMARKS", "NO_LIFT", "OTHERS", "Features", "Quality", "Weight", "Weights"]


@dataclass(frozen=True)
class Features:
    """What quality is judged by, one number a person."""

    misfit: Float[Tensor, "B"]
    """Log of the root mean square distance of keypoints, in what they are expected to err by (at least 0.3)."""
    pose: Float[Tensor, "B"]
    """Log of the pose prior's cost, nats above its best (at least 1)."""
    lift: Float[Tensor, "B"]
    """Log of the distance of a lift's points from the body's, centimetres (at least 3); `NO_LIFT` for none."""
    unconfirmed: Float[Tensor, "B"]
    """1 for who has keypoints of COCO's alone and no lift in a layout that has more: whom the network that proposes
    people has seen and the one for landmarks has not."""
    confidence: Float[Tensor, "B"]
    """Mean confidence of the layout's keypoints, those that are missing 0."""

    def columns(self) -> Float[Tensor, "B F"]:
        """All of them, in this order."""
        return torch.stack([getattr(self, f.name) for f in fields(self)], 1)


@dataclass(frozen=True)
class Weight:
    """A term of the logit, weight * (feature - usual)."""

    weight: float
    """Logit per unit."""
    usual: float
    """The mean of right fits."""


@dataclass(frozen=True)
class Weights:
    """A logistic model."""

    bias: float
    """The logit of a right fit all of whose features are usual."""
    poor: float
    """The logit beyond which a fit is poor."""
    terms: dict[str, Weight]
    """By the names of `Features`."""

    def logit(self, features: Features) -> tuple[Float[Tensor, "B"], Float[Tensor, "B F"]]:
        """The logit, and each term of it."""
        columns = features.columns()
        weight = columns.new_tensor([term.weight for term in self.terms.values()])
        usual = columns.new_tensor([term.usual for term in self.terms.values()])
        parts = (columns - usual) * weight
        return self.bias + parts.sum(1), parts


NO_LIFT = 1.83
"""What stands for the misfit of a lift that is not there: that of right fits."""

LANDMARKS = Weights(
    bias=-3.78,
    poor=-2.0,
    terms={
        "misfit": Weight(0.39, 0.04),
        "pose": Weight(0.83, 1.37),
        "lift": Weight(1.78, NO_LIFT),
        "unconfirmed": Weight(2.51, 0.07),
        "confidence": Weight(-1.63, 0.69),
    },
)
"""Of mediapipe33, the layout of the detectors that ship, whose lift and whose confidences mean something."""
OTHERS = Weights(
    bias=-3.32,
    poor=-0.13,
    terms={
        "misfit": Weight(0.66, 0.54),
        "pose": Weight(2.05, 1.44),
        "lift": Weight(1.78, NO_LIFT),
        "unconfirmed": Weight(0.0, 0.0),
        "confidence": Weight(0.0, 0.0),
    },
)
"""Of all other layouts: programs do not agree on what a confidence is, and most give no lift."""

_SIZES = 1.5
"""How many times larger or smaller than the body a lift may be, as in the objective."""
_MOST_Z2 = 400.0
"""Twenty deviations squared: what a keypoint counts at most in the misfit."""
_MOST_BEYOND = 0.35
"""Radians beyond a joint's limits, of all its angles, that no fit has which is right."""
_MOST_BETA = 4.5
"""Deviations of a coefficient of the shape."""
_LEAST_PX = 16.0
"""Extent of the keypoints in the picture."""
_NEAREST_M = 0.1
"""From the camera to the nearest joint that is observed."""
_MOST_MISFIT, _MANY_VIEWS = 7.5, 5.0
"""Root mean square misfit of keypoints, in deviations: of one camera's (3 of 1,000 right fits have more) and of
several cameras'."""
_POINTS_CM = 10.0
"""Root mean square distance from measured points."""


class Quality:
    """Judges the fits of one layout."""

    def __init__(self, terms: BodyTerms, layout: str, trust: Float[Tensor, "K"], config: FitConfig) -> None:
        self.terms, self.config, self.trust = terms, config, trust
        finer = [layout == "mediapipe33" and name not in layout_names("coco17") for name in layout_names(layout)]
        self.finer = torch.tensor(finer, device=trust.device)
        prior = terms.setup.prior
        self.limits = tuple(torch.as_tensor(limit).to(trust) for limit in (prior.limits_lower, prior.limits_upper))
        self.words = Words(layout_names(layout), trust, terms.model.skeleton.names)

    @torch.no_grad()
    def __call__(
        self, result: FitResult, points: Float[Tensor, "B K 3"], known: CheckedEvidence, present: Bool[Tensor, "B N"]
    ) -> FitResult:
        """The result with the status `poor`, and why, of those who are.

        `points` are the bodies' keypoints, metres, axes of the first camera; `known`, `present`: what was fitted.
        """
        status, reason = list(result.status), list(result.reason)
        judged = torch.tensor([s in (FitStatus.CONVERGED, FitStatus.MAX_STEPS) for s in status], dtype=torch.bool)
        for rows in judged.nonzero()[:, 0].split(1024):
            some = result, points, known, present
            if len(rows) < len(result):
                at = rows.to(present.device)
                some = take(result, rows.tolist()), points[at], known.select(at), present[at]
            for row, why in zip(rows.tolist(), self._reasons(*some), strict=True):
                if why is not None:
                    status[row], reason[row] = FitStatus.POOR, why
        return replace(result, status=tuple(status), reason=tuple(reason))

    def features(
        self, result: FitResult, points: Float[Tensor, "B K 3"], known: CheckedEvidence, present: Bool[Tensor, "B N"]
    ) -> Features:
        """The numbers of fits by one camera."""
        return self._features(self._look(result, points, known, present), result, known)

    def _look(
        self, result: FitResult, points: Float[Tensor, "B K 3"], known: CheckedEvidence, present: Bool[Tensor, "B N"]
    ) -> _Look:
        trust = self.trust.repeat(present.shape[1] // len(self.trust))
        confidence = torch.nan_to_num(known.xyc[..., 2], nan=0.0).clamp(max=1)
        weight = torch.where(present, confidence, 0.0) * trust
        seen = points if known.rig is None else known.rig.points(points)
        off = seen[..., :2] / seen[..., 2:].clamp_min(0.05) - torch.where(present[..., None], known.target, 0.0)
        root = result.joints[:, :1] if known.rig is None else known.rig.points(result.joints[:, :1])
        depth_cm = 100 * root[..., 2].clamp_min(0.05).repeat_interleave(len(self.trust), 1)
        off_cm = off.norm(dim=2) * depth_cm
        noise_px = self.config.noise_px * depth_cm / known.focal_px
        z = off_cm / (self.config.noise_cm**2 + noise_px.square()).sqrt()
        return _Look(points, weight, confidence, z, off_cm * known.focal_px / depth_cm, trust)

    def _features(self, look: _Look, result: FitResult, known: CheckedEvidence) -> Features:
        """The numbers that the logistic models take."""
        rms = _mean(look.z.square().clamp(max=_MOST_Z2), look.weight).sqrt()
        cost = self.terms.mixture.component_costs(result.params.body_pose).amin(1)
        lifted = _has_lift(known)
        unconfirmed = torch.zeros_like(rms)
        if bool(self.finer.any()):
            unconfirmed = (~lifted & (look.confidence[:, self.finer] == 0).all(1)).to(rms.dtype)
        return Features(
            misfit=rms.clamp_min(0.3).log(),
            pose=cost.clamp_min(1).log(),
            lift=torch.where(lifted, _lift_off_cm(known, look.points, self.trust).clamp_min(3).log(), NO_LIFT),
            unconfirmed=unconfirmed,
            confidence=_mean(look.confidence, look.trust.expand_as(look.confidence)),
        )

    def _reasons(
        self, result: FitResult, points: Float[Tensor, "B K 3"], known: CheckedEvidence, present: Bool[Tensor, "B N"]
    ) -> list[str | None]:
        """Why each is poor; None for who is not."""
        look = self._look(result, points, known, present)
        reasons = self._by_rules(result, known, present, look)
        if known.rig is not None or known.points_m is not None:
            return reasons
        features = self._features(look, result, known)
        doubt, parts = self.doubt(features, self._by_landmarks(known, features))
        if known.depth is not None:  # depth knows better than the prior and the lift what is improbable
            doubt[[i for i, view in enumerate(known.depth.views) if view is not None]] = 0
        for i in (doubt > 0).nonzero()[:, 0].tolist():
            by_size = sorted(zip(parts[i].tolist(), LANDMARKS.terms, strict=True), reverse=True)
            share = [name for part, name in by_size[:2] if part >= 0.5 * by_size[0][0]]
            why = [self._word(name, i, look, result, features) for name in share]
            reasons[i] = reasons[i] or "; ".join(why)
        return reasons

    def doubt(
        self, features: Features, by_landmarks: Bool[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B F"]]:
        """By how much each logit is above the threshold, and its terms; whose lift and confidences are those of the
        detectors that ship is judged by them, too."""
        (ours, our_parts), (other, parts) = LANDMARKS.logit(features), OTHERS.logit(features)
        doubt = torch.where(by_landmarks, ours - LANDMARKS.poor, other - OTHERS.poor)
        return doubt, torch.where(by_landmarks[:, None], our_parts, parts)

    def _by_landmarks(self, known: CheckedEvidence, features: Features) -> Bool[Tensor, "B"]:
        """Who was seen by the detectors that ship."""
        if not bool(self.finer.any()):
            return torch.zeros_like(features.misfit, dtype=torch.bool)
        return (features.unconfirmed > 0) | _has_lift(known)

    def _word(self, name: str, i: int, look: _Look, result: FitResult, features: Features | None = None) -> str:
        """A term of the logit in words."""
        if name == "misfit":
            return self.words.misfit(look.weight[i], look.z[i], look.off_px[i])
        if name == "pose" or features is None:
            return self.words.pose(self.terms.mixture, result.params.body_pose[i])
        return self.words.plain(name, float(getattr(features, name)[i]))

    def _by_rules(
        self, result: FitResult, known: CheckedEvidence, present: Bool[Tensor, "B N"], look: _Look
    ) -> list[str | None]:
        """What no right fit has, the first that holds."""
        params, one_view = result.params, known.rig is None and known.points_m is None
        beyond = (params.body_pose - params.body_pose.clamp(*self.limits)).unflatten(1, (-1, 3)).norm(dim=2)
        off = params.betas.abs().amax(1)
        nearest, extent = _nearest_m(result), _extent_px(known, present)
        rms, most = _mean(look.z.square().clamp(max=_MOST_Z2), look.weight).sqrt(), _MOST_MISFIT
        if known.rig is not None:
            most = _MANY_VIEWS
        points = _off_points(self.terms, params, known)
        words = self.words
        rules: list[tuple[Bool[Tensor, "B"], Callable[[int], str]]] = [
            (beyond.amax(1) > _MOST_BEYOND, lambda i: words.limits(beyond[i])),
            (
                rms > most,
                lambda i: self._word("misfit", i, look, result),
            ),
        ]
        if known.betas is None:
            rules.append((off > _MOST_BETA, lambda i: words.shape(self.terms.height, params.betas[i])))
        if one_view:
            rules.append((nearest < _NEAREST_M, lambda i: "it reaches behind the camera"))
            rules.append((extent < _LEAST_PX, lambda i: f"only {float(extent[i].clamp_min(0)):.0f} px of it are seen"))
        if points is not None:
            rules.append((points[:, 0] > _POINTS_CM, lambda i: words.points(*points[i].tolist())))
        reasons: list[str | None] = [None] * len(result)
        for holds, why in rules:
            for i in holds.nonzero()[:, 0].tolist():
                reasons[i] = reasons[i] or why(i)
        return reasons


@dataclass(frozen=True)
class _Look:
    """What is reckoned once of fits."""

    points: Float[Tensor, "B K 3"]
    """The body's keypoints, metres, axes of the first camera."""
    weight: Float[Tensor, "B N"]
    """Confidence times trust; 0 where missing."""
    confidence: Float[Tensor, "B N"]
    z: Float[Tensor, "B N"]
    """Distance in the picture, in what the keypoint is expected to err by."""
    off_px: Float[Tensor, "B N"]
    trust: Float[Tensor, "N"]


def _nearest_m(result: FitResult) -> Float[Tensor, "B"]:
    """How far before the camera the nearest joint is that is observed."""
    depth, observed = result.joints[..., 2], result.observed_joints
    if observed is None:
        return depth.amin(1)
    return torch.where(observed, depth[:, : observed.shape[1]], torch.inf).amin(1)


def _extent_px(known: CheckedEvidence, present: Bool[Tensor, "B N"]) -> Float[Tensor, "B"]:
    """The longer side of the box about the keypoints; negative where there is none."""
    high = torch.where(present[..., None], known.xyc[..., :2], -torch.inf).amax(1)
    low = torch.where(present[..., None], known.xyc[..., :2], torch.inf).amin(1)
    return (high - low).amax(1)


def _mean(value: Float[Tensor, "B N"], weight: Float[Tensor, "B N"]) -> Float[Tensor, "B"]:
    return (value * weight).sum(1) / weight.sum(1).clamp_min(1e-6)


def _has_lift(known: CheckedEvidence) -> Bool[Tensor, "B"]:
    """Who has a lift of four points or more."""
    if known.lift_m is None:
        return torch.zeros(len(known), dtype=torch.bool, device=known.xyc.device)
    return torch.isfinite(known.lift_m).all(2).sum(1) >= 4


def _lift_off_cm(
    known: CheckedEvidence, points: Float[Tensor, "B K 3"], trust: Float[Tensor, "K"]
) -> Float[Tensor, "B"]:
    """How far a lift's points are from the body's in the mean square, both centred, the lift of the size that brings it
    nearest, centimetres; 0 where there is none."""
    if known.lift_m is None:
        return points.new_zeros(len(points))
    there = torch.isfinite(known.lift_m).all(2)
    weight = there * (trust * torch.nan_to_num(known.xyc[..., 2], nan=0.0).clamp(0.1, 1)).square()
    share = (weight / weight.sum(1, keepdim=True).clamp_min(1e-9))[..., None]
    lift = torch.where(there[..., None], known.lift_m, 0.0)
    p = points - (share * points).sum(1, keepdim=True)
    q = lift - (share * lift).sum(1, keepdim=True)
    size = (share * p * q).sum((1, 2)) / (share * q.square()).sum((1, 2)).clamp_min(1e-9)
    off = p - size.clamp(1 / _SIZES, _SIZES)[:, None, None] * q
    return 100 * (share * off.square()).sum((1, 2)).sqrt()


def _off_points(terms: BodyTerms, params: BodyParams, known: CheckedEvidence) -> Float[Tensor, "B 2"] | None:
    """How far measured points are from the body's in the mean square, centimetres, and how many times as far apart they
    lie."""
    if known.points_m is None:
        return None
    there = torch.isfinite(known.points_m).all(2)
    there &= torch.tensor(terms.points3d.known, device=there.device)
    share = (there / there.sum(1, keepdim=True).clamp_min(1))[..., None]
    model = terms.model
    tree = pose_tree(model, params.betas, model.full_pose(params)[:, : model.body_joints])
    p = terms.points3d.place(tree, params.betas).positions + params.transl[:, None]
    q = torch.where(there[..., None], known.points_m, 0.0)
    off = 100 * (share * (p - q).square()).sum((1, 2)).sqrt()

    def extent(x: Tensor) -> Tensor:
        return (share * (x - (share * x).sum(1, keepdim=True)).square()).sum((1, 2)).sqrt()

    return torch.stack([off, extent(q) / extent(p).clamp_min(1e-6)], 1)
