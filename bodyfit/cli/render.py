"""`bodyfit render`: pictures and maps of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodyfit.cli.support import common
from bodyfit.cli.support.render_film import draw_clip, render_film
from bodyfit.cli.support.wording import in_options
from bodyfit.errors import BodyfitError, OptionError

if TYPE_CHECKING:
    from bodyfit.app.results.find import ResultFiles
    from bodyfit.avatars import Avatar
    from bodyfit.cli.support.render_one import Drawer

__all__ = ["render"]

_VIEWS = ("overlay", "insets", "front", "side", "top", "turn", "sheet")
_MAPS = ("depth", "normal", "silhouette", "parts")
_SHEET_ROWS = 24
"""Pictures on a contact sheet; more go on further ones."""


def render(
    results: Annotated[
        list[Path],
        typer.Argument(help="Folders that bodyfit fit, video or batch wrote, or npz files of people."),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for the pictures, or a picture's name for a single one.")
    ],
    view: Annotated[
        str,
        typer.Option("--view", metavar="VIEWS", help="Of overlay, insets, front, side, top, turn, sheet; with commas."),
    ] = "",
    maps: Annotated[
        str, typer.Option("--maps", metavar="MAPS", help="Of depth, normal, silhouette, parts; with commas.")
    ] = "",
    npy: Annotated[
        bool, typer.Option("--npy", help="Maps as npy arrays (metres, unit vectors) instead of PNG.")
    ] = False,
    photo: Annotated[
        Path | None,
        typer.Option("--photo", help="The photograph or clip (or a folder of them), if it is not where it was."),
    ] = None,
    skeleton: Annotated[bool, typer.Option("--skeleton", help="Draw the body's joints over the photograph.")] = False,
    keypoints: Annotated[bool, typer.Option("--keypoints", help="Draw the keypoints that were fitted.")] = False,
    opacity: Annotated[
        float, typer.Option("--opacity", min=0.0, max=1.0, help="Of bodies over the photograph.")
    ] = 0.88,
    size: Annotated[
        str, typer.Option("--size", metavar="WxH", help="Pixels of front, side, top and turn, as 800x600.")
    ] = "",
    grid_m: Annotated[
        float | None, typer.Option("--grid", min=0.01, help="Metres between lines on the ground.")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", min=2, max=720, help="Pictures of a turn.")] = 36,
    texture: Annotated[Path | None, typer.Option("--texture", help="A picture to dress the bodies in (by uv).")] = None,
    avatar: Annotated[
        Path | None, typer.Option("--avatar", help="avatar.npz whose surface and colours the bodies have.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="Body model, if not the one the results name.")] = "",
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Draw results again: overlays, views from the side and from above, a turning film, sheets, and maps of numbers.

    For each picture a folder of its name is written in OUT; "sheet" puts all pictures on OUT/sheet.png; "insets" are
    the hands and the face of bodies that have them, from near. Overlays and maps have the photograph's size. The
    photograph is where summary.json says, or --photo. Of a clip overlay.mp4 is drawn, the film that bodyfit video
    makes, and no other view.

    Maps: depth.png 16 bits, millimetres; normal.png (red right, green up, blue towards the camera); silhouette.png and
    parts.png, whose values are the person and the joint, from 1 (names in labels.json). 0 is nobody.

    Examples:
        bodyfit render out/ -o pictures --view overlay,side,top --skeleton
        bodyfit render out/street -o street.gif --view turn
        bodyfit render out/clip -o clip.mp4
        bodyfit render out/ -o maps --maps depth,silhouette
        bodyfit render out/clip/person0.npz -o clip.mp4 --avatar avatar/avatar.npz

    Exit code: 0 every picture was drawn, 1 some were not, 2 wrong use.
    """
    views, kinds = _chosen("--view", view, _VIEWS), _chosen("--maps", maps, _MAPS)
    plain = not views and not kinds
    views = ("overlay",) if plain else views
    if avatar is not None and texture is not None:
        raise OptionError("--avatar has a texture of its own; leave --texture out")
    single = out if out.suffix.lower() in (".png", ".jpg", ".jpeg", ".gif") and not out.is_dir() else None
    wanted = _size(size)
    from bodyfit.app.results.find import find_results

    found = find_results(results, photo)
    if out.suffix.lower() == ".mp4" or (out.suffix.lower() == ".gif" and plain and found[0].is_clip):
        return render_film(found, out, plain, model, as_json, _avatar(avatar))
    if single is not None:
        _check_single(single, found, views, kinds)
    common.output_folder(out if single is None else single.parent)
    from bodyfit.app.results.bodies import Models  # torch: seconds
    from bodyfit.cli.support.render_one import Drawer

    drawer = Drawer(
        out=out,
        single=single,
        views=views,
        maps=kinds,
        npy=npy,
        skeleton=skeleton,
        keypoints=keypoints,
        opacity=opacity,
        size=wanted,
        grid_m=grid_m,
        frames=frames,
        texture=texture,
        avatar=_avatar(avatar),
        models=Models(model or None),
    )
    return _all(drawer, found, as_json, verbose)


def _avatar(path: Path | None) -> Avatar | None:
    """Load an avatar. Raises `AssetError`."""
    if path is None:
        return None
    from bodyfit.io.results.avatar import load_avatar

    return load_avatar(path)


def _all(drawer: Drawer, found: Sequence[ResultFiles], as_json: bool, verbose: bool) -> int:
    """Each picture, whatever happens to the others, then the sheets."""
    entries, rows, sheets = [], [], []
    for one in found:
        entry = _one(drawer, one, rows, verbose)
        entries.append(entry)
        if entry["status"] == "ok" and not as_json and entry["files"]:
            common.say(f"{one.name}: {', '.join(Path(name).name for name in entry['files'])} -> {drawer.folder(one)}")
        if entry.get("left_out"):
            common.error(f"{one.name}: {entry['left_out']}", label="note")
        for note in entry["not_drawn"]:
            common.error(f"{one.name}: person {note['person']} is not drawn: {note['reason']}", label="note")
        if len(rows) == _SHEET_ROWS:
            sheets.append(drawer.sheet(rows, len(sheets)))
            rows.clear()
    if rows:
        sheets.append(drawer.sheet(rows, len(sheets)))
    if as_json:
        common.say_json({"pictures": entries, "sheets": sheets})
    elif sheets:
        common.say(f"sheet: {', '.join(map(str, sheets))}")
    return common.OK if all(entry["status"] == "ok" for entry in entries) else common.SOME_FAILED


def _one(drawer: Drawer, one: ResultFiles, rows: list[Any], verbose: bool) -> dict[str, Any]:
    try:
        return draw_clip(drawer, one) if one.is_clip else drawer.draw(one, rows)
    except BodyfitError as fault:
        message, status = in_options(str(fault)), "error"
        common.error(f"{one.name}: {message}")
    except Exception as fault:  # ours: it must not cost the other pictures
        message, status = common.internal_error(fault, verbose, about=f"{one.name}: "), "internal_error"
    return {"name": one.name, "status": status, "message": message, "files": [], "not_drawn": []}


def _chosen(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Names between commas, each once."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise OptionError(f"{option} takes {', '.join(known)} (with commas between), got {', '.join(unknown)}")
    return names


def _size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise OptionError(f"--size must be WIDTHxHEIGHT in pixels, as 800x600, got {text!r}") from None
    if not (16 <= width <= 8192 and 16 <= height <= 8192):
        raise OptionError(f"--size must be between 16x16 and 8192x8192 pixels, got {text}")
    return width, height


def _check_single(single: Path, found: Sequence[ResultFiles], views: Sequence[str], maps: Sequence[str]) -> None:
    """A single file can only hold a single picture."""
    if maps or len(views) != 1 or (len(found) > 1 and views != ("sheet",)):
        raise OptionError(f"-o {single} is one picture: give one --view of one result and no --maps, or give a folder")
    moves = views == ("turn",)
    if moves != (single.suffix.lower() == ".gif"):
        raise OptionError(f"-o {single}: {'a turn is written as .gif' if moves else '.gif is for --view turn'}")
