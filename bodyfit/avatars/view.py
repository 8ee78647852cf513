"""What an avatar is made of: a picture of the person, the person's mask, and the body in front of its camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.keypoints import Keypoints2D

__all__ = ["BACKGROUND", "PERSON", "UNKNOWN", "AvatarView"]

BACKGROUND, PERSON, UNKNOWN = 0, 1, 2
"""What a pixel shows."""


@dataclass(frozen=True, eq=False)
class AvatarView:
    """A picture of a person with mask, camera and body."""

    image: UInt8[np.ndarray, "H W 3"]
    """RGB, without lens distortion."""
    mask: Bool[np.ndarray, "H W"]
    """Where the person is visible."""
    camera: CalibratedCamera
    """The camera, without distortion; a body in camera axes has R = I and t = 0."""
    params: BodyParams
    """The body, batch 1, in the axes of the camera's world."""
    unknown: Bool[np.ndarray, "H W"] | None = None
    """Where something may be before the person, another person for example; None for nowhere."""
    camera_number: int | None = None
    """Pictures of one number are of one camera: a radiance field gives them one gain and offset of colours."""
    keypoints: Keypoints2D | None = None
    """Those that the body was fitted to, in pixels of this picture; they stay in where poses are refined."""

    def __post_init__(self) -> None:
        check_shape("image of a view", self.image, (None, None, 3))
        for name in ("mask", "unknown"):
            value = getattr(self, name)
            if value is not None:
                check_shape(f"{name} of a view", value, self.image.shape[:2], hint="as large as the picture")
        if self.params.batch != 1:
            raise OptionError(f"a view has one body, got {self.params.batch}; give params.select([i])")
        if self.camera.distortion.any():
            raise OptionError("pictures of an avatar must be without lens distortion; see cv2.undistort")

    @property
    def lens(self) -> tuple[float, float, float, float]:
        """Focal lengths in x and y and principal point, pixels."""
        K = self.camera.K
        return float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])

    def cropped(self, x0: int, y0: int, x1: int, y1: int) -> AvatarView:
        """Cut the view to a box in pixels, within the picture."""
        K = self.camera.K - np.array([[0, 0, x0], [0, 0, y0], [0, 0, 0]])
        rows, columns = slice(y0, y1), slice(x0, x1)
        shift = np.array([-x0, -y0], np.float64)
        return AvatarView(
            image=np.ascontiguousarray(self.image[rows, columns]),
            mask=np.ascontiguousarray(self.mask[rows, columns]),
            camera=CalibratedCamera(K=K, R=self.camera.R, t=self.camera.t),
            params=self.params,
            unknown=None if self.unknown is None else np.ascontiguousarray(self.unknown[rows, columns]),
            camera_number=self.camera_number,
            keypoints=None if self.keypoints is None else _moved(self.keypoints, shift, np.ones(2)),
        )

    def resized(self, width: int, height: int) -> AvatarView:
        """Reduce the view to a size in pixels."""
        old_height, old_width = self.mask.shape
        by = np.array([width / old_width, height / old_height])
        masks = [None if m is None else cv2.resize(m.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
                 for m in (self.mask, self.unknown)]  # fmt: skip
        assert masks[0] is not None
        return AvatarView(
            image=np.asarray(cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)),
            mask=masks[0].astype(bool),
            camera=CalibratedCamera(K=np.diag([*by, 1.0]) @ self.camera.K, R=self.camera.R, t=self.camera.t),
            params=self.params,
            unknown=None if masks[1] is None else masks[1].astype(bool),
            camera_number=self.camera_number,
            keypoints=None if self.keypoints is None else _moved(self.keypoints, np.zeros(2), by),
        )


def _moved(keypoints: Keypoints2D, shift_px: Float[np.ndarray, "2"], scale: Float[np.ndarray, "2"]) -> Keypoints2D:
    """Shift keypoints, then scale them."""
    xy = (keypoints.xyc[:, :2] + shift_px) * scale
    return Keypoints2D(keypoints.layout, np.concatenate([xy, keypoints.xyc[:, 2:]], 1))
