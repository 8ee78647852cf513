"""What a free surface leaves: meshes, and distances for the summary of a registration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.body.model import BodyModel
from bodyfit.io.export.colored import save_colored_ply
from bodyfit.io.export.mesh import save_glb
from bodyfit.io.results.registration import upright_turn
from bodyfit.io.results.summary import write_json
from bodyfit.register.free_surface import FreeSurface
from bodyfit.register.free_surface.of_registration import free_surface_of
from bodyfit.register.registration import Registration

__all__ = ["FREE_FILES", "add_free_surface", "write_free_surface"]

FREE_FILES = ("free_surface.glb", "free_surface.ply")
"""What `write_free_surface` writes."""

_BINS_MM = (0, 0.5, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 100)
_GREY = (0.72, 0.72, 0.70)


def add_free_surface(
    result: Registration, model: BodyModel, out: Path, facts: dict[str, Any], *, wanted: bool
) -> dict[str, Any]:
    """Find and write the free surface of a registration that was written to a folder, if it is wanted.

    facts: of registration.json, to which the surface's are added; they are returned. Files of an earlier run are
    removed. Raises `OutputError`, and `OptionError` for a person of too few points.
    """
    for name in FREE_FILES:
        (out / name).unlink(missing_ok=True)
    if not wanted or result.vertices is None:
        return facts
    more = write_free_surface(result, free_surface_of(result, model), out)
    facts = facts | {"free_surface": more, "files": [*facts["files"], *FREE_FILES]}
    write_json(out / "registration.json", facts)
    return facts


def write_free_surface(result: Registration, surface: FreeSurface, out: Path) -> dict[str, Any]:
    """Write a free surface to a folder, and return its distances from the scan for JSON. Raises `OutputError`.

    The PLY file is in the scan's own axes and unit, the GLB stands upright, in metres.
    """
    upright = surface.vertices_m @ upright_turn(result).T
    save_glb(out / FREE_FILES[0], upright, surface.faces, _GREY, axes="y_up")
    comment = f"axes and unit of the scan, 1 unit = {result.unit_m:g} m"
    save_colored_ply(out / FREE_FILES[1], surface.vertices_m / result.unit_m, None, surface.faces, comment=comment)
    if surface.distance_m is None:
        return {}
    away = 1000 * surface.distance_m[np.isfinite(surface.distance_m)]
    counts, _ = np.histogram(away, (*_BINS_MM, np.inf))
    return {
        "median_mm": float(np.median(away)),
        "p95_mm": float(np.quantile(away, 0.95)),
        "within_2_mm": float(np.mean(away < 2)),
        "histogram": {"edges_mm": list(_BINS_MM), "counts": counts.tolist()},
    }
