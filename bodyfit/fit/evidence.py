"""Evidence for a fit: the record that users make, and the checked record in one form.

Keypoints of C calibrated cameras are concatenated, camera after camera: a person has C x K keypoints. Results are in
the axes of the first camera; the objective transforms the body's K points to each camera's axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError, ShapeError, check_shape
from bodyfit.fit.depth.maps import DepthEvidence, DepthInput, check_depth
from bodyfit.fit.estimate import CheckedEstimate, PoseEstimate, check_estimate
from bodyfit.fit.parts import PartEvidence, PartInput, check_parts
from bodyfit.fit.silhouette.masks import MaskEvidence, MaskInput, check_masks
from bodyfit.geometry.camera import CalibratedCamera, Camera
from bodyfit.skeleton import layout_names

__all__ = ["Array", "CheckedEvidence", "Evidence", "Extrinsics", "check_evidence", "one_row_each"]

Array: TypeAlias = Float[Tensor, "..."] | Float[np.ndarray, "..."]


@dataclass(frozen=True)
class Extrinsics:
    """Extrinsics of calibrated cameras relative to the first: x_c = R_c x + t_c, metres."""

    R: Float[Tensor, "C 3 3"]
    t: Float[Tensor, "C 3"]

    @classmethod
    def of(cls, cameras: Sequence[CalibratedCamera], like: Tensor) -> Extrinsics:
        """Compute the extrinsics of calibrated cameras, in the type and device of `like`."""
        first = cameras[0]
        R = np.stack([camera.R @ first.R.T for camera in cameras])
        t = np.stack([camera.t - turn @ first.t for camera, turn in zip(cameras, R, strict=True)])
        return cls(torch.from_numpy(R).to(like), torch.from_numpy(t).to(like))

    def points(self, points: Float[Tensor, "B K 3"]) -> Float[Tensor, "B CK 3"]:
        """Transform points from the first camera's axes to every camera's, metres."""
        return (points[:, None] @ self.R.mT + self.t[:, None]).flatten(1, 2)

    def jacobian(self, jacobian: Float[Tensor, "B K 3 D"]) -> Float[Tensor, "B CK 3 D"]:
        """Transform derivatives of points from the first camera's axes to every camera's."""
        return (self.R[:, None] @ jacobian[:, None]).flatten(1, 2)

    def triangulated(
        self, target: Float[Tensor, "B CK 2"], weight: Float[Tensor, "B CK"]
    ) -> tuple[Float[Tensor, "B K 3"], Bool[Tensor, "B K"]]:
        """Triangulate keypoints by linear least squares of distances from their rays.

        Returns positions (metres, first camera's axes) and whether at least two cameras see the keypoint, by rays that
        are not parallel.
        """
        n_c = len(self.R)
        ray = torch.cat([target, torch.ones_like(target[..., :1])], 2).unflatten(1, (n_c, -1))
        ray = torch.nn.functional.normalize(ray @ self.R, dim=3)  # (B, C, K, 3), first camera's axes
        w = weight.unflatten(1, (n_c, -1))[..., None, None]
        across = w * (torch.eye(3).to(ray) - ray[..., None] * ray[..., None, :])
        A = across.sum(1)
        b = (across @ (-(self.t[:, None] @ self.R))[:, :, :, None]).sum(1)
        met = (w[..., 0, 0] > 0).sum(1) >= 2
        A = torch.where(met[..., None, None], A, torch.eye(3).to(A))
        where = torch.linalg.solve_ex(A + 1e-9 * torch.eye(3).to(A), b)[0][..., 0]
        finite = torch.isfinite(where).all(2)
        return torch.where(finite[..., None], where, 0.0), met & finite


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Evidence of B people, or of one person in B frames of a clip, one row each.

    A focal length, principal point, shape, height or mass may be given once for all. Raises `OptionError` without
    keypoints and measured points, or without a layout.
    """

    keypoints: Array | None = None
    """(B, K, 3): x px, y px (pixel centres at +0.5) and confidence; missing keypoints have confidence 0 or NaN. With C
    calibrated cameras (B, C, K, 3)."""
    layout: str | None = None
    """Layout of the keypoints, a name of `skeleton.LAYOUTS`; by default `points3d_layout`."""
    image_size: tuple[int, int] | None = None
    """Width and height of the image, pixels."""
    focal_px: float | Tensor | None = None
    """Focal length, pixels: one for all or (B,); by default sqrt(w^2 + h^2)."""
    principal_point_px: tuple[float, float] | Tensor | None = None
    """Principal point, pixels: one for all or (B, 2); by default the image's centre."""
    cameras: Sequence[CalibratedCamera] | None = None
    """Calibrated cameras, instead of the previous three fields."""
    joints3d: Array | None = None
    """(B, K, 3): 3D keypoints of a detector (lift), metres about any origin, camera axes; NaN where unknown."""
    joints3d_scale: Array | None = None
    """(B, K): scale of the errors of `joints3d` along the view, metres, as the detector predicts it; NaN where unknown.
    The lift is weighed by it."""
    points3d: Array | None = None
    """(B, P, 3): measured positions of keypoints, metres, in the result's axes; NaN where unknown. Sufficient alone."""
    points3d_layout: str | None = None
    """Layout of the measured points; by default `layout`."""
    betas: Array | None = None
    """(S,) or (B, S): a known shape, which the fit does not change."""
    height_m: float | int | Array | None = None
    """A known height, metres: one for all or (B,)."""
    mass_kg: float | int | Array | None = None
    """A known mass, kilograms: one for all or (B,)."""
    previous: BodyParams | None = None
    """Bodies of the previous frame, from which changes of pose are penalised."""
    estimate: PoseEstimate | None = None
    """Bodies that another program estimated: a start, and what the fit stays near to (`fit/estimate.py`)."""
    hands: Array | None = None
    """(B, 2, 21, 3): x px, y px and confidence of the left hand's points, then of the right's: the wrist, then thumb,
    index, middle, ring and little finger from the palm to the tip. Missing is confidence 0 or NaN. Of C calibrated
    cameras (B, C, 2, 21, 3). The model must have fingers. Of one camera sufficient alone: a hand without a body is
    fitted with the forearm's direction free."""
    hands_lift: Array | None = None
    """(B, 2, 21, 3): 3D points of hands from a detector, metres about any origin of each hand, camera axes; NaN where
    unknown."""
    hands_points3d: Array | None = None
    """(B, 2, 21, 3): measured positions of hand points, metres, in the result's axes; NaN where unknown."""
    face: Array | None = None
    """(B, F, 3): x px, y px and confidence of the points of a face: MediaPipe's 468, or 478 with irises, iBUG's 68, or
    70 with pupils. Of C calibrated cameras (B, C, F, 3). The model must have a jaw, eyes and expression."""
    masks: Tensor | np.ndarray | Sequence[MaskInput | Sequence[MaskInput]] | None = None
    """(B, H, W): whether each pixel is the person's, as truth values, bytes or numbers from 0 to 1, NaN where it is
    unknown, such as where somebody else is before the person; or a list of one for each person: whole, cropped
    (`SoftMask`), an `Outline`, or None. Of C calibrated cameras a list of C for each."""
    depth: Tensor | np.ndarray | Sequence[DepthInput] | None = None
    """(B, H, W): depth maps of each person's picture, of its camera and its size: metres along the optical axis, 0 or
    NaN in holes; or a list of one for each person, None without one. `masks` tell which pixels are the person's;
    without them the points near the person are. Of one camera, whose focal length must be right."""
    more: Mapping[str, Array] = field(default_factory=dict)
    """(B, ...) by name: inputs of the user's own residuals (`Observations.more`)."""

    def __post_init__(self) -> None:
        if self.keypoints is None and self.points3d is None:
            if self.hands is None:
                raise OptionError("nothing to fit to: give keypoints, measured 3D points (points3d), or both")
            object.__setattr__(self, "layout", self.layout or "coco17")
            missing = torch.zeros(len(self.hands), len(layout_names(self.layout or "coco17")), 3)
            object.__setattr__(self, "keypoints", missing)
        if self.layout is None and self.points3d_layout is None:
            raise OptionError("layout must say what the keypoints are, as in layout='coco17'")

    def __len__(self) -> int:
        rows = self.keypoints if self.keypoints is not None else self.points3d
        assert rows is not None
        return len(rows)

    def _each(self, name: str) -> bool:
        """Tell whether a field has one row per person, and not one value for all."""
        value, n = getattr(self, name), len(self)
        if name in ("keypoints", "joints3d", "joints3d_scale", "points3d", *_PARTS):
            return value is not None
        shape: tuple[int, ...] = tuple(getattr(value, "shape", ()))
        least = 2 if name in ("principal_point_px", "betas") else 1
        return name in _PER_PERSON and len(shape) >= least and shape[:1] == (n,)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray | Tensor) -> Evidence:
        """Select people by index, slice, list of indices or mask (B,).

        Raises `IndexError` for an index out of range and `ShapeError` for a mask of another length.
        """
        if isinstance(rows, int):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"there is no person {rows} among {len(self)}")
            rows = [rows]
        if isinstance(rows, slice):
            return self.select(rows)
        index = torch.as_tensor(rows)
        if index.dtype == torch.bool and index.shape != (len(self),):
            raise ShapeError(f"a mask must have one value a person, ({len(self)},), got {tuple(index.shape)}")
        return self.select(index.nonzero()[:, 0] if index.dtype == torch.bool else index.long())

    def select(self, rows: Tensor | slice | list[int]) -> Evidence:
        """Select people by index."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        some: dict[str, Any] = {name: values[name][rows] for name in values if name in _PER_PERSON and self._each(name)}
        if self.previous is not None:
            some["previous"] = self.previous.select(rows)
        some |= {name: _rows_of(values[name], rows) for name in ("masks", "depth") if values[name] is not None}
        if self.estimate is not None:
            some["estimate"] = self.estimate.select(rows)
        some["more"] = {name: value[rows] for name, value in self.more.items()}
        return Evidence(**values | some)

    @classmethod
    def cat(cls, parts: Sequence[Evidence]) -> Evidence:
        """Concatenate the evidence of several groups of people.

        Raises `OptionError` where kinds of evidence, layouts, image sizes or cameras differ.
        """
        first = parts[0]
        values: dict[str, Any] = {f.name: getattr(first, f.name) for f in fields(cls)}
        for name in values:
            several = [getattr(part, name) for part in parts]
            available = [value is not None for value in several]
            if any(available) != all(available):
                raise OptionError(f"{name} is given for some of the people only; give it for all, NaN where unknown")
            if not any(available) or name == "more":
                continue
            if name == "previous":
                values[name] = BodyParams(**{k: torch.cat([v[k] for v in several]) for k in first.previous or ()})
            elif name == "estimate":
                values[name] = PoseEstimate.cat(several)
            elif name in _PER_PERSON:
                values[name] = torch.cat([part._rows(name) for part in parts])
            elif name in ("masks", "depth"):
                values[name] = [one for part in several for one in part]
            elif name == "cameras":
                if any([id(camera) for camera in v] != [id(camera) for camera in several[0]] for v in several):
                    raise OptionError("cameras differ: put people together that the same cameras see")
            elif any(value != several[0] for value in several):
                raise OptionError(f"{name} differs: {', '.join(sorted({str(v) for v in several}))}")
        if any(set(part.more) != set(first.more) for part in parts):
            raise OptionError("more must have the same names for all of the people")
        values["more"] = {name: torch.cat([torch.as_tensor(p.more[name]) for p in parts]) for name in first.more}
        return cls(**values)

    @property
    def parts(self) -> PartInput:
        """The fields of hands and face."""
        return PartInput(**{name: getattr(self, name) for name in _PARTS})

    def _rows(self, name: str) -> Tensor:
        """Expand a field to one row per person."""
        value = torch.as_tensor(getattr(self, name))
        if self._each(name):
            return value
        return value.expand(len(self), *value.shape)


def _rows_of(values: Any, rows: Tensor | slice | list[int]) -> Any:
    """Select the masks or depth maps of some people, of an array or of a list."""
    if isinstance(rows, slice):
        return values[rows]
    return [values[i] for i in (rows.tolist() if isinstance(rows, Tensor) else rows)]


_PARTS = tuple(f.name for f in fields(PartInput))
_LIFT = ("joints3d", "joints3d_scale")
_NUMBERS = ("keypoints", "focal_px", "principal_point_px", *_LIFT, "points3d", "betas", "height_m", "mass_kg")
_PER_PERSON = (*_NUMBERS, *_PARTS)
"""The fields of `Evidence` that are arrays with one row a person, or one value for all."""


@dataclass(frozen=True)
class CheckedEvidence:
    """Checked evidence of each person, as tensors of the model's type on its device."""

    camera: Camera
    """The camera in whose axes the result is: of several, the first."""
    xyc: Float[Tensor, "B CK 3"]
    """Keypoints in pixels, camera after camera."""
    target: Float[Tensor, "B CK 2"]
    """Their undistorted normalised image coordinates (x / z, y / z)."""
    focal_px: Float[Tensor, "B CK"]
    """Focal length of each keypoint's camera."""
    rig: Extrinsics | None = None
    """Extrinsics of several cameras; None for one."""
    lift_m: Float[Tensor, "B K 3"] | None = None
    """`joints3d`: 3D keypoints of a detector, camera axes, about any origin; NaN where unknown."""
    points_m: Float[Tensor, "B P 3"] | None = None
    """`points3d`: measured positions, in the result's axes; NaN where unknown."""
    betas: Float[Tensor, "B S"] | None = None
    """Known shapes."""
    height_m: Float[Tensor, "B"] | None = None
    """Known heights."""
    mass_kg: Float[Tensor, "B"] | None = None
    """Known masses."""
    previous: BodyParams | None = None
    """Bodies of the previous frame."""
    estimate: CheckedEstimate | None = None
    """Bodies that another program estimated."""
    more: Mapping[str, Float[Tensor, "B ..."]] = field(default_factory=dict)
    """Inputs of the user's own residuals, by name."""
    parts: PartEvidence | None = None
    """Evidence of hands and face."""
    masks: MaskEvidence | None = None
    """Outlines of masks."""
    depth: DepthEvidence | None = None
    """Depth maps. Keypoints on them are in `points_m` where the user gives no measured points."""
    points_of_depth: bool = False
    """Whether `points_m` are keypoints on depth."""
    lift_scale_m: Float[Tensor, "B K"] | None = None
    """`joints3d_scale`: scale of the lift's errors along the view; NaN where unknown."""

    def __len__(self) -> int:
        return len(self.xyc)

    def select(self, rows: Tensor) -> CheckedEvidence:
        """Select people by index or mask."""

        def some(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[rows]

        return CheckedEvidence(
            self.camera.select(rows),
            self.xyc[rows],
            self.target[rows],
            self.focal_px[rows],
            self.rig,
            some(self.lift_m),
            some(self.points_m),
            some(self.betas),
            some(self.height_m),
            some(self.mass_kg),
            None if self.previous is None else self.previous.select(rows),
            None if self.estimate is None else self.estimate.select(rows),
            {name: value[rows] for name, value in self.more.items()},
            None if self.parts is None else self.parts.select(rows),
            None if self.masks is None else self.masks.select(rows),
            None if self.depth is None else self.depth.select(rows),
            self.points_of_depth,
            some(self.lift_scale_m),
        )

    @classmethod
    def of_one_camera(cls, xyc: Float[Tensor, "B K 3"], camera: Camera) -> CheckedEvidence:
        """Make the evidence of keypoints (pixels) in one image per person, by a pinhole camera."""
        focal = camera.focal_px[:, None].expand(xyc.shape[:2])
        return cls(camera, xyc, (xyc[..., :2] - camera.principal_point_px[:, None]) / focal[..., None], focal)

    @classmethod
    def of_cameras(
        cls, xyc: Float[Tensor, "B C K 3"], cameras: Sequence[CalibratedCamera], camera: Camera
    ) -> CheckedEvidence:
        """Make the evidence of keypoints (pixels) in C images per person, one of each calibrated camera."""
        finite_px = torch.nan_to_num(xyc[..., :2], nan=0.0, posinf=0.0, neginf=0.0).double().cpu().numpy()
        target = np.stack([camera.normalised(finite_px[:, c]) for c, camera in enumerate(cameras)], 1)
        focal = xyc.new_tensor([c.focal_px for c in cameras])
        return cls(
            camera,
            xyc.flatten(1, 2),
            torch.from_numpy(target).to(xyc).flatten(1, 2),
            focal[:, None].expand(xyc.shape[1:3]).flatten().expand(len(xyc), -1),
            Extrinsics.of(cameras, xyc) if len(cameras) > 1 else None,
        )


def one_row_each(name: str, value: Tensor, batch: int, columns: int) -> Tensor:
    """Expand a value for all, or one per person, to (B, columns).

    Raises `ShapeError` for other shapes and `OptionError` for values that are not finite.
    """
    if value.shape == (columns,) or (columns == 1 and value.ndim == 0):
        value = value.reshape(1, columns).expand(batch, columns)
    elif columns == 1 and value.shape == (batch,):
        value = value[:, None]
    check_shape(name, value, (batch, columns), hint="give one for all, or one a person")
    if not bool(torch.isfinite(value).all()):
        raise OptionError(f"{name} must be finite; leave it out where it is not known")
    return value


def check_evidence(evidence: Evidence, model: BodyModel, layout: str, n_points3d: int) -> CheckedEvidence:
    """Check evidence and convert it to tensors of the model's type and device, one row per person.

    `layout` is the keypoints' layout, `n_points3d` the number of points of the measured points' layout. Raises
    `ShapeError` and `OptionError`.
    """
    batch, n_k = len(evidence), len(layout_names(layout))
    kind = {"dtype": model.dtype, "device": model.device}

    def points_of(name: str, count: int) -> Tensor | None:
        value = getattr(evidence, name)
        if value is None:
            return None
        value = torch.as_tensor(value, **kind)
        check_shape(name, value, (batch, count, 3), hint="one 3D point for each keypoint, NaN where unknown")
        return value

    checked = _checked_keypoints(evidence, model, layout)
    lift, points = points_of("joints3d", n_k), points_of("points3d", n_points3d)
    betas, height, mass, previous = evidence.betas, evidence.height_m, evidence.mass_kg, evidence.previous
    for name, value in (("height", height), ("mass", mass)):
        if betas is not None and value is not None:
            raise OptionError(f"give betas or {name}; a known shape has a {name} of its own")
    if betas is not None:
        betas = one_row_each("betas", torch.as_tensor(betas, **kind), batch, model.num_betas)
    if height is not None:
        height = one_row_each("height_m", torch.as_tensor(height, **kind), batch, 1)[:, 0]
        if bool(((height < 0.3) | (height > 3)).any()):
            raise OptionError("height_m must be in metres, between 0.3 and 3")
    if mass is not None:
        mass = one_row_each("mass_kg", torch.as_tensor(mass, **kind), batch, 1)[:, 0]
        if bool(((mass < 2) | (mass > 700)).any()):
            raise OptionError("mass_kg must be in kilograms, between 2 and 700")
    if previous is not None:
        previous = model.params(**previous)
        if previous.batch != batch:
            raise OptionError(f"previous has {previous.batch} bodies for {batch} people; give one each")
    own = {name: torch.as_tensor(value, **kind) for name, value in evidence.more.items()}
    for name, value in own.items():
        if value.ndim == 0 or len(value) != batch:
            raise ShapeError(f"more[{name!r}] must have one row a person, ({batch}, ...), got {tuple(value.shape)}")
    estimate = None if evidence.estimate is None else check_estimate(evidence.estimate, model, batch)
    parts, part_input = None, evidence.parts.with_layout(evidence.keypoints, layout, model)
    if part_input.is_present:
        parts = check_parts(part_input, checked.camera, evidence.cameras, batch, checked.xyc)
    masks = None
    if evidence.masks is not None:
        masks = check_masks(evidence.masks, checked.camera, evidence.cameras, checked.xyc)
    checked = replace(checked, lift_m=lift, points_m=points, betas=betas, height_m=height, mass_kg=mass)
    if evidence.joints3d_scale is not None:
        checked = replace(checked, lift_scale_m=_checked_scale(evidence.joints3d_scale, (batch, n_k), kind))
    checked = replace(checked, previous=previous, estimate=estimate, more=own, parts=parts, masks=masks)
    return checked if evidence.depth is None else _with_depth(checked, evidence, layout)


def _checked_scale(scale: Array, shape: tuple[int, int], kind: dict[str, Any]) -> Float[Tensor, "B K"]:
    """Check the scales of a lift's errors. Raises `ShapeError` and `OptionError`."""
    value = torch.as_tensor(scale, **kind)
    check_shape("joints3d_scale", value, shape, hint="one scale for each keypoint, NaN where unknown")
    if bool((value <= 0).any()):
        raise OptionError("joints3d_scale must be positive, metres; NaN where it is unknown")
    return value


def _with_depth(checked: CheckedEvidence, evidence: Evidence, layout: str) -> CheckedEvidence:
    """Add depth maps, and the keypoints on them as measured points where the user gives none.

    Raises `ShapeError` and `OptionError`.
    """
    depth = check_depth(evidence.depth, evidence.masks, checked.camera, evidence.cameras, len(checked))
    checked = replace(checked, depth=depth)
    if checked.points_m is not None or evidence.points3d_layout not in (None, layout):
        return checked
    points = depth.keypoints(checked.xyc, layout_names(layout))
    return replace(checked, points_m=points, points_of_depth=True)


def _checked_keypoints(evidence: Evidence, model: BodyModel, layout: str) -> CheckedEvidence:
    """Check the keypoints and their cameras."""
    xyc, cameras, image_size = evidence.keypoints, evidence.cameras, evidence.image_size
    focal_px, principal_point_px = evidence.focal_px, evidence.principal_point_px
    batch, n_k, kind = len(evidence), len(layout_names(layout)), {"dtype": model.dtype, "device": model.device}
    what = f"layout {layout} has {n_k} keypoints of x, y, confidence"
    if cameras is None:
        xyc = torch.zeros(batch, n_k, 3) if xyc is None else xyc
        if image_size is None and evidence.keypoints is None:
            if focal_px is not None or principal_point_px is not None:
                raise OptionError("a focal length or principal point is of a picture: give its image_size, too")
            camera = Camera.without_picture(batch, **kind)
            return CheckedEvidence.of_one_camera(torch.as_tensor(xyc, **kind), camera)
        if image_size is None:
            raise OptionError("image_size must be (width, height) in pixels, or cameras be given")
        xyc = torch.as_tensor(xyc, **kind)
        check_shape("xyc", xyc, (None, n_k, 3), hint=what)
        camera = Camera.make(batch, image_size, focal_px=focal_px, principal_point_px=principal_point_px, **kind)
        return CheckedEvidence.of_one_camera(xyc, camera)
    if focal_px is not None or principal_point_px is not None:
        raise OptionError("calibrated cameras know their focal length and principal point; leave these out")
    if not cameras:
        raise OptionError("cameras must hold at least one camera, or be left out")
    xyc = torch.zeros(batch, len(cameras), n_k, 3) if xyc is None else xyc
    xyc = torch.as_tensor(xyc, **kind)
    check_shape("xyc", xyc, (None, len(cameras), n_k, 3), hint=f"one row of keypoints a camera; {what}")
    K = cameras[0].K
    size = image_size or (round(2 * K[0, 2]), round(2 * K[1, 2]))
    camera = Camera.make(batch, size, focal_px=cameras[0].focal_px, principal_point_px=(K[0, 2], K[1, 2]), **kind)
    return CheckedEvidence.of_cameras(xyc, cameras, camera)
