"""Everything that is known of the people of a fit, checked and brought into one form.

Several calibrated cameras become one list of keypoints, camera after camera, in the axes of the first; a person then
has C x K keypoints, and the objective turns the body's K points into each camera's axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.camera import CalibratedCamera, Camera
from bodyfit.errors import OptionError, check_shape
from bodyfit.skeleton import layout_names

__all__ = ["Array", "Evidence", "Rig", "beyond_the_picture", "in_the_picture", "one_row_each"]

Array: TypeAlias = Float[Tensor, "..."] | Float[np.ndarray, "..."]


@dataclass(frozen=True)
class Rig:
    """Where cameras stand, in the axes of the first: x_c = R_c x + t_c."""

    R: Float[Tensor, "C 3 3"]
    t: Float[Tensor, "C 3"]

    @classmethod
    def of(cls, cameras: Sequence[CalibratedCamera], like: Tensor) -> Rig:
        """The rig of calibrated cameras."""
        first = cameras[0]
        R = np.stack([camera.R @ first.R.T for camera in cameras])
        t = np.stack([camera.t - turn @ first.t for camera, turn in zip(cameras, R, strict=True)])
        return cls(torch.from_numpy(R).to(like), torch.from_numpy(t).to(like))

    def points(self, points: Float[Tensor, "B K 3"]) -> Float[Tensor, "B CK 3"]:
        """Points of the first camera's axes in every camera's."""
        return (points[:, None] @ self.R.mT + self.t[:, None]).flatten(1, 2)

    def jacobian(self, jacobian: Float[Tensor, "B K 3 D"]) -> Float[Tensor, "B CK 3 D"]:
        """Derivatives of such points."""
        return (self.R[:, None] @ jacobian[:, None]).flatten(1, 2)

    def triangulated(
        self, target: Float[Tensor, "B CK 2"], weight: Float[Tensor, "B CK"]
    ) -> tuple[Float[Tensor, "B K 3"], Bool[Tensor, "B K"]]:
        """Where the rays of each keypoint meet best (linear least squares), first camera's axes; and whether two do."""
        n_c = len(self.R)
        ray = torch.cat([target, torch.ones_like(target[..., :1])], 2).unflatten(1, (n_c, -1))
        ray = torch.nn.functional.normalize(ray @ self.R, dim=3)  # (B, C, K, 3), first camera's axes
        w = weight.unflatten(1, (n_c, -1))[..., None, None]
        across = w * (torch.eye(3).to(ray) - ray[..., None] * ray[..., None, :])
        A = across.sum(1)
        b = (across @ (-(self.t[:, None] @ self.R))[:, :, :, None]).sum(1)
        met = (w[..., 0, 0] > 0).sum(1) >= 2
        A = torch.where(met[..., None, None], A, torch.eye(3).to(A))
        return torch.linalg.solve_ex(A + 1e-9 * torch.eye(3).to(A), b)[0][..., 0], met


@dataclass(frozen=True)
class Evidence:
    """What is known of each person; tensors on the model's device."""

    camera: Camera
    """The camera whose axes the result is in: the one, or the first."""
    xyc: Float[Tensor, "B CK 3"]
    """Keypoints in pixels, camera after camera."""
    target: Float[Tensor, "B CK 2"]
    """Their directions (x / z, y / z) from their camera, undistorted."""
    focal_px: Float[Tensor, "B CK"]
    """Pixels that one unit of `target` is."""
    rig: Rig | None = None
    """Where the cameras stand; None for one."""
    lift_m: Float[Tensor, "B K 3"] | None = None
    """`joints3d`: a soft lift about any origin."""
    points_m: Float[Tensor, "B P 3"] | None = None
    """`points3d`: measured places, NaN where unknown."""
    betas: Float[Tensor, "B S"] | None = None
    """A known shape."""
    height_m: Float[Tensor, "B"] | None = None
    """A known stature."""
    previous: BodyParams | None = None
    """The bodies a moment ago."""

    def __len__(self) -> int:
        return len(self.xyc)

    def select(self, rows: Tensor) -> Evidence:
        """That of some people."""

        def some(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[rows]

        return Evidence(
            self.camera.select(rows),
            self.xyc[rows],
            self.target[rows],
            self.focal_px[rows],
            self.rig,
            some(self.lift_m),
            some(self.points_m),
            some(self.betas),
            some(self.height_m),
            None if self.previous is None else self.previous.select(rows),
        )

    @classmethod
    def of_one_camera(cls, xyc: Float[Tensor, "B K 3"], camera: Camera) -> Evidence:
        """Keypoints in one picture each."""
        focal = camera.focal_px[:, None].expand(xyc.shape[:2])
        return cls(camera, xyc, (xyc[..., :2] - camera.principal_point_px[:, None]) / focal[..., None], focal)

    @classmethod
    def of_cameras(cls, xyc: Float[Tensor, "B C K 3"], cameras: Sequence[CalibratedCamera], camera: Camera) -> Evidence:
        """Keypoints in a picture of each calibrated camera."""
        kept = torch.nan_to_num(xyc[..., :2], nan=0.0, posinf=0.0, neginf=0.0).double().cpu().numpy()
        target = np.stack([camera.normalised(kept[:, c]) for c, camera in enumerate(cameras)], 1)
        focal = xyc.new_tensor([c.focal_px for c in cameras])
        return cls(
            camera,
            xyc.flatten(1, 2),
            torch.from_numpy(target).to(xyc).flatten(1, 2),
            focal[:, None].expand(xyc.shape[1:3]).flatten().expand(len(xyc), -1),
            Rig.of(cameras, xyc) if len(cameras) > 1 else None,
        )


def one_row_each(name: str, value: Tensor, batch: int, columns: int) -> Tensor:
    """(B, columns) from one row for all or one a person; finite. Raises `ShapeError` and `OptionError`."""
    if value.shape == (columns,) or (columns == 1 and value.ndim == 0):
        value = value.reshape(1, columns).expand(batch, columns)
    elif columns == 1 and value.shape == (batch,):
        value = value[:, None]
    check_shape(name, value, (batch, columns), hint="give one for all, or one a person")
    if not bool(torch.isfinite(value).all()):
        raise OptionError(f"{name} must be finite; leave it out where it is not known")
    return value


def in_the_picture(
    model: BodyModel,
    layout: str,
    xyc: Array | None,
    batch: int,
    image_size: tuple[int, int] | None,
    focal_px: float | Tensor | None,
    principal_point_px: tuple[float, float] | Tensor | None,
    cameras: Sequence[CalibratedCamera] | None,
) -> Evidence:
    """The keypoints and their cameras, checked; see `fit_keypoints`. Raises `ShapeError` and `OptionError`."""
    n_k, kind = len(layout_names(layout)), {"dtype": model.dtype, "device": model.device}
    what = f"layout {layout} has {n_k} keypoints of x, y, confidence"
    if cameras is None:
        if xyc is None:
            xyc, image_size = torch.zeros(batch, n_k, 3), image_size or (1000, 1000)
        elif image_size is None:
            raise OptionError("image_size must be (width, height) in pixels, or cameras be given")
        xyc = torch.as_tensor(xyc, **kind)
        check_shape("xyc", xyc, (None, n_k, 3), hint=what)
        camera = Camera.make(batch, image_size, focal_px=focal_px, principal_point_px=principal_point_px, **kind)
        return Evidence.of_one_camera(xyc, camera)
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
    return Evidence.of_cameras(xyc, cameras, camera)


def beyond_the_picture(
    model: BodyModel,
    known: Evidence,
    n_keypoints: int,
    n_points: int,
    joints3d: Array | None,
    points3d: Array | None,
    betas: Array | None,
    height_m: float | Array | None,
    previous: BodyParams | None,
) -> Evidence:
    """The same with all else that is known, checked. Raises `ShapeError` and `OptionError`."""
    batch, unknown = len(known), "one 3D point for each keypoint, NaN where unknown"
    kind = {"dtype": model.dtype, "device": model.device}
    lift = None if joints3d is None else torch.as_tensor(joints3d, **kind)
    if lift is not None:
        check_shape("joints3d", lift, (batch, n_keypoints, 3), hint=unknown)
    points = None if points3d is None else torch.as_tensor(points3d, **kind)
    if points is not None:
        check_shape("points3d", points, (batch, n_points, 3), hint=unknown)
    if betas is not None and height_m is not None:
        raise OptionError("give betas or height_m; a known shape has a height of its own")
    shape = None if betas is None else one_row_each("betas", torch.as_tensor(betas, **kind), batch, model.num_betas)
    height = None
    if height_m is not None:
        height = one_row_each("height_m", torch.as_tensor(height_m, **kind), batch, 1)[:, 0]
        if bool(((height < 0.3) | (height > 3)).any()):
            raise OptionError("height_m must be in metres, between 0.3 and 3")
    if previous is not None:
        previous = model.params(**previous)
        if previous.batch != batch:
            raise OptionError(f"previous has {previous.batch} bodies for {batch} people; give one each")
    return replace(known, lift_m=lift, points_m=points, betas=shape, height_m=height, previous=previous)
