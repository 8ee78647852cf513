"""A person's photograph as a square of fixed size that has room for every turn, and the body before its camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from bodyfit.avatars.view import AvatarView
from bodyfit.errors import OptionError
from bodyfit.geometry.mesh_tree import vertex_normals
from bodyfit.raster.depth import DepthMap, depth_map

__all__ = ["Body", "Square", "smooth_normals", "square_of", "turn_of"]

_ROOM = 1.06
"""Half the side of a square, in parts of the surface's reach about its pivot."""
_LEAST_OF_SIDE = 0.75
"""A square of fewer pixels than the side, but not than this part of it, gets more room and is not resized."""


@dataclass(frozen=True, eq=False)
class Body:
    """A posed surface in camera axes, metres, that turns about a pivot."""

    vertices: Float[np.ndarray, "V 3"]
    """Vertices."""
    faces: Int[np.ndarray, "F 3"]
    """Triangles."""
    pivot: Float[np.ndarray, "3"]
    """The middle of the body's box."""

    @classmethod
    def of(cls, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Body:
        """Make a body that turns about its middle."""
        return cls(vertices, faces, (vertices.min(0) + vertices.max(0)) / 2)

    @property
    def reach_m(self) -> float:
        """Half the side of the smallest upright cylinder about the pivot that holds the body: its radius or height."""
        away = np.abs(self.vertices - self.pivot)
        return float(max(np.hypot(away[:, 0], away[:, 2]).max(), away[:, 1].max()))

    def turned(self, turn: Float[np.ndarray, "3 3"]) -> Body:
        """Rotate the body about its pivot."""
        return replace(self, vertices=(self.vertices - self.pivot) @ turn.T + self.pivot)

    def moved(self, offsets: Float[np.ndarray, "V 3"]) -> Body:
        """Move the vertices; the pivot stays."""
        return replace(self, vertices=self.vertices + offsets)


@dataclass(frozen=True, eq=False)
class Square:
    """A square picture of a person with mask and camera."""

    image: UInt8[np.ndarray, "S S 3"]
    """RGB."""
    mask: Bool[np.ndarray, "S S"]
    """Where the person is."""
    focal_px: tuple[float, float]
    """In x and y."""
    centre_px: tuple[float, float]
    """The principal point."""
    corner_px: tuple[int, int]
    """Where its upper left corner lies in the picture that it is cut of."""
    scale: float
    """Its pixels for one of that picture."""

    @property
    def side(self) -> int:
        """Pixels of a side."""
        return len(self.image)

    def finer(self, times: int) -> Square:
        """Give the same camera more pixels; they are black."""
        blank = np.zeros((times * self.side,) * 2 + (3,), np.uint8)
        focal, centre = ((times * a, times * b) for a, b in (self.focal_px, self.centre_px))
        return Square(blank, blank[..., 0] > 0, focal, centre, self.corner_px, times * self.scale)

    def within(self, size_px: tuple[int, int]) -> Bool[np.ndarray, "S S"]:
        """Tell which pixels lie within the picture of that (width, height)."""
        middles = (np.arange(self.side) + 0.5) / self.scale
        across, down = (((middles + c >= 0) & (middles + c < n)) for c, n in zip(self.corner_px, size_px, strict=True))
        return down[:, None] & across

    def project(self, points_cam_m: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Project points in camera axes to x px, y px and depth in metres."""
        depth = points_cam_m[:, 2]
        near = np.where(np.abs(depth) > 1e-6, depth, 1e-6)[:, None]
        xy = points_cam_m[:, :2] / near * self.focal_px + self.centre_px
        return np.concatenate([xy, depth[:, None]], 1)

    def unproject(
        self, rows: Int[np.ndarray, " N"], columns: Int[np.ndarray, " N"], depth_m: Float[np.ndarray, " N"]
    ) -> Float[np.ndarray, "N 3"]:
        """Return the points in camera axes, metres, that pixels show at some depth."""
        xy = np.stack([columns + 0.5, rows + 0.5], 1) - self.centre_px
        return np.concatenate([xy / self.focal_px * depth_m[:, None], depth_m[:, None]], 1)

    def depth(self, body: Body) -> DepthMap:
        """Draw the depth of a body."""
        size = (self.side, self.side)
        return depth_map(body.vertices, body.faces, self.focal_px, self.centre_px, size)


def square_of(view: AvatarView, body: Body, side: int) -> Square:
    """Cut a square about a body out of a view, as large as the body needs it however it turns, and resize it to `side`.

    One that is a little smaller than `side` is cut larger instead, so that its pixels are the view's. body: in the axes
    of the view's camera. What lies beyond the picture repeats its border and is not the person. Raises `OptionError`
    for a body at the camera.
    """
    fx, fy, cx, cy = view.lens
    x, y, z = body.pivot
    nearest = z - body.reach_m
    if nearest < 0.2:
        raise OptionError("the person is too close to the camera to be turned before it")
    half = max(fx, fy) * _ROOM * body.reach_m / (0.5 * (z + nearest))
    width = max(round(2 * half), 8)
    width = side if _LEAST_OF_SIDE * side <= width < side else width
    left, top = round(fx * x / z + cx - width / 2), round(fy * y / z + cy - width / 2)
    height_px, width_px = view.mask.shape
    before = max(-left, 0), max(-top, 0)
    after = max(left + width - width_px, 0), max(top + width - height_px, 0)
    border = (before[1], after[1], before[0], after[0])
    inner = slice(max(top, 0), min(top + width, height_px)), slice(max(left, 0), min(left + width, width_px))
    if inner[0].stop <= inner[0].start or inner[1].stop <= inner[1].start:
        raise OptionError("the person is not in the picture")
    image = cv2.copyMakeBorder(np.ascontiguousarray(view.image[inner]), *border, cv2.BORDER_REPLICATE)
    mask = cv2.copyMakeBorder(255 * view.mask[inner].astype(np.uint8), *border, cv2.BORDER_CONSTANT, value=[0])
    scale = side / width
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image, mask = (cv2.resize(a, (side, side), interpolation=how) for a in (image, mask))
    return Square(
        image=np.asarray(image, np.uint8),
        mask=np.asarray(mask) >= 128,
        focal_px=(fx * scale, fy * scale),
        centre_px=((cx - left) * scale, (cy - top) * scale),
        corner_px=(left, top),
        scale=scale,
    )


def turn_of(yaw_deg: float | int, pitch_deg: float | int = 0.0) -> Float[np.ndarray, "3 3"]:
    """Return the rotation of a person in camera axes (x right, y down, z forward).

    yaw_deg: about the vertical; at 90 who faced the camera faces the picture's right. pitch_deg: how far the camera
    rises about the person, looking down.
    """
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    cp, sp = np.cos(np.radians(pitch_deg)), np.sin(np.radians(pitch_deg))
    about_y = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    return np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ about_y


def smooth_normals(body: Body, drawn: DepthMap) -> Float[np.ndarray, "S S 3"]:
    """Draw the normals of a body's faces, camera axes, at the pixels of its depth; 0 elsewhere."""
    normals = vertex_normals(body.vertices, body.faces)
    of_faces = normals[body.faces].mean(1)
    of_faces /= np.maximum(np.linalg.norm(of_faces, axis=1, keepdims=True), 1e-9)
    return np.where((drawn.faces >= 0)[..., None], of_faces[drawn.faces], 0.0).astype(np.float32)
