"""Find the surface of one person by the network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.avatars.make import LEAST_IOU
from bodyfit.body.assets import asset_path
from bodyfit.clothed.drape import Drape
from bodyfit.clothed.inputs import body_view, network_image, region_about, sampled
from bodyfit.clothed.mesh import surface_mesh
from bodyfit.clothed.outline import match_outline
from bodyfit.detect.networks.session import Network
from bodyfit.detect.networks.threads import threads_from_environment
from bodyfit.images.similarity import mask_iou

__all__ = ["PersonSurface", "person_surface"]

_MOST_M = 0.3
"""Nothing is moved farther than this."""
_LEAST_PIXELS = 20
"""A mask of fewer pixels than this, in the network's region, tells nothing."""


@dataclass(frozen=True, eq=False)
class PersonSurface:
    """What the network makes of one person."""

    vertices_m: Float[np.ndarray, "V 3"]
    """The moved vertices, camera axes."""
    iou: float
    """Of their silhouette and the mask, in the picture."""
    body_iou: float
    """Of the body's silhouette and the mask."""

    @property
    def worse(self) -> bool:
        """Whether the body agrees more with the mask."""
        return self.iou < self.body_iou

    def note(self) -> str | None:
        """Say what is wrong with it; None if nothing is."""
        if self.worse:
            return f"it agrees less with the mask than the body does (IoU {self.iou:.2f} and {self.body_iou:.2f})"
        return None if self.iou >= LEAST_IOU else f"poor: it agrees with the mask to an IoU of {self.iou:.2f} alone"


def person_surface(
    body: Float[np.ndarray, "V 3"],
    image: UInt8[np.ndarray, "H W 3"],
    mask: UInt8[np.ndarray, "H W"],
    lens: Float[np.ndarray, "3"],
    drape: Drape,
    *,
    features: bool = True,
) -> PersonSurface | None:
    """Ask the network how a body's vertices move, smooth what is covered, and match the outline.

    Returns None where the mask tells nothing. body: camera axes, metres. lens: focal length and principal point,
    pixels. features: keep fingers, toes, ears and the face as they are, where the outline is matched.
    """
    mesh = surface_mesh()
    points = body[mesh.vertices]
    roi = region_about(points, lens)
    if roi is None:
        return None
    view = body_view(points, mesh, lens, roi)
    own = sampled(mask, roi)
    if int((own > 127).sum()) < _LEAST_PIXELS:
        return None
    inside = sampled(np.full(image.shape[:2], 255, np.uint8), roi)
    channels = network_image(sampled(image, roi), own, inside, view)
    inputs = {"image": channels, "points": view.points, "features": view.features, "lens": view.lens}
    output = _network().run(["moves"], {name: array[None] for name, array in inputs.items()})[0][0].astype(np.float64)
    # Toes and ears have normals of their own: along them the surface would fold.
    offset = mesh.spread(output[:, :1] * view.normals[: mesh.anchors] + output[:, 1:4])
    far = np.linalg.norm(offset, axis=1, keepdims=True)
    offset = offset * np.minimum(1, _MOST_M / np.maximum(far, 1e-9))
    covered = mesh.spread(1 / (1 + np.exp(-output[:, 4:].clip(-30, 30))))[:, 0]
    moved = drape(body + offset, covered * mesh.outer)
    moved = match_outline(moved, drape.faces, mask, lens, roi, mesh, features=features)
    there = body_view(moved[mesh.vertices], mesh, lens, roi).maps[3]
    within = inside > 127
    person = (own > 127) & within
    return PersonSurface(moved, *(mask_iou((drawn > 0) & within, person) for drawn in (there, view.maps[3])))


@lru_cache(maxsize=1)
def _network() -> Network:
    return Network(asset_path("clothed", "surface.onnx"), threads=threads_from_environment())
