"""What the network of clothed surfaces is shown: a region of the picture about the body, and the body before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from bodyfit.clothed.mesh import SurfaceMesh
from bodyfit.detect.networks.crops import averaged, from_picture
from bodyfit.detect.regions import Roi
from bodyfit.geometry.mesh_tree import face_normals
from bodyfit.raster.depth import NEAR_M, nearest_faces

__all__ = ["CHANNELS", "SIDE", "VERTEX_FEATURES", "BodyView", "body_view", "network_image", "region_about", "sampled"]

SIDE = 128
"""Of the region, pixels."""
CHANNELS = 9
"""Red, green, blue times the mask, the mask, the body's normals (3), the body, and whether it is in the picture."""
VERTEX_FEATURES = 4
"""Normal in the camera's axes (3), and whether the anchor is visible."""
_ABOUT = 1.3
"""The region's side in parts of the longer side of the box about the body."""
_HIDDEN_M = 0.03
"""A vertex farther than this behind the surface that a pixel shows is hidden."""


@dataclass(frozen=True, eq=False)
class BodyView:
    """One body before the camera."""

    points: Float32[np.ndarray, "A 3"]
    """The anchors, metres, in the camera's axes."""
    features: Float32[np.ndarray, "A 4"]
    """Normals, and 1 for those visible."""
    lens: Float32[np.ndarray, "3"]
    """Focal length and principal point, in halves of the region's side, from its middle."""
    maps: Float32[np.ndarray, "4 S S"]
    """The body's normals and silhouette."""
    normals: Float[np.ndarray, "M 3"]
    """Of all medium vertices."""


def region_about(points: Float[np.ndarray, "M 3"], lens: Float[np.ndarray, "3"]) -> Roi | None:
    """Return the upright square of the picture about a body; None where none of it is before the camera.

    points: camera axes, metres. lens: focal length and principal point, pixels.
    """
    before = points[points[:, 2] > NEAR_M]
    if not len(before):
        return None
    xy = before[:, :2] / before[:, 2:] * lens[0] + lens[1:]
    low, high = xy.min(0), xy.max(0)
    x, y = (low + high) / 2
    return Roi(float(x), float(y), max(_ABOUT * float((high - low).max()), 8.0), 0.0)


def body_view(points: Float[np.ndarray, "M 3"], mesh: SurfaceMesh, lens: Float[np.ndarray, "3"], roi: Roi) -> BodyView:
    """See a body, given by its medium vertices in camera axes (metres), in a region of the picture."""
    normals = mesh.normals(points)
    z = np.maximum(points[:, 2:], NEAR_M)
    linear = from_picture(roi, SIDE)
    xy = (points[:, :2] / z * lens[0] + lens[1:]) @ linear[:, :2].T + linear[:, 2]
    drawn = mesh.faces[(points[:, 2] > NEAR_M)[mesh.faces].all(1)]
    found, nearness = nearest_faces(np.concatenate([xy, 1 / z], 1), drawn, (SIDE, SIDE))
    maps = np.zeros((4, SIDE, SIDE), np.float32)
    there = found >= 0
    maps[:3, there] = face_normals(points, drawn)[found[there]].T
    maps[3] = there
    own = slice(0, mesh.anchors)
    features = np.concatenate([normals[own], _visible(xy[own], z[own, 0], nearness)[:, None]], 1)
    half = SIDE / 2
    scale = lens[0] * linear[0, 0]
    centre = linear[:, :2] @ lens[1:] + linear[:, 2]
    return BodyView(
        points=points[own].astype(np.float32),
        features=features.astype(np.float32),
        lens=np.array([scale / half, *(centre / half - 1)], np.float32),
        maps=maps,
        normals=normals,
    )


def _visible(
    xy: Float[np.ndarray, "A 2"], depth_m: Float[np.ndarray, "A"], nearness: Float32[np.ndarray, "S S"]
) -> Bool[np.ndarray, "A"]:
    """Tell the vertices that lie no farther behind the surface of their pixel than `_HIDDEN_M`."""
    column, row = np.floor(xy).astype(np.int64).clip(0, SIDE - 1).T
    surface = 1 / np.maximum(nearness[row, column], 1e-6)
    inside = ((xy >= 0) & (xy < SIDE)).all(1)
    return inside & ((nearness[row, column] <= 0) | (depth_m < surface + _HIDDEN_M))


def sampled(picture: UInt8[np.ndarray, "H W *C"], roi: Roi) -> UInt8[np.ndarray, "S S *C"]:
    """Sample a region of a picture; 0 outside of the picture."""
    import cv2

    box = roi.box((picture.shape[1], picture.shape[0]))
    if box[2] <= box[0] or box[3] <= box[1]:
        return np.zeros((SIDE, SIDE, *picture.shape[2:]), np.uint8)
    part = np.ascontiguousarray(picture[box[1] : box[3], box[0] : box[2]])
    part, factor = averaged(part, (0, 0, part.shape[1], part.shape[0]), roi.size, SIDE)
    own = from_picture(roi, SIDE, (box[0], box[1])) @ np.diag([factor, factor, 1.0])
    return cv2.warpAffine(part, own, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def network_image(
    pixels: UInt8[np.ndarray, "S S 3"], mask: UInt8[np.ndarray, "S S"], inside: UInt8[np.ndarray, "S S"], view: BodyView
) -> Float32[np.ndarray, "9 S S"]:
    """Put the channels of the network's picture together; 255 is in the mask, and in the picture."""
    alpha = mask.astype(np.float32) / 255
    own = pixels.transpose(2, 0, 1).astype(np.float32) / 255 * alpha
    return np.concatenate([own, alpha[None], view.maps, inside[None].astype(np.float32) / 255])
