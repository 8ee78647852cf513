"""Points of a face: where they are seen, and where the irises are between the corners of the eyes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.points.face import EYES
from bodyfit.body.points.parts import PartTables
from bodyfit.body.points.posed import Points
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, PointResidual, PointTerm
from bodyfit.fit.residuals.parts.arrays import (
    ApartArrays,
    PartReprojectionArrays,
    blank_reprojection,
    empty_tables,
    in_picture,
    numpy_type,
    part_tables,
    plain,
)
from bodyfit.fit.residuals.parts.hands import ScalePrior, part_scale, scaled_term
from bodyfit.fit.residuals.parts.offsets import FACE_OFFSET, offset_term
from bodyfit.fit.residuals.reprojection import in_views, projected, slopes
from bodyfit.fit.setup import Setup
from bodyfit.fit.variables import Block

__all__ = ["FACE_OUTLINE", "FACE_SCALE", "FaceReprojection", "FaceScalePrior", "Gaze", "Openings"]

FACE_SCALE = Block("face_scale", 1, shared=True)
"""The logarithm of how much larger the face is than the body's shape says; as `HAND_SCALE`."""
_NOISE_CM, _SHARED_CM, _SIGMA_CM = 0.3, 0.045, 3.0
"""How well a point of a face marks its place, by itself and by what all of them err together: nobody's face is the
model's, and so many points say no more of it for being many (their variances add up by the root of their count)."""
_SATURATED = _SIGMA_CM * 2.0 / _NOISE_CM
"""Where the residual saturates, in its units."""
FACE_OUTLINE = frozenset(
    (
        *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
        *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
    )
)
"""MediaPipe's outline of a face: on one that is turned a line in the picture, two centimetres off the mesh's."""
_MEDIAPIPE = (468, 478)
_LIDS = ((159, 145), (158, 153), (160, 144), (386, 374), (385, 380), (387, 373))
_LIPS = ((13, 14), (82, 87), (312, 317))
_LIDS_IBUG = ((37, 41), (38, 40), (43, 47), (44, 46))
_LIPS_IBUG = ((61, 67), (62, 66), (63, 65))
_OPENINGS = {468: (_LIDS, _LIPS), 478: (_LIDS, _LIPS), 68: (_LIDS_IBUG, _LIPS_IBUG), 70: (_LIDS_IBUG, _LIPS_IBUG)}
"""By the count of points: pairs of the upper and the lower lid, and of both lips."""
_LIDS_CM, _LIPS_CM = 0.1, 0.3
"""How well the way between lids, and between lips, is known."""
_GAZE_CM = 0.1
"""How well an iris is known between the corners of its eye: 1 mm are 5 degrees."""
_UNIT_CM = 2.0


class _OnFace(PointResidual):
    """A residual on the points of a face. The betas do not answer to it, jaw, eyes and expression do."""

    group, weight, feels_shape = "seen", 1.0, False

    def __init__(self, setup: Setup) -> None:
        self.setup, self.own = setup, setup.face
        self.count = 0 if setup.face is None else len(setup.face)

    @classmethod
    def of(cls, setup: Setup):
        """Make the residual on the points of the setup's face, if it has one."""
        return cls(setup)

    def points(self, setup: Setup) -> Points:
        """Those of the face."""
        assert self.own is not None
        return self.own

    def applies(self, seen: Observations) -> bool:
        """Whether a face was looked at."""
        return self.own is not None and seen.parts is not None and seen.parts.face_target is not None


class FaceReprojection(_OnFace):
    """Robust distances of a face's points in the picture of each camera; irises are left to `Gaze`."""

    name = "face"
    loop = Loop("own points", "bodyfit.fit.residuals.loops.parts:reproject_parts", PartReprojectionArrays, whole=True)

    @cached_property
    def used(self) -> Float[Tensor, "K"]:
        """1 for points that have a place on the model and are no irises."""
        assert self.own is not None
        used = self.own.weight.new_tensor([float(known) for known in self.own.known])
        used[[iris for iris, *_ in EYES.get(self.count, ())]] = 0
        if self.count in _MEDIAPIPE:
            used[sorted(FACE_OUTLINE)] = 0
        return used

    @cached_property
    def noise_cm(self) -> float:
        """How well one of them marks its place."""
        return (_NOISE_CM**2 + _SHARED_CM**2 * float(self.used.sum())) ** 0.5

    def at(
        self, points_m: Float[Tensor, "B K 3"], variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig
    ) -> PointTerm:
        """The term, of a face scaled about its middle."""
        parts = seen.parts
        assert parts is not None
        target, weight = parts.face_target, parts.face_weight
        assert target is not None
        assert weight is not None
        weight = weight * self.used.repeat(weight.shape[1] // len(self.used))
        scale = part_scale(parts.depth_cm, parts.face_focal_px, parts.noise_px, self.noise_cm)

        def term(points: Tensor) -> PointTerm:
            return in_views(points, target, weight, scale, _SATURATED, seen.rig)

        size = variables.get(FACE_SCALE.name)

        def scaled(p: Tensor) -> PointTerm:
            return scaled_term(p, size, FACE_SCALE.name, term, about_mean=True)

        return offset_term(points_m[:, None], variables.get(FACE_OFFSET.name), FACE_OFFSET.name, scaled)

    @cached_property
    def tables(self) -> PartTables:
        """The face's points for the loops."""
        return part_tables(self.setup, self.points(self.setup), 1, FACE_SCALE.name, FACE_OFFSET.name)

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> PartReprojectionArrays:
        """Make the inputs of the compiled kernel."""
        parts = seen.parts
        assert parts is not None
        assert parts.face_weight is not None
        confidence = parts.face_weight * self.used.repeat(parts.face_weight.shape[1] // len(self.used))
        scale = part_scale(parts.depth_cm, parts.face_focal_px, parts.noise_px, self.noise_cm)
        picture = in_picture(seen, weight, _SATURATED, parts.face_target, confidence, scale)
        return PartReprojectionArrays(weight, self.tables, True, picture)

    @classmethod
    def blank(cls, setup: Setup) -> Any:
        """Make empty inputs of weight 0."""
        return blank_reprojection(setup)


class _Apart(_OnFace):
    """A residual on sums of points of weights that add up to 0, in the picture of the first camera.

    It does not feel what all of these points are off by alike.
    """

    loop = Loop("own points", "bodyfit.fit.residuals.loops.parts:apart", ApartArrays, whole=True)
    shares: ClassVar[tuple[float, ...]]
    """The weights of the M points of a row."""

    @cached_property
    def rows(self) -> list[tuple[tuple[int, ...], float]]:
        """The points of each of E rows, and how well their sum is known, centimetres."""
        raise NotImplementedError

    @cached_property
    def places(self) -> list[tuple[int, ...]]:
        """The points of each row."""
        return [points for points, _ in self.rows]

    def applies(self, seen: Observations) -> bool:
        """Whether a face was looked at, by points that the model has."""
        return super().applies(seen) and len(self.rows) > 0

    def at(
        self, points_m: Float[Tensor, "B K 3"], variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig
    ) -> PointTerm:
        """The term: two plain residuals a row."""
        parts, n = seen.parts, self.count
        assert parts is not None
        assert parts.face_target is not None
        rows, weight = torch.tensor(self.places, device=points_m.device), self._scale(seen)  # (E, M), (B, E)
        shares = points_m.new_tensor(self.shares)
        uv, inverse = projected(points_m[:, rows])
        off = ((uv - parts.face_target[:, rows]) * shares[:, None]).sum(2)  # (B, E, 2)
        by_own = slopes(uv, inverse) * (shares * weight[..., None])[..., None, None]  # (B, E, M, 2, 3)
        by_points = points_m.new_zeros(len(points_m), len(rows), 2, n, 3)
        for row, points in enumerate(self.places):
            by_points[:, row, :, list(points)] = by_own[:, row].transpose(1, 2)
        return PointTerm.of_rows((weight[..., None] * off).flatten(1), by_points.flatten(1, 2))

    def _scale(self, seen: Observations) -> Float[Tensor, "B E"]:
        """Return what turns normalised coordinates into the residual of each row, 0 for one that is not visible."""
        parts = seen.parts
        assert parts is not None
        assert parts.face_weight is not None
        scales = [
            part_scale(parts.depth_cm, parts.face_focal_px, parts.noise_px, cm)[:, points[0]]
            for points, cm in self.rows
        ]
        return parts.face_weight[:, torch.tensor(self.places)].amin(2) * torch.stack(scales, 1)

    @cached_property
    def tables(self) -> PartTables:
        """The points of all rows for the loops."""
        every = [point for points in self.places for point in points]
        return part_tables(self.setup, self.points(self.setup), 1, "", "", every)

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> ApartArrays:
        """Make the inputs of the compiled kernel."""
        parts = seen.parts
        assert parts is not None
        assert parts.face_target is not None
        every = [point for points in self.places for point in points]
        target, scale = (plain(value, seen) for value in (parts.face_target[:, every], self._scale(seen)))
        return ApartArrays(weight, self.tables, np.array(self.shares), target, scale)

    @classmethod
    def blank(cls, setup: Setup) -> ApartArrays:
        """Make empty inputs of weight 0."""
        kind = numpy_type(setup)
        nothing = np.zeros((0, 0, 2), kind), np.zeros((0, 0), kind)
        return ApartArrays(0.0, empty_tables(setup), np.zeros(0), *nothing)


class Openings(_Apart):
    """Ways in the picture between upper and lower lids and between lips.

    Faces differ from the model's by centimetres, and alike at both lids: what a lid or a lip is off by says little, how
    far two are apart says much.
    """

    name, shares = "openings", (1.0, -1.0)

    @cached_property
    def rows(self) -> list[tuple[tuple[int, ...], float]]:
        """Pairs of points that both have a place on the model, and how well the way between them is known."""
        assert self.own is not None
        found = zip(_OPENINGS[self.count], (_LIDS_CM, _LIPS_CM), strict=True)
        return [(pair, cm) for pairs, cm in found for pair in pairs if all(self.own.known[i] for i in pair)]


class Gaze(_Apart):
    """Where each iris is in the picture beside the middle of its eye's corners."""

    name, shares = "gaze", (1.0, -0.5, -0.5)

    @cached_property
    def rows(self) -> list[tuple[tuple[int, ...], float]]:
        """The iris and both corners of each eye."""
        return [(eye, _GAZE_CM) for eye in EYES.get(self.count, ())]


class FaceScalePrior(ScalePrior):
    """How far a face differs in size from what the body's shape says of it, in deviations."""

    name, blocks = "face_scale", (FACE_SCALE.name,)
