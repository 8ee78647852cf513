"""Fits of clips: all frames of a person in one optimisation, with one shape and a smooth motion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError
from bodyfit.fit.config import FitConfig, SequenceConfig
from bodyfit.fit.depth.stage import DepthVerdict, with_verdicts
from bodyfit.fit.estimate import PoseEstimate
from bodyfit.fit.evidence import CheckedEvidence, Evidence
from bodyfit.fit.fitter import Array, Fitter
from bodyfit.fit.observations import Observations
from bodyfit.fit.parts import PartEvidence
from bodyfit.fit.quality.sufficient import BEYOND, IN_ONE_PLACE, NOTHING, Shortcomings
from bodyfit.fit.quality.uncertainty import Spread
from bodyfit.fit.result import FitResult, FitStatus, statuses_of
from bodyfit.fit.sequence.continuity import agreeing, between, unwrapped
from bodyfit.fit.sequence.focal import Focal
from bodyfit.fit.sequence.left_right import EXCHANGED, orders_of, reordered, steady_sides
from bodyfit.fit.sequence.legs import resting_share, steadily_visible
from bodyfit.fit.sequence.part_uncertainty import with_body
from bodyfit.fit.sequence.parts import PartTrack
from bodyfit.fit.sequence.uncertainty import track_spread
from bodyfit.fit.sequence.window import Window
from bodyfit.fit.silhouette.masks import MaskInput
from bodyfit.fit.whole import WholeBody
from bodyfit.geometry.camera import default_focal_px
from bodyfit.runtime.parallel import loops_alone
from bodyfit.solve import ChainSummary

__all__ = ["SequenceFitter", "fit_sequence"]


def fit_sequence(
    xyc: Array | Evidence,
    *,
    fps: float,
    layout: str | None = None,
    image_size: tuple[int, int] | None = None,
    focal_px: float | None = None,
    principal_point_px: tuple[float, float] | None = None,
    joints3d: Array | None = None,
    hands: Array | None = None,
    hands_lift: Array | None = None,
    face: Array | None = None,
    model: BodyModel | None = None,
    config: FitConfig | None = None,
    sequence: SequenceConfig | None = None,
    device: torch.device | str | None = None,
) -> FitResult:
    """Fit one person's body in a clip of stationary cameras: one shape, a smooth motion, one result per frame.

    Takes an `Evidence` whose rows are frames, of one or several cameras, with optional measured points, shape or
    height; or, for one camera, its fields.

    xyc: (T, K, 3): x px, y px and confidence of each keypoint of `layout` in each frame; missing is confidence 0 or
    NaN, and a frame may have none. fps: frames per second. Other arguments are those of `fit_keypoints`, for one
    camera of all frames. Without a focal length, it is estimated from the track if `sequence.focal_frames` is not 0
    (`fit/sequence/focal.py`).

    The result has batch T, in camera axes (OpenCV) and metres; betas are the same in all rows. A frame without
    keypoints is interpolated by the motion (status "filled"); before the first and after the last observed frame the
    status is "unobservable" and parameters are NaN.

    hands (T, 2, 21, 3), hands_lift (T, 2, 21, 3), face (T, F, 3): as in `Evidence`; fingers, jaw, eyes and expression
    are then fitted to the body's track (`fit/sequence/parts.py`), whose joints and their deviations stay as they are;
    deviations and the covariance of hands and face are given the body (`fit/sequence/part_uncertainty.py`). A part is
    carried through gaps of half a second and is at rest half a second after it was last visible.

    Raises `ShapeError` and `OptionError`.
    """
    own = {
        "layout": layout,
        "image_size": image_size,
        "focal_px": focal_px,
        "principal_point_px": principal_point_px,
        "joints3d": joints3d,
        "hands": hands,
        "hands_lift": hands_lift,
        "face": face,
    }
    if isinstance(xyc, Evidence):
        twice = [name for name, value in own.items() if value is not None]
        if twice:
            raise OptionError(f"{', '.join(twice)} must be given in the Evidence, not beside it")
        evidence = xyc
    else:
        evidence = Evidence(keypoints=xyc, **own)
    settings = {"model": model, "config": config, "sequence": sequence, "device": device}
    layout = evidence.layout or evidence.points3d_layout
    assert layout is not None
    return SequenceFitter(layout=layout, points3d_layout=evidence.points3d_layout, **settings).fit(evidence, fps=fps)


class SequenceFitter:
    """Fitter of clips for one model, layout and configuration, reusable for many tracks (`fit_sequence`)."""

    def __init__(
        self,
        *,
        layout: str,
        points3d_layout: str | None = None,
        model: BodyModel | None = None,
        config: FitConfig | None = None,
        sequence: SequenceConfig | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        config = FitConfig() if config is None else config
        self.sequence = SequenceConfig() if sequence is None else sequence
        last = replace(config.stages[-1], lm=self.sequence.keyframe_lm)
        # What single frames are tried for in vain, the other frames tell.
        less = {"uncertainty": False, "quality": False, "swaps": False, "components": False}
        alone = replace(config, stages=(*config.stages[:-1], last), **less)
        self.frames = Fitter(layout=layout, points3d_layout=points3d_layout, model=model, config=alone, device=device)
        self.config, self.model = config, self.frames.model
        self._wholes: dict[int, WholeBody] = {}

    def __call__(
        self,
        xyc: Array,
        *,
        image_size: tuple[int, int],
        fps: float,
        focal_px: float | None = None,
        principal_point_px: tuple[float, float] | None = None,
        joints3d: Array | None = None,
        hands: Array | None = None,
        hands_lift: Array | None = None,
        face: Array | None = None,
        masks: Sequence[MaskInput] | None = None,
        estimate: PoseEstimate | None = None,
    ) -> FitResult:
        """Fit a clip (`fit_sequence`)."""
        evidence = Evidence(
            keypoints=xyc,
            layout=self.frames.layout,
            image_size=image_size,
            focal_px=focal_px,
            principal_point_px=principal_point_px,
            joints3d=joints3d,
            hands=hands,
            hands_lift=hands_lift,
            face=face,
            masks=masks,
            estimate=estimate,
        )
        return self.fit(evidence, fps=fps)

    @loops_alone()
    @torch.no_grad()
    def fit(self, evidence: Evidence, *, fps: float) -> FitResult:
        """Fit a clip whose frames are the rows of the evidence (`fit_sequence`).

        Raises `ShapeError` and `OptionError`.
        """
        if not (math.isfinite(fps) and fps > 0):
            raise OptionError(f"fps must be the frames a second, a positive number, got {fps}")
        if evidence.previous is not None:
            raise OptionError("previous is for single frames; in a clip each frame goes on from the one before")
        focal_px, xyc, size = evidence.focal_px, evidence.keypoints, evidence.image_size
        estimate_focal = focal_px is None and self.sequence.focal_frames > 0 and evidence.cameras is None
        if estimate_focal and xyc is not None and size is not None:
            guess = Focal(default_focal_px(size), self.focal_precision(xyc))
            point = evidence.principal_point_px
            assert not isinstance(point, Tensor)
            more = {"principal_point_px": point, "joints3d": evidence.joints3d}
            focal_px = self.focal(xyc, image_size=size, fps=fps, believed=guess, **more).px
        known, claimed, present = self.frames.checked(replace(evidence, focal_px=focal_px))
        parts, known = known.parts, replace(known, parts=None)
        if parts is not None:
            self._whole(parts.face_points)  # raises for a model without these parts before the slow part
        if known.betas is not None and bool((known.betas != known.betas[:1]).any()):
            raise OptionError("betas must be the same in all frames: a person has one shape")
        observer = self.frames.observer
        lacking = observer.shortcomings(known, claimed, present, observer.joints(known, present))
        # What lies in one place or beyond the picture tells of nobody; too little by itself may be enough in a clip.
        present = present & ~(lacking.found[IN_ONE_PLACE] | lacking.found[BEYOND])[:, None]
        known, present, resting = self._without_guessed_legs(known, present, fps)
        found = _Track.nothing(known, lacking, self.frames.variables.size)
        original = known, present
        if self.config.swaps and known.rig is None:
            known, present, found.exchanged = self._steadied(known, present, fps)
        starts, spreads = self._starts(known, present, fps), None
        if starts is not None:
            x, z, rows = starts
            window, z = self._solve(x, z, rows, known, present, fps, resting, found)
            if self.config.uncertainty:
                spreads = self._spread(window, rows, z, found)
        points, joints = self.frames.outcome.points(found.x), observer.joints(*original)
        result = self.frames.outcome.result(
            found.x, points, *original, joints, found.cost, found.iterations, found.flipped, tuple(found.status),
            spreads=spreads,
        )  # fmt: skip
        swapped = tuple(None if i < 0 else EXCHANGED[i] for i in found.exchanged.tolist())
        source = "found" if estimate_focal else "guess" if focal_px is None else "given"
        reasons = (None if s.ok else r or NOTHING for s, r in zip(found.status, lacking.reasons(), strict=True))
        result = replace(
            result, swapped=swapped, focal_source=source, reason=tuple(reasons), mask_notes=tuple(found.mask_notes)
        )
        if not self.sequence.covariance:
            result = replace(result, covariance=None)
        if self.config.quality:
            # Keypoints on depth say no more of a body than the depth itself does.
            judged = replace(known, points_m=None) if known.points_of_depth else known
            result = with_verdicts(self.frames.quality(result, points, judged, present), found.depth_verdicts)
        return (
            result
            if parts is None or starts is None
            else self._with_parts(result, parts, starts[2], found, fps, spreads)
        )

    def _whole(self, face_points: int) -> WholeBody:
        """Return the fit of hands and of a face of so many points to a body that is fixed; made once."""
        if face_points not in self._wholes:
            frames = self.frames
            self._wholes[face_points] = WholeBody(frames.terms, frames.layout, self.config, face_points, offsets=True)
        return self._wholes[face_points]

    def _with_parts(
        self,
        body: FitResult,
        parts: PartEvidence,
        rows: Int[Tensor, "R"],
        found: _Track,
        fps: float,
        spreads: Spread | None,
    ) -> FitResult:
        """Add hands and face, in the rows that were solved, to a body's track."""
        whole = self._whole(parts.face_points)
        some = parts.select(rows).without_hands(_has_exchanged_arms(found.exchanged[rows]))
        track = PartTrack(whole, self.frames.variables, self.sequence, fps)
        x = found.x.new_full((len(found.x), whole.layout.size), torch.nan)
        seen = replace(Observations.cat(found.observations), contour=None, surface=None)  # the body stays
        x[rows], spread = track.fit(found.x[rows], seen, some)
        params = self.model.params(**whole.layout.params(x))
        assert body.observed_joints is not None
        rest = self.model.num_joints - body.observed_joints.shape[1]
        observed = torch.nn.functional.pad(body.observed_joints, (0, rest))
        observed[rows] = whole.observed(body.observed_joints[rows], some)
        changes = {
            "params": params,
            "joints": whole.outcome.joints(params),
            "others": whole.layout.others(x),
            "observed_joints": observed,
        }
        if spreads is not None:
            free, parents = track.columns().free, self.model.skeleton.parents
            both = with_body(spreads.select(rows), track.body, spread, whole.layout, free, parents)
            like = found.x.new_empty(len(found.x), whole.layout.size if self.sequence.covariance else 0)
            spreads = Spread.of_parts(like, self.model.num_joints, [(rows, both)])
            changes |= {
                "covariance": spreads.covariance if self.sequence.covariance else None,
                "variables": whole.layout,
                "joints_sd_m": spreads.joints_sd_m,
                "joints_sd_rel_m": spreads.joints_sd_rel_m,
            }
        return replace(body, **changes)

    @torch.no_grad()
    def focal(
        self,
        xyc: Array,
        *,
        image_size: tuple[int, int],
        fps: float,
        believed: Focal,
        principal_point_px: tuple[float, float] | None = None,
        joints3d: Array | None = None,
    ) -> Focal:
        """Update the belief about the focal length by a track; the arguments are those of `fit_sequence`.

        For several people in a clip, pass each the belief that the previous one returned. A lift is taken to be in the
        axes of a camera of the focal length `believed.px`.
        """
        evidence = Evidence(
            keypoints=xyc,
            layout=self.frames.layout,
            image_size=image_size,
            focal_px=believed.px,
            principal_point_px=principal_point_px,
            joints3d=joints3d,
        )
        known, _, present = self.frames.checked(evidence)
        known = replace(known, parts=None)
        exchanged = torch.full_like(present[:, 0], -1, dtype=torch.int64)
        if self.config.swaps:
            known, present, exchanged = self._steadied(known, present, fps)
        keys = self._keyframes(known, present, fps)
        some = torch.linspace(0, len(keys) - 1, min(len(keys), self.sequence.focal_frames)).round().long()
        x, at = self._alone(known, keys[some.to(keys.device)])
        if len(x) == 0:
            return believed
        frames, shared = self.frames.variables.split(x)
        still = {"motion": 0.0, "swaps": self.config.swaps}
        sample = Window(self.frames, self.sequence, known.select(at), present[at], exchanged[at], fps, **still)
        return sample.focal(frames, shared.median(0).values, believed)

    def focal_precision(self, *tracks: Array) -> float:
        """Compute the precision of the focal length's prior for a clip with these tracks."""
        frames = sum(min(len(xyc), self.sequence.focal_frames) for xyc in tracks)
        return self.sequence.focal**2 * max(frames, 1)

    def _without_guessed_legs(
        self, known: CheckedEvidence, present: Bool[Tensor, "T K"], fps: float
    ) -> tuple[CheckedEvidence, Bool[Tensor, "T K"], Float[Tensor, "T"]]:
        """Remove keypoints that a detector guesses of invisible legs; return also how far legs are at rest."""
        observer, there = self.frames.observer, count_observations(known, present) > 0
        legs = steadily_visible(observer.partial.legs_in(known, present), there, fps)
        known, present = observer.partial.without_guesses(known, present, legs)
        return known, present, resting_share(observer.shows_legs(observer.joints(known, present)), there, fps)

    def _steadied(
        self, known: CheckedEvidence, present: Bool[Tensor, "T K"], fps: float
    ) -> tuple[CheckedEvidence, Bool[Tensor, "T K"], Int[Tensor, "T"]]:
        """Make left and right consistent from frame to frame; return which order each frame's keypoints were put in."""
        seen, orders = self.frames.observer.observations(known, present), orders_of(self.frames.exchanges)
        rows = present.any(1).nonzero()[:, 0]
        some = seen if len(rows) == len(present) else seen.select(rows)
        sides = steady_sides(some.target, some.weight, some.lift_m, some.lift_weight, rows / fps, orders)
        picture, lift = (torch.full_like(present[:, 0], -1, dtype=torch.int64).index_copy(0, rows, s) for s in sides)
        return *reordered(known, present, orders, picture, lift), picture

    def _starts(
        self, known: CheckedEvidence, present: Bool[Tensor, "T K"], fps: float
    ) -> tuple[Float[Tensor, "R N"], Float[Tensor, "M"], Int[Tensor, "R"]] | None:
        """Initialise the frames from the first observed to the last by interpolating fits of keyframes.

        Returns the frames' variables, the shared variables and the indices of the frames; None if no keyframe can be
        fitted.
        """
        layout = self.frames.variables
        x, keys = self._alone(known, self._keyframes(known, present, fps))
        if len(x) == 0:
            return None
        x, _ = agreeing(x, keys / fps, layout)
        observed_at = count_observations(known, present).nonzero()[:, 0]
        rows = torch.arange(int(observed_at[0]), int(observed_at[-1]) + 1, device=x.device)
        frames, shared = layout.split(x)
        return between(frames, keys, rows, layout), shared.median(0).values, rows

    def _alone(self, known: CheckedEvidence, keys: Int[Tensor, "N"]) -> tuple[Float[Tensor, "M D"], Int[Tensor, "M"]]:
        """Fit the frames `keys` one by one; return the variables and indices of those that could be fitted."""
        some = replace(known.select(keys), masks=None, depth=None)
        alone = self.frames.fit_checked(some, *self.frames.observer.visible(some))
        x = self.frames.variables.pack({**alone.params, **alone.others})
        good = torch.isfinite(x).all(1)
        return x[good], keys[good]

    def _keyframes(self, known: CheckedEvidence, present: Bool[Tensor, "T K"], fps: float) -> Int[Tensor, "N"]:
        """Choose keyframes: in each interval the frame with most points, if it has enough for a fit."""
        count = count_observations(known, present)
        step = max(1, round(fps * self.sequence.keyframe_s))
        padded = torch.nn.functional.pad(count, (0, -len(count) % step)).view(-1, step)
        most = padded.argmax(1) + step * torch.arange(len(padded), device=count.device)
        return most[count[most] >= self.config.min_keypoints]

    def _solve(
        self,
        x: Float[Tensor, "R N"],
        z: Float[Tensor, "M"],
        rows: Int[Tensor, "R"],
        known: CheckedEvidence,
        present: Bool[Tensor, "T K"],
        fps: float,
        resting: Float[Tensor, "T"],
        found: _Track,
    ) -> tuple[Window, Float[Tensor, "M"]]:
        """Optimise the rows window by window from initial poses x and shared variables z, into `found`.

        Legs come to rest by the share `resting`. Returns the last window and the shared variables.

        A single window optimises all variables. With several, the shared ones are estimated first, on frames spread
        over the whole track and without the motion, and each window continues from the last two frames of the
        previous one, which are fixed.
        """
        size, overlap, n = self.sequence.window, self.sequence.overlap, len(rows)
        layout = self.frames.variables
        if n > size:
            spread = torch.linspace(0, n - 1, size // 2, device=rows.device).round().long()
            at = rows[spread]
            sample = Window(
                self.frames,
                self.sequence,
                known.select(at),
                present[at],
                found.exchanged[at],
                fps,
                motion=0.0,
                swaps=self.config.swaps,
            )
            _, z, _ = sample.solve(x[spread], z)
        done, window = 0, None
        while done < n:
            fixed = min(done, 2)
            last = n if n - done <= size else done + size - overlap
            ahead = slice(done - fixed, min(n, last + overlap))
            window = Window(
                self.frames,
                self.sequence,
                known.select(rows[ahead]),
                present[rows[ahead]],
                found.exchanged[rows[ahead]],
                fps,
                motion=self.sequence.motion,
                swaps=self.config.swaps,
                fixed_frames=fixed,
                fixed_shared=n > size,
            )
            x[ahead], z, summary = window.solve(x[ahead], z)
            core = slice(fixed, fixed + last - done)
            whole = self.frames.observer.partial.at_rest(layout.join(x[done:last], z), resting[rows[done:last]].to(x))
            found.put(rows[done:last], whole, window, core, summary)
            done = last
        root = layout["global_orient"]
        found.x[rows, root] = unwrapped(x[:, None, root])[:, 0]
        assert window is not None
        return window, z

    def _spread(self, window: Window, rows: Int[Tensor, "R"], z: Float[Tensor, "M"], found: _Track) -> Spread:
        """Compute the uncertainty of the frames that were solved; NaN for the others."""
        fixed = ("betas",) if window.known.betas is not None else ()
        seen = replace(Observations.cat(found.observations), fixed=fixed)
        x = found.x[rows, : self.frames.variables.frame_size]
        spread = track_spread(window.objective(seen), x, z, self.frames.joints, self.config, self.sequence)
        parts = [] if spread is None else [(rows, spread)]
        like = found.x if self.sequence.covariance else found.x[:, :0]
        return Spread.of_parts(like, self.model.body_joints, parts)


def count_observations(known: CheckedEvidence, present: Bool[Tensor, "T K"]) -> Int[Tensor, "T"]:
    """Count the keypoints of all cameras and the measured points in each frame."""
    count = present.sum(1)
    return count if known.points_m is None else count + torch.isfinite(known.points_m).all(2).sum(1)


def _has_exchanged_arms(exchanged: Int[Tensor, "T"]) -> Bool[Tensor, "T"]:
    """Tell in which frames left and right arms were exchanged: a detector looks for hands where it takes arms to be."""
    arms = [i for i, name in enumerate(EXCHANGED) if "arms" in name or name == "body"]
    return torch.isin(exchanged, torch.tensor(arms, device=exchanged.device))


@dataclass
class _Track:
    """Results of the frames of a track, filled window by window."""

    x: Float[Tensor, "T D"]
    cost: Float[Tensor, "T"]
    iterations: Int[Tensor, "T"]
    exchanged: Int[Tensor, "T"]
    flipped: Bool[Tensor, "T"]
    status: list[FitStatus]
    mask_notes: list[str | None]
    depth_verdicts: list[DepthVerdict | None]
    observations: list[Observations] = field(default_factory=list)
    """Observations of the windows' frames, in order."""

    @classmethod
    def nothing(cls, known: CheckedEvidence, lacking: Shortcomings, size: int) -> _Track:
        """Make the results of frames that are not solved yet: NaN, with the status of their shortcomings."""
        x = known.xyc.new_full((len(known), size), torch.nan)
        count = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        nobody = torch.zeros_like(count, dtype=torch.bool)
        status = statuses_of(nobody, nobody, lacking)
        notes: list[str | None] = [None] * len(x)
        notes = notes if known.masks is None else list(known.masks.notes)
        return cls(x, x[:, 0].clone(), count, count - 1, nobody, list(status), notes, [None] * len(x))

    def put(
        self, rows: Int[Tensor, "R"], x: Float[Tensor, "R D"], window: Window, core: slice, summary: ChainSummary
    ) -> None:
        """Store the results of the frames `core` of a window in the rows of the track."""
        self.x[rows], self.iterations[rows] = x, summary.iterations
        index = torch.arange(len(window.present), device=x.device)[core]
        self.observations.append(window.seen.select(index))
        self.cost[rows], self.exchanged[rows] = window.costs(x, core), window.exchanged[core]
        ended = FitStatus.CONVERGED if summary.converged else FitStatus.MAX_STEPS
        observed = count_observations(window.known, window.present)[core] > 0
        notes = zip(window.mask_notes[core], window.depth_verdicts[core], strict=True)
        for row, there, (note, verdict) in zip(rows.tolist(), observed.tolist(), notes, strict=True):
            self.status[row] = ended if there else FitStatus.FILLED
            self.mask_notes[row], self.depth_verdicts[row] = note, verdict
