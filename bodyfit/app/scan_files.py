"""What a registration leaves: its summary, the measurements of the body, and a picture of scan and body."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from scipy.spatial import KDTree

from bodyfit.body.model import BodyModel
from bodyfit.geometry.cloud import PointCloud, sampled
from bodyfit.io.export.colored import distance_colors, save_colored_ply
from bodyfit.io.export.textured import save_textured_glb
from bodyfit.io.picture import save_picture
from bodyfit.io.results.registration import save_registration, upright_turn
from bodyfit.io.results.summary import write_json
from bodyfit.register.registration import Registration
from bodyfit.register.surface.colors import ColoredScan, bake_texture
from bodyfit.register.surface.offsets import Surface
from bodyfit.register.views import camera_around, draw

__all__ = ["FILES", "registration_facts", "scan_picture", "write_registration"]

FILES = (
    "body.npz",
    "body.ply",
    "body.obj",
    "body_distances.ply",
    "scan_distances.ply",
    "surface.ply",
    "surface.glb",
    "views.png",
    "registration.json",
)
"""What `write_registration` writes; without a body registration.json alone."""

_BINS_MM = (-100, -50, -30, -20, -15, -10, -7.5, -5, -3, -2, -1, 0, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 100)
_SURFACE_BINS_MM = (0, 0.5, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 50)
_FULL_M = 0.01
_FULL_CLOTHED_M = 0.04
_SIDE_PX = 420
_BODY = np.array((0.45, 0.66, 0.86))


def registration_facts(result: Registration, model: BodyModel) -> dict[str, Any]:
    """Collect status, errors, histogram of distances and measurements of a registration, for JSON."""
    facts: dict[str, Any] = {
        "status": result.status.value,
        "reason": result.reason,
        "model": model.name,
        "gender": model.gender,
        "unit_m": result.unit_m,
        "clothed": result.clothed,
        "start": result.start,
        "unscanned": list(result.unscanned),
        "doubtful": dict(result.doubtful),
        "points": len(result.points),
        "points_of_the_person": int(result.person.sum()),
    }
    if result.errors is None:
        return facts
    errors, signed = result.errors, result.errors.points_m
    counts, _ = np.histogram(1000 * signed[np.isfinite(signed)], (-np.inf, *_BINS_MM, np.inf))
    body = model.measure(result.params.betas)
    facts["errors"] = {
        "median_mm": 1000 * errors.median_m,
        "p95_mm": 1000 * errors.p95_m,
        "explained": errors.explained,
        "covered": errors.covered,
    }
    facts["histogram"] = {"edges_mm": list(_BINS_MM), "counts": counts.tolist(), "sign": "positive outside the body"}
    units = {f.name: "kg" if f.name == "mass" else "m" for f in fields(body)}
    facts["measurements"] = {f"{name}_{unit}": float(getattr(body, name)[0]) for name, unit in units.items()}
    facts["betas"] = result.params.betas[0].tolist()
    return facts


def write_registration(result: Registration, model: BodyModel, out: Path) -> dict[str, Any]:
    """Write the files of a registration to a folder and return its facts. Raises `OutputError`.

    Meshes are in the scan's own axes and unit, so that they lie on the scan in any viewer.
    """
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    facts = registration_facts(result, model)
    if result.vertices is not None and result.errors is not None:
        full = _FULL_CLOTHED_M if result.clothed else _FULL_M
        faces, comment = model.faces.numpy(), f"axes and unit of the scan, 1 unit = {result.unit_m:g} m"
        vertices = result.vertices.double().numpy() / result.unit_m
        save_registration(result, out / "body.npz", model)
        save_colored_ply(out / "body.ply", vertices, None, faces, comment=comment)
        _save_obj(out / "body.obj", vertices, faces, comment)
        colors = distance_colors(result.errors.vertices_m, full)
        comment += f"; white on the other surface, red {1000 * full:g} mm outside, blue as far inside"
        save_colored_ply(out / "body_distances.ply", vertices, colors, faces, comment=comment)
        colors = distance_colors(result.errors.points_m, full)
        save_colored_ply(out / "scan_distances.ply", result.points / result.unit_m, colors, comment=comment)
        if result.surface is not None:
            facts["surface"] = _write_surface(result, result.surface, out, comment)
        save_picture(out / "views.png", scan_picture(result, model))
    facts["files"] = [name for name in FILES if name == FILES[-1] or (out / name).exists()]
    write_json(out / FILES[-1], facts)
    return facts


def _write_surface(result: Registration, surface: Surface, out: Path, comment: str) -> dict[str, Any]:
    """Write the surface over: coloured by its distance to the scan, and textured where the scan has colours."""
    away = KDTree(result.points[result.person]).query(surface.vertices_m)[0]
    colors = distance_colors(away, _FULL_M)
    save_colored_ply(out / "surface.ply", surface.vertices_m / result.unit_m, colors, surface.faces, comment=comment)
    if result.colors is not None and surface.uv is not None and surface.uv_faces is not None:
        scan = ColoredScan(
            result.points[result.person],
            result.normals[result.person] if result.normals is not None and result.oriented else None,
            result.colors[result.person],
        )
        image = bake_texture(surface.vertices_m, surface.faces, surface.uv, surface.uv_faces, scan)
        upright = surface.vertices_m @ upright_turn(result).T
        save_textured_glb(out / "surface.glb", upright, surface.faces, surface.uv, surface.uv_faces, image)
    distance = 1000 * surface.distance_m
    counts, _ = np.histogram(distance[np.isfinite(distance)], (*_SURFACE_BINS_MM, np.inf))
    return {
        "median_mm": float(np.nanmedian(distance)),
        "p95_mm": float(np.nanquantile(distance, 0.95)),
        "within_2_mm": float(np.nanmean(distance < 2)),
        "flipped_faces": surface.flipped,
        "crossings": surface.crossings,
        "histogram": {"edges_mm": list(_SURFACE_BINS_MM), "counts": counts.tolist(), "last": "and more"},
    }


def _save_obj(path: Path, vertices: np.ndarray, faces: np.ndarray, comment: str) -> None:
    from bodyfit.runtime.atomic import write_atomically

    lines = [f"# bodyfit; {comment}", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices)]
    lines += [f"f {a} {b} {c}" for a, b, c in faces + 1]
    with write_atomically(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")


def scan_picture(result: Registration, model: BodyModel) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the scan, the body, and the scan coloured by its distances, from four sides."""
    assert result.vertices is not None
    assert result.errors is not None
    turn = upright_turn(result)
    scan = PointCloud(result.points)
    full = _FULL_CLOTHED_M if result.clothed else _FULL_M
    vertices = result.vertices.double().numpy()
    body = sampled(vertices, model.faces.numpy(), 80_000)
    body = PointCloud(body.points, body.normals, np.broadcast_to(_BODY, body.points.shape))
    normals = result.normals
    own = PointCloud(scan.points, normals, result.colors)
    apart = PointCloud(scan.points, normals, distance_colors(result.errors.points_m, full) / 255.0)
    every = np.concatenate([vertices, scan.points[result.person]])
    centre = (every.min(0) + every.max(0)) / 2
    radius = float(np.linalg.norm(every - centre, axis=1).max())
    rows = []
    for cloud in (own, body, apart):
        cameras = [
            camera_around(centre, radius, turn[1], turn[2], yaw_deg=yaw, pitch_deg=8, size_px=_SIDE_PX)
            for yaw in (0, 90, 180, 270)
        ]
        rows.append(np.concatenate([_cropped(draw(cloud, camera).image) for camera in cameras], 1))
    return np.concatenate(rows)


def _cropped(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Cut the sides of a square picture, which people seldom fill."""
    return image[:, _SIDE_PX // 6 : -(_SIDE_PX // 6)]
