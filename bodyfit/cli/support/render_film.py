"""The film of a clip's tracks, drawn again: `bodyfit render FOLDER -o FILM`, or overlay.mp4 among other results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bodyfit.cli.support import common
from bodyfit.errors import OptionError

if TYPE_CHECKING:
    from bodyfit.app.results.bodies import Models
    from bodyfit.app.results.find import ResultFiles
    from bodyfit.avatars import Avatar
    from bodyfit.cli.support.render_one import Drawer

__all__ = ["draw_clip", "render_film"]


def render_film(
    result: Sequence[ResultFiles], out: Path, plain: bool, model: str, as_json: bool, avatar: Avatar | None = None
) -> int:
    """Write the film of one clip where the user says.

    Raises `OptionError`, `AssetError`, `VideoError` and `OutputError`.
    """
    from bodyfit.app.results.bodies import Models

    clips = [one for one in result if one.is_clip]
    if len(clips) != 1 or len(result) != 1 or not plain:
        names = ", ".join(one.name for one in result)
        raise OptionError(
            f"-o {out} is the film of one clip, without --view and --maps; here is {names}: give one clip's folder, or "
            "a folder for -o"
        )
    frames, people = _write(clips[0], out, Models(model or None), avatar)
    if as_json:
        common.say_json({"film": out, "frames": frames, "people": people})
    else:
        common.say(f"{clips[0].source}: {frames} frames -> {out}")
    return common.OK


def draw_clip(drawer: Drawer, result: ResultFiles) -> dict[str, Any]:
    """Write overlay.mp4 of one clip among others and return what is to be said of it, as `Drawer.draw` does."""
    others = [*(view for view in drawer.views if view != "overlay"), *drawer.maps]
    options = {"--skeleton": drawer.skeleton, "--keypoints": drawer.keypoints, "--texture": drawer.texture}
    others += [name for name, enabled in options.items() if enabled]
    if "overlay" not in drawer.views:
        raise OptionError(f"of a clip nothing but its overlay is drawn, not {', '.join(others)}")
    path = drawer.folder(result) if drawer.single is not None else drawer.folder(result) / "overlay.mp4"
    frames, people = _write(result, path, drawer.models, drawer.avatar)
    return {
        "name": result.name,
        "status": "ok",
        "message": None,
        "photo": result.source,
        "people": people,
        "frames": frames,
        "left_out": f"of a clip nothing but its overlay is drawn, not {', '.join(others)}" if others else None,
        "not_drawn": [],
        "files": [path],
    }


def _write(result: ResultFiles, path: Path, models: Models, avatar: Avatar | None) -> tuple[int, list[int]]:
    """Write the film of a clip; returns how many frames it has, and who is in it."""
    from bodyfit.app.film import FILM_SIDE_PX, write_film
    from bodyfit.io import VideoReader, load_track

    if result.source is None:
        raise OptionError(f"nothing says where the clip of {result.name} is; name it with --photo CLIP")
    tracks = [load_track(file) for file in result.files]
    body = models.of(tracks[0].result)
    reader = VideoReader(result.source, **_part(result.entry), max_side_px=FILM_SIDE_PX)
    return write_film(path, reader, tracks, body, avatar=avatar), [track.id for track in tracks]


def _part(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Which part of the clip was fitted."""
    part = entry.get("part") or {}
    return {key: part[key] for key in ("fps", "start_s", "end_s", "stride") if part.get(key) is not None}
