"""Fits of several pictures of one person: one shape, and a pose and a camera for each picture.

Pictures are to a clip what frames without a motion are: the variables of each picture are its own, the betas are
shared, so that the objective is that of a clip (`fit/sequence/objective.py`) without its motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError
from bodyfit.fit.config import FitConfig
from bodyfit.fit.evidence import CheckedEvidence, Evidence
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.observations import Observations
from bodyfit.fit.pictures_config import PicturesConfig
from bodyfit.fit.quality.uncertainty import Spread
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.fit.sequence.left_right import EXCHANGED
from bodyfit.fit.sequence.uncertainty import track_spread
from bodyfit.fit.sequence.window import Window
from bodyfit.fit.silhouette.masks import MaskEvidence
from bodyfit.fit.silhouette.stage import agreeing
from bodyfit.solve import ChainSummary, minimize_chain

__all__ = ["SharedShapeFitter"]


@dataclass(frozen=True)
class _Bodies:
    """Bodies of R pictures that share a shape, somewhere in a fit."""

    x: Float[Tensor, "R N"]
    """Variables of each picture."""
    z: Float[Tensor, "M"]
    """Shared variables."""
    seen: Observations
    """Observations of the last objective."""
    summary: ChainSummary
    """Outcome of the last minimisation."""
    notes: tuple[str | None, ...]
    """Why a picture's mask was not used."""


class SharedShapeFitter:
    """Fitter of one shape to several pictures of a person, for one model, keypoint layout and configuration."""

    def __init__(
        self,
        *,
        layout: str,
        model: BodyModel | None = None,
        config: FitConfig | None = None,
        pictures: PicturesConfig | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.config = FitConfig() if config is None else config
        self.pictures = PicturesConfig() if pictures is None else pictures
        alone = replace(self.config, uncertainty=False, silhouette=self.pictures.silhouette)
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
        alone = self.frames.fit_checked(replace(known, masks=None), claimed, present, picture_px)
        rows = self._taking_part(alone)
        return alone if len(rows) == 0 else self._together(alone, rows, known, present)

    def _taking_part(self, alone: FitResult) -> Int[Tensor, "R"]:
        """List the pictures that take part: good ones where there are some, else all that have a body."""
        good = [i for i, s in enumerate(alone.status) if s.ok and s is not FitStatus.POOR]
        rows = good or [i for i, s in enumerate(alone.status) if s.ok]
        return torch.tensor(rows, dtype=torch.int64, device=self.model.device)

    def _together(
        self, alone: FitResult, rows: Int[Tensor, "R"], known: CheckedEvidence, present: Bool[Tensor, "B K"]
    ) -> FitResult:
        """Optimise some pictures together and put what they share in the place of their own fits."""
        frames, layout, observer = self.frames, self.frames.variables, self.frames.observer
        some, visible = observer.partial.without_guesses(known.select(rows), present[rows])
        joints, none = observer.joints(some, visible), torch.full_like(rows, -1)
        window = Window(frames, self.pictures.keypoints, some, visible, none, 1.0, motion=0.0, swaps=self.config.swaps)
        own = layout.pack({**alone.params, **alone.others})
        x, shared = layout.split(own[rows])
        x, z, summary = window.solve(x, shared.median(0).values)
        bodies = _Bodies(x, z, window.seen, summary, (None,) * len(rows))
        if some.masks is not None:
            bodies = self._with_silhouettes(window, bodies, some.masks, joints)
        spread = None
        if self.config.uncertainty:
            at = window.objective(bodies.seen), bodies.x, bodies.z
            part = track_spread(*at, frames.joints, self.config, self.pictures.keypoints)
            spread = None if part is None else Spread.of_parts(own, self.model.body_joints, [(rows, part)])
        x = observer.partial.at_rest(layout.join(bodies.x, bodies.z), (~observer.shows_legs(joints)).to(own))
        whole = own.index_copy(0, rows, x)
        words = _Words.of(alone, rows.tolist(), bodies, window.exchanged.tolist())
        result = frames.outcome.result(
            whole,
            frames.outcome.points(whole),
            known,
            present,
            observer.joints(known, present),
            alone.objective.index_copy(0, rows, window.costs(x, slice(0, len(rows)))),
            alone.iterations.index_fill(0, rows, bodies.summary.iterations),
            alone.flipped,
            words.status,
            spreads=spread,
        )
        more = {"reason": words.reason, "swapped": words.swapped, "mask_notes": words.mask_notes}
        return replace(result, backend=alone.backend, **more)

    def _with_silhouettes(
        self, window: Window, bodies: _Bodies, masks: MaskEvidence, joints: Bool[Tensor, "R J"]
    ) -> _Bodies:
        """Go on from a fit to keypoints with silhouettes, whose pairs are found anew in each round.

        A mask that does not agree with the keypoints is of somebody else and not used.
        """
        settings, layout, x, z = self.pictures, self.frames.variables, bodies.x, bodies.z
        matcher, rounds = self.frames.silhouette.matcher, settings.silhouette.rounds
        _, explained = matcher(layout.join(x, z), masks, None, joints)
        notes, used = agreeing(masks, explained, layout.join(x, z))
        if not bool(used.any()):
            return replace(bodies, notes=tuple(notes))
        used = used[:, None]
        window.stage = replace(window.stage, shape=settings.shape / math.sqrt(len(x)))
        thickness_cm = self._thickness_cm()
        seen, summary = bodies.seen, bodies.summary
        seen = replace(seen, weight=torch.where(used, settings.reprojection * seen.weight, seen.weight))
        for lm in (*[settings.silhouette.lm] * (rounds - 1), settings.last):
            pairs, _ = matcher(layout.join(x, z), masks, None, joints)
            below = pairs.normal * (thickness_cm[pairs.vertices] / pairs.scale_cm.clamp_min(1e-6))[..., None]
            pairs = replace(pairs, target=pairs.target - below, weight=pairs.weight * used)
            seen = replace(seen, contour=pairs)
            x, z, summary = minimize_chain(window.objective(seen), x, z, lm)
        return _Bodies(x, z, seen, summary, tuple(notes))

    def _thickness_cm(self) -> Float[Tensor, "V"]:
        """Compute the expected thickness of clothes at each vertex, by its skinning weights. Raises `OptionError`."""
        names, thickness = self.model.skeleton.names, self.pictures.clothing_cm
        if wrong := sorted(set(thickness) - set(names)):
            raise OptionError(f"clothing_cm must be by joints of the model, got {', '.join(wrong)}")
        return self.model.weights @ self.model.weights.new_tensor([thickness.get(name, 0.0) for name in names])


@dataclass(frozen=True)
class _Words:
    """What is said of each picture."""

    status: tuple[FitStatus, ...]
    reason: tuple[str | None, ...]
    swapped: tuple[str | None, ...]
    mask_notes: tuple[str | None, ...]

    @classmethod
    def of(cls, alone: FitResult, rows: list[int], bodies: _Bodies, exchanged: list[int]) -> _Words:
        """Say of pictures that take part how the common fit ended; poor ones stay poor, and so do the others."""
        status, reason = list(alone.status), list(alone.reason)
        swapped, notes = list(alone.swapped or (None,) * len(alone)), list(alone.mask_notes)
        ended = FitStatus.CONVERGED if bodies.summary.converged else FitStatus.MAX_STEPS
        for row, order, note in zip(rows, exchanged, bodies.notes, strict=True):
            status[row] = FitStatus.POOR if status[row] is FitStatus.POOR else ended
            swapped[row], notes[row] = None if order < 0 else EXCHANGED[order], note
        return cls(tuple(status), tuple(reason), tuple(swapped), tuple(notes))


def _check_alike(known: CheckedEvidence) -> None:
    """Raise `OptionError` for heights, masses or betas that differ between the pictures of one person."""
    for name in ("betas", "height_m", "mass_kg"):
        value = getattr(known, name)
        if value is not None and bool((value != value[:1]).any()):
            raise OptionError(f"{name} must be the same for all pictures: they are of one person")
