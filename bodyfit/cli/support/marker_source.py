"""`bodyfit convert` of markers: a body is fitted to them, and the user is told what was understood."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bodyfit.cli.support import common
from bodyfit.errors import OptionError

if TYPE_CHECKING:
    from bodyfit.io import Bodies

__all__ = ["bodies_of_markers"]


def bodies_of_markers(source: Path, model: str | None, axes: str | None, gender: common.Gender) -> Bodies:
    """The motion of a TRC or C3D file on a body, the open one if none is named.

    Raises `KeypointFileError`, `AssetError` and `OptionError`.
    """
    import numpy as np

    from bodyfit.app.markers import fit_points3d, marker_error_m
    from bodyfit.io import Bodies, load_points3d
    from bodyfit.io.keypoints.entry import join
    from bodyfit.io.keypoints.values import printable

    if axes == "camera":
        raise OptionError(f"{source}: markers are y up or z up, not in camera axes")
    points = load_points3d(source, up=None if axes is None else axes[0])
    body = points.keypoints()
    for note in points.notes:
        common.error(note, label="note")
    if body.unused:
        left = join([printable(name) for name in body.unused], most=8)
        common.error(f"{source}: {len(body.unused)} markers are no points of the body and unused: {left}", label="note")
    if body.beside:
        beside = ", ".join(name.replace("_", " ") for name in body.beside)
        common.error(
            f"{source}: single markers on the skin stand for joints, some centimetres beside them: {beside}",
            label="note",
        )
    ours = common.chosen_model(model or "open", gender, "cpu")
    with common.progress_bar() as tell:
        track = fit_points3d(points, model=ours, progress=lambda done, total: tell("fitting", done, total))
    off_mm = 1000 * float(np.sqrt(np.nanmean(marker_error_m(body, track, ours) ** 2)))
    common.error(
        f"{source}: {len(body.used)} of {len(points.names)} markers, in {points.unit}, {points.up} up; the body is off "
        f"by {off_mm:.0f} mm (rms)",
        label="note",
    )
    return Bodies(track.result.params, ours, "camera", track.fps)
