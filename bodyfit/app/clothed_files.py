"""The clothed surfaces of the people of a picture, and the files of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bodyfit.body.model import BodyModel
from bodyfit.clothed import ClothedSurface, clothed_surface
from bodyfit.clothed.texture import surface_texture
from bodyfit.fit.result import FitResult
from bodyfit.images.frame import Frame
from bodyfit.io import save_obj, save_picture
from bodyfit.io.export.rig import rig_of
from bodyfit.io.export.textured import save_textured_rig_glb
from bodyfit.keypoints import Keypoints2D, SoftMask

__all__ = ["CLOTHED_FILES", "surface_of", "write_clothed"]

CLOTHED_FILES = ("clothed.glb", "clothed.obj", "clothed.png")
"""Endings of a person's files: the surface with skeleton and texture, its mesh alone, and the texture."""
_INFLUENCES = 4
"""Weights a vertex: three.js takes no more."""


def surface_of(result: FitResult, person: Keypoints2D, frame: Frame, model: BodyModel) -> ClothedSurface | None:
    """Find one person's clothed surface; None without a mask. Raises `OptionError` for a model that is no open body."""
    if not isinstance(person.mask, SoftMask):
        return None
    surface = clothed_surface(result.params, frame.image, person.mask, result.camera, model)
    return surface if surface.masked[0] else None


def write_clothed(
    surface: ClothedSurface, result: FitResult, person: Keypoints2D, frame: Frame, folder: Path, stem: str
) -> Sequence[str]:
    """Write one person's surface as STEM_clothed.glb, .obj and .png and return the names. Raises `OutputError`."""
    assert isinstance(person.mask, SoftMask)
    model = surface.model
    names = [f"{stem}_{ending}" for ending in CLOTHED_FILES]
    texture = surface_texture(surface, 0, frame.image, person.mask, result.camera)
    rig = rig_of(surface.person_model(0), surface.params, axes="camera", influences=_INFLUENCES)
    save_textured_rig_glb(folder / names[0], rig, texture)
    faces, vertices = model.faces.cpu().numpy(), np.ascontiguousarray(surface.vertices_m[0])
    save_obj(folder / names[1], vertices, faces, uv=model.uv, uv_faces=model.uv_faces)
    save_picture(folder / names[2], texture)
    return names
