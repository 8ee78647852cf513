"""What an avatar is made of: a picture of the person, the person's mask, and the body in front of its camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.camera import CalibratedCamera

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
        return AvatarView(
            image=np.ascontiguousarray(self.image[rows, columns]),
            mask=np.ascontiguousarray(self.mask[rows, columns]),
            camera=CalibratedCamera(K=K, R=self.camera.R, t=self.camera.t),
            params=self.params,
            unknown=None if self.unknown is None else np.ascontiguousarray(self.unknown[rows, columns]),
            camera_number=self.camera_number,
        )
