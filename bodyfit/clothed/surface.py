"""Find the clothed surfaces of the people of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from bodyfit.avatars.avatar import moved_model
from bodyfit.body.model import BodyModel, load_model
from bodyfit.body.params import BodyParams
from bodyfit.clothed.drape import Drape
from bodyfit.clothed.mesh import surface_mesh
from bodyfit.clothed.person import person_surface
from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.camera import Camera
from bodyfit.keypoints import SoftMask
from bodyfit.register.surface.offsets import posing_matrices, unposed

__all__ = ["ClothedSurface", "Mask", "clothed_surface", "whole_mask"]

Mask = SoftMask | UInt8[np.ndarray, "h w"] | Bool[np.ndarray, "h w"]
"""A person's silhouette: of the whole picture (255 or True is the person), or in a box."""


@dataclass(frozen=True, eq=False)
class ClothedSurface:
    """People's surfaces, clothes and hair included: the vertices of their bodies, moved. The faces are the model's."""

    vertices_m: Float[np.ndarray, "N V 3"]
    """In the camera's axes, metres. Those of a person without a mask are the body's."""
    params: BodyParams
    """The bodies."""
    model: BodyModel
    """What they are of."""
    masked: tuple[bool, ...]
    """Who has a mask that tells something."""
    found: tuple[bool, ...]
    """Who has a surface other than the body."""
    notes: tuple[str | None, ...]
    """Why a person has none, or a poor one."""

    def __len__(self) -> int:
        return len(self.vertices_m)

    @cached_property
    def offsets_m(self) -> Float[np.ndarray, "N V 3"]:
        """Moves of the vertices at rest, metres, in the model's axes: skinning takes them to where they are here."""
        offsets = np.empty(self.vertices_m.shape, np.float32)
        for i, vertices in enumerate(self.vertices_m):
            own = self.params.select([i])
            with torch.no_grad():
                body = self.model(**own).vertices[0].double().cpu().numpy()
            offsets[i] = unposed(posing_matrices(self.model, own), vertices - body)
        return offsets

    def person_model(self, number: int) -> BodyModel:
        """Return the body model with one person's surface, to pose by other parameters of the same `betas`."""
        return moved_model(self.model, self.offsets_m[number])


def clothed_surface(
    params: BodyParams,
    image: UInt8[np.ndarray, "H W 3"],
    masks: Mask | Sequence[Mask | None],
    camera: Camera,
    model: BodyModel | None = None,
) -> ClothedSurface:
    """Find the surfaces, clothes and hair included, of the people of one picture.

    A network (after Mesh R-CNN's refinement, Gkioxari et al. 2019) moves the vertices of the posed bodies, for the most
    part along their normals, and where clothes or hair cover the body, its details are smoothed away. params: N bodies
    in camera axes, of an open body. image: RGB. masks: one a person, None for who has none, or the mask itself of one
    person. camera: one for all, or one a person, as `FitResult.camera` has it; its pixels are the picture's. model: the
    bodies' model, the neutral open body by default. What is hidden is guessed: it has the clothes that are usual with
    what is visible. A surface that agrees less with the mask than the body does is wrong: the body stays, and
    `ClothedSurface.notes` says so, as it says where a surface is poor. Not differentiable. Raises `OptionError` for
    another model than the open ones, and for masks and cameras that are not as many as bodies, and `ShapeError`.
    """
    model = load_model() if model is None else model
    mesh = surface_mesh()
    if len(model.v_template) != len(mesh.near):
        raise OptionError(f"clothed surfaces are of the open body, got {model.name}; fit with model='open'")
    masks = [masks] if isinstance(masks, SoftMask | np.ndarray) else masks
    check_shape("image", image, (None, None, 3))
    count, cameras = params.batch, len(camera.focal_px)
    if len(masks) != count:
        raise OptionError(f"there are {count} bodies, but {len(masks)} masks: give one a person, None for who has none")
    if cameras not in (1, count):
        raise OptionError(f"there are {count} bodies, but {cameras} cameras: give one, or one a person")
    with torch.no_grad():
        bodies = model(**params).vertices.double().cpu().numpy()
    size, drape = (image.shape[1], image.shape[0]), Drape(model.faces.cpu().numpy(), len(mesh.near))
    vertices, found = bodies.copy(), []
    for i, (body, mask) in enumerate(zip(bodies, masks, strict=True)):
        own = min(i, cameras - 1)
        lens = np.array([float(camera.focal_px[own]), *camera.principal_point_px[own].tolist()])
        one = None
        if mask is not None and np.isfinite(body).all():
            one = person_surface(body, image, whole_mask(mask, size), lens, drape)
        found.append(one)
        if one is not None and not one.worse:
            vertices[i] = one.vertices_m
    notes = tuple("there is no mask of the person" if one is None else one.note() for one in found)
    masked = tuple(one is not None for one in found)
    moved = tuple(one is not None and not one.worse for one in found)
    return ClothedSurface(vertices, params, model, masked, moved, notes)


def whole_mask(mask: Mask, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """Return a mask of the whole picture, 0 to 255."""
    if isinstance(mask, SoftMask):
        return mask.full(size)
    check_shape("mask", mask, size[::-1], hint="as large as the picture")
    return np.where(mask, np.uint8(255), np.uint8(0)) if mask.dtype == np.bool_ else mask
