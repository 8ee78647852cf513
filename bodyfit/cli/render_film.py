"""The film of a clip's tracks, drawn again: `bodyfit render FOLDER -o FILM`, or overlay.mp4 among other results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bodyfit.cli.support import common
from bodyfit.errors import OptionError

if TYPE_CHECKING:
    from bodyfit.app.results.bodies import Models
    from bodyfit.app.results.find import Found
    from bodyfit.cli.render_one import Drawer

__all__ = ["draw_clip", "render_film"]


def render_film(found: Sequence[Found], out: Path, plain: bool, model: str, as_json: bool) -> int:
    """Write the film of one clip where the user says.

    Raises `OptionError`, `AssetError`, `VideoError` and `OutputError`.
    """
    from bodyfit.app.results.bodies import Models

    clips = [one for one in found if one.is_clip]
    if len(clips) != 1 or len(found) != 1 or not plain:
        names = ", ".join(one.name for one in found)
        raise OptionError(
            f"-o {out} is the film of one clip, without --view and --maps; here is {names}: give one clip's folder, or "
            "a folder for -o"
        )
    frames, people = _write(clips[0], out, Models(model or None))
    if as_json:
        common.say_json({"film": out, "frames": frames, "people": people})
    else:
        common.say(f"{clips[0].source}: {frames} frames -> {out}")
    return common.OK


def draw_clip(drawer: Drawer, found: Found) -> dict[str, Any]:
    """Write overlay.mp4 of one clip among others and return what is to be said of it, as `Drawer.draw` does."""
    others = [*(view for view in drawer.views if view != "overlay"), *drawer.maps]
    options = {"--skeleton": drawer.skeleton, "--keypoints": drawer.keypoints, "--texture": drawer.texture}
    others += [name for name, given in options.items() if given]
    if "overlay" not in drawer.views:
        raise OptionError(f"of a clip nothing but its overlay is drawn, not {', '.join(others)}")
    path = drawer.folder(found) if drawer.single is not None else drawer.folder(found) / "overlay.mp4"
    frames, people = _write(found, path, drawer.models)
    return {
        "name": found.name,
        "status": "ok",
        "message": None,
        "photo": found.source,
        "people": people,
        "frames": frames,
        "left_out": f"of a clip nothing but its overlay is drawn, not {', '.join(others)}" if others else None,
        "not_drawn": [],
        "files": [path],
    }


def _write(found: Found, path: Path, models: Models) -> tuple[int, list[int]]:
    """Write the film of a clip; returns how many frames it has, and who is in it."""
    from bodyfit.app.film import FILM_SIDE_PX, write_film
    from bodyfit.io import VideoReader, load_track

    if found.source is None:
        raise OptionError(f"nothing says where the clip of {found.name} is; name it with --photo CLIP")
    tracks = [load_track(file) for file in found.files]
    body = models.of(tracks[0].result)
    reader = VideoReader(found.source, **_part(found.said), max_side_px=FILM_SIDE_PX)
    return write_film(path, reader, tracks, body), [track.id for track in tracks]


def _part(said: Mapping[str, Any]) -> dict[str, Any]:
    """Which part of the clip was fitted."""
    part = said.get("part") or {}
    return {key: part[key] for key in ("fps", "start_s", "end_s", "stride") if part.get(key) is not None}
