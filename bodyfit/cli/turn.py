"""`bodyfit turn`: the person of a photograph seen from elsewhere."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from bodyfit.cli.support import common, finding
from bodyfit.errors import OptionError

__all__ = ["turn"]

_MOST_YAW, _MOST_PITCH = 180.0, 60.0


def turn(
    person: Annotated[Path, typer.Argument(help="Folder or personN.npz of one photograph, or personN.npz of a clip.")],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Film (.mp4, .webp, .gif), picture (.png, .jpg) or folder for the frames."),
    ],
    yaw: Annotated[
        str, typer.Option("--yaw", metavar="DEG[:DEG]", help="How far the person turns: from:to, or one angle.")
    ] = "-60:60",
    pitch: Annotated[
        str, typer.Option("--pitch", metavar="DEG[:DEG]", help="How far the camera rises: least:greatest, or one.")
    ] = "0",
    frames: Annotated[int, typer.Option("--frames", min=2, max=720, help="Of a film, there and back.")] = 48,
    fps: Annotated[float, typer.Option("--fps", min=1, max=60, help="Frames a second.")] = 16.0,
    background: Annotated[
        str, typer.Option("--background", help="photo: what is behind, holes filled; none: transparent; or #rrggbb.")
    ] = "photo",
    photo: Annotated[Path | None, typer.Option("--photo", help="The photograph, if it is not where it was.")] = None,
    masks: Annotated[
        Path | None,
        typer.Option("--masks", help="Folder of masks, named as for fit and video; the detector's without."),
    ] = None,
    detector: finding.DetectorOption = finding.DETECTOR,
    refine: Annotated[
        bool, typer.Option("--refine/--no-refine", help="Let a network complete what pixels and body leave open.")
    ] = True,
    model: Annotated[str, typer.Option("--model", help="Body model, if not the one the results name.")] = "",
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Turn the person of one photograph before a camera that stays, or let the camera rise about them.

    The person's pixels are lifted to the depth of the body and of the cloth on it, splatted from elsewhere, and
    completed: by the mirrored side of the body, and by a small network. The background stays where it is.

    Examples:
        bodyfit turn out/walking --yaw -60:60 -o turn.mp4
        bodyfit turn out/walking --yaw -30:30 --pitch 0:15 -o turn.webp
        bodyfit turn out/street/person1.npz --yaw 45 --background none -o side.png

    Exit code: 0 done, 1 done of a fit that is not to be relied on, 2 wrong use.
    """
    from bodyfit.app.new_views import (
        FILM_SUFFIXES,
        PICTURE_SUFFIXES,
        TRANSPARENT_SUFFIXES,
        Angles,
        gather_turn,
        turned_pictures,
        write_turn,
    )

    angles = Angles(_angles("--yaw", yaw, _MOST_YAW), _angles("--pitch", pitch, _MOST_PITCH))
    suffix = out.suffix.lower()
    if suffix in PICTURE_SUFFIXES and not angles.single:
        raise OptionError(f"{out} is one picture: give one angle for --yaw and --pitch, or a film's name, as turn.mp4")
    if suffix not in (*FILM_SUFFIXES, *PICTURE_SUFFIXES, ""):
        raise OptionError(f"{out}: films end in {', '.join(FILM_SUFFIXES)}, pictures in {', '.join(PICTURE_SUFFIXES)}")
    color, transparent = _color(background), background == "none" and suffix in TRANSPARENT_SUFFIXES
    if background == "none" and not transparent:
        common.error(f"{out}: {suffix} has no transparency, the background is white", label="note")
    from bodyfit.app.results.bodies import Models
    from bodyfit.app.results.find import find_results
    from bodyfit.detect import load_detector

    found = find_results([person], photo)
    common.output_folder(out.parent if suffix else out)
    finder = load_detector(detector, masks=True) if masks is None else None
    material = gather_turn(found, detector=finder, masks=masks, models=Models(model or None), refine=refine)
    height, width = material.view.mask.shape
    path = angles.path(frames)
    with common.progress_bar() as progress:
        pictures = turned_pictures(material, path, background=color, transparent=transparent, progress=progress)
        files = write_turn(out, pictures, (width, height), fps=fps)
    facts: dict[str, Any] = {
        "person": str(person),
        "status": "ok" if material.reason is None else "poor",
        "reason": material.reason,
        "iou": material.views.iou,
        "frames": len(path),
        "files": files,
    }
    if as_json:
        common.say_json(facts)
    else:
        count = f"{len(path)} {'view' if len(path) == 1 else 'views'}"
        common.say(f"{person}: {facts['status']}, {count}, mask and body agree to {material.views.iou:.2f} -> {out}")
    if material.reason is not None:
        common.error(f"{person}: poor, {material.reason}", label="note")
    return common.OK if material.reason is None else common.SOME_FAILED


def _angles(option: str, text: str, most: float) -> tuple[float, float]:
    """Read one angle, or two with a colon. Raises `OptionError`."""
    try:
        first, _, last = text.partition(":")
        values = float(first), float(last or first)
    except ValueError:
        raise OptionError(f"{option} must be degrees, as 30 or -60:60, got {text!r}") from None
    if not all(math.isfinite(value) and abs(value) <= most for value in values):
        raise OptionError(f"{option} must lie within -{most:g} and {most:g} degrees, got {text}")
    return values


def _color(text: str) -> tuple[int, int, int] | None:
    """Read a background; None for the photograph's. Raises `OptionError`."""
    if text == "photo":
        return None
    if text == "none":
        return (255, 255, 255)
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise OptionError(f"--background must be photo, none or a colour as #rrggbb, got {text!r}")
    r, g, b = bytes.fromhex(text[1:])
    return (r, g, b)
