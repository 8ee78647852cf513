"""One body through time: all frames of a person in one optimisation, with one shape and a smooth motion."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError
from bodyfit.fit.config import FitConfig, SequenceConfig
from bodyfit.fit.evidence import CheckedEvidence, Evidence
from bodyfit.fit.fitter import Array, Fitter
from bodyfit.fit.observations import Observations
from bodyfit.fit.quality.sufficient import BEYOND, IN_ONE_PLACE, NOTHING, Shortcomings
from bodyfit.fit.quality.uncertainty import Spread
from bodyfit.fit.result import FitResult, FitStatus, statuses_of
from bodyfit.fit.sequence.continuity import agreeing, between, unwrapped
from bodyfit.fit.sequence.focal import Focal
from bodyfit.fit.sequence.left_right import EXCHANGED, orders_of, reordered, steady_sides
from bodyfit.fit.sequence.legs import resting_share, steadily_visible
from bodyfit.fit.sequence.uncertainty import track_spread
from bodyfit.fit.sequence.window import Window
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
    model: BodyModel | None = None,
    config: FitConfig | None = None,
    sequence: SequenceConfig | None = None,
    device: torch.device | str | None = None,
) -> FitResult:
    """The body of one person through a clip of standing cameras: one shape, smooth motion, one result a frame.

    Takes an `Evidence` whose rows are frames, of one camera or several, with measured points, a known shape or stature
    where there are any; or, of one camera, its fields.

    xyc: (T, K, 3): x px, y px and confidence of each keypoint of `layout` in each frame; missing is confidence 0 or
    NaN, and a frame may have none. fps: frames a second. The rest as in `fit_keypoints`, one camera for all frames;
    where no focal length is given and `sequence.focal_frames` is not 0, it is found from the track
    (`fit/sequence/focal.py`).

    The result has batch T, in camera axes and metres; betas are the same in all rows. A frame without a keypoint
    between frames with some is filled by the motion (status "filled"); before the first and after the last it is
    "unobservable", its parameters NaN. Raises `ShapeError` and `OptionError`.
    """
    own = {
        "layout": layout,
        "image_size": image_size,
        "focal_px": focal_px,
        "principal_point_px": principal_point_px,
        "joints3d": joints3d,
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
    """`fit_sequence` for one model, layout and configuration, with what does not change made once."""

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
        less |= {"hands": False, "face": False}
        alone = replace(config, stages=(*config.stages[:-1], last), **less)
        self.frames = Fitter(layout=layout, points3d_layout=points3d_layout, model=model, config=alone, device=device)
        self.config, self.model = config, self.frames.model

    def __call__(
        self,
        xyc: Array,
        *,
        image_size: tuple[int, int],
        fps: float,
        focal_px: float | None = None,
        principal_point_px: tuple[float, float] | None = None,
        joints3d: Array | None = None,
    ) -> FitResult:
        """See `fit_sequence`."""
        evidence = Evidence(
            keypoints=xyc,
            layout=self.frames.layout,
            image_size=image_size,
            focal_px=focal_px,
            principal_point_px=principal_point_px,
            joints3d=joints3d,
        )
        return self.fit(evidence, fps=fps)

    @loops_alone()
    @torch.no_grad()
    def fit(self, evidence: Evidence, *, fps: float) -> FitResult:
        """See `fit_sequence`; the rows of the evidence are frames."""
        if not (math.isfinite(fps) and fps > 0):
            raise OptionError(f"fps must be the frames a second, a positive number, got {fps}")
        if evidence.parts.is_present:
            raise OptionError(
                "hands and face are fitted frame by frame yet (`fit`); leave them out of a clip's evidence"
            )
        if evidence.previous is not None:
            raise OptionError("previous is for single frames; in a clip each frame goes on from the one before")
        focal_px, xyc, size = evidence.focal_px, evidence.keypoints, evidence.image_size
        found_focal = focal_px is None and self.sequence.focal_frames > 0 and evidence.cameras is None
        if found_focal and xyc is not None and size is not None:
            guess = Focal(default_focal_px(size), self.focal_precision(xyc))
            point = evidence.principal_point_px
            assert not isinstance(point, Tensor)
            more = {"principal_point_px": point, "joints3d": evidence.joints3d}
            focal_px = self.focal(xyc, image_size=size, fps=fps, believed=guess, **more).px
        known, said, present = self.frames.checked(replace(evidence, focal_px=focal_px))
        if known.betas is not None and bool((known.betas != known.betas[:1]).any()):
            raise OptionError("betas must be the same in all frames: a person has one shape")
        observer = self.frames.observer
        lacking = observer.shortcomings(known, said, present, observer.joints(known, present))
        # What lies in one place or beyond the picture tells of nobody; too little by itself may be enough in a clip.
        present = present & ~(lacking.found[IN_ONE_PLACE] | lacking.found[BEYOND])[:, None]
        known, present, resting = self._without_guessed_legs(known, present, fps)
        found = _Found.nothing(known, lacking, self.frames.variables.size)
        as_given = known, present
        if self.config.swaps and known.rig is None:
            known, present, found.exchanged = self._steadied(known, present, fps)
        starts, spreads = self._starts(known, present, fps), None
        if starts is not None:
            x, z, rows = starts
            window, z = self._solve(x, z, rows, known, present, fps, resting, found)
            if self.config.uncertainty:
                spreads = self._spread(window, rows, z, found)
        points, joints = self.frames.outcome.points(found.x), observer.joints(*as_given)
        result = self.frames.outcome.result(
            found.x, points, *as_given, joints, found.cost, found.iterations, found.flipped, tuple(found.status),
            spreads=spreads,
        )  # fmt: skip
        swapped = tuple(None if i < 0 else EXCHANGED[i] for i in found.exchanged.tolist())
        source = "found" if found_focal else "guess" if focal_px is None else "given"
        reasons = (None if s.ok else r or NOTHING for s, r in zip(found.status, lacking.reasons(), strict=True))
        result = replace(result, swapped=swapped, focal_source=source, reason=tuple(reasons))
        if not self.sequence.covariance:
            result = replace(result, covariance=None)
        return self.frames.quality(result, points, known, present) if self.config.quality else result

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
        """What is believed of the focal length after a track was seen; the rest as in `fit_sequence`.

        Of several people in a clip each goes on from what the one before left. A lift is taken for one in the axes of a
        camera of the length that is believed.
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
        """The evidence without what detectors guess of legs that are not visible, and how far legs rest in a frame."""
        observer, there = self.frames.observer, shown_in(known, present) > 0
        legs = steadily_visible(observer.partial.legs_in(known, present), there, fps)
        known, present = observer.partial.without_guesses(known, present, legs)
        return known, present, resting_share(observer.shows_legs(observer.joints(known, present)), there, fps)

    def _steadied(
        self, known: CheckedEvidence, present: Bool[Tensor, "T K"], fps: float
    ) -> tuple[CheckedEvidence, Bool[Tensor, "T K"], Int[Tensor, "T"]]:
        """The evidence with its sides as they go on from frame to frame, and whose were exchanged for it."""
        seen, orders = self.frames.observer.observations(known, present), orders_of(self.frames.exchanges)
        rows = present.any(1).nonzero()[:, 0]
        some = seen if len(rows) == len(present) else seen.select(rows)
        sides = steady_sides(some.target, some.weight, some.lift_m, some.lift_weight, rows / fps, orders)
        picture, lift = (torch.full_like(present[:, 0], -1, dtype=torch.int64).index_copy(0, rows, s) for s in sides)
        return *reordered(known, present, orders, picture, lift), picture

    def _starts(
        self, known: CheckedEvidence, present: Bool[Tensor, "T K"], fps: float
    ) -> tuple[Float[Tensor, "R N"], Float[Tensor, "M"], Int[Tensor, "R"]] | None:
        """Poses and places for the frames from the first that shows something to the last, from fits of keyframes, and
        those that all share; None where nothing can be fitted."""
        layout = self.frames.variables
        x, keys = self._alone(known, self._keyframes(known, present, fps))
        if len(x) == 0:
            return None
        x, _ = agreeing(x, keys / fps, layout)
        seen_at = shown_in(known, present).nonzero()[:, 0]
        rows = torch.arange(int(seen_at[0]), int(seen_at[-1]) + 1, device=x.device)
        frames, shared = layout.split(x)
        return between(frames, keys, rows, layout), shared.median(0).values, rows

    def _alone(self, known: CheckedEvidence, keys: Int[Tensor, "N"]) -> tuple[Float[Tensor, "M D"], Int[Tensor, "M"]]:
        """Fits of single frames, of those of `keys` that can be fitted, and which these are."""
        some = known.select(keys)
        alone = self.frames.fit_checked(some, *self.frames.observer.visible(some))
        x = self.frames.variables.pack({**alone.params, **alone.others})
        good = torch.isfinite(x).all(1)
        return x[good], keys[good]

    def _keyframes(self, known: CheckedEvidence, present: Bool[Tensor, "T K"], fps: float) -> Int[Tensor, "N"]:
        """Choose keyframes: in each interval the frame with most points, if it has enough for a fit."""
        shown = shown_in(known, present)
        step = max(1, round(fps * self.sequence.keyframe_s))
        padded = torch.nn.functional.pad(shown, (0, -len(shown) % step)).view(-1, step)
        most = padded.argmax(1) + step * torch.arange(len(padded), device=shown.device)
        return most[shown[most] >= self.config.min_keypoints]

    def _solve(
        self,
        x: Float[Tensor, "R N"],
        z: Float[Tensor, "M"],
        rows: Int[Tensor, "R"],
        known: CheckedEvidence,
        present: Bool[Tensor, "T K"],
        fps: float,
        resting: Float[Tensor, "T"],
        found: _Found,
    ) -> tuple[Window, Float[Tensor, "M"]]:
        """The rows window by window, from the starts; what is found is put into `found`, legs at rest by the share
        `resting`. The last window, and what frames share.

        One window has everything free. For several, the shape is found first, on frames spread over the whole track
        whose motion does not matter, and each window goes on from the last two frames of the one before.
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
            held = min(done, 2)
            last = n if n - done <= size else done + size - overlap
            ahead = slice(done - held, min(n, last + overlap))
            window = Window(
                self.frames,
                self.sequence,
                known.select(rows[ahead]),
                present[rows[ahead]],
                found.exchanged[rows[ahead]],
                fps,
                motion=self.sequence.motion,
                swaps=self.config.swaps,
                held=held,
                shared_held=n > size,
            )
            x[ahead], z, summary = window.solve(x[ahead], z)
            kept = slice(held, held + last - done)
            whole = self.frames.observer.partial.at_rest(layout.join(x[done:last], z), resting[rows[done:last]].to(x))
            found.put(rows[done:last], whole, window, kept, summary)
            done = last
        root = layout["global_orient"]
        found.x[rows, root] = unwrapped(x[:, None, root])[:, 0]
        assert window is not None
        return window, z

    def _spread(self, window: Window, rows: Int[Tensor, "R"], z: Float[Tensor, "M"], found: _Found) -> Spread:
        """How sure the frames are that were solved; NaN for the others."""
        held = ("betas",) if window.known.betas is not None else ()
        seen = replace(Observations.cat(found.observations), held=held)
        x = found.x[rows, : self.frames.variables.frame_size]
        spread = track_spread(window.objective(seen), x, z, self.frames.joints, self.config, self.sequence)
        parts = [] if spread is None else [(rows, spread)]
        like = found.x if self.sequence.covariance else found.x[:, :0]
        return Spread.of_parts(like, self.model.body_joints, parts)


def shown_in(known: CheckedEvidence, present: Bool[Tensor, "T K"]) -> Int[Tensor, "T"]:
    """How many keypoints, of all cameras, and measured points there are in each frame."""
    shown = present.sum(1)
    return shown if known.points_m is None else shown + torch.isfinite(known.points_m).all(2).sum(1)


@dataclass
class _Found:
    """What is known of the frames of a track so far."""

    x: Float[Tensor, "T D"]
    cost: Float[Tensor, "T"]
    iterations: Int[Tensor, "T"]
    exchanged: Int[Tensor, "T"]
    flipped: Bool[Tensor, "T"]
    status: list[FitStatus]
    observations: list[Observations] = field(default_factory=list)
    """What windows made of the evidence, of the frames in turn that were solved."""

    @classmethod
    def nothing(cls, known: CheckedEvidence, lacking: Shortcomings, size: int) -> _Found:
        """Nothing yet."""
        x = known.xyc.new_full((len(known), size), torch.nan)
        count = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        nobody = torch.zeros_like(count, dtype=torch.bool)
        status = statuses_of(nobody, nobody, lacking)
        return cls(x, x[:, 0].clone(), count, count - 1, nobody, list(status))

    def put(
        self, rows: Int[Tensor, "R"], x: Float[Tensor, "R D"], window: Window, kept: slice, summary: ChainSummary
    ) -> None:
        """What a window found in some of its frames."""
        self.x[rows], self.iterations[rows] = x, summary.iterations
        index = torch.arange(len(window.present), device=x.device)[kept]
        self.observations.append(window.seen.select(index))
        self.cost[rows], self.exchanged[rows] = window.costs(x, kept), window.exchanged[kept]
        ended = FitStatus.CONVERGED if summary.converged else FitStatus.MAX_STEPS
        shown = shown_in(window.known, window.present)[kept] > 0
        for row, there in zip(rows.tolist(), shown.tolist(), strict=True):
            self.status[row] = ended if there else FitStatus.FILLED
