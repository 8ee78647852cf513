"""SMPLify for a batch of people: from evidence to bodies in camera axes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.body.points.posed import Points
from bodyfit.body.pose_prior import load_pose_prior
from bodyfit.errors import OptionError
from bodyfit.fit.conditional import noise_cm, weighed_by_noise
from bodyfit.fit.config import FitConfig
from bodyfit.fit.depth.maps import DepthInput
from bodyfit.fit.depth.stage import DepthStage, DepthVerdict, with_verdicts
from bodyfit.fit.estimate import PoseEstimate
from bodyfit.fit.evidence import Array, CheckedEvidence, Evidence, check_evidence
from bodyfit.fit.hand_alone import fit_hands_alone, shows_a_hand
from bodyfit.fit.initialise.descent import Solved, begin, descend, from_components
from bodyfit.fit.initialise.left_right import SWAPS, Exchanged, exchanges, misfit
from bodyfit.fit.initialise.starts import Starts
from bodyfit.fit.objective import BodyTerms, StageObjective
from bodyfit.fit.observations import Observations
from bodyfit.fit.observe import Observer
from bodyfit.fit.outcome import Outcome
from bodyfit.fit.quality.status import Quality
from bodyfit.fit.quality.sufficient import FAR, LOST, Shortcomings, too_far
from bodyfit.fit.quality.uncertainty import Spread, spread
from bodyfit.fit.result import FitResult, FitTrace, statuses_of
from bodyfit.fit.silhouette.masks import MaskInput
from bodyfit.fit.silhouette.stage import SilhouetteStage
from bodyfit.fit.whole import WholeBody
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.runtime.parallel import loops_alone
from bodyfit.skeleton import correspondence

__all__ = ["Fitter", "fit", "fit_keypoints"]


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
    height_m: float | int | Array | None = None,
    mass_kg: float | int | Array | None = None,
    previous: BodyParams | None = None,
    config: FitConfig | None = None,
    device: torch.device | str | None = None,
) -> FitResult:
    """Fit bodies to 2D keypoints, and to 3D points if there are any, of B people (SMPLify, Bogo et al. 2016).

    xyc: (B, K, 3): x px, y px (pixel centres at +0.5) and confidence of each keypoint of `layout`; missing is
    confidence 0 or NaN. image_size: (width, height) px. focal_px, principal_point_px: one for all or one per person;
    default sqrt(w^2 + h^2) and the centre. cameras: instead of these, C calibrated cameras; xyc is then (B, C, K, 3).
    joints3d: (B, K, 3): 3D keypoints of a detector (lift), metres about any origin, camera axes, NaN where unknown.
    points3d: (B, P, 3): measured positions of the keypoints of `points3d_layout` (default `layout`), metres, in the
    result's axes, NaN where unknown; sufficient alone. betas: a known shape, (S,) or (B, S), which is not optimised.
    height_m, mass_kg: a known height, a known mass. previous: bodies of the previous frame; changes are penalised.

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
        mass_kg=mass_kg,
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
    """Fit bodies to the evidence of B people (SMPLify, Bogo et al. 2016).

    The result is in metres and in the axes of the camera (x right, y down, z forward), of several in those of the
    first; without any, in those of points3d. A person who cannot be fitted has a status that says so and NaN
    parameters; the others are not touched. Raises `ShapeError` and `OptionError`.
    """
    layout = evidence.layout or evidence.points3d_layout
    assert layout is not None
    fitter = Fitter(model=model, layout=layout, points3d_layout=evidence.points3d_layout, config=config, device=device)
    return fitter.fit(evidence)


class Fitter:
    """Fitter for one model, layout and configuration, reusable for many batches (`fit`, `fit_keypoints`)."""

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
        points = Points(self.model, correspondence(layout))
        prior = load_pose_prior(self.config.pose_prior).of_joints(self.model.body_joints)
        self.points3d_layout = layout if points3d_layout is None else points3d_layout
        other = None if self.points3d_layout == layout else Points(self.model, correspondence(self.points3d_layout))
        self.terms = BodyTerms(self.model, points, prior, other, blocks=self.config.blocks, backend=self.config.backend)
        self.variables = self.terms.layout
        self.joints = Points(self.model, [{name: 1.0} for name in self.model.skeleton.names[: self.model.body_joints]])
        self.observer = Observer(self.terms, layout, self.config)
        self.starts = Starts(self.terms, self.observer, layout)
        self.outcome = Outcome(self.terms, layout)
        self.quality = Quality(self.terms, layout, self.observer.trust, self.config)
        self.exchanges = exchanges(layout).to(self.model.device)
        observe = self.observer.observations, self._weighed, self.observer.partial.shows_trunk
        self._whole: dict[int, WholeBody] = {}
        self._silhouette: SilhouetteStage | None = None
        self._depth: DepthStage | None = None
        self.exchanged = Exchanged(self.terms, self.config, self.observer.trust, self.exchanges, *observe)

    def __call__(
        self,
        xyc: Array | None = None,
        *,
        image_size: tuple[int, int] | None = None,
        focal_px: float | Tensor | None = None,
        principal_point_px: tuple[float, float] | Tensor | None = None,
        cameras: Sequence[CalibratedCamera] | None = None,
        joints3d: Array | None = None,
        joints3d_scale: Array | None = None,
        points3d: Array | None = None,
        betas: Array | None = None,
        height_m: float | int | Array | None = None,
        mass_kg: float | int | Array | None = None,
        previous: BodyParams | None = None,
        estimate: PoseEstimate | None = None,
        hands: Array | None = None,
        hands_lift: Array | None = None,
        face: Array | None = None,
        masks: Sequence[MaskInput] | None = None,
        depth: Sequence[DepthInput] | None = None,
        more: Mapping[str, Array] | None = None,
        picture_px: Float[Tensor, "B 2"] | None = None,
    ) -> FitResult:
        """Fit people (`fit_keypoints`, `Evidence`).

        `picture_px`: width and height of each person's image, if they differ. Raises `ShapeError` and `OptionError`.
        """
        evidence = Evidence(
            keypoints=xyc,
            layout=self.layout,
            image_size=image_size,
            focal_px=focal_px,
            principal_point_px=principal_point_px,
            cameras=cameras,
            joints3d=joints3d,
            joints3d_scale=joints3d_scale,
            points3d=points3d,
            betas=betas,
            height_m=height_m,
            mass_kg=mass_kg,
            previous=previous,
            estimate=estimate,
            hands=hands,
            hands_lift=hands_lift,
            face=face,
            masks=masks,
            depth=depth,
            more=more or {},
        )
        return self.fit_checked(*self.checked(evidence), picture_px)

    def fit(self, evidence: Evidence) -> FitResult:
        """Fit the people of an evidence (`fit`).

        Raises `OptionError` for other layouts than the fitter's, and `ShapeError`.
        """
        return self.fit_checked(*self.checked(evidence))

    def checked(self, evidence: Evidence) -> tuple[CheckedEvidence, Bool[Tensor, "B N"], Bool[Tensor, "B N"]]:
        """Check evidence; return also which keypoints have a confidence and which of these have finite coordinates.

        Raises `ShapeError` and `OptionError`.
        """
        for name, own in (("layout", self.layout), ("points3d_layout", self.points3d_layout)):
            expected = getattr(evidence, name)
            if expected not in (None, own):
                raise OptionError(
                    f"the evidence has {name}={expected!r}, this Fitter was made for {own!r}; make another"
                )
        checked = check_evidence(evidence, self.model, self.layout, len(self.terms.points3d))
        if checked.parts is not None and not (self.config.hands and self.config.face):
            checked = replace(checked, parts=checked.parts.only(hands=self.config.hands, face=self.config.face))
        if self.config.silhouette.weight == 0:
            checked = replace(checked, masks=None)
        return checked, *self.observer.visible(checked)

    @torch.no_grad()
    def fit_checked(
        self,
        evidence: CheckedEvidence,
        claimed: Bool[Tensor, "B N"],
        present: Bool[Tensor, "B N"],
        picture_px: Float[Tensor, "B 2"] | None = None,
    ) -> FitResult:
        """Fit the results of `checked`; `picture_px`: width and height of each person's image, if they differ."""
        evidence, present = self.observer.partial.without_guesses(evidence, present)
        joints = self.observer.joints(evidence, present)
        lacking = self.observer.shortcomings(evidence, claimed, present, joints, picture_px)
        able = ~lacking.any()
        whole = None if evidence.parts is None else self.whole(evidence.parts.face_points)
        alone = torch.zeros_like(able) if whole is None else ~able & shows_a_hand(evidence, whole)
        variables = self.variables if whole is None else whole.layout
        schedule = (*self.config.stages, *(self.silhouette.stages if evidence.masks is not None else ()))
        schedule = schedule if whole is None else (*schedule, whole.stage)
        stages = [i for i, stage in enumerate(schedule) for _ in range(stage.lm.max_iterations + 1)]
        solved, far = Solved.nobody(evidence.xyc, variables.size, len(stages)), torch.zeros_like(able)
        parts, backend = [], ""
        notes: list[str | None] = [None] * len(able)
        notes = notes if evidence.masks is None else list(evidence.masks.notes)
        verdicts: list[DepthVerdict | None] = [None] * len(able)
        for rows in able.nonzero()[:, 0].split(self.config.batch_size):
            some, spread_out, backend, found, seen = self._solve(evidence.select(rows), present[rows], joints[rows])
            for row, note, verdict in zip(rows.tolist(), found, seen, strict=True):
                notes[row], verdicts[row] = note, verdict
            good = torch.isfinite(some.cost) & torch.isfinite(some.x).all(1)
            far[rows] = good & too_far(some.x[:, self.variables["transl"]])
            good &= ~far[rows]
            x, cost = torch.where(good[:, None], some.x, torch.nan), torch.where(far[rows], torch.nan, some.cost)
            solved = solved.replace_rows(rows, replace(some, x=x, cost=cost))
            if spread_out is not None:
                parts.append((rows[good], spread_out.select(good)))
        if whole is not None and bool(alone.any()):
            solved, hand_backend = self._hands_alone(solved, evidence, present, alone, whole)
            backend = backend or hand_backend
        placed = torch.isfinite(solved.x).all(1)
        lacking = Shortcomings({reason: mask & ~(alone & placed) for reason, mask in lacking.found.items()})
        lacking = Shortcomings({**lacking.found, FAR: far, LOST: able & ~placed & ~far})
        outcome = self.outcome if whole is None else whole.outcome
        points = outcome.points(solved.x)
        spread_over = len(self.joints if whole is None else whole.joints)
        result = outcome.result(
            solved.x,
            points,
            evidence,
            present,
            joints if whole is None or evidence.parts is None else whole.observed(joints, evidence.parts),
            solved.cost,
            solved.iterations,
            solved.flipped,
            statuses_of(placed, solved.converged, lacking),
            FitTrace(solved.trace, torch.tensor(stages, device=points.device)),
            Spread.of_parts(solved.x, spread_over, parts) if self.config.uncertainty else None,
        )
        swaps = tuple(None if i < 0 else SWAPS[i] for i in solved.swapped.tolist())
        result = replace(result, reason=lacking.reasons(), backend=backend, swapped=swaps, mask_notes=tuple(notes))
        if not self.config.quality:
            return result
        # Keypoints on depth say no more of a body than the depth itself does.
        known = replace(evidence, points_m=None) if evidence.points_of_depth else evidence
        judged = self.quality(result, points, *self.exchanged.as_fitted(known, present, solved.swapped))
        judged = with_verdicts(judged, verdicts)
        # What bodies are judged by, a hand alone does not have.
        rows = [result if one else judged for one in alone.tolist()]
        status, reason = (tuple(getattr(r, name)[i] for i, r in enumerate(rows)) for name in ("status", "reason"))
        return replace(judged, status=status, reason=reason)

    @loops_alone()
    def _solve(
        self, evidence: CheckedEvidence, present: Bool[Tensor, "B N"], joints: Bool[Tensor, "B J"]
    ) -> tuple[Solved, Spread | None, str, Sequence[str | None], Sequence[DepthVerdict | None]]:
        """Fit one batch, from the starts to the covariance.

        Returns the fits, their uncertainty, the backend of the last stage, why masks were not used, and how the fits
        agree with depth maps.
        """
        solved, observed, notes = self._placed(evidence, present, joints, swaps=self.config.swaps)
        verdicts: Sequence[DepthVerdict | None] = [None] * len(notes)
        if evidence.depth is not None:
            solved, observed, verdicts = self._on_depth(solved, observed, evidence, present, joints)
        joints_of, last = self.joints, StageObjective(self.terms, self.config.stages[-1], observed)
        if evidence.parts is not None:
            solved, last = self._with_parts(solved, evidence, last)
            joints_of = self.whole(evidence.parts.face_points).joints
        if evidence.previous is None and not (legs := self.observer.shows_legs(joints)).all():
            x, rows = self.observer.partial.at_rest(solved.x, (~legs).to(solved.x)), (~legs).nonzero()[:, 0]
            cost = solved.cost.index_copy(0, rows, last.select(rows).normal(x[rows]).cost)
            solved = replace(solved, x=x, cost=cost)
        spreads = spread(last, solved.x, joints_of, self.config) if self.config.uncertainty else None
        return solved, spreads, last.backend(solved.x), notes, verdicts

    def _placed(
        self,
        evidence: CheckedEvidence,
        present: Bool[Tensor, "B N"],
        joints: Bool[Tensor, "B J"],
        *,
        swaps: bool,
    ) -> tuple[Solved, Observations, Sequence[str | None]]:
        """Fit to keypoints and masks: the first stage from several starts, the others from the best; then other starts.

        Returns the fits, the observations that they were fitted to, and why masks were not used.
        """
        x, usable, observed = self.starts(evidence, self.observer.observations(evidence, present))
        first_stage = begin(self.terms, self.config.stages[0], x, usable, observed)
        half = descend(self.terms, self.config.stages[1:-1], first_stage, observed)
        observed = self._weighed(half, observed)
        solved = descend(self.terms, self.config.stages[1:][-1:], half, observed)
        if swaps and evidence.rig is None:
            solved, observed = self.exchanged(solved, first_stage, half.cost, evidence, present, observed)
        if self.config.components:
            least = self.config.doubtful_components * (1.0 if observed.expected_weight is None else 2.0)
            doubtful = misfit(solved.cost, observed.weight) > least
            who = (doubtful & (solved.swapped < 0)).nonzero()[:, 0]
            solved = from_components(self.terms, self.config.stages, solved, first_stage, half.cost, observed, who)
        notes: Sequence[str | None] = [None] * len(x)
        if evidence.masks is not None:
            solved, observed, notes = self.silhouette.refine(solved, observed, evidence.masks, joints)
        return solved, observed, notes

    def _weighed(self, solved: Solved, observed: Observations) -> Observations:
        """Return observations whose expectations weigh as much as the noise that fits leave in the keypoints."""
        if observed.expected_weight is None:
            return observed
        layout = self.variables
        tree = StageObjective(self.terms, self.config.stages[0], observed).tree(solved.x)
        points = self.terms.points.place(tree, solved.x[:, layout["betas"]]).positions
        return weighed_by_noise(observed, noise_cm(points + solved.x[:, None, layout["transl"]], observed))

    def _on_depth(
        self,
        solved: Solved,
        observed: Observations,
        evidence: CheckedEvidence,
        present: Bool[Tensor, "B N"],
        joints: Bool[Tensor, "B J"],
    ) -> tuple[Solved, Observations, list[DepthVerdict | None]]:
        """Go on to depth maps; who is explained badly is fitted again with all sides exchanged.

        A detector that takes a back for a front exchanges the sides of all keypoints.
        """
        assert evidence.depth is not None
        if evidence.points_of_depth:  # beside the depth itself they measure nothing
            observed = replace(observed, points_m=None, points_weight=None)
        solved, observed, verdicts = self.depth.refine(solved, observed, evidence.depth)
        doubtful = [i for i, verdict in enumerate(verdicts) if verdict is not None and verdict.is_doubtful]
        if not (self.config.swaps and doubtful):
            return solved, observed, verdicts
        rows, swap = torch.tensor(doubtful, device=solved.x.device), SWAPS.index("body")
        other, visible = self.exchanged.evidence(evidence.select(rows), present[rows], self.exchanges[swap])
        again, seen, _ = self._placed(other, visible, joints[rows], swaps=False)
        assert other.depth is not None
        if evidence.points_of_depth:
            seen = replace(seen, points_m=None, points_weight=None)
        again, seen, judged = self.depth.refine(again, seen, other.depth)
        better = [k for k, verdict in enumerate(judged) if verdict is not None and verdict.beats(verdicts[doubtful[k]])]
        for k in better:
            verdicts[doubtful[k]] = judged[k]
        some = torch.tensor(better, dtype=torch.int64, device=rows.device)
        again = replace(again, swapped=torch.full_like(again.swapped, swap)).select(some)
        return solved.replace_rows(rows[some], again), observed.replace_rows(rows[some], seen.select(some)), verdicts

    @property
    def depth(self) -> DepthStage:
        """The stage of people who have a depth map, which is made when there are some."""
        if self._depth is None:
            self._depth = DepthStage(self.terms, self.layout, self.observer.rest_pose)
        return self._depth

    @property
    def silhouette(self) -> SilhouetteStage:
        """The stage of people who have masks, which is made when there are some."""
        if self._silhouette is None:
            self._silhouette = SilhouetteStage.of(self.terms, self.config)
        return self._silhouette

    def _hands_alone(
        self,
        solved: Solved,
        evidence: CheckedEvidence,
        present: Bool[Tensor, "B N"],
        alone: Bool[Tensor, "B"],
        whole: WholeBody,
    ) -> tuple[Solved, str]:
        """Fit the hands of people of whom nothing else is visible; return all fits and the backend."""
        rows = alone.nonzero()[:, 0]
        some = evidence.select(rows)
        assert some.parts is not None
        resting = self.observer.rest_pose.expand(len(rows), -1)
        upright = resting.new_tensor([torch.pi, 0.0, 0.0]).expand(len(rows), -1)
        body = {"transl": torch.zeros_like(upright), "global_orient": upright, "body_pose": resting}
        body |= {} if some.betas is None else {"betas": some.betas}
        seen = self.observer.observations(some, present[rows])
        seen = whole.observations(seen, some.parts, seen.weight.new_full((len(rows), 1), 100.0))
        x, summary = fit_hands_alone(whole, whole.with_relaxed_hands(body), seen)
        none = Solved.nobody(some.xyc, x.shape[1], solved.trace.shape[1])
        found = replace(none, x=x, cost=summary.cost, converged=summary.converged, iterations=summary.iterations)
        return solved.replace_rows(rows, found), StageObjective(whole.terms, whole.stage, seen).backend(x)

    def whole(self, face_points: int = 0) -> WholeBody:
        """Return the fitter of hands and of a face of `face_points` points, which is made at the first call.

        Raises `OptionError` for a model without hands.
        """
        if face_points not in self._whole:
            self._whole[face_points] = WholeBody(self.terms, self.layout, self.config, face_points)
        return self._whole[face_points]

    def _with_parts(
        self, solved: Solved, evidence: CheckedEvidence, body: StageObjective
    ) -> tuple[Solved, StageObjective]:
        """Run one more stage with hands and face from the body's fit; return the fits and the stage's objective."""
        assert evidence.parts is not None
        at = body.tree(solved.x).joints[:, :1] + solved.x[:, None, self.variables["transl"]]
        depth = (at if evidence.rig is None else evidence.rig.points(at))[..., 2].clamp_min(0.3)
        whole = self.whole(evidence.parts.face_points)
        observed = whole.observations(body.seen, evidence.parts, 100 * depth)
        x, summary, last = whole.descend(whole.start(solved.x, self.variables, observed), observed)
        ended = replace(
            solved,
            x=x,
            cost=summary.cost,
            converged=summary.converged,
            iterations=solved.iterations + summary.iterations,
            trace=torch.cat([solved.trace, summary.trace], 1),
        )
        return ended, last
