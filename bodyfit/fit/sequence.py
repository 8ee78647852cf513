"""One body through time: all frames of a person in one optimisation, with one shape and a smooth motion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError
from bodyfit.fit.config import FitConfig
from bodyfit.fit.continuity import agreeing, between, unwrapped
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.fitter import Array, Fitter
from bodyfit.fit.motion import Motion
from bodyfit.fit.objective import StageObjective, pack
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.fit.swaps import SWAPS, agreeing_lift, likelier_exchange
from bodyfit.solve import BandedArrow, ChainNormal, ChainSummary, LMConfig, minimize_chain

__all__ = ["SequenceConfig", "SequenceFitter", "SequenceObjective", "fit_sequence"]


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """Settings of `fit_sequence` beyond those of single frames (`FitConfig`)."""

    motion: float = 1.0
    """Weight of the accelerations, squared in the objective; 1 makes a typical acceleration cost as much as one
    keypoint that is a centimetre off."""
    motion_tail: float = 4.0
    """Where the price of an acceleration turns from quadratic to logarithmic, in typical accelerations squared."""
    shape: float = 4.0
    """Weight of the betas' prior in each frame: what keypoints err by is much the same in all frames of a clip, so that
    more frames say little more of the shape."""
    keyframe_s: float = 0.13
    """Every so often a frame is fitted by itself, to start from."""
    window: int = 512
    """Frames that are solved at once; longer tracks go window by window, so that memory stays bounded."""
    overlap: int = 32
    """Frames of the next window that a window looks at."""
    lm: LMConfig = field(default_factory=lambda: LMConfig(max_iterations=15, cost_tolerance=1e-4))
    """When the optimisation ends."""

    def __post_init__(self) -> None:
        if self.window < 4 or not 0 <= self.overlap <= self.window - 4:
            raise OptionError(
                f"window must be at least 4 frames and overlap at most 4 less, got {self.window}, {self.overlap}"
            )


def fit_sequence(
    xyc: Array,
    *,
    layout: str,
    image_size: tuple[int, int],
    fps: float,
    focal_px: float | None = None,
    principal_point_px: tuple[float, float] | None = None,
    joints3d: Array | None = None,
    model: BodyModel | None = None,
    config: FitConfig | None = None,
    sequence: SequenceConfig | None = None,
    device: torch.device | str | None = None,
) -> FitResult:
    """The body of one person through a clip of a standing camera: one shape, smooth motion, one result a frame.

    xyc: (T, K, 3): x px, y px and confidence of each keypoint of `layout` in each frame; missing is confidence 0 or
    NaN, and a frame may have none. fps: frames a second. The rest as in `fit_keypoints`, one camera for all frames.

    The result has batch T, in camera axes and metres; betas are the same in all rows. A frame without a keypoint
    between frames with some is filled by the motion (status "filled"); before the first and after the last it is
    "unobservable", its parameters NaN. Raises `ShapeError` and `OptionError`.
    """
    fitter = SequenceFitter(layout=layout, model=model, config=config, sequence=sequence, device=device)
    return fitter(
        xyc,
        image_size=image_size,
        fps=fps,
        focal_px=focal_px,
        principal_point_px=principal_point_px,
        joints3d=joints3d,
    )


@dataclass(frozen=True)
class SequenceObjective:
    """The objective of a window: that of each frame, with the betas in common, and that of the motion; a
    `solve.ChainProblem` over transl, global_orient and body_pose of each frame and the shared betas."""

    frames: StageObjective
    motion: Motion
    weight: float
    """Of the motion, squared in the sum."""
    held: int = 0
    """So many first frames stay as they are."""
    chunk: int = 256
    """Frames whose derivatives are made at once."""

    def normal(self, x: Float[Tensor, "T N"], z: Float[Tensor, "S"]) -> ChainNormal:
        """Cost and normal equations."""
        n, w2 = x.shape[1], self.weight**2
        rows = torch.arange(len(x), device=x.device).split(self.chunk)
        parts = [self.frames.select(r).normal(torch.cat([x[r], z.expand(len(r), -1)], 1)) for r in rows]
        cost = torch.cat([p.cost for p in parts])
        gradient, hessian = torch.cat([p.gradient for p in parts]), torch.cat([p.hessian for p in parts])
        moves = self.motion(x)
        gradient, own = gradient[:, :n] + w2 * moves.gradient, gradient[:, n:]
        diagonal, border = hessian[:, :n, :n].contiguous(), hessian[:, :n, n:].contiguous()
        _on_triples(diagonal).add_(moves.blocks[0], alpha=w2)
        bands = []
        for block in moves.blocks[1:]:
            band = x.new_zeros(len(block), n, n)
            _on_triples(band).add_(block, alpha=w2)
            bands.append(band)
        system = BandedArrow(diagonal, tuple(bands), border, hessian[:, n:, n:].sum(0))
        if self.held:
            _hold(system, gradient, self.held)
        total = float(cost.double().sum() + w2 * moves.cost.double().sum())
        return ChainNormal(total, gradient, own.sum(0), system)


def _on_triples(matrix: Float[Tensor, "T N N"]) -> Float[Tensor, "T G 3 3"]:
    """A view of the 3 x 3 blocks on the diagonal."""
    return matrix.unflatten(2, (-1, 3)).unflatten(1, (-1, 3)).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)


def _hold(system: BandedArrow, gradient: Tensor, held: int) -> None:
    """The first frames held where they are, in place."""
    gradient[:held] = 0
    system.diagonal[:held] = torch.eye(gradient.shape[1], dtype=gradient.dtype, device=gradient.device)
    for band in system.bands:
        band[:held] = 0
    system.border[:held] = 0


class SequenceFitter:
    """`fit_sequence` for one model, layout and configuration, with what does not change made once."""

    def __init__(
        self,
        *,
        layout: str,
        model: BodyModel | None = None,
        config: FitConfig | None = None,
        sequence: SequenceConfig | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        config = FitConfig() if config is None else config
        self.sequence = SequenceConfig() if sequence is None else sequence
        self.frames = Fitter(layout=layout, model=model, config=replace(config, uncertainty=False), device=device)
        self.config, self.model = self.frames.config, self.frames.model

    @torch.no_grad()
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
        if not (np.isfinite(fps) and fps > 0):
            raise OptionError(f"fps must be the frames a second, a positive number, got {fps}")
        known, said, present = self.frames.evidence(
            xyc,
            image_size=image_size,
            focal_px=focal_px,
            principal_point_px=principal_point_px,
            joints3d=joints3d,
        )
        seen_at = present.any(1).nonzero()[:, 0]
        keys = self._keyframes(present, fps)
        alone = self.frames(
            known.xyc[keys],
            image_size=image_size,
            focal_px=known.camera.focal_px[keys],
            principal_point_px=known.camera.principal_point_px[keys],
            joints3d=None if known.lift_m is None else known.lift_m[keys],
        )
        x_keys = pack(alone.params)
        good = torch.isfinite(x_keys).all(1)
        if not bool(good.any()):
            return self._result(known, said, present)
        at, x_keys = keys[good], x_keys[good]
        x_keys, _ = agreeing(x_keys, at / fps, self.model.num_betas)
        z = x_keys[:, -self.model.num_betas :].median(0).values
        rows = torch.arange(int(seen_at[0]), int(seen_at[-1]) + 1, device=at.device)
        x = between(x_keys[:, : -self.model.num_betas], at, rows)
        track = _Track(self, known.select(rows), present[rows], fps)
        for lm in (replace(self.sequence.lm, max_iterations=4, cost_tolerance=1e-2), self.sequence.lm):
            track.exchange(x, z)
            x, z, summary = track.solve(x, z, lm)
        x[:, 3:6] = unwrapped(x[:, None, 3:6])[:, 0]
        return self._result(known, said, present, rows, torch.cat([x, z.expand(len(x), -1)], 1), track, summary)

    def _keyframes(self, present: Bool[Tensor, "T K"], fps: float) -> Int[Tensor, "N"]:
        """Of every so many frames the one that shows most; none where nothing can be fitted."""
        shown = present.sum(1)
        step = max(1, round(fps * self.sequence.keyframe_s))
        padded = torch.nn.functional.pad(shown, (0, -len(shown) % step)).view(-1, step)
        most = padded.argmax(1) + step * torch.arange(len(padded), device=shown.device)
        return most[shown[most] >= self.config.min_keypoints]

    def _result(
        self,
        known: Evidence,
        said: Bool[Tensor, "T K"],
        present: Bool[Tensor, "T K"],
        rows: Int[Tensor, "R"] | None = None,
        found: Float[Tensor, "R D"] | None = None,
        track: _Track | None = None,
        summary: ChainSummary | None = None,
    ) -> FitResult:
        """Names for what was found in `rows`, nothing for the other frames."""
        n_t = len(known)
        x = known.xyc.new_full((n_t, 3 + 3 * self.model.body_joints + self.model.num_betas), torch.nan)
        cost, iterations = x.new_full((n_t,), torch.nan), torch.zeros(n_t, dtype=torch.int64, device=x.device)
        exchanged = torch.full_like(iterations, -1)
        statuses = [FitStatus.INVALID_INPUT if s else FitStatus.UNOBSERVABLE for s in said.any(1).tolist()]
        if rows is not None and found is not None and track is not None and summary is not None:
            x[rows], iterations[rows] = found, summary.iterations
            cost[rows], exchanged[rows] = track.costs(found), track.exchanged
            ended = FitStatus.CONVERGED if summary.converged else FitStatus.MAX_STEPS
            for row, there in zip(rows.tolist(), present[rows].any(1).tolist(), strict=True):
                statuses[row] = ended if there else FitStatus.FILLED
        result = self.frames.result(
            x, known, present, cost, iterations, torch.zeros_like(present[:, 0]), tuple(statuses)
        )
        return replace(result, swapped=tuple(None if i < 0 else EXCHANGED[i] for i in exchanged.tolist()))


EXCHANGED = (*SWAPS, "arms and legs")
"""What `FitResult.swapped` may say of a frame."""


class _Track:
    """The frames of a track from the first that shows something to the last, as the objective wants them."""

    def __init__(self, fitter: SequenceFitter, known: Evidence, present: Bool[Tensor, "T K"], fps: float) -> None:
        self.fitter, self.settings = fitter, fitter.sequence
        self.known, self.present = known, present
        self.motion = Motion(fitter.model, fps, self.settings.motion_tail)
        self.stage = replace(fitter.config.stages[-1], shape=self.settings.shape)
        self.exchanged = torch.full((len(present),), -1, device=present.device)
        arms, legs, _ = single = fitter.frames.exchanges
        self.orders = torch.cat([single, arms[legs][None]])
        self.seen = fitter.frames.observations(known, present)

    def exchange(self, x: Float[Tensor, "T N"], z: Float[Tensor, "S"]) -> None:
        """Observations for bodies at x: sides exchanged where that is what they look like, scaled to their depth."""
        frames, known, present = self.fitter.frames, self.known, self.present
        objective = StageObjective(frames.terms, self.stage, self.seen)
        placed = frames.terms.points.place(
            objective.tree(torch.cat([x, z.expand(len(x), -1)], 1)), z.expand(len(x), -1)
        )
        points = placed.positions + x[:, None, :3]
        uv = points[..., :2] / points[..., 2:].clamp_min(0.1)
        scale = frames.scale_cm((placed.tree.joints[:, :1] + x[:, None, :3])[..., 2], known)
        if self.fitter.config.swaps:
            as_seen = frames.observations(known, present)
            which = likelier_exchange(uv, as_seen.target, as_seen.weight, scale, self.orders)
            for swap, order in enumerate(self.orders):
                who = (which == swap).nonzero()[:, 0]
                if len(who):
                    known, present = _exchanged(known, present, who, order, frames.trust)
            self.exchanged = which
        self.seen = replace(frames.observations(known, present), scale_cm=scale)

    def solve(
        self, x: Float[Tensor, "T N"], z: Float[Tensor, "S"], lm: LMConfig
    ) -> tuple[Float[Tensor, "T N"], Float[Tensor, "S"], ChainSummary]:
        """The whole track."""
        frames = StageObjective(self.fitter.frames.terms, self.stage, self.seen)
        problem = SequenceObjective(frames, self.motion, self.settings.motion)
        return minimize_chain(problem, x, z, lm)

    def costs(self, x: Float[Tensor, "T D"]) -> Float[Tensor, "T"]:
        """The objective of each frame, without the motion."""
        frames = StageObjective(self.fitter.frames.terms, self.stage, self.seen)
        rows = torch.arange(len(x), device=x.device).split(256)
        return torch.cat([frames.select(r).normal(x[r]).cost for r in rows])


def _exchanged(
    known: Evidence,
    present: Bool[Tensor, "T K"],
    who: Int[Tensor, "N"],
    order: Int[Tensor, "K"],
    trust: Float[Tensor, "K"],
) -> tuple[Evidence, Bool[Tensor, "T K"]]:
    """The same with the keypoints of some frames in another order, and their lift where that agrees better."""
    shown = present[who][:, order]
    target = known.target[who][:, order]
    xyc, targets, presents = known.xyc.clone(), known.target.clone(), present.clone()
    xyc[who], targets[who], presents[who] = known.xyc[who][:, order], target, shown
    known = replace(known, xyc=xyc, target=targets)
    if known.lift_m is not None:
        lift = known.lift_m.clone()
        lift[who] = agreeing_lift(lift[who], torch.where(shown[..., None], target, 0.0), shown * trust, order)
        known = replace(known, lift_m=lift)
    return known, presents
