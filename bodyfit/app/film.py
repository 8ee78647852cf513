"""Films of tracks: the bodies over the clip, beside the same bodies from the side before a camera that stands still."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy.ndimage import gaussian_filter, uniform_filter1d
from torch import Tensor

from bodyfit.app.avatars.drawn import avatar_paint, checked_avatar
from bodyfit.avatars import Avatar
from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError, VideoError
from bodyfit.fit.result import FitStatus
from bodyfit.fit.sequence.track import Track
from bodyfit.geometry.camera import Camera
from bodyfit.images.frame import Frame
from bodyfit.io import VideoReader, VideoWriter
from bodyfit.render.color import person_color
from bodyfit.render.hatch import hatch_bodies
from bodyfit.render.scene import Paint
from bodyfit.render.shade import draw_over, is_closed
from bodyfit.render.stage import Stage

__all__ = ["FILM_SIDE_PX", "write_film"]

FILM_SIDE_PX = 1280
"""Longer side of a film's overlay unless told otherwise."""
_CHUNK = 8
"""Frames that are posed and drawn at once."""
_STAGE_FRAMES, _STAGE_BODIES = 60, 1200
"""Frames of a track, and bodies of all tracks together, by which the camera at the side is placed."""
_PANEL = 0.7
"""Width of the view from the side, in heights of the clip."""
_PALER = 0.6
"""How much white is mixed in where the motion fills a gap."""
_SAME_S = 5e-4
"""Times that differ by less are of the same frame."""
_SHADOW_M = 0.5
"""Height above the ground at which a shadow is fainter by e."""
_OPACITY = 0.88
"""Of bodies over the clip."""
_DARKEST = 0.3
"""The part of the light that a shadow takes at most."""
_BLUR, _CELL_PX = 0.016, 4
"""The deviation of a shadow's border, in heights of the picture, and the side of the squares shadows are made of."""


def write_film(
    path: str | Path,
    reader: VideoReader,
    tracks: Sequence[Track],
    model: BodyModel,
    *,
    side_view: bool = True,
    avatar: Avatar | None = None,
    threads: int = 2,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> int:
    """Write an mp4 (with the clip's sound) or a gif of tracks over the frames of their clip; returns how many frames.

    `reader` gives the frames, made smaller or not. Each is shown at its own time and none is left out, also where
    nobody is. Who is filled in by the motion is drawn paler, who is poor is hatched. avatar: whose surface and colours
    all have. Raises `VideoError` where the clip is another one than the tracks', `OptionError` and `OutputError`.
    """
    for track in tracks:
        (w, h), (tw, th) = reader.full_size, track.result.camera.image_size
        if (w, h) != (tw, th):
            raise VideoError(f"{reader.path} is {w}x{h}, its tracks are of a clip of {tw}x{th}; give that clip")
    if threads < 1:
        raise OptionError(f"threads must be at least 1, got {threads}")
    if avatar is not None:
        model = checked_avatar(avatar, model).model
        tracks = [replace(one, result=replace(one.result, params=avatar.posed(one.result.params))) for one in tracks]
    shot = _Shot(tracks, model, reader, side_view, None if avatar is None else avatar_paint(avatar))
    written = 0
    sound = {"sound_from": reader.path, "sound_start_s": reader.start_s} if reader.has_sound else {}
    with (
        VideoWriter(path, shot.size, reader.rate / reader.stride, **sound) as film,
        ThreadPoolExecutor(threads) as pool,
    ):
        frames = iter(reader)
        while chunk := list(islice(frames, _CHUNK)):
            for frame, picture in zip(chunk, pool.map(shot.draw, chunk, shot.bodies(chunk)), strict=True):
                film.write(picture, frame.time_s - reader.start_s)
            written += len(chunk)
            if progress is not None:
                progress("drawing", written, reader.expected)
    return written


_Body: TypeAlias = "tuple[Float[Tensor, 'V 3'], Paint, bool]"
"""Vertices, colour or texture, and whether it is hatched."""


class _Shot:
    """What is the same in all frames of a film: people, cameras, size."""

    def __init__(
        self, tracks: Sequence[Track], model: BodyModel, reader: VideoReader, side_view: bool, paint: Paint | None
    ) -> None:
        self._tracks, self._model, self._paint = tracks, model, paint
        self._poor = [_poor_rows(track) for track in tracks]
        self._closed = is_closed(model.faces, model.v_template)
        self._first_s = np.array([track.times_s[0] for track in tracks])
        self._last_s = np.array([track.times_s[-1] for track in tracks])
        width, height = self.size = reader.size
        self._stage = None
        if tracks:
            scale, camera = width / reader.full_size[0], tracks[0].result.camera.select([0])
            self._camera = Camera(scale * camera.focal_px, scale * camera.principal_point_px, reader.size)
        if side_view:
            panel = (max(2, round(_PANEL * height)), height)
            self._stage = Stage.around(self._sample(), view="side", size=panel)
            self._room = self._stage.draw([], model.faces, grid_m=1.0)
            self.size = width + panel[0], height

    def bodies(self, frames: Sequence[Frame]) -> list[list[_Body]]:
        """Who is in each frame, in his colour, paler where nobody saw him."""
        cast: list[list[_Body]] = [[] for _ in frames]
        begin, end = frames[0].time_s - _SAME_S, frames[-1].time_s + _SAME_S
        for k in np.flatnonzero((self._first_s < end) & (self._last_s > begin)).tolist():
            track = self._tracks[k]
            rows = _rows(track, [frame.time_s for frame in frames])
            there = [i for i, row in enumerate(rows) if row is not None]
            if not there:
                continue
            color = red, green, blue = person_color(track.id)
            paler = (_pale(red), _pale(green), _pale(blue))
            paints = (color, paler) if self._paint is None else (self._paint, self._paint)
            vertices = self._vertices(track, [row for row in rows if row is not None])
            for i, points in zip(there, vertices, strict=True):
                cast[i].append((points, paints[0 if track.seen[rows[i]] else 1], bool(self._poor[k][rows[i]])))
        return cast

    def draw(self, frame: Frame, bodies: Sequence[_Body]) -> UInt8[np.ndarray, "H W 3"]:
        """One picture of the film."""
        picture = frame.image
        if bodies:
            picture = picture.copy()
            self._over(picture, bodies, self._camera, opacity=_OPACITY)
        if self._stage is None:
            return picture
        return np.concatenate([picture, self._beside(self._stage, bodies)], 1)

    def _beside(self, stage: Stage, bodies: Sequence[_Body]) -> UInt8[np.ndarray, "h w 3"]:
        """The view from the side. Shadows by rays would take longer than all the rest of the film: here the ground only
        darkens below people, the less the higher they are."""
        room = self._room.copy()
        people = [(stage.to_camera(vertices), color, poor) for vertices, color, poor in bodies]
        for vertices, _, _ in bodies:
            some = vertices[::3].clone()
            ground = float(stage.pivot_m[1]) + stage.floor_m
            near = torch.exp(-(ground - some[:, 1]).clamp(min=0) / _SHADOW_M).numpy()
            some[:, 1] = ground
            _darken(room, stage.camera.project(stage.to_camera(some)[None])[0].numpy(), near)
        self._over(room, people, stage.camera)
        return room

    def _over(
        self,
        picture: UInt8[np.ndarray, "H W 3"],
        bodies: Sequence[_Body],
        camera: Camera,
        opacity: float = 1.0,
    ) -> None:
        people = [(vertices, color) for vertices, color, _ in bodies]
        poor = [place for place, body in enumerate(bodies) if body[2]]
        before, faces = picture.copy() if poor else picture, self._model.faces
        draw_over(picture, people, faces, camera, opacity=opacity, shadows=False, closed=self._closed)
        hatch_bodies(picture, before, people, poor, faces, camera)

    def _sample(self) -> list[Float[Tensor, "V 3"]]:
        """Where people are in the clip: a few vertices in a few frames. Frames that the motion fills, and the twentieth
        that are farthest from the others in depth, may end outside the picture: they would make all others small."""
        points, most = [], max(1, min(_STAGE_FRAMES, _STAGE_BODIES // max(len(self._tracks), 1)))
        for track in self._tracks:
            depth = track.result.joints[:, 0, 2].cpu().numpy()
            away = np.where(track.seen, np.abs(depth - np.median(depth[track.seen])), np.inf)
            rows = np.flatnonzero(away <= np.quantile(away[track.seen], 0.95))
            rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(int))]
            points += [
                p[::17] for k in range(0, len(rows), _CHUNK) for p in self._vertices(track, rows[k : k + _CHUNK])
            ]
        return points

    @torch.no_grad()
    def _vertices(self, track: Track, rows: Sequence[int] | Int[np.ndarray, "N"]) -> Float[Tensor, "N V 3"]:
        params = track.result.params.select([int(row) for row in rows])
        return self._model(**params.to(self._model.device, self._model.dtype)).vertices.cpu()


def _darken(room: UInt8[np.ndarray, "h w 3"], xy_px: Float[np.ndarray, "N 2"], weight: Float[np.ndarray, "N"]) -> None:
    """A soft shadow where points of such weights in [0, 1] lie, in place."""
    height, width = room.shape[:2]
    blur = _BLUR * height / _CELL_PX
    cells, reach = np.floor(xy_px / _CELL_PX).astype(np.int64), round(4 * blur) + 1
    size = -(-width // _CELL_PX), -(-height // _CELL_PX)
    x0, y0 = np.clip(cells.min(0) - reach, 0, size).tolist()
    x1, y1 = np.clip(cells.max(0) + reach + 1, 0, size).tolist()
    columns, rows = (cells - (x0, y0)).T
    inside = (columns >= 0) & (columns < x1 - x0) & (rows >= 0) & (rows < y1 - y0)
    if not inside.any():
        return
    place = rows[inside] * (x1 - x0) + columns[inside]
    dark = np.bincount(place, weight[inside], (x1 - x0) * (y1 - y0)).reshape(y1 - y0, x1 - x0)
    dark = gaussian_filter(dark.astype(np.float32), blur)
    brightness = 1 - _DARKEST * float(weight.max()) / max(float(dark.max()), 1e-9) * dark
    part = room[_CELL_PX * y0 : _CELL_PX * y1, _CELL_PX * x0 : _CELL_PX * x1]
    part[:] = part * brightness.repeat(_CELL_PX, 0).repeat(_CELL_PX, 1)[: part.shape[0], : part.shape[1], None]


def _poor_rows(track: Track) -> Bool[np.ndarray, "T"]:
    """The frames of a track that are hatched: all of a poor one, else those amid a second of which most are poor."""
    poor = np.array([status is FitStatus.POOR for status in track.result.status])
    if track.poor:
        return np.ones_like(poor)
    return uniform_filter1d(poor.astype(np.float64), max(1, round(track.fps))) > 0.5


def _pale(part: float) -> float:
    return _PALER + (1 - _PALER) * part


def _rows(track: Track, times_s: Sequence[float]) -> list[int | None]:
    """The row of a track for each time; None where the person is not there. Times say more than numbers do of frames
    that were read from the middle of a clip."""
    nearest = np.clip(np.searchsorted(track.times_s, np.array(times_s) - _SAME_S), 0, len(track) - 1)
    there = np.abs(track.times_s[nearest] - times_s) < _SAME_S
    return [int(row) if ok else None for row, ok in zip(nearest, there, strict=True)]
