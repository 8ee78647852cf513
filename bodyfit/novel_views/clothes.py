"""The clothed surface of a photograph's person, as what pixels are lifted to and colours are drawn on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8

from bodyfit.clothed.drape import Drape
from bodyfit.clothed.mesh import surface_mesh
from bodyfit.clothed.person import person_surface
from bodyfit.novel_views.square import Body

__all__ = ["clothed_body"]


def clothed_body(
    body: Body,
    image: UInt8[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
    lens: tuple[float, float, float, float],
) -> Body:
    """Move a body out to clothes and hair, as `bodyfit.clothed_surface` does; it turns about the same pivot.

    lens: focal lengths in x and y and principal point, pixels. A body of other vertices than the open ones', one whose
    mask tells nothing, and one that agrees better with the mask than its surface stay as they are.
    """
    count = len(surface_mesh().near)
    if len(body.vertices) != count or not np.isfinite(body.vertices).all():
        return body
    fx, _, x, y = lens
    whole, drape = np.where(mask, np.uint8(255), np.uint8(0)), Drape(body.faces, count)
    # Outlines of hands and feet count here, and nobody sees how they fold.
    surface = person_surface(body.vertices, image, whole, np.array([fx, x, y]), drape, features=False)
    return body if surface is None or surface.worse else body.moved(surface.vertices_m - body.vertices)
