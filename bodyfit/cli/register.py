"""`bodyfit register`: a body under a scan."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bodyfit.cli.support import common, finding
from bodyfit.errors import OptionError, ScanError, ShapeError

if TYPE_CHECKING:
    from bodyfit.body.model import BodyModel

__all__ = ["register"]


class Start(str, Enum):
    """Where a fit starts from."""

    DETECTOR = "detector"
    POSES = "poses"


def register(
    scan: Annotated[
        Path,
        typer.Argument(
            help="A scan: .ply, .obj, .glb, .stl, .off, .xyz, .txt, .csv, .pts, .npz or .npy; with --cameras a"
            " folder of pictures."
        ),
    ],
    out: common.OutOption,
    model: common.ModelOption = "open",
    gender: common.GenderOption = common.Gender.NEUTRAL,
    unit: Annotated[
        str | None,
        typer.Option(
            "--unit", help="m, cm, mm, in, ft, or how many metres; by default m, cm or mm by the scan's size."
        ),
    ] = None,
    clothed: Annotated[
        bool | None,
        typer.Option("--clothed/--unclothed", help="Whether skin may lie inside the scan; found out by default."),
    ] = None,
    start: Annotated[
        Start,
        typer.Option("--start", help="Find the person by the detector, or by typical poses in many orientations."),
    ] = Start.DETECTOR,
    surface: Annotated[
        bool, typer.Option("--surface/--no-surface", help="Fit the surface over the body, too: clothes and hair.")
    ] = True,
    free_surface: Annotated[
        bool,
        typer.Option("--free-surface", help="Find a surface of no body's shape, too: skirts, long hair, bags."),
    ] = False,
    cameras: Annotated[
        Path | None,
        typer.Option(
            "--cameras",
            help="npz of calibrated cameras (K, R, t), in the order of the pictures' names: the free surface is carved"
            " from --masks.",
        ),
    ] = None,
    masks: finding.MasksOption = None,
    as_json: common.JsonOption = False,
    verbose: common.VerboseOption = False,
) -> int:
    """Fit a body to a 3D scan or point cloud of one person.

    Any pose, orientation and unit, with or without normals and colours, of a whole person or a part; floors and
    pedestals are left out. Writes body.npz (parameters), body.ply and body.obj (the body in the scan's own axes and
    unit), body_distances.ply and scan_distances.ply (coloured by distance), surface.ply
    (the surface over: the body's skin moved onto the scan), of scans with colours surface.glb (textured), views.png and
    registration.json (status, distances, measurements). With --free-surface also free_surface.glb and free_surface.ply.

    Examples:
        bodyfit register scan.ply -o out
        bodyfit register scan.obj --clothed --model open-x -o out
        bodyfit register points.xyz --unit mm -o out
        bodyfit register dress.ply --free-surface -o out
        bodyfit register views/ --cameras cameras.npz --masks masks/ --free-surface -o out
    """
    if cameras is not None or masks is not None:
        if cameras is None or masks is None or not free_surface:
            raise OptionError("--cameras and --masks belong together, with --free-surface")
        return _views(scan, cameras, masks, common.chosen_model(model, gender, "cpu"), out, as_json=as_json)
    from bodyfit.io.scans.load import load_scan
    from bodyfit.register.run import register as register_scan

    loaded = load_scan(scan)
    common.output_folder(out)
    body = common.chosen_model(model, gender, "cpu")
    try:
        result = register_scan(
            loaded.points,
            model=body,
            normals=loaded.normals,
            faces=loaded.faces,
            colors=loaded.colors,
            unit=_unit(unit),
            clothed=clothed,
            start=start.value,
            surface=surface,
        )
    except (OptionError, ShapeError) as error:
        raise ScanError(f"{scan}: {error}") from error
    from bodyfit.app.free_surface_files import add_free_surface
    from bodyfit.app.scan_files import write_registration

    facts = write_registration(result, body, out)
    facts = add_free_surface(result, body, out, facts, wanted=free_surface)
    if as_json:
        common.say_json({"scan": str(scan), **facts})
    elif result.errors is None:
        common.error(f"{scan}: {result.reason}")
    else:
        height = facts["measurements"]["height_m"]
        common.say(
            f"{scan}: {result.status.value}, half of the points within {1000 * result.errors.median_m:.1f} mm, height"
            f" {height:.2f} m -> {out}: {', '.join(facts['files'])}"
        )
        if result.reason is not None:
            common.error(f"{scan}: poor, {result.reason}", label="note")
        for why in result.doubtful.values():
            common.error(f"{scan}: {why}", label="note")
    return common.OK if result.reason is None else common.SOME_FAILED


def _views(pictures: Path, cameras: Path, masks: Path, model: BodyModel, out: Path, *, as_json: bool) -> int:
    """Carve the free surface of a person in pictures of calibrated cameras."""
    from bodyfit.app.free_surface_views import views_surface, write_views_surface
    from bodyfit.detect import load_detector
    from bodyfit.images.files import find_images
    from bodyfit.io.cameras import load_cameras
    from bodyfit.io.masks import MaskFiles

    rig, files, paths = load_cameras(cameras), MaskFiles(masks), list(find_images([pictures]))
    common.output_folder(out)
    found = views_surface(paths, rig, files, model, load_detector(finding.DETECTOR))
    facts = write_views_surface(found, model, out)
    if as_json:
        common.say_json({"pictures": str(pictures), **facts})
    else:
        common.say(f"{pictures}: {facts['status']} -> {out}: {', '.join(facts['files'])}")
        for note in (facts["reason"], facts["mask_note"]):
            if note is not None:
                common.error(f"{pictures}: {note}", label="note")
    return common.OK if facts["reason"] is None else common.SOME_FAILED


def _unit(text: str | None) -> str | float | None:
    """Read a unit: a name, which the library judges, or a number of metres."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
