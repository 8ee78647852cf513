"""The free surface of a person in pictures of calibrated cameras: from files to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.app.pipeline import as_frame
from bodyfit.body.model import BodyModel
from bodyfit.detect import Detector
from bodyfit.errors import ImageError, OptionError
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.io.export.colored import save_colored_ply
from bodyfit.io.export.mesh import save_glb
from bodyfit.io.masks import MaskFiles, with_masks
from bodyfit.io.results.params import save
from bodyfit.io.results.summary import write_json
from bodyfit.keypoints import Keypoints2D, SoftMask
from bodyfit.register.free_surface.of_views import ViewsSurface, surface_of_views

__all__ = ["views_surface", "write_views_surface"]

_GREY = (0.72, 0.72, 0.70)
_FILES = ("body.npz", "body.ply", "free_surface.ply", "free_surface.glb")


def views_surface(
    pictures: Sequence[Path],
    cameras: Sequence[CalibratedCamera],
    masks: MaskFiles,
    model: BodyModel,
    detector: Detector,
) -> ViewsSurface:
    """Find the person in each picture and carve the surface that the masks agree on.

    pictures: one of each camera, in the cameras' order. Where several people are found, it is the one on whom a mask
    lies, of several of these the largest. A picture without a person or a mask takes no part. Raises `OptionError` and
    `ImageError`.
    """
    if len(pictures) != len(cameras):
        raise OptionError(f"there are {len(pictures)} pictures and {len(cameras)} cameras; give one camera a picture")
    found: list[Keypoints2D | None] = []
    sizes = []
    for path in pictures:
        frame = as_frame(path)
        people = with_masks(detector.detect([frame])[0], frame, masks)
        found.append(next((person for person in people if isinstance(person.mask, SoftMask)), None))
        sizes.append(frame.size)
    layouts = {person.layout for person in found if person is not None}
    if not layouts:
        raise ImageError(f"{masks.folder}: no mask is of a person that is found in the pictures")
    layout = min(layouts)
    like = next(person.xyc for person in found if person is not None)
    keypoints = np.stack([np.zeros_like(like) if person is None else person.xyc for person in found])
    whole = [
        person.mask.full(size) > 127 if person is not None and isinstance(person.mask, SoftMask) else None
        for person, size in zip(found, sizes, strict=True)
    ]
    return surface_of_views(keypoints, layout, whole, cameras, model)


def write_views_surface(found: ViewsSurface, model: BodyModel, out: Path) -> dict[str, Any]:
    """Write body and surface in the axes of the cameras' world, metres, and return what registration.json says.

    Raises `OutputError`.
    """
    surface, faces = found.surface, model.faces.cpu().numpy()
    save(found.result, out / _FILES[0])  # before the first camera
    axes = "axes of the cameras' world, metres"
    save_colored_ply(out / _FILES[1], found.vertices_m, None, faces, comment=axes)
    save_colored_ply(out / _FILES[2], surface.vertices_m, None, surface.faces, comment=axes)
    save_glb(out / _FILES[3], surface.vertices_m, surface.faces, _GREY, axes="y_up")  # as they are
    result = found.result
    facts = {
        "status": result.status[0].value,
        "reason": result.reason[0],
        "mask_note": result.mask_notes[0],
        "free_surface": {"vertices": len(surface.vertices_m), "faces": len(surface.faces)},
        "files": list(_FILES),
    }
    write_json(out / "registration.json", facts)
    return facts
