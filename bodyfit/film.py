"""Films of tracks: the bodies over the clip, beside the same bodies seen from the side by a camera that stands still."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.camera import Camera
from bodyfit.errors import OptionError, VideoError
from bodyfit.fit.track import Track
from bodyfit.frame import Frame
from bodyfit.io import VideoReader, VideoWriter
from bodyfit.render.color import Color, person_color
from bodyfit.render.pictures import overlay
from bodyfit.render.stage import Stage

__all__ = ["FILM_SIDE_PX", "write_film"]

FILM_SIDE_PX = 1280
"""Longer side of a film's overlay unless told otherwise."""
_CHUNK = 8
"""Frames that are posed and drawn at once."""
_STAGE_FRAMES = 60
"""Frames by which the camera at the side is placed."""
_PANEL = 0.7
"""Width of the view from the side, in heights of the clip."""
_PALER = 0.6
"""How much white is mixed in where the motion fills a gap."""
_RAYS = 24


def write_film(
    path: str | Path,
    reader: VideoReader,
    tracks: Sequence[Track],
    model: BodyModel,
    *,
    side_view: bool = True,
    threads: int = 2,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> int:
    """Write an mp4 (with the clip's sound) or a gif of tracks over the frames of their clip; returns how many frames.

    `reader` gives the frames, made smaller or not. Each is shown at its own time and none is left out, also where
    nobody is. Who is filled in by the motion is drawn paler. Raises `VideoError` where the clip is another one than the
    tracks', `OptionError` and `OutputError`.
    """
    for track in tracks:
        if track.result.camera.image_size != reader.full_size:
            raise VideoError(
                f"{reader.path} is {reader.full_size[0]}x{reader.full_size[1]}, the tracks are of a clip of "
                f"{track.result.camera.image_size[0]}x{track.result.camera.image_size[1]}; give the clip that was fitted"
            )
    if threads < 1:
        raise OptionError(f"threads must be at least 1, got {threads}")
    shot = _Shot(tracks, model, reader, side_view)
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


_Body: TypeAlias = "tuple[Float[Tensor, 'V 3'], Color]"


class _Shot:
    """What is the same in all frames of a film: people, cameras, size."""

    def __init__(self, tracks: Sequence[Track], model: BodyModel, reader: VideoReader, side_view: bool) -> None:
        self._tracks, self._model = tracks, model
        width, height = self.size = reader.size
        self._stage = None
        if tracks:
            scale, camera = width / reader.full_size[0], tracks[0].result.camera.select([0])
            self._camera = Camera(scale * camera.focal_px, scale * camera.principal_point_px, reader.size)
        if side_view:
            panel = (max(2, round(_PANEL * height)), height)
            self._stage = Stage.around(self._sample(), view="side", size=panel)
            self.size = width + panel[0], height

    def bodies(self, frames: Sequence[Frame]) -> list[list[_Body]]:
        """Who is in each frame, in his colour, paler where nobody saw him."""
        cast: list[list[_Body]] = [[] for _ in frames]
        for track in self._tracks:
            rows = _rows(track, [frame.time_s for frame in frames])
            there = [i for i, row in enumerate(rows) if row is not None]
            if not there:
                continue
            color = person_color(track.id)
            paler = tuple(_PALER + (1 - _PALER) * c for c in color)
            vertices = self._vertices(track, [row for row in rows if row is not None])
            for i, points in zip(there, vertices, strict=True):
                cast[i].append((points, color if track.seen[rows[i]] else paler))
        return cast

    def draw(self, frame: Frame, bodies: Sequence[_Body]) -> UInt8[np.ndarray, "H W 3"]:
        """One picture of the film."""
        picture = frame.image
        if bodies:
            picture = overlay(picture, bodies, self._model.faces, self._camera, shadows=False)
        if self._stage is None:
            return picture
        beside = self._stage.draw(bodies, self._model.faces, grid_m=1.0, rays=_RAYS)
        return np.concatenate([picture, beside], 1)

    def _sample(self) -> list[Float[Tensor, "V 3"]]:
        """Where people are in the clip: a few vertices in a few frames."""
        points = []
        for track in self._tracks:
            rows = np.unique(np.linspace(0, len(track) - 1, min(len(track), _STAGE_FRAMES)).round().astype(int))
            points += [
                p[::17] for k in range(0, len(rows), _CHUNK) for p in self._vertices(track, rows[k : k + _CHUNK])
            ]
        return points

    @torch.no_grad()
    def _vertices(self, track: Track, rows: Sequence[int] | Int[np.ndarray, "N"]) -> Float[Tensor, "N V 3"]:
        params = track.result.params.select([int(row) for row in rows])
        return self._model(**params.to(self._model.device, self._model.dtype)).vertices.cpu()


def _rows(track: Track, times_s: Sequence[float]) -> list[int | None]:
    """The row of a track for each time; None where the person is not there. Times say more than numbers do of frames
    that were read from the middle of a clip."""
    nearest = np.clip(np.searchsorted(track.times_s, np.array(times_s) - 5e-4), 0, len(track) - 1)
    there = np.abs(track.times_s[nearest] - times_s) < 5e-4
    return [int(row) if ok else None for row, ok in zip(nearest, there, strict=True)]
