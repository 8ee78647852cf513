"""Fits of several pictures of one person: one shape, and a pose and a camera for each picture.

Pictures are to a clip what frames without a motion are: the variables of each picture are its own, the betas are
shared, so that the objective is that of a clip (`fit/sequence/objective.py`) without its motion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError
from bodyfit.fit.config import FitConfig, SequenceCalibration, SequenceConfig
from bodyfit.fit.evidence import CheckedEvidence, Evidence
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.quality.uncertainty import Spread
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.fit.sequence.left_right import EXCHANGED
from bodyfit.fit.sequence.uncertainty import track_spread
from bodyfit.fit.sequence.window import Window
from bodyfit.solve import LMConfig

__all__ = ["SharedShapeFitter", "pictures_config"]


def pictures_config() -> SequenceConfig:
    """Make the settings of pictures that share a shape: no motion, priors as for single pictures."""
    return SequenceConfig(
        motion=0.0,
        shape=1.5,
        pose_tail=1.0,
        interpenetration=1.0,
        lm=LMConfig(max_iterations=40, cost_tolerance=1e-4),
        calibration=SequenceCalibration(seen=1.0, alike=0.25, pose=1.0),
    )


@dataclass(frozen=True)
class _Start:
    """Pictures that can be fitted, and where their joint fit starts."""

    rows: Int[Tensor, "R"]
    """Their rows in the evidence."""
    x: Float[Tensor, "R N"]
    """Variables of each picture."""
    z: Float[Tensor, "M"]
    """Shared variables."""


class SharedShapeFitter:
    """Fitter of one shape to several pictures of a person, for one model, keypoint layout and configuration."""

    def __init__(
        self,
        *,
        layout: str,
        model: BodyModel | None = None,
        config: FitConfig | None = None,
        pictures: SequenceConfig | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.config = FitConfig() if config is None else config
        self.pictures = pictures_config() if pictures is None else pictures
        alone = replace(self.config, uncertainty=False)
        self.frames = Fitter(layout=layout, model=model, config=alone, device=device)
        self.model = self.frames.model

    @torch.no_grad()
    def fit(self, evidence: Evidence, *, picture_px: Float[Tensor, "B 2"] | None = None) -> FitResult:
        """Fit one shape to the pictures that are the rows of the evidence.

        Each row has its own camera (`focal_px`, `principal_point_px`); `picture_px` are width and height of each
        picture, if they differ. Height and mass are one for all.

        Each picture is first fitted alone. Those that cannot be fitted, and poor ones beside good ones, do not take
        part in the shape: they keep the status and the reason of their own fit, with betas of their own. The others
        have the same betas, and a covariance given all of them. Raises `ShapeError` and `OptionError`.
        """
        if evidence.cameras is not None or evidence.previous is not None:
            raise OptionError("pictures that share a shape have no calibrated cameras and no previous frame")
        known, claimed, present = self.frames.checked(evidence)
        _check_alike(known)
        known = replace(known, parts=None)
        alone = self.frames.fit_checked(known, claimed, present, picture_px)
        start = self._start(alone)
        return alone if start is None else self._together(alone, start, known, present, picture_px)

    def _start(self, alone: FitResult) -> _Start | None:
        """Choose the pictures that take part, good ones where there are some; None where no picture has a body."""
        good = [i for i, s in enumerate(alone.status) if s.ok and s is not FitStatus.POOR]
        rows = torch.tensor(good or [i for i, s in enumerate(alone.status) if s.ok], dtype=torch.int64)
        if not len(rows):
            return None
        layout = self.frames.variables
        x, shared = layout.split(layout.pack({**alone.params, **alone.others})[rows.to(self.model.device)])
        return _Start(rows.to(x.device), x, shared.median(0).values)

    def _together(
        self,
        alone: FitResult,
        start: _Start,
        known: CheckedEvidence,
        present: Bool[Tensor, "B K"],
        picture_px: Float[Tensor, "B 2"] | None,
    ) -> FitResult:
        """Optimise the pictures together and put what they share in the place of their own fits."""
        frames, rows = self.frames, start.rows
        layout, observer = frames.variables, frames.observer
        some, visible = observer.partial.without_guesses(known.select(rows), present[rows])
        joints = observer.joints(some, visible)
        none = torch.full_like(rows, -1)
        window = Window(frames, self.pictures, some, visible, none, 1.0, motion=0.0, swaps=self.config.swaps)
        x, z, summary = window.solve(start.x, start.z)
        spread = None
        if self.config.uncertainty:
            spread = track_spread(window.objective(window.seen), x, z, frames.joints, self.config, self.pictures)
        full = observer.partial.at_rest(layout.join(x, z), (~observer.shows_legs(joints)).to(x))
        own = layout.pack({**alone.params, **alone.others})
        whole = own.index_copy(0, rows, full)
        ended = FitStatus.CONVERGED if summary.converged else FitStatus.MAX_STEPS
        status, reason, swapped = list(alone.status), list(alone.reason), list(alone.swapped or [None] * len(alone))
        for row, order in zip(rows.tolist(), window.exchanged.tolist(), strict=True):
            status[row], reason[row] = ended, None
            swapped[row] = None if order < 0 else EXCHANGED[order]
        points = frames.outcome.points(whole)
        result = frames.outcome.result(
            whole,
            points,
            known,
            present,
            observer.joints(known, present),
            alone.objective.index_copy(0, rows, window.costs(full, slice(0, len(rows)))),
            alone.iterations.index_fill(0, rows, summary.iterations),
            alone.flipped,
            tuple(status),
            spreads=None if spread is None else Spread.of_parts(whole, self.model.body_joints, [(rows, spread)]),
        )
        notes = list(alone.mask_notes)
        for row, note in zip(rows.tolist(), window.mask_notes, strict=True):
            notes[row] = note
        more = {"reason": tuple(reason), "swapped": tuple(swapped), "mask_notes": tuple(notes)}
        result = replace(result, **more, backend=alone.backend)
        return frames.quality(result, points, known, present) if self.config.quality else result


def _check_alike(known: CheckedEvidence) -> None:
    """Raise `OptionError` for heights, masses or betas that differ between the pictures of one person."""
    for name in ("betas", "height_m", "mass_kg"):
        value = getattr(known, name)
        if value is not None and bool((value != value[:1]).any()):
            raise OptionError(f"{name} must be the same for all pictures: they are of one person")
