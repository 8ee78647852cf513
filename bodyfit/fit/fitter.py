"""SMPLify for a batch of people: keypoints in, bodies in camera axes out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.body.points.posed import Points, pose_tree
from bodyfit.body.pose_prior import load_pose_prior
from bodyfit.errors import OptionError
from bodyfit.fit.config import FitConfig
from bodyfit.fit.evidence import Array, CheckedEvidence, Evidence, beyond_the_picture, in_the_picture
from bodyfit.fit.initialise.descent import Solved, begin, descend, from_components
from bodyfit.fit.initialise.left_right import SWAPS, Exchanged, exchanges, misfit
from bodyfit.fit.initialise.partial import PartialBody
from bodyfit.fit.initialise.placement import Placement, placed_on, starting_orientations, uphill
from bodyfit.fit.objective import BodyTerms, Observations, StageObjective
from bodyfit.fit.quality.observed_joints import ObservedJoints
from bodyfit.fit.quality.status import Quality
from bodyfit.fit.quality.sufficient import (
    BEYOND,
    FAR,
    IN_ONE_PLACE,
    INVALID,
    LOST,
    Shortcomings,
    beyond_the_edges,
    bodiless,
    in_one_place,
    odd_size,
    too_far,
)
from bodyfit.fit.quality.uncertainty import Spread, spread
from bodyfit.fit.residuals.reprojection import projected
from bodyfit.fit.result import FitResult, FitStatus, FitTrace, statuses_of
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.runtime.parallel import loops_alone
from bodyfit.skeleton import SMPL, correspondence, keypoint_trust, layout_names

__all__ = ["Fitter", "fit", "fit_keypoints"]

_RESULTS_AT_ONCE = 1024  # bodies measured together; those of an hour at once would take gigabytes

# How far a point says where the trunk is: limbs move, so they count little until the pose is free.
_TRUNK = ("hip", "shoulder", "neck", "pelvis", "spine", "thorax", "collar")
_HEAD = ("nose", "eye", "ear", "mouth", "head", "chin")


def fit_keypoints(
    xyc: Array | None = None,
    *,
    layout: str | None = None,
    image_size: tuple[int, int] | None = None,
    model: BodyModel | None = None,
    focal_px: float | Float[Tensor, "B"] | None = None,
    principal_point_px: tuple[float, float] | Float[Tensor, "B 2"] | None = None,
    cameras: Sequence[CalibratedCamera] | None = None,
    joints3d: Array | None = None,
    points3d: Array | None = None,
    points3d_layout: str | None = None,
    betas: Array | None = None,
    height_m: float | Array | None = None,
    previous: BodyParams | None = None,
    config: FitConfig | None = None,
    device: torch.device | str | None = None,
) -> FitResult:
    """Bodies that explain all that is known of them (SMPLify, Bogo et al. 2016), any number of people at once.

    xyc: (B, K, 3): x px, y px (pixel centres at +0.5) and confidence of each keypoint of `layout`; missing is
    confidence 0 or NaN. image_size: (width, height) px. focal_px, principal_point_px: one for all or one a person;
    default sqrt(w^2 + h^2) and the centre. cameras: instead of these, C calibrated cameras; xyc is then (B, C, K, 3).
    joints3d: (B, K, 3) metres about any origin, camera axes, NaN where unknown: a detector's lift, a soft term.
    points3d: (B, P, 3) metres in the result's axes, NaN where unknown: measured places of the keypoints of
    `points3d_layout` (default `layout`), enough by themselves. betas: a known shape, (S,) or (B, S), which is kept.
    height_m: a known stature. previous: the bodies a moment ago, from which poses do not jump.

    The result is in metres and in the axes of the camera (x right, y down, z forward), of several in those of the
    first; without any, in those of points3d. A person who cannot be fitted has a status that says so and NaN
    parameters; the others are not touched. Raises `ShapeError` and `OptionError`.
    """
    evidence = Evidence(
        keypoints=xyc,
        layout=layout,
        image_size=image_size,
        focal_px=focal_px,
        principal_point_px=principal_point_px,
        cameras=cameras,
        joints3d=joints3d,
        points3d=points3d,
        points3d_layout=points3d_layout,
        betas=betas,
        height_m=height_m,
        previous=previous,
    )
    return fit(evidence, model=model, config=config, device=device)


def fit(
    evidence: Evidence,
    *,
    model: BodyModel | None = None,
    config: FitConfig | None = None,
    device: torch.device | str | None = None,
) -> FitResult:
    """Bodies that explain all that is known of them (SMPLify, Bogo et al. 2016), any number of people at once.

    The result is in metres and in the axes of the camera (x right, y down, z forward), of several in those of the
    first; without any, in those of points3d. A person who cannot be fitted has a status that says so and NaN
    parameters; the others are not touched. Raises `ShapeError` and `OptionError`.
    """
    layout = evidence.layout or evidence.points3d_layout
    assert layout is not None
    fitter = Fitter(model=model, layout=layout, points3d_layout=evidence.points3d_layout, config=config, device=device)
    return fitter.fit(evidence)


class Fitter:
    """`fit_keypoints` for one model, layout and configuration, with what does not change made once."""

    def __init__(
        self,
        *,
        layout: str,
        points3d_layout: str | None = None,
        model: BodyModel | None = None,
        config: FitConfig | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if model is None:
            model = load_model(device=device or "cpu")
        elif device is not None and torch.device(device) != model.device:
            model = copy.deepcopy(model).to(device)  # the caller's own stays where it is
        self.model = model
        self.layout = layout
        self.config = FitConfig() if config is None else config
        names = layout_names(layout)
        points = Points(self.model, correspondence(layout))
        prior = load_pose_prior(self.config.pose_prior).of_joints(self.model.body_joints)
        self.points3d_layout = layout if points3d_layout is None else points3d_layout
        other = None if self.points3d_layout == layout else Points(self.model, correspondence(self.points3d_layout))
        self.terms = BodyTerms(self.model, points, prior, other, blocks=self.config.blocks, backend=self.config.backend)
        self.variables = self.terms.layout
        self.joints = Points(self.model, [{name: 1.0} for name in self.model.skeleton.names[: self.model.body_joints]])
        self.partial = PartialBody(points, names, self._tensor(prior.mean), self.variables)
        self.observed = ObservedJoints(points)
        self.observed3d = self.observed if other is None else ObservedJoints(other)
        self.trust = self._tensor([t * k for t, k in zip(keypoint_trust(layout), points.known, strict=True)])
        self.trunk = self._tensor(
            [1.0 if any(p in n for p in _TRUNK) else 0.4 if any(p in n for p in _HEAD) else 0.15 for n in names]
        )
        self.quality = Quality(self.terms, layout, self.trust, self.config)
        self.rest_pose = self._tensor(prior.mean)
        self.exchanges = exchanges(layout).to(self.model.device)
        observe = self.observations, self.partial.shows_trunk
        self.exchanged = Exchanged(self.terms, self.config, self.trust, self.exchanges, *observe)

    def _tensor(self, value) -> Tensor:
        return torch.as_tensor(value, dtype=self.model.dtype, device=self.model.device)

    def fit(self, evidence: Evidence) -> FitResult:
        """See `fit`; raises `OptionError` for evidence in other layouts than the fitter's."""
        return self.fit_checked(*self.checked(evidence))

    def checked(self, evidence: Evidence) -> tuple[CheckedEvidence, Bool[Tensor, "B N"], Bool[Tensor, "B N"]]:
        """What is known, checked; which keypoints are said to be seen, and which of them have a place."""
        for name, own in (("layout", self.layout), ("points3d_layout", self.points3d_layout)):
            given = getattr(evidence, name)
            if given not in (None, own):
                raise OptionError(f"the evidence has {name}={given!r}, this Fitter was made for {own!r}; make another")
        return self.evidence(
            evidence.keypoints,
            image_size=evidence.image_size,
            focal_px=evidence.focal_px,
            principal_point_px=evidence.principal_point_px,
            cameras=evidence.cameras,
            joints3d=evidence.joints3d,
            points3d=evidence.points3d,
            betas=evidence.betas,
            height_m=evidence.height_m,
            previous=evidence.previous,
            more=evidence.more,
        )

    def __call__(
        self,
        xyc: Array | None = None,
        *,
        image_size: tuple[int, int] | None = None,
        focal_px: float | Tensor | None = None,
        principal_point_px: tuple[float, float] | Tensor | None = None,
        cameras: Sequence[CalibratedCamera] | None = None,
        joints3d: Array | None = None,
        points3d: Array | None = None,
        betas: Array | None = None,
        height_m: float | Array | None = None,
        previous: BodyParams | None = None,
        more: Mapping[str, Array] | None = None,
        picture_px: Float[Tensor, "B 2"] | None = None,
    ) -> FitResult:
        """See `fit_keypoints`; `picture_px` is the width and height of each person's picture where they differ."""
        known, said, present = self.evidence(
            xyc,
            image_size=image_size,
            focal_px=focal_px,
            principal_point_px=principal_point_px,
            cameras=cameras,
            joints3d=joints3d,
            points3d=points3d,
            betas=betas,
            height_m=height_m,
            previous=previous,
            more=more,
        )
        return self.fit_checked(known, said, present, picture_px)

    @torch.no_grad()
    def fit_checked(
        self,
        known: CheckedEvidence,
        said: Bool[Tensor, "B N"],
        present: Bool[Tensor, "B N"],
        picture_px: Float[Tensor, "B 2"] | None = None,
    ) -> FitResult:
        """The fit of what `evidence` gives."""
        batch = len(known)
        known, present = self.partial.without_guesses(known, present)
        lacking = self.shortcomings(known, said, present, picture_px)
        fit = ~lacking.any()
        x = known.xyc.new_full((batch, self.variables.size), torch.nan)
        cost, iterations = x.new_full((len(x),), torch.nan), torch.zeros(len(x), dtype=torch.int64, device=x.device)
        converged, flipped, far = (torch.zeros_like(fit) for _ in range(3))
        swapped = torch.full_like(iterations, -1)
        columns = [
            stage for stage, config in enumerate(self.config.stages) for _ in range(config.lm.max_iterations + 1)
        ]
        costs, parts, backend = x.new_full((len(x), len(columns)), torch.nan), [], ""
        for rows in fit.nonzero()[:, 0].split(self.config.batch_size):
            solved, spread_out, backend = self._solve(known.select(rows), present[rows])
            good = torch.isfinite(solved.cost) & torch.isfinite(solved.x).all(1)
            far[rows] = good & too_far(solved.x[:, self.variables["transl"]])
            good &= ~far[rows]
            x[rows] = torch.where(good[:, None], solved.x, torch.nan)
            cost[rows], iterations[rows] = torch.where(far[rows], torch.nan, solved.cost), solved.iterations
            converged[rows], flipped[rows], swapped[rows] = solved.converged, solved.flipped, solved.swapped
            costs[rows] = solved.trace
            if spread_out is not None:
                parts.append((rows[good], spread_out.select(good)))
        placed = torch.isfinite(x).all(1)
        lacking = Shortcomings({**lacking.found, FAR: far, LOST: fit & ~placed & ~far})
        statuses = statuses_of(placed, converged, lacking)
        trace = FitTrace(costs, torch.tensor(columns, device=x.device))
        spreads = Spread.of_parts(x, self.model.body_joints, parts) if self.config.uncertainty else None
        points = self.points(x)
        result = self.result(x, points, known, present, cost, iterations, flipped, statuses, trace, spreads)
        swaps = tuple(None if i < 0 else SWAPS[i] for i in swapped.tolist())
        result = replace(result, reason=lacking.reasons(), backend=backend, swapped=swaps)
        return self.quality(result, points, known, present) if self.config.quality else result

    def evidence(
        self,
        xyc: Array | None = None,
        *,
        image_size: tuple[int, int] | None = None,
        focal_px: float | Tensor | None = None,
        principal_point_px: tuple[float, float] | Tensor | None = None,
        cameras: Sequence[CalibratedCamera] | None = None,
        joints3d: Array | None = None,
        points3d: Array | None = None,
        betas: Array | None = None,
        height_m: float | Array | None = None,
        previous: BodyParams | None = None,
        more: Mapping[str, Array] | None = None,
    ) -> tuple[CheckedEvidence, Bool[Tensor, "B N"], Bool[Tensor, "B N"]]:
        """What is known, checked; which keypoints are said to be seen, and which of them have a place."""
        if xyc is None and points3d is None:
            raise OptionError("nothing to fit to: give keypoints (xyc), measured 3D points (points3d), or both")
        batch = len(xyc) if xyc is not None else len(points3d) if points3d is not None else 0
        known = in_the_picture(self.model, self.layout, xyc, batch, image_size, focal_px, principal_point_px, cameras)
        known = beyond_the_picture(
            self.model,
            known,
            len(self.trust),
            len(self.terms.points3d),
            joints3d,
            points3d,
            betas,
            height_m,
            previous,
            more,
        )
        return known, *self.visible(known)

    def visible(self, known: CheckedEvidence) -> tuple[Bool[Tensor, "B N"], Bool[Tensor, "B N"]]:
        """Which keypoints are said to be seen, and which of them have a place. Raises `OptionError` for confidences
        that are none."""
        confidence = known.xyc[..., 2]
        if bool((torch.isfinite(confidence) & ((confidence > 1.5) | (confidence < 0))).any()):
            raise OptionError("confidences must lie in [0, 1]; scale the third column of xyc")
        trust = self.trust.repeat(confidence.shape[1] // len(self.trust))
        said = (confidence >= self.config.min_confidence) & (trust > 0)
        return said, said & torch.isfinite(known.xyc).all(2)

    def shortcomings(
        self,
        known: CheckedEvidence,
        said: Bool[Tensor, "B N"],
        present: Bool[Tensor, "B N"],
        picture_px: Float[Tensor, "B 2"] | None = None,
    ) -> Shortcomings:
        """Why people cannot be placed: what is wrong with keypoints and measured points, then who shows too little in
        every picture, unless the body a moment ago is known to go on from."""
        least, views = self.config.min_keypoints, present.unflatten(1, (-1, len(self.trust)))
        claimed, shown = (seen.unflatten(1, (-1, len(self.trust))).sum(2).amax(1) for seen in (said, present))
        collapsed = in_one_place(known.xyc[..., :2].unflatten(1, (-1, len(self.trust))), views)
        outside, limb = torch.zeros_like(collapsed), bodiless(self._observed(known, present))
        if known.rig is None:
            sizes = known.xyc.new_tensor([known.camera.image_size]) if picture_px is None else picture_px.to(known.xyc)
            outside = beyond_the_edges(known.xyc, present, sizes)
        enough, odd, spot = shown >= least, torch.zeros_like(collapsed), torch.zeros_like(collapsed)
        if known.points_m is not None:
            measured = self._measured(known.points_m)
            several = measured.sum(1) >= least
            odd = several & odd_size(known.points_m, measured, self.mean_points3d)
            spot = several & in_one_place(known.points_m, measured, metres=True)
            enough, collapsed, outside = enough | several, collapsed & ~several, outside & ~several
        if known.previous is not None:
            before = torch.isfinite(self.variables.pack(known.previous)).all(1)
            enough, limb = enough | (present.any(1) & before), limb & ~before
        few = f"fewer than {least} keypoints are visible"
        return Shortcomings(
            {
                INVALID: ~enough & (claimed >= least),
                few: ~enough,
                IN_ONE_PLACE: collapsed,
                BEYOND: outside,
                "all measured points lie in one place": spot,
                "the measured points are spread far less or more than a body's; they must be metres": odd & ~spot,
                "only the outer part of a limb is visible": limb,
            }
        )

    def _measured(self, points_m: Float[Tensor, "B P 3"]) -> Bool[Tensor, "B P"]:
        """Which measured points have a place and are points of the body."""
        return torch.isfinite(points_m).all(2) & torch.tensor(self.terms.points3d.known, device=points_m.device)

    def _observed(self, known: CheckedEvidence, present: Bool[Tensor, "B N"]) -> Bool[Tensor, "B J"]:
        """Which joints keypoints or measured points bear on."""
        observed = self.observed(present.unflatten(1, (-1, len(self.trust))).any(1))
        return observed if known.points_m is None else observed | self.observed3d(self._measured(known.points_m))

    @cached_property
    def mean_points3d(self) -> Float[Tensor, "1 P 3"]:
        """The points of `points3d_layout` on the mean body at rest."""
        zero = self.trust.new_zeros(1, self.model.num_betas)
        rest = torch.cat([zero.new_zeros(1, 3), self.rest_pose[None]], 1).unflatten(1, (-1, 3))
        return self.terms.points3d.place(pose_tree(self.model, zero, rest), zero).positions

    def observations(self, known: CheckedEvidence, present: Bool[Tensor, "B N"]) -> Observations:
        """Evidence as the objective wants it, what is missing zeroed; the depth is not known yet."""
        trust = self.trust.repeat(present.shape[1] // len(self.trust))
        target = torch.where(present[..., None], known.target, 0.0)
        confidence = torch.nan_to_num(known.xyc[..., 2], nan=0.0)
        weight = torch.where(present, confidence.clamp(max=1), 0.0) * trust
        seen = Observations(
            target,
            weight,
            weight.new_ones(len(weight)),
            rig=known.rig,
            height_m=known.height_m,
            held=() if known.betas is None else ("betas",),
            more=known.more,
        )
        if known.lift_m is not None:
            lifted = torch.isfinite(known.lift_m).all(2) & (self.trust > 0)
            # A point outside the picture has a place in the lift all the same, only less sure.
            sure = confidence.unflatten(1, (-1, len(self.trust))).amax(1).clamp(0.1, 1)
            lift = torch.where(lifted[..., None], known.lift_m, 0.0)
            seen = replace(seen, lift_m=lift, lift_weight=lifted * self.trust * sure)
        if known.points_m is not None:
            measured = self._measured(known.points_m)
            points = torch.where(measured[..., None], known.points_m, 0.0)
            seen = replace(seen, points_m=points, points_weight=measured.to(points.dtype))
        if known.previous is not None:
            pose = known.previous.body_pose
            seen = replace(seen, previous_pose=torch.where(torch.isfinite(pose), pose, self.rest_pose))
        return self.partial.weighed(seen) if known.rig is None and known.points_m is None else seen

    @loops_alone()
    def _solve(self, known: CheckedEvidence, present: Bool[Tensor, "B N"]) -> tuple[Solved, Spread | None, str]:
        """One batch: the first stage from several starts, the other stages from the best; then sides exchanged. And
        what the last stage's normal equations were made by."""
        x, usable, seen = self._starts(known, self.observations(known, present))
        begun = begin(self.terms, self.config.stages[0], x, usable, seen)
        half = descend(self.terms, self.config.stages[1:-1], begun, seen)
        solved = descend(self.terms, self.config.stages[1:][-1:], half, seen)
        if self.config.swaps and known.rig is None:
            solved, seen = self.exchanged(solved, begun, half.cost, known, present, seen)
        if self.config.components:
            doubtful = misfit(solved.cost, seen.weight) > self.config.doubtful_components
            who = (doubtful & (solved.swapped < 0)).nonzero()[:, 0]
            solved = from_components(self.terms, self.config.stages, solved, begun, half.cost, seen, who)
        last = StageObjective(self.terms, self.config.stages[-1], seen)
        if known.previous is None and not (legs := self.shows_legs(known, present)).all():
            x, rows = self.partial.at_rest(solved.x, legs), (~legs).nonzero()[:, 0]
            cost = solved.cost.index_copy(0, rows, last.select(rows).normal(x[rows]).cost)
            solved = replace(solved, x=x, cost=cost)
        spreads = spread(last, solved.x, self.joints, self.config) if self.config.uncertainty else None
        return solved, spreads, last.backend(solved.x)

    def _starts(
        self, known: CheckedEvidence, seen: Observations
    ) -> tuple[Float[Tensor, "B H D"], Bool[Tensor, "B H"], Observations]:
        """Starts, which of them can be used, and the observations with their scale at the first usable one's depth."""
        batch, zero = len(known), self.trust.new_zeros(1, self.model.num_betas)
        betas = known.betas if known.betas is not None else zero
        if known.height_m is not None:
            betas = self.terms.height.betas_for(known.height_m)
        rest = torch.cat([zero.new_zeros(1, 3), self.rest_pose[None]], 1).unflatten(1, (-1, 3))
        tree = pose_tree(self.model, betas, rest.expand(len(betas), -1, -1))
        root = tree.joints[:, 0]
        places = self._placements(known, seen, self.terms.points.place(tree, betas).positions - root[:, None])
        if seen.points_m is not None and seen.points_weight is not None:
            points = self.terms.points3d.place(tree, betas).positions - root[:, None]
            places.append(placed_on(points.expand(batch, -1, -1), seen.points_m, seen.points_weight))
        starts = [
            self.variables.pack(
                {
                    "betas": betas.expand(batch, -1),
                    "body_pose": self.rest_pose.expand(batch, -1),
                    "global_orient": roma.rotmat_to_rotvec(place.R),
                    "transl": place.t - root,
                }
            )
            for place in places
        ]
        usable = [place.usable for place in places]
        if known.rig is None and seen.points_m is None:
            points = self.terms.points.place(tree, betas).positions - root[:, None]
            if (heads := self.partial.starts(seen, betas, root, self._up(seen, points))) is not None:
                starts.insert(0, heads[0])  # residuals are scaled by the depth of the first that can be used
                usable.insert(0, heads[1])
        if known.previous is not None:
            before = self.variables.pack(known.previous)
            if known.betas is not None:
                before = self.variables.put(before, betas=known.betas)
            starts.append(before)
            usable.append(torch.isfinite(before).all(1))
        x, can = torch.stack(starts, 1), torch.stack(usable, 1)
        can &= torch.isfinite(x).all(2)
        x = torch.where(can[..., None], x, 0.0)
        first = x[torch.arange(batch, device=x.device), can.to(torch.int8).argmax(1)]
        at = (first[:, self.variables["transl"]] + root)[:, None]
        depth = (at if known.rig is None else known.rig.points(at))[..., 2]  # (B, C)
        return x, can, replace(seen, scale_cm=self.scale_cm(depth, known))

    def shows_legs(self, known: CheckedEvidence, present: Bool[Tensor, "B N"]) -> Bool[Tensor, "B"]:
        """On whose legs keypoints or measured points bear."""
        legs = [i for i, name in enumerate(SMPL.names[: self.model.body_joints]) if "knee" in name or "ankle" in name]
        return self._observed(known, present)[:, legs].any(1)

    def scale_cm(self, depth_m: Float[Tensor, "B C"], known: CheckedEvidence) -> Float[Tensor, "B *N"]:
        """Centimetres at people of such distances for one unit of normalised coordinates, less where a pixel's noise is
        worth more."""
        depth_cm = 100 * depth_m.clamp_min(0.3).repeat_interleave(len(self.trust), 1)
        pixel_noise = self.config.noise_px * depth_cm / known.focal_px / self.config.noise_cm
        scale = depth_cm / (1 + pixel_noise.square()).sqrt()
        return scale if known.rig is not None else scale[:, 0]

    def _placements(
        self, known: CheckedEvidence, seen: Observations, points: Float[Tensor, "B K 3"]
    ) -> list[Placement]:
        """Where the pictures say that the body stands, turned how; the body's points are about its root."""
        per_view = seen.weight.unflatten(1, (-1, len(self.trust)))
        shown = (per_view > 0).sum(2) >= self.config.min_keypoints  # (B, C)
        weight = per_view * self.trunk
        target = seen.target.unflatten(1, (-1, len(self.trust)))
        rig = known.rig
        if rig is None:
            lift_weight = None if seen.lift_weight is None else seen.lift_weight * self.trunk
            lift = {"lift_m": seen.lift_m, "lift_weight": lift_weight, "keep": self.config.hypotheses}
            found = starting_orientations(points, target[:, 0], weight[:, 0], self._up(seen, points), **lift)
            return [Placement(found.R[:, h], found.t[:, h], shown[:, 0]) for h in range(found.R.shape[1])]
        where, met = rig.triangulated(seen.target, seen.weight)
        places = [placed_on(points.expand(len(where), -1, -1), where, met * self.trust * self.trunk.sqrt())]
        for c in range(len(rig.R)):
            view = replace(seen, target=target[:, c], weight=per_view[:, c])
            found = starting_orientations(points, target[:, c], weight[:, c], self._up(view, points), keep=1)
            R_back = rig.R[c].T
            t = (found.t[:, 0] - rig.t[c]) @ rig.R[c]
            places.append(Placement(R_back @ found.R[:, 0], t, shown[:, c]))
        return places

    def _up(self, seen: Observations, points: Float[Tensor, "#B K 3"]) -> Float[Tensor, "B 2"]:
        """From the hips to the shoulders in the picture; where either is unseen, to where points lie that are higher in
        the mean pose (`points`, y up): from shoulders to head, from feet to hips."""
        names = layout_names(self.layout)
        middles = []
        for part in ("hip", "shoulder"):
            rows = [i for i, n in enumerate(names) if n.endswith(f"_{part}") and n != "mid_hip"]
            w = (seen.weight[:, rows] > 0.2 * self.trust[rows]).to(seen.weight.dtype) if rows else seen.weight[:, :0]
            total = w.sum(1, keepdim=True)
            middles.append(((w[..., None] * seen.target[:, rows]).sum(1) / total.clamp_min(1e-6), total[:, 0] > 0))
        (hip, has_hip), (shoulder, has_shoulder) = middles
        up = shoulder - hip
        known = has_hip & has_shoulder & (up.norm(dim=1) > 1e-4)
        return torch.where(known[:, None], up, uphill(points[..., 1], seen.target, seen.weight * self.trunk))

    def points(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K 3"]:
        """The body's keypoints at the solver's variables, metres, in the axes of the first camera."""
        return torch.cat([self._points(self.model.params(**self.variables.params(some))) for some in _parts(x)])

    def result(
        self,
        x: Tensor,
        points: Float[Tensor, "B K 3"],
        known: CheckedEvidence,
        present: Tensor,
        cost: Tensor,
        iterations: Tensor,
        flipped: Tensor,
        statuses: tuple[FitStatus, ...],
        trace: FitTrace | None = None,
        spreads: Spread | None = None,
    ) -> FitResult:
        """Names and errors for the solver's variables and the body's `points` there."""
        params = self.model.params(**self.variables.params(x))
        rows = _parts(torch.arange(len(x), device=x.device))
        off = [self._off_px(points[r], known.select(r), present[r]) for r in rows]
        joints = [self.model.joints(params.select(r)) for r in rows]
        ok = torch.isfinite(x).all(1)
        return FitResult(
            params=params,
            camera=known.camera,
            joints=torch.cat(joints),
            status=statuses,
            objective=cost,
            reprojection_error_px=torch.where(ok, torch.cat(off), torch.nan),
            layout=self.layout,
            keypoints=known.xyc if known.rig is None else known.xyc.unflatten(1, (len(known.rig.R), -1)),
            model_name=self.model.name,
            gender=self.model.gender,
            iterations=iterations,
            flipped=flipped,
            trace=trace,
            variables=self.variables,
            others=self.variables.others(x),
            covariance=None if spreads is None else spreads.covariance,
            joints_sd_m=None if spreads is None else spreads.joints_sd_m,
            joints_sd_rel_m=None if spreads is None else spreads.joints_sd_rel_m,
            observed_joints=self._observed(known, present),
        )

    def _points(self, params: BodyParams) -> Float[Tensor, "B K 3"]:
        tree = pose_tree(self.model, params.betas, self.model.full_pose(params)[:, : self.model.body_joints])
        return self.terms.points.place(tree, params.betas).positions + params.transl[:, None]

    def _off_px(self, points: Float[Tensor, "B K 3"], known: CheckedEvidence, present: Tensor) -> Float[Tensor, "B"]:
        """How far confident keypoints are from the body's, in the mean."""
        points = points if known.rig is None else known.rig.points(points)
        off = projected(points)[0] - known.target
        distance = known.focal_px * off.norm(dim=2)
        sure = present & (known.xyc[..., 2] >= 0.5)
        return torch.where(sure, distance, 0.0).sum(1) / sure.sum(1)  # 0 / 0 = NaN where there is none


def _parts(rows: Tensor) -> tuple[Tensor, ...]:
    """The rows, as many at a time as are measured together."""
    return rows.split(_RESULTS_AT_ONCE)
