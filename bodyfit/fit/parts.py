"""Evidence of hands and faces in three records: as users pass it, checked, and as the residuals read it.

Points of both hands go together, the left hand's 21 before the right's; of several cameras, camera after camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.points.face import FACE_COUNTS
from bodyfit.errors import OptionError, ShapeError
from bodyfit.geometry.camera import CalibratedCamera, Camera
from bodyfit.skeleton import layout_names

__all__ = ["HAND_POINTS", "PartEvidence", "PartInput", "PartObservations", "check_parts"]

Array: TypeAlias = Float[Tensor, "..."] | Float[np.ndarray, "..."]

HAND_POINTS = 21
"""The wrist, then thumb, index, middle, ring and little finger, four each from the palm to the tip."""
_REST_PX, _SURE_PX = 20.0, 30.0
"""Lengths of a palm at which the weight of the hand's keypoints begins to grow from 0, and at which it is full."""
_REST_FACE_PX, _SURE_FACE_PX = 24.0, 48.0
"""Heights of a face at which its weight begins to grow from 0, and at which it is full."""
_PALM = (0, 5, 17)
"""The wrist and the knuckles of index and little finger."""


@dataclass(frozen=True)
class PartInput:
    """Holds the fields of `Evidence` that concern hands and faces, unchecked."""

    hands: Array | None = None
    hands_lift: Array | None = None
    hands_points3d: Array | None = None
    face: Array | None = None

    @property
    def is_present(self) -> bool:
        """Tell whether any field is set."""
        return any(getattr(self, f.name) is not None for f in fields(self))

    def with_layout(self, keypoints: Array | None, layout: str, model: BodyModel) -> PartInput:
        """Return a copy whose unset hands and face come from the body's keypoints.

        Some layouts include the points of hands or of a face; they are used where the model has these parts.
        """
        names, poses, found = layout_names(layout), dict(model.kind.poses), {}
        if keypoints is None or model.num_pca_comps is not None:
            return self
        wrists = [names.index(name) for name in ("left_wrist_root", "right_wrist_root") if name in names]
        if self.hands is None and len(wrists) == 2 and "left_hand_pose" in poses:
            rows = [row + i for row in wrists for i in range(HAND_POINTS)]
            found["hands"] = keypoints[..., rows, :].reshape(*keypoints.shape[:-2], 2, HAND_POINTS, 3)
        rows = [i for i, name in enumerate(names) if name.startswith("face_")]
        if self.face is None and len(rows) in FACE_COUNTS and "jaw_pose" in poses and model.landmarks is not None:
            found["face"] = keypoints[..., rows, :]
        return replace(self, **found)


@dataclass(frozen=True)
class PartEvidence:
    """Holds checked evidence of hands and face on the model's device; missing values are NaN or have confidence 0."""

    hands: Float[Tensor, "B CH 3"] | None = None
    """x px, y px, confidence of 42 points a camera."""
    hands_target: Float[Tensor, "B CH 2"] | None = None
    """Their undistorted normalised image coordinates (x / z, y / z)."""
    hands_focal_px: Float[Tensor, "B CH"] | None = None
    """Focal length of each point's camera."""
    hands_lift_m: Float[Tensor, "B 42 3"] | None = None
    """Each hand's 3D points about any origin, camera axes."""
    hands_points_m: Float[Tensor, "B 42 3"] | None = None
    """Measured positions of hand points, camera axes."""
    face: Float[Tensor, "B CF 3"] | None = None
    """x px, y px, confidence of the points of a face, camera after camera."""
    face_target: Float[Tensor, "B CF 2"] | None = None
    face_focal_px: Float[Tensor, "B CF"] | None = None

    face_points: int = 0
    """Points of a face per camera: 0 without faces."""

    def only(self, *, hands: bool, face: bool) -> PartEvidence | None:
        """Select the evidence of hands, of faces or of both; None if nothing remains."""
        left_out = [name for name, keep in (("hands", hands), ("face", face)) if not keep]
        cleared: dict[str, Any] = {f.name: None for f in fields(self) if f.name.startswith(tuple(left_out))}
        cleared["face_points"] = self.face_points if face else 0
        part = replace(self, **cleared)
        return part if any(isinstance(getattr(part, f.name), Tensor) for f in fields(part)) else None

    def select(self, rows: Tensor) -> PartEvidence:
        """Select people by index or mask."""
        return PartEvidence(**_some(self, rows))

    def without_hands(self, rows: Bool[Tensor, "B"]) -> PartEvidence:
        """Mark the hands of some people as missing."""
        names = ("hands", "hands_lift_m", "hands_points_m")
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        cleared = {name: value.masked_fill(rows[:, None, None], torch.nan) for name, value in found.items()}
        return replace(self, **cleared)

    def observations(self, cameras: int, least: float, noise_px: float) -> PartObservations:
        """Convert to what the residuals read: missing values are 0 with weight 0.

        Points of a confidence below `least` are left out. `depth_cm` stays None: it follows from the body's fit.
        """
        seen = self._with_hands(PartObservations(noise_px=noise_px), least)
        return self._with_face(self._with_places(seen, cameras), cameras, least)

    def _with_hands(self, seen: PartObservations, least: float) -> PartObservations:
        """Add hands in the picture, with less weight where they are small."""
        if self.hands is None or self.hands_target is None:
            return seen
        weight = _weight(self.hands, least)
        each = weight.unflatten(1, (-1, HAND_POINTS)), self.hands[..., :2].unflatten(1, (-1, HAND_POINTS))
        weight = (each[0] * _large_enough(*each)[..., None]).flatten(1)
        target = torch.where(weight[..., None] > 0, self.hands_target, 0.0)
        return seen.with_(hands_target=target, hands_weight=weight, hands_focal_px=self.hands_focal_px)

    def _with_places(self, seen: PartObservations, cameras: int) -> PartObservations:
        """Add lifts and measured points of hands."""
        if self.hands_lift_m is not None:
            weight = torch.isfinite(self.hands_lift_m).all(2).to(self.hands_lift_m.dtype)
            if seen.hands_weight is not None:
                # A lift is as sure as the points in the picture that it comes with.
                weight = weight * seen.hands_weight.unflatten(1, (cameras, -1)).amax(1)
            value = torch.where(weight[..., None] > 0, self.hands_lift_m, 0.0)
            seen = seen.with_(hands_lift_m=value, hands_lift_weight=weight)
        if self.hands_points_m is not None:
            known = torch.isfinite(self.hands_points_m).all(2)
            value = torch.where(known[..., None], self.hands_points_m, 0.0)
            seen = seen.with_(hands_points_m=value, hands_points_weight=known.to(value.dtype))
        return seen

    def _with_face(self, seen: PartObservations, cameras: int, least: float) -> PartObservations:
        """Add a face in the picture, with less weight where it is small."""
        if self.face is None or self.face_target is None:
            return seen
        weight = _weight(self.face, least).unflatten(1, (cameras, -1))
        y = torch.where(weight > 0, self.face[..., 1].unflatten(1, (cameras, -1)), torch.nan)
        sure = ((_spread(y) - _REST_FACE_PX) / (_SURE_FACE_PX - _REST_FACE_PX)).clamp(0, 1)
        weight = (weight * sure[..., None]).flatten(1)
        target = torch.where(weight[..., None] > 0, self.face_target, 0.0)
        return seen.with_(face_target=target, face_weight=weight, face_focal_px=self.face_focal_px)


@dataclass(frozen=True)
class PartObservations:
    """Holds observations of hands and faces as the residuals read them: missing values are 0 with weight 0."""

    noise_px: float = 1.0
    """Standard deviation of a detected point of a hand or a face, pixels."""
    hands_target: Float[Tensor, "B CH 2"] | None = None
    """Normalised image coordinates (x / z, y / z)."""
    hands_weight: Float[Tensor, "B CH"] | None = None
    """Confidence, less where a hand is small; 0 where missing."""
    hands_focal_px: Float[Tensor, "B CH"] | None = None
    hands_lift_m: Float[Tensor, "B 42 3"] | None = None
    hands_lift_weight: Float[Tensor, "B 42"] | None = None
    hands_points_m: Float[Tensor, "B 42 3"] | None = None
    hands_points_weight: Float[Tensor, "B 42"] | None = None
    face_target: Float[Tensor, "B CF 2"] | None = None
    face_weight: Float[Tensor, "B CF"] | None = None
    face_focal_px: Float[Tensor, "B CF"] | None = None
    depth_cm: Float[Tensor, "B C"] | None = None
    """How far the person is from each camera, centimetres."""

    def with_(self, **values: Tensor | None) -> PartObservations:
        """Return a copy with some values replaced."""
        return PartObservations(**{**{f.name: getattr(self, f.name) for f in fields(self)}, **values})

    def select(self, index: Tensor) -> PartObservations:
        """Select people by index or mask."""
        return PartObservations(**_some(self, index))

    def largest_hand_weight(self) -> Float[Tensor, "B 2"]:
        """Return the highest weight of any point of the left and of the right hand, in an image or measured in 3D."""
        found = [
            weight.unflatten(1, (-1, 2, HAND_POINTS)).amax((1, 3))
            for weight in (self.hands_weight, self.hands_points_weight)
            if weight is not None
        ]
        if not found:
            like = self.face_weight
            assert like is not None
            return like.new_zeros(len(like), 2)
        return torch.stack(found).amax(0)

    def largest_face_weight(self) -> Float[Tensor, "B"] | None:
        """Return the highest weight of any point of the face; None without evidence of faces."""
        return None if self.face_weight is None else self.face_weight.amax(1)


def _some(record: PartEvidence | PartObservations, rows: Tensor) -> dict:
    return {
        f.name: value[rows] if isinstance(value := getattr(record, f.name), Tensor) else value for f in fields(record)
    }


def _weight(xyc: Float[Tensor, "B N 3"], least: float) -> Float[Tensor, "B N"]:
    confidence = torch.nan_to_num(xyc[..., 2], nan=0.0)
    there = (confidence >= least) & torch.isfinite(xyc).all(2)
    return torch.where(there, confidence.clamp(max=1), 0.0)


def _large_enough(weight: Float[Tensor, "B N 21"], xy: Float[Tensor, "B N 21 2"]) -> Float[Tensor, "B N"]:
    """Weight hands by the length of their palm in the image, 0 to 1.

    Half the extent of the visible points stands for the length of a palm that is not wholly visible.
    """
    palm = xy[:, :, list(_PALM)]
    whole = (weight[:, :, list(_PALM)] > 0).all(2)
    sides = torch.stack([(palm[:, :, i] - palm[:, :, j]).norm(dim=2) for i, j in ((0, 1), (1, 2), (2, 0))]).amax(0)
    visible = torch.where((weight > 0)[..., None], xy, torch.nan)
    extent = torch.maximum(_spread(visible[..., 0]), _spread(visible[..., 1]))
    size = torch.where(whole, torch.nan_to_num(sides), 0.5 * extent)
    return ((size - _REST_PX) / (_SURE_PX - _REST_PX)).clamp(0, 1)


def _spread(values: Float[Tensor, "*B N"]) -> Float[Tensor, "*B"]:
    """Compute the range (maximum minus minimum) of the numbers that are not NaN; 0 where all are."""
    high, low = torch.nan_to_num(values, nan=-torch.inf).amax(-1), torch.nan_to_num(values, nan=torch.inf).amin(-1)
    return torch.where(high >= low, high - low, 0.0)


def check_parts(
    parts: PartInput, camera: Camera, cameras: Sequence[CalibratedCamera] | None, batch: int, like: Tensor
) -> PartEvidence:
    """Check the evidence of hands and faces and move it to the device and type of `like`.

    Raises `ShapeError` for shapes that do not fit and `OptionError` for confidences outside [0, 1].
    """
    n_c = 1 if cameras is None else len(cameras)
    views = () if cameras is None else (n_c,)
    values: dict[str, Tensor | None] = {}
    count = 0
    if parts.hands is not None:
        xyc = _shaped("hands", parts.hands, (batch, *views, 2, HAND_POINTS, 3), like)
        values["hands"] = xyc.flatten(1, -2)
        values["hands_target"], values["hands_focal_px"] = _directions(values["hands"], camera, cameras)
    for name, own in (("hands_lift", "hands_lift_m"), ("hands_points3d", "hands_points_m")):
        value = getattr(parts, name)
        if value is not None:
            values[own] = _shaped(name, value, (batch, 2, HAND_POINTS, 3), like).flatten(1, 2)
    if parts.face is not None:
        face = torch.as_tensor(parts.face)
        if face.ndim < 2 or face.shape[-2] not in FACE_COUNTS:
            counts = ", ".join(map(str, FACE_COUNTS))
            raise ShapeError(f"face must have {counts} points of x, y, confidence, got {tuple(face.shape)}")
        xyc = _shaped("face", face, (batch, *views, face.shape[-2], 3), like)
        values["face"] = xyc.flatten(1, -2)
        values["face_target"], values["face_focal_px"] = _directions(values["face"], camera, cameras)
        count = face.shape[-2]
    for name in ("hands", "face"):
        value = values.get(name)
        if value is not None and bool(
            (torch.isfinite(value[..., 2]) & ((value[..., 2] > 1.5) | (value[..., 2] < 0))).any()
        ):
            raise OptionError(f"confidences must lie in [0, 1]; scale the third column of {name}")
    return PartEvidence(**values, face_points=count)


def _shaped(name: str, value: object, shape: tuple[int, ...], like: Tensor) -> Tensor:
    found = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if tuple(found.shape) != shape:
        raise ShapeError(
            f"{name} must be {shape} (people, cameras if calibrated, left and right), got {tuple(found.shape)}"
        )
    return found


def _directions(
    xyc: Float[Tensor, "B N 3"], camera: Camera, cameras: Sequence[CalibratedCamera] | None
) -> tuple[Float[Tensor, "B N 2"], Float[Tensor, "B N"]]:
    """Convert keypoints to undistorted normalised image coordinates; return these and the focal lengths in pixels."""
    if cameras is None:
        focal = camera.focal_px[:, None].expand(xyc.shape[:2])
        return (xyc[..., :2] - camera.principal_point_px[:, None]) / focal[..., None], focal
    views = torch.nan_to_num(xyc[..., :2], nan=0.0, posinf=0.0, neginf=0.0).unflatten(1, (len(cameras), -1))
    pixels = views.double().cpu().numpy()
    target = np.stack([c.normalised(pixels[:, i]) for i, c in enumerate(cameras)], 1)
    focal = xyc.new_tensor([c.focal_px for c in cameras])[:, None].expand(views.shape[1:3]).flatten()
    return torch.from_numpy(target).to(xyc).flatten(1, 2), focal.expand(len(xyc), -1)
