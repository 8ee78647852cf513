"""Interpenetration of fingers: overlap of capsules about fingers and palms, within a hand and between hands."""

from __future__ import annotations

from functools import cached_property

import torch

from bodyfit.body.contact.hand_capsules import HandCapsules
from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import Points
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop
from bodyfit.fit.residuals.capsules import CapsuleArrays, CapsuleOverlap
from bodyfit.fit.setup import Setup

__all__ = ["HandOverlap"]


class HandOverlap(CapsuleOverlap):
    """Penetration depths of pairs of capsules of fingers and palms, centimetres; the equations are `CapsuleOverlap`'s.

    `cover` narrows the radii, for fingers that touch press flesh on flesh. Hands that are small in the picture rest
    (`PartObservations`), and at rest nothing overlaps.
    """

    name, weight = "hand_overlap", 6.0
    loop = Loop("own points", "bodyfit.fit.residuals.loops.capsules:overlap", CapsuleArrays, whole=True)

    def __init__(self, model: BodyModel | None, *, cover: float = 0.9, curvature_pairs: int = 16) -> None:
        """Make the residual of a model with fingers; it applies to nobody without one."""
        self.has_fingers = model is not None
        if model is None:
            return
        capsules = HandCapsules.of(model)
        self.curvature_pairs, n = curvature_pairs, len(capsules.names)
        kind = {"dtype": model.dtype, "device": model.device}
        axes = [capsules.axis(c, end) for end in (0, 1) for c in range(n)]
        self.own_points = Points(model, axes, whole=True)
        self.pairs = torch.as_tensor(capsules.pairs(), device=model.device).T
        i, j = self.pairs
        self.where = torch.stack([i, i + n, j, j + n, i], 1)
        self.radius = torch.as_tensor(cover * capsules.radius_m, **kind)
        self.radius_shape = torch.zeros(n, model.num_betas, **kind)
        # No slab, and no points that feel one.
        self.sampled = torch.zeros(0, dtype=torch.int64, device=model.device)
        self.share = torch.zeros(0, **kind)
        self.corners = torch.zeros(4, dtype=torch.int64, device=model.device)

    @classmethod
    def of(cls, setup: Setup) -> HandOverlap:
        """Make the residual from the body model of the fit."""
        return cls(setup.model if setup.whole else None)

    def applies(self, seen: Observations) -> bool:
        """Tell whether any hand is visible."""
        return self.has_fingers and seen.parts is not None and bool((seen.parts.largest_hand_weight() > 0).any())

    @cached_property
    def _tables(self) -> CapsuleArrays:
        found = super()._tables
        # The loop's rows have room for the derivatives by betas alone; there are none by the expression.
        n_s = self.radius_shape.shape[1]
        points = found.points._replace(offset_shape=found.points.offset_shape[:, :, :n_s].copy())
        return found._replace(points=points)
