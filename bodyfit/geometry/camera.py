"""Define the pinhole camera, convert focal lengths from common units, and flip axes (here only).

Camera axes are OpenCV's: +x right, +y down, +z forward. A pixel's centre lies at +0.5, so that a picture of width w
spans [0, w].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from bodyfit.errors import OptionError, check_shape
from bodyfit.runtime.pickling import ByValue

__all__ = [
    "FLIP_YZ",
    "CalibratedCamera",
    "Camera",
    "default_focal_px",
    "flip_yz",
    "focal_px_from",
    "to_pytorch3d_axes",
    "turned_orient",
    "y_up_from",
]

FLIP_YZ = (1.0, -1.0, -1.0)
"""Signs between OpenCV camera axes (y down, z forward) and y-up axes that look along -z (SMPL, glTF, OpenGL)."""


@dataclass(frozen=True)
class Camera(ByValue):
    """One pinhole camera a person, without distortion; a body's `transl` is in its axes."""

    focal_px: Float[Tensor, "B"]
    """Focal length in pixels, the same in x and y."""
    principal_point_px: Float[Tensor, "B 2"]
    """Principal point, pixels."""
    image_size: tuple[int, int]
    """Width and height in pixels."""

    @classmethod
    def make(
        cls,
        batch: int,
        image_size: tuple[int, int],
        *,
        focal_px: float | Tensor | None = None,
        principal_point_px: tuple[float, float] | Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Camera:
        """Make cameras from scalars or one value a person.

        Defaults: the focal length sqrt(w^2 + h^2) and the picture's centre. Raises `OptionError` and `ShapeError`.
        """
        w, h = image_size
        if not (w > 0 and h > 0):
            raise OptionError(f"image_size must be (width, height) in pixels, both positive, got {image_size}")
        focal = torch.as_tensor(default_focal_px(image_size) if focal_px is None else focal_px)
        focal = focal.to(dtype=dtype, device=device)
        if focal.ndim == 0:
            focal = focal.expand(batch)
        check_shape("focal_px", focal, (batch,), hint="give one number, or one a person")
        for value in {float(focal.min()), float(focal.max())} if batch else ():
            check_focal_px(value, image_size)
        centre = torch.as_tensor((w / 2, h / 2) if principal_point_px is None else principal_point_px)
        centre = centre.to(dtype=dtype, device=device)
        if centre.shape == (2,):
            centre = centre.expand(batch, 2)
        check_shape("principal_point_px", centre, (batch, 2), hint="give (cx, cy), or one row a person")
        if not bool(torch.isfinite(centre).all()):
            raise OptionError("principal_point_px must be finite; leave it out for the picture's centre")
        return cls(focal.contiguous(), centre.contiguous(), (int(w), int(h)))

    @classmethod
    def without_picture(
        cls, batch: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Camera:
        """The axes alone, of bodies that were seen in no picture: units of the focal length, and a picture of no size
        (`has_picture` is False)."""
        centre = torch.zeros(batch, 2, dtype=dtype, device=device)
        return cls(torch.ones_like(centre[:, 0]), centre, (0, 0))

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture that the camera took."""
        return min(self.image_size) > 0

    def to_draw(self, image_size: tuple[int, int] = (1000, 1000)) -> Camera:
        """The camera, or, where it has no picture, one to look through, of the usual focal length."""
        if self.has_picture:
            return self
        return Camera.make(len(self.focal_px), image_size, dtype=self.focal_px.dtype, device=self.focal_px.device)

    def project(self, points_cam_m: Float[Tensor, "B K 3"]) -> Float[Tensor, "B K 2"]:
        """Project points in camera axes (metres) to pixels; depths below 1 cm count as 1 cm."""
        z = points_cam_m[..., 2:].clamp_min(0.01)
        return points_cam_m[..., :2] / z * self.focal_px[:, None, None] + self.principal_point_px[:, None]

    def select(self, index: Tensor | slice | list[int]) -> Camera:
        """Select the cameras of some people."""
        return Camera(self.focal_px[index], self.principal_point_px[index], self.image_size)

    @classmethod
    def cat(cls, cameras: Sequence[Camera], image_size: tuple[int, int] | None = None) -> Camera:
        """Put the cameras of several groups of people together. Raises `OptionError` for pictures of several sizes,
        unless one is given for all of them."""
        sizes = {camera.image_size for camera in cameras} if image_size is None else {image_size}
        if len(sizes) != 1:
            raise OptionError(f"the cameras are of pictures of {len(sizes)} sizes; give image_size for all of them")
        focal = torch.cat([camera.focal_px for camera in cameras])
        return cls(focal, torch.cat([camera.principal_point_px for camera in cameras]), sizes.pop())


@dataclass(frozen=True, eq=False)
class CalibratedCamera:
    """A calibrated camera in a world: x_cam = R x_world + t, OpenCV axes, metres, with OpenCV's lens distortion."""

    K: Float[np.ndarray, "3 3"]
    """Intrinsics, pixels: [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]."""
    R: Float[np.ndarray, "3 3"]
    """Rotation from world to camera axes."""
    t: Float[np.ndarray, "3"]
    """Position of the world's origin in camera axes, metres."""
    distortion: Float[np.ndarray, "D"] = field(default_factory=lambda: np.zeros(4))
    """Coefficients k1, k2, p1, p2[, k3[, k4, k5, k6[, ...]]] as `cv2.calibrateCamera` returns them."""

    def __post_init__(self) -> None:
        for name, shape in (("K", (3, 3)), ("R", (3, 3)), ("t", (3,)), ("distortion", (None,))):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            value = value.ravel() if len(shape) == 1 else value
            check_shape(name, torch.from_numpy(value), shape)
            if not np.isfinite(value).all():
                raise OptionError(f"{name} of a calibrated camera must be finite")
            object.__setattr__(self, name, value)
        if abs(np.linalg.det(self.R) - 1) > 1e-3 or np.abs(self.R @ self.R.T - np.eye(3)).max() > 1e-3:
            raise OptionError("R of a calibrated camera must be a rotation (orthonormal, determinant +1)")
        if min(self.K[0, 0], self.K[1, 1]) <= 1 or np.abs(self.K[2] - [0, 0, 1]).max() > 0:
            raise OptionError("K of a calibrated camera must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels")
        if len(self.distortion) not in (4, 5, 8, 12, 14):
            raise OptionError("distortion must be OpenCV's 4, 5, 8, 12 or 14 coefficients (k1, k2, p1, p2, ...)")

    @property
    def focal_px(self) -> float:
        """Geometric mean of the focal lengths in x and y, pixels."""
        return float(np.sqrt(self.K[0, 0] * self.K[1, 1]))

    def normalised(self, xy_px: Float[np.ndarray, "*B 2"]) -> Float[np.ndarray, "*B 2"]:
        """Undistort pixels to normalised coordinates (x / z, y / z)."""
        import cv2

        flat = np.asarray(xy_px, dtype=np.float64).reshape(-1, 1, 2)
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-10)
        straight = cv2.undistortPointsIter(flat, self.K, self.distortion, np.eye(3), np.eye(3), criteria)
        return straight.reshape(np.shape(xy_px))

    def project(self, points_world_m: Float[np.ndarray, "*B 3"]) -> Float[np.ndarray, "*B 2"]:
        """Project points in the world (metres) to pixels, with distortion."""
        import cv2

        flat = np.asarray(points_world_m, dtype=np.float64).reshape(-1, 1, 3)
        pixels = cv2.projectPoints(flat, cv2.Rodrigues(self.R)[0], self.t, self.K, self.distortion)[0]
        return pixels.reshape(*points_world_m.shape[:-1], 2)


def default_focal_px(image_size: tuple[int, int]) -> float:
    """Guess the focal length as sqrt(w^2 + h^2) px: 53 degrees over the diagonal, usual for an uncropped picture."""
    return math.hypot(*image_size)


def check_focal_px(focal_px: float, image_size: tuple[int, int]) -> float:
    """Return a focal length that is plausible in pixels. Raises `OptionError`, also for values in other units."""
    w, h = image_size
    longest = max(w, h)
    if not math.isfinite(focal_px) or focal_px <= 0:
        raise OptionError(f"the focal length must be a positive number of pixels, got {focal_px:g}")
    if focal_px < 0.2 * longest:
        raise OptionError(
            f"a focal length of {focal_px:g} px is too short for a picture of {w}x{h} (a field of view above 135 "
            "degrees); is it in millimetres? then give focal_mm with sensor_mm (or fov_deg in degrees)"
        )
    if focal_px > 50 * longest:
        raise OptionError(
            f"a focal length of {focal_px:g} px is too long for a picture of {w}x{h} (a field of view below 1.2 "
            "degrees); give it in pixels of this picture, as focal_mm with sensor_mm, or as fov_deg in degrees"
        )
    return focal_px


def focal_px_from(
    image_size: tuple[int, int],
    *,
    focal_px: float | None = None,
    focal_mm: float | None = None,
    sensor_mm: float | None = None,
    fov_deg: float | None = None,
    exif_focal_px: float | None = None,
) -> tuple[float, str]:
    """Convert the focal length to pixels and say where it came from: "given", "exif" or "guess".

    `sensor_mm` is the sensor's width along the picture's longer side (36 for full frame); `fov_deg` the field of view
    along the longer side. An implausible EXIF value is ignored; for a user's value it raises `OptionError`.
    """
    longest = max(image_size)
    lens = {"focal_px": focal_px, "focal_mm": focal_mm, "fov_deg": fov_deg}
    names = [name for name, value in lens.items() if value is not None]
    if len(names) > 1:
        raise OptionError(f"give the focal length once, not as {' and '.join(names)}")
    if sensor_mm is not None and focal_mm is None:
        raise OptionError("sensor_mm goes with focal_mm; give both or neither")
    if focal_px is not None:
        return check_focal_px(focal_px, image_size), "given"
    if focal_mm is not None:
        if sensor_mm is None:
            raise OptionError("focal_mm needs sensor_mm, the sensor's width in millimetres (36 for full frame)")
        if not 0.5 <= sensor_mm <= 100:
            raise OptionError(
                f"sensor_mm must be the sensor's width in millimetres (36 for full frame), got {sensor_mm:g}"
            )
        return check_focal_px(focal_mm / sensor_mm * longest, image_size), "given"
    if fov_deg is not None:
        if not 1.2 <= fov_deg <= 135:
            raise OptionError(f"fov_deg must be degrees between 1.2 and 135 along the longer side, got {fov_deg:g}")
        return longest / 2 / math.tan(math.radians(fov_deg) / 2), "given"
    if exif_focal_px is not None and 0.2 * longest <= exif_focal_px <= 50 * longest:
        return exif_focal_px, "exif"
    return default_focal_px(image_size), "guess"


def flip_yz(points: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """Convert between OpenCV camera axes and y-up axes: half a turn about x, its own inverse."""
    return points * points.new_tensor(FLIP_YZ)


def to_pytorch3d_axes(points_cam_m: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """Convert OpenCV camera axes to PyTorch3D's (+x left, +y up, +z forward)."""
    return points_cam_m * points_cam_m.new_tensor((-1.0, -1.0, 1.0))


def y_up_from(axes: str) -> Float[np.ndarray, "3 3"]:
    """Return the rotation from named axes to y-up axes.

    Names: "camera" (OpenCV's), "y_up" (the model's own), "z_up" (AMASS's: its z becomes y, its -y becomes z). Raises
    `OptionError`.
    """
    rotations = {
        "camera": np.diag(FLIP_YZ),
        "y_up": np.eye(3),
        "z_up": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
    }
    if axes not in rotations:
        raise OptionError(f"axes must be one of {', '.join(rotations)}, got {axes!r}")
    return rotations[axes]


def turned_orient(orient: Float[np.ndarray, "N 3"], turn: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "N 3"]:
    """Rotate orientations (axis-angle, radians) into other axes (see `y_up_from`); NaN stays NaN."""
    out = np.full_like(orient, np.nan)
    good = np.isfinite(orient).all(1)
    if good.any():
        out[good] = (Rotation.from_matrix(turn) * Rotation.from_rotvec(orient[good])).as_rotvec()
    return out
