"""Draw the surroundings of bodies in the viewer: the photograph, the camera's frustum, a floor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.errors import OptionError
from bodyfit.geometry.camera import Camera

__all__ = ["VIEWS", "Backdrop"]

VIEWS = ("camera", "front", "side", "top")
"""Names of the viewpoints."""


class Backdrop:
    """The photograph as the far plane of the camera's frustum, at any depth; camera axes, metres.

    Seen from the camera, the origin, the bodies lie over the photograph as in an overlay, at any depth.
    """

    def __init__(
        self, api: Any, points: Float[np.ndarray, "N 3"], camera: Camera, image: UInt8[np.ndarray, "h w 3"] | None
    ) -> None:
        """Add the surroundings to viser's scene `api`; `points` are all bodies'; without an image the plane is grey."""
        self._size, self._focal = camera.image_size, float(camera.focal_px[0])
        self._principal = camera.principal_point_px[0].numpy().astype(np.float64)
        self.depth: float = float(points[:, 2].max()) + 0.3
        """Depth of the photograph, metres."""
        low, high = points.min(0), points.max(0)
        self._centre, self._radius = (low + high) / 2, max(float(np.linalg.norm(high - low)) / 2, 0.3)
        ground = max(8 * self._radius, 8.0)
        self._floor = api.add_grid(
            "/floor",
            ground,
            ground,
            plane="xz",
            position=(self._centre[0], high[1], self._centre[2]),
            cell_size=0.5,
            section_size=1.0,
        )
        self._edges = api.add_line_segments(
            "/camera", self.edges(), (110, 120, 130), thickness=1.5, thickness_units="screen"
        )
        width, height = self.plane_size()
        self.photograph = api.add_image(
            "/photograph",
            np.full((48, 64, 3), 200, np.uint8) if image is None else image,
            width,
            height,
            position=self.plane_centre(),
            format="jpeg",
            jpeg_quality=88,
            cast_shadow=False,
            receive_shadow=False,
        )

    def move(self, depth: float) -> None:
        """Move the photograph to another depth, metres."""
        self.depth = depth
        self.photograph.render_width, self.photograph.render_height = self.plane_size()
        self.photograph.position = self.plane_centre()
        self._edges.points = self.edges().astype(np.float32)

    def plane_size(self) -> tuple[float, float]:
        """Return width and height of the photograph at its depth, metres."""
        width, height = self._size
        return width / self._focal * self.depth, height / self._focal * self.depth

    def plane_centre(self) -> Float[np.ndarray, "3"]:
        """Return its centre, off the optical axis where the principal point is not the picture's centre."""
        xy = (np.array(self._size) / 2 - self._principal) / self._focal * self.depth
        return np.array([*xy, self.depth])

    def edges(self) -> Float[np.ndarray, "4 2 3"]:
        """Return segments from the camera to the corners of the photograph."""
        signs = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
        corners = self.plane_centre() + np.column_stack([signs * self.plane_size(), np.zeros(4)])
        return np.stack([np.zeros((4, 3)), corners], 1)

    def view(self, name: str) -> tuple[np.ndarray, np.ndarray, float]:
        """Return position, target and vertical field of view (radians) of a viewpoint. Raises `OptionError`."""
        if name not in VIEWS:
            raise OptionError(f"view must be one of {', '.join(VIEWS)}, got {name!r}")
        if name == "camera":  # as tall as the picture
            return np.zeros(3), np.array([0.0, 0.0, self.depth]), 2 * math.atan(self._size[1] / 2 / self._focal)
        away = {"front": (-0.5, -0.25, -0.85), "side": (1.0, -0.05, 0.0), "top": (0.0, -1.2, -0.01)}[name]
        return self._centre + 2.6 * self._radius * np.array(away), self._centre, 0.9

    def remove(self) -> None:
        """Remove everything from the scene."""
        for handle in (self._floor, self._edges, self.photograph):
            handle.remove()
