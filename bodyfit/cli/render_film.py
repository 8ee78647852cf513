"""`bodyfit render FOLDER -o FILM`: the film of a clip's tracks, drawn again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bodyfit.cli import common
from bodyfit.errors import AssetError, OptionError

if TYPE_CHECKING:
    from bodyfit.fit.track import Track

__all__ = ["holds_tracks", "render_film"]


def holds_tracks(results: Sequence[Path]) -> bool:
    """Whether the first of the inputs is a track of `bodyfit video`, or a folder with one."""
    from bodyfit.io.params import read_arrays

    given = results[0] if results else Path()
    files = [given] if given.is_file() else sorted(given.rglob("person*.npz")) if given.is_dir() else []
    try:
        return bool(files) and "track_id" in read_arrays(files[0])
    except AssetError:  # the pictures' own code tells what is wrong with it
        return False


def render_film(results: Sequence[Path], out: Path, clip: Path | None, model: str, as_json: bool) -> int:
    """Draw the film of one clip's folder. Raises `OptionError`, `AssetError`, `VideoError`, `OutputError`."""
    from bodyfit.body.model import load_model
    from bodyfit.film import FILM_SIDE_PX, write_film
    from bodyfit.io import VideoReader
    from bodyfit.show.folder import read_results

    if len(results) != 1:
        raise OptionError(f"a film is of one clip, got {len(results)} inputs; give one clip's folder")
    found = read_results(results[0])
    if len(found.scenes) != 1:
        names = ", ".join(scene.name for scene in found.scenes)
        raise OptionError(f"{results[0]} holds several clips ({names}); give one of these folders")
    scene = found.scenes[0]
    tracks = [_track(person.file) for person in scene.people]
    source = clip or scene.source
    if source is None and scene.said.get("input"):  # where it was: its absence is told by the reader
        source = Path(scene.said["input"])
    if source is None:
        raise OptionError(f"nothing says where the clip of {scene.name} is; name it with --photo CLIP")
    first = tracks[0].result
    body = load_model(model or first.model_name, gender=first.gender, num_betas=first.params.betas.shape[1])
    reader = VideoReader(source, **_part(scene.said), max_side_px=FILM_SIDE_PX)
    frames = write_film(out, reader, tracks, body)
    if as_json:
        common.say(
            json.dumps(common.plain({"film": out, "frames": frames, "people": [t.id for t in tracks]}), indent=2)
        )
    else:
        common.say(f"{source}: {frames} frames -> {out}")
    return common.OK


def _track(path: Path) -> Track:
    from bodyfit.io import load_track

    return load_track(path)


def _part(said: Mapping[str, Any]) -> dict[str, Any]:
    """Which part of the clip was fitted."""
    part = said.get("part") or {}
    return {key: part[key] for key in ("start_s", "end_s", "stride") if part.get(key) is not None}
