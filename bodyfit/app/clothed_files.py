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

CLOTHED_FILES = ("clothed.glb", "clothed.obj", "clothed.mtl", "clothed.png")
"""Endings of a person's files: the surface with skeleton and texture, its mesh alone, its material, the texture."""
_INFLUENCES = 4
"""Weights a vertex: three.js takes no more."""


def surface_of(
    result: FitResult, person: Keypoints2D, frame: Frame, model: BodyModel
) -> tuple[ClothedSurface | None, str | None]:
    """Find one person's clothed surface, and what is to be said of it; None where there is none but the body.

    Raises `OptionError` for a model that is no open body.
    """
    mask = person.mask if isinstance(person.mask, SoftMask) else None
    surface = clothed_surface(result.params, frame.image, [mask], result.camera, model)
    note = surface.notes[0]
    if surface.found[0]:
        return surface, None if note is None else f"clothed surface: {note}"
    return None, f"no clothed surface: {note}"


def write_clothed(
    surface: ClothedSurface, result: FitResult, person: Keypoints2D, frame: Frame, folder: Path, stem: str
) -> Sequence[str]:
    """Write one person's surface as STEM_clothed.glb, .obj, .mtl and .png; return the names. Raises `OutputError`."""
    assert isinstance(person.mask, SoftMask)
    model = surface.model
    names = [f"{stem}_{ending}" for ending in CLOTHED_FILES]
    texture = surface_texture(surface, 0, frame.image, person.mask, result.camera)
    rig = rig_of(surface.person_model(0), surface.params, axes="camera", influences=_INFLUENCES)
    save_textured_rig_glb(folder / names[0], rig, texture)
    faces, vertices = model.faces.cpu().numpy(), np.ascontiguousarray(surface.vertices_m[0])
    save_picture(folder / names[3], texture)
    save_obj(folder / names[1], vertices, faces, uv=model.uv, uv_faces=model.uv_faces, texture=names[3])
    return names
