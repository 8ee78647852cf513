"""Observations as the residuals read them: missing values are 0 with weight 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.fit.evidence import Extrinsics
from bodyfit.fit.parts import PartObservations
from bodyfit.fit.scan.pairs import BodyPairs
from bodyfit.fit.silhouette.pairs import ContourPairs

__all__ = ["EXPECTED", "Observations"]

EXPECTED = ("expected_pose", "expected_precision", "expected_orient", "expected_weight")
"""Observations that the conditional pose prior makes of the others."""
_POINTS = ("target", "weight", "lift_m", "lift_weight", "points_m", "points_weight")


@dataclass(frozen=True)
class Observations:
    """Observations of B people, in the units of the residuals; what is missing is 0 with weight 0."""

    target: Float[Tensor, "B CK 2"]
    """Normalised image coordinates (x px - cx) / f; 0 where missing."""
    weight: Float[Tensor, "B CK"]
    """Confidence; 0 where missing."""
    scale_cm: Float[Tensor, "B *N"]
    """Centimetres at the person for one unit of normalised coordinates: 100 x the starting depth in metres; one a
    person, or one a keypoint."""
    rig: Extrinsics | None = None
    """Extrinsics of C cameras; None for one. Keypoints are concatenated, camera after camera."""
    lift_m: Float[Tensor, "B K 3"] | None = None
    """3D keypoints in camera axes about any origin; 0 where unknown."""
    lift_weight: Float[Tensor, "B K"] | None = None
    """Their confidence; 0 where unknown."""
    points_m: Float[Tensor, "B P 3"] | None = None
    """Measured 3D keypoints in camera axes; 0 where unknown."""
    points_weight: Float[Tensor, "B P"] | None = None
    """1 where they are known, else 0."""
    height_m: Float[Tensor, "B"] | None = None
    """Known heights."""
    mass_kg: Float[Tensor, "B"] | None = None
    """Known masses."""
    previous_pose: Float[Tensor, "B A"] | None = None
    """Body pose of the previous frame, axis-angles, radians."""
    expected_pose: Float[Tensor, "B A"] | None = None
    """Body pose that the conditional pose prior expects, axis-angles, radians."""
    expected_orient: Float[Tensor, "B 3"] | None = None
    """Orientation of the root that it expects, axis-angle, radians; a start, too."""
    expected_precision: Float[Tensor, "B N N"] | None = None
    """Precision of the errors of both together, of the orientation first (`fit/residuals/conditional.py`), per radian
    squared."""
    expected_weight: Float[Tensor, "B"] | None = None
    """Factor of its weight: the noise of the person's keypoints, centimetres (`fit/conditional.py`)."""
    estimate_pose: Float[Tensor, "B A"] | None = None
    """Body pose that another program estimated, axis-angles, radians; 0 where there is none."""
    estimate_factor: Float[Tensor, "B J 3 3"] | None = None
    """Lower Cholesky factors of the precisions of its joints, per radian; 0 where there is none."""
    parts: PartObservations | None = None
    """Observations of hands and faces."""
    contour: ContourPairs | None = None
    """Points of the body's contour and of its mask's edge, paired at a pose (`fit/silhouette`)."""
    surface: BodyPairs | None = None
    """Points of the skin and measured points of a depth map, paired at a pose (`fit/depth`)."""
    fixed: tuple[str, ...] = ()
    """Blocks of variables that keep their initial values: the betas of a known shape."""
    more: Mapping[str, Float[Tensor, "B ..."]] = field(default_factory=dict)
    """Inputs of the user's own residuals, by name; one row per person."""

    def select(self, index: Tensor) -> Observations:
        """Select people by index or mask."""

        def some(value: Any) -> Any:
            if isinstance(value, PartObservations | ContourPairs | BodyPairs):
                return value.select(index)
            return value[index] if isinstance(value, Tensor) else value

        values: dict[str, Any] = {f.name: some(getattr(self, f.name)) for f in fields(self)}
        values["more"] = {name: value[index] for name, value in self.more.items()}
        return Observations(**values)

    @classmethod
    def cat(cls, parts: Sequence[Observations]) -> Observations:
        """Concatenate observations of the same kinds; cameras, fixed blocks and names in `more` are the first's."""
        first = parts[0]

        def together(name: str) -> Any:
            value = getattr(first, name)
            if isinstance(value, ContourPairs | BodyPairs):
                return type(value).cat([getattr(part, name) for part in parts])
            return torch.cat([getattr(part, name) for part in parts]) if isinstance(value, Tensor) else value

        values: dict[str, Any] = {f.name: together(f.name) for f in fields(cls)}
        values["more"] = {name: torch.cat([part.more[name] for part in parts]) for name in first.more}
        return cls(**values)

    def replace_rows(
        self, rows: Int[Tensor, "N"], others: Observations, names: Sequence[str] = (*_POINTS, *EXPECTED)
    ) -> Observations:
        """Replace the keypoints, the lift, measured points and what follows from them of some people by those of
        `others`, or of all that the arrays of these names, in a new record."""
        own = {name: value for name in names if (value := getattr(self, name)) is not None}
        # People who are all measured have no expectations: theirs are without weight here.
        theirs = {name: v[rows] if getattr(others, name) is None else getattr(others, name) for name, v in own.items()}
        new: dict[str, Any] = {name: v.index_copy(0, rows, theirs[name]) for name, v in own.items()}
        if self.surface is not None and others.surface is not None:
            new["surface"] = self.surface.replace_rows(rows, others.surface)
        return replace(self, **new)
