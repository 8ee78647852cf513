"""The surface of a person in the masks of an avatar's views alone: a surface field and its mesh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.app.avatars.field import reduced, save_field_glb
from bodyfit.app.avatars.views import AvatarMaterial
from bodyfit.avatars import AvatarView
from bodyfit.body.model import BodyModel
from bodyfit.fields.radiance.config import RadianceConfig
from bodyfit.fields.radiance.mesh import FieldMesh, field_mesh
from bodyfit.fields.radiance.surface import SurfaceConfig, fit_surface
from bodyfit.fields.radiance.views import View, frames_of
from bodyfit.raster.depth import depth_map

__all__ = ["write_surface"]


def write_surface(
    material: AvatarMaterial,
    out: Path,
    *,
    config: SurfaceConfig | None = None,
    radiance: RadianceConfig | None = None,
) -> dict[str, Any]:
    """Fit a surface field to the masks, write surface.glb (skeleton, the clip's motion) and return its facts.

    `iou` is the mean intersection over union of the masks and of the posed surface before the same cameras, over the
    views held out if there are some.
    """
    views = [reduced(view) for view in material.views]
    bodies, frames = frames_of([view.params for view in views])
    those = [
        View(view.image, view.mask, view.camera, frame, view.unknown) for view, frame in zip(views, frames, strict=True)
    ]
    field = fit_surface(those, bodies, material.model, config=config, radiance=radiance)
    save_field_glb(field, material, out / "surface.glb")
    mesh = field_mesh(field)
    tests = [reduced(view) for view in material.test_views] or views
    agreements = [_agreement(mesh, material.model, view) for view in tests]
    return {"file": "surface.glb", "faces": len(mesh.faces), "iou": float(np.mean(agreements))}


def _agreement(mesh: FieldMesh, model: BodyModel, view: AvatarView) -> float:
    """Compute the intersection over union of a mask and of the posed surface."""
    height, width = view.mask.shape
    points = mesh.posed(model, view.params).astype(np.float64) @ view.camera.R.T + view.camera.t
    fx, fy, cx, cy = view.lens
    drawn = depth_map(points, mesh.faces, (fx, fy), (cx, cy), (width, height)).faces >= 0
    clear = np.ones_like(drawn) if view.unknown is None else ~(view.unknown & ~view.mask)
    both, either = (drawn & view.mask & clear).sum(), ((drawn | view.mask) & clear).sum()
    return float(both / max(int(either), 1))
