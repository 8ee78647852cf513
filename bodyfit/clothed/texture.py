"""Colour a clothed surface by its picture."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from bodyfit.avatars.bake import Chart, bake, sight_of
from bodyfit.avatars.fill import filled
from bodyfit.avatars.posed import PosedView
from bodyfit.avatars.view import BACKGROUND, PERSON
from bodyfit.clothed.surface import ClothedSurface, Mask, whole_mask
from bodyfit.errors import OptionError
from bodyfit.geometry.camera import Camera

__all__ = ["surface_texture"]


def surface_texture(
    surface: ClothedSurface,
    number: int,
    image: UInt8[np.ndarray, "H W 3"],
    mask: Mask,
    camera: Camera,
    *,
    size: int = 1024,
) -> UInt8[np.ndarray, "S S 3"]:
    """Bake a picture into the texture of one person's surface, RGB, the first row at v = 1 (`Avatar.texture`).

    number: of the person. camera: theirs. What the picture does not show is mirrored from the other side, then an
    average of skin or cloth, as avatars have it. Raises `OptionError` for an empty mask and a model without texture
    coordinates.
    """
    model = surface.model
    if model.uv is None or model.uv_faces is None:
        raise OptionError(f"{model.name} has no texture coordinates; load the open body by its name")
    person = whole_mask(mask, (image.shape[1], image.shape[0])) > 127
    if not person.any():
        raise OptionError(f"the mask of person {number} is empty: there is nothing to colour the surface by")
    focal, (x, y) = float(camera.focal_px[0]), camera.principal_point_px[0].tolist()
    points = surface.vertices_m[number]
    state = np.where(person, PERSON, BACKGROUND).astype(np.uint8)
    still, lens = np.zeros_like(points), (focal, focal, x, y)
    view = PosedView(np.ascontiguousarray(image), state, lens, points, still, np.eye(3))
    faces = model.faces.cpu().numpy()
    chart = Chart.of(model.uv, model.uv_faces, size)
    return filled(chart, bake(chart, faces, [(view, sight_of(view, faces))], np.ones((1, 3))), model).texture
