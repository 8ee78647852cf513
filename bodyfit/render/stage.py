"""Render bodies in a studio: on a ground, in soft light, by a camera that is fixed over the frames of a clip."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.camera import Camera
from bodyfit.render.color import Color
from bodyfit.render.ground import Floor, paint_ground
from bodyfit.render.hatch import hatch_bodies
from bodyfit.render.light import light_of_vertices, openness, sky_directions
from bodyfit.render.scene import Paint, gather
from bodyfit.render.shade import box_px, draw_scene

__all__ = ["VIEWS", "Stage", "studio", "turntable"]

VIEWS: dict[str, tuple[float, float]] = {"front": (0.0, 7.0), "side": (-90.0, 7.0), "top": (0.0, 90.0)}
"""Yaw of the people about the vertical and downward pitch of the camera, degrees."""
_BACKDROP: Color = (0.945, 0.953, 0.962)
_FAR = 5.0
"""The camera's distance, in extents of the people: far enough that perspective distorts little."""
_FLOOR_CELLS = 160
_LARGE_PX = 400 * 500
_MANY = 3_000_000
"""Count of coordinates (about 1 s of a clip) above which the camera is placed from a subset of the vertices."""


@dataclass(frozen=True)
class Stage:
    """The studio's camera and ground; made once for all frames of a clip, so that no body changes scale or jumps.

    People are given in camera axes of the photograph. The room's axes have their origin at the pivot: x right, y down,
    z away from the studio's camera.
    """

    pivot_m: Float[np.ndarray, "3"]
    """The middle of the people, camera axes of the photograph."""
    yaw_deg: float
    """Turn of the people about the vertical; at 90 a person who faced the camera faces the picture's right."""
    pitch_deg: float
    """Downward pitch of the studio's camera; 90 is the view from above."""
    floor_m: float
    """Distance from the pivot down to the ground."""
    distance_m: float
    """Distance from the pivot to the studio's camera."""
    camera: Camera
    """The studio's camera."""

    @classmethod
    def around(
        cls,
        vertices_cam: Float[Tensor, "*T V 3"] | Sequence[Float[Tensor, "V 3"]],
        *,
        view: str | tuple[float, float] = "side",
        size: tuple[int, int] = (480, 640),
        all_round: bool = False,
    ) -> Stage:
        """Make a stage that frames all given vertices: of one body, of several, or of all frames of a clip.

        view: a name of `VIEWS`, or (yaw, pitch) in degrees. `size` is the picture's width and height in pixels.
        `all_round` leaves room for every yaw, for turntables. Vertices that are not finite are ignored. Raises
        `OptionError`.
        """
        yaw, pitch = _angles(view)
        width, height = size
        if width < 1 or height < 1:
            raise OptionError(f"size must be (width, height) in pixels, both positive, got {size}")
        many = [vertices_cam] if isinstance(vertices_cam, Tensor) else list(vertices_cam)
        points = np.concatenate([np.zeros((0, 3)), *(_outermost(v) for v in many)])
        if len(points) == 0:
            points = np.array([(-0.5, -0.9, 2.5), (0.5, 0.9, 3.5)])  # an empty room
        low, high = points.min(0), points.max(0)
        pivot = (low + high) / 2
        points = points - pivot
        if all_round:
            reach = np.hypot(points[:, 0], points[:, 2])
            ring = np.stack([reach, points[:, 1], np.zeros(len(reach))], 1)
            points = np.concatenate([_turn(ring, 30.0 * k) for k in range(12)])
        extent = max(float(np.ptp(points, axis=0).max()), 1e-3)
        stage = cls(pivot, yaw, pitch, float((high - low)[1] / 2), _FAR * extent, Camera.make(1, size))
        points_cam = stage._to_camera(_turn(points, yaw))
        slopes = points_cam[:, :2] / points_cam[:, 2:]
        (x0, y0), (x1, y1) = slopes.min(0), slopes.max(0)
        focal = min(0.84 * width / max(x1 - x0, 1e-6), 0.86 * height / max(y1 - y0, 1e-6))
        centre = torch.tensor([[width / 2 - focal * (x0 + x1) / 2, 0.49 * height - focal * (y0 + y1) / 2]])
        return replace(stage, camera=Camera(torch.tensor([focal]).float(), centre.float(), (width, height)))

    def draw(
        self,
        bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
        faces: Int[Tensor, "F 3"],
        *,
        backdrop: Color = _BACKDROP,
        grid_m: float | None = None,
        rays: int | None = None,
        poor: Collection[int] = (),
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Draw people, (vertices in camera axes, paint) pairs, on the ground of the studio.

        grid_m: distance between faint lines on the ground, metres. rays: number of sky directions sampled for shadows,
        and half as many of the key light; 24 are enough for clips, 64 for a picture (None: by the picture's size).
        poor: indices of the bodies to hatch, see `overlay`. Bodies that are not finite are left out.
        """
        if grid_m is not None and not grid_m > 0:
            raise OptionError(f"grid_m must be a distance in metres, or None for no lines, got {grid_m:g}")
        people = [(self.to_camera(v), paint) for v, paint in bodies]
        scene = gather(people, faces, self.camera)
        width, height = self.camera.image_size
        if scene is None:
            return self._ground(backdrop, grid_m, None)
        rays = rays or (64 if width * height >= _LARGE_PX else 24)
        inward = self._from_camera(scene.points_cam_m).astype(np.float32)  # room axes, in which the lights are fixed
        normals = (scene.normals @ self._rows()).astype(np.float32)
        floor = Floor.below(inward, self.floor_m, min(_FLOOR_CELLS, max(width // 2, 16)))
        on_mesh, on_floor = openness(inward, normals, scene.faces, floor.points(), sky=rays, key=max(rays // 2, 1))
        eye = -self.distance_m * self._rows()[2]
        light = scene.with_own_light(light_of_vertices((inward - eye).astype(np.float32), normals, on_mesh))
        picture = self._ground(backdrop, grid_m, floor.lit(on_floor.sky, on_floor.key, rays))
        points = scene.in_picture()
        box = box_px(points, scene.faces, (width, height))
        if box is not None:
            before = picture.copy() if poor else picture
            draw_scene(picture, scene, points, box, light, 1.0)
            hatch_bodies(picture, before, people, poor, faces, self.camera)
        return picture

    def turned(self, yaw_deg: float) -> Stage:
        """Return a copy of the stage with the people turned by another yaw."""
        return replace(self, yaw_deg=yaw_deg)

    def to_camera(self, vertices: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
        """Transform vertices from the photograph's camera axes to those of the studio's `camera`, metres."""
        check_shape("vertices", vertices, (None, 3), hint="give one body at a time, out.vertices[0]")
        room = _turn(vertices.detach().cpu().double().numpy() - self.pivot_m, self.yaw_deg)
        return torch.from_numpy(self._to_camera(room)).float()

    def _rows(self) -> Float[np.ndarray, "3 3"]:
        """Return the right, down and forward axes of the studio's camera in room axes."""
        c, s = math.cos(math.radians(self.pitch_deg)), math.sin(math.radians(self.pitch_deg))
        return np.array([(1, 0, 0), (0, c, -s), (0, s, c)])

    def _to_camera(self, room: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        return room @ self._rows().T + (0, 0, self.distance_m)

    def _from_camera(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        return (points - (0, 0, self.distance_m)) @ self._rows()

    def _ground(self, backdrop: Color, grid_m: float | None, floor: Floor | None) -> UInt8[np.ndarray, "h w 3"]:
        """Paint the empty studio, with the shadows on the ground."""
        rows = self._rows()
        eye = -self.distance_m * rows[2]
        return paint_ground(self.camera, rows, eye, self.floor_m, floor, backdrop=backdrop, grid_m=grid_m)


def studio(
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
    faces: Int[Tensor, "F 3"],
    *,
    view: str | tuple[float, float] = "side",
    size: tuple[int, int] = (480, 640),
    grid_m: float | None = None,
    poor: Collection[int] = (),
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw people (vertices in camera axes, paint) on a ground in soft light, from one of `VIEWS` or (yaw, pitch).

    `poor` are indices of the bodies to hatch, see `overlay`.
    """
    return Stage.around([v for v, _ in bodies], view=view, size=size).draw(bodies, faces, grid_m=grid_m, poor=poor)


def turntable(
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
    faces: Int[Tensor, "F 3"],
    *,
    frames: int = 36,
    size: tuple[int, int] = (480, 640),
    pitch_deg: float = 7.0,
    grid_m: float | None = None,
    poor: Collection[int] = (),
) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Draw people (vertices in camera axes, paint) turning once about the vertical; the first frame is the front.

    `poor` are indices of the bodies to hatch, see `overlay`.
    """
    if frames < 1:
        raise OptionError(f"frames must be at least 1, got {frames}")
    stage = Stage.around([v for v, _ in bodies], view=(0.0, pitch_deg), size=size, all_round=True)
    angles = [360 * k / frames for k in range(frames)]
    return [stage.turned(yaw).draw(bodies, faces, grid_m=grid_m, rays=48, poor=poor) for yaw in angles]


def _turn(points: Float[np.ndarray, "N 3"], yaw_deg: float) -> Float[np.ndarray, "N 3"]:
    """Rotate points about the vertical axis, camera axes."""
    c, s = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    x, y, z = points.T
    return np.stack([c * x - s * z, y, s * x + c * z], 1)


def _angles(view: str | tuple[float, float]) -> tuple[float, float]:
    """Return the yaw and pitch, degrees, of a view. Raises `OptionError`."""
    if isinstance(view, str):
        if view not in VIEWS:
            raise OptionError(f"view must be one of {', '.join(VIEWS)} or (yaw, pitch) in degrees, got {view!r}")
        return VIEWS[view]
    yaw, pitch = view
    if not (math.isfinite(yaw) and -90 <= pitch <= 90):
        raise OptionError(f"view must be (yaw, pitch) in degrees, pitch from -90 to 90, got {view}")
    return float(yaw), float(pitch)


def _outermost(vertices: Float[Tensor, "*T V 3"]) -> Float[np.ndarray, "N 3"]:
    """Return the finite vertices; of long clips only those farthest in each of 96 directions, frame by frame."""
    points = vertices.detach().cpu().float().numpy()
    frames = points.reshape(-1, *points.shape[-2:])
    if points.size > _MANY:
        directions = sky_directions(96).T
        frames = np.stack([frame[(frame @ directions).argmax(0)] for frame in frames])
    outer = frames.reshape(-1, 3).astype(np.float64)
    return outer[np.isfinite(outer).all(1)]
