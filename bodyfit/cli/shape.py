"""`bodyfit shape`: pictures of one person in, one measured body out."""

from __future__ import annotations

import time
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from bodyfit.cli.support import common, finding, interrupt
from bodyfit.cli.support.runs import failed, finish
from bodyfit.cli.support.wording import in_options
from bodyfit.errors import BodyfitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bodyfit.app.clip_person import DetectedFrame
    from bodyfit.detect import Detector
    from bodyfit.images.frame import Frame
    from bodyfit.io import VideoReader

__all__ = ["shape"]

S = TypeVar("S")
T = TypeVar("T")


class Clothes(str, Enum):
    """What the person wears (`bodyfit.fit.pictures_config.CLOTHES`)."""

    TIGHT = "tight"
    LOOSE = "loose"


def shape(
    inputs: Annotated[
        list[Path], typer.Argument(help="Pictures of one person, folders of them, or a clip of the person turning.")
    ],
    out: common.OutOption,
    height: Annotated[
        float | None, typer.Option("--height", help="The person's height, metres; without it sizes are a guess.")
    ] = None,
    mass: Annotated[float | None, typer.Option("--mass", help="The person's mass, kilograms.")] = None,
    focal_px: finding.FocalPxOption = None,
    focal_mm: finding.FocalMmOption = None,
    sensor_mm: finding.SensorMmOption = None,
    fov_deg: finding.FovOption = None,
    model: common.ModelOption = "open",
    gender: common.GenderOption = common.Gender.NEUTRAL,
    detector: finding.DetectorOption = finding.DETECTOR,
    tta: finding.TtaOption = False,
    clothes: Annotated[Clothes, typer.Option("--clothes", help="Tight, for none as well; or loose.")] = Clothes.TIGHT,
    silhouette: finding.SilhouetteOption = None,
    masks: finding.MasksOption = None,
    device: common.DeviceOption = "cpu",
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Measure one person in several pictures: one shape for all, a pose and a camera for each.

    Pictures may be of any size and from any side; front and side of a standing person, arms a little away from the
    body, in tight clothes or none, tell most. Silhouettes are used where the detector makes masks, or from --masks. In
    each picture the largest person is taken, or who clearly has the colours of the person in the others; in a clip the
    one who is seen largest and longest is followed. A picture that shows nobody, or in which the fit is poor, is left
    out, with a word.

    In OUT: measurements.json and measurements.csv (each measurement with the interval that holds the truth in nine of
    ten people), body.obj and body.glb (the body in A-pose), body.npz (its parameters), report.html, and for each
    picture a folder with the overlay, the silhouette against the body, and the fit.

    Examples:
        bodyfit shape front.jpg side.jpg --height 1.75 -o out
        bodyfit shape turning.mp4 --height 1.68 --mass 61 -o out
        bodyfit shape front.jpg --height 1.75 --gender female --clothes loose --json -o out

    Exit code: 0 all pictures take part, 1 some do not, or none, or the shape is poor, 2 wrong use.
    """
    lens = finding.checked_lens(focal_px, focal_mm, sensor_mm, fov_deg)
    by = finding.Finding(detector=detector, tta=tta, hands=False, face=False, silhouette=silhouette, masks=masks)
    with interrupt.at_once():
        from bodyfit.app.shape import check_numbers
    check_numbers(height, mass)
    entries: list[dict[str, Any]] = []
    start = time.perf_counter()
    sources = _opened(inputs, entries)
    if not sources:
        return common.WRONG_USE
    common.output_folder(out)
    with common.progress_bar() as advance:
        advance("loading", 0, len(sources))
        with interrupt.at_once():
            from bodyfit.app.clip_person import with_mask_files
            from bodyfit.app.pipeline import Lens
            from bodyfit.app.shape import detector_of_masks, fit_shape_of
            from bodyfit.cli.support.shape_files import ShapeFiles
            from bodyfit.fit.pictures_config import PicturesConfig

        body = common.chosen_model(model, gender, device)
        by.check_name()
        files_of_masks = by.mask_files()
        finder = detector_of_masks(detector, silhouette if files_of_masks is None else False, tta=tta)
        seen = _detected(finder, sources, entries, advance)
        if not seen:
            return common.WRONG_USE
        seen = with_mask_files(seen, files_of_masks)
        advance("fitting", len(sources), len(sources))
        found = fit_shape_of(
            [one.frame for one in seen],
            [one.people for one in seen],
            choices=[one.person for one in seen],
            height_m=height,
            mass_kg=mass,
            model=body,
            lens=Lens(**lens),
            pictures=PicturesConfig.of_clothes(clothes.value),
        )
        files = ShapeFiles(out, found, by.name)
        entries += files.write_pictures()
        files.write_body()
    summary = files.summary(entries, seconds=time.perf_counter() - start)
    code = finish(summary, out, as_json)
    files.write_report()
    for note in found.notes:
        common.error(note, label="note")
    if not as_json:
        files.say()
    if not found.status.ok or found.reason is not None:
        common.error(f"{'the shape is not to be relied on' if found.status.ok else 'no shape'}: {found.reason}")
        return common.SOME_FAILED
    return code


def _opened(inputs: Sequence[Path], entries: list[dict[str, Any]]) -> list[tuple[Path, Frame | VideoReader]]:
    """Read all pictures and open all clips."""
    with interrupt.at_once():
        from bodyfit.app.shape import open_input
        from bodyfit.images.files import find_images

    paths = [path for one in inputs for path in _tried(entries, one, find_images, [one])]
    return [(path, source) for path in paths for source in _tried(entries, path, lambda one: [open_input(one)], path)]


def _detected(
    detector: Detector,
    sources: Sequence[tuple[Path, Frame | VideoReader]],
    entries: list[dict[str, Any]],
    advance: Callable[[str, int, int | None], None],
) -> list[DetectedFrame]:
    """Detect the people of each picture, and the person of each clip."""
    from bodyfit.app.shape import detect_people

    detect = partial(detect_people, detector=detector, progress=advance)
    seen = []
    for done, (path, source) in enumerate(sources):
        advance("detecting", done, len(sources))
        seen += _tried(entries, path, detect, source)
    return seen


def _tried(entries: list[dict[str, Any]], path: Path, read: Callable[[S], list[T]], source: S) -> list[T]:
    """Return what `read` finds in a file; tell of one that cannot be read, and enter it as failed."""
    try:
        return read(source)
    except BodyfitError as fault:
        common.error(str(fault))
        entries.append(failed(path, "error", in_options(str(fault))))
        return []
