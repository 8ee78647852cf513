"""A body before a camera and the picture that it took, as a view for an avatar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8

from bodyfit.app.results.find import Person
from bodyfit.avatars import AvatarView
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.detect import Detector
from bodyfit.errors import ImageError, OptionError
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.images.frame import Frame
from bodyfit.io.clip_masks import ClipMasks
from bodyfit.io.masks import MaskFiles
from bodyfit.keypoints import Keypoints2D, SoftMask
from bodyfit.raster.depth import depth_map

__all__ = ["PlacedBody", "view_of"]

_LEAST_SHARE = 0.6
"""Part of the projected body that must lie in a mask which is the person's."""
_MARGIN = 0.12
"""About person and body, in parts of their extent: surfaces are looked for there."""


@dataclass(frozen=True)
class PlacedBody:
    """A body before a camera."""

    model: BodyModel
    """What the body is of."""
    params: BodyParams
    """The body, batch 1, in the axes of the camera's world."""
    camera: CalibratedCamera
    """The camera, with the distortion of its pictures."""
    size: tuple[int, int] | None
    """Width and height of the pictures that were fitted; None where it is not known."""
    keypoints: Keypoints2D
    """Those that were fitted, by which files of masks tell whose they are."""
    number: int
    """Of the camera."""

    @classmethod
    def of_fit(cls, model: BodyModel, params: BodyParams, person: Person, row: int, *, number: int) -> PlacedBody:
        """Place the body of a fit before the fit's camera, in its axes."""
        camera, xyc = person.result.camera, person.result.keypoints[row]
        focal, (x, y) = float(camera.focal_px[row]), camera.principal_point_px[row].tolist()
        own = CalibratedCamera(K=np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]]), R=np.eye(3), t=np.zeros(3))
        keypoints = Keypoints2D(person.result.layout, (xyc if xyc.ndim == 2 else xyc[0]).numpy())
        return cls(model, params, own, camera.image_size, keypoints, number)

    def silhouette(self, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
        """Draw where the body is in the picture without distortion."""
        K = self.camera.K
        with torch.no_grad():
            vertices = self.model(**self.params).vertices[0].double().numpy()
        points = vertices @ self.camera.R.T + self.camera.t
        return depth_map(points, self.model.faces.numpy(), (K[0, 0], K[1, 1]), (K[0, 2], K[1, 2]), size).faces >= 0

    def straightened(self, picture: UInt8[np.ndarray, "H W *C"]) -> UInt8[np.ndarray, "H W *C"]:
        """Take the lens distortion out of a picture."""
        if not self.camera.distortion.any():
            return picture
        straight: UInt8[np.ndarray, "H W *C"] = cv2.undistort(picture, self.camera.K, self.camera.distortion)
        return straight

    def straight_keypoints(self) -> Keypoints2D:
        """Take the lens distortion out of the keypoints; those without a place have confidence 0."""
        xyc = self.keypoints.xyc.astype(np.float64)
        finite = np.all(np.isfinite(xyc), axis=1)
        xyc = np.where(finite[:, None], xyc, 0.0)
        if self.camera.distortion.any():
            xyc[:, :2] = self.camera.normalised(xyc[:, :2]) @ self.camera.K[:2, :2].T + self.camera.K[:2, 2]
        return Keypoints2D(self.keypoints.layout, xyc)


def view_of(
    frame: Frame, at: PlacedBody, detector: Detector | None, files: MaskFiles | ClipMasks | None, *, crop: bool = True
) -> tuple[AvatarView | None, str]:
    """Make the view of a picture; or None and why it is left out.

    Of all masks the one that is most like the body is the person's, and more than 60 % of the projected body must lie
    in it; others are unknown. crop: cut the view to the person. Raises `ImageError` and `OptionError`.
    """
    size = frame.size
    if at.size is not None and size != at.size:
        raise ImageError(f"{frame.path} is {size[0]}x{size[1]}, the fit was made in {at.size[0]}x{at.size[1]}")
    body = at.silhouette(size)
    masks = _masks(frame, at, detector, files)
    if not masks:
        return None, "without a mask"
    whole = np.stack([at.straightened(mask.full(size)) for mask in masks])
    inside = whole >= 128
    both = (inside & body).sum((1, 2))
    own = int(np.argmax(both / np.maximum((inside | body).sum((1, 2)), 1)))
    if both[own] <= _LEAST_SHARE * max(int(body.sum()), 1):
        return None, "with less than 60 % of the body in a mask"
    others = np.delete(whole, own, 0).max(0, initial=0)
    mask = inside[own] & (whole[own] >= others)
    view = AvatarView(
        at.straightened(frame.image),
        mask,
        CalibratedCamera(K=at.camera.K, R=at.camera.R, t=at.camera.t),
        at.params,
        (others >= 128) & ~mask if others.any() else None,
        at.number,
        at.straight_keypoints(),
    )
    return view.cropped(*_box(mask | body)) if crop else view, ""


def _masks(
    frame: Frame, at: PlacedBody, detector: Detector | None, files: MaskFiles | ClipMasks | None
) -> list[SoftMask]:
    """Find the masks of the people of a picture. Raises `ImageError` and `OptionError`."""
    if isinstance(files, ClipMasks):
        found: Sequence[Any] = files.of(frame.index, frame.size, [at.keypoints])
    elif files is not None:
        found = files.of(frame, [at.keypoints])
    elif detector is not None:
        found = [person.mask for person in detector.detect([frame])[0]]
    else:
        raise OptionError("masks come from a detector or from files; give one of them")
    return [mask for mask in found if isinstance(mask, SoftMask) and mask.alpha.any()]


def _box(inside: Bool[np.ndarray, "H W"]) -> tuple[int, int, int, int]:
    """Return the box about what is inside, with a margin: x0, y0, x1, y1."""
    height, width = inside.shape
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    margin = int(_MARGIN * max(np.ptp(rows), np.ptp(columns))) + 4
    low: Int[np.ndarray, "2"] = np.maximum((columns[0] - margin, rows[0] - margin), 0)
    high = np.minimum((columns[-1] + 1 + margin, rows[-1] + 1 + margin), (width, height))
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
